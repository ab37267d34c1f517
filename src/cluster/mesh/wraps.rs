//! Wraps of keys that are not wrapped to this hub, as far as is known here: the other hubs make them when it becomes one
//! of theirs, and are asked for them until every key opens or all of them have given what they had. And what users
//! log in by, which goes sealed from hub to hub as well.

use super::Shared;
use super::ended::Ended;
use super::pace::{Backoff, random};
use super::peer::Peer;
use super::wire::{FromPublisher, FromSubscriber};
use crate::cluster::ports::{Fault, MeshBook};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use weighbridge_verifier::decode;

/// Between two rounds of questions, at first and at most: the others are just making what is asked for.
const ROUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// Who has given all that it had is asked again after so long.
const AGAIN: Duration = Duration::from_secs(600);
/// An answer may take so many times as long as one that has not begun.
const LONG: u32 = 4;

/// Asks for what is wanted until stopped.
pub(super) async fn keep(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = again_and_again(&shared) => {}
    }
}

async fn again_and_again(shared: &Arc<Shared>) {
    let mut wanted = shared.book.wraps_wanted();
    let mut links = shared.news.links.subscribe();
    let mut backoff = Backoff::new(ROUNDS);
    // Who gave all that it had, and when.
    let mut done: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        if wanted.has_changed().unwrap_or(true) {
            wanted.borrow_and_update();
            done.clear();
        }
        links.borrow_and_update();
        let lacks = shared.blocking(|book| book.lacks_wraps()).await;
        match lacks.and_then(|lacks| lacks) {
            Ok(true) => {}
            Ok(false) => {
                done.clear();
                backoff.reset();
                match wanted.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
            Err(fault) => {
                tracing::warn!(%fault, "which keys do not open here cannot be said");
                sleep(backoff.pause(random())).await;
                continue;
            }
        }
        done.retain(|_, since| since.elapsed() < AGAIN);
        for peer in shared.peers().iter().filter(|peer| peer.is_there()) {
            if done.contains_key(&peer.id) {
                continue;
            }
            let given = all_of(shared, peer).await;
            if given.taken > 0 {
                let (hub, taken) = (&peer.id, given.taken);
                tracing::info!(
                    hub,
                    taken,
                    "keys from before open here by wraps of another hub"
                );
                backoff.reset();
            }
            if given.all {
                done.insert(peer.id.clone(), Instant::now());
            }
        }
        // Nobody is asked without end, whatever comes.
        sleep(backoff.pause(random())).await;
        let there = shared.peers();
        let mut there = there.iter().filter(|peer| peer.is_there());
        if there.all(|peer| done.contains_key(&peer.id)) {
            tokio::select! {
                more = wanted.changed() => match more {
                    Ok(()) => wanted.mark_changed(),
                    Err(_) => return,
                },
                more = links.changed() => match more {
                    Ok(()) => done.clear(),
                    Err(_) => return,
                },
                () = sleep(AGAIN) => {}
            }
        }
    }
}

/// What a hub gave.
#[derive(Default)]
struct Given {
    taken: usize,
    /// It had all that it could have, and gave it.
    all: bool,
}

/// Asks a hub for all wraps that it has for this one, some at a time.
async fn all_of(shared: &Arc<Shared>, peer: &Arc<Peer>) -> Given {
    let (mut given, mut all, mut from) = (Given::default(), None, Vec::new());
    loop {
        let asked = peer.ask(FromSubscriber::WantWraps { from: from.clone() });
        let Ok(Some(frame)) = timeout(shared.pace.answer * LONG, asked).await else {
            return given;
        };
        let at = from.clone();
        let brought = shared
            .blocking(move |book| bring(book, &frame, &at))
            .await
            .and_then(|brought| brought);
        let page = match brought {
            Ok(page) => page,
            Err(fault) if fault.is_lie() => {
                peer.accuse(Ended::from(fault));
                return given;
            }
            Err(fault) => {
                tracing::warn!(%fault, "wraps of another hub cannot be kept");
                return given;
            }
        };
        given.taken += page.taken;
        // What it said first held for everything that came after.
        let all = *all.get_or_insert(page.all);
        match page.next {
            Some(next) => from = next,
            None => {
                given.all = all;
                return given;
            }
        }
    }
}

struct Page {
    taken: usize,
    next: Option<Vec<u8>>,
    all: bool,
}

fn bring(book: &dyn MeshBook, frame: &[u8], from: &[u8]) -> Result<Page, Fault> {
    match decode("wraps of a hub", frame).map_err(Fault::lie)? {
        FromPublisher::Wraps { puts, next, all } => {
            // Each question goes further, so there is a last one.
            if next.as_deref().is_some_and(|next| next <= from) {
                return Err(Fault::lie("it lends the same wraps again and again"));
            }
            let taken = book.bring_wraps(puts)?;
            Ok(Page { taken, next, all })
        }
        FromPublisher::No => Ok(Page {
            taken: 0,
            next: None,
            all: false,
        }),
        _ => Err(Fault::lie("it answers something else than was asked")),
    }
}

/// What a user logs in by, of the first hub by its id after `after` that has it; and which that is.
pub(super) async fn credentials(
    shared: &Arc<Shared>,
    user: &str,
    after: Option<&str>,
) -> Option<(String, Vec<u8>)> {
    let peers = shared.peers();
    let mut there: Vec<&Arc<Peer>> = peers.iter().filter(|peer| peer.is_there()).collect();
    there.retain(|peer| after.is_none_or(|after| *peer.id > *after));
    there.sort_by(|a, b| a.id.cmp(&b.id));
    for peer in there {
        let user = user.to_owned();
        let asked = peer.ask(FromSubscriber::WantCredentials { user });
        let Ok(Some(frame)) = timeout(shared.pace.answer, asked).await else {
            continue;
        };
        match decode("credentials of a hub", &frame) {
            Ok(FromPublisher::Credentials(sealed)) => return Some((peer.id.clone(), sealed)),
            Ok(FromPublisher::No) => {}
            Ok(_) => peer.accuse(Ended::lie("it answers something else than was asked")),
            Err(error) => peer.accuse(Ended::lie(error.to_string())),
        }
    }
    None
}

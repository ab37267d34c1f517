//! Sealed bytes that are not here: asked for at the other hubs in turn.
//!
//! What is on the chain and missing is looked for in the background, as long as anything is. Nothing is asked again
//! before a link has come, or some time has passed.

use super::Shared;
use super::ended::Ended;
use super::pace::{Backoff, random};
use super::peer::Peer;
use super::shape::check_lent;
use super::wire::{FromPublisher, FromSubscriber};
use crate::cluster::ports::{Fault, MeshBook};
use crate::ledger::shared::Want;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use weighbridge_verifier::decode;

/// Looked for in one round.
const ROUND: usize = 256;
/// Kept in mind as missing.
const MOST: usize = 4_096;
/// Looked for at the same time.
const AT_ONCE: usize = 4;
/// An answer may take so many times as long as one that has not begun: sealed bytes may be many.
const LONG: u32 = 4;

/// Looks for what is missing until stopped.
pub(super) async fn keep(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = again_and_again(&shared) => {}
    }
}

async fn again_and_again(shared: &Arc<Shared>) {
    let (mut tip, mut links) = (shared.book.tip(), shared.news.links.subscribe());
    let mut backoff = Backoff::new(shared.pace.search);
    // What was asked for and is still missing: nobody who is there has it.
    let mut vain: BTreeSet<Want> = BTreeSet::new();
    let mut again_at = None;
    loop {
        // What changes from here on is a reason to look again.
        tip.borrow_and_update();
        let limit = ROUND.saturating_add(vain.len()).min(MOST);
        let missing = shared.blocking(move |book| book.missing(limit)).await;
        let wants: BTreeSet<Want> = match missing {
            Ok(wants) => wants.into_iter().collect(),
            Err(fault) => {
                tracing::warn!(%fault, "what is missing here cannot be said");
                sleep(backoff.pause(random())).await;
                continue;
            }
        };
        let asked = vain.len();
        vain.retain(|want| wants.contains(want));
        if vain.len() < asked {
            backoff.reset();
        }
        let due: Vec<Want> = wants.difference(&vain).cloned().collect();
        if due.is_empty() && vain.is_empty() {
            if tip.changed().await.is_err() {
                return;
            }
        } else if due.is_empty() {
            let pause = || Instant::now() + backoff.pause(random());
            let until = *again_at.get_or_insert_with(pause);
            let again = tokio::select! {
                more = tip.changed() => match more {
                    Ok(()) => false,
                    Err(_) => return,
                },
                more = links.changed() => match more {
                    Ok(()) => true,
                    Err(_) => return,
                },
                () = sleep_until(until) => true,
            };
            if again {
                vain.clear();
                again_at = None;
            }
        } else {
            // Whoever comes from here on is asked once more.
            links.borrow_and_update();
            look(shared, due.clone(), &Mutex::default()).await;
            vain.extend(due);
        }
    }
}

/// Looks for `wants` for so long at most; what was not found.
pub(super) async fn within(shared: &Arc<Shared>, wants: Vec<Want>, within: Duration) -> Vec<Want> {
    let left = Mutex::new(wants.iter().cloned().collect());
    // Whatever was found by then is kept.
    let _ = timeout(within, look(shared, wants, &left)).await;
    left.into_inner().into_iter().collect()
}

/// Asks all hubs for each, and takes what was found from `left`.
async fn look(shared: &Arc<Shared>, wants: Vec<Want>, left: &Mutex<BTreeSet<Want>>) {
    let each = stream::iter(wants.into_iter().enumerate());
    let one = |(n, want): (usize, Want)| async move {
        if find(shared, &want, n).await {
            left.lock().remove(&want);
        }
    };
    each.for_each_concurrent(AT_ONCE, one).await;
}

/// Asks one hub after the other, another one first for each `turn`.
async fn find(shared: &Arc<Shared>, want: &Want, turn: usize) -> bool {
    let peers = shared.peers();
    let there: Vec<&Arc<Peer>> = peers.iter().filter(|peer| peer.is_there()).collect();
    let first = turn.checked_rem(there.len()).unwrap_or(0);
    let in_turn = there.iter().cycle().skip(first).take(there.len());
    for peer in in_turn {
        let asked = peer.ask(FromSubscriber::WantSealed(want.clone()));
        let Ok(Some(frame)) = timeout(shared.pace.answer * LONG, asked).await else {
            continue;
        };
        let asked = want.clone();
        let brought = shared
            .blocking(move |book| bring(book, &frame, &asked))
            .await;
        match brought.and_then(|brought| brought) {
            Ok(true) => return true,
            Ok(false) => {}
            Err(fault) if fault.is_lie() => peer.accuse(Ended::from(fault)),
            Err(fault) => {
                // Whoever has it, it cannot be kept now.
                tracing::warn!(%fault, "sealed bytes of another hub cannot be kept");
                return false;
            }
        }
    }
    false
}

/// Keeps what a hub lends; whether it lends anything.
fn bring(book: &dyn MeshBook, frame: &[u8], want: &Want) -> Result<bool, Fault> {
    match decode("sealed bytes of a hub", frame).map_err(Fault::lie)? {
        FromPublisher::Sealed(puts) => {
            check_lent(&puts, want)?;
            book.bring(puts)?;
            Ok(true)
        }
        FromPublisher::No => Ok(false),
        _ => Err(Fault::lie("it answers something else than was asked")),
    }
}

//! Reading the blocks of the chain from another hub, before this one takes part.

use super::ended::Ended;
use super::peer::Peer;
use super::status::SyncProgress;
use super::wire::{FromPublisher, FromSubscriber};
use super::{Shared, pace};
use crate::cluster::ports::{Fault, MeshBook};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use weighbridge_verifier::decode;

/// After so many failures in a row a hub is believed no more.
const FAILURES: u32 = 3;
/// An answer may take so many times as long as one that has not begun.
const LONG: u32 = 4;

/// Reads until this hub is level with the others; height of its newest block then.
pub(super) async fn run(shared: &Arc<Shared>, progress: &watch::Sender<SyncProgress>) -> u64 {
    let tip = shared.book.tip();
    let (mut tips, mut links) = (shared.news.tips.subscribe(), shared.news.links.subscribe());
    // How often each said that it has what it then did not give.
    let mut failed: BTreeMap<String, u32> = BTreeMap::new();
    let mut backoff = pace::Backoff::new(shared.pace.search);
    let mut settled = Instant::now() + shared.pace.settle;
    loop {
        tips.borrow_and_update();
        links.borrow_and_update();
        let height = tip.borrow().0;
        let peers = shared.peers();
        let failures = |peer: &Peer| failed.get(&peer.id).copied().unwrap_or(0);
        let believed: Vec<_> = peers.iter().filter(|p| failures(p) < FAILURES).collect();
        let best = believed
            .iter()
            .filter(|peer| peer.is_there())
            .filter_map(|peer| Some((peer.tip()?.0, *peer)))
            .max_by_key(|(height, _)| *height);
        let target = best.map_or(height, |(target, _)| target.max(height));
        progress.send_replace(SyncProgress {
            from: best.map(|(_, peer)| peer.id.clone()),
            height,
            target,
        });
        if let Some((_, peer)) = best.filter(|(target, _)| *target > height) {
            if read(shared, peer, &tip, height).await {
                backoff.reset();
                failed.remove(&peer.id);
                settled = Instant::now() + shared.pace.settle;
            } else if peer.is_there() {
                *failed.entry(peer.id.clone()).or_default() += 1;
                sleep(backoff.pause(pace::random())).await;
            }
            continue;
        }
        // Whoever is heard later, or comes back, may have more.
        let level = |peer: &&Arc<Peer>| peer.tip().is_some_and(|(tip, _)| tip <= height);
        let late = Instant::now() >= settled;
        if best.is_some() && height > 0 && (believed.iter().all(level) || late) {
            return height;
        }
        if believed.is_empty() && !failed.is_empty() {
            sleep(backoff.pause(pace::random())).await;
            failed.clear();
            continue;
        }
        tokio::select! {
            _ = tips.changed() => {}
            _ = links.changed() => {}
            () = sleep_until(settled), if !late => {}
        }
    }
}

/// Reads blocks from `height` + 1 on from a hub; whether any came and hold.
async fn read(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    tip: &watch::Receiver<(u64, weighbridge_verifier::Hash)>,
    height: u64,
) -> bool {
    let from = height.saturating_add(1);
    let asked = peer.ask(FromSubscriber::WantBlocks { from });
    let Ok(Some(frame)) = timeout(shared.pace.answer * LONG, asked).await else {
        return false;
    };
    let taken = shared.blocking(move |book| take(book, &frame)).await;
    let taken = taken.and_then(|taken| taken);
    match taken {
        Ok(()) => {}
        Err(fault) if fault.is_lie() => peer.accuse(Ended::from(fault)),
        Err(fault) => {
            let hub = &peer.id;
            tracing::warn!(hub, %fault, "blocks of another hub cannot be kept");
        }
    }
    // Some of them may hold even so.
    tip.borrow().0 > height
}

fn take(book: &dyn MeshBook, frame: &[u8]) -> Result<(), Fault> {
    match decode("blocks of a hub", frame).map_err(Fault::lie)? {
        FromPublisher::Blocks(blocks) => book.take_blocks(blocks),
        FromPublisher::No => Ok(()),
        _ => Err(Fault::lie("it answers something else than was asked")),
    }
}

//! Keeping a link with a hub: dialled again when it is lost, later and later.

use super::Shared;
use super::pace::{Backoff, random, spread};
use super::peer::{Peer, Side};
use super::subscriber;
use std::sync::Arc;
use tokio::time::{Instant, sleep};

/// Reads from a hub until stopped, or until it is a hub of the chain no more.
pub(super) async fn keep(shared: Arc<Shared>, peer: Arc<Peer>) {
    // There is nothing to say before.
    let mut word = shared.word.clone();
    let said = over_or(&shared, &peer, word.wait_for(Option::is_some)).await;
    if said.is_none_or(|said| said.is_err()) {
        return;
    }
    let mut backoff = Backoff::new(shared.pace.again);
    let mut changes = peer.target.subscribe();
    loop {
        let target = changes.borrow_and_update().clone();
        let mut met: Option<Instant> = None;
        let ended = subscriber::read(&shared, &peer, &target, &mut met).await;
        peer.ended(Side::Reading, &ended, shared.pace.liar);
        // One that ends as soon as it is there is no better than none.
        if met.is_some_and(|met| met.elapsed() >= shared.pace.again.1) {
            backoff.reset();
        }
        let pause = match ended.lie {
            true => spread(shared.pace.liar, random()),
            false => backoff.pause(random()),
        };
        let waited = async {
            tokio::select! {
                () = sleep(pause) => {}
                // Somebody has corrected its address or its keys.
                _ = changes.changed(), if !ended.lie => {}
            }
        };
        if over_or(&shared, &peer, waited).await.is_none() {
            return;
        }
    }
}

/// What comes of `what`; `None` when there is to be no link any more.
async fn over_or<T>(shared: &Shared, peer: &Peer, what: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = shared.stop.cancelled() => None,
        () = peer.gone.cancelled() => None,
        done = what => Some(done),
    }
}

//! Before a hub that was let in does anything: what the others recorded of access is read, so that nobody comes in here
//! who was put out before.

use super::cluster::read_blocks;
use super::unread::Unread;
use crate::cluster::SharedBook;
use crate::cluster::mesh::Mesh;
use crate::ledger::opening::Opener;
use crate::ledger::signers::Signers;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{interval, timeout};

/// How often it says how far it is, and looks again.
const REMIND: Duration = Duration::from_secs(5);
/// What is asked for at a time.
const AT_ONCE: usize = 1_024;

/// Returns when all that the chain says of access can be read here, or after so long. What is not read by then is
/// refused ([`crate::access::AccessState::hide`]), and goes on to be looked for.
pub(super) async fn until_read(
    (book, mesh): (&Arc<SharedBook>, &Mesh),
    (opener, signers): (&Opener, &Signers),
    patience: Duration,
) {
    let reading = async {
        tokio::select! {
            () = read_blocks(book, mesh) => {}
            () = all_is_read(book, mesh, (opener, signers)) => {}
        }
    };
    if timeout(patience, reading).await.is_err() {
        book.alarm(
            "not all that other hubs recorded of access can be read here yet: whoever and whatever it may be about is \
             refused until it is"
                .to_owned(),
        );
    }
}

async fn all_is_read(book: &Arc<SharedBook>, mesh: &Mesh, (opener, signers): (&Opener, &Signers)) {
    let (mut opened, mut remind) = (book.opened(), interval(REMIND));
    remind.tick().await;
    loop {
        opened.borrow_and_update();
        let (asked, by, known) = (book.clone(), opener.clone(), signers.clone());
        let looked = tokio::task::spawn_blocking(move || {
            asked.look(|state, _, _| known.follow(state));
            let unread = Unread::of(&asked, &by);
            let mut wants = unread.wants(&asked, &by);
            wants.truncate(AT_ONCE);
            asked.unread(unread.access());
            (unread.access(), wants)
        });
        let Ok((unread, wants)) = looked.await else {
            return;
        };
        if unread == 0 {
            return;
        }
        tokio::select! {
            // The bytes of these first, whatever else is missing here.
            () = async {
                mesh.fetch(wants, REMIND).await;
                let _ = opened.changed().await;
            } => {}
            _ = remind.tick() => {
                tracing::warn!(unread, "what other hubs recorded of access is still being fetched");
            }
        }
    }
}

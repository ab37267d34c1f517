//! Records that have to be the last of what is written at once: of leases and votes a hub writes one after the other.

use crate::actors::ledger::{LedgerActor, RecordFault, RecordLast};
use crate::ledger::Draft;
use actix::Addr;
use std::time::Duration;
use tokio::time::sleep;

/// Before it is tried again while another one is being written, and how often.
const TURN: (Duration, u32) = (Duration::from_millis(10), 300);

/// Records what `draft` gives, when it is its turn, and waits until a block has it: the height of the block.
pub(super) async fn record_last(
    ledger: &Addr<LedgerActor>,
    draft: impl Fn() -> Draft,
) -> Result<u64, RecordFault> {
    let mut turns = TURN.1;
    loop {
        let sent = ledger.send(RecordLast(draft())).await;
        match sent.unwrap_or(Err(RecordFault::Stopped)) {
            Err(RecordFault::Busy) if turns > 0 => turns -= 1,
            recorded => return recorded,
        }
        sleep(TURN.0).await;
    }
}

//! New keys for devices and for what users do, when those to whom keys are wrapped have changed, or the keys that
//! they are wrapped to.

use crate::actors::hub::{HubActor, SealerOf};
use crate::actors::journal::Journal;
use crate::actors::ledger::{LedgerActor, RecordedSettings};
use crate::actors::sealer::RotateKey;
use actix::Addr;
use std::time::Duration;
use tokio::time::sleep;

/// How often it is looked whether an act is still on its way.
const LOOK: Duration = Duration::from_millis(20);

/// Who is asked for new keys.
#[derive(Clone)]
pub(super) struct Renewal {
    pub hub: Addr<HubActor>,
    pub ledger: Addr<LedgerActor>,
    pub journal: Journal,
}

impl Renewal {
    /// Nothing is sealed any more under the newest key that each of `objects` had when this was asked.
    pub(super) async fn renew(&self, objects: Vec<String>) -> Result<(), String> {
        let stopping = |_| "the hub is stopping".to_owned();
        for object in objects {
            if object.contains(':') {
                self.renew_journal().await?;
                continue;
            }
            let sealer = self.hub.send(SealerOf(object.as_str().into())).await;
            match sealer.map_err(stopping)? {
                Ok(Some(sealer)) => {
                    let busy = |_| format!("`{object}` is just being set up");
                    sealer.send(RotateKey).await.map_err(busy)??;
                }
                // It is not there any more, and what it had sealed is on its way to the ledger.
                Ok(None) => {}
                Err(()) => return Err(format!("`{object}` is just being set up")),
            }
        }
        Ok(())
    }

    /// The same for what users do.
    async fn renew_journal(&self) -> Result<(), String> {
        let before = self.journal.renew()?;
        // Nobody waits for a record longer than some seconds.
        while std::sync::Arc::strong_count(&before) > 1 {
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Returns when all that was sealed before is durable, and the wraps of its keys: none comes later.
    pub(super) async fn durable(&self) -> Result<(), String> {
        let asked = self.ledger.send(RecordedSettings("".into())).await;
        asked
            .map(drop)
            .map_err(|_| "the hub is stopping".to_owned())
    }
}

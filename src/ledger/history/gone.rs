//! What was recorded of a device and is there no more: retired, or erased. Who reads its history is told, so that
//! an answer that is short says why.

use super::PastError;
use crate::ledger::erasure::ErasureError;
use crate::ledger::erasure::erased::Erased;
use crate::ledger::retention::retired::{newest_notice, reaches};
use crate::ledger::store::Store;
use crate::model::{Nanos, rfc3339};
use weighbridge_verifier::Hash;

/// Why it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was older than the policy.
    Retired {
        /// Where it was archived; `None` where it was not.
        archive: Option<String>,
    },
    /// Its keys were destroyed.
    Erased,
}

/// A stretch of time from which samples of a device were taken away, from the beginning of time on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Why.
    pub why: Why,
    /// Samples with source times before this one may be gone; those from it on are not.
    pub before: Nanos,
    /// When that was decided, or the newest of several times.
    pub recorded: Nanos,
    /// Hash of the notice that a record names; of retirements the newest, which vouches for those before.
    pub notice: Hash,
}

impl Gone {
    /// Whether a range that begins at `from` reaches into it.
    pub fn concerns(&self, from: Nanos) -> bool {
        from < self.before
    }

    /// The same in plain words, of `device`.
    pub fn words(&self, device: &str) -> String {
        let (before, when) = (rfc3339(self.before), rfc3339(self.recorded));
        match &self.why {
            Why::Retired { archive: None } => format!(
                "samples of `{device}` from before {before} were retired (last on {when}), and were not archived"
            ),
            Why::Retired {
                archive: Some(archive),
            } => format!(
                "samples of `{device}` from before {before} were retired (last on {when}), and are archived in \
                 {archive}: at the stopped hub read them with `--archive {archive}`"
            ),
            Why::Erased => {
                format!("samples of `{device}` from before {before} were erased (on {when})")
            }
        }
    }
}

/// What is gone of `device` in `store`: of retirements and of erasures the one that reaches furthest.
pub fn gone(store: &dyn Store, device: &str) -> Result<Vec<Gone>, PastError> {
    let mut found = Vec::new();
    let retired =
        |error: crate::ledger::retention::RetentionError| PastError::Retired(error.to_string());
    let reached = reaches(store, device).map_err(retired)?;
    if let Some(newest) = reached.into_values().max()
        && let Some(notice) = newest_notice(store).map_err(retired)?
    {
        let archive = Some(notice.archive.clone()).filter(|dir| !dir.is_empty());
        found.push(Gone {
            why: Why::Retired { archive },
            before: newest.saturating_add(1),
            recorded: notice.time,
            notice: notice.hash(),
        });
    }
    let erased = Erased::load(store).map_err(|error| match error {
        ErasureError::Store(error) => error.into(),
        other => PastError::Erasures(other.to_string()),
    })?;
    if let Some(notice) = erased.furthest(device) {
        found.push(Gone {
            why: Why::Erased,
            // Nothing was recorded by then that was younger.
            before: notice.until.min(notice.time),
            recorded: notice.time,
            notice: notice.hash(),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::retention::notice::Notice;
    use crate::ledger::testing::Memory;
    use weighbridge_verifier::Suite;

    #[test]
    fn the_newest_notice_is_found_whatever_its_number() {
        let store = Memory::default();
        let mut before: Option<Notice> = None;
        for number in 0..40 {
            assert_eq!(newest_notice(&store).unwrap(), before, "{number}");
            let next = Notice::after(Suite::Nist, before.as_ref(), number);
            let (_, puts) = next.recorded("plant", "hub:hub-1", None).into_parts();
            store.commit(&puts).unwrap();
            before = Some(next);
        }
    }
}

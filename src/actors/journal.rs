//! The journal of what users did or asked for: seals it and has the ledger make it durable.
//!
//! Not an actor, but the way to one: every face and port that must record before it answers holds the
//! journal, and waits for the ledger's actor. It holds the hub's own epoch key, and changes it after a
//! bounded number of messages or a bounded time.

use super::ledger::{Append, LedgerActor, Record, RecordFault};
use crate::ledger::act::{Act, ActError, ActSealer, SealedAct};
use actix::Addr;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Messages sealed under one epoch key, at most.
const KEY_MESSAGES: u64 = 1 << 20;
/// Age of an epoch key, at most.
const KEY_AGE: Duration = Duration::from_secs(24 * 3600);
/// How long an act waits to become durable: a disk that hangs must not keep a user waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the sealer of a key epoch.
pub type MakeActSealer = Arc<dyn Fn(u64) -> Result<ActSealer, String> + Send + Sync>;

/// Why an act was not recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It is no act that a record can hold.
    #[error(transparent)]
    Act(#[from] ActError),
    /// No key to seal it under.
    #[error("there is no key to seal it under: {0}")]
    Key(String),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] RecordFault),
    /// The ledger did not answer. The act may still become durable.
    #[error("the ledger did not write it within {} s", PATIENCE.as_secs())]
    Timeout,
}

impl JournalError {
    /// Whether the act may still become durable. Who did nothing then says so by a
    /// [`note`](Journal::note).
    pub fn may_follow(&self) -> bool {
        let later =
            |fault: &RecordFault| matches!(fault, RecordFault::Pending(_) | RecordFault::NotAgreed);
        match self {
            Self::Timeout => true,
            Self::Ledger(fault) => later(fault),
            Self::Act(_) | Self::Key(_) => false,
        }
    }
}

/// Records what users did or asked for. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    ledger: Addr<LedgerActor>,
    make: MakeActSealer,
    current: Arc<Mutex<Current>>,
    /// Answers whose record is durable and that are still being made.
    answering: Arc<AtomicUsize>,
    /// Nothing is recorded; only a measurement of what recording costs ever sets it.
    muted: Arc<AtomicBool>,
}

/// An answer that is being made.
pub struct Answering(Arc<AtomicUsize>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The sealer in use.
struct Current {
    sealer: Arc<ActSealer>,
    key_epoch: u64,
    since: Instant,
}

impl Journal {
    /// A journal that writes to `ledger`, and begins with `sealer`, of key epoch `key_epoch`.
    pub fn new(
        ledger: Addr<LedgerActor>,
        make: MakeActSealer,
        (key_epoch, sealer): (u64, ActSealer),
    ) -> Self {
        let current = Current {
            sealer: Arc::new(sealer),
            key_epoch,
            since: Instant::now(),
        };
        Self {
            ledger,
            make,
            current: Arc::new(Mutex::new(current)),
            answering: Arc::default(),
            muted: Arc::default(),
        }
    }

    /// Records nothing from now on, and nobody waits; or again. For `weighbridge bench release`, which compares:
    /// no configuration and no face leads here, and no other program can call it.
    pub(crate) fn mute(&self, muted: bool) {
        self.muted.store(muted, Ordering::Relaxed);
    }

    /// Records an act and returns the height of its block once it is durable, or within seconds why it
    /// is not.
    pub async fn record(&self, act: &Act<'_>) -> Result<u64, JournalError> {
        self.record_act(act, false).await
    }

    /// The same for what is asked often and by many, and is about no machine: while answers are being
    /// [made](Self::answering), the act waits a moment ([`BlockLimits::company`](super::ledger::BlockLimits::company)) for others, so that a block is written for several.
    pub async fn record_in_company(&self, act: &Act<'_>) -> Result<u64, JournalError> {
        let others = self.answering.load(Ordering::Relaxed) > 0;
        self.record_act(act, others).await
    }

    /// Says that an answer is being made, until the guard is dropped.
    pub fn answering(&self) -> Answering {
        self.answering.fetch_add(1, Ordering::Relaxed);
        Answering(self.answering.clone())
    }

    async fn record_act(&self, act: &Act<'_>, in_company: bool) -> Result<u64, JournalError> {
        if self.muted.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let (sealer, act) = self.seal(act)?;
        let height = self.send(Record { act, in_company }).await?;
        sealer.durable();
        Ok(height)
    }

    async fn send(&self, record: Record) -> Result<u64, JournalError> {
        let written = timeout(PATIENCE, self.ledger.send(record)).await;
        let written = written.map_err(|_| JournalError::Timeout)?;
        Ok(written.map_err(|_| RecordFault::Stopped)??)
    }

    /// Records what needs no sealing, or is sealed already, as [`record`](Self::record) does.
    pub async fn record_as_it_is(&self, act: SealedAct) -> Result<u64, JournalError> {
        let in_company = false;
        self.send(Record { act, in_company }).await
    }

    /// Records an act with the next block, however long that takes, and does not wait for it. For what
    /// came of an act that is recorded already: there are no more of these than of those.
    pub async fn note(&self, act: &Act<'_>) -> Result<(), JournalError> {
        // Held until the ledger has it: whoever replaces the key waits for that.
        let (_sealer, sealed) = self.seal(act)?;
        let (draft, puts) = sealed.into_parts();
        let append = Append {
            drafts: vec![draft],
            puts,
            settle: None,
        };
        let sent = self.ledger.send(append).await;
        sent.map_err(|_| RecordFault::Stopped.into())
    }

    fn seal(&self, act: &Act<'_>) -> Result<(Arc<ActSealer>, SealedAct), JournalError> {
        let sealer = self.sealer().map_err(JournalError::Key)?;
        let sealed = sealer.seal(act)?;
        Ok((sealer, sealed))
    }

    /// Seals under a new key from now on. Returns the sealer before, under which something may be on its way as long
    /// as somebody else has it.
    ///
    /// # Errors
    /// When there is no new key.
    pub fn renew(&self) -> Result<Arc<ActSealer>, String> {
        let mut current = self.current.lock();
        let next = current.key_epoch + 1;
        let next = Current {
            sealer: Arc::new((self.make)(next)?),
            key_epoch: next,
            since: Instant::now(),
        };
        Ok(std::mem::replace(&mut *current, next).sealer)
    }

    /// The sealer for the next message, under a new key when the old one is used up.
    fn sealer(&self) -> Result<Arc<ActSealer>, String> {
        let mut current = self.current.lock();
        if current.sealer.used() >= KEY_MESSAGES || current.since.elapsed() >= KEY_AGE {
            let next = current.key_epoch + 1;
            *current = Current {
                sealer: Arc::new((self.make)(next)?),
                key_epoch: next,
                since: Instant::now(),
            };
        }
        Ok(current.sealer.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::ledger::BlockLimits;
    use crate::actors::work::Workers;
    use crate::crypto::{Identity, SealingKey, Signer};
    use crate::ledger::head::HeadSlot;
    use crate::ledger::key_wrap::{KeyWrap, hub_object};
    use crate::ledger::opening::Opener;
    use crate::ledger::query::{Explorer, PlacedRecord, RecordFilter};
    use crate::ledger::store::{Put, Space};
    use crate::ledger::verify::verify_store;
    use crate::ledger::{ChainConfig, Ledger};
    use crate::stats::Stats;
    use crate::store::FaultyDisk;
    use actix::prelude::*;
    use serde_json::{Value as Json, json};
    use weighbridge_verifier::{Action, Content, Response};

    /// A ledger whose blocks close late by themselves, and its journal.
    struct Desk {
        disk: FaultyDisk,
        journal: Journal,
        sealing: Arc<SealingKey>,
        pool: Option<tokio::runtime::Runtime>,
    }

    impl Desk {
        fn new() -> Self {
            let disk = FaultyDisk::new(1);
            let signer: Arc<dyn Signer> = Arc::new(Identity::generate("hub-1"));
            let chain = ChainConfig { id: "main".into() };
            let store = Arc::new(disk.store());
            let head = Box::new(disk.head());
            let ledger = Ledger::open(store, head, chain, signer.clone(), 1).unwrap();
            let pool = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .build()
                .unwrap();
            let workers = Workers::new(pool.handle().clone(), pool.handle().clone());
            let limits = BlockLimits {
                records: 10_000,
                age: Duration::from_secs(3600),
                company: Duration::from_secs(3600),
            };
            let ledger = LedgerActor::new(ledger, limits, Arc::new(Stats::default()), workers);
            let sealing = Arc::new(SealingKey::generate());
            let reader = sealing.public().clone();
            let make: MakeActSealer = Arc::new(move |epoch| {
                let object = hub_object("hub-1");
                let key =
                    crate::crypto::EpochKey::generate(reader.suite(), &object, epoch).unwrap();
                let wrapped = reader.wrap(&key).unwrap();
                let wrapped = (wrapped.enc, wrapped.ciphertext);
                let wrap = KeyWrap::sign("main", &object, epoch, "hub-1", wrapped, &*signer);
                let put = Put {
                    space: Space::Keys,
                    key: wrap.key(),
                    value: wrap.to_bytes(),
                };
                Ok(ActSealer::new(key, vec![put]))
            });
            let first = make(1).unwrap();
            let journal = Journal::new(ledger.start(), make, (1, first));
            Self {
                disk,
                journal,
                sealing,
                pool: Some(pool),
            }
        }

        /// All acts of the ledger, oldest first: record and opened details.
        fn acts(&self) -> Vec<(PlacedRecord, Json)> {
            let store = Arc::new(self.disk.store());
            let opener = Opener::new(store.clone(), self.sealing.clone(), "hub-1");
            let filter = RecordFilter::default();
            let page = Explorer::new(store).records(None, 1_000, &filter).unwrap();
            let mut acts = Vec::new();
            for placed in page.items.into_iter().rev() {
                if let Content::Message(message) = &placed.record.body.content {
                    let details = opener.open_act("hub-1", message).unwrap();
                    acts.push((placed, details));
                }
            }
            acts
        }

        fn verified(&self) {
            let head = self.disk.head().read().unwrap();
            let report = verify_store(&self.disk.store(), &head, None, &mut |_| {}).unwrap();
            assert_eq!(report.findings, []);
        }
    }

    impl Drop for Desk {
        fn drop(&mut self) {
            // It is dropped within another runtime, which may not block.
            if let Some(pool) = self.pool.take() {
                pool.shutdown_background();
            }
        }
    }

    fn act<'a>(details: &'a Json, response: Response) -> Act<'a> {
        Act {
            time: 5,
            subject: "user:anna",
            action: Action::Control,
            object: "device:press-1",
            kind: "control",
            details,
            response,
        }
    }

    #[test]
    fn acts_are_durable_at_once_and_share_blocks_and_only_the_key_opens_them() {
        System::new().block_on(async {
            let desk = Desk::new();
            let secret = json!({"writes": {"pressure": 4.25}});
            let accepted = act(&secret, Response::Accepted);
            assert_eq!(desk.journal.record(&accepted).await, Ok(2));
            let refused = act(&secret, Response::Refused);
            let many = (0..200).map(|_| desk.journal.record(&refused));
            let heights = futures_util::future::join_all(many).await;
            let last = heights.iter().map(|h| *h.as_ref().unwrap()).max().unwrap();
            assert!(last < 10, "200 acts took {last} blocks");

            let acts = desk.acts();
            assert_eq!(acts.len(), 201);
            let actions = acts.iter().map(|(placed, _)| placed.record.body.action);
            assert_eq!(actions.filter(|a| *a == Action::Refuse).count(), 200);
            assert!(acts.iter().all(|(_, details)| *details == secret));
            desk.verified();

            let sealed = |at: usize| *acts[at].0.record.body.sealed().unwrap();
            // The same details look different each time.
            assert_ne!(sealed(1).hash, sealed(2).hash);
            let other = Arc::new(SealingKey::generate());
            let other = Opener::new(Arc::new(desk.disk.store()), other, "hub-1");
            let Content::Message(message) = &acts[0].0.record.body.content else {
                panic!("an act is a message");
            };
            assert!(other.open_act("hub-1", message).is_err());
        });
    }

    #[test]
    fn reads_wait_for_company_only_while_others_are_answered_and_never_hold_up_who_may_not_wait() {
        System::new().block_on(async {
            let desk = Desk::new();
            let details = json!({});
            let read = act(&details, Response::Accepted);
            let journal = &desk.journal;
            // Nobody else: at once.
            assert_eq!(journal.record_in_company(&read).await, Ok(2));
            let answering = journal.answering();
            let three = (0..3).map(|_| journal.record_in_company(&read));
            let three = futures_util::future::join_all(three);
            // The ledger hears of the three first; whoever may not wait takes them along.
            let (three, urgent) = tokio::join!(three, journal.record(&read));
            assert_eq!(urgent, Ok(3));
            assert_eq!(three, [Ok(3), Ok(3), Ok(3)]);
            drop(answering);
            assert_eq!(journal.record_in_company(&read).await, Ok(4));
            desk.verified();
        });
    }

    #[test]
    fn the_length_of_the_details_tells_nothing() {
        System::new().block_on(async {
            let desk = Desk::new();
            for details in [json!({"value": 1}), json!({"value": 1234567.25})] {
                let act = act(&details, Response::Accepted);
                desk.journal.record(&act).await.unwrap();
            }
            let lengths = desk.acts().into_iter();
            let mut lengths =
                lengths.map(|(placed, _)| placed.record.body.sealed().unwrap().length);
            assert_eq!(lengths.next(), lengths.next());
        });
    }

    #[test]
    fn a_full_disk_is_said_soon_and_what_was_noted_is_written_when_there_is_room() {
        System::new().block_on(async {
            let desk = Desk::new();
            let details = json!({});
            let accepted = act(&details, Response::Accepted);
            desk.disk.set_full(true);
            let fault = desk.journal.record(&accepted).await.unwrap_err();
            assert!(fault.may_follow(), "{fault}");
            let fault = desk.journal.record(&accepted).await.unwrap_err();
            let waiting = matches!(fault, JournalError::Ledger(RecordFault::Waiting(_)));
            assert!(waiting && !fault.may_follow(), "{fault}");
            desk.journal.note(&accepted).await.unwrap();
            desk.disk.set_full(false);
            // Answered once the refused block, and so the ledger, is well again.
            while desk.journal.record(&accepted).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            // The first of the two that failed, the note, and the last.
            assert_eq!(desk.acts().len(), 3);
            desk.verified();
        });
    }

    #[test]
    fn what_no_record_can_hold_is_refused_before_it_reaches_the_ledger() {
        System::new().block_on(async {
            let desk = Desk::new();
            let details = json!({});
            let good = act(&details, Response::Accepted);
            let long = "x".repeat(257);
            let huge = json!("x".repeat(300 * 1024));
            let bad = [
                Act {
                    subject: &long,
                    ..good
                },
                Act { object: "", ..good },
                Act {
                    kind: &long,
                    ..good
                },
                Act {
                    action: Action::Store,
                    ..good
                },
                Act {
                    action: Action::Refuse,
                    ..good
                },
                Act {
                    details: &huge,
                    ..good
                },
            ];
            for bad in bad {
                let fault = desk.journal.record(&bad).await.unwrap_err();
                assert!(matches!(fault, JournalError::Act(_)), "{fault}");
            }
            assert_eq!(desk.journal.record(&good).await, Ok(2));
        });
    }
}

//! A hub inside the test's process, on a simulated disk: how it is started, watched, and what it has
//! recorded.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use weighbridge::access::{Caller, Role};
use weighbridge::actors::ledger::{BlockLimits, LedgerHealth, LedgerStatus};
use weighbridge::actors::log_in::LogInDesk;
use weighbridge::crypto::{Identity, SealingKey};
use weighbridge::hub::{Hub, HubBuilder, HubKeys};
use weighbridge::ledger::batch_format::UnpackedBatch;
use weighbridge::ledger::head::HeadSlot;
use weighbridge::ledger::opening::Opener;
use weighbridge::ledger::query::Explorer;
use weighbridge::ledger::store::Store;
use weighbridge::ledger::verify::verify_store;
use weighbridge::live_view::{DeviceLive, Link};
use weighbridge::model::{Batch, Values, VerdictClass};
use weighbridge::protocols::log_in::{LogInPort, NotIn, Proof};
use weighbridge::store::FaultyDisk;
use weighbridge_verifier::{
    Action, BatchContent, Content, DocumentContent, Hash, IdentityKind, PublicKey, Response, Suite,
};
use zeroize::Zeroizing;

/// How long a test waits for what must come, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A disk, and the keys of the hub that writes it.
pub struct Site {
    pub disk: FaultyDisk,
    keys: tempfile::TempDir,
}

impl Site {
    /// An empty disk; `seed` decides what becomes of writes that are cut short.
    pub fn new(seed: u64) -> Self {
        Self::of(Suite::Nist, seed)
    }

    /// The same with keys of this suite.
    pub fn of(suite: Suite, seed: u64) -> Self {
        let site = Self {
            disk: FaultyDisk::new(seed),
            keys: tempfile::tempdir().unwrap(),
        };
        let keys = HubKeys::generate_of(suite, "hub-1");
        keys.signing.save(&site.key(HubKeys::SIGNING)).unwrap();
        keys.sealing.save(&site.key(HubKeys::SEALING)).unwrap();
        site
    }

    fn key(&self, name: &str) -> std::path::PathBuf {
        self.keys.path().join(name)
    }

    /// The names of the key files.
    pub fn key_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.keys.path()).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// The hub's signing key.
    pub fn identity(&self) -> Identity {
        Identity::load(&self.key(HubKeys::SIGNING), "hub-1").unwrap()
    }

    /// The hub's sealing key.
    pub fn sealing(&self) -> SealingKey {
        SealingKey::load(&self.key(HubKeys::SEALING)).unwrap()
    }

    /// A hub on this disk that closes its blocks quickly.
    pub fn hub(&self) -> HubBuilder {
        self.hub_on(Arc::new(self.disk.store()))
    }

    /// The same with its ledger in `store`, which has what it is asked for on this disk.
    pub fn hub_on(&self, store: Arc<dyn Store>) -> HubBuilder {
        let keys = HubKeys {
            signing: self.identity(),
            sealing: self.sealing(),
        };
        HubBuilder::on_storage(keys, store, Box::new(self.disk.head()))
            .signing_file(self.key(HubKeys::SIGNING))
            .sealing_file(self.key(HubKeys::SEALING))
            .blocks(BlockLimits {
                records: 16,
                age: Duration::from_millis(5),
                ..BlockLimits::default()
            })
    }

    /// `verify` finds nothing.
    pub fn verify_is_clean(&self) {
        let head = self.disk.head().read().unwrap();
        let report = verify_store(&self.disk.store(), &head, None, &mut |_| {}).unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
    }

    /// All that were enrolled: kind and key.
    pub fn identities(&self) -> BTreeMap<String, (IdentityKind, Option<PublicKey>)> {
        let explorer = Explorer::new(Arc::new(self.disk.store()));
        let tip = explorer.tip().unwrap().expect("there are blocks");
        let blocks = (1..=tip.height).map(|height| explorer.block(height).unwrap().unwrap());
        let records = blocks.flat_map(|block| block.records);
        let identities = records.filter_map(|record| match record.body.content {
            Content::Identity(known) => Some((known.id, (known.kind, known.key))),
            _ => None,
        });
        identities.collect()
    }

    /// Everything that is recorded, in order. The hub may run.
    pub fn recorded(&self) -> Recorded {
        self.recorded_in(Arc::new(self.disk.store()))
    }

    /// The same of what is in `store`.
    pub fn recorded_in(&self, store: Arc<dyn Store>) -> Recorded {
        let opener = Opener::new(store.clone(), Arc::new(self.sealing()), "hub-1");
        let explorer = Explorer::new(store);
        let tip = explorer.tip().unwrap().expect("there are blocks");
        let mut recorded = Recorded::default();
        for height in 1..=tip.height {
            let block = explorer
                .block(height)
                .unwrap()
                .expect("no height is missing");
            for record in block.records {
                match record.body.content {
                    Content::Batch(content) => {
                        let opened = content.sealed.as_ref().map(|sealed| {
                            opener.open_batch(&content.device, sealed).unwrap().content
                        });
                        recorded.batches.push(RecordedBatch {
                            height,
                            action: record.body.action,
                            response: record.body.response,
                            permit: record.body.permit,
                            content,
                            opened,
                        });
                    }
                    Content::Document(document) => {
                        let object = record.body.object;
                        recorded.documents.push((object, document));
                    }
                    Content::Message(message) => {
                        let details = opener.open_act(&record.body.hub, &message).unwrap();
                        let acts = match record.body.object.starts_with("access:") {
                            true => &mut recorded.access,
                            false => &mut recorded.acts,
                        };
                        acts.push(RecordedAct {
                            height,
                            subject: record.body.subject,
                            action: record.body.action,
                            object: record.body.object,
                            response: record.body.response,
                            kind: message.kind,
                            details,
                        });
                    }
                    _ => {}
                }
            }
        }
        recorded
    }
}

/// What a ledger says.
#[derive(Default)]
pub struct Recorded {
    pub batches: Vec<RecordedBatch>,
    /// Object and document.
    pub documents: Vec<(String, DocumentContent)>,
    /// What users did, but for what concerns access.
    pub acts: Vec<RecordedAct>,
    /// What concerns access.
    pub access: Vec<RecordedAct>,
}

/// What a user did, as it is recorded.
#[derive(Debug)]
pub struct RecordedAct {
    pub height: u64,
    pub subject: String,
    pub action: Action,
    pub object: String,
    pub response: Response,
    pub kind: String,
    pub details: serde_json::Value,
}

/// A batch as it is recorded.
pub struct RecordedBatch {
    pub height: u64,
    pub action: Action,
    pub response: Response,
    /// The permit it was stored under.
    pub permit: Option<Hash>,
    pub content: BatchContent,
    /// What was sealed; `None` when it was refused.
    pub opened: Option<UnpackedBatch>,
}

impl RecordedBatch {
    /// What was sealed.
    pub fn batch(&self) -> &Batch {
        &self.opened.as_ref().expect("it was not refused").batch
    }
}

impl Recorded {
    /// The batches of one device.
    pub fn of<'a>(&'a self, device: &'a str) -> impl Iterator<Item = &'a RecordedBatch> {
        let batches = self.batches.iter();
        batches.filter(move |b| b.content.device == device)
    }

    /// Classes of the batches of one device.
    pub fn classes(&self, device: &str) -> Vec<VerdictClass> {
        self.of(device).map(|b| b.content.verdict.class).collect()
    }

    /// Every device's batches are numbered from 1 without gap or repetition.
    pub fn is_gapless(&self) {
        let mut next = BTreeMap::new();
        for batch in &self.batches {
            let content = &batch.content;
            let due = next.entry(&content.device).or_insert(1);
            assert_eq!((content.epoch, content.sequence), (1, *due), "{content:?}");
            *due += 1;
        }
    }

    /// All counts of a counting machine, in the order of the record.
    pub fn counts(&self, device: &str) -> Vec<u64> {
        let mut counts = Vec::new();
        for batch in self.of(device) {
            match &batch.batch().columns[0].values {
                Values::U64(values) => counts.extend(values),
                other => panic!("{device} counts {other:?}"),
            }
        }
        counts
    }
}

/// Waits for `event`, which must come.
pub fn wait<T>(hub: &Hub, what: &str, event: impl Future<Output = T>) -> T {
    let waited = hub
        .runtime()
        .block_on(async { tokio::time::timeout(PATIENCE, event).await });
    waited.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Waits until the ledger is as `wanted`.
pub fn ledger(hub: &Hub, what: &str, wanted: impl FnMut(&LedgerStatus) -> bool) -> LedgerStatus {
    let mut status = hub.ledger_status();
    wait(hub, what, async {
        status.wait_for(wanted).await.unwrap().clone()
    })
}

/// Waits until `batches` batches are durable since the hub started.
pub fn batches(hub: &Hub, batches: u64) {
    ledger(hub, &format!("{batches} batches are durable"), |_| {
        hub.stats().batches() >= batches
    });
}

/// Waits until the disk refuses, and says why.
pub fn waiting(hub: &Hub) -> String {
    let waits = |s: &LedgerStatus| matches!(s.health, LedgerHealth::Waiting(_));
    match ledger(hub, "the ledger waits", waits).health {
        LedgerHealth::Waiting(why) => why,
        other => panic!("{other:?}"),
    }
}

/// Lets somebody in.
pub fn enter(hub: &Hub, user: &str, roles: &[Role]) -> Caller {
    wait(hub, "a user is let in", hub.enter(user, roles)).unwrap()
}

/// Waits until a device is as `wanted`.
pub fn device<T>(
    hub: &Hub,
    id: &str,
    what: &str,
    mut wanted: impl FnMut(&DeviceLive) -> Option<T>,
) -> T {
    let live = hub.live().device(id).expect("the device is registered");
    let mut changes = live.changes();
    let event = async {
        loop {
            changes.borrow_and_update();
            if let Some(found) = wanted(&live) {
                return found;
            }
            changes.changed().await.unwrap();
        }
    };
    let waited = hub
        .runtime()
        .block_on(async { tokio::time::timeout(PATIENCE, event).await });
    waited.unwrap_or_else(|_| panic!("waited in vain: {id}: {what}; it is {:?}", live.link()))
}

/// Waits until a device is down, and says why.
pub fn down(hub: &Hub, id: &str) -> String {
    device(hub, id, "is down", |live| match live.link() {
        Link::Down(trouble) => Some(trouble.to_string()),
        Link::Starting | Link::Up => None,
    })
}

/// Waits until a device is down for a reason that begins with `said`.
pub fn down_because(hub: &Hub, id: &str, said: &str) {
    device(hub, id, said, |live| match live.link() {
        Link::Down(trouble) => trouble.to_string().starts_with(said).then_some(()),
        Link::Starting | Link::Up => None,
    });
}

/// Waits until a device is up.
pub fn up(hub: &Hub, id: &str) {
    device(hub, id, "is up", |live| {
        (live.link() == Link::Up).then_some(())
    });
}

/// Where Anna logs in, from somewhere else each time, so that nobody waits.
pub struct Door {
    desk: LogInDesk,
    attempts: Cell<u8>,
}

impl Door {
    /// Nobody has tried yet.
    pub fn of(desk: LogInDesk) -> Self {
        let attempts = Cell::new(0);
        Self { desk, attempts }
    }

    /// As whom she is in.
    pub fn log_in(&self, hub: &Hub, password: &str, code: Option<String>) -> Result<String, NotIn> {
        let proof = Proof::Password(Zeroizing::new(password.to_owned()), code);
        self.attempts.set(self.attempts.get() + 1);
        let from = [192, 0, 2, self.attempts.get()].into();
        let proved = self.desk.log_in("http", Some("anna"), proof, from);
        let proved = wait(hub, "somebody logs in", proved);
        proved.map(|proved| proved.user)
    }
}

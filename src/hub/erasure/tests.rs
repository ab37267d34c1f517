//! Erasing at a stopped hub: on a disk that loses power at every step, and in files that are searched byte by
//! byte.

use super::super::HubKeys;
use super::StoppedErasure;
use crate::crypto::{EpochKey, Identity, SealingKey, Signer, WrappedKey};
use crate::ledger::erasure::erased::Erased;
use crate::ledger::head::HeadSlot;
use crate::ledger::history::evidence::{Wanted, evidence_of};
use crate::ledger::history::reader::{Archive, Direction};
use crate::ledger::key_wrap::{KeyWrap, keys_of};
use crate::ledger::opening::Opener;
use crate::ledger::query::Explorer;
use crate::ledger::report::Report;
use crate::ledger::seal::{BatchSealer, InForce, Judged};
use crate::ledger::store::{Put, Space, Store};
use crate::ledger::verify::verify_store;
use crate::ledger::{ChainConfig, Ledger};
use crate::model::{BatchBuilder, Nanos, Quality, TagSpec, Value, ValueKind};
use crate::store::{FaultyDisk, FjallStore, HeadFile};
use crate::validation::Verdict;
use parking_lot::Mutex;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weighbridge_verifier::Suite;
use weighbridge_verifier::evidence::{Evidence, Trust};

const HOUR: Nanos = 3_600_000_000_000;
const DAY: Nanos = 24 * HOUR;
const DEVICES: [&str; 2] = ["press-1", "robot-2"];
const TAG: &str = "force";
/// Samples of one batch, and batches of one day.
const SAMPLES: i64 = 5;
const BATCHES: i64 = 3;
const DAYS: i64 = 4;

/// The keys of a site: a copy of both, as often as they are needed.
struct Site {
    signing: u8,
    sealing: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let sealing = tempfile::tempdir().unwrap();
        SealingKey::generate()
            .save(&sealing.path().join("key"))
            .unwrap();
        Self {
            signing: 1,
            sealing,
        }
    }

    fn keys(&self) -> HubKeys {
        HubKeys {
            signing: Identity::from_byte("hub-1", self.signing),
            sealing: SealingKey::load(&self.sealing.path().join("key")).unwrap(),
        }
    }

    fn archive(&self, store: &Arc<dyn Store>) -> Archive {
        let opener = Opener::new(store.clone(), Arc::new(self.keys().sealing), "hub-1");
        Archive::new(store.clone(), opener)
    }

    /// A key of `device`, and its wrap.
    fn key(&self, device: &str, epoch: u64) -> (EpochKey, Put) {
        let keys = self.keys();
        let key = EpochKey::generate(Suite::Nist, device, epoch).unwrap();
        let wrapped = keys.sealing.public().wrap(&key).unwrap();
        let wrapped = (wrapped.enc, wrapped.ciphertext);
        let wrap = KeyWrap::sign("plant", device, epoch, "hub-1", wrapped, &keys.signing);
        let put = Put {
            space: Space::Keys,
            key: wrap.key(),
            value: wrap.to_bytes(),
        };
        (key, put)
    }

    /// Some days of two devices, each day under a key of its own (`daily`) or all under one; one of them has
    /// settings since the first day.
    fn record(&self, store: Arc<dyn Store>, head: Box<dyn HeadSlot>, daily: bool) {
        let signer: Arc<dyn Signer> = Arc::new(self.keys().signing);
        let chain = ChainConfig {
            id: "plant".to_owned(),
        };
        let mut ledger = Ledger::open(store, head, chain, signer, 1).unwrap();
        let tags: Arc<[TagSpec]> = [TagSpec {
            name: TAG.into(),
            kind: ValueKind::I64,
            unit: String::new(),
            description: String::new(),
            range: None,
            writable: false,
        }]
        .into();
        for device in DEVICES {
            let in_force = Arc::new(Mutex::new(InForce::default()));
            let mut sealer = None;
            for batch in 0..DAYS * BATCHES {
                let (day, hour) = (batch / BATCHES, batch % BATCHES);
                let time = 5 * DAY + batch;
                let (mut drafts, mut puts) = (Vec::new(), Vec::new());
                if sealer.is_none() || daily && hour == 0 {
                    let (key, wrap) = self.key(device, day as u64 + 1);
                    let new = BatchSealer::new(device, 0, key, vec![wrap], in_force.clone());
                    let sealer = sealer.insert(new);
                    if batch == 0 && device == DEVICES[0] {
                        let (draft, more) = sealer.seal_document("validation", b"limits", time);
                        drafts.push(draft);
                        puts.extend(more);
                    }
                }
                let mut builder = BatchBuilder::subscribing(device.into(), tags.clone());
                for sample in 0..SAMPLES {
                    let at = day * DAY + hour * 8 * HOUR + sample;
                    builder.push(0, at, Some(Value::I64(batch)), Quality::GOOD);
                }
                let batch = builder.take(1, batch as u64 + 1).unwrap();
                let judged = Judged {
                    batch: &batch,
                    verdict: &Verdict::accepted(),
                    state_before: &[],
                    attested: None,
                };
                let sealer = sealer.as_mut().unwrap();
                let (draft, more) = sealer.seal_batch(&judged, time).unwrap();
                drafts.push(draft);
                puts.extend(more);
                ledger.append(&drafts, puts, time).unwrap();
            }
        }
    }

    /// How many samples of `device` can be read.
    fn samples(&self, store: &Arc<dyn Store>, device: &str) -> usize {
        let tag = self.archive(store).tag(device, TAG);
        let page = tag.page((0, 9 * DAY), Direction::Forward, None, 10_000);
        page.unwrap().samples.len()
    }

    fn evidence(&self, store: &Arc<dyn Store>, range: (Nanos, Nanos)) -> Evidence {
        let wanted = Wanted {
            device: DEVICES[0],
            tags: &[],
            range,
            limit: 1_000,
            settings: true,
        };
        let explorer = Explorer::new(store.clone());
        evidence_of(&self.archive(store), &explorer, &wanted, |_, _| ()).unwrap()
    }

    fn open(&self, store: &Arc<dyn Store>, head: Box<dyn HeadSlot>) -> Option<StoppedErasure> {
        StoppedErasure::open(store.clone(), head, self.keys(), "plant").ok()
    }
}

fn verified(store: &dyn Store, mut head: impl HeadSlot) -> Report {
    verify_store(store, &head.read().unwrap(), None, &mut |_| {}).unwrap()
}

fn on_disk(seed: u64, daily: bool) -> (Site, FaultyDisk, Arc<dyn Store>) {
    let (site, disk) = (Site::new(), FaultyDisk::new(seed));
    let store: Arc<dyn Store> = Arc::new(disk.store());
    site.record(store.clone(), Box::new(disk.head()), daily);
    (site, disk, store)
}

const ALL: usize = (SAMPLES * BATCHES * DAYS) as usize;

#[test]
fn what_is_erased_is_gone_and_what_was_proven_before_still_is() {
    let (site, disk, store) = on_disk(1, true);
    let proof = site.evidence(&store, (0, 2 * DAY));
    let before = store.scan(Space::Sealed, &[]).count();
    let mut erasure = site.open(&store, Box::new(disk.head())).unwrap();
    let until = 2 * DAY;
    let plan = erasure.plan(DEVICES[0], until).unwrap();
    assert_eq!((plan.keys, plan.notice.batches), (2, 6));
    assert_eq!((plan.without_key, plan.across, plan.reached), (0, 0, until));
    let erased = erasure.erase((DEVICES[0], until), "user:anna", &mut |_| {});
    let (plan, height) = erased.unwrap();
    assert_eq!((plan.keys, plan.notice.batches), (2, 6));

    let report = verified(&*store, disk.head());
    assert_eq!(report.findings, []);
    assert_eq!((report.erased_batches, report.destroyed_keys), (6, 2));
    let [found] = &report.erasures[..] else {
        panic!("{:?}", report.erasures)
    };
    assert_eq!(
        (&*found.device, &*found.by, found.until),
        (DEVICES[0], "user:anna", until)
    );
    assert_eq!(Some(found.height), height);
    assert_eq!(site.samples(&store, DEVICES[0]), ALL / 2);
    assert_eq!(site.samples(&store, DEVICES[1]), ALL);
    // The settings are recorded again, under a key that stays; the old ones stay closed.
    assert_eq!(store.scan(Space::Sealed, &[]).count(), before - 6 + 1);
    let trusted = [site.keys().signing.public_key()];
    assert_eq!(proof.verify(&trusted).unwrap(), Trust::Key);

    // A second time there is nothing, and nothing is recorded.
    let again = erasure.erase((DEVICES[0], until), "user:anna", &mut |_| {});
    assert_eq!(again.unwrap().1, None);
    // No epoch is ever used twice, though its key is gone.
    drop(erasure);
    let all = erase_all(&site, &disk, &store);
    assert_eq!(all, 6);
    let opener = Opener::new(store.clone(), Arc::new(site.keys().sealing), "hub-1");
    assert_eq!(opener.next_key_epoch(DEVICES[0]).unwrap(), 7);
    let report = verified(&*store, disk.head());
    assert_eq!(report.findings, []);
    assert_eq!(site.samples(&store, DEVICES[0]), 0);
    // What is not there is not missed.
    assert!(site.open(&store, Box::new(disk.head())).is_some());
}

fn erase_all(site: &Site, disk: &FaultyDisk, store: &Arc<dyn Store>) -> u64 {
    let mut erasure = site.open(store, Box::new(disk.head())).unwrap();
    let erased = erasure.erase((DEVICES[0], 9 * DAY), "user:anna", &mut |_| {});
    erased.unwrap().0.notice.batches
}

#[test]
fn how_far_an_erasure_reaches() {
    let table = [
        // Under a key a day: a midnight, just before it, and inside of a batch.
        (true, 2 * DAY, (2, 6, 0, 0), 2 * DAY),
        (true, 2 * DAY - 8 * HOUR, (1, 5, 2, 0), DAY),
        (true, 2 * DAY + 2, (2, 6, 0, 1), 2 * DAY),
        (true, 0, (0, 0, 0, 0), 0),
        // Under one key for all: batches go, the key stays.
        (false, 2 * DAY, (0, 6, 6, 0), 0),
        (false, 9 * DAY, (1, 12, 0, 0), 9 * DAY),
    ];
    for (daily, until, (keys, batches, without, across), reached) in table {
        let (site, disk, store) = on_disk(3, daily);
        let mut erasure = site.open(&store, Box::new(disk.head())).unwrap();
        let plan = erasure.plan(DEVICES[0], until).unwrap();
        let counted = (
            plan.keys,
            plan.notice.batches,
            plan.without_key,
            plan.across,
        );
        assert_eq!(counted, (keys, batches, without, across), "{daily} {until}");
        assert_eq!(plan.reached, reached, "{daily} {until}");
        erasure
            .erase((DEVICES[0], until), "user:anna", &mut |_| {})
            .unwrap();
        let left = ALL - batches as usize * SAMPLES as usize;
        assert_eq!(site.samples(&store, DEVICES[0]), left, "{daily} {until}");
        assert_eq!(verified(&*store, disk.head()).findings, []);
        let nobody = erasure.plan("lathe-9", until).unwrap();
        assert!(nobody.notice.is_empty());
    }
}

#[test]
fn a_power_loss_at_any_step_leaves_all_or_what_the_next_start_finishes() {
    let (mut nothing, mut resumed) = (0, 0);
    for cut in 0.. {
        let (site, disk, store) = on_disk(cut + 10, true);
        let proof = site.evidence(&store, (0, 2 * DAY));
        let mut erasure = site.open(&store, Box::new(disk.head())).unwrap();
        disk.cut_power_in(cut);
        let erased = erasure.erase((DEVICES[0], 2 * DAY), "user:anna", &mut |_| {});
        drop(erasure);
        if erased.is_ok() {
            assert!(cut > 5, "it took {cut} steps");
            break;
        }
        assert!(!disk.powered());
        disk.restart();
        // What is interrupted is on record, and is told from what is lost.
        let pending = Erased::load(&*store).unwrap().pending().count();
        let report = verified(&*store, disk.head());
        let said = report.findings.iter().map(ToString::to_string);
        let unlike = said.filter(|f| !f.contains("interrupted") && !f.starts_with("head"));
        assert_eq!(unlike.collect::<Vec<_>>(), [] as [&str; 0], "cut {cut}");
        // A second power loss, while it is finished.
        disk.cut_power_in(cut % 4);
        let _ = site.open(&store, Box::new(disk.head()));
        disk.restart();
        site.open(&store, Box::new(disk.head())).unwrap();
        let report = verified(&*store, disk.head());
        assert_eq!(report.findings, [], "cut {cut}");
        assert_eq!(Erased::load(&*store).unwrap().pending().count(), 0);
        let left = site.samples(&store, DEVICES[0]);
        match report.erasure_count {
            0 => assert_eq!((pending, left), (0, ALL), "cut {cut}"),
            _ => assert_eq!(left, ALL / 2, "cut {cut}"),
        }
        nothing += u64::from(report.erasure_count == 0);
        resumed += pending;
        proof.verify(&[site.keys().signing.public_key()]).unwrap();
    }
    assert!(nothing > 0 && resumed > 3, "{nothing} {resumed}");
}

#[test]
fn what_is_put_back_or_destroyed_without_a_record_is_named() {
    let (site, disk, store) = on_disk(5, true);
    let all = |space| disk.contents(space);
    let (sealed, keys, history) = (all(Space::Sealed), all(Space::Keys), all(Space::History));
    // A key that somebody overwrote, and bytes that somebody removed.
    store.remove(Space::Keys, &[keys[0].0.clone()]).unwrap();
    let found = verified(&*store, disk.head()).findings;
    assert!(
        found.iter().any(|f| f.what.contains("no record says so")),
        "{found:?}"
    );
    disk.tamper(Space::Keys, &keys[0].0, Some(keys[0].1.clone()));
    assert!(verified(&*store, disk.head()).is_clean());

    let mut erasure = site.open(&store, Box::new(disk.head())).unwrap();
    erasure
        .erase((DEVICES[0], 2 * DAY), "user:anna", &mut |_| {})
        .unwrap();
    let gone = |space: Space, before: &[(Vec<u8>, Vec<u8>)]| {
        let now = disk.contents(space);
        let gone = before.iter().find(|pair| !now.contains(pair));
        gone.unwrap().clone()
    };
    for (space, before) in [
        (Space::Sealed, &sealed),
        (Space::Keys, &keys),
        (Space::History, &history),
    ] {
        let (key, value) = gone(space, before);
        let erased = store.get(space, &key).unwrap();
        disk.tamper(space, &key, Some(value));
        let found = verified(&*store, disk.head()).findings;
        let named = |w: &str| found.iter().any(|f| f.what.contains(w));
        assert!(
            named("put back") || named("is erased"),
            "{space}: {found:?}"
        );
        disk.tamper(space, &key, erased);
        assert!(verified(&*store, disk.head()).is_clean());
    }
    // A notice that is taken away, changed, or made up.
    let notices = disk.contents(Space::Erasures);
    let [(key, notice)] = &notices[..] else {
        panic!("{notices:?}")
    };
    disk.tamper(Space::Erasures, key, None);
    assert!(!verified(&*store, disk.head()).is_clean());
    for bit in 0..notice.len() * 8 {
        let mut changed = notice.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        disk.tamper(Space::Erasures, key, Some(changed));
        assert!(!verified(&*store, disk.head()).is_clean(), "bit {bit}");
    }
    disk.tamper(Space::Erasures, key, Some(notice.clone()));
    let mut moved = key.clone();
    moved[5] ^= 1;
    disk.tamper(Space::Erasures, &moved, Some(notice.clone()));
    assert!(!verified(&*store, disk.head()).is_clean());
}

/// A sealed batch as it was before the erasure.
struct Copied {
    device: &'static str,
    epoch: u64,
    ciphertext: Vec<u8>,
}

/// One ciphertext of every key: whoever opens it has the key. They are kept from before, as a backup would.
fn copies(site: &Site, store: &Arc<dyn Store>) -> Vec<Copied> {
    let mut copied: Vec<Copied> = Vec::new();
    let explorer = Explorer::new(store.clone());
    let records = explorer.records(None, 1_000, &Default::default()).unwrap();
    for placed in records.items {
        let Some(batch) = placed.record.body.batch() else {
            continue;
        };
        let sealed = batch.sealed.unwrap();
        let device = DEVICES.into_iter().find(|d| **d == *batch.device).unwrap();
        if copied
            .iter()
            .any(|c| (c.device, c.epoch) == (device, sealed.key_epoch))
        {
            continue;
        }
        copied.push(Copied {
            device,
            epoch: sealed.key_epoch,
            ciphertext: explorer.sealed(&sealed.hash).unwrap().unwrap(),
        });
    }
    assert_eq!(copied.len(), (DAYS as usize) * DEVICES.len());
    assert_eq!(site.samples(store, DEVICES[0]), ALL);
    copied
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Tries every place of every file in `dir` as a wrap, with the site's sealing key, and as the bare secret of a
/// key; which of the copies open.
fn openable(site: &Site, dir: &Path, copies: &[Copied]) -> Vec<(&'static str, u64)> {
    const ENC: usize = 65;
    const WRAPPED: usize = 48;
    let sealing = site.keys().sealing;
    let mut opened = Vec::new();
    let mut open = |copy: &Copied, key: &EpochKey| {
        if key.open(&copy.ciphertext).is_ok() {
            opened.push((copy.device, copy.epoch));
        }
    };
    for file in files(dir) {
        let mut bytes = fs::read(&file).unwrap();
        // Journals are made at their full length.
        let written = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        bytes.truncate(written);
        for (at, window) in bytes.windows(32).enumerate() {
            // A secret is random: most of its bytes differ from zero.
            if window.iter().filter(|b| **b != 0).count() > 16 {
                let secret: &[u8; 32] = window.try_into().unwrap();
                for copy in copies {
                    open(
                        copy,
                        &EpochKey::from_secret(Suite::Nist, copy.device, copy.epoch, secret),
                    );
                }
            }
            // An uncompressed point; the wrapped key is behind it, after its length.
            let enc = bytes.get(at..at + ENC).filter(|enc| enc[0] == 4);
            let behind = bytes.get(at + ENC + 4..at + ENC + 4 + WRAPPED);
            if let (Some(enc), Some(ciphertext)) = (enc, behind) {
                let wrapped = WrappedKey {
                    enc: enc.to_vec(),
                    ciphertext: ciphertext.to_vec(),
                };
                for copy in copies {
                    if let Ok(key) = sealing.unwrap(copy.device, copy.epoch, &wrapped) {
                        open(copy, &key);
                    }
                }
            }
        }
    }
    opened.sort_unstable();
    opened.dedup();
    opened
}

/// With every key that the site still has, every file of its directory, and copies of the ciphertexts, nothing
/// of what was erased opens; and before that, the same search opens everything.
#[test]
fn no_file_of_the_directory_opens_what_was_erased() {
    let (site, dir) = (Site::new(), tempfile::tempdir().unwrap());
    let head = || Box::new(HeadFile::new(dir.path()));
    let store: Arc<dyn Store> = Arc::new(FjallStore::create_or_open(dir.path()).unwrap());
    site.record(store.clone(), head(), true);
    let copied = copies(&site, &store);
    let proof = site.evidence(&store, (0, 2 * DAY));
    let everything: Vec<_> = DEVICES
        .into_iter()
        .flat_map(|device| (1..=DAYS as u64).map(move |epoch| (device, epoch)))
        .collect();
    assert_eq!(openable(&site, dir.path(), &copied), everything);

    let mut erasure = site.open(&store, head()).unwrap();
    erasure
        .erase((DEVICES[0], 2 * DAY), "user:anna", &mut |_| {})
        .unwrap();
    drop(erasure);
    let kept: Vec<_> = everything
        .into_iter()
        .filter(|(device, epoch)| *device != DEVICES[0] || *epoch > 2)
        .collect();
    assert_eq!(openable(&site, dir.path(), &copied), kept);
    assert_eq!(verified(&*store, HeadFile::new(dir.path())).findings, []);
    proof.verify(&[site.keys().signing.public_key()]).unwrap();
    // Another process sees the same.
    drop(store);
    let store: Arc<dyn Store> = Arc::new(FjallStore::open(dir.path()).unwrap());
    assert_eq!(verified(&*store, HeadFile::new(dir.path())).findings, []);
    assert_eq!(site.samples(&store, DEVICES[0]), ALL / 2);
    let keys = keys_of(&*store, DEVICES[0]).unwrap();
    let destroyed = keys.iter().filter(|k| k.destroyed).map(|k| k.epoch);
    assert_eq!(destroyed.collect::<Vec<_>>(), [1, 2]);
}

/// A year of two devices, a key a day; how long it takes to erase one of them, and the room it gives back.
/// `YEAR_BATCHES` a day (288), `YEAR_BYTES` each (4096).
#[test]
#[ignore = "a measurement: it writes a gigabyte"]
fn a_year_of_one_device() {
    use crate::ledger::history::index::Span;
    use crate::ledger::testing::{TestSigner, batch_content};
    use std::time::Instant;
    use weighbridge_verifier::{SealedRef, sha256};
    let number = |name: &str, or: i64| std::env::var(name).map_or(or, |v| v.parse().unwrap());
    let (a_day, bytes) = (number("YEAR_BATCHES", 288), number("YEAR_BYTES", 4_096));
    let (site, dir) = (Site::new(), tempfile::tempdir().unwrap());
    let store: Arc<dyn Store> = Arc::new(FjallStore::create_or_open(dir.path()).unwrap());
    let head = || Box::new(HeadFile::new(dir.path()));
    let signer: Arc<dyn Signer> = Arc::new(TestSigner::new(Suite::Nist, "hub-1", site.signing));
    let chain = ChainConfig {
        id: "plant".to_owned(),
    };
    let mut ledger = Ledger::open(store.clone(), head(), chain, signer, 1).unwrap();
    let mut random: u64 = 88_172_645_463_325_252;
    let mut sequence = 0;
    for day in 0..365 {
        for device in DEVICES {
            let (_, wrap) = site.key(device, day as u64 + 1);
            let (mut drafts, mut puts) = (Vec::new(), vec![wrap]);
            for n in 0..a_day {
                let value = (0..bytes / 8).flat_map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random.to_le_bytes()
                });
                let value: Vec<u8> = value.collect();
                let sealed = SealedRef {
                    hash: sha256(&[&value]),
                    length: value.len() as u64,
                    key_epoch: day as u64 + 1,
                };
                let at = day * DAY + n * (DAY / a_day);
                let which = (sequence + n) as u64 + 1;
                let mut content = batch_content(Suite::Nist, device, 1, which);
                content.sealed = Some(sealed);
                let time = 400 * DAY + day;
                drafts.push(crate::ledger::Draft::store(time, content));
                puts.push(Put {
                    space: Space::Sealed,
                    key: sealed.hash.0.to_vec(),
                    value,
                });
                let span = Span {
                    first: at,
                    last: at + HOUR / 100,
                    part: 0,
                    parts: 1,
                    epoch: 1,
                    sequence: which,
                    recorded: time,
                    sealed,
                };
                puts.push(span.put(device));
                if drafts.len() == 64 || n + 1 == a_day {
                    let puts = std::mem::take(&mut puts);
                    ledger
                        .append(&std::mem::take(&mut drafts), puts, time)
                        .unwrap();
                }
            }
        }
        sequence += a_day;
    }
    drop((ledger, store));
    let room = || -> u64 {
        let files = files(dir.path()).into_iter();
        let journal = |f: &PathBuf| f.extension().is_some_and(|e| e == "jnl");
        files
            .filter(|f| !journal(f))
            .map(|f| fs::metadata(f).unwrap().len())
            .sum()
    };
    let store: Arc<dyn Store> = Arc::new(FjallStore::open(dir.path()).unwrap());
    let mut erasure = site.open(&store, head()).unwrap();
    let before = room();
    let began = Instant::now();
    let mut told = Vec::new();
    let mut last = "";
    let plan = erasure
        .erase((DEVICES[0], 400 * DAY), "user:anna", &mut |p| {
            if p.what != last {
                told.push((p.what, began.elapsed()));
                last = p.what;
            }
        })
        .unwrap()
        .0;
    let took = began.elapsed();
    let after = room();
    println!(
        "{} keys, {} batches of {bytes} bytes: {took:?} ({told:?}); {} MB of {} MB are free again",
        plan.keys,
        plan.notice.batches,
        before.saturating_sub(after) >> 20,
        before >> 20,
    );
    drop(erasure);
    let began = Instant::now();
    assert_eq!(verified(&*store, HeadFile::new(dir.path())).findings, []);
    println!("verified in {:?}", began.elapsed());
    assert!(before > after + plan.notice.bytes / 2);
}

//! A hub's sealing key is replaced, and its wraps are made anew while the power may fail at any step.

use super::*;
use crate::crypto::{EpochKey, SealingKey, SealingPublicKey, SealingRing};
use crate::ledger::key_wrap::{KeyWrap, wrap_key};
use crate::ledger::opening::Opener;
use crate::ledger::rewrap::{Rewrap, Rewrapped};
use crate::ledger::store::{Space, StoreError};
use crate::store::FjallStore;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const DEVICES: [&str; 3] = ["press-1", "hub:hub-1", "press-2"];
/// Keys of a device; the second of them is destroyed.
const EPOCHS: u64 = 14;
const READER: &str = "user:anna/5f3c";

/// A ring in a file, and another reader.
struct Site {
    keys: tempfile::TempDir,
    anna: SealingKey,
}

impl Site {
    fn new() -> Self {
        let keys = tempfile::tempdir().unwrap();
        let key = SealingKey::generate_of(SUITE);
        key.save(&keys.path().join("sealing.key")).unwrap();
        let anna = SealingKey::generate_of(SUITE);
        Self { keys, anna }
    }

    fn file(&self) -> PathBuf {
        self.keys.path().join("sealing.key")
    }

    fn ring(&self) -> SealingRing {
        SealingRing::in_file(SealingKey::load(&self.file()).unwrap(), &self.file()).unwrap()
    }

    fn replace(&self) -> SealingRing {
        let ring = self.ring();
        let next = ring.prepare().unwrap();
        assert!(ring.succeed(&next));
        ring.settle().unwrap();
        ring
    }

    /// Keys of three devices, wrapped to the hub and to a reader; one of each is destroyed.
    fn fill(&self, store: &dyn Store) -> BTreeMap<(String, u64), Vec<Put>> {
        let own = self.ring().public();
        let mut all = BTreeMap::new();
        for device in DEVICES {
            for epoch in 1..=EPOCHS {
                let key = EpochKey::generate(SUITE, device, epoch).unwrap();
                let put = |to: &SealingPublicKey, name: &str| {
                    let wrapped = to.wrap(&key).unwrap();
                    let wrapped = (wrapped.enc, wrapped.ciphertext);
                    let wrap = KeyWrap::sign(CHAIN, device, epoch, name, wrapped, &*signer());
                    let (key, value) = (wrap.key(), wrap.to_bytes());
                    Put {
                        space: Space::Keys,
                        key,
                        value,
                    }
                };
                let puts = vec![put(&own, "hub-1"), put(self.anna.public(), READER)];
                all.insert((device.to_owned(), epoch), puts);
            }
        }
        store
            .commit(&all.values().flatten().cloned().collect::<Vec<_>>())
            .unwrap();
        let gone = DEVICES.map(|device| wrap_key(device, 2, "hub-1"));
        store.remove(Space::Keys, &gone).unwrap();
        all
    }
}

fn rewrap(store: &dyn Store, ring: &SealingRing) -> Result<Rewrapped, StoreError> {
    let signer = signer();
    let rewrap = Rewrap {
        store,
        keys: ring,
        signer: &*signer,
        chain: CHAIN,
    };
    rewrap.all()
}

/// How many of the keys that live are opened by these, and whether those that were destroyed are.
fn opened(store: Arc<dyn Store>, keys: impl Into<SealingRing>) -> (usize, bool) {
    let opener = Opener::new(store, keys, "hub-1");
    let all = DEVICES
        .into_iter()
        .flat_map(|d| (1..=EPOCHS).map(move |e| (d, e)));
    let (gone, live): (Vec<_>, Vec<_>) = all.partition(|(_, epoch)| *epoch == 2);
    let opens = |(device, epoch): &(&str, u64)| opener.epoch_key(device, *epoch).is_ok();
    (
        live.iter().filter(|of| opens(of)).count(),
        gone.iter().any(opens),
    )
}

const LIVE: usize = DEVICES.len() * (EPOCHS as usize - 1);

#[test]
fn whenever_the_power_fails_every_living_key_is_opened_and_in_the_end_by_the_new_key_alone() {
    let mut cuts = 0;
    for seed in 0..12 {
        let (site, disk) = (Site::new(), FaultyDisk::new(seed));
        let before = site.fill(&disk.store());
        let old = Arc::new(SealingKey::load(&site.file()).unwrap());
        let ring = site.replace();
        disk.cut_power_in(seed % 4);
        let cut = rewrap(&disk.store(), &ring).is_err();
        cuts += usize::from(cut);
        disk.restart();
        // The next start, with the keys that are in the files.
        let ring = site.ring();
        assert_eq!(ring.former().len(), 1);
        assert_eq!(opened(Arc::new(disk.store()), ring.clone()), (LIVE, false));
        let done = rewrap(&disk.store(), &ring).unwrap();
        assert_eq!((done.seen, done.unopened), (LIVE as u64, 0));
        assert!(cut || done.made == 0);
        let again = rewrap(&disk.store(), &ring).unwrap();
        assert_eq!(
            (again.seen, again.made, again.unopened),
            (LIVE as u64, 0, 0)
        );
        let new = Arc::new(SealingKey::load(&site.file()).unwrap());
        assert_eq!(opened(Arc::new(disk.store()), new), (LIVE, false));
        assert_eq!(opened(Arc::new(disk.store()), old), (0, false));
        // Nobody else's wraps are touched.
        for puts in before.values() {
            let [_, readers] = &puts[..] else { panic!() };
            let kept = disk.store().get(Space::Keys, &readers.key).unwrap();
            assert_eq!(kept.as_ref(), Some(&readers.value));
        }
    }
    assert!(cuts > 3, "the power failed in too few of them: {cuts}");
}

fn holds(dir: &Path, what: &[u8]) -> bool {
    let bytes = std::fs::read(dir.join("wraps")).unwrap();
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn on_a_disk_nothing_that_the_old_key_opens_stays() {
    let (site, dir) = (Site::new(), tempfile::tempdir().unwrap());
    let store: Arc<dyn Store> = Arc::new(FjallStore::create_or_open(dir.path()).unwrap());
    let before = site.fill(&*store);
    let ciphertext = |put: &Put| KeyWrap::from_bytes(&put.value).unwrap().ciphertext;
    let live = |((_, epoch), _): &(&(String, u64), &Vec<Put>)| *epoch != 2;
    assert!(
        before
            .iter()
            .filter(live)
            .all(|(_, puts)| holds(dir.path(), &ciphertext(&puts[0])))
    );
    let ring = site.replace();
    assert_eq!(rewrap(&*store, &ring).unwrap().made, LIVE as u64);
    for puts in before.values() {
        assert!(!holds(dir.path(), &ciphertext(&puts[0])));
        assert!(holds(dir.path(), &ciphertext(&puts[1])));
    }
    for former in ring.former() {
        ring.forget(&former).unwrap();
    }
    drop(store);
    let store = Arc::new(FjallStore::create_or_open(dir.path()).unwrap());
    assert_eq!(opened(store, site.ring()), (LIVE, false));
}

#[test]
fn a_wrap_that_no_key_opens_stays_as_it_is_and_is_counted() {
    let (site, disk) = (Site::new(), FaultyDisk::new(3));
    let before = site.fill(&disk.store());
    let [own, _] = &before[&("press-2".to_owned(), 5)][..] else {
        panic!()
    };
    let mut changed = own.value.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    disk.tamper(Space::Keys, &own.key, Some(changed.clone()));
    let done = rewrap(&disk.store(), &site.replace()).unwrap();
    assert_eq!(
        (done.seen, done.made, done.unopened),
        (LIVE as u64, LIVE as u64 - 1, 1)
    );
    assert_eq!(
        disk.store().get(Space::Keys, &own.key).unwrap(),
        Some(changed)
    );
}

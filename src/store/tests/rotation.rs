//! A hub's key is replaced while the power may fail at any step.

use super::*;
use crate::crypto::{HubKey, Identity, Signer};
use crate::ledger::report::LedgerTrust;
use std::path::{Path, PathBuf};
use weighbridge_verifier::PublicKey;

/// A disk for the ledger, and a directory for the key.
pub(super) struct Site {
    pub(super) disk: FaultyDisk,
    keys: tempfile::TempDir,
    pub(super) first: PublicKey,
}

impl Site {
    pub(super) fn new(seed: u64) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let identity = Identity::from_byte_of(SUITE, "hub-1", 1);
        identity.save(&keys.path().join("hub.key")).unwrap();
        Self {
            disk: FaultyDisk::new(seed),
            keys,
            first: identity.public_key(),
        }
    }

    fn file(&self) -> PathBuf {
        self.keys.path().join("hub.key")
    }

    /// As a hub starts: what was begun is finished.
    pub(super) fn open(&self) -> Result<(Ledger, Arc<HubKey>), LedgerError> {
        let identity = Identity::load(&self.file(), "hub-1").unwrap();
        let key = Arc::new(HubKey::in_file(identity, &self.file()).unwrap());
        let ledger = open_by(&self.disk, key.clone())?;
        key.settle().unwrap();
        key.abandon().unwrap();
        Ok((ledger, key))
    }

    pub(super) fn verify(&self, trust: &PublicKey) -> Report {
        let head = self.disk.head().read().unwrap();
        verify_store(&self.disk.store(), &head, Some(trust), &mut |_| {}).unwrap()
    }
}

fn open_by(disk: &FaultyDisk, signer: Arc<dyn Signer>) -> Result<Ledger, LedgerError> {
    let chain = ChainConfig {
        id: CHAIN.to_owned(),
    };
    Ledger::open(
        Arc::new(disk.store()),
        Box::new(disk.head()),
        chain,
        signer,
        1_000,
    )
}

pub(super) fn rotate(ledger: &mut Ledger, key: &HubKey) -> Result<PublicKey, LedgerError> {
    let rotation = key.prepare(CHAIN).unwrap();
    let new = rotation.identity.key.unwrap();
    let draft = Draft::rotate(2_000, "user:anna", rotation);
    assert!(ledger.may_rotate(&draft));
    ledger.append(&[draft], Vec::new(), 2_000)?;
    key.settle().unwrap();
    Ok(new)
}

pub(super) fn store(ledger: &mut Ledger, key: &dyn Signer) -> Result<(), LedgerError> {
    let sequence = ledger.state().device("press-1").sequence + 1;
    let drafts = [store_draft(SUITE, "press-1", sequence, 1_500)];
    let mut puts = sealed_puts(SUITE, &drafts);
    let wrapped = (vec![4; 65], vec![7; 48]);
    let wrap = crate::ledger::key_wrap::KeyWrap::sign(CHAIN, "press-1", 1, "hub-1", wrapped, key);
    if sequence == 1 {
        puts.push(Put {
            space: crate::ledger::store::Space::Keys,
            key: wrap.key(),
            value: wrap.to_bytes(),
        });
    }
    ledger.append(&drafts, puts, 2_000).map(drop)
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn the_chain_holds_over_many_keys_from_the_first_one_on() {
    let site = Site::new(1);
    let (mut ledger, key) = site.open().unwrap();
    let mut keys = vec![key.public_key()];
    for _ in 0..3 {
        store(&mut ledger, &*key).unwrap();
        keys.push(rotate(&mut ledger, &key).unwrap());
        assert_eq!(key.public_key(), keys[keys.len() - 1]);
        // The newest key has signed nothing yet but the head.
        assert!(site.verify(&site.first).is_clean());
        let unused = site.verify(&keys[keys.len() - 1]);
        assert!(
            !unused.is_clean(),
            "a key that signed nothing vouches for nothing"
        );
    }
    store(&mut ledger, &*key).unwrap();
    drop(ledger);
    for trust in &keys {
        let report = site.verify(trust);
        assert_eq!(report.findings, []);
        assert_eq!(report.trust, LedgerTrust::Key);
        assert_eq!(report.key, Some(site.first));
        let since: Vec<_> = report.rotations.iter().map(|r| r.height).collect();
        assert_eq!(since, [4, 6, 8]);
    }
    let stranger = Identity::from_byte_of(SUITE, "hub-1", 9).public_key();
    assert!(!site.verify(&stranger).is_clean());

    // With the newest key it goes on, and with none of those before.
    let (ledger, key) = site.open().unwrap();
    assert_eq!((key.public_key(), files(site.keys.path())), (keys[3], 1));
    assert_eq!(ledger.rotations().len(), 3);
    let first = Identity::from_byte_of(SUITE, "hub-1", 1);
    let refused = open_by(&site.disk, Arc::new(first)).err().unwrap();
    let LedgerError::FormerKey {
        hub,
        given,
        current,
    } = &refused
    else {
        panic!("{refused}");
    };
    assert_eq!((&**hub, given, current), ("hub-1", &keys[0], &keys[3]));
    let stranger = Identity::from_byte_of(SUITE, "hub-1", 9);
    let refused = open_by(&site.disk, Arc::new(stranger)).err().unwrap();
    assert!(
        matches!(refused, LedgerError::HeadSignature(_)),
        "{refused}"
    );
}

#[test]
fn whenever_the_power_fails_the_next_start_has_the_key_that_counts() {
    let mut replaced = 0;
    for seed in 0..60 {
        let site = Site::new(seed);
        let (mut ledger, key) = site.open().unwrap();
        store(&mut ledger, &*key).unwrap();
        site.disk.cut_power_in(seed % 12);
        let mut acknowledged = Vec::new();
        while site.disk.powered() {
            match rotate(&mut ledger, &key) {
                Ok(new) => acknowledged.push(new),
                Err(_) => break,
            }
            if store(&mut ledger, &*key).is_err() {
                break;
            }
        }
        drop((ledger, key));
        site.disk.restart();
        let (mut ledger, key) = site.open().unwrap();
        assert_eq!(files(site.keys.path()), 1, "seed {seed}");
        let counts = ledger.state().validators().unwrap().validators[0].key;
        assert_eq!(key.public_key(), counts, "seed {seed}");
        if let Some(newest) = acknowledged.last() {
            let had = ledger.state().former_keys("hub-1").contains(newest);
            assert!(had || counts == *newest, "seed {seed}");
        }
        replaced += usize::from(counts != site.first);
        store(&mut ledger, &*key).unwrap();
        rotate(&mut ledger, &key).unwrap();
        store(&mut ledger, &*key).unwrap();
        assert_eq!(site.verify(&site.first).findings, [], "seed {seed}");
    }
    assert!((10..60).contains(&replaced), "{replaced}");
}

#[test]
fn a_full_disk_takes_the_change_when_there_is_room() {
    let site = Site::new(3);
    let (mut ledger, key) = site.open().unwrap();
    let old = key.public_key();
    site.disk.set_full(true);
    assert!(rotate(&mut ledger, &key).is_err());
    assert_eq!(key.public_key(), old);
    // It is the same one that is asked for again, and it is in no other block.
    let again = key.prepare(CHAIN).unwrap();
    let other = ledger.append(&[Draft::rotate(9, "user:bob", again)], Vec::new(), 9);
    assert!(matches!(other, Err(LedgerError::Pending(2))));
    site.disk.set_full(false);
    ledger.retry().unwrap();
    assert_ne!(key.public_key(), old);
    key.settle().unwrap();
    store(&mut ledger, &*key).unwrap();
    assert_eq!(site.verify(&old).findings, []);
}

#[test]
fn a_hub_that_ended_before_its_file_was_in_place_goes_on_by_the_new_key() {
    for blocks in 0..3 {
        let site = Site::new(4);
        let (mut ledger, key) = site.open().unwrap();
        store(&mut ledger, &*key).unwrap();
        let rotation = key.prepare(CHAIN).unwrap();
        let new = rotation.identity.key.unwrap();
        let draft = Draft::rotate(2_000, "user:anna", rotation);
        ledger.append(&[draft], Vec::new(), 2_000).unwrap();
        for _ in 0..blocks {
            store(&mut ledger, &*key).unwrap();
        }
        drop((ledger, key));
        assert_eq!(files(site.keys.path()), 2);
        let (mut ledger, key) = site.open().unwrap();
        assert_eq!((key.public_key(), files(site.keys.path())), (new, 1));
        store(&mut ledger, &*key).unwrap();
        assert_eq!(site.verify(&site.first).findings, []);
    }
}

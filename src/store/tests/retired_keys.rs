//! Bodies before and after a hub's change of keys are retired; the block of the change keeps its own.

use super::retention::{blocks, retire};
use super::rotation::{Site, rotate, store};
use super::*;
use crate::crypto::{HubKey, Signer};
use crate::ledger::history::succession::Succession;
use crate::ledger::keys::height_key;
use crate::ledger::proof::Exhibits;
use crate::ledger::query::Explorer;
use crate::ledger::retention::{is_stripped, strip, work};
use crate::ledger::store::Space;
use weighbridge_verifier::evidence::Trust;
use weighbridge_verifier::{Block, KeyCache, PublicKey, decode, encode, rotation};

/// A chain of four keys, whose changes are in the blocks at these heights.
const CHANGES: [u64; 3] = [5, 6, 11];
/// Its newest block.
const TIP: u64 = 16;

struct Chain {
    site: Site,
    ledger: Ledger,
    key: Arc<HubKey>,
    /// All keys, the oldest first.
    keys: Vec<PublicKey>,
}

fn chain(seed: u64) -> Chain {
    let site = Site::new(seed);
    let (mut ledger, key) = site.open().unwrap();
    let mut keys = vec![key.public_key()];
    while ledger.tip().height < TIP {
        match ledger.tip().height + 1 {
            11 => keys.push(rotate_with_a_batch(&mut ledger, &key)),
            5 | 6 => keys.push(rotate(&mut ledger, &key).unwrap()),
            _ => store(&mut ledger, &*key).unwrap(),
        }
    }
    Chain {
        site,
        ledger,
        key,
        keys,
    }
}

/// The change is the last record of a block that has others.
fn rotate_with_a_batch(ledger: &mut Ledger, key: &HubKey) -> PublicKey {
    let rotation = key.prepare(CHAIN).unwrap();
    let new = rotation.identity.key.unwrap();
    let sequence = ledger.state().device("press-1").sequence + 1;
    let drafts = [
        store_draft(SUITE, "press-1", sequence, 1_500),
        Draft::rotate(2_000, "user:anna", rotation),
    ];
    let puts = sealed_puts(SUITE, &drafts);
    ledger.append(&drafts, puts, 2_000).unwrap();
    key.settle().unwrap();
    new
}

/// Heights of blocks without a body.
fn gone(disk: &FaultyDisk) -> Vec<u64> {
    let all = blocks(disk).into_iter().filter(is_stripped);
    all.map(|block| block.header.height).collect()
}

/// Those up to `horizon` but the first, and those of the changes.
fn expected(horizon: u64) -> Vec<u64> {
    let goes = |height: &u64| !CHANGES.contains(height);
    (2..=horizon).filter(goes).collect()
}

/// The evidence of the newest record, from the first block on.
fn evidence(disk: &FaultyDisk) -> Vec<u8> {
    let explorer = Explorer::new(Arc::new(disk.store()));
    let mut succession = Succession::begin(&explorer).unwrap();
    let mut exhibits = Exhibits::new(succession.set().clone());
    for height in [1, TIP] {
        let block = explorer.block(height).unwrap().unwrap();
        exhibits.show_record(&block, 0).unwrap();
        for (block, index) in succession.until(height).unwrap() {
            exhibits.show_record(&block, index).unwrap();
        }
    }
    let evidence = exhibits.into_evidence().unwrap();
    let first = TestSigner::new(SUITE, "hub-1", 1).public_key();
    assert_eq!(evidence.verify(&[first]).unwrap(), Trust::Key);
    evidence.to_bytes()
}

#[test]
fn bodies_on_both_sides_go_and_every_key_still_leads_to_the_newest() {
    let Chain {
        site,
        mut ledger,
        key,
        keys,
    } = chain(1);
    let before = evidence(&site.disk);
    let changes = ledger.rotations().to_vec();
    assert_eq!(changes.len(), 3);
    // Up to before, to the very block of, between and after changes.
    for horizon in [3, 5, 8, TIP - 1] {
        assert!(retire(&mut ledger, (horizon, horizon)), "{horizon}");
        assert_eq!(gone(&site.disk), expected(horizon));
        for trust in &keys {
            assert_eq!(site.verify(trust).findings, [], "{horizon}");
        }
        let report = site.verify(&keys[0]);
        let since: Vec<_> = report.rotations.iter().map(|r| r.height).collect();
        assert_eq!(since, CHANGES.map(|height| height + 1));
        assert_eq!(evidence(&site.disk), before);
        drop(ledger);
        ledger = site.open().unwrap().0;
        assert_eq!(ledger.rotations(), changes);
    }
    let check = KeyCache::default();
    for trust in &keys[..3] {
        let newest = rotation::follow(*trust, ledger.rotations(), &check);
        assert_eq!(newest, Ok(keys[3]));
    }
    // What the batch beside a change recorded is gone, and its record is not.
    let left = site.disk.contents(Space::Sealed).len();
    assert_eq!(left, 1, "the newest batch");
    // It goes on, under another key as well.
    drop(key);
    let (mut ledger, key) = {
        drop(ledger);
        site.open().unwrap()
    };
    store(&mut ledger, &*key).unwrap();
    rotate(&mut ledger, &key).unwrap();
    store(&mut ledger, &*key).unwrap();
    assert_eq!(site.verify(&site.first).findings, []);
    // Where only changes and records of retirements are left, nothing goes.
    let tip = ledger.tip().height;
    assert!(retire(&mut ledger, (tip - 1, tip - 1)));
    assert_eq!(site.verify(&site.first).findings, []);
    let tip = ledger.tip().height;
    rotate(&mut ledger, &key).unwrap();
    assert!(retire(&mut ledger, (tip, tip)), "the newest batch is older");
    let tip = ledger.tip().height;
    assert!(!retire(&mut ledger, (tip, tip)));
    assert_eq!(site.verify(&site.first).findings, []);
}

#[test]
fn a_power_loss_at_any_step_leaves_who_signs_known() {
    let (mut nothing, mut resumed) = (0, 0);
    for cut in 0.. {
        let Chain {
            site,
            mut ledger,
            key,
            keys,
        } = chain(cut + 20);
        let changes = ledger.rotations().to_vec();
        // An earlier one, which ends between changes.
        assert!(retire(&mut ledger, (7, 7)));
        site.disk.cut_power_in(cut);
        let done = retire(&mut ledger, (TIP - 1, TIP - 1));
        drop((ledger, key));
        if done {
            assert!(cut > 5, "it took {cut} steps");
            break;
        }
        site.disk.restart();
        // A second power loss, while it is finished.
        site.disk.cut_power_in(cut % 4);
        let _ = site
            .open()
            .map(|(ledger, _)| work::resume(&**ledger.store(), &mut |_| true));
        site.disk.restart();
        let (ledger, key) = site.open().unwrap();
        assert_eq!(ledger.rotations(), changes, "cut {cut}");
        assert_eq!(key.public_key(), keys[3]);
        resumed += u64::from(work::resume(&site.disk.store(), &mut |_| true).unwrap());
        for trust in &keys {
            assert_eq!(site.verify(trust).findings, [], "cut {cut}");
        }
        let count = site.verify(&site.first).retirement_count;
        nothing += u64::from(count == 1);
        let horizon = if count == 1 { 7 } else { TIP - 1 };
        assert_eq!(gone(&site.disk), expected(horizon), "cut {cut}");
    }
    assert!(nothing > 0 && resumed > 1, "{nothing} {resumed}");
}

#[test]
fn a_change_of_keys_that_is_lost_or_changed_is_named_and_stops_the_start() {
    let Chain {
        site,
        mut ledger,
        key,
        ..
    } = chain(3);
    assert!(retire(&mut ledger, (TIP - 1, TIP - 1)));
    drop((ledger, key));
    for height in CHANGES {
        let place = height_key(height);
        let all = site.disk.contents(Space::Blocks);
        let whole = all.into_iter().find(|(key, _)| *key == place).unwrap().1;
        let block: Block = decode("block", &whole).unwrap();
        let mut changed = block.clone();
        changed.records.last_mut().unwrap().body.subject = "user:eve".to_owned();
        for bad in [strip(block), changed] {
            site.disk.tamper(Space::Blocks, &place, Some(encode(&bad)));
            assert!(!site.verify(&site.first).is_clean(), "{height}");
            let refused = site.open().err().unwrap();
            assert!(
                matches!(refused, LedgerError::Retention(_)),
                "{height}: {refused}"
            );
        }
        site.disk.tamper(Space::Blocks, &place, Some(whole));
    }
    assert_eq!(site.verify(&site.first).findings, []);
    assert!(site.open().is_ok());
}

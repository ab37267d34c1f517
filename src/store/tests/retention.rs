//! Retiring on a disk that loses power at every step, and what `verify` says of disks that lost it without.

use super::*;
use crate::ledger::head::Head;
use crate::ledger::report::Report;
use crate::ledger::retention::notice::{Notice, pending_key, snapshot_key};
use crate::ledger::retention::plan::{Horizons, plan};
use crate::ledger::retention::retired::Retired;
use crate::ledger::retention::{is_stripped, strip, work};
use crate::ledger::store::Space;
use std::collections::BTreeMap;
use weighbridge_verifier::{Block, decode, encode};

const DEVICES: [&str; 2] = ["press-1", "robot-2"];
/// Blocks after the first, one record of each device in each.
const BLOCKS: u64 = 30;

/// The next block: a batch of each device that still sends, and now and then new settings.
fn next(ledger: &mut Ledger) {
    let height = ledger.tip().height + 1;
    let time = 1_000 * height as i64;
    let (mut drafts, mut documents) = (Vec::new(), Vec::new());
    // One of them falls silent early.
    let devices = DEVICES
        .into_iter()
        .filter(|d| *d == DEVICES[0] || height < 6);
    for device in devices {
        let sequence = ledger.state().device(device).sequence + 1;
        drafts.push(match height % 5 {
            0 => refuse_draft(SUITE, device, sequence, time),
            _ => store_draft(SUITE, device, sequence, time),
        });
    }
    if height % 8 == 3 {
        let (draft, put) = configure_draft("press-1", height / 8 + 1, time);
        drafts.push(draft);
        documents.push(put);
    }
    let mut puts = sealed_puts(SUITE, &drafts);
    puts.extend(documents);
    puts.extend(DEVICES.map(|device| wrap_put(CHAIN, device, &signer())));
    ledger.append(&drafts, puts, time).unwrap();
}

fn fresh(seed: u64) -> (FaultyDisk, Ledger) {
    let disk = FaultyDisk::new(seed);
    let mut ledger = open(&disk, 1).unwrap();
    (0..BLOCKS).for_each(|_| next(&mut ledger));
    (disk, ledger)
}

/// Plans, records and carries out a retirement; whether it came to its end.
pub(super) fn retire(ledger: &mut Ledger, (bodies, batches): (u64, u64)) -> bool {
    let store = ledger.store().clone();
    let time = ledger.tip().time + 10;
    let horizons = Horizons { bodies, batches };
    let now = (ledger.state(), ledger.tip().height);
    let Ok(Some(plan)) = plan(&*store, now, horizons, time) else {
        return false;
    };
    let act = plan.notice.recorded(CHAIN, "hub:hub-1", plan.snapshot);
    let (draft, puts) = act.into_parts();
    ledger.append(&[draft], puts, time).is_ok() && work::resume(&*store, &mut |_| true).is_ok()
}

pub(super) fn blocks(disk: &FaultyDisk) -> Vec<Block> {
    let all = disk.contents(Space::Blocks).into_iter();
    all.map(|(_, value)| decode("block", &value).unwrap())
        .collect()
}

fn named(report: &Report, what: &str) -> bool {
    report.findings.iter().any(|f| f.to_string().contains(what))
}

#[test]
fn headers_stay_and_the_chain_goes_on_from_the_state_that_is_kept() {
    let (disk, mut ledger) = fresh(1);
    let (_, mut twin) = fresh(2);
    let before = blocks(&disk);
    assert!(retire(&mut ledger, (10, 28)));
    let after = blocks(&disk);
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(
            (&old.header, &old.certificate),
            (&new.header, &new.certificate)
        );
        let gone = (2..=10).contains(&old.header.height);
        assert_eq!(is_stripped(new), gone, "{}", old.header.height);
        assert_eq!(new.records == old.records, !gone);
    }
    // What is in force and the newest batch of the device that is silent are still there.
    let retired = Retired::load(&disk.store()).unwrap();
    let notice = retired.newest().unwrap();
    let kept: Vec<_> = notice.kept.iter().map(|k| (&*k.owner, k.batch)).collect();
    assert!(kept.contains(&("robot-2", Some((1, 3)))), "{kept:?}");
    assert!(kept.contains(&("press-1", None)), "{kept:?}");
    assert_eq!(kept.len(), 2);
    assert!(!retired.is_pending());
    let report = verify(&disk);
    assert_eq!(report.findings, []);
    assert_eq!(report.retirement_count, 1);

    // The same state as of a hub that has everything, and the same after more blocks and a restart.
    let state = ledger.state().clone();
    drop(ledger);
    let mut ledger = open(&disk, 99_000).unwrap();
    assert_eq!(*ledger.state(), state);
    let times = (0..3).map(|_| next(&mut ledger));
    assert_eq!(times.count(), 3);
    (0..3).for_each(|_| next(&mut twin));
    let devices = |ledger: &Ledger| ledger.state().devices().clone();
    assert_eq!(devices(&ledger), devices(&twin));
    // Again, and further: what was kept and is superseded goes.
    assert!(retire(&mut ledger, (34, 34)));
    assert!(!retire(&mut ledger, (34, 34)), "there is nothing more");
    let report = verify(&disk);
    assert_eq!(report.findings, []);
    assert_eq!(report.retirement_count, 2);
    let sealed = disk.contents(Space::Sealed).len();
    let notice = Retired::load(&disk.store()).unwrap();
    let notice = notice.newest().unwrap();
    assert_eq!(notice.kept.len(), 2, "{:?}", notice.kept);
    assert_eq!(sealed, 3, "those, and the newest settings");
    assert!(retire(&mut ledger, (35, 35)));
    let why = "only the record of a retirement is left";
    assert!(!retire(&mut ledger, (36, 36)), "{why}");
    assert_eq!(verify(&disk).findings, []);
    let state = ledger.state().clone();
    drop(ledger);
    assert_eq!(*open(&disk, 99_000).unwrap().state(), state);
}

#[test]
fn a_power_loss_at_any_step_leaves_all_or_what_the_next_start_finishes() {
    for (bodies, batches) in [(10, 20), (25, 25), (0, 20)] {
        let (mut nothing, mut resumed) = (0, 0);
        for cut in 0.. {
            let (disk, mut ledger) = fresh(cut + 10);
            // An earlier one, so that something kept is released and a snapshot replaced.
            assert!(retire(&mut ledger, (4.min(bodies), 7)));
            let state = ledger.state().clone();
            disk.cut_power_in(cut);
            let done = retire(&mut ledger, (bodies, batches));
            drop(ledger);
            if done {
                assert!(cut > 5, "it took {cut} steps");
                break;
            }
            assert!(!disk.powered());
            disk.restart();
            let report = verify(&disk);
            let unlike: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
            let unlike = unlike.iter().filter(|f| !f.starts_with("head"));
            assert_eq!(unlike.count(), 0, "cut {cut}: {:?}", report.findings);
            // A second power loss, while it is finished.
            disk.cut_power_in(cut % 4);
            let _ = open(&disk, 99_000).map(|l| work::resume(&**l.store(), &mut |_| true));
            disk.restart();
            let ledger = open(&disk, 99_000).unwrap();
            let pending = Retired::load(&disk.store()).unwrap().is_pending();
            let finished = work::resume(&disk.store(), &mut |_| true).unwrap();
            assert_eq!(finished, pending);
            resumed += u64::from(finished);
            let report = verify(&disk);
            assert_eq!(report.findings, [], "cut {cut}");
            nothing += u64::from(report.retirement_count == 1);
            assert_eq!(ledger.state().devices(), state.devices());
            assert_eq!(ledger.state().documents(), state.documents());
            let gone = blocks(&disk).iter().filter(|b| is_stripped(b)).count() as u64;
            let wanted = if report.retirement_count == 1 {
                4.min(bodies)
            } else {
                bodies
            };
            assert_eq!(gone, wanted.saturating_sub(1), "cut {cut}");
        }
        assert!(nothing > 0 && resumed > 1, "{nothing} {resumed}");
    }
}

#[test]
fn what_is_lost_put_back_or_changed_is_named() {
    let (disk, mut ledger) = fresh(3);
    let space =
        |space| -> BTreeMap<Vec<u8>, Vec<u8>> { disk.contents(space).into_iter().collect() };
    let before: Vec<_> = Space::ALL.map(|s| (s, space(s))).to_vec();
    assert!(retire(&mut ledger, (10, 20)));
    // What went, put back one by one.
    let mut put_back = 0;
    for (of, old) in &before {
        let now = space(*of);
        for (key, value) in old {
            if now.get(key) == Some(value) {
                continue;
            }
            disk.tamper(*of, key, Some(value.clone()));
            let report = verify(&disk);
            assert!(!report.is_clean(), "{of} {key:?}");
            disk.tamper(*of, key, now.get(key).cloned());
            put_back += 1;
        }
    }
    assert!(put_back > 30, "{put_back}");
    assert!(verify(&disk).is_clean());
    // What stays, lost one by one; a body that went without a record.
    let body = |height: u64| height.to_be_bytes().to_vec();
    let whole = space(Space::Blocks)[&body(15)].clone();
    let stripped = encode(&strip(decode("block", &whole).unwrap()));
    disk.tamper(Space::Blocks, &body(15), Some(stripped));
    assert!(named(
        &verify(&disk),
        "block 15: its body is missing, and no record says"
    ));
    assert!(open(&disk, 99_000).is_err());
    disk.tamper(Space::Blocks, &body(15), Some(whole));
    for of in [Space::Sealed, Space::Retention] {
        for (key, value) in space(of) {
            if of == Space::Retention && key[0] == b'k' {
                continue;
            }
            disk.tamper(of, &key, None);
            assert!(!verify(&disk).is_clean(), "{of} {key:?}");
            for byte in [0, value.len() / 2, value.len() - 1] {
                let mut changed = value.clone();
                changed[byte] ^= 1;
                disk.tamper(of, &key, Some(changed));
                assert!(!verify(&disk).is_clean(), "{of} {key:?} {byte}");
            }
            disk.tamper(of, &key, Some(value));
        }
    }
    // A header in the part that has no bodies.
    let header = space(Space::Blocks)[&body(5)].clone();
    let mut changed = header.clone();
    changed[20] ^= 1;
    disk.tamper(Space::Blocks, &body(5), Some(changed));
    assert!(!verify(&disk).is_clean());
    disk.tamper(Space::Blocks, &body(5), Some(header));
    assert!(verify(&disk).is_clean());
    // A mark that does not belong to the newest notice.
    disk.tamper(Space::Retention, &pending_key(7), Some(Vec::new()));
    assert!(named(&verify(&disk), "nothing is kept under the key"));
    disk.tamper(Space::Retention, &pending_key(7), None);

    // Another state, with a notice of its own that fits it: no record names that, and it is not started from.
    let retired = Retired::load(&disk.store()).unwrap();
    let notice = retired.newest().unwrap();
    let mut other = notice.clone();
    other.devices.clear();
    let act = other.recorded(CHAIN, "hub:hub-1", None);
    for put in act.into_parts().1.iter().filter(|p| !p.value.is_empty()) {
        disk.tamper(put.space, &put.key, Some(put.value.clone()));
    }
    assert!(named(&verify(&disk), "no record names the newest notice"));
    let refused = open(&disk, 99_000).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("no record names"), "{refused}");
    let stored = encode(notice);
    assert_eq!(&Notice::from_bytes(&stored).unwrap(), notice);
    assert!(space(Space::Retention).contains_key(&snapshot_key(10)));
    let head = disk.head().read().unwrap();
    assert_eq!(Head::from_bytes(&head.heads[0]).unwrap().height, BLOCKS + 2);
}

//! What four hubs have to withstand: one that stops, two that stop, nothing to do.

use crate::ledger::Ledger;
use crate::site::{CHAIN, Site, validators};
use bytes::Bytes;
use std::sync::Arc;
use weighbridge_consensus::malachite::network_id;
use weighbridge_consensus::{Alarm, Certificate, EngineError, Faults};

fn payload(number: u64) -> Bytes {
    // Of more than one part.
    let mut bytes = vec![7; 200 << 10];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

/// All ledgers say the same, every certificate holds for whoever has only the keys, and everything that
/// was to be recorded is there, once.
fn check(site: &Site, payloads: u64) {
    let set = validators(0..site.hubs.len());
    let reference = site.hubs[0].ledger.decided();
    assert_eq!(
        reference.len() as u64,
        payloads,
        "values, none of them empty"
    );
    for hub in &site.hubs {
        let decided = hub.ledger.decided();
        let ids = |all: &[weighbridge_consensus::Decided]| -> Vec<_> {
            all.iter().map(|one| one.id).collect()
        };
        assert_eq!(ids(&decided), ids(&reference));
        for one in &decided {
            let bytes = one.certificate.to_bytes();
            let certificate = Certificate::from_bytes(&bytes).unwrap();
            certificate.verify(CHAIN, &set, site.faults).unwrap();
        }
        assert_eq!(hub.ledger.recorded().len() as u64, payloads);
        assert!(hub.ledger.evidence.borrow().is_empty());
        assert_eq!(*hub.ledger.alarms.borrow(), vec![]);
    }
}

#[test]
fn a_hub_is_known_on_the_network_by_its_key() {
    let site = Site::new(1, Faults::Byzantine);
    let known = network_id(&site.hubs[0].network_key()).unwrap();
    assert_eq!(site.hubs[0].chain().network_id(), known);
}

#[test]
fn four_hubs_agree_and_rest_when_there_is_nothing_to_record() {
    let site = Site::new(4, Faults::Byzantine);
    for number in 1..=5 {
        site.record(payload(number));
    }
    site.wait_tip(5);
    site.wait_parked();
    // Waking them with nothing to record begins no height.
    for hub in &site.hubs {
        hub.chain().wake();
    }
    let asked = |site: &Site| -> Vec<_> {
        site.hubs
            .iter()
            .map(|hub| *hub.ledger.asked.borrow())
            .collect()
    };
    let before = asked(&site);
    assert!(before.iter().flatten().all(|slot| slot.height <= 5));
    site.record(payload(6));
    site.wait_tip(6);
    check(&site, 6);
}

#[test]
fn one_of_four_stops_and_catches_up_when_it_is_back() {
    let mut site = Site::new(4, Faults::Byzantine);
    site.record(payload(1));
    site.wait_tip(1);
    site.stop(2);
    for number in 2..=6 {
        site.record(payload(number));
    }
    site.wait_tip(6);
    assert_eq!(site.hubs[2].ledger.decided().len(), 1);
    site.start(2);
    // It is behind, and hears so without anything being recorded.
    site.wait_tip(6);
    site.record(payload(7));
    site.wait_tip(7);
    check(&site, 7);
}

#[test]
fn two_of_four_decide_nothing_and_lose_nothing() {
    let mut site = Site::new(4, Faults::Byzantine);
    site.record(payload(1));
    site.wait_tip(1);
    site.stop(0);
    site.stop(3);
    site.record(payload(2));
    site.record(payload(3));
    // They try. That two decided nothing is also what every certificate says.
    for number in [1, 2] {
        site.wait_progress(number, |progress| progress.deciding == Some(2));
    }
    for number in [1, 2] {
        assert_eq!(site.hubs[number].ledger.decided().len(), 1);
    }
    site.start(0);
    site.start(3);
    site.wait_tip(3);
    check(&site, 3);
}

#[test]
fn all_four_stop_in_the_middle_and_go_on_from_their_logs() {
    let mut site = Site::new(4, Faults::Byzantine);
    for number in 1..=3 {
        site.record(payload(number));
    }
    site.wait_progress(0, |progress| progress.tip >= 1);
    for number in 0..4 {
        site.stop(number);
    }
    for number in 0..4 {
        site.start(number);
    }
    site.wait_tip(3);
    check(&site, 3);
}

#[test]
fn three_hubs_that_only_stop_go_on_with_two() {
    let mut site = Site::new(3, Faults::Crash);
    site.record(payload(1));
    site.wait_tip(1);
    site.stop(1);
    site.record(payload(2));
    site.wait_tip(2);
    site.start(1);
    site.wait_tip(2);
    check(&site, 2);
}

#[test]
fn one_hub_decides_alone() {
    let mut site = Site::new(1, Faults::Byzantine);
    site.record(payload(1));
    site.wait_tip(1);
    site.stop(0);
    site.record(payload(2));
    site.start(0);
    site.wait_tip(2);
    check(&site, 2);
}

#[test]
fn a_standby_follows_and_takes_the_place_of_another() {
    let site = Site::of(5, 4, Faults::Byzantine);
    site.record(payload(1));
    site.wait_tip(1);
    let after = validators(1..5);
    for hub in &site.hubs {
        hub.ledger.set_validators(after.clone());
    }
    // The set that decides this one was said before; the one after it is decided by the new set.
    for number in 2..=4 {
        site.record(payload(number));
        site.wait_tip(number);
    }
    let before = validators(0..4);
    for hub in &site.hubs {
        let decided = hub.ledger.decided();
        let certificate = |height: usize| &decided[height - 1].certificate;
        for (height, set) in [(2, &before), (3, &after), (4, &after)] {
            let held = certificate(height).verify(CHAIN, set, Faults::Byzantine);
            held.unwrap();
        }
    }
    let newcomer = validators([4]).as_slice()[0].key;
    let signed = |hub: &crate::site::Hub| {
        let decided = hub.ledger.decided();
        let mut late = decided
            .iter()
            .skip(2)
            .flat_map(|one| &one.certificate.signatures);
        late.any(|(key, _)| *key == newcomer)
    };
    assert!(site.hubs.iter().any(signed));
}

#[test]
fn a_store_that_is_behind_the_log_is_refused() {
    let mut site = Site::new(1, Faults::Byzantine);
    for number in 1..=3 {
        site.record(payload(number));
        site.wait_tip(number);
    }
    site.stop(0);
    let empty = Ledger::new(Arc::default(), validators([0]));
    site.hubs[0].ledger = Arc::new(empty);
    let refused = site.hubs[0].try_open(Faults::Byzantine).err();
    assert!(matches!(
        refused,
        Some(EngineError::StoreBehind { tip: 0, log: 3 })
    ));
}

#[test]
fn a_majority_does_not_decide_among_four() {
    let mut site = Site::new(4, Faults::Byzantine);
    site.stop(0);
    let refused = site.hubs[0].try_open(Faults::Crash).err();
    assert!(matches!(refused, Some(EngineError::Setup(_))));
}

#[test]
fn a_damaged_log_makes_the_hub_hold_still_and_say_so() {
    let mut site = Site::new(4, Faults::Byzantine);
    site.record(payload(1));
    site.wait_tip(1);
    site.stop(2);
    site.stop(3);
    site.record(payload(2));
    // Two of four: they vote, and nothing comes of it. A vote is in the log before it leaves.
    let log = site.hubs[0].log();
    site.wait_progress(0, |progress| progress.deciding == Some(2));
    site.poll(|| std::fs::metadata(&log).unwrap().len() > 100);
    site.stop(0);
    let mut bytes = std::fs::read(&log).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let alarms = site.hubs[0].ledger.alarms.subscribe();
    site.start(0);
    site.wait(alarms, |alarms| {
        alarms
            .iter()
            .any(|alarm| matches!(alarm, Alarm::LogDamaged(_)))
    });
    site.wait_progress(0, |progress| progress.halted.is_some());
    assert_eq!(site.hubs[0].ledger.decided().len(), 1);
    site.stop(0);
    // The others go on with three.
    site.start(2);
    site.start(3);
    for number in 1..4 {
        site.wait_progress(number, |progress| progress.tip >= 2);
    }
}

#[test]
fn a_hub_that_is_named_anew_is_heard_by_all_and_hears_all() {
    // Both have to vote.
    let site = Site::new(2, Faults::Byzantine);
    for number in 1..=20 {
        // Whoever is taken out is disconnected, and may not have noticed when the next connection is there.
        let (hub, peer) = (&site.hubs[0], &site.peers[1]);
        hub.chain().remove_peer(peer).unwrap();
        hub.chain().add_peer(peer).unwrap();
        site.record(payload(number));
        site.wait_tip(number);
    }
    check(&site, 20);
}

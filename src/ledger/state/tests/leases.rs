//! Who reads a device, and whose late batches still come.

use super::hubs::{begun, hub, say, set_of};
use super::*;
use weighbridge_verifier::LeaseContent;

fn grant(device: &str, epoch: u64, to: &str) -> Draft {
    let lease = LeaseContent {
        device: device.to_owned(),
        epoch,
        hub: to.to_owned(),
    };
    Draft {
        action: Action::Grant,
        object: format!("device:{device}"),
        content: Content::Lease(lease),
        ..store_draft(SUITE, device, 1, 10)
    }
}

fn batch(epoch: u64, sequence: u64) -> Draft {
    Draft::store(10, batch_content(SUITE, "press-1", epoch, sequence))
}

/// What is said in turn, by which hub, and whether it may stand.
fn story(state: &mut State, lines: &[(u8, Draft, bool)]) {
    for (at, (by, draft, stands)) in lines.iter().enumerate() {
        let said = say(state, &hub(*by), draft);
        assert_eq!(said.is_ok(), *stands, "line {at}: {said:?}");
    }
}

#[test]
fn a_batch_comes_from_the_hub_that_has_the_lease() {
    let mut state = set_of(3);
    story(
        &mut state,
        &[
            // Nobody has a lease: as in a chain of one hub.
            (1, batch(1, 1), true),
            (2, batch(1, 2), true),
            (1, grant("press-1", 1, "hub-1"), false),
            (1, grant("press-1", 2, "hub-9"), false),
            (1, grant("press-1", 2, "hub-1"), true),
            // From here on it counts.
            (1, batch(1, 3), false),
            (2, batch(2, 1), false),
            (1, batch(2, 2), false),
            (1, batch(2, 1), true),
            (1, batch(2, 2), true),
            (1, batch(3, 1), false),
            // Another hub reads; the first one's late batches still come, in order.
            (2, grant("press-1", 2, "hub-2"), false),
            (3, grant("press-1", 5, "hub-2"), true),
            (2, batch(5, 1), true),
            (1, batch(5, 2), false),
            (1, batch(2, 4), false),
            (1, batch(2, 3), true),
            (2, batch(2, 4), false),
            (2, batch(5, 2), true),
            (1, batch(2, 4), true),
            // The same hub again, under another epoch.
            (1, grant("press-1", 6, "hub-1"), true),
            (2, batch(5, 3), true),
            (1, batch(6, 1), true),
            (1, batch(2, 5), true),
        ],
    );
    let tip = |epoch, sequence| DeviceTip { epoch, sequence };
    assert_eq!(state.device("press-1"), tip(6, 1));
    assert_eq!(state.newest_epoch("press-1"), 6);
    let leases = state.leases("press-1");
    let stand: Vec<_> = leases
        .iter()
        .map(|l| (l.epoch, &*l.hub, l.sequence))
        .collect();
    assert_eq!(stand, [(2, "hub-1", 5), (5, "hub-2", 3), (6, "hub-1", 1)]);
    assert_eq!(state.holder("press-1").unwrap().hub, "hub-1");
    // Other devices have nothing to do with it.
    story(
        &mut state,
        &[(3, store_draft(SUITE, "robot-2", 1, 10), true)],
    );
}

#[test]
fn only_the_newest_leases_are_remembered() {
    let mut state = set_of(2);
    for epoch in 1..=MAX_LEASES as u64 + 1 {
        let to = ["hub-1", "hub-2"][epoch as usize % 2];
        story(&mut state, &[(1, grant("press-1", epoch, to), true)]);
    }
    assert_eq!(state.leases("press-1").len(), MAX_LEASES);
    story(
        &mut state,
        &[(2, batch(1, 1), false), (1, batch(2, 1), true)],
    );
}

#[test]
fn leases_are_part_of_the_state() {
    let mut state = begun();
    let before = state.to_image();
    story(&mut state, &[(1, grant("press-1", 1, "hub-1"), true)]);
    let mut other = begun();
    story(&mut other, &[(1, grant("press-1", 2, "hub-1"), true)]);
    assert_ne!(state.hash(), other.hash());
    assert_ne!(state.to_image(), before);
    assert_eq!(State::of_image(SUITE, &state.to_image()).unwrap(), state);
}

#[test]
fn a_dismissed_hub_has_nothing_more_to_say() {
    let mut state = set_of(2);
    story(
        &mut state,
        &[
            (2, grant("press-1", 1, "hub-2"), true),
            (2, batch(1, 1), true),
        ],
    );
    let out = super::hubs::dismissal(&hub(2));
    story(
        &mut state,
        &[
            (1, out.clone(), true),
            (2, out, true),
            (2, batch(1, 2), false),
            (1, batch(1, 2), false),
            (1, grant("press-1", 2, "hub-1"), true),
            (1, batch(2, 1), true),
        ],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever hubs grant and record: of each epoch the batches are one hub's, from 1 on without a gap, and the
    /// device stands at the newest epoch that has any.
    #[test]
    fn of_every_epoch_the_batches_are_one_hubs_without_a_gap(
        lines in proptest::collection::vec((1u8..4, 1u64..5, 0u64..5, 1u8..4), 1..80)
    ) {
        let mut state = set_of(3);
        let mut recorded: BTreeMap<u64, (u8, u64)> = BTreeMap::new();
        for (by, epoch, sequence, to) in lines {
            if sequence == 0 {
                let newest = state.newest_epoch("press-1");
                let said = say(&mut state, &hub(by), &grant("press-1", epoch, &format!("hub-{to}")));
                prop_assert_eq!(said.is_ok(), epoch > newest);
                continue;
            }
            if state.leases("press-1").is_empty() {
                continue;
            }
            let said = say(&mut state, &hub(by), &batch(epoch, sequence));
            let before = recorded.get(&epoch).copied();
            if said.is_ok() {
                prop_assert!(before.is_none_or(|(of, _)| of == by));
                prop_assert_eq!(sequence, before.map_or(1, |(_, last)| last + 1));
                recorded.insert(epoch, (by, sequence));
            }
            let newest = recorded.last_key_value();
            let tip = newest.map_or((0, 0), |(epoch, (_, last))| (*epoch, *last));
            let stands = state.device("press-1");
            prop_assert_eq!((stands.epoch, stands.sequence), tip);
        }
    }
}

//! What is changed in what a hub of several keeps beside its chain is found.

use super::hub::act;
use super::world::World;
use crate::ledger::report::Where;
use crate::ledger::store::Space;
use weighbridge_verifier::Faults;

/// Two hubs: the first has open records, the second lacks bytes that a block names.
fn world() -> World {
    let mut world = World::new(3, 2, Faults::Byzantine);
    let mut made = 0;
    while made < 6 {
        world.now += 1_000;
        let now = world.now;
        world.hubs[0].append(&mut world.draws, now);
        made += 1;
    }
    world.ask(0, 1, usize::MAX);
    world.arrive_all();
    world.quiet = true;
    assert!(world.round_by(0));
    // Before it heard of the decision its memory is gone.
    world.hubs[1].crash();
    world.restart(1);
    while world.hubs[1].ledger().tip().height < world.height() {
        world.decide(1);
    }
    world.decide(0);
    let now = world.now;
    world.hubs[0].append(&mut world.draws, now);
    world.hubs[0].write(&[act(now, "device:press-1")], Vec::new(), now);
    world
}

#[test]
fn what_is_open_and_what_is_missing_is_said_and_is_no_damage() {
    let world = world();
    let (first, second) = (world.hubs[0].verify(), world.hubs[1].verify());
    assert_eq!(first.findings, []);
    assert!(first.open >= 2 && first.lacking == 0, "{}", first.open);
    assert_eq!(second.findings, []);
    assert!(second.open == 0 && second.lacking > 0);
    // Where it is not known to be missing, it is lost.
    let lacking = world.hubs[1].disk.contents(Space::Missing);
    let (key, value) = &lacking[0];
    world.hubs[1].disk.tamper(Space::Missing, key, None);
    assert!(!world.hubs[1].verify().is_clean());
    world.hubs[1]
        .disk
        .tamper(Space::Missing, key, Some(Vec::new()));
    assert!(!world.hubs[1].verify().is_clean());
    world.hubs[1]
        .disk
        .tamper(Space::Missing, key, Some(value.clone()));
    assert!(world.hubs[1].verify().is_clean());
}

#[test]
fn flipped_bits_of_open_and_missing_are_found_and_named() {
    let world = world();
    for (hub, space) in [(0, Space::Own), (1, Space::Missing)] {
        let hub = &world.hubs[hub];
        let (_, newest, _) = hub.ledger().own_open();
        for (key, value) in hub.disk.contents(space) {
            // Entries of records that blocks have say nothing any more.
            let number = crate::ledger::keys::height_of(&key);
            if space == Space::Own && number.is_none_or(|number| number + 1 < newest) {
                continue;
            }
            for bit in (0..value.len() * 8).step_by(11) {
                let mut changed = value.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                hub.disk.tamper(space, &key, Some(changed));
                let found = hub.verify().findings;
                let named = found.iter().any(|f| match &f.place {
                    Where::Own { sequence } => Some(*sequence) == number,
                    Where::Missing { .. } => space == Space::Missing,
                    _ => false,
                });
                assert!(named, "bit {bit} of {space}: {found:?}");
            }
            hub.disk.tamper(space, &key, Some(value));
        }
        assert!(hub.verify().is_clean());
    }
}

#[test]
fn an_open_record_that_is_lost_is_noticed() {
    let mut world = world();
    let (first, newest, _) = world.hubs[0].ledger().own_open();
    assert!(newest > first);
    world.hubs[0].crash();
    let disk = world.hubs[0].disk.clone();
    disk.tamper(Space::Own, &first.to_be_bytes(), None);
    assert!(!world.hubs[0].verify().is_clean());
    let refused = world.hubs[0].open(world.now);
    assert!(refused.is_err());
}

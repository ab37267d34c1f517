//! What becomes of open records when another hub's record comes between; and of bytes that come from elsewhere.

use super::hub::act;
use super::world::World;
use super::{CHAIN, SUITE};
use crate::ledger::key_wrap::KeyWrap;
use crate::ledger::store::{Put, Space};
use crate::ledger::testing::{batch_content, sealed_puts};
use crate::ledger::{Draft, LedgerError};
use weighbridge_verifier::{Action, Content, Faults, Response, SealedRef};

/// A batch of a device that anybody reads, sealed by `hub`.
fn batch(hub: usize, sequence: u64, now: i64) -> (Draft, Vec<Put>) {
    let value = format!("sealed by {hub}: {sequence}").into_bytes();
    let hash = SUITE.hash(&[&value]);
    let mut content = batch_content(SUITE, "robot-2", 1, sequence);
    content.sealed = Some(SealedRef {
        hash,
        length: value.len() as u64,
        key_epoch: hub as u64,
    });
    let (space, key) = (Space::Sealed, hash.0.to_vec());
    let put = Put { space, key, value };
    (Draft::store(now, content), vec![put])
}

fn wrap(world: &World, hub: usize, device: &str, epoch: u64, byte: u8) -> Put {
    let signer = &*world.hubs[hub].signer;
    let wrapped = (vec![4; 65], vec![byte; 48]);
    let wrap = KeyWrap::sign(CHAIN, device, epoch, "hub-1", wrapped, signer);
    Put {
        space: Space::Keys,
        key: wrap.key(),
        value: wrap.to_bytes(),
    }
}

#[test]
fn what_cannot_stand_is_said_and_the_rest_is_signed_anew() {
    let mut world = World::new(11, 2, Faults::Byzantine);
    let now = world.now;
    // The second hub recorded something before, two batches and something after them, and hears of the first's batch
    // when that is in a block.
    let (theirs, mut puts) = batch(1, 1, now);
    puts.push(wrap(&world, 0, "robot-2", 1, 7));
    world.hubs[0].write(&[theirs], puts, now);
    let before = act(now, "device:before");
    let (first, mut puts) = batch(2, 1, now);
    let (second, more) = batch(2, 2, now);
    puts.extend(more);
    puts.push(wrap(&world, 1, "robot-2", 2, 7));
    let after = act(now, "device:after");
    let drafts = [before, first.clone(), second.clone(), after];
    world.hubs[1].write(&drafts, puts.clone(), now);
    let (number, newest, generation) = world.hubs[1].ledger().own_open();
    assert_eq!(newest, number + 3);
    let signed = world.hubs[1].ledger().own_run(0, usize::MAX).unwrap();

    world.ask(0, 1, usize::MAX);
    world.arrive_all();
    assert!(world.round_by(0));
    world.decide(1);
    let hub = &mut world.hubs[1];
    assert_eq!(hub.ledger().own_open(), (number, newest, generation + 1));
    let anew = hub.ledger().own_run(0, usize::MAX).unwrap();
    // What came before stands as it was; the first batch cannot, the second one follows the other hub's.
    assert_eq!(anew[0], signed[0]);
    let left_out: Vec<u64> = hub.left_out.keys().copied().collect();
    assert_eq!(left_out, [number + 1]);
    let refusal = &anew[1].record.body;
    let hash = signed[1].record.body.hash();
    assert_eq!(refusal.content, Content::Commitment(hash));
    assert_eq!(
        (refusal.action, refusal.response, &refusal.object),
        (Action::Refuse, Response::Refused, &first.object)
    );
    assert_eq!(anew[2].record.body.content, second.content);
    assert_ne!(anew[2].record.signature, signed[2].record.signature);
    assert!(anew[2].puts.iter().any(|put| put.space == Space::Keys));
    assert_eq!(anew[3].record.body.previous, anew[2].record.body.hash());
    let times: Vec<i64> = anew.iter().map(|c| c.record.body.time).collect();
    assert_eq!(times, [now; 4]);
    // Its bytes are gone, the others' are not.
    let sealed = hub.disk.contents(Space::Sealed);
    let there = |put: &Put| sealed.iter().any(|(key, _)| *key == put.key);
    assert!(!there(&puts[0]) && there(&puts[1]));
    assert_eq!(hub.verify().findings, []);
    // So it is after a start.
    let before = hub.ledger().state().hash();
    hub.crash();
    hub.open(now + 9).unwrap();
    assert_eq!(hub.ledger().own_run(0, usize::MAX).unwrap(), anew);
    assert_eq!(hub.ledger().state().hash(), before);
    world.settle();
    world.check_all_recorded();
    world.verify();
}

/// What was decided before the others had heard that it was signed anew is that record all the same.
#[test]
fn the_version_from_before_counts_where_it_is_decided() {
    let mut world = World::new(12, 2, Faults::Byzantine);
    let now = world.now;
    let drafts = [act(now, "device:a"), act(now, "device:b")];
    world.hubs[0].write(&drafts, Vec::new(), now);
    let run = world.hubs[0].ledger().own_run(0, usize::MAX).unwrap();
    world.hubs[1].ledger_mut().receive("hub-1", run).unwrap();
    // The first hub loses what it had not handed out otherwise, and records the same anew: other signatures.
    world.hubs[0].crash();
    let disk = world.hubs[0].disk.clone();
    for (key, _) in disk.contents(Space::Own) {
        disk.tamper(Space::Own, &key, None);
    }
    world.hubs[0].open(now + 5).unwrap();
    world.hubs[0].acknowledged.clear();
    let later = [act(now + 5, "device:a"), act(now + 5, "device:b")];
    world.hubs[0].write(&later, Vec::new(), now + 5);
    let height = world.height() + 1;
    let (hash, bytes) = world.hubs[1].ledger_mut().propose(height, now + 9).unwrap();
    let said = world.hubs[0].ledger().check(height, &bytes, now + 9);
    assert!(matches!(said, crate::ledger::shared::Checked::Valid(of) if of == hash));
    world.now += 9;
    assert!(world.round_by(1));
    world.decide(0);
    let (first, newest, _) = world.hubs[0].ledger().own_open();
    assert_eq!(first, newest + 1);
    world.settle();
    world.check_all_recorded();
    world.verify();
}

#[test]
fn a_slot_that_is_filled_or_was_destroyed_is_never_written_from_outside() {
    let mut world = World::new(13, 2, Faults::Byzantine);
    let now = world.now;
    let slots = [
        wrap(&world, 1, "robot-2", 2, 7),
        wrap(&world, 1, "own-2", 2, 7),
    ];
    let mine = [b"here".to_vec(), Vec::new()];
    for (slot, mine) in slots.iter().zip(&mine) {
        let disk = &world.hubs[0].disk;
        disk.tamper(Space::Keys, &slot.key, Some(mine.clone()));
    }
    let (draft, mut puts) = batch(2, 1, now);
    puts.extend(slots.clone());
    let mut own = batch_content(SUITE, "own-2", 1, 1);
    own.sealed = own.sealed.map(|s| SealedRef { key_epoch: 2, ..s });
    let own = Draft::store(now, own);
    puts.extend(
        sealed_puts(SUITE, std::slice::from_ref(&own))
            .into_iter()
            .filter(|put| put.space == Space::Sealed),
    );
    world.hubs[1].write(&[draft, own], puts, now);
    let run = world.hubs[1].ledger().own_run(0, usize::MAX).unwrap();
    world.quiet = true;
    let kept = |world: &World| {
        slots.each_ref().map(|slot| {
            let keys = world.hubs[0].disk.contents(Space::Keys);
            keys.into_iter()
                .find(|(key, _)| *key == slot.key)
                .unwrap()
                .1
        })
    };
    let hub = world.hubs[0].ledger_mut();
    hub.receive("hub-2", run).unwrap();
    assert!(world.round_by(1));
    // One hub has it in its pool, another life of it had not.
    world.hubs[0].crash();
    world.restart(0);
    world.decide(0);
    let wants = world.hubs[0].ledger().missing(9).unwrap();
    assert_eq!(wants.len(), 2);
    for want in &wants {
        world.decide(1);
        let lent = world.hubs[1].ledger().lend(want).unwrap();
        assert!(lent.len() >= 2);
        // Bytes that are not those.
        let mut other = lent.clone();
        other[0].value.push(0);
        let hub = world.hubs[0].ledger_mut();
        assert!(matches!(hub.bring(other), Ok(0)));
        assert!(matches!(hub.bring(lent.clone()), Ok(1)));
        let again: Result<usize, LedgerError> = hub.bring(lent);
        assert!(matches!(again, Ok(0)));
    }
    assert_eq!(world.hubs[0].ledger().missing(9).unwrap(), []);
    assert_eq!(kept(&world), mine);
}

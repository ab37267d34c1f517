//! Whoever was granted it opens what is recorded with a key of their own, and nobody else does.

use crate::machines::{EPOCH, MS, Scripted, tag};
use crate::site::{self, Site};
use std::sync::Arc;
use std::time::Instant;
use weighbridge::access::{Caller, Change, Mode, Pattern, ReadGrant, Role, Side};
use weighbridge::actors::access::By;
use weighbridge::api::{EraseRequest, ReadersFault, ReleaseRequest, SealedRequest};
use weighbridge::crypto::SealingKey;
use weighbridge::hub::{Hub, HubError};
use weighbridge::ledger::head::HeadSlot;
use weighbridge::ledger::key_wrap::{read_wrap_key, reader_recipient};
use weighbridge::ledger::opening::Opener;
use weighbridge::ledger::reading::{ReadingError, Release, SealedBundle};
use weighbridge::ledger::report::Report;
use weighbridge::ledger::store::{Space, Store};
use weighbridge::ledger::verify::verify_store;
use weighbridge::model::{Nanos, ValueKind, now};
use weighbridge_verifier::evidence::Trust;
use weighbridge_verifier::{Action, Response, Suite};

const PRESS: &str = "press-1";
const ANNA: &str = "user:anna";
const ALL: (Nanos, Nanos) = (Nanos::MIN, Nanos::MAX);

/// A site with a press, and Anna, who has a key.
struct Plant {
    site: Site,
    press: Scripted,
    key: SealingKey,
    suite: Suite,
}

impl Plant {
    fn new(suite: Suite, seed: u64) -> Self {
        Self {
            site: Site::of(suite, seed),
            press: Scripted::new(PRESS, [tag("force", ValueKind::F64)]),
            key: SealingKey::generate_of(suite),
            suite,
        }
    }

    fn start(&self) -> Hub {
        self.site.hub().device(self.press.setup(2)).start().unwrap()
    }

    /// Anna is let in, with her key, by Zoe, who may.
    fn enter(&self, hub: &Hub) -> (Caller, Caller) {
        let zoe = site::enter(hub, "zoe", &[Role::SecurityAdmin]);
        let anna = site::enter(hub, "anna", &[]);
        let key = self.key.public().compressed();
        change(hub, &zoe, Change::ReaderKey(ANNA.into(), Some(key)));
        (anna, zoe)
    }

    /// Two batches of the press, from this time on, of these forces.
    fn record(&self, hub: &Hub, from: Nanos, first: f64) {
        let before = hub.stats().batches();
        for scan in 0..4 {
            self.press.scan(from + scan * MS, [first + scan as f64]);
        }
        site::batches(hub, before + 2);
    }

    /// To whom the keys of the press are wrapped besides the hub: epoch, name, and whether it is there still.
    fn wraps(&self) -> Vec<(u64, String, bool)> {
        let store = self.site.disk.store();
        let all = store.scan(Space::Keys, &[]).map(Result::unwrap);
        let all = all.filter_map(|(key, value)| {
            let (device, epoch, name) = read_wrap_key(&key).unwrap();
            let of_reader = device == PRESS && name.contains(':');
            of_reader.then_some((epoch, name, !value.is_empty()))
        });
        all.collect()
    }

    /// Epochs of the press whose keys are wrapped to Anna.
    fn epochs(&self) -> Vec<u64> {
        let name = reader_recipient(ANNA, &self.key.public().compressed());
        let of_anna = self.wraps().into_iter();
        of_anna
            .filter(|(_, of, live)| *of == name && *live)
            .map(|(epoch, ..)| epoch)
            .collect()
    }

    fn report(&self) -> Report {
        let head = self.site.disk.head().read().unwrap();
        verify_store(&self.site.disk.store(), &head, None, &mut |_| {}).unwrap()
    }

    fn forces(&self, bundle: &SealedBundle) -> Vec<f64> {
        let trusted = [weighbridge::crypto::Signer::public_key(
            &self.site.identity(),
        )];
        let read = bundle.open(&self.key, &trusted).unwrap();
        assert_eq!((read.trust, &*read.device), (Trust::Key, PRESS));
        let samples = read
            .batches
            .iter()
            .flat_map(|b| b.samples("force").unwrap());
        samples
            .map(|s| s.value.to_string().parse().unwrap())
            .collect()
    }
}

fn change(hub: &Hub, by: &Caller, change: Change) {
    let changing = hub.access().change(By::User(by), vec![change]);
    site::wait(hub, "a change of access", changing).unwrap();
    site::wait(hub, "the wraps", hub.readers().settle()).unwrap();
}

fn grant(from: Option<Nanos>, until: Option<Nanos>) -> Change {
    let devices = Pattern::new("device:press-*").unwrap();
    Change::Grant(
        ANNA.into(),
        ReadGrant {
            devices,
            from,
            until,
        },
    )
}

fn end_grant() -> Change {
    Change::EndGrant(ANNA.into(), Pattern::new("device:press-*").unwrap())
}

/// Lets Anna in anew, as her next request at a face does.
fn admit(hub: &Hub) {
    use weighbridge::protocols::ports::AccessPort;
    site::wait(hub, "Anna is let in", hub.access().admit("anna", "test")).unwrap();
}

fn sealed(hub: &Hub, who: &Caller, range: (Nanos, Nanos)) -> Result<SealedBundle, ReadersFault> {
    let request = SealedRequest {
        device: PRESS.into(),
        range,
        after: None,
    };
    site::wait(hub, "a bundle", hub.readers().sealed(who, request))
}

fn both(test: fn(Suite)) {
    Suite::ALL.into_iter().for_each(test);
}

#[test]
fn a_grant_opens_what_was_and_what_comes_and_its_end_closes_both_at_once() {
    both(|suite| {
        let plant = Plant::new(suite, 130);
        let hub = plant.start();
        plant.record(&hub, EPOCH, 10.0);
        let (anna, zoe) = plant.enter(&hub);
        assert_eq!(plant.epochs(), [] as [u64; 0]);
        let refused = sealed(&hub, &anna, ALL).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "anna may not take what is recorded of press-1 away"
        );

        change(&hub, &zoe, grant(None, None));
        admit(&hub);
        assert_eq!(plant.epochs(), [1]);
        plant.record(&hub, EPOCH + 100 * MS, 20.0);
        assert_eq!(plant.epochs(), [1, 2], "a new key is for her, too");
        let bundle = sealed(&hub, &anna, ALL).unwrap();
        let bytes = bundle.to_bytes();
        assert_eq!(SealedBundle::from_bytes(&bytes).unwrap(), bundle);
        let all = [10.0, 11.0, 12.0, 13.0, 20.0, 21.0, 22.0, 23.0];
        assert_eq!(plant.forces(&bundle), all);

        // The end of it: no batch is lost, no key is left, and the next batch is under a key of its own.
        change(&hub, &zoe, end_grant());
        assert_eq!(plant.epochs(), [] as [u64; 0]);
        assert_eq!(plant.wraps().len(), 2, "overwritten where they lay");
        plant.record(&hub, EPOCH + 200 * MS, 30.0);
        assert!(sealed(&hub, &anna, ALL).is_err());
        hub.shutdown().unwrap();

        let recorded = plant.site.recorded();
        recorded.is_gapless();
        let epochs = recorded.batches.iter();
        let epochs: Vec<_> = epochs
            .map(|b| b.content.sealed.unwrap().key_epoch)
            .collect();
        assert_eq!(epochs, [1, 1, 2, 2, 3, 3]);
        // Her key opens nothing of the store now, and what she took away it still does.
        let name = reader_recipient(ANNA, &plant.key.public().compressed());
        let store: Arc<dyn Store> = Arc::new(plant.site.disk.store());
        let key = SealingKey::generate_of(suite);
        let opener = Opener::new(store, Arc::new(key), &name);
        for batch in &recorded.batches {
            let sealed = batch.content.sealed.unwrap();
            assert!(opener.open_batch(PRESS, &sealed).is_err());
        }
        assert_eq!(plant.forces(&bundle), all);
        let kinds = |response: Response| {
            let acts = recorded.acts.iter().filter(|a| a.kind == "sealed-read");
            acts.filter(|a| a.response == response).count()
        };
        assert_eq!(
            (kinds(Response::Accepted), kinds(Response::Refused)),
            (1, 2)
        );
        let told = recorded.access.iter();
        let told = told.filter(|a| a.object == "access:reader/user:anna");
        let told: Vec<_> = told.map(|a| (a.action, &*a.subject)).collect();
        assert_eq!(
            told,
            [
                (Action::Grant, "user:zoe"),
                (Action::Grant, "user:zoe"),
                (Action::Revoke, "user:zoe")
            ]
        );
        let report = plant.report();
        assert_eq!(report.findings, []);
        let [reader] = &report.recipients[..] else {
            panic!("{:?}", report.recipients)
        };
        assert_eq!((&*reader.name, reader.wraps, reader.removed), (ANNA, 0, 2));
    });
}

#[test]
fn a_grant_is_of_a_span_of_source_times() {
    let plant = Plant::new(Suite::Nist, 131);
    let hub = plant.start();
    const DAY: Nanos = 24 * 3_600_000_000_000;
    for day in 0..4 {
        plant.record(&hub, EPOCH + day * DAY, 10.0 * day as f64);
    }
    let (anna, zoe) = plant.enter(&hub);
    let span = grant(Some(EPOCH + DAY), Some(EPOCH + 2 * DAY));
    change(&hub, &zoe, span);
    admit(&hub);
    assert_eq!(plant.epochs(), [2], "a key is of one day");
    let bundle = sealed(&hub, &anna, ALL).unwrap();
    assert_eq!(plant.forces(&bundle), [10.0, 11.0, 12.0, 13.0]);
    let other = (EPOCH + 3 * DAY, EPOCH + 4 * DAY);
    let nothing = sealed(&hub, &anna, other).unwrap();
    assert_eq!(plant.forces(&nothing), [] as [f64; 0]);
    plant.record(&hub, EPOCH + 5 * DAY, 50.0);
    assert_eq!(plant.epochs(), [2], "a key of another day is not hers");

    // What comes from now on is another span.
    change(&hub, &zoe, grant(Some(EPOCH + 4 * DAY), None));
    assert_eq!(plant.epochs(), [2, 5]);
    plant.record(&hub, EPOCH + 5 * DAY + MS * 10, 60.0);
    assert_eq!(plant.epochs(), [2, 5, 6]);
    hub.shutdown().unwrap();
    assert_eq!(plant.report().findings, []);
}

#[test]
fn whoever_is_put_out_or_gets_another_key_loses_the_wraps_and_comes_again() {
    let plant = Plant::new(Suite::Nist, 132);
    let hub = plant.start();
    plant.record(&hub, EPOCH, 1.0);
    let (_, zoe) = plant.enter(&hub);
    change(&hub, &zoe, grant(None, None));
    assert_eq!(plant.epochs(), [1]);
    let black = |on| Change::Black(Side::Extranet, ANNA.into(), on);
    change(&hub, &zoe, black(true));
    assert_eq!(plant.epochs(), [] as [u64; 0]);
    plant.record(&hub, EPOCH + 10 * MS, 2.0);
    change(&hub, &zoe, black(false));
    assert_eq!(plant.epochs(), [1, 3]);
    let other = SealingKey::generate().public().compressed();
    change(&hub, &zoe, Change::ReaderKey(ANNA.into(), Some(other)));
    assert_eq!(plant.epochs(), [] as [u64; 0]);
    let live = plant.wraps().into_iter().filter(|(_, _, live)| *live);
    assert_eq!(live.count(), 2, "to the other key");
    hub.shutdown().unwrap();

    // What an end of the hub interrupted is finished at its start.
    let hub = plant.start();
    site::wait(&hub, "the wraps", hub.readers().settle()).unwrap();
    change(&hub, &zoe, Change::Revoke(ANNA.into()));
    assert_eq!(plant.wraps().into_iter().filter(|w| w.2).count(), 0);
    hub.shutdown().unwrap();
    let report = plant.report();
    assert_eq!(report.findings, []);
}

#[test]
fn pages_and_releases_go_on_when_the_hub_signs_by_another_key() {
    both(|suite| {
        let plant = Plant::new(suite, 139);
        let first = weighbridge::crypto::Signer::public_key(&plant.site.identity());
        let hub = plant.start();
        plant.record(&hub, EPOCH, 1.0);
        let (_, zoe) = plant.enter(&hub);
        change(&hub, &zoe, grant(None, None));
        let operator = [Role::Operator.name().to_owned()].into();
        change(&hub, &zoe, Change::Assign(ANNA.into(), operator));
        let anna = site::enter(&hub, "anna", &[Role::Operator]);
        let before = sealed(&hub, &anna, ALL).unwrap();
        let handed_out = release(&hub, &anna, request(&[], true)).unwrap();
        for round in 1..=2 {
            let rotated = hub.keys().rotate_hub_for(&zoe);
            site::wait(&hub, "another key", rotated).unwrap();
            // Under the keys before and after, and under wraps that are made by the newest alone.
            plant.record(&hub, EPOCH + round * 10 * MS, 9.0);
            change(&hub, &zoe, end_grant());
            change(&hub, &zoe, grant(None, None));
            let page = sealed(&hub, &anna, ALL).unwrap();
            let again = SealedBundle::from_bytes(&page.to_bytes()).unwrap();
            let read = again.open(&plant.key, &[first]).unwrap();
            assert_eq!(read.trust, Trust::Key);
            assert_eq!(read.batches.len() as i64, 2 + 2 * round);
            let released = release(&hub, &anna, request(&[], true)).unwrap();
            let opened = released.open(&plant.key, &[first]).unwrap();
            assert_eq!(opened.trust, Trust::Key);
        }
        assert_eq!(before.open(&plant.key, &[first]).unwrap().batches.len(), 2);
        assert!(handed_out.open(&plant.key, &[first]).is_ok());
        hub.shutdown().unwrap();
    });
}

#[test]
fn the_end_of_a_span_is_a_new_key_without_anybody_doing_anything() {
    let plant = Plant::new(Suite::Nist, 140);
    let hub = plant.start();
    plant.record(&hub, EPOCH, 1.0);
    let (_, zoe) = plant.enter(&hub);
    change(&hub, &zoe, grant(None, Some(now() + 700 * MS)));
    let (since, mut at) = (Instant::now(), EPOCH);
    for scan in 1.. {
        // Of now: what is of a time within the span is hers, whenever it is sealed.
        at = now().max(at + 10 * MS);
        plant.record(&hub, at, scan as f64);
        let recorded = plant.site.recorded();
        let sealed = recorded.batches.last().unwrap().content.sealed.unwrap();
        if !plant.epochs().contains(&sealed.key_epoch) {
            break;
        }
        assert!(since.elapsed() < site::PATIENCE, "{:?}", plant.epochs());
    }
    // What was sealed before stays hers: it is of source times within the span.
    assert!(plant.epochs().contains(&1));
    hub.shutdown().unwrap();
    plant.site.recorded().is_gapless();
    assert_eq!(plant.report().findings, []);
}

#[test]
fn an_erasure_takes_the_wraps_of_readers_and_no_fetch_brings_them_back() {
    let plant = Plant::new(Suite::Nist, 133);
    let hub = plant.start();
    let (anna, zoe) = plant.enter(&hub);
    change(&hub, &zoe, grant(None, None));
    admit(&hub);
    plant.record(&hub, EPOCH, 1.0);
    let used = plant.epochs();
    let bundle = sealed(&hub, &anna, ALL).unwrap();
    assert_eq!(bundle.sealed.len(), 2);
    let eraser = site::enter(&hub, "eve", &[Role::ConfigureAdmin]);
    let request = EraseRequest {
        device: PRESS.into(),
        until: now(),
        dry_run: false,
    };
    let begun = hub.eraser().erase_for(&eraser, request);
    let begun = site::wait(&hub, "an erasure", begun).unwrap();
    assert_eq!(begun.plan.notice.batches, 2);
    let kept = plant.epochs();
    assert!(used.iter().all(|epoch| !kept.contains(epoch)), "{kept:?}");
    site::wait(&hub, "the wraps", hub.readers().settle()).unwrap();
    // All wraps are looked over.
    change(&hub, &zoe, end_grant());
    change(&hub, &zoe, grant(None, None));
    let kept = plant.epochs();
    assert!(used.iter().all(|epoch| !kept.contains(epoch)), "{kept:?}");
    assert_eq!(sealed(&hub, &anna, ALL).unwrap().sealed.len(), 0);
    hub.shutdown().unwrap();
    assert_eq!(plant.report().findings, []);
}

#[test]
fn whatever_is_changed_in_a_bundle_does_not_open() {
    both(|suite| {
        let plant = Plant::new(suite, 134);
        let hub = plant.start();
        plant.record(&hub, EPOCH, 1.0);
        let (anna, zoe) = plant.enter(&hub);
        change(&hub, &zoe, grant(None, None));
        admit(&hub);
        let bundle = sealed(&hub, &anna, ALL).unwrap();
        hub.shutdown().unwrap();
        assert_eq!(plant.forces(&bundle).len(), 4);
        let refused = |change: &dyn Fn(&mut SealedBundle)| {
            let mut changed = bundle.clone();
            change(&mut changed);
            changed.open(&plant.key, &[]).err().unwrap()
        };
        let bit = refused(&|b| b.sealed[0][20] ^= 1);
        assert!(matches!(bit, ReadingError::Sealed(_)), "{bit}");
        let missing = refused(&|b| drop(b.sealed.pop()));
        assert!(matches!(missing, ReadingError::Sealed(_)), "{missing}");
        let wrap = refused(&|b| b.wraps[0].ciphertext[3] ^= 1);
        assert!(matches!(wrap, ReadingError::Wrap { .. }), "{wrap}");
        let other = refused(&|b| b.device = "press-2".into());
        assert!(matches!(other, ReadingError::Wrap { .. }), "{other}");
        let record = refused(&|b| {
            let last = b.evidence.blocks.last_mut().unwrap();
            last.records[0].record.body.time -= 1;
        });
        assert!(matches!(record, ReadingError::Evidence(_)), "{record}");
        let closed = refused(&|b| b.wraps.clear());
        assert!(matches!(closed, ReadingError::OtherKey), "{closed}");
        let stranger = SealingKey::generate_of(suite);
        let closed = bundle.open(&stranger, &[]).err().unwrap();
        assert!(matches!(closed, ReadingError::OtherKey), "{closed}");
        let untrusted = [weighbridge_verifier::PublicKey([2; 33])];
        let untrusted = bundle.open(&plant.key, &untrusted).err().unwrap();
        assert!(
            matches!(untrusted, ReadingError::Evidence(_)),
            "{untrusted}"
        );
    });
}

fn request(tags: &[&str], proven: bool) -> ReleaseRequest {
    ReleaseRequest {
        device: PRESS.into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        range: (EPOCH, EPOCH + 3 * MS),
        proven,
    }
}

fn release(hub: &Hub, who: &Caller, request: ReleaseRequest) -> Result<Release, ReadersFault> {
    site::wait(hub, "a release", hub.readers().release(who, request))
}

#[test]
fn a_release_is_two_records_and_opens_for_the_user_alone() {
    both(|suite| {
        let plant = Plant::new(suite, 135);
        let hub = plant.start();
        plant.record(&hub, EPOCH, 1.0);
        let (_, zoe) = plant.enter(&hub);
        let assign = |role: Role| {
            let roles = [role.name().to_owned()].into();
            Change::Assign(ANNA.into(), roles)
        };
        change(&hub, &zoe, assign(Role::Operator));
        let anna = site::enter(&hub, "anna", &[Role::Operator]);
        let released = release(&hub, &anna, request(&[], true)).unwrap();
        let again = Release::from_bytes(&released.to_bytes()).unwrap();
        assert_eq!(again, released);
        let trusted = [weighbridge::crypto::Signer::public_key(
            &plant.site.identity(),
        )];
        let opened = released.open(&plant.key, &trusted).unwrap();
        assert_eq!((opened.trust, &*opened.told.to), (Trust::Key, ANNA));
        let [of_tag] = &opened.copied.tags[..] else {
            panic!("{:?}", opened.copied)
        };
        let values: Vec<_> = of_tag.samples.iter().map(|s| s.value.as_f64()).collect();
        assert_eq!(values, [Some(1.0), Some(2.0), Some(3.0)]);

        let stranger = SealingKey::generate_of(suite);
        let closed = released.open(&stranger, &[]).err().unwrap();
        assert!(matches!(closed, ReadingError::OtherKey), "{closed}");
        for part in 0..4 {
            let mut changed = released.clone();
            match part {
                0 => changed.copy.sealed[12] ^= 1,
                1 => changed.copy.wrapped.ciphertext[0] ^= 1,
                2 => changed.copy.wrapped.enc[40] ^= 1,
                _ => changed.copy.object.push('0'),
            }
            let untold = changed.open(&plant.key, &[]).err().unwrap();
            assert!(matches!(untold, ReadingError::Untold), "{untold}");
        }
        hub.shutdown().unwrap();

        let acts = plant.site.recorded().acts;
        let asked: Vec<_> = acts
            .iter()
            .filter(|a| a.kind == "release-request")
            .collect();
        let given: Vec<_> = acts.iter().filter(|a| a.kind == "release").collect();
        let ([asked], [given]) = (&asked[..], &given[..]) else {
            panic!("{acts:?}")
        };
        assert_eq!((&*asked.subject, &*asked.object), (ANNA, "device:press-1"));
        assert_eq!((&*given.subject, &*given.object), ("hub:hub-1", ANNA));
        assert_eq!(
            (asked.action, given.action),
            (Action::Release, Action::Release)
        );
        let hash = released.copy.hash(plant.suite).to_string();
        assert_eq!(given.details["ciphertext"], hash);
        assert_eq!(given.details["samples"], 3);
        assert_eq!(plant.report().findings, []);
    });
}

#[test]
fn what_a_reader_gets_holds_over_every_key_that_the_hub_has_after() {
    both(|suite| {
        let plant = Plant::new(suite, 141);
        let first = weighbridge::crypto::Signer::public_key(&plant.site.identity());
        let hub = plant.start();
        plant.record(&hub, EPOCH, 1.0);
        let (anna, zoe) = plant.enter(&hub);
        let rotate = || {
            let rotated = hub.keys().rotate_hub_for(&zoe);
            site::wait(&hub, "another key", rotated).unwrap()
        };
        let second = rotate();
        // What was recorded under the first key is wrapped by the second.
        change(&hub, &zoe, grant(None, None));
        admit(&hub);
        let forces = |range: (Nanos, Nanos)| {
            let bundle = sealed(&hub, &anna, range).unwrap();
            assert_eq!(
                SealedBundle::from_bytes(&bundle.to_bytes()).unwrap(),
                bundle
            );
            let read = bundle.open(&plant.key, &[first]).unwrap();
            assert_eq!(read.trust, Trust::Key);
            let batches = read.batches.iter();
            let samples = batches.flat_map(|b| b.samples("force").unwrap());
            let values = samples.map(|s| s.value.to_string().parse::<f64>().unwrap());
            values.collect::<Vec<_>>()
        };
        assert_eq!(forces(ALL), [1.0, 2.0, 3.0, 4.0]);
        plant.record(&hub, EPOCH + 10 * MS, 5.0);
        let third = rotate();
        // The newest block is the one that brings it.
        assert_eq!(forces((EPOCH, EPOCH + 5 * MS)), [1.0, 2.0, 3.0, 4.0]);
        plant.record(&hub, EPOCH + 20 * MS, 9.0);
        let all: Vec<f64> = (1..=12).map(f64::from).collect();
        assert_eq!(forces(ALL), all);
        assert_ne!(second.key, third.key);

        let operator = [Role::Operator.name().to_owned()].into();
        change(&hub, &zoe, Change::Assign(ANNA.into(), operator));
        let anna = site::enter(&hub, "anna", &[Role::Operator]);
        let released = release(&hub, &anna, request(&[], true)).unwrap();
        let opened = released.open(&plant.key, &[first]).unwrap();
        assert_eq!((opened.trust, &*opened.told.to), (Trust::Key, ANNA));
        // One that is left out does not hold.
        let mut bundle = sealed(&hub, &anna, ALL).unwrap();
        bundle
            .evidence
            .blocks
            .retain(|b| b.header.height != second.height);
        let refused = bundle.open(&plant.key, &[first]).err().unwrap();
        assert!(matches!(refused, ReadingError::Evidence(_)), "{refused}");
        hub.shutdown().unwrap();
        assert_eq!(plant.report().findings, []);
    });
}

#[test]
fn each_rule_of_a_release_refuses_by_itself_and_says_so_on_record() {
    let plant = Plant::new(Suite::Nist, 136);
    let hub = plant.start();
    plant.record(&hub, EPOCH, 1.0);
    let (_, zoe) = plant.enter(&hub);
    let refused = |who: &Caller, request: ReleaseRequest| {
        let fault = release(&hub, who, request).unwrap_err();
        assert!(matches!(fault, ReadersFault::Denied(_)), "{fault}");
        let act = plant.site.recorded().acts.pop().unwrap();
        assert_eq!(
            (&*act.kind, act.action),
            ("release-request", Action::Refuse)
        );
        act.details["rule"].as_str().unwrap().to_owned()
    };
    let bob = site::enter(&hub, "bob", &[Role::Observer]);
    assert_eq!(refused(&bob, request(&[], true)), "role");
    let bob = site::enter(&hub, "bob", &[Role::Operator]);
    assert_eq!(refused(&bob, request(&[], true)), "key");
    assert_eq!(refused(&bob, request(&[], false)), "code");
    let anna = site::enter(&hub, "anna", &[Role::Operator]);
    assert_eq!(refused(&anna, request(&[], false)), "code");
    assert!(release(&hub, &anna, request(&["force"], true)).is_ok());
    let none = release(&hub, &anna, request(&["torque"], true)).unwrap_err();
    assert!(matches!(none, ReadersFault::Unknown(_)), "{none}");
    let level = Change::Classify("device:press-1".into(), Some(weighbridge::access::Level(9)));
    let eve = site::enter(&hub, "eve", &[Role::ConfigureAdmin]);
    change(&hub, &eve, level);
    assert_eq!(refused(&anna, request(&[], true)), "hub");
    change(&hub, &eve, Change::Classify("device:press-1".into(), None));
    change(&hub, &zoe, Change::Permit(ANNA.into(), Mode::Read, None));
    assert_eq!(refused(&anna, request(&[], true)), "permit");
    change(
        &hub,
        &zoe,
        Change::White(Side::Extranet, ANNA.into(), false),
    );
    assert_eq!(refused(&anna, request(&[], true)), "whitelist");
    hub.shutdown().unwrap();
    assert_eq!(plant.report().findings, []);
}

#[test]
fn escrow_is_on_record_and_in_the_report_and_its_end_removes_it() {
    both(|suite| {
        let plant = Plant::new(suite, 137);
        let owner = SealingKey::generate_of(suite);
        let hub = plant.start();
        plant.record(&hub, EPOCH, 1.0);
        hub.shutdown().unwrap();
        let start = |escrow: bool| {
            let hub = plant.site.hub().device(plant.press.setup(2));
            let hub = match escrow {
                true => hub.escrow(owner.public().clone()),
                false => hub,
            };
            hub.start().unwrap()
        };
        let hub = start(true);
        let state = hub.gate().state();
        let (name, _) = state.escrow().next().unwrap();
        plant.record(&hub, EPOCH + 10 * MS, 2.0);
        site::wait(&hub, "the wraps", hub.readers().settle()).unwrap();
        hub.shutdown().unwrap();

        // The owner opens what was sealed since, acts too, and nothing from before.
        let store: Arc<dyn Store> = Arc::new(plant.site.disk.store());
        let file = tempfile::tempdir().unwrap();
        let file = file.path().join("owner.key.pem");
        owner.save(&file).unwrap();
        let again = SealingKey::load(&file).unwrap();
        let opener = Opener::new(store, Arc::new(again), name);
        let recorded = plant.site.recorded();
        let opens: Vec<_> = recorded
            .batches
            .iter()
            .map(|b| opener.open_batch(PRESS, &b.content.sealed.unwrap()).is_ok())
            .collect();
        assert_eq!(opens, [false, false, true, true]);
        let told = recorded
            .access
            .iter()
            .find(|a| a.object.starts_with("access:escrow/"));
        let told = told.unwrap();
        assert_eq!(
            (told.action, &*told.subject),
            (Action::Configure, "hub:hub-1")
        );
        let report = plant.report();
        assert_eq!(report.findings, []);
        let found = report.recipients.iter().find(|r| r.name == *name).unwrap();
        assert!(found.wraps >= 2 && found.height == told.height, "{found:?}");

        let hub = start(false);
        site::wait(&hub, "the wraps", hub.readers().settle()).unwrap();
        plant.record(&hub, EPOCH + 20 * MS, 3.0);
        assert_eq!(hub.gate().state().escrow().count(), 0);
        hub.shutdown().unwrap();
        let report = plant.report();
        assert_eq!(report.findings, []);
        let found = report.recipients.iter().find(|r| r.name == *name).unwrap();
        assert_eq!(found.wraps, 0);
    });
}

#[test]
fn a_key_of_the_other_suite_is_neither_a_readers_nor_of_escrow() {
    let plant = Plant::new(Suite::Nist, 138);
    let other = SealingKey::generate_of(Suite::Guomi);
    let hub = plant.site.hub().escrow(other.public().clone()).start();
    assert!(matches!(hub, Err(HubError::Access { .. })));
    let hub = plant.start();
    let (_, zoe) = plant.enter(&hub);
    let key = Change::ReaderKey(ANNA.into(), Some(other.public().compressed()));
    let changing = hub.access().change(By::User(&zoe), vec![key]);
    let refused = site::wait(&hub, "a change of access", changing).unwrap_err();
    let said = "the key is no public key of the chain's suite";
    assert_eq!(refused.to_string(), said);
    hub.shutdown().unwrap();
}

#[test]
fn a_wrap_to_somebody_of_whom_no_record_tells_is_named() {
    use weighbridge::crypto::{EpochKey, Signer};
    use weighbridge::ledger::key_wrap::KeyWrap;
    use weighbridge::ledger::store::Put;
    let plant = Plant::new(Suite::Nist, 139);
    let hub = plant.start();
    plant.record(&hub, EPOCH, 1.0);
    hub.shutdown().unwrap();
    assert_eq!(plant.report().findings, []);
    // The hub's own key signs it, so only the record can tell.
    let key = EpochKey::generate(Suite::Nist, PRESS, 1).unwrap();
    let wrapped = plant.key.public().wrap(&key).unwrap();
    let identity = plant.site.identity();
    let name = reader_recipient("user:mallory", &plant.key.public().compressed());
    let wrapped = (wrapped.enc, wrapped.ciphertext);
    let signer: &dyn Signer = &identity;
    let wrap = KeyWrap::sign("main", PRESS, 1, &name, wrapped, signer);
    let put = Put {
        space: Space::Keys,
        key: wrap.key(),
        value: wrap.to_bytes(),
    };
    plant.site.disk.store().commit(&[put]).unwrap();
    let findings = plant.report().findings;
    let [found] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert_eq!(
        found.what,
        "it is wrapped to `user:mallory`, of whom no record tells"
    );
}

#[cfg(unix)]
fn reader<'a>(args: &[&'a str], own: &[&'a str]) -> Vec<&'a str> {
    [&["reader"], args, own].concat()
}

/// The command line, as a reader and as who may grant: on this machine both are the user `local`.
#[test]
#[cfg(unix)]
fn the_command_line_fetches_opens_and_keeps_what_a_running_hub_hands_out() {
    use crate::support::{Plant, ended, failed, run, run_json, stderr};
    use serde_json::Value as Json;
    let plant = Plant::with_machines(1, 2);
    let file = plant.path("hub.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let http = "[http]\nbind = \"127.0.0.1:0\"\n";
    let roles = format!("{http}roles = [\"operator\", \"security_admin\"]\n");
    std::fs::write(&file, text.replace(http, &roles)).unwrap();
    let at = |name: &str| plant.path(name).to_str().unwrap().to_owned();
    std::fs::write(plant.path("passphrase"), "open sesame\n").unwrap();
    let (name, passphrase) = (at("anna"), at("passphrase"));
    let made = ["reader", "keygen", &name, "--passphrase-file", &passphrase];
    let made = run_json(&[&made[..], &["--json"]].concat());
    let (key, public) = (at("anna.key.pem"), at("anna.pub.pem"));
    assert_eq!(
        (&made["private_key_file"], &made["public_key_file"]),
        (&Json::from(&*key), &Json::from(&*public))
    );
    let trust = at("keys/hub.pub");
    let own = [
        "--key",
        &key,
        "--passphrase-file",
        &passphrase,
        "--trust",
        &trust,
        "--json",
    ];

    let mut hub = plant.run_hub();
    let url = hub.http_url().trim_end_matches('/').to_owned();
    let access =
        |args: &[&str]| run_json(&[&["access"], args, &["--url", &url, "--json"]].concat());
    let enrolled = access(&["reader", "user:local", &public]);
    assert_eq!(enrolled["keys_pending"], Json::Null);
    access(&["grant", "user:local", "plc-*"]);
    while hub.next_block().batches.is_empty() {}
    let samples = |json: &Json| json["samples"].as_array().unwrap().clone();
    let kept = at("kept.sealed");
    let read = [
        "read", "plc-0", "--tag", "r1", "--url", &url, "--save", &kept,
    ];
    let read = run_json(&reader(&read, &own));
    assert_eq!(
        (&read["trusted"], &read["closed"]),
        (&Json::from(true), &Json::from(0))
    );
    assert!(!samples(&read).is_empty());
    let opened = run_json(&reader(&["open", &kept], &own));
    let of_tag = |json: &Json| {
        let of_tag = samples(json).into_iter().filter(|s| s["tag"] == "r1");
        of_tag.collect::<Vec<_>>()
    };
    // A batch that was being made when it was asked for is whole in the file, with what came after.
    let time = |sample: &Json| {
        sample["time_ns"]
            .as_str()
            .unwrap()
            .parse::<Nanos>()
            .unwrap()
    };
    let last = samples(&read).last().map(time).unwrap();
    let mut of_file = of_tag(&opened);
    of_file.retain(|sample| time(sample) <= last);
    assert_eq!(of_file, samples(&read));
    let copy = at("copy.release");
    let release = [
        "release", "plc-0", "--tag", "r0", "--url", &url, "--save", &copy,
    ];
    let released = run_json(&reader(&release, &own));
    assert!(released["released_in"].as_u64().unwrap() > 1, "{released}");
    assert_eq!(run_json(&reader(&["open", &copy], &own)), released);
    let status = run_json(&["status", "--url", &url, "--json"]);
    assert_eq!(status["escrow"], serde_json::json!([]));
    let (_, output) = hub.ends("-INT");
    assert_eq!(ended(&output), 0, "{}", stderr(&output));

    // Of the directory, without any hub, by the key alone.
    let dir = at(".");
    let from_dir = reader(&["read", "plc-0", "--tag", "r1", "--dir", &dir], &own);
    assert!(samples(&run_json(&from_dir)).len() >= samples(&read).len());
    let listed = run(&["verify", &dir, "--trust", &trust]);
    let said = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        said.contains("keys are wrapped to user:local as well; recorded in block"),
        "{said}"
    );
    let other = at("other");
    let made = run(&["reader", "keygen", &other]);
    assert_eq!(ended(&made), 0, "{}", stderr(&made));
    let other = at("other.key.pem");
    let closed = run(&["reader", "read", "plc-0", "--dir", &dir, "--key", &other]);
    assert!(failed(&closed).contains("nothing in this directory is wrapped to this key"));

    let hub = plant.run_hub();
    let url = hub.http_url().trim_end_matches('/').to_owned();
    let ended_grant = ["access", "end-grant", "user:local", "--url", &url, "--json"];
    assert_eq!(run_json(&ended_grant)["keys_pending"], Json::Null);
    let refused = run(&reader(&["read", "plc-0", "--url", &url], &own));
    assert!(failed(&refused).contains("local may not take what is recorded of plc-0 away"));
    let (_, output) = hub.ends("-INT");
    assert_eq!(ended(&output), 0, "{}", stderr(&output));
    assert!(failed(&run(&from_dir)).contains("nothing in this directory is wrapped to this key"));
    plant.verify_is_clean();
}

#[test]
#[cfg(unix)]
fn escrow_of_a_configuration_is_shown_by_status_and_verify() {
    use crate::support::{Plant, ended, run, run_json, stderr};
    let plant = Plant::without_machines();
    let at = |name: &str| plant.path(name).to_str().unwrap().to_owned();
    let made = run(&["reader", "keygen", &at("keys/owner")]);
    assert_eq!(ended(&made), 0, "{}", stderr(&made));
    let file = plant.path("hub.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let escrow = "[ledger]\nescrow = \"keys/owner.pub.pem\"\n";
    std::fs::write(&file, text.replace("[ledger]\n", escrow)).unwrap();
    let hub = plant.run_hub();
    let url = hub.http_url().trim_end_matches('/').to_owned();
    let status = run_json(&["status", "--url", &url, "--json"]);
    let name = status["escrow"][0].as_str().unwrap().to_owned();
    let shown = run(&["status", "--url", &url]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains(&format!("every key is wrapped to {name} as well")),
        "{shown}"
    );
    let (_, output) = hub.ends("-INT");
    assert_eq!(ended(&output), 0, "{}", stderr(&output));
    let report = run_json(&["verify", &at("."), "--json"]);
    assert_eq!(report["clean"], true, "{report}");
    let recipient = &report["recipients"][0];
    assert_eq!(recipient["name"], name);
    assert!(recipient["wraps"].as_u64().unwrap() > 0, "{report}");
}

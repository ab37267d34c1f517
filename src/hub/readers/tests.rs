//! To whom keys are wrapped and when that changes; the wraps after a power loss at any step, where what was
//! interrupted is finished by doing it again.

use super::keys::{DAY, KeyMaker, recipients};
use super::next_turn;
use super::wraps::{Done, Wraps, any};
use crate::access::{AccessState, Change, Gate, Pattern, ReadGrant, Side, Subject};
use crate::crypto::{Identity, SealingKey, SealingRing, Signer};
use crate::ledger::history::index::Span;
use crate::ledger::key_wrap::{keys_of, read_wrap_key, reader_recipient};
use crate::ledger::opening::Opener;
use crate::ledger::store::Store;
use crate::model::Nanos;
use crate::store::FaultyDisk;
use std::sync::Arc;
use weighbridge_verifier::{Hash, IdentityKind, SealedRef, Suite};

const PRESS: &str = "press-1";
const ANNA: &str = "user:anna";
/// Keys of the press.
const KEYS: u64 = 9;

struct Site {
    disk: FaultyDisk,
    opener: Opener,
    maker: KeyMaker,
    gate: Gate,
    anna: SealingKey,
}

impl Site {
    fn new(seed: u64) -> Self {
        let disk = FaultyDisk::new(seed);
        let store: Arc<dyn Store> = Arc::new(disk.store());
        let sealing = Arc::new(SealingKey::generate());
        let signer: Arc<dyn Signer> = Arc::new(Identity::from_byte("hub-1", 1));
        let mut state = AccessState::default();
        for (id, kind, side) in [
            ("hub:hub-1", IdentityKind::Hub, Side::Intranet),
            (ANNA, IdentityKind::User, Side::Extranet),
        ] {
            let enrol = Change::Enrol(id.into(), Subject::new(kind));
            state.apply(enrol).unwrap();
            state.apply(Change::White(side, id.into(), true)).unwrap();
        }
        let anna = SealingKey::generate_of(Suite::Nist);
        let key = Change::ReaderKey(ANNA.into(), Some(anna.public().compressed()));
        state.apply(key).unwrap();
        let gate = Gate::new("hub-1", state);
        let own = SealingRing::from(sealing.clone());
        let site = Self {
            opener: Opener::new(store.clone(), sealing, "hub-1"),
            maker: KeyMaker::new("main", own, signer, gate.clone()),
            disk,
            gate,
            anna,
        };
        for epoch in 1..=KEYS {
            let (_, wraps) = site.maker.make((PRESS, epoch)).unwrap();
            store.commit(&wraps).unwrap();
        }
        site
    }

    fn change(&self, change: Change) {
        let mut state = AccessState::clone(&self.gate.state());
        state.apply(change).unwrap();
        self.gate.set(Arc::new(state));
    }

    fn bring(&self) -> Option<Done> {
        self.brought().map(|(done, _)| done)
    }

    /// The same, and the devices whose key in use somebody waits for.
    fn brought(&self) -> Option<(Done, Vec<String>)> {
        let store = self.disk.store();
        let wraps = Wraps {
            store: &store,
            opener: &self.opener,
            maker: &self.maker,
        };
        wraps.bring(&self.gate.state(), 5).ok()
    }

    /// How many keys are wrapped to Anna, each of which she opens.
    fn opened(&self) -> usize {
        let name = reader_recipient(ANNA, &self.anna.public().compressed());
        let store: Arc<dyn Store> = Arc::new(self.disk.store());
        let live = keys_of(&*store, PRESS).unwrap().into_iter();
        let live = live.filter(|key| {
            let of = read_wrap_key(&key.at).map(|(_, _, of)| of);
            !key.destroyed && of.as_ref() == Some(&name)
        });
        live.count()
    }
}

fn all() -> ReadGrant {
    ReadGrant {
        devices: Pattern::new("device:*").unwrap(),
        from: None,
        until: None,
    }
}

#[test]
fn a_power_loss_at_any_step_leaves_what_doing_it_again_finishes() {
    let mut interrupted = 0;
    for cut in 0.. {
        let site = Site::new(cut + 1);
        assert_eq!(site.bring(), Some(Done::default()));
        site.change(Change::Grant(ANNA.into(), all()));
        site.disk.cut_power_in(cut);
        let granted = site.bring();
        site.disk.restart();
        interrupted += u64::from(granted.is_none());
        site.bring().unwrap();
        assert_eq!(site.opened(), KEYS as usize, "cut {cut}");
        assert_eq!(site.bring(), Some(Done::default()), "once is enough");

        site.change(Change::EndGrant(ANNA.into(), all().devices));
        site.disk.cut_power_in(cut);
        let ended = site.bring();
        site.disk.restart();
        interrupted += u64::from(ended.is_none());
        site.bring().unwrap();
        assert_eq!(site.opened(), 0, "cut {cut}");
        assert!(!any(&site.disk.store()).unwrap());
        if granted.is_some() && ended.is_some() {
            break;
        }
    }
    assert!(interrupted > 1, "{interrupted}");
}

#[test]
fn a_key_that_was_erased_is_wrapped_to_nobody() {
    let site = Site::new(77);
    let own = keys_of(&site.disk.store(), PRESS).unwrap();
    let erased = vec![own[2].at.clone()];
    site.disk
        .store()
        .remove(crate::ledger::store::Space::Keys, &erased)
        .unwrap();
    site.change(Change::Grant(ANNA.into(), all()));
    let done = site.bring().unwrap();
    assert_eq!((done.made, done.removed), (KEYS as usize - 1, 0));
    assert_eq!(site.opened(), KEYS as usize - 1);
}

fn grant(from: Option<Nanos>, until: Option<Nanos>) -> ReadGrant {
    ReadGrant {
        from,
        until,
        ..all()
    }
}

#[test]
fn a_new_key_is_for_those_whose_span_it_may_still_reach() {
    let noon = 10 * DAY + DAY / 2;
    let table = [
        (None, None, true),
        (Some(noon + 1), None, true),
        (Some(11 * DAY - 1), None, true),
        (Some(11 * DAY), None, false),
        (None, Some(noon + 1), true),
        (None, Some(noon), false),
        (Some(9 * DAY), Some(10 * DAY), false),
    ];
    for (from, until, wrapped) in table {
        let site = Site::new(1);
        site.change(Change::Grant(ANNA.into(), grant(from, until)));
        let state = site.gate.state();
        let to = |object| recipients(&state, object, ("hub:hub-1", noon));
        assert_eq!(to(PRESS).len(), usize::from(wrapped), "{from:?} {until:?}");
        // What users did is nobody's.
        assert!(to("hub:hub-1").is_empty());
    }
}

#[test]
fn the_next_turn_is_when_a_span_or_an_identity_begins_or_ends() {
    let site = Site::new(2);
    assert_eq!(next_turn(&site.gate.state(), 5), Nanos::MAX);
    let from = 3 * DAY + 7;
    site.change(Change::Grant(
        ANNA.into(),
        grant(Some(from), Some(4 * DAY + 1)),
    ));
    site.change(Change::Renew(ANNA.into(), Some(9 * DAY)));
    let state = site.gate.state();
    let turns = [
        (5, 3 * DAY),
        (3 * DAY, 4 * DAY + 1),
        (4 * DAY + 1, 9 * DAY),
        (9 * DAY, Nanos::MAX),
    ];
    for (time, next) in turns {
        assert_eq!(next_turn(&state, time), next, "{time}");
    }
}

/// A device whose clock was set back, or a node that uploads late, seals a sample of an ended span under the key in use.
#[test]
fn a_late_sample_makes_no_key_in_use_anybodys_who_may_read_only_what_was() {
    let site = Site::new(3);
    site.change(Change::Grant(ANNA.into(), grant(None, Some(4))));
    let sample = |key_epoch: u64| {
        let sealed = SealedRef {
            hash: Hash([key_epoch as u8; 32]),
            length: 9,
            key_epoch,
        };
        let span = Span {
            first: 2,
            last: 3,
            part: 0,
            parts: 1,
            epoch: 1,
            sequence: key_epoch,
            recorded: 5,
            sealed,
        };
        site.disk.store().commit(&[span.put(PRESS)]).unwrap();
    };
    sample(KEYS - 1);
    sample(KEYS);
    let (_, held) = site.brought().unwrap();
    assert_eq!((site.opened(), held), (1, vec![PRESS.to_owned()]));
    // Once another key is in use she reads it.
    let (_, wraps) = site.maker.make((PRESS, KEYS + 1)).unwrap();
    site.disk.store().commit(&wraps).unwrap();
    let (done, held) = site.brought().unwrap();
    assert_eq!((site.opened(), done.made, held.len()), (2, 1, 0));
}

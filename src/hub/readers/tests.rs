//! The wraps after a power loss at any step: what was interrupted is finished by doing it again.

use super::keys::KeyMaker;
use super::wraps::{Done, Wraps, any};
use crate::access::{AccessState, Change, Gate, Pattern, ReadGrant, Side, Subject};
use crate::crypto::{Identity, SealingKey, Signer};
use crate::ledger::key_wrap::{keys_of, read_wrap_key, reader_recipient};
use crate::ledger::opening::Opener;
use crate::ledger::store::Store;
use crate::store::FaultyDisk;
use std::sync::Arc;
use weighbridge_verifier::{IdentityKind, Suite};

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
        let own = sealing.public().clone();
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

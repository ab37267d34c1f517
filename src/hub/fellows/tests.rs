//! What two hubs recorded, in one store: each opens what the other did, and who was put out opens nothing new.

use super::Fellows;
use crate::access::{AccessState, Gate};
use crate::crypto::{Identity, SealingKey, SealingRing, Signer};
use crate::hub::readers::KeyMaker;
use crate::ledger::act::{Act, ActSealer};
use crate::ledger::key_wrap::hub_object;
use crate::ledger::opening::{ActOpener, Opener, OpeningError};
use crate::ledger::seal::{BatchSealer, InForce};
use crate::ledger::store::Store;
use crate::store::FaultyDisk;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use weighbridge_verifier::{Action, Content, PublicKey, Response, SealedRef};

/// One of the hubs that share a store.
struct Hub {
    id: &'static str,
    maker: KeyMaker,
    fellows: Fellows,
    sealing: Arc<SealingKey>,
    opener: Opener,
    store: Arc<dyn Store>,
}

impl Hub {
    fn new(disk: &FaultyDisk, id: &'static str, byte: u8) -> Self {
        let store: Arc<dyn Store> = Arc::new(disk.store());
        let sealing = Arc::new(SealingKey::generate());
        let signer: Arc<dyn Signer> = Arc::new(Identity::from_byte(id, byte));
        let fellows = Fellows::shared();
        let gate = Gate::new(id, AccessState::default());
        let ring = SealingRing::from(sealing.clone());
        Self {
            id,
            maker: KeyMaker::new("main", ring, signer, gate).among(fellows.clone()),
            opener: Opener::new(store.clone(), sealing.clone(), id),
            fellows,
            sealing,
            store,
        }
    }

    fn key(&self) -> PublicKey {
        self.sealing.public().compressed()
    }

    /// Records what a user did.
    fn act(&self, epoch: u64, says: &str) -> Content {
        let made = self.maker.make((&hub_object(self.id), epoch));
        let (key, wraps) = made.unwrap();
        let act = Act {
            time: 1,
            subject: "user:ann",
            action: Action::Control,
            object: "device:press-1",
            kind: "control",
            details: &json!({ "says": says }),
            response: Response::Accepted,
        };
        let sealed = ActSealer::new(key, wraps).seal(&act).unwrap();
        let (draft, puts) = sealed.into_parts();
        self.store.commit(&puts).unwrap();
        draft.content
    }

    /// Records the settings of a device.
    fn settings(&self, device: &str, epoch: u64, plain: &[u8]) -> SealedRef {
        let (key, wraps) = self.maker.make((device, epoch)).unwrap();
        let in_force = Arc::new(Mutex::new(InForce::default()));
        let mut sealer = BatchSealer::new(device, 0, key, wraps, in_force);
        let (draft, puts) = sealer.seal_document("validation", plain, 1);
        self.store.commit(&puts).unwrap();
        match draft.content {
            Content::Document(document) => document.sealed,
            other => panic!("{other:?}"),
        }
    }

    fn opens(&self, hub: &str, content: &Content) -> Result<serde_json::Value, OpeningError> {
        let Content::Message(message) = content else {
            panic!("{content:?}")
        };
        ActOpener::new(self.opener.clone(), hub).open(message)
    }
}

#[test]
fn each_hub_opens_what_the_other_recorded_and_no_other_does() {
    let disk = FaultyDisk::new(1);
    let hubs = [("hub-a", 1), ("hub-b", 2), ("hub-c", 3)];
    let [a, b, c] = hubs.map(|(id, byte)| Hub::new(&disk, id, byte));
    a.fellows.set(b.id, b.key()).unwrap();
    b.fellows.set(a.id, a.key()).unwrap();
    for (one, other) in [(&a, &b), (&b, &a)] {
        let act = one.act(1, one.id);
        for hub in [one, other] {
            assert_eq!(hub.opens(one.id, &act).unwrap(), json!({ "says": one.id }));
        }
        let device = format!("press-of-{}", one.id);
        let settings = one.settings(&device, 1, b"limits");
        for hub in [one, other] {
            let opened = hub.opener.open_document(&device, &settings).unwrap();
            assert_eq!(opened.as_slice(), b"limits");
        }
        let no_key = |error: OpeningError| matches!(error, OpeningError::NoKey { .. });
        assert!(no_key(c.opens(one.id, &act).unwrap_err()));
        assert!(no_key(
            c.opener.open_document(&device, &settings).unwrap_err()
        ));
        // Both number the keys of their own acts from one, and they are not the same.
        assert_eq!(one.opener.next_key_epoch(&hub_object(one.id)).unwrap(), 2);
        assert_eq!(
            one.opener.next_key_epoch_of(&device, Some(3)).unwrap(),
            (3 << 24) + 1
        );
    }
}

/// A sealing key that was replaced is needed until every fellow wraps to the new one.
#[test]
fn a_fellow_is_behind_until_its_newest_wrap_opens_by_the_key_in_use() {
    let disk = FaultyDisk::new(3);
    let [a, b] = [("hub-a", 1), ("hub-b", 2)].map(|(id, byte)| Hub::new(&disk, id, byte));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sealing.key");
    let first = SealingKey::generate();
    first.save(&file).unwrap();
    let ring = SealingRing::in_file(first, &file).unwrap();
    let behind = || a.fellows.behind(&*a.store, ("hub-a", &ring)).unwrap();
    a.fellows.set(b.id, b.key()).unwrap();
    assert_eq!(behind(), [""; 0], "it has wrapped nothing yet");
    b.fellows.set(a.id, ring.public().compressed()).unwrap();
    b.act(1, "x");
    assert_eq!(behind(), [""; 0]);
    let next = ring.prepare().unwrap();
    assert!(ring.succeed(&next));
    assert_eq!(behind(), ["hub-b"]);
    b.fellows.set(a.id, next).unwrap();
    assert_eq!(behind(), ["hub-b"]);
    b.act(2, "y");
    assert_eq!(behind(), [""; 0]);
}

#[test]
fn keys_that_others_than_the_fellows_of_now_have_are_behind() {
    let disk = FaultyDisk::new(2);
    let [a, b] = [("hub-a", 1), ("hub-b", 2)].map(|(id, byte)| Hub::new(&disk, id, byte));
    let all = || vec!["hub:hub-a".to_owned(), "press-1".to_owned()];
    let record = |epoch| {
        a.settings("press-1", epoch, b"limits");
        a.act(epoch, "x")
    };
    let mut changes = a.fellows.changes();
    record(1);
    assert_eq!(a.maker.behind_fellows(), [""; 0]);
    assert!(a.fellows.set(b.id, b.key()).unwrap());
    assert!(changes.has_changed().unwrap());
    changes.borrow_and_update();
    assert_eq!(a.maker.behind_fellows(), all());
    let act = record(2);
    assert_eq!(a.maker.behind_fellows(), [""; 0]);
    assert!(b.opens("hub-a", &act).is_ok());
    assert!(!a.fellows.set(b.id, b.key()).unwrap(), "nothing new");
    assert!(!changes.has_changed().unwrap());
    let next = SealingKey::generate().public().compressed();
    assert!(a.fellows.set(b.id, next).unwrap());
    assert_eq!(a.maker.behind_fellows(), all());
    a.fellows.remove(b.id);
    let act = record(3);
    assert_eq!(a.maker.behind_fellows(), [""; 0]);
    assert!(b.opens("hub-a", &act).is_err());
    assert!(a.fellows.set("hub-b", PublicKey([9; 33])).is_err());
}

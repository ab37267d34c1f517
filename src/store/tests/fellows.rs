//! Hubs that share a chain: their keys are wrapped to each other while the power may fail at any step, and what another
//! hub sends is taken only for what it is.

use super::*;
use crate::crypto::{EpochKey, Identity, SealingKey, SealingRing, Signer};
use crate::ledger::fellow_wraps::{
    Fellow, FellowWraps, Wrapped, is_marked, worth_taking, wrap_for,
};
use crate::ledger::key_wrap::{KeyWrap, wrap_key};
use crate::ledger::opening::{Opener, OpeningError};
use crate::ledger::signers::{SignerError, Signers};
use crate::ledger::store::{Space, StoreError};
use weighbridge_verifier::{IdentityContent, IdentityKind};

const OBJECTS: [&str; 3] = ["press-1", "hub:hub-1", "press-2"];
/// Keys of each; the second of them is destroyed.
const EPOCHS: u64 = 14;
const LIVE: usize = OBJECTS.len() * (EPOCHS as usize - 1);
const READER: &str = "user:anna/5f3c";

fn fellow(id: &str, key: &SealingKey) -> Fellow {
    Fellow {
        id: id.to_owned(),
        key: key.public().clone(),
        anew: true,
    }
}

/// A hub with keys of its own in a store.
struct Site {
    disk: FaultyDisk,
    own: Arc<SealingKey>,
}

impl Site {
    fn new(seed: u64) -> Self {
        let site = Self {
            disk: FaultyDisk::new(seed),
            own: Arc::new(SealingKey::generate_of(SUITE)),
        };
        let mut puts = Vec::new();
        for object in OBJECTS {
            for epoch in 1..=EPOCHS {
                let key = EpochKey::generate(SUITE, object, epoch).unwrap();
                for id in ["hub-1", READER] {
                    let to = fellow(id, &site.own);
                    puts.push(wrap_for(&key, &to, (CHAIN, &*signer())).unwrap());
                }
            }
        }
        site.disk.store().commit(&puts).unwrap();
        let gone = OBJECTS.map(|object| wrap_key(object, 2, "hub-1"));
        site.disk.store().remove(Space::Keys, &gone).unwrap();
        site
    }

    fn wrap(&self, fellows: &[Fellow]) -> Result<Wrapped, StoreError> {
        let store = Arc::new(self.disk.store());
        let opener = Opener::new(store.clone(), self.own.clone(), "hub-1");
        let wraps = FellowWraps {
            store: &*store,
            opener: &opener,
            signer: &*signer(),
            chain: CHAIN,
            fellows,
        };
        wraps.all(&|_| {})
    }

    /// How many of the keys that live a hub opens, and whether those that were destroyed.
    fn opened(&self, id: &str, key: &Arc<SealingKey>) -> (usize, bool) {
        let opener = Opener::new(Arc::new(self.disk.store()), key.clone(), id);
        let all = OBJECTS
            .into_iter()
            .flat_map(|object| (1..=EPOCHS).map(move |epoch| (object, epoch)));
        let (gone, live): (Vec<_>, Vec<_>) = all.partition(|(_, epoch)| *epoch == 2);
        let opens = |(object, epoch): &(&str, u64)| opener.epoch_key(object, *epoch).is_ok();
        (
            live.iter().filter(|of| opens(of)).count(),
            gone.iter().any(opens),
        )
    }
}

#[test]
fn whenever_the_power_fails_doing_it_again_wraps_every_living_key_to_a_new_fellow() {
    let mut cuts = 0;
    for cut in 0.. {
        let site = Site::new(cut + 1);
        let (b, c) = [(); 2]
            .map(|()| Arc::new(SealingKey::generate_of(SUITE)))
            .into();
        let fellows = [fellow("hub-2", &b), fellow("hub-3", &c)];
        site.disk.cut_power_in(cut);
        let whole = site.wrap(&fellows).is_ok();
        cuts += u64::from(!whole);
        site.disk.restart();
        let done = site.wrap(&fellows).unwrap();
        assert_eq!(
            (done.seen, done.unopened),
            ((LIVE + OBJECTS.len()) as u64, 0)
        );
        for (id, key) in [("hub-1", &site.own), ("hub-2", &b), ("hub-3", &c)] {
            assert_eq!(site.opened(id, key), (LIVE, false), "cut {cut}");
            let marked = is_marked(&site.disk.store(), id, &key.public().compressed());
            assert_eq!(marked.unwrap(), id != "hub-1");
        }
        if whole {
            break;
        }
    }
    assert!(cuts > 2, "the power failed too late: {cuts}");
}

#[test]
fn a_fellow_with_another_sealing_key_gets_wraps_to_that_one_and_back() {
    let site = Site::new(1);
    let (old, new) = [(); 2]
        .map(|()| Arc::new(SealingKey::generate_of(SUITE)))
        .into();
    for (key, other) in [(&old, &new), (&new, &old), (&old, &new)] {
        site.wrap(&[fellow("hub-2", key)]).unwrap();
        assert_eq!(site.opened("hub-2", key), (LIVE, false));
        assert_eq!(site.opened("hub-2", other), (0, false));
        let marked = |key: &SealingKey| {
            is_marked(&site.disk.store(), "hub-2", &key.public().compressed()).unwrap()
        };
        assert!(marked(key) && !marked(other));
    }
    // Where all is there, only what is missing is made.
    let there = Fellow {
        anew: false,
        ..fellow("hub-2", &old)
    };
    let lost = [wrap_key("press-1", 5, "hub-2")];
    site.disk.store().remove(Space::Keys, &lost).unwrap();
    assert_eq!(site.wrap(&[there]).unwrap().made, 1);
    assert_eq!(site.opened("hub-2", &old), (LIVE, false));
}

#[test]
fn what_a_fellow_wrapped_itself_is_left_to_it() {
    let site = Site::new(2);
    let b = Arc::new(SealingKey::generate_of(SUITE));
    let of_b = Identity::from_byte_of(SUITE, "hub-2", 7);
    let key = EpochKey::generate(SUITE, "press-9", 1).unwrap();
    let to = [fellow("hub-1", &site.own), fellow("hub-2", &b)];
    let puts = to.map(|to| wrap_for(&key, &to, (CHAIN, &of_b)).unwrap());
    site.disk.store().commit(&puts).unwrap();
    let next = Arc::new(SealingKey::generate_of(SUITE));
    site.wrap(&[fellow("hub-2", &next)]).unwrap();
    let there = site.disk.store().get(Space::Keys, &puts[1].key).unwrap();
    assert_eq!(there.as_ref(), Some(&puts[1].value));
    assert_eq!(site.opened("hub-2", &next), (LIVE, false));
}

/// A ledger with two hubs, whose keys are known, present and former.
struct Chain {
    disk: FaultyDisk,
    ledger: Ledger,
    b: Identity,
}

impl Chain {
    fn new(seed: u64) -> Self {
        let disk = FaultyDisk::new(seed);
        let mut ledger = open(&disk, 1_000).unwrap();
        let b = Identity::from_byte_of(SUITE, "hub-2", 7);
        let identity = IdentityContent {
            id: "hub-2".to_owned(),
            kind: IdentityKind::Hub,
            key: Some(b.public_key()),
        };
        let enrol = Draft::enrol(2_000, "hub:hub-1", identity);
        ledger.append(&[enrol], Vec::new(), 2_000).unwrap();
        Self { disk, ledger, b }
    }

    fn signers(&self) -> Signers {
        Signers::of(self.ledger.state())
    }
}

#[test]
fn what_another_hub_wrapped_opens_if_a_key_of_that_hub_signed_it() {
    let chain = Chain::new(5);
    let own = Arc::new(SealingKey::generate_of(SUITE));
    let store: Arc<dyn Store> = Arc::new(chain.disk.store());
    let opener = Opener::new(store.clone(), own.clone(), "hub-1").judging(chain.signers());
    let key = |object: &str| EpochKey::generate(SUITE, object, 1).unwrap();
    let to = fellow("hub-1", &own);
    let (b, false_b) = (&chain.b, Identity::from_byte_of(SUITE, "hub-2", 8));
    let stranger = Identity::from_byte_of(SUITE, "hub-9", 9);
    let table: [(&str, &str, &dyn Signer, Option<SignerError>); 5] = [
        ("press-1", CHAIN, b, None),
        ("hub:hub-2", CHAIN, b, None),
        (
            "press-2",
            CHAIN,
            &false_b,
            Some(SignerError::Signature("hub-2".into())),
        ),
        (
            "press-3",
            CHAIN,
            &stranger,
            Some(SignerError::Unknown("hub-9".into())),
        ),
        (
            "press-4",
            "mine",
            b,
            Some(SignerError::Chain("mine".into())),
        ),
    ];
    for (object, of, by, wrong) in table {
        let put = wrap_for(&key(object), &to, (of, by)).unwrap();
        let taken = worth_taking(
            (&*store, &SealingRing::from(own.clone()), "hub-1"),
            &chain.signers(),
            vec![put.clone()],
        );
        assert_eq!(taken.unwrap().len(), usize::from(wrong.is_none()));
        store.commit(&[put]).unwrap();
        match (opener.epoch_key(object, 1), wrong) {
            (Ok(_), None) => {}
            (Err(OpeningError::Signer { source, .. }), Some(wrong)) => assert_eq!(source, wrong),
            (other, wrong) => panic!("{object}: {:?} {wrong:?}", other.err()),
        }
    }
}

#[test]
fn of_what_is_sent_only_what_opens_is_taken_and_never_what_was_destroyed() {
    let chain = Chain::new(6);
    let store = chain.disk.store();
    let (own, other) = [(); 2]
        .map(|()| Arc::new(SealingKey::generate_of(SUITE)))
        .into();
    let ring = SealingRing::from(own.clone());
    let wrap = |epoch: u64, to: &SealingKey, id: &str| {
        let key = EpochKey::generate(SUITE, "press-1", epoch).unwrap();
        wrap_for(&key, &fellow(id, to), (CHAIN, &chain.b)).unwrap()
    };
    let take = |offered: &Put| {
        let taken = worth_taking(
            (&store, &ring, "hub-1"),
            &chain.signers(),
            vec![offered.clone()],
        );
        !taken.unwrap().is_empty()
    };
    // To a key that this hub does not have: of no use, and in the way.
    assert!(!take(&wrap(1, &other, "hub-1")));
    let good = wrap(1, &own, "hub-1");
    assert!(take(&good));
    store.commit(&[wrap(1, &other, "hub-1")]).unwrap();
    assert!(take(&good), "it takes the place of one that does not open");
    store.commit(std::slice::from_ref(&good)).unwrap();
    assert!(!take(&wrap(1, &own, "hub-1")), "one that opens stays");
    store
        .remove(Space::Keys, std::slice::from_ref(&good.key))
        .unwrap();
    assert!(!take(&good), "what was destroyed stays so");
    // To others, as they are, where there is none.
    let others = wrap(2, &other, "hub-3");
    assert!(take(&others));
    store.commit(std::slice::from_ref(&others)).unwrap();
    assert!(!take(&wrap(2, &other, "hub-3")));
    let moved = Put {
        key: wrap_key("press-1", 3, "hub-1"),
        ..wrap(4, &own, "hub-1")
    };
    assert!(!take(&moved), "at another place than its own");
}

#[test]
fn verify_counts_the_keys_that_fellows_open_and_names_who_is_no_hub() {
    let mut chain = Chain::new(7);
    let drafts = [store_draft(SUITE, "press-1", 1, 3_000)];
    let mut puts = sealed_puts(SUITE, &drafts);
    puts.push(wrap_put(CHAIN, "press-1", &signer()));
    let key = EpochKey::generate(SUITE, "press-1", 1).unwrap();
    let other = SealingKey::generate_of(SUITE);
    let wrap = |id: &str| wrap_for(&key, &fellow(id, &other), (CHAIN, &*signer())).unwrap();
    puts.push(wrap("hub-2"));
    chain.ledger.append(&drafts, puts, 3_000).unwrap();
    let report = verify(&chain.disk);
    assert_eq!(report.findings, []);
    let found = report
        .recipients
        .iter()
        .map(|to| (&*to.name, to.wraps, to.height));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [("hub-1", 1, 1), ("hub-2", 1, 2)]
    );
    chain.disk.store().commit(&[wrap("hub-9")]).unwrap();
    let findings = verify(&chain.disk).findings;
    let [finding] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert!(finding.to_string().contains("`hub-9`"), "{finding}");
}

#[test]
fn a_mark_is_a_wrap_like_any_other_and_disturbs_nobody() {
    let chain = Chain::new(8);
    let site = Site {
        disk: chain.disk,
        own: Arc::new(SealingKey::generate_of(SUITE)),
    };
    let b = SealingKey::generate_of(SUITE);
    site.wrap(&[fellow("hub-2", &b)]).unwrap();
    assert_eq!(verify(&site.disk).findings, []);
    let [(_, mark)] = &site.disk.contents(Space::Keys)[..] else {
        panic!("there is one mark")
    };
    let mark = KeyWrap::from_bytes(mark).unwrap();
    assert_eq!((&*mark.recipient, &*mark.hub), ("hub-2", "hub-1"));
}

//! A hub that lies: the others find it out, put it on record, dismiss it, and the one that stands by comes in for it.

use super::{Cluster, Place};
use crate::site;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use weighbridge::crypto::{Identity, Signer};
use weighbridge::hub::{ClusterPeer, Hub, HubError};
use weighbridge::ledger::head::HeadSlot;
use weighbridge::ledger::history::succession::Succession;
use weighbridge::ledger::proof::Exhibits;
use weighbridge::ledger::query::Explorer;
use weighbridge::ledger::report::{HubChanged, HubEvent, Where};
use weighbridge::ledger::verify::verify_store;
use weighbridge_consensus::malachite::Malachite;
use weighbridge_consensus::{
    Alarm, Application, Certificate, Chain, Decided, Engine, NetworkKey, Peer, Proposed, Refused,
    Setup, Sign, Slot, Stored, Tip, Validator, Validators, Verdict,
};
use weighbridge_verifier::equivocation::check_evidence;
use weighbridge_verifier::evidence::{Evidence, Trust};
use weighbridge_verifier::succession::SetChange;
use weighbridge_verifier::{
    Block, BlockValue, Content, Faults, Hash, HubChange, HubVoteContent, PublicKey, Signature,
};

const IDS: [&str; 5] = ["hub-a", "hub-b", "hub-c", "hub-d", "hub-e"];
/// The hub that lies, and the one that stands by.
const LIAR: usize = 3;
const STANDBY: usize = 4;

/// What the second process of a hub says, which somebody started on a copy of its keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    /// Nothing that anybody proposes holds.
    No,
    /// Other values, whenever it is its turn.
    Else,
    /// As the hub would, but for its own proposals: what the last block has, again. The hub itself is away.
    Again,
}

/// A part in consensus under the key of a hub that runs elsewhere.
struct Twin {
    says: Says,
    validators: Validators,
    height: AtomicU64,
    /// The value that was decided last.
    last: Mutex<Vec<u8>>,
}

struct Key(Identity);

impl Sign for Key {
    fn public_key(&self) -> PublicKey {
        Signer::public_key(&self.0)
    }

    fn sign(&self, message: &Hash) -> Result<Signature, Refused> {
        Ok(Signer::sign(&self.0, message))
    }
}

fn id(bytes: &[u8]) -> Option<Hash> {
    BlockValue::from_bytes(bytes)
        .ok()
        .map(|value| value.header.hash())
}

impl Application for Twin {
    fn tip(&self) -> Result<Tip, Refused> {
        Ok(Tip {
            height: self.height.load(Ordering::SeqCst),
            validators: self.validators.clone(),
        })
    }

    fn has_data(&self) -> bool {
        true
    }

    fn propose(&self, slot: Slot) -> Option<Proposed> {
        let (id, bytes) = match self.says {
            Says::No => return None,
            Says::Else => {
                let bytes = format!("{slot:?}").into_bytes();
                (weighbridge_verifier::sha256(&[&bytes]), bytes)
            }
            Says::Again => {
                let mut value = BlockValue::from_bytes(&self.last.lock().unwrap()).ok()?;
                let header = &mut value.header;
                header.previous_hash = header.hash();
                header.height += 1;
                header.time += 1;
                header.proposer = IDS[LIAR].to_owned();
                (value.header.hash(), value.to_bytes())
            }
        };
        let bytes = bytes.into();
        Some(Proposed { id, bytes })
    }

    fn check(&self, _: Slot, bytes: &bytes::Bytes) -> Verdict {
        match (self.says, id(bytes)) {
            (_, None) => Verdict::Unreadable,
            (Says::No, Some(id)) => Verdict::Invalid(id),
            (Says::Else, Some(_)) => Verdict::Unknown,
            (Says::Again, Some(id)) => Verdict::Valid(id),
        }
    }

    fn check_decided(&self, _: Slot, bytes: &bytes::Bytes) -> Verdict {
        id(bytes).map_or(Verdict::Unreadable, Verdict::Valid)
    }

    fn decide(&self, decided: Decided) -> Result<Validators, Refused> {
        let height = decided.certificate.height;
        self.height.store(height, Ordering::SeqCst);
        *self.last.lock().unwrap() = decided.bytes.to_vec();
        Ok(self.validators.clone())
    }

    fn finalize(&self, _: Certificate, _: Vec<Vec<u8>>) -> Result<(), Refused> {
        Ok(())
    }

    fn first_height(&self) -> u64 {
        u64::MAX
    }

    fn stored(&self, _: u64) -> Option<Stored> {
        None
    }

    fn alarm(&self, _: Alarm) {}
}

/// Four hubs that share a chain, and one that stands by; it waits in a thread.
fn site() -> (Cluster, std::thread::JoinHandle<Result<Hub, HubError>>) {
    let mut cluster = Cluster::of(&IDS);
    for place in &mut cluster.places {
        // Whoever lies has to be at the height of the others, also on a machine that is busy.
        place.timing.height = Duration::from_millis(150);
    }
    cluster.start(0);
    for number in 1..=LIAR {
        cluster.admit(number);
    }
    let standby = cluster.stand_by(STANDBY);
    cluster.grow(2);
    (cluster, standby)
}

impl Cluster {
    /// Starts a hub that nobody knows yet, and has those that run vote for its standing by.
    fn stand_by(&mut self, number: usize) -> std::thread::JoinHandle<Result<Hub, HubError>> {
        let place = &self.places[number];
        let setup = place.setup(self.genesis, self.others(number));
        let builder = place.builder().cluster(setup);
        let peer = place.peer.clone();
        let waiting = std::thread::spawn(move || builder.start());
        for hub in self.hubs.values() {
            hub.cluster().unwrap().add_hub(peer.clone()).unwrap();
        }
        let vote = HubVoteContent {
            hub: peer.id.clone(),
            key: peer.key,
            change: HubChange::Standby,
            faults: Faults::Byzantine,
        };
        // As many as decide.
        for hub in self.hubs.values().take(3) {
            let given = hub.cluster().unwrap().vote_as("user:ann", vote.clone());
            site::wait(hub, "a vote is recorded", given).unwrap();
        }
        let mut tip = self.tip(0);
        let book = self.hubs[&0].cluster().unwrap().book().clone();
        self.wait(0, "a hub stands by", async {
            while book.standing().standbys.is_empty() {
                tip.changed().await.unwrap();
            }
        });
        let standbys = book.standing().standbys;
        assert_eq!(standbys, [(peer.id, peer.key)]);
        waiting
    }

    /// Another process signs by the key of the liar from now on, and every hub hears it.
    fn twin(&self, says: Says) -> (Malachite, Box<dyn Chain>) {
        let place = &self.places[LIAR];
        let identity = Identity::load(&place.dir.path().join("hub.key"), place.id).unwrap();
        let book = self.hubs[&0].cluster().unwrap().book();
        let members = book.members().unwrap().validators;
        let validators = members.iter().map(|hub| Validator::new(hub.key));
        let height = self.height(0);
        let explorer = Explorer::new(Arc::new(self.places[0].disk.store()));
        let last = explorer.block(height).unwrap().unwrap();
        let twin = Twin {
            says,
            validators: Validators::new(validators.collect()).unwrap(),
            height: AtomicU64::new(height),
            last: Mutex::new(last.value_bytes()),
        };
        let engine = Malachite::start(1).unwrap();
        let others = self.places.iter().take(LIAR);
        let peer = |place: &Place| Peer {
            address: place.peer.consensus,
            id: place.peer.network.clone(),
        };
        let chain = engine.open(
            Setup {
                chain: last.header.chain.clone(),
                directory: place.dir.path().join("twin"),
                listen: ([127, 0, 0, 1], 0).into(),
                network_key: NetworkKey::from_seed([7; 32]),
                peers: others.map(peer).collect(),
                signer: Arc::new(Key(identity)),
                faults: weighbridge_consensus::Faults::Byzantine,
                timing: place.timing,
                max_value: weighbridge::cluster::MAX_VALUE,
            },
            Arc::new(twin),
        );
        let chain = chain.unwrap();
        let known = ClusterPeer {
            id: "twin".to_owned(),
            key: Identity::generate("twin").public_key(),
            network: chain.network_id().to_owned(),
            consensus: chain.address(),
            mesh: ([127, 0, 0, 1], 1).into(),
            ..place.peer.clone()
        };
        for number in 0..LIAR {
            let hub = &self.hubs[&number];
            let _links = hub.runtime().enter();
            hub.cluster().unwrap().add_hub(known.clone()).unwrap();
        }
        (engine, chain)
    }

    /// Waits until the chain has the one that stood by instead of the liar, as hub 0 sees it.
    fn replaced(&self) {
        let mut tip = self.tip(0);
        let book = self.hubs[&0].cluster().unwrap().book().clone();
        self.wait(0, "the liar is out", async {
            loop {
                let members = book.standing().members;
                let has = |id: &str| members.iter().any(|(member, _)| member == id);
                if !has(IDS[LIAR]) && has(IDS[STANDBY]) {
                    return;
                }
                tip.changed().await.unwrap();
            }
        });
    }

    /// Ends all that run, and checks what each of them has.
    fn end_without_the_liar(self) -> Vec<Place> {
        let genesis = self.genesis;
        let mut places = self.end();
        let liar = places.remove(LIAR);
        super::check(&places, genesis);
        // The liar's own directory is of the same chain, and holds.
        let hashes = |place: &Place| -> Vec<Hash> {
            let blocks = place.blocks();
            blocks.iter().map(|block| block.header.hash()).collect()
        };
        let (own, reference) = (hashes(&liar), hashes(&places[0]));
        assert!(reference.starts_with(&own), "{} blocks", own.len());
        let head = liar.disk.head().read().unwrap();
        let report = verify_store(&liar.disk.store(), &head, Some(&genesis), &mut |_| {}).unwrap();
        let made_up =
            |place: &Where| matches!(place, Where::Store { name } if name.contains("history"));
        let findings = report.findings.iter().filter(|f| !made_up(&f.place));
        assert_eq!(findings.count(), 0, "{:#?}", report.findings);
        places
    }
}

/// The block by whose records the liar went, in the chain that all have.
fn dismissal(blocks: &[Block]) -> usize {
    let of_standby = |block: &Block| {
        let mut signatures = block.certificate.signatures().iter();
        signatures.any(|one| one.validator == IDS[STANDBY])
    };
    let named = |block: &Block| block.header.validators_hash;
    let first = blocks
        .iter()
        .position(of_standby)
        .expect("the standby signs");
    let set = named(&blocks[first]);
    let before = blocks.iter().rposition(|block| named(block) != set);
    before.expect("there was another set before")
}

/// The proof of two contradicting messages is on record, by another hub.
fn is_proven(blocks: &[Block]) {
    let block = blocks.last().unwrap();
    let mut records = block.records.iter().map(|record| &record.body);
    let (by, chain, proof) = records
        .find_map(|body| match &body.content {
            Content::Equivocation(proof) => Some((&body.hub, &body.chain, proof)),
            _ => None,
        })
        .expect("the proof is on record");
    assert_ne!(by, IDS[LIAR]);
    let offence = check_evidence(chain, &proof.evidence).unwrap();
    assert!(offence.height <= block.header.height);
    let of_lie = &blocks[offence.height as usize - 1];
    let after = Duration::from_nanos((block.header.time - of_lie.header.time) as u64);
    println!("by the blocks: dismissed {after:?} after the height in which it said two things");
}

/// As many hubs as decide say of the same proposal that it does not hold.
fn is_voted_on(blocks: &[Block]) {
    let records = blocks.iter().flat_map(|block| &block.records);
    let votes = records.filter_map(|record| match &record.body.content {
        Content::HubVote(vote) if vote.change == HubChange::Dismiss => Some((&record.body, vote)),
        _ => None,
    });
    let (mut by, mut of) = (BTreeSet::new(), BTreeSet::new());
    for (body, vote) in votes {
        assert_eq!(vote.hub, IDS[LIAR]);
        assert!(
            body.subject.starts_with("rule:proposal/"),
            "{}",
            body.subject
        );
        by.insert(&*body.hub);
        of.insert(&*body.subject);
    }
    assert_eq!(by.into_iter().collect::<Vec<_>>(), IDS[..LIAR]);
    println!("{of:?}");
}

/// What an auditor who has nothing but the first key finds in a file about the last block.
fn proven_offline(place: &Place, genesis: PublicKey) -> Vec<SetChange> {
    let explorer = Explorer::new(Arc::new(place.disk.store()));
    let tip = explorer.tip().unwrap().unwrap().height;
    let mut succession = Succession::begin(&explorer).unwrap();
    let mut exhibits = Exhibits::new(succession.set().clone());
    let last = explorer.block(tip).unwrap().unwrap();
    exhibits
        .show_record(&explorer.genesis().unwrap().unwrap(), 0)
        .unwrap();
    exhibits.show_record(&last, 0).unwrap();
    for (block, index) in succession.through(tip).unwrap() {
        exhibits.show_record(&block, index).unwrap();
    }
    let bytes = exhibits.into_evidence().unwrap().to_bytes();
    let evidence = Evidence::from_bytes(&bytes).unwrap();
    assert_eq!(evidence.verify(&[genesis]).unwrap(), Trust::Key);
    let changes = evidence.set_changes().into_iter();
    changes.map(|(_, change)| change).collect()
}

/// The lie is found out, recorded, and has the consequences that it should have.
fn found_out(says: Says) {
    let (mut cluster, standby) = site();
    let genesis = cluster.genesis;
    if says == Says::Again {
        cluster.stop(LIAR);
    }
    let twin = cluster.twin(says);
    let since = Instant::now();
    cluster.replaced();
    let out = since.elapsed();
    twin.1.stop();
    let came = standby.join().unwrap().unwrap();
    cluster.is_there(STANDBY, came);
    println!(
        "the liar is out after {out:?}, the standby takes part after {:?}",
        since.elapsed()
    );
    // It records its own device, and is needed for every block while another one is away.
    site::batches(&cluster.hubs[&STANDBY], 3);
    if says != Says::Again {
        // What it read and no block has is lost to the chain, so it does not end as the others do.
        cluster.stop(LIAR);
    }
    cluster.stop(2);
    cluster.grow(3);
    cluster.start(2);
    cluster.grow(2);
    let places = cluster.end_without_the_liar();
    let blocks = places[0].blocks();
    let at = dismissal(&blocks);
    match says {
        Says::No | Says::Else => is_proven(&blocks[..=at]),
        Says::Again => is_voted_on(&blocks[..=at]),
    }
    // From the next block on nothing is of the liar, and the one that stood by records.
    let later = blocks[at + 1..].iter().flat_map(|block| &block.records);
    let by: BTreeSet<&str> = later.map(|record| &*record.body.hub).collect();
    assert!(
        !by.contains(IDS[LIAR]) && by.contains(IDS[STANDBY]),
        "{by:?}"
    );
    let event = match says {
        Says::No | Says::Else => HubEvent::Proven,
        Says::Again => HubEvent::Dismissed,
    };
    for place in &places {
        let changes = proven_offline(place, genesis);
        let replaced = changes.iter().filter(|change| {
            matches!(change, SetChange::Replaced { gone, by } if gone.id == IDS[LIAR] && by.id == IDS[STANDBY])
        });
        assert_eq!(replaced.count(), 1, "{}: {changes:?}", place.id);
        let head = place.disk.head().read().unwrap();
        let report = verify_store(&place.disk.store(), &head, Some(&genesis), &mut |_| {}).unwrap();
        let height = blocks[at].header.height;
        for (hub, event) in [(LIAR, event), (STANDBY, HubEvent::CameIn)] {
            let hub = IDS[hub].to_owned();
            let wanted = HubChanged { hub, height, event };
            assert!(report.hubs.contains(&wanted), "{:?}", report.hubs);
        }
    }
}

#[test]
fn a_hub_that_votes_twice_is_replaced() {
    found_out(Says::No);
}

#[test]
fn a_hub_that_proposes_twice_is_replaced() {
    found_out(Says::Else);
}

#[test]
fn a_hub_whose_proposals_do_not_hold_is_replaced() {
    found_out(Says::Again);
}

//! Hubs that share a chain: one begins it alone, others come by votes, some go away and come back.

mod fuzzed;
mod joining;
mod leases;
mod liars;

use crate::machines::Counting;
use crate::site;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use weighbridge::actors::ledger::RecordFault;
use weighbridge::api::EraseRequest;
use weighbridge::cluster::{Timing, network_id};
use weighbridge::crypto::{Identity, NetworkSeed, SealingKey, Signer};
use weighbridge::hub::{ClusterPeer, ClusterSetup, Hub, HubBuilder, HubError, HubKeys};
use weighbridge::ledger::head::HeadSlot;
use weighbridge::ledger::opening::Opener;
use weighbridge::ledger::query::Explorer;
use weighbridge::ledger::report::{Finding, Where};
use weighbridge::ledger::verify::verify_store;
use weighbridge::store::FaultyDisk;
use weighbridge_verifier::{Block, Faults, HubChange, HubVoteContent, PublicKey, Record};

/// A hub of the site: what stays when it stops.
struct Place {
    id: &'static str,
    disk: FaultyDisk,
    dir: tempfile::TempDir,
    machine: Counting,
    /// A machine that several hubs may read, and which.
    common: Option<(Counting, Vec<String>)>,
    /// How long its consensus lets things take.
    timing: Timing,
    /// Where the others find it; nowhere yet at port 1.
    peer: ClusterPeer,
}

/// All hubs of a site, and those that run.
struct Cluster {
    places: Vec<Place>,
    hubs: BTreeMap<usize, Hub>,
    genesis: PublicKey,
}

fn timing() -> Timing {
    Timing {
        propose: Duration::from_millis(300),
        vote: Duration::from_millis(150),
        longest: Duration::from_secs(1),
        status: Duration::from_millis(200),
        ..Timing::default()
    }
}

impl Place {
    fn new(number: u64, id: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (signing, sealing) = (Identity::generate(id), SealingKey::generate());
        signing.save(&dir.path().join("hub.key")).unwrap();
        sealing.save(&dir.path().join("sealing.key")).unwrap();
        let network = NetworkSeed::load_or_make(&dir.path().join("network.key")).unwrap();
        let nowhere = ([127, 0, 0, 1], 1).into();
        Self {
            id,
            disk: FaultyDisk::new(number + 1),
            machine: Counting::new(Duration::from_millis(10)),
            common: None,
            timing: timing(),
            peer: ClusterPeer {
                id: id.to_owned(),
                key: signing.public_key(),
                sealing: sealing.public().compressed(),
                network: network_id(&network).unwrap(),
                consensus: nowhere,
                mesh: nowhere,
            },
            dir,
        }
    }

    fn device(&self) -> String {
        format!("press-{}", self.id)
    }

    fn builder(&self) -> HubBuilder {
        let keys = HubKeys {
            signing: Identity::load(&self.dir.path().join("hub.key"), self.id).unwrap(),
            sealing: SealingKey::load(&self.dir.path().join("sealing.key")).unwrap(),
        };
        let (store, head) = (Arc::new(self.disk.store()), Box::new(self.disk.head()));
        let builder = HubBuilder::on_storage(keys, store, head)
            .blocks(weighbridge::actors::ledger::BlockLimits {
                records: 16,
                age: Duration::from_millis(20),
                ..Default::default()
            })
            .device(self.machine.setup(&self.device(), 5));
        match &self.common {
            None => builder,
            Some((machine, hubs)) => {
                let mut setup = machine.setup(leases::COMMON, 5);
                setup.hubs = hubs.clone();
                builder.device(setup)
            }
        }
    }

    fn setup(&self, genesis: PublicKey, others: Vec<ClusterPeer>) -> ClusterSetup {
        let any = ([127, 0, 0, 1], 0).into();
        ClusterSetup {
            listen: any,
            mesh: any,
            network: NetworkSeed::load_or_make(&self.dir.path().join("network.key")).unwrap(),
            directory: self.dir.path().join("consensus"),
            genesis: Some(("hub-a".to_owned(), genesis)),
            hubs: others,
            timing: self.timing,
            reading: site::PATIENCE,
        }
    }

    /// All blocks, in order.
    fn blocks(&self) -> Vec<Block> {
        let explorer = Explorer::new(Arc::new(self.disk.store()));
        let tip = explorer.tip().unwrap().expect("there are blocks");
        let block = |height| explorer.block(height).unwrap().unwrap();
        (1..=tip.height).map(block).collect()
    }
}

impl Cluster {
    /// Hubs with these ids, none of which runs.
    fn of(ids: &[&'static str]) -> Self {
        let places = (0..).zip(ids).map(|(number, id)| Place::new(number, id));
        let places: Vec<_> = places.collect();
        Self {
            genesis: places[0].peer.key,
            places,
            hubs: BTreeMap::new(),
        }
    }

    fn others(&self, number: usize) -> Vec<ClusterPeer> {
        let others = self
            .places
            .iter()
            .filter(|p| p.id != self.places[number].id);
        others.map(|place| place.peer.clone()).collect()
    }

    fn start(&mut self, number: usize) {
        let place = &self.places[number];
        let setup = place.setup(self.genesis, self.others(number));
        let hub = place.builder().cluster(setup).start().unwrap();
        self.is_there(number, hub);
    }

    /// It runs, and the others are told where.
    fn is_there(&mut self, number: usize, hub: Hub) {
        let (consensus, mesh) = hub.cluster().unwrap().addresses();
        let peer = &mut self.places[number].peer;
        (peer.consensus, peer.mesh) = (consensus, mesh);
        let peer = peer.clone();
        for other in self.hubs.values() {
            other.cluster().unwrap().add_hub(peer.clone()).unwrap();
        }
        self.hubs.insert(number, hub);
    }

    /// Lets a hub in that nobody knows yet: all that run vote, and it starts meanwhile.
    fn admit(&mut self, number: usize) {
        let place = &self.places[number];
        let setup = place.setup(self.genesis, self.others(number));
        let builder = place.builder().cluster(setup);
        let peer = place.peer.clone();
        for hub in self.hubs.values() {
            hub.cluster().unwrap().add_hub(peer.clone()).unwrap();
        }
        let starting = std::thread::spawn(move || -> Result<Hub, HubError> { builder.start() });
        let vote = HubVoteContent {
            hub: peer.id.clone(),
            key: peer.key,
            change: HubChange::Admit,
            faults: Faults::Byzantine,
        };
        for hub in self.hubs.values() {
            let given = hub.cluster().unwrap().vote_as("user:ann", vote.clone());
            site::wait(hub, "a vote is recorded", given).unwrap();
        }
        self.is_there(number, starting.join().unwrap().unwrap());
    }

    fn stop(&mut self, number: usize) {
        self.hubs.remove(&number).unwrap().shutdown().unwrap();
    }

    fn tip(&self, number: usize) -> watch::Receiver<(u64, weighbridge_verifier::Hash)> {
        self.hubs[&number].cluster().unwrap().book().tip()
    }

    fn height(&self, number: usize) -> u64 {
        self.tip(number).borrow().0
    }

    /// Waits until every hub that runs has `more` blocks than the highest has now.
    fn grow(&self, more: u64) {
        let numbers: Vec<usize> = self.hubs.keys().copied().collect();
        let highest = numbers.iter().map(|number| self.height(*number)).max();
        let wanted = highest.unwrap() + more;
        for number in numbers {
            let mut tip = self.tip(number);
            let what = format!("hub {number} has block {wanted}");
            self.wait(number, &what, async {
                tip.wait_for(|tip| tip.0 >= wanted).await.unwrap();
            });
        }
    }

    /// Waits for what must come; if it does not, all hubs say how they are.
    fn wait<T>(&self, number: usize, what: &str, event: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(site::PATIENCE, event).await };
        let waited = self.hubs[&number].runtime().block_on(limited);
        waited.unwrap_or_else(|_| {
            let status =
                |hub: &Hub| weighbridge::api::ClusterPort::status(&**hub.cluster().unwrap());
            let all: Vec<_> = self.hubs.values().map(status).collect();
            panic!("waited in vain: {what}: {all:#?}")
        })
    }

    /// Ends in good order: nothing is read any more, then all of it is agreed.
    fn end(mut self) -> Vec<Place> {
        for hub in self.hubs.values() {
            // Devices leave one by one, the hubs go on deciding.
            let devices = hub.live().devices();
            let gone = devices.iter().map(|device| device.id.clone()).collect();
            let change = weighbridge::hub::Change {
                remove: gone,
                ..Default::default()
            };
            site::wait(hub, "devices leave", hub.apply(change)).unwrap();
        }
        self.all_is_agreed();
        let numbers: Vec<usize> = self.hubs.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.stop(number));
        self.places
    }

    /// Waits until no hub that runs has an open record, and all have the same newest block.
    fn all_is_agreed(&self) {
        let first = self.hubs.keys().next().unwrap();
        let changes: Vec<_> = self.hubs.keys().map(|number| self.tip(*number)).collect();
        self.wait(*first, "everything is agreed", async {
            loop {
                let changed: Vec<_> = changes
                    .iter()
                    .cloned()
                    .map(|mut tip| {
                        tip.mark_unchanged();
                        tip
                    })
                    .collect();
                let standing = |hub: &Hub| hub.cluster().unwrap().book().standing();
                let open: u64 = self.hubs.values().map(|hub| standing(hub).open).sum();
                let tips: Vec<_> = changes.iter().map(|tip| *tip.borrow()).collect();
                if open == 0 && tips.iter().all(|tip| *tip == tips[0]) {
                    return;
                }
                let mut waiting: Vec<_> = changed;
                let any = waiting.iter_mut().map(|tip| Box::pin(tip.changed()));
                let _ = futures_util::future::select_all(any).await;
            }
        });
    }
}

/// Every hub has every record of every hub once and in order, and what the auditor finds in each directory is
/// nothing.
fn check(places: &[Place], genesis: PublicKey) {
    let reference = places[0].blocks();
    let records: Vec<&Record> = reference.iter().flat_map(|block| &block.records).collect();
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for record in &records {
        let due = next.entry(&record.body.hub).or_insert(1);
        assert_eq!(record.body.sequence, *due, "{}", record.body.hub);
        *due += 1;
    }
    for place in places {
        let blocks = place.blocks();
        let hashes = |blocks: &[Block]| -> Vec<_> {
            blocks.iter().map(|block| block.header.hash()).collect()
        };
        assert_eq!(hashes(&blocks), hashes(&reference), "{}", place.id);
        let of_device = records.iter().filter_map(|record| {
            let batch = record.body.batch()?;
            (batch.device == place.device()).then_some((batch.epoch, batch.sequence))
        });
        let numbers: Vec<_> = of_device.collect();
        let due: Vec<_> = (1..=numbers.len() as u64).map(|n| (1, n)).collect();
        assert_eq!(numbers, due, "{}", place.id);
        assert!(!numbers.is_empty(), "{} recorded nothing", place.id);
        let head = place.disk.head().read().unwrap();
        let report = verify_store(&place.disk.store(), &head, Some(&genesis), &mut |_| {}).unwrap();
        // An entry of the history is looked for about when its batch was recorded, and the machines' clocks are years
        // behind: a hub that fetched batches makes their entries up by itself.
        let made_up = |finding: &&Finding| matches!(&finding.place, Where::Store { name } if name.contains("history"));
        let findings: Vec<_> = report.findings.iter().filter(|f| !made_up(f)).collect();
        assert!(findings.is_empty(), "{}: {findings:#?}", place.id);
    }
}

/// What any hub recorded newest of its device every hub opens.
fn all_open_all(places: &[Place]) {
    let blocks = places[0].blocks();
    for place in places {
        let sealing = SealingKey::load(&place.dir.path().join("sealing.key")).unwrap();
        let store = Arc::new(place.disk.store());
        let opener = Opener::new(store, Arc::new(sealing), place.id);
        for other in places {
            let records = blocks
                .iter()
                .rev()
                .flat_map(|block| block.records.iter().rev());
            let mut batches = records.filter_map(|record| record.body.batch());
            let newest = batches.find(|batch| batch.device == other.device());
            let sealed = newest.and_then(|batch| batch.sealed).unwrap();
            let opened = opener.open_batch(&other.device(), &sealed).map(drop);
            assert!(opened.is_ok(), "{} of {}: {opened:?}", place.id, other.id);
        }
    }
}

#[test]
fn a_lone_hub_shares_its_chain_from_then_on() {
    let mut cluster = Cluster::of(&["hub-a"]);
    let alone = cluster.places[0].builder().start().unwrap();
    site::batches(&alone, 3);
    alone.shutdown().unwrap();
    let solo = cluster.places[0].blocks().len() as u64;
    cluster.start(0);
    cluster.grow(3);
    let hub = &cluster.hubs[&0];
    let request = EraseRequest {
        device: cluster.places[0].device(),
        until: weighbridge::model::now(),
        dry_run: true,
    };
    let officer = site::enter(hub, "olga", &[weighbridge::access::Role::SecurityAdmin]);
    let erased = hub.eraser().erase_for(&officer, request);
    let refused = site::wait(hub, "an erasure is answered", erased).unwrap_err();
    assert!(
        refused.to_string().contains("other hubs share this chain"),
        "{refused}"
    );
    let genesis = cluster.genesis;
    let places = cluster.end();
    let blocks = places[0].blocks();
    let shared = blocks.iter().filter(|block| block.header.is_shared());
    assert_eq!(shared.count() as u64, blocks.len() as u64 - solo);
    check(&places, genesis);
}

#[test]
fn one_hub_becomes_four_and_they_withstand_what_four_can() {
    let mut cluster = Cluster::of(&["hub-a", "hub-b", "hub-c", "hub-d"]);
    let alone = cluster.places[0].builder().start().unwrap();
    site::batches(&alone, 3);
    alone.shutdown().unwrap();
    cluster.start(0);
    for number in 1..4 {
        cluster.admit(number);
        cluster.grow(2);
    }
    // One stops: the others go on, and it catches up.
    cluster.stop(3);
    cluster.grow(3);
    cluster.start(3);
    cluster.grow(2);
    // Two of four decide nothing, and record all the same.
    cluster.stop(1);
    cluster.stop(2);
    let before: Vec<u64> = [0, 3].map(|number| cluster.height(number)).to_vec();
    for number in [0, 3] {
        let hub = &cluster.hubs[&number];
        let batches = hub.stats().batches();
        let what = "batches are durable without the others";
        site::ledger(hub, what, |_| hub.stats().batches() > batches + 5);
        let act = hub.enter("ann", &[weighbridge::access::Role::Observer]);
        site::wait(hub, "an act is recorded without the others", act).unwrap();
    }
    // Others must know of a vote: it counts when they agree. It is on record here, as it is, and shown once it is in a
    // block.
    let vote = HubVoteContent {
        hub: "hub-b".to_owned(),
        key: cluster.places[1].peer.key,
        change: HubChange::Dismiss,
        faults: Faults::Byzantine,
    };
    let given = cluster.hubs[&0]
        .cluster()
        .unwrap()
        .vote_as("user:ann", vote);
    let given = cluster.wait(0, "a vote is answered", given);
    assert_eq!(given, Err(RecordFault::NotAgreed));
    // A block that was decided by three may still have come.
    for (number, before) in [0, 3].into_iter().zip(before) {
        assert!(cluster.height(number) <= before + 1);
    }
    let open = |number: usize| {
        cluster.hubs[&number]
            .cluster()
            .unwrap()
            .book()
            .standing()
            .open
    };
    assert!(open(0) > 0 && open(3) > 0);
    cluster.start(1);
    cluster.start(2);
    cluster.grow(3);
    let votes = cluster.hubs[&3].cluster().unwrap().book().standing().votes;
    // What one hub recorded of access is in force at all.
    let hub = &cluster.hubs[&2];
    let mut changes = hub.access().changes();
    cluster.wait(2, "a user of another hub is known", async {
        while !hub.gate().state().subjects().contains_key("user:ann") {
            changes.changed().await.unwrap();
        }
    });
    let by = vec!["hub-a".to_owned()];
    assert_eq!(votes, [("hub-b".to_owned(), HubChange::Dismiss, by)]);
    let genesis = cluster.genesis;
    let places = cluster.end();
    check(&places, genesis);
    all_open_all(&places);
}

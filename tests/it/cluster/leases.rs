//! Machines that several hubs may read: who does, and what becomes of them when a hub is gone, cut off or back.

use super::{Cluster, Place, check};
use crate::machines::Counting;
use crate::site;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;
use weighbridge::access::Role;
use weighbridge::api::{ClusterPort, DeviceLease};
use weighbridge::cluster::network_id;
use weighbridge::crypto::NetworkSeed;
use weighbridge::hub::{Change, ClusterPeer, Hub};
use weighbridge::model::Value;
use weighbridge_verifier::Content;

/// The machine that they share.
pub(super) const COMMON: &str = "common";

/// Hubs that may all read one machine, in this order; none runs.
fn site_of(ids: &[&'static str]) -> Cluster {
    let mut cluster = Cluster::of(ids);
    let machine = Counting::new(Duration::from_millis(10));
    let hubs: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    for place in &mut cluster.places {
        place.common = Some((machine.clone(), hubs.clone()));
    }
    cluster
}

/// The lease of the common machine, as a hub has it.
fn lease(hub: &Hub) -> Option<DeviceLease> {
    let leases = hub.cluster().unwrap().status().leases;
    leases.into_iter().find(|lease| lease.device == COMMON)
}

/// Batches of the common machine that the chain has as this hub knows it, by fencing epoch: hubs that recorded them, and
/// how many.
type ByEpoch = BTreeMap<u64, (BTreeSet<String>, u64)>;

fn batches(place: &Place) -> ByEpoch {
    let mut found = ByEpoch::new();
    for record in place.blocks().iter().flat_map(|block| &block.records) {
        let Some(batch) = record.body.batch().filter(|b| b.device == COMMON) else {
            continue;
        };
        let (hubs, last) = found.entry(batch.epoch).or_default();
        assert_eq!(batch.sequence, *last + 1, "epoch {}", batch.epoch);
        *last = batch.sequence;
        hubs.insert(record.body.hub.clone());
    }
    found
}

impl Cluster {
    /// Waits until one of the other hubs than `never` reads the common machine under a lease newer than `after`, and has
    /// batches of it on the chain, as hub `seen_by` sees it; who, and the fencing epoch.
    fn reads(&self, seen_by: usize, never: Option<usize>, after: u64) -> (usize, u64) {
        let hub = &self.hubs[&seen_by];
        let mut committed = hub.committed();
        self.wait(seen_by, "the common machine is read", async {
            loop {
                let block = match committed.recv().await {
                    Ok(block) => block,
                    // Only the newest count.
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => panic!("hub {seen_by} has ended"),
                };
                let of_common = block.batches.iter().filter(|b| *b.0 == *COMMON);
                let newest = of_common.map(|(_, epoch, ..)| *epoch).max();
                let held = lease(hub).filter(|held| held.epoch > after);
                if let Some(held) = held.filter(|held| newest == Some(held.epoch)) {
                    let reader = self.places.iter().position(|p| p.id == held.hub);
                    let reader = reader.unwrap();
                    assert_ne!(Some(reader), never);
                    return (reader, held.epoch);
                }
            }
        })
    }

    /// A hub and all others lose sight of each other, or find each other again. Whoever is cut off is known by another
    /// name as well: a connection that was being made meanwhile is not let in.
    fn cut(&self, number: usize, cut: bool) {
        let dir = tempfile::tempdir().unwrap();
        let nobody = |of: &str| {
            let seed = NetworkSeed::load_or_make(&dir.path().join(of)).unwrap();
            network_id(&seed).unwrap()
        };
        let there = |peer: &ClusterPeer| {
            let nowhere = ([127, 0, 0, 1], 1).into();
            let mut peer = peer.clone();
            if cut {
                (peer.consensus, peer.mesh) = (nowhere, nowhere);
                peer.network = nobody(&peer.id);
            }
            peer
        };
        for (other, hub) in self.hubs.iter().filter(|(other, _)| **other != number) {
            let cluster = hub.cluster().unwrap();
            cluster.add_hub(there(&self.places[number].peer)).unwrap();
            let cluster = self.hubs[&number].cluster().unwrap();
            cluster.add_hub(there(&self.places[*other].peer)).unwrap();
        }
    }

    /// Nobody may read the common machine any more, also when hubs end one by one.
    fn leave_alone(&self) {
        for hub in self.hubs.values() {
            let change = Change {
                remove: vec![COMMON.into()],
                ..Change::default()
            };
            site::wait(hub, "a device leaves", hub.apply(change)).unwrap();
        }
    }

    /// What a write to the common machine is answered with at a hub.
    fn refusal(&self, number: usize, user: &str) -> String {
        let hub = &self.hubs[&number];
        let caller = site::enter(hub, user, &[Role::Engineer]);
        let writes = vec![("count".to_owned(), Value::U64(1))];
        let desk = hub.control();
        let asked = desk.write(&caller, COMMON, writes);
        site::wait(hub, "a write is answered", asked)
            .unwrap_err()
            .to_string()
    }
}

/// Every epoch of the common machine is one hub's, and its batches are all there.
fn check_common(places: &[Place]) -> ByEpoch {
    let found = batches(&places[0]);
    let mut leases = BTreeMap::new();
    for record in places[0].blocks().iter().flat_map(|block| &block.records) {
        if let Content::Lease(lease) = &record.body.content {
            assert!(
                leases
                    .last_key_value()
                    .is_none_or(|(e, _)| *e < lease.epoch)
            );
            leases.insert(lease.epoch, lease.hub.clone());
        }
    }
    for (epoch, (hubs, _)) in &found {
        assert_eq!(hubs.iter().next(), leases.get(epoch), "epoch {epoch}");
        assert_eq!(hubs.len(), 1, "epoch {epoch}");
    }
    found
}

#[test]
fn a_machine_goes_from_hub_to_hub_when_its_hub_is_gone() {
    let mut cluster = site_of(&["hub-a", "hub-b", "hub-c", "hub-d"]);
    cluster.start(0);
    let (reader, first) = cluster.reads(0, None, 0);
    assert_eq!(reader, 0, "no other was there");
    for number in 1..4 {
        cluster.admit(number);
    }
    assert_eq!(cluster.reads(0, None, 0), (0, first), "it stays with it");
    assert!(cluster.hubs[&1].live().device(COMMON).is_none());
    let refused = cluster.refusal(1, "ann");
    assert!(refused.contains("`hub-a` reads `common` now"), "{refused}");
    let before = Instant::now();
    cluster.stop(0);
    let gone = before.elapsed();
    // The next in the list, where everybody is quick.
    let (second_at, second) = cluster.reads(3, Some(0), first);
    println!(
        "take-over: {:?} after its hub was gone, which took {gone:?}",
        before.elapsed() - gone
    );
    // It comes back, and leaves the machine alone.
    cluster.start(0);
    cluster.grow(5);
    assert_eq!(cluster.reads(0, Some(0), first), (second_at, second));
    assert!(cluster.hubs[&0].live().device(COMMON).is_none());
    // Cut off, the holder reads on, and does nothing to the machine.
    let genesis = cluster.genesis;
    cluster.cut(second_at, true);
    let (third_at, third) = cluster.reads(0, Some(second_at), second);
    let lonely = &cluster.hubs[&second_at];
    let more = lonely.stats().batches() + 20;
    site::ledger(lonely, "an isolated hub records on", |_| {
        lonely.stats().batches() > more
    });
    assert!(lonely.live().device(COMMON).is_some());
    let refused = cluster.refusal(second_at, "ben");
    assert!(refused.contains("hears too few"), "{refused}");
    let recorded = lonely.cluster().unwrap().book().look(|state, _, _| {
        let mut leases = state.leases(COMMON).iter();
        leases.find(|lease| lease.epoch == second).unwrap().sequence
    });
    cluster.cut(second_at, false);
    let lonely = &cluster.hubs[&second_at];
    let mut tip = cluster.tip(second_at);
    cluster.wait(second_at, "it hears that another hub reads", async {
        loop {
            let held = lease(lonely).is_some_and(|lease| lease.epoch >= third);
            if held && lonely.live().device(COMMON).is_none() {
                return;
            }
            tip.changed().await.unwrap();
        }
    });
    cluster.leave_alone();
    let places = cluster.end();
    check(&places, genesis);
    let found = check_common(&places);
    for (epoch, at) in [(first, 0), (second, second_at), (third, third_at)] {
        let hubs: Vec<_> = found[&epoch].0.iter().collect();
        assert_eq!(hubs, [places[at].id], "epoch {epoch}");
    }
    assert!(found[&second].1 >= recorded, "all that it read is there");
}

#[test]
fn of_two_hubs_the_one_that_is_left_reads_its_own_and_takes_nothing_over() {
    let mut cluster = site_of(&["hub-a", "hub-b"]);
    cluster.start(0);
    // Who comes while nobody has it may take it.
    let (_, first) = cluster.reads(0, Some(1), 0);
    cluster.admit(1);
    assert_eq!(cluster.reads(0, Some(1), 0), (0, first));
    cluster.stop(1);
    let holder = &cluster.hubs[&0];
    let more = holder.stats().batches() + 100;
    site::ledger(holder, "it records on", |_| holder.stats().batches() > more);
    assert!(holder.live().device(COMMON).is_some());
    let refused = cluster.refusal(0, "ann");
    assert!(refused.contains("hears too few"), "{refused}");
    cluster.start(1);
    cluster.grow(2);
    cluster.stop(0);
    // Far longer than a hub waits that may take over.
    let left = &cluster.hubs[&1];
    let more = left.stats().batches() + 140;
    site::ledger(left, "it records its own", |_| {
        left.stats().batches() > more
    });
    assert_eq!(lease(left).unwrap().epoch, first);
    assert!(left.live().device(COMMON).is_none());
    cluster.start(0);
    // Under the same lease as before.
    assert_eq!(cluster.reads(0, Some(1), 0), (0, first));
    let genesis = cluster.genesis;
    cluster.leave_alone();
    let places = cluster.end();
    check(&places, genesis);
    check_common(&places);
}

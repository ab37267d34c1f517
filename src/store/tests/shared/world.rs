//! Several hubs, the links between them, and what stands in for consensus: it decides what enough of them find valid.

use super::draws::Draws;
use super::hub::{Hub, act, id, signer};
use super::{CHAIN, SUITE};
use crate::crypto::Signer;
use crate::ledger::Draft;
use crate::ledger::LedgerError;
use crate::ledger::shared::{Carried, Checked, PoolError};
use crate::ledger::store::Space;
use crate::ledger::testing::RememberingCheck;
use std::collections::BTreeMap;
use std::sync::Arc;
use weighbridge_verifier::vote::Vote;
use weighbridge_verifier::{
    Action, Block, BlockValue, Content, Faults, Hash, HubChange, HubVoteContent, PublicKey,
    QuorumCertificate, Record, Response, Signature, ValidatorSet,
};

/// What was decided.
pub(super) struct Decided {
    pub(super) hash: Hash,
    pub(super) bytes: Vec<u8>,
    pub(super) certificate: QuorumCertificate,
    /// The same with every signature that there was.
    pub(super) full: QuorumCertificate,
    state: Hash,
}

pub(super) struct World {
    pub(super) draws: Draws,
    pub(super) now: i64,
    pub(super) hubs: Vec<Hub>,
    /// The block that the first hub signed alone.
    first: Option<Block>,
    /// What was decided, from height 2 on.
    pub(super) decided: Vec<Decided>,
    /// All records in blocks, by hub and number.
    recorded: BTreeMap<(String, u64), Record>,
    /// Who can reach whom: hubs with the same number.
    islands: Vec<usize>,
    /// Which generation of its records a hub last heard of another one.
    heard: BTreeMap<(usize, usize), u64>,
    /// Records on their way: from whom, to whom.
    flights: Vec<(usize, usize, Vec<Carried>)>,
    check: Arc<RememberingCheck>,
    seed: u64,
    /// Whether hubs hear of a decision only when they ask.
    pub(super) quiet: bool,
}

impl World {
    /// `hubs` hubs that have come into the set one after the other.
    pub(super) fn new(seed: u64, hubs: usize, faults: Faults) -> Self {
        let mut world = Self {
            draws: Draws::new(seed),
            now: 1_000_000,
            hubs: Vec::new(),
            first: None,
            decided: Vec::new(),
            recorded: BTreeMap::new(),
            islands: vec![0; hubs],
            heard: BTreeMap::new(),
            flights: Vec::new(),
            check: Arc::new(RememberingCheck::default()),
            seed,
            quiet: false,
        };
        world.add(1);
        let first = world.hubs[0].ledger().block(1).unwrap();
        world.enter(&first.as_ref().unwrap().records);
        world.first = first;
        for number in 2..=hubs as u64 {
            let faults = match number {
                3 if hubs == 3 => faults,
                _ => Faults::Byzantine,
            };
            world.vote(number, HubChange::Admit, faults);
            world.settle();
            world.add(number);
            world.settle();
            assert!(world.hubs.iter().all(|hub| hub.ledger().is_member()));
        }
        world
    }

    fn add(&mut self, number: u64) {
        let genesis = (id(1), signer(1).public_key());
        let mut hub = Hub::new(number, self.seed, genesis, self.check.clone());
        hub.open(self.now).unwrap();
        self.hubs.push(hub);
    }

    /// One more hub is let stand by.
    pub(super) fn stand_by(&mut self) {
        let number = self.hubs.len() as u64 + 1;
        self.vote(number, HubChange::Standby, Faults::Byzantine);
        self.settle();
        self.add(number);
        self.islands.push(0);
        self.settle();
        for hub in &self.hubs {
            let set = hub.ledger().committed().0.validators().unwrap();
            assert_eq!(set.standbys.len(), 1);
        }
    }

    /// Every hub that runs votes.
    pub(super) fn vote(&mut self, number: u64, change: HubChange, faults: Faults) {
        let content = HubVoteContent {
            hub: id(number),
            key: signer(number).public_key(),
            change,
            faults,
        };
        let object = format!("hub:{}", content.hub);
        let draft = Draft {
            action: Action::Membership,
            content: Content::HubVote(content),
            ..act(self.now, &object)
        };
        for hub in &mut self.hubs {
            let may = hub.id != id(number) && hub.runs() && hub.ledger().is_member();
            if may && !hub.ledger().is_pending() {
                hub.write(std::slice::from_ref(&draft), Vec::new(), self.now);
            }
        }
    }

    /// The records that are in blocks.
    pub(super) fn recorded(&self) -> impl Iterator<Item = &Record> {
        self.recorded.values()
    }

    /// Height of what was decided.
    pub(super) fn height(&self) -> u64 {
        1 + self.decided.len() as u64
    }

    fn linked(&self, a: usize, b: usize) -> bool {
        a != b && self.islands[a] == self.islands[b]
    }

    pub(super) fn part(&mut self) {
        for island in &mut self.islands {
            *island = self.draws.below(2);
        }
    }

    pub(super) fn join(&mut self) {
        self.islands.fill(0);
    }

    /// Some hub asks another one for its records.
    pub(super) fn ask(&mut self, from: usize, to: usize, most: usize) {
        if !self.linked(from, to) || !self.hubs[from].runs() || !self.hubs[to].runs() {
            return;
        }
        let (a, b) = (self.hubs[from].ledger(), self.hubs[to].ledger());
        let (first, newest, generation) = a.own_open();
        assert!(first <= newest + 1);
        let again = self.heard.insert((from, to), generation) != Some(generation);
        let wanted = match again {
            true => b.committed_of(a.hub()) + 1,
            false => b.wanted(a.hub()),
        };
        if let Ok(run) = a.own_run(wanted, most) {
            self.flights.push((from, to, run));
        }
    }

    /// Some of what is on its way arrives: the oldest or any, whole or in part, once or twice.
    pub(super) fn arrive(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let at = match self.draws.one_in(3) {
            true => self.draws.below(self.flights.len()),
            false => 0,
        };
        let (from, to, mut run) = match self.draws.one_in(5) {
            true => {
                let (from, to, run) = &self.flights[at];
                (*from, *to, run.clone())
            }
            false => self.flights.remove(at),
        };
        if self.draws.one_in(6) {
            let keep = self.draws.below(run.len() + 1);
            run.truncate(keep);
        }
        if self.draws.one_in(12) && !run.is_empty() {
            run.remove(0);
        }
        if self.linked(from, to) {
            self.take(from, to, run);
        }
    }

    fn take(&mut self, from: usize, to: usize, run: Vec<Carried>) {
        let of = self.hubs[from].id.clone();
        if !self.hubs[to].runs() {
            return;
        }
        let length = run.len();
        match self.hubs[to].ledger_mut().receive(&of, run) {
            Ok(taken) => assert_eq!(taken, length),
            // From before the other one signed anew, out of order, or of a hub that was dismissed.
            Err(PoolError::Record { .. } | PoolError::Gap { .. } | PoolError::Hub(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }

    /// Everything that is on its way arrives.
    pub(super) fn arrive_all(&mut self) {
        for (from, to, run) in std::mem::take(&mut self.flights) {
            self.take(from, to, run);
        }
    }

    /// A proposal of some hub, and the votes for it. Whether something was decided.
    pub(super) fn round(&mut self) -> bool {
        let proposer = self.draws.below(self.hubs.len());
        self.round_by(proposer)
    }

    /// A proposal and the votes for it.
    pub(super) fn round_by(&mut self, proposer: usize) -> bool {
        let height = self.height() + 1;
        let now = self.now;
        if !self.is_ready(proposer, height) {
            return false;
        }
        let Some((hash, bytes)) = self.hubs[proposer].ledger_mut().propose(height, now) else {
            return false;
        };
        let (state, _) = self.hubs[proposer].ledger().committed();
        let set = state.validators().unwrap().clone();
        let mut voters = vec![proposer];
        for voter in 0..self.hubs.len() {
            if !self.linked(proposer, voter) || !self.is_ready(voter, height) {
                continue;
            }
            let mut said = self.hubs[voter].ledger().check(height, &bytes, now);
            if matches!(said, Checked::Missing(..)) && self.draws.one_in(2) {
                for from in 0..self.hubs.len() {
                    self.ask(from, voter, usize::MAX);
                    if let Some((from, to, run)) = self.flights.pop() {
                        self.take(from, to, run);
                    }
                }
                said = self.hubs[voter].ledger().check(height, &bytes, now);
            }
            match said {
                Checked::Valid(of) => {
                    assert_eq!(of, hash);
                    voters.push(voter);
                }
                Checked::Missing(..) | Checked::Unknown(..) => {}
                Checked::Invalid(_, why) | Checked::Refused(_, why) => {
                    panic!("an honest value: {why}")
                }
                Checked::Unreadable => panic!("an honest value cannot be read"),
            }
        }
        if voters.len() < set.threshold as usize {
            return false;
        }
        let full = self.certificate(height, hash, &set, &voters);
        let mut certificate = full.clone();
        if self.draws.one_in(2) {
            certificate.signatures.truncate(set.threshold as usize);
        }
        let value = BlockValue::from_bytes(&bytes).unwrap();
        self.enter(&value.records);
        self.decided.push(Decided {
            hash,
            bytes,
            certificate,
            full,
            state: value.header.state_hash,
        });
        for voter in voters {
            if !self.quiet && !self.draws.one_in(4) {
                self.decide(voter);
            }
        }
        true
    }

    fn is_ready(&self, hub: usize, height: u64) -> bool {
        let hub = &self.hubs[hub];
        hub.runs() && hub.ledger().is_member() && hub.ledger().tip().height + 1 == height
    }

    pub(super) fn certificate(
        &self,
        height: u64,
        block: Hash,
        set: &ValidatorSet,
        voters: &[usize],
    ) -> QuorumCertificate {
        let round = height as u32 % 3;
        let message = Vote::precommit(height, round, block).message(SUITE, CHAIN);
        let signed = voters.iter().map(|voter| {
            let signer = &self.hubs[*voter].signer;
            (signer.public_key(), signer.sign(&message))
        });
        let signed: Vec<(PublicKey, Signature)> = signed.collect();
        QuorumCertificate::of(round, signed, set).unwrap()
    }

    /// Records that are in a block now: of each hub the next ones.
    fn enter(&mut self, records: &[Record]) {
        for record in records {
            let body = &record.body;
            if let Some(before) = body.sequence.checked_sub(1).filter(|before| *before > 0) {
                let before = &self.recorded[&(body.hub.clone(), before)];
                assert_eq!(before.body.hash(), body.previous);
            }
            let key = (body.hub.clone(), body.sequence);
            let twice = self.recorded.insert(key, record.clone());
            assert!(twice.is_none(), "a record is in two blocks");
        }
    }

    /// A hub takes the decision that comes next for it.
    pub(super) fn decide(&mut self, hub: usize) {
        let now = self.now;
        let whole = self.draws.one_in(4);
        let twice = self.draws.one_in(4);
        let hub = &mut self.hubs[hub];
        if !hub.runs() || hub.ledger().tip().height > self.decided.len() as u64 {
            return;
        }
        let height = hub.ledger().tip().height + 1;
        let taken = match height {
            1 => hub.ledger_mut().follow(self.first.clone().unwrap(), now),
            _ => {
                let decided = &self.decided[height as usize - 2];
                let certificate = decided.certificate.clone();
                match whole {
                    true => {
                        let value = BlockValue::from_bytes(&decided.bytes).unwrap();
                        hub.ledger_mut().follow(value.certified(certificate), now)
                    }
                    false => hub.ledger_mut().decide(&decided.bytes, certificate, now),
                }
            }
        };
        match taken {
            Ok(committed) if twice && height > 1 => {
                let decided = &self.decided[height as usize - 2];
                let certificate = decided.certificate.clone();
                let again = hub.ledger_mut().decide(&decided.bytes, certificate, now);
                assert_eq!(again.unwrap(), committed);
            }
            Ok(_) | Err(LedgerError::Store(_)) => {}
            Err(other) => panic!("{}: height {height}: {other}", hub.id),
        }
        hub.hear();
    }

    /// Late signatures.
    pub(super) fn improve(&mut self, hub: usize) {
        let hub = &mut self.hubs[hub];
        let Some(ledger) = &mut hub.ledger else {
            return;
        };
        let height = ledger.tip().height;
        if height < 2 {
            return;
        }
        let full = self.decided[height as usize - 2].full.clone();
        match ledger.improve(height, full) {
            Ok(()) | Err(LedgerError::Store(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }

    /// A hub is brought what it lacks by another one.
    pub(super) fn bring(&mut self, from: usize, to: usize) {
        if !self.linked(from, to) || !self.hubs[from].runs() || !self.hubs[to].runs() {
            return;
        }
        let most = 1 + self.draws.below(4);
        let Ok(wants) = self.hubs[to].ledger().missing(most) else {
            return;
        };
        for want in wants {
            let Ok(mut lent) = self.hubs[from].ledger().lend(&want) else {
                return;
            };
            if self.draws.one_in(8) && !lent.is_empty() {
                // Something else than was asked for.
                // (An entry of the history that is lost is made up by whoever can open the batch.)
                let at = self.draws.below(lent.len());
                if lent[at].space != Space::History {
                    lent[at].value.push(0);
                }
            }
            match self.hubs[to].ledger_mut().bring(lent) {
                Ok(_) | Err(LedgerError::Store(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// What must always hold.
    pub(super) fn check(&self) {
        for hub in self.hubs.iter().filter(|hub| hub.runs()) {
            let ledger = hub.ledger();
            let (state, tip) = ledger.committed();
            if tip.height > 1 {
                let decided = &self.decided[tip.height as usize - 2];
                assert_eq!(tip.hash, decided.hash, "{} at {}", hub.id, tip.height);
                assert_eq!(state.hash(), decided.state, "{}", hub.id);
            }
            let known = state.identities().contains_key(&hub.id);
            if known && !ledger.is_member() {
                continue;
            }
            let (first, newest, _) = ledger.own_open();
            for (number, record) in &hub.acknowledged {
                if *number < first {
                    let now = &self.recorded[&(hub.id.clone(), *number)];
                    assert!(says(now, record), "{} {number}: {now:?}", hub.id);
                }
                assert!(*number <= newest, "{}: {number} is lost", hub.id);
            }
        }
    }

    /// Everything works, until nothing is left to do.
    pub(super) fn settle(&mut self) {
        self.join();
        self.flights.clear();
        for round in 0.. {
            assert!(round < 400, "it does not come to rest");
            self.now += 1_000;
            for hub in 0..self.hubs.len() {
                self.restart(hub);
                while self.hubs[hub].ledger().tip().height < self.height() {
                    self.decide(hub);
                }
                if self.hubs[hub].ledger().is_pending() {
                    let now = self.now;
                    self.hubs[hub].append(&mut self.draws, now);
                }
                for other in 0..self.hubs.len() {
                    self.ask(other, hub, usize::MAX);
                    self.flights
                        .pop()
                        .into_iter()
                        .for_each(|(from, to, run)| self.take(from, to, run));
                    self.bring(other, hub);
                }
            }
            self.round();
            self.check();
            if self.is_settled() {
                return;
            }
        }
    }

    fn is_settled(&self) -> bool {
        let height = self.height();
        self.hubs.iter().all(|hub| {
            let ledger = hub.ledger();
            let (first, newest, _) = ledger.own_open();
            ledger.tip().height == height
                && first > newest
                && !ledger.is_pending()
                && ledger.missing(1).unwrap().is_empty()
        })
    }

    /// The power is on, there is room, and the hub runs.
    pub(super) fn restart(&mut self, hub: usize) {
        let now = self.now;
        let hub = &mut self.hubs[hub];
        if !hub.disk.powered() {
            hub.crash();
        }
        hub.disk.restart();
        hub.disk.set_full(false);
        if !hub.runs() {
            hub.open(now).unwrap();
        }
    }

    /// What a hub was told is durable stands in the chain.
    pub(super) fn check_all_recorded(&self) {
        for hub in &self.hubs {
            if !hub.ledger().is_member() {
                continue;
            }
            for (number, record) in &hub.acknowledged {
                let now = &self.recorded[&(hub.id.clone(), *number)];
                assert!(says(now, record), "{} {number}: {now:?}", hub.id);
            }
        }
    }

    /// Every hub's store holds, and holds everything.
    pub(super) fn verify(&self) {
        for hub in &self.hubs {
            let report = hub.verify();
            assert_eq!(report.findings, [], "{}", hub.id);
            assert_eq!(report.lacking, 0, "{}", hub.id);
            assert_eq!(report.height, self.height(), "{}", hub.id);
            assert!(report.open == 0 || !hub.ledger().is_member());
        }
    }
}

/// Whether what stands under a number says what was acknowledged there, or that it was left out, where another hub can
/// have come between.
fn says(now: &Record, acknowledged: &Record) -> bool {
    let (now, then) = (&now.body, &acknowledged.body);
    let same = (&now.subject, now.action, &now.object, &now.content)
        == (&then.subject, then.action, &then.object, &then.content);
    let between = then.object.starts_with("device:own-") || then.action == Action::Control;
    let refused = now.response == Response::Refused
        && matches!(now.content, Content::Commitment(_))
        && (&now.subject, &now.object) == (&then.subject, &then.object);
    same || refused && !between
}

//! The task of one chain: answers what the engine asks, and decides when the next height begins.
//!
//! It never blocks. Whatever may take long, everything that the application does, runs as a job on a
//! thread of its own, and comes back as a [`Done`].
//!
//! The order in which things become durable: the engine's log is synced before a vote leaves this hub;
//! a decision is stored, with its certificate, before the engine hears that it is; and only then does
//! the next height begin. So the store is never behind the log.

use super::actors::Heard;
use super::assembly::{AHEAD, Assembled, Assembly};
use super::codec::{MAX_DECISIONS, MAX_PART};
use super::context::{Address, Context, Height, Part, Value, Voters, core_types};
use super::evidence;
use super::values::Values;
use crate::application::{Alarm, Application, Decided, Proposed, Refused, Slot, Verdict};
use crate::certificate::Certificate;
use crate::engine::{Faults, Progress, Timing};
use crate::validators::Validators;
use arc_malachitebft_app::engine::consensus::{ConsensusMsg, ConsensusRef};
use arc_malachitebft_app::engine::host::{HostMsg, Next, SyncedValueOutcome};
use arc_malachitebft_app::engine::network::{NetworkMsg, NetworkRef};
use arc_malachitebft_app::engine::util::streaming::StreamContent;
use arc_malachitebft_app::types::streaming::{StreamId, StreamMessage};
use arc_malachitebft_app::types::sync::RawDecidedValue;
use arc_malachitebft_app::types::{LocallyProposedValue, MisbehaviorEvidence, ProposedValue};
use bytes::Bytes;
use core_types::{
    CommitCertificate, CommitSignature, ExtendedCommitCertificate, HeightParams, LinearTimeouts,
    Round, Validity, ValueOrigin, VoteExtensions,
};
use ractor::RpcReplyPort;
use std::ops::RangeInclusive;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use weighbridge_verifier::Hash;

/// Most values that wait because their height has not come.
const MAX_EARLY: usize = 8;
/// Most values that are being checked at once; more of them than there are proposers are a flood.
const MAX_CHECKS: usize = 16;

/// What never changes of a chain.
pub struct Fixed {
    pub name: Arc<str>,
    pub address: Address,
    pub application: Arc<dyn Application>,
    pub faults: Faults,
    pub timing: Timing,
    pub max_value: usize,
    pub network: NetworkRef<Context>,
    pub consensus: ConsensusRef<Context>,
    pub values: Arc<Values>,
    pub progress: watch::Sender<Progress>,
}

/// What reaches the task.
pub struct Inputs {
    pub host: mpsc::Receiver<HostMsg<Context>>,
    pub heard: watch::Receiver<Heard>,
    pub wake: Arc<Notify>,
}

/// Who waits to be told that a height begins.
enum Parked {
    /// The engine, after its start.
    First(RpcReplyPort<(Height, HeightParams<Context>)>),
    /// The engine, after a decision.
    Next(RpcReplyPort<Next<Context>>),
}

/// A turn of this hub to propose.
struct Turn {
    slot: Slot,
    reply: RpcReplyPort<LocallyProposedValue<Context>>,
    /// The application is asked right now.
    asked: bool,
    /// Somebody said meanwhile that there is data.
    again: bool,
}

/// What the engine says when a height is over.
struct Over {
    certificate: Certificate,
    evidence: Vec<Vec<u8>>,
    reply: RpcReplyPort<Next<Context>>,
}

/// A job that has ended.
enum Done {
    Proposed(Slot, Option<Proposed>),
    Checked(Assembled, Verdict),
    Synced(Synced, Verdict),
    Decided {
        certificate: Certificate,
        result: Result<Validators, Refused>,
        reply: RpcReplyPort<()>,
    },
    Finalized(Result<(), Refused>, RpcReplyPort<Next<Context>>),
    Answered,
}

/// A decision of another hub's, to catch up with.
struct Synced {
    slot: Slot,
    proposer: Address,
    bytes: Bytes,
    reply: RpcReplyPort<SyncedValueOutcome<Context>>,
}

/// The task of a chain.
pub struct Task {
    fixed: Fixed,
    tip: u64,
    validators: Validators,
    /// The engine has said something in the next height before it was stopped.
    unfinished: bool,
    deciding: Option<u64>,
    parked: Option<Parked>,
    turn: Option<Turn>,
    /// The height that is being stored, or whose storing failed.
    storing: Option<u64>,
    /// How many signatures the certificate that was stored last has.
    signatures: usize,
    over: Option<Over>,
    assembly: Assembly,
    early: Vec<Assembled>,
    checks: usize,
    streams: u64,
    jobs: JoinSet<Done>,
    halted: bool,
}

impl Task {
    /// The task of a chain whose store ends at `tip`.
    pub fn new(fixed: Fixed, tip: u64, validators: Validators, unfinished: bool) -> Self {
        let assembly = Assembly::new(fixed.max_value);
        Self {
            fixed,
            tip,
            validators,
            unfinished,
            deciding: None,
            parked: None,
            turn: None,
            storing: None,
            signatures: 0,
            over: None,
            assembly,
            early: Vec::new(),
            checks: 0,
            streams: 0,
            jobs: JoinSet::new(),
            halted: false,
        }
    }

    /// Runs until the engine is gone.
    pub async fn run(mut self, mut inputs: Inputs) {
        loop {
            tokio::select! {
                message = inputs.host.recv() => match message {
                    Some(message) => self.asked(message),
                    None => break,
                },
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.done(done),
                    Err(e) => self.halt(&format!("the application panicked: {e}")),
                },
                changed = inputs.heard.changed() => if changed.is_err() { break },
                () = inputs.wake.notified() => self.propose(),
            }
            let heard = inputs.heard.borrow_and_update().clone();
            self.begin(heard.height());
            self.show(heard.peers.len());
        }
        // What is being stored is stored to its end.
        while self.jobs.join_next().await.is_some() {}
    }

    fn show(&self, peers: usize) {
        let (tip, deciding, parked) = (self.tip, self.deciding, self.parked.is_some());
        self.fixed.progress.send_if_modified(|progress| {
            let new = Progress {
                tip,
                deciding,
                parked,
                peers,
                halted: progress.halted.clone(),
            };
            let changed = *progress != new;
            *progress = new;
            changed
        });
    }

    fn halt(&mut self, reason: &str) {
        self.halted = true;
        let halted = reason.to_owned();
        self.fixed.application.alarm(Alarm::Halted(halted.clone()));
        self.fixed
            .progress
            .send_modify(|progress| progress.halted = Some(halted));
    }

    fn job(&mut self, job: impl FnOnce(&dyn Application) -> Done + Send + 'static) {
        let application = self.fixed.application.clone();
        self.jobs.spawn_blocking(move || job(&*application));
    }

    fn asked(&mut self, message: HostMsg<Context>) {
        match message {
            HostMsg::ConsensusReady { reply_to } => self.parked = Some(Parked::First(reply_to)),
            HostMsg::StartedRound {
                height,
                round,
                reply_to,
                ..
            } => {
                self.deciding = Some(height.0);
                let slot = round.as_u32().map(|round| (height.0, round));
                let same = |turn: &Turn| slot == Some((turn.slot.height, turn.slot.round));
                self.turn = self.turn.take().filter(same);
                // What was seen before a stop comes from the engine's own log.
                let _ = reply_to.send(Vec::new());
            }
            HostMsg::GetValue {
                height,
                round,
                reply_to,
                ..
            } => {
                let (height, round) = (height.0, round.as_u32().unwrap_or(0));
                self.turn = Some(Turn {
                    slot: Slot { height, round },
                    reply: reply_to,
                    asked: false,
                    again: false,
                });
                self.propose();
            }
            HostMsg::RestreamValue {
                height,
                round,
                address,
                value_id,
                ..
            } => {
                let (height, round) = (height.0, round.as_u32().unwrap_or(0));
                if let Some(bytes) = self.fixed.values.get(&value_id.0) {
                    self.publish(Slot { height, round }, address, &bytes);
                }
            }
            HostMsg::ReceivedProposalPart {
                from,
                published_by,
                part,
                ..
            } => {
                // A value goes to consensus by itself when it is checked; the port stays unanswered.
                let publisher = published_by.unwrap_or(from);
                if let Some(value) = self.assembly.add(self.tip, publisher, part) {
                    self.check(value);
                }
            }
            HostMsg::Decided {
                certificate,
                reply_to,
                ..
            } => self.decide(&certificate, reply_to),
            HostMsg::Finalized {
                certificate,
                evidence,
                reply_to,
                ..
            } => self.finalized(&certificate, &evidence, reply_to),
            HostMsg::GetHistoryMinHeight { reply_to } => self.job(|application| {
                let _ = reply_to.send(Height(application.first_height()));
                Done::Answered
            }),
            HostMsg::GetDecidedValues { range, reply_to } => self.read(range, reply_to),
            HostMsg::ProcessSyncedValue {
                height,
                round,
                proposer,
                value_bytes,
                reply_to,
            } => self.synced(Synced {
                slot: Slot {
                    height: height.0,
                    round: round.as_u32().unwrap_or(0),
                },
                proposer,
                bytes: value_bytes,
                reply: reply_to,
            }),
            // Votes have no extensions here: nobody asks.
            HostMsg::ExtendVote { reply_to, .. } => drop(reply_to.send(None)),
            HostMsg::VerifyVoteExtensions { reply_to, .. } => drop(reply_to.send(Vec::new())),
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Proposed(slot, proposed) => self.proposed(slot, proposed),
            Done::Checked(value, verdict) => self.checked(value, verdict),
            Done::Synced(synced, verdict) => self.caught_up(synced, verdict),
            Done::Decided {
                certificate,
                result,
                reply,
            } => self.decided(certificate, result, reply),
            Done::Finalized(result, reply) => match result {
                Ok(()) => self.parked = Some(Parked::Next(reply)),
                Err(e) => self.halt(&format!("what came after a decision was not stored: {e}")),
            },
            Done::Answered => {}
        }
    }

    /// Lets the next height begin, if there is a reason to.
    fn begin(&mut self, heard: u64) {
        if self.halted || self.storing.is_some() || self.parked.is_none() {
            return;
        }
        let wanted = self.unfinished || heard > self.tip || self.fixed.application.has_data();
        if !wanted {
            return;
        }
        let Some(parked) = self.parked.take() else {
            return;
        };
        self.unfinished = false;
        let height = Height(self.tip.saturating_add(1));
        let params = self.params();
        let began = match parked {
            Parked::First(reply) => reply.send((height, params)).is_ok(),
            Parked::Next(reply) => reply.send(Next::Start(height, params)).is_ok(),
        };
        if !began {
            self.halt("the engine did not take the next height");
        }
    }

    fn params(&self) -> HeightParams<Context> {
        let timing = &self.fixed.timing;
        let timeouts = LinearTimeouts {
            propose: timing.propose,
            propose_delta: timing.propose / 2,
            prevote: timing.vote,
            prevote_delta: timing.vote / 2,
            precommit: timing.vote,
            precommit_delta: timing.vote / 2,
            rebroadcast: timing.propose + 2 * timing.vote,
            max_timeout: timing.longest,
        };
        // Without a least time for a height, what comes late is never looked at.
        let least = Some(timing.height).filter(|least| !least.is_zero());
        HeightParams::new(Voters::new(&self.validators), timeouts, least)
    }

    /// Asks for a value, when it is our turn and nobody has been asked. Asked again when there is data,
    /// as long as the turn lasts.
    fn propose(&mut self) {
        let next = self.tip.saturating_add(1);
        let Some(turn) = self.turn.as_mut() else {
            return;
        };
        if turn.asked {
            turn.again = true;
            return;
        }
        if turn.slot.height == next && self.storing.is_none() {
            turn.asked = true;
            let slot = turn.slot;
            self.job(move |application| Done::Proposed(slot, application.propose(slot)));
        }
    }

    fn proposed(&mut self, slot: Slot, proposed: Option<Proposed>) {
        let Some(turn) = self.turn.as_mut().filter(|turn| turn.slot == slot) else {
            return;
        };
        turn.asked = false;
        let Some(Proposed { id, bytes }) = proposed else {
            if std::mem::take(&mut turn.again) {
                self.propose();
            }
            return;
        };
        if bytes.len() > self.fixed.max_value
            || !self.fixed.values.keep(id, slot.height, bytes.clone())
        {
            tracing::warn!(chain = %self.fixed.name, height = slot.height, "a value of our own is too long or one too many");
            return;
        }
        let (height, round) = (Height(slot.height), Round::new(slot.round));
        let value = LocallyProposedValue::new(height, round, Value(id));
        if let Some(turn) = self.turn.take() {
            let _ = turn.reply.send(value);
        }
        self.publish(slot, self.fixed.address, &bytes);
    }

    fn publish(&mut self, slot: Slot, proposer: Address, bytes: &Bytes) {
        let Ok(length) = u32::try_from(bytes.len()) else {
            return;
        };
        self.streams = self.streams.wrapping_add(1);
        let id = [slot.height.to_le_bytes(), self.streams.to_le_bytes()].concat();
        let id = StreamId::new(id.into());
        let start = Part::Start {
            height: slot.height,
            round: slot.round,
            proposer,
            length,
        };
        let mut parts = vec![StreamContent::Data(start)];
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(MAX_PART));
            parts.push(StreamContent::Data(Part::Bytes(part)));
        }
        parts.push(StreamContent::Fin);
        for (sequence, content) in (0..).zip(parts) {
            let message = StreamMessage::new(id.clone(), sequence, content);
            let message = NetworkMsg::PublishProposalPart(message);
            if self.fixed.network.cast(message).is_err() {
                break;
            }
        }
    }

    /// Has another hub's value checked, once its height has come.
    fn check(&mut self, value: Assembled) {
        let next = self.tip.saturating_add(1);
        let early = value.height > next || self.storing == Some(next);
        if value.height < next || self.storing == Some(value.height) {
            return;
        }
        if early {
            if self.early.len() < MAX_EARLY && value.height - next <= AHEAD {
                self.early.push(value);
            }
            return;
        }
        if self.checks >= MAX_CHECKS {
            return;
        }
        self.checks += 1;
        let (height, round) = (value.height, value.round);
        self.job(move |application| {
            let verdict = application.check(Slot { height, round }, &value.bytes);
            Done::Checked(value, verdict)
        });
    }

    fn checked(&mut self, value: Assembled, verdict: Verdict) {
        self.checks = self.checks.saturating_sub(1);
        let (id, validity) = match verdict {
            Verdict::Valid(id) => (id, Validity::Valid),
            Verdict::Invalid(id) => (id, Validity::Invalid),
            Verdict::Unreadable | Verdict::Unknown => return,
        };
        if value.height <= self.tip || !self.fixed.values.keep(id, value.height, value.bytes) {
            return;
        }
        let slot = Slot {
            height: value.height,
            round: value.round,
        };
        let proposed = proposed_value(slot, value.proposer, id, validity);
        let message = ConsensusMsg::ReceivedProposedValue(proposed, ValueOrigin::Consensus);
        if self.fixed.consensus.cast(message).is_err() {
            tracing::debug!("the engine is gone");
        }
    }

    fn synced(&mut self, synced: Synced) {
        if synced.slot.height != self.tip.saturating_add(1) || self.storing.is_some() {
            let _ = synced.reply.send(SyncedValueOutcome::LocalTransientError);
            return;
        }
        self.job(move |application| {
            let verdict = application.check(synced.slot, &synced.bytes);
            Done::Synced(synced, verdict)
        });
    }

    fn caught_up(&mut self, synced: Synced, verdict: Verdict) {
        let Synced {
            slot,
            proposer,
            bytes,
            reply,
        } = synced;
        let (id, validity) = match verdict {
            Verdict::Valid(id) => (id, Validity::Valid),
            Verdict::Invalid(id) => (id, Validity::Invalid),
            Verdict::Unreadable => return drop(reply.send(SyncedValueOutcome::PeerFault)),
            Verdict::Unknown => {
                return drop(reply.send(SyncedValueOutcome::LocalTransientError));
            }
        };
        if validity.is_invalid() {
            // The engine checked the certificate before it asked.
            let height = slot.height;
            let alarm = Alarm::Disagrees { height, id };
            self.fixed.application.alarm(alarm);
        }
        let outcome = match self.fixed.values.keep(id, slot.height, bytes) {
            true => SyncedValueOutcome::Verdict(proposed_value(slot, proposer, id, validity)),
            false => SyncedValueOutcome::LocalTransientError,
        };
        let _ = reply.send(outcome);
    }

    fn decide(&mut self, certificate: &CommitCertificate<Context>, reply: RpcReplyPort<()>) {
        let Some(certificate) = ours(certificate) else {
            return self.halt("a decision is of no round");
        };
        let height = certificate.height;
        if height <= self.tip {
            let _ = reply.send(());
            return;
        }
        let Some(bytes) = self.fixed.values.get(&certificate.id) else {
            // It was checked before it was voted for, and its bytes are in the engine's log.
            return self.halt(&format!("the value decided at height {height} is not here"));
        };
        self.storing = Some(height);
        self.turn = None;
        let decided = Decided {
            id: certificate.id,
            bytes,
            certificate: certificate.clone(),
        };
        self.job(move |application| Done::Decided {
            result: application.decide(decided),
            certificate,
            reply,
        });
    }

    fn decided(
        &mut self,
        certificate: Certificate,
        result: Result<Validators, Refused>,
        reply: RpcReplyPort<()>,
    ) {
        let height = certificate.height;
        let validators = match result {
            Ok(validators) => validators,
            Err(e) => {
                // It stays in `storing`: nothing goes on from here.
                return self.halt(&format!(
                    "the decision of height {height} was not stored: {e}"
                ));
            }
        };
        if let Err(reason) = allowed(self.fixed.faults, &validators) {
            return self.halt(reason);
        }
        self.storing = None;
        self.tip = height;
        self.validators = validators;
        self.signatures = certificate.signatures.len();
        self.fixed.values.decided(height);
        self.assembly.decided(height);
        let _ = reply.send(());
        for value in std::mem::take(&mut self.early) {
            self.check(value);
        }
        if let Some(over) = self.over.take() {
            self.finish(over);
        }
    }

    fn finalized(
        &mut self,
        certificate: &CommitCertificate<Context>,
        seen: &MisbehaviorEvidence<Context>,
        reply: RpcReplyPort<Next<Context>>,
    ) {
        let Some(certificate) = ours(certificate) else {
            return self.halt("a decision is of no round");
        };
        let over = Over {
            evidence: evidence::pieces(&self.fixed.name, seen),
            certificate,
            reply,
        };
        match self.storing {
            Some(_) => self.over = Some(over),
            None => self.finish(over),
        }
    }

    /// The decision is durable: what came after it is handed on, and the chain rests or goes on.
    fn finish(&mut self, over: Over) {
        let Over {
            certificate,
            evidence,
            reply,
        } = over;
        if evidence.is_empty() && certificate.signatures.len() <= self.signatures {
            self.parked = Some(Parked::Next(reply));
            return;
        }
        self.job(move |application| {
            Done::Finalized(application.finalize(certificate, evidence), reply)
        });
    }

    fn read(
        &mut self,
        range: RangeInclusive<Height>,
        reply: RpcReplyPort<Vec<RawDecidedValue<Context>>>,
    ) {
        let (first, last) = (range.start().0, range.end().0.min(self.tip));
        let most = 4 * self.fixed.max_value;
        self.job(move |application| {
            let mut found = Vec::new();
            let mut length = 0;
            for height in (first..=last).take(MAX_DECISIONS) {
                let Some(stored) = application.stored(height) else {
                    break;
                };
                length += stored.bytes.len();
                if length > most {
                    break;
                }
                let certificate = theirs(&stored.certificate);
                found.push(RawDecidedValue::new(stored.bytes, certificate));
            }
            let _ = reply.send(found);
            Done::Answered
        });
    }
}

/// Whether this set may decide under these faults: with four hubs there is no reason to trust that
/// nobody lies.
pub fn allowed(faults: Faults, validators: &Validators) -> Result<(), &'static str> {
    match faults == Faults::Crash && validators.as_slice().len() >= 4 {
        true => Err("four hubs and more decide by two thirds, not by a majority"),
        false => Ok(()),
    }
}

fn proposed_value(
    slot: Slot,
    proposer: Address,
    id: Hash,
    validity: Validity,
) -> ProposedValue<Context> {
    ProposedValue {
        height: Height(slot.height),
        round: Round::new(slot.round),
        valid_round: Round::Nil,
        proposer,
        value: Value(id),
        validity,
    }
}

fn ours(certificate: &CommitCertificate<Context>) -> Option<Certificate> {
    let signatures = &certificate.commit_signatures;
    let mut signatures: Vec<_> = signatures
        .iter()
        .map(|one| (one.address.0, one.signature.0))
        .collect();
    signatures.sort_by_key(|(key, _)| *key);
    signatures.dedup_by_key(|(key, _)| *key);
    Some(Certificate {
        height: certificate.height.0,
        round: certificate.round.as_u32()?,
        id: certificate.value_id.0,
        signatures,
    })
}

fn theirs(certificate: &Certificate) -> ExtendedCommitCertificate<Context> {
    let signature = |(key, signature): &(_, _)| {
        let signature = super::context::OrderedSignature(*signature);
        CommitSignature::new(Address(*key), signature)
    };
    let certificate = CommitCertificate {
        height: Height(certificate.height),
        round: Round::new(certificate.round),
        value_id: Value(certificate.id),
        commit_signatures: certificate.signatures.iter().map(signature).collect(),
    };
    let none = VoteExtensions::default();
    ExtendedCommitCertificate::from_commit_certificate_and_extensions(certificate, none)
}

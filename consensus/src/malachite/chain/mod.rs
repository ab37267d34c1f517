//! The task of one chain: answers what the engine asks, and decides when the next height begins.
//!
//! It never blocks. Whatever may take long, everything that the application does, runs as a job on a
//! thread of its own, and comes back as a [`Done`].
//!
//! The order in which things become durable: the engine's log is synced before a vote leaves this hub;
//! a decision is stored, with its certificate, before the engine hears that it is; and only then does
//! the next height begin. So the store is never behind the log.

mod claims;
mod decisions;
mod values;

pub use decisions::allowed;

use super::actors::{Claim, Heard};
use super::assembly::{Assembled, Assembly};
use super::context::{Address, Context, Height, Voters, core_types};
use super::signing::Signing;
use super::values::Values;
use crate::application::{Alarm, Application, Proposed, Refused, Slot, Verdict};
use crate::certificate::Certificate;
use crate::engine::{Faults, Progress, Timing};
use crate::validators::Validators;
use arc_malachitebft_app::engine::consensus::ConsensusRef;
use arc_malachitebft_app::engine::host::{HostMsg, Next, SyncedValueOutcome};
use arc_malachitebft_app::engine::network::NetworkRef;
use arc_malachitebft_app::types::LocallyProposedValue;
use bytes::Bytes;
use claims::Claims;
use core_types::{HeightParams, LinearTimeouts};
use ractor::RpcReplyPort;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

/// Most values that wait because their height has not come.
const MAX_EARLY: usize = 8;
/// Most values that are being checked at once; more of them than there are proposers are a flood.
const MAX_CHECKS: usize = 16;

/// What never changes of a chain.
pub struct Fixed {
    pub name: Arc<str>,
    pub address: Address,
    pub signing: Signing,
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
    pub claims: mpsc::Receiver<Claim>,
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

/// Others may still have the beginning of a value from before a restart: what is published now must not
/// be taken for the rest of it.
fn first_stream() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanoseconds = since.map(|since| u64::try_from(since.as_nanos()));
    nanoseconds.ok().and_then(Result::ok).unwrap_or_default()
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
    claims: Claims,
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
            claims: Claims::default(),
            streams: first_stream(),
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
                Some(claim) = inputs.claims.recv() => self.claimed(&claim),
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
}

//! Values on their way to a decision: our own, those of others, and those that this hub missed.

use super::{Done, MAX_CHECKS, MAX_EARLY, Synced, Task};
use crate::application::{Alarm, Proposed, Slot, Verdict};
use crate::malachite::assembly::{AHEAD, Assembled};
use crate::malachite::codec::MAX_PART;
use crate::malachite::context::{Address, Context, Height, Part, Value, core_types};
use arc_malachitebft_app::engine::consensus::ConsensusMsg;
use arc_malachitebft_app::engine::host::SyncedValueOutcome;
use arc_malachitebft_app::engine::network::NetworkMsg;
use arc_malachitebft_app::engine::util::streaming::StreamContent;
use arc_malachitebft_app::types::streaming::{StreamId, StreamMessage};
use arc_malachitebft_app::types::{LocallyProposedValue, ProposedValue};
use bytes::Bytes;
use core_types::{Round, Validity, ValueOrigin};
use weighbridge_verifier::Hash;

impl Task {
    /// Asks for a value, when it is our turn and nobody has been asked. Asked again when there is data,
    /// as long as the turn lasts.
    pub(super) fn propose(&mut self) {
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

    pub(super) fn proposed(&mut self, slot: Slot, proposed: Option<Proposed>) {
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

    pub(super) fn publish(&mut self, slot: Slot, proposer: Address, bytes: &Bytes) {
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
    pub(super) fn check(&mut self, value: Assembled) {
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

    pub(super) fn checked(&mut self, value: Assembled, verdict: Verdict) {
        self.checks = self.checks.saturating_sub(1);
        let (id, validity) = match verdict {
            Verdict::Valid(id) => (id, Validity::Valid),
            Verdict::Invalid(id) => {
                self.wrong(value.height, id);
                (id, Validity::Invalid)
            }
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

    pub(super) fn synced(&mut self, synced: Synced) {
        if synced.slot.height != self.tip.saturating_add(1) || self.storing.is_some() {
            let _ = synced.reply.send(SyncedValueOutcome::LocalTransientError);
            return;
        }
        self.job(move |application| {
            let verdict = application.check_decided(synced.slot, &synced.bytes);
            Done::Synced(synced, verdict)
        });
    }

    pub(super) fn caught_up(&mut self, synced: Synced, verdict: Verdict) {
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

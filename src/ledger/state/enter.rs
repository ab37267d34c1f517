//! What follows from a record that may stand.

use super::super::facts::{DeviceTip, Document, HubTip, Identity, Word};
use super::super::seal::TRANSPORT;
use super::super::words::{ACCESS_OBJECT, ACCESS_OVER, ALARM_OBJECT, ALARM_OVER};
use super::State;
use weighbridge_verifier::{
    Action, BatchContent, Content, Hash, IdentityContent, MessageContent, RecordBody, ValidatorSet,
    VerdictClass,
};

impl State {
    /// Enters a record that was checked.
    pub(super) fn enter(&mut self, body: &RecordBody, hash: Hash) {
        let tip = HubTip {
            sequence: body.sequence,
            hash,
            time: body.time,
        };
        self.hubs.change().insert(body.hub.clone(), tip);
        let totals = self.totals.change();
        totals.records += 1;
        if let Some(sealed) = body.sealed() {
            totals.sealed_bytes = totals.sealed_bytes.saturating_add(sealed.length);
        }
        match &body.content {
            Content::Batch(batch) => self.enter_batch(batch),
            Content::Document(document) => {
                let key = (body.object.clone(), document.kind.clone());
                let document = Document {
                    version: document.version,
                    commitment: document.commitment,
                    sealed: document.sealed,
                };
                self.documents.change().insert(key, document);
            }
            Content::Identity(identity) => self.enter_identity(body, identity),
            Content::Rotation(rotation) => {
                self.enter_membership(body);
                self.enter_rotation(rotation);
            }
            Content::Centres(centres) => self.enter_centres(centres),
            Content::Derived(derived) => self.enter_derived(derived),
            Content::Message(message) => self.enter_message(body, message),
            Content::HubVote(_) | Content::Equivocation(_) => self.enter_membership(body),
            Content::Lease(lease) => self.enter_lease(lease),
            Content::Anchor(anchor) => self.enter_anchor(anchor),
            Content::Exchange(said) => self.enter_exchange(said),
            Content::Commitment(_) => {}
        }
    }

    /// Keeps what was last recorded of each alarm and each entry about access, as long as there is
    /// something to remember. What was refused changes nothing.
    fn enter_message(&mut self, body: &RecordBody, message: &MessageContent) {
        let (words, over) = match body.action {
            Action::Alarm | Action::Acknowledge if body.object.starts_with(ALARM_OBJECT) => {
                (&mut self.alarms, ALARM_OVER)
            }
            Action::Configure | Action::Enrol | Action::Revoke | Action::Grant
                if body.object.starts_with(ACCESS_OBJECT) =>
            {
                (&mut self.access, ACCESS_OVER)
            }
            _ => return,
        };
        if message.kind == over {
            if words.contains_key(&body.object) {
                words.change().remove(&body.object);
            }
            return;
        }
        let word = Word {
            hub: body.hub.clone(),
            message: message.clone(),
        };
        words.change().insert(body.object.clone(), word);
    }

    fn enter_batch(&mut self, batch: &BatchContent) {
        let tip = DeviceTip {
            epoch: batch.epoch,
            sequence: batch.sequence,
        };
        self.enter_turn(batch, tip);
        self.enter_attester(batch, tip);
        let totals = self.totals.change();
        match batch.verdict.class {
            VerdictClass::Accepted => totals.accepted += 1,
            VerdictClass::OutOfControl => totals.out_of_control += 1,
            VerdictClass::Invalid => totals.invalid += 1,
        }
        if batch.sealed.is_some() {
            totals.samples = totals.samples.saturating_add(u64::from(batch.samples));
        }
    }

    fn enter_attester(&mut self, batch: &BatchContent, tip: DeviceTip) {
        let key = match &batch.attester {
            Some(attester) => attester.key,
            None if batch.verdict.chart == TRANSPORT => {
                let known = self.attested.get(&batch.device).into_iter().flatten();
                let of_epoch = known.filter(|(_, tip)| tip.epoch == batch.epoch);
                match of_epoch.max_by_key(|(_, tip)| tip.sequence) {
                    Some((key, _)) => *key,
                    None => return,
                }
            }
            None => return,
        };
        let keys = self.keys_with(key);
        let attested = self.attested.change();
        let known = match attested.get_mut(&batch.device) {
            Some(known) => known,
            None => attested.entry(batch.device.clone()).or_default(),
        };
        for key in keys {
            let newest = known.entry(key).or_default();
            // A late batch of an older epoch does not lead them back.
            if (newest.epoch, newest.sequence) < (tip.epoch, tip.sequence) {
                *newest = tip;
            }
        }
    }

    fn enter_identity(&mut self, body: &RecordBody, identity: &IdentityContent) {
        let first = self.identities.is_empty();
        let entry = Identity {
            kind: identity.kind,
            key: identity.key,
            revoked: body.action == Action::Revoke,
        };
        self.identities.change().insert(identity.id.clone(), entry);
        if let (true, Some(key)) = (first, identity.key) {
            *self.validators.change() = Some(ValidatorSet::solo(&identity.id, key));
        }
    }
}

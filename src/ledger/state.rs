//! What the records of a chain add up to.
//!
//! Applying a record is a pure function: the same records in the same order give the same state, and
//! the same hash of it, on every hub and in every replay. What may stand in a chain is decided here,
//! in [`State::apply`], and nowhere else.

mod derived;
mod image;
mod rotation;

use super::facts::{Derivation, DeviceTip, Document, HubTip, Identity, Totals, Word};
use super::seal::TRANSPORT;
use super::section::Section;
use super::shape::{ApplyError, check_shape};
use super::words::{ACCESS_OBJECT, ACCESS_OVER, ALARM_OBJECT, ALARM_OVER};
use borsh::BorshSerialize;
use std::collections::BTreeMap;
use weighbridge_verifier::signature::DirectCheck;
use weighbridge_verifier::{
    Action, BatchContent, CentreShare, Content, DocumentContent, Hash, IdentityContent,
    IdentityKind, MessageContent, PublicKey, Record, RecordBody, SignatureCheck, Suite,
    ValidatorSet, VerdictClass, encode,
};

const STATE_DOMAIN: &[u8] = b"weighbridge/state/v1\0";

/// The state of a chain after some block.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    suite: Suite,
    chain: Section<String>,
    validators: Section<Option<ValidatorSet>>,
    identities: Section<BTreeMap<String, Identity>>,
    hubs: Section<BTreeMap<String, HubTip>>,
    devices: Section<BTreeMap<String, DeviceTip>>,
    documents: Section<BTreeMap<(String, String), Document>>,
    alarms: Section<BTreeMap<String, Word>>,
    access: Section<BTreeMap<String, Word>>,
    totals: Section<Totals>,
    /// Keys that identities had, oldest first, by id.
    former_keys: Section<BTreeMap<String, Vec<PublicKey>>>,
    /// The versions of the set of key generation centres.
    centres: Section<BTreeMap<u32, Vec<CentreShare>>>,
    /// What certificateless keys are computed from, by id.
    derivations: Section<BTreeMap<String, Derivation>>,
    /// Where each device's batches of each attester stand. Follows from the same records, and is in no
    /// hash: it says who wrote the numbers that `devices` has.
    attested: Section<BTreeMap<String, Attested>>,
}

/// The newest batch of each attester.
type Attested = BTreeMap<PublicKey, DeviceTip>;

impl State {
    /// The state of chain `chain`, which is of `suite`, before its first record.
    pub fn new(suite: Suite, chain: &str) -> Self {
        Self {
            suite,
            chain: Section::new(chain.to_owned()),
            validators: Section::default(),
            identities: Section::default(),
            hubs: Section::default(),
            devices: Section::default(),
            documents: Section::default(),
            alarms: Section::default(),
            access: Section::default(),
            totals: Section::default(),
            former_keys: Section::default(),
            centres: Section::default(),
            derivations: Section::default(),
            attested: Section::default(),
        }
    }

    /// Suite of the chain.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Id of the chain.
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// The hubs that sign blocks; `None` before the first record.
    pub fn validators(&self) -> Option<&ValidatorSet> {
        self.validators.as_ref()
    }

    /// All identities, by id.
    pub fn identities(&self) -> &BTreeMap<String, Identity> {
        &self.identities
    }

    /// The ends of the hubs' own chains, by hub.
    pub fn hubs(&self) -> &BTreeMap<String, HubTip> {
        &self.hubs
    }

    /// Where each device's batches stand, by device.
    pub fn devices(&self) -> &BTreeMap<String, DeviceTip> {
        &self.devices
    }

    /// Where the batches of `device` stand; zeros when it has none.
    pub fn device(&self, device: &str) -> DeviceTip {
        self.devices.get(device).copied().unwrap_or_default()
    }

    /// Of each device the newest batch of every attester, by device and key. A batch that is refused
    /// because its signature does not hold counts for the attester of its epoch.
    pub fn attested(&self) -> &BTreeMap<String, BTreeMap<PublicKey, DeviceTip>> {
        &self.attested
    }

    /// All documents in force, by object and kind.
    pub fn documents(&self) -> &BTreeMap<(String, String), Document> {
        &self.documents
    }

    /// The document of `kind` in force for `object`.
    pub fn document(&self, object: &str, kind: &str) -> Option<&Document> {
        self.documents.get(&(object.to_owned(), kind.to_owned()))
    }

    /// The newest record of every alarm that is not at rest, by object.
    pub fn alarms(&self) -> &BTreeMap<String, Word> {
        &self.alarms
    }

    /// The newest record of every entry about access, by object.
    pub fn access(&self) -> &BTreeMap<String, Word> {
        &self.access
    }

    /// The validation settings and limits in force for a device.
    pub fn device_settings(&self, device: &str) -> Option<&Document> {
        self.document(&format!("device:{device}"), "validation")
    }

    /// Sums over the whole chain.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The key under which `record` must be signed: its hub's, or for the very first record the one
    /// that it enrols.
    pub fn signing_key(&self, record: &Record) -> Result<PublicKey, ApplyError> {
        let hub = &record.body.hub;
        if self.identities.is_empty() {
            return genesis_key(&record.body);
        }
        let known = self.identities.get(hub).filter(|i| is_active_hub(i));
        known
            .and_then(|i| i.key)
            .ok_or_else(|| ApplyError::UnknownHub(hub.clone()))
    }

    /// Applies one record: checks its signatures, and everything that [`Self::apply_signed`] checks.
    /// After an error the state is as it was.
    pub fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        self.apply_with(record, &DirectCheck)
    }

    /// The same, with the caller's way of checking signatures.
    pub fn apply_with(
        &mut self,
        record: &Record,
        check: &dyn SignatureCheck,
    ) -> Result<(), ApplyError> {
        let key = self.signing_key(record)?;
        // The cheap checks come first: what is out of place need not be verified.
        let hash = record.body.hash();
        self.check(&record.body)?;
        record.verify_with(&key, check)?;
        self.enter(&record.body, hash);
        Ok(())
    }

    /// Applies a record whose signatures are known to hold: one that this hub has just signed, or one
    /// under a hash that this hub has signed. `hash` is the body's. After an error the state is as it
    /// was.
    pub fn apply_signed(&mut self, body: &RecordBody, hash: Hash) -> Result<(), ApplyError> {
        self.check(body)?;
        self.enter(body, hash);
        Ok(())
    }

    /// Hash of the whole state: over the names and hashes of its parts. Parts that are empty are left
    /// out, so that a part added by a later version does not change the hashes of old chains.
    pub fn hash(&self) -> Hash {
        let suite = self.suite;
        let parts = [
            ("access", filled(suite, &self.access)),
            ("alarms", filled(suite, &self.alarms)),
            ("centres", filled(suite, &self.centres)),
            ("chain", Some(self.chain.hash(suite))),
            ("derivations", filled(suite, &self.derivations)),
            ("devices", filled(suite, &self.devices)),
            ("documents", filled(suite, &self.documents)),
            ("former_keys", filled(suite, &self.former_keys)),
            ("hubs", filled(suite, &self.hubs)),
            ("identities", filled(suite, &self.identities)),
            ("totals", Some(self.totals.hash(suite))),
            (
                "validators",
                self.validators
                    .as_ref()
                    .map(|_| self.validators.hash(suite)),
            ),
        ];
        let parts: BTreeMap<&str, Hash> = parts
            .into_iter()
            .filter_map(|(name, hash)| Some((name, hash?)))
            .collect();
        suite.hash(&[STATE_DOMAIN, &encode(&parts)])
    }

    /// Whether `body` may come next.
    fn check(&self, body: &RecordBody) -> Result<(), ApplyError> {
        check_shape(self.suite, body)?;
        if body.chain != **self.chain {
            return Err(ApplyError::Chain(body.chain.clone()));
        }
        if self.identities.is_empty() {
            genesis_key(body)?;
        }
        self.check_hub_chain(body)?;
        match &body.content {
            Content::Batch(batch) => self.check_batch(batch),
            Content::Document(document) => self.check_document(&body.object, document),
            Content::Identity(identity) => self.check_identity(body.action, identity),
            Content::Rotation(rotation) => self.check_rotation(body, rotation),
            Content::Centres(centres) => self.check_centres(centres),
            Content::Derived(derived) => self.check_derived(derived),
            Content::Commitment(_) | Content::Message(_) => Ok(()),
        }
    }

    fn check_hub_chain(&self, body: &RecordBody) -> Result<(), ApplyError> {
        let start = HubTip {
            sequence: 0,
            hash: Hash::ZERO,
            time: i64::MIN,
        };
        let tip = self.hubs.get(&body.hub).unwrap_or(&start);
        let wanted = tip.sequence.checked_add(1).ok_or(ApplyError::Exhausted)?;
        if body.sequence != wanted {
            return Err(ApplyError::Sequence {
                hub: body.hub.clone(),
                wanted,
                got: body.sequence,
            });
        }
        if body.previous != tip.hash {
            return Err(ApplyError::Previous(body.hub.clone()));
        }
        if body.time < tip.time {
            return Err(ApplyError::Time(body.hub.clone()));
        }
        Ok(())
    }

    fn check_batch(&self, batch: &BatchContent) -> Result<(), ApplyError> {
        let tip = self.device(&batch.device);
        let next = tip.sequence.checked_add(1).ok_or(ApplyError::Exhausted)?;
        let goes_on = batch.epoch == tip.epoch && batch.sequence == next;
        let begins = batch.epoch > tip.epoch && batch.sequence == 1;
        if !goes_on && !begins {
            return Err(ApplyError::BatchSequence {
                device: batch.device.clone(),
                tip,
                epoch: batch.epoch,
                sequence: batch.sequence,
            });
        }
        let Some(attester) = &batch.attester else {
            return Ok(());
        };
        let entitled = |(id, identity): (&String, &Identity)| {
            let itself = identity.kind == IdentityKind::Device && *id == batch.device;
            let edge = identity.kind == IdentityKind::Edge;
            // What was signed before a key was replaced may come after.
            let own =
                identity.key == Some(attester.key) || self.former_keys(id).contains(&attester.key);
            !identity.revoked && own && (itself || edge)
        };
        if self.identities.iter().any(entitled) {
            return Ok(());
        }
        Err(ApplyError::Attester(batch.device.clone()))
    }

    fn check_document(&self, object: &str, document: &DocumentContent) -> Result<(), ApplyError> {
        let version = self
            .document(object, &document.kind)
            .map_or(0, |d| d.version);
        let wanted = version.checked_add(1).ok_or(ApplyError::Exhausted)?;
        if document.version == wanted {
            return Ok(());
        }
        Err(ApplyError::DocumentVersion {
            object: object.to_owned(),
            kind: document.kind.clone(),
            wanted,
            got: document.version,
        })
    }

    fn check_identity(&self, action: Action, identity: &IdentityContent) -> Result<(), ApplyError> {
        let other_suite = |key: &PublicKey| key.suite() != self.suite;
        if identity.key.as_ref().is_some_and(other_suite) {
            return Err(ApplyError::KeySuite(identity.id.clone(), self.suite));
        }
        let known = self.identities.get(&identity.id);
        let id = || identity.id.clone();
        match (action, known) {
            (Action::Revoke, None) => Err(ApplyError::UnknownIdentity(id())),
            (Action::Revoke, Some(known)) => {
                let same = known.kind == identity.kind && known.key == identity.key;
                let validator = self
                    .validators()
                    .is_some_and(|v| v.get(&identity.id).is_some());
                if known.revoked || !same {
                    return Err(ApplyError::UnknownIdentity(id()));
                }
                // A hub that signs blocks leaves by a vote, or nobody could sign the next block.
                if validator {
                    return Err(ApplyError::RevokesValidator(id()));
                }
                Ok(())
            }
            (_, Some(_)) => Err(ApplyError::IdentityTaken(id())),
            (_, None) => match identity.key.and_then(|key| self.former_owner(&key)) {
                Some(owner) => Err(ApplyError::KeyTaken(id(), owner.to_owned())),
                None => Ok(()),
            },
        }
    }

    /// Enters a record that was checked.
    fn enter(&mut self, body: &RecordBody, hash: Hash) {
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
            Content::Rotation(rotation) => self.enter_rotation(rotation),
            Content::Centres(centres) => self.enter_centres(centres),
            Content::Derived(derived) => self.enter_derived(derived),
            Content::Message(message) => self.enter_message(body, message),
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
        match self.devices.change().get_mut(&batch.device) {
            Some(known) => *known = tip,
            None => {
                self.devices.change().insert(batch.device.clone(), tip);
            }
        }
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
        known.extend(keys.into_iter().map(|key| (key, tip)));
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

/// The key of the hub that the first record enrols: itself.
fn genesis_key(body: &RecordBody) -> Result<PublicKey, ApplyError> {
    match &body.content {
        Content::Identity(identity)
            if body.action == Action::Enrol
                && identity.kind == IdentityKind::Hub
                && identity.id == body.hub =>
        {
            identity.key.ok_or(ApplyError::Genesis)
        }
        _ => Err(ApplyError::Genesis),
    }
}

fn is_active_hub(identity: &Identity) -> bool {
    identity.kind == IdentityKind::Hub && !identity.revoked
}

fn filled<K: Clone + BorshSerialize + Ord, V: Clone + BorshSerialize>(
    suite: Suite,
    section: &Section<BTreeMap<K, V>>,
) -> Option<Hash> {
    (!section.is_empty()).then(|| section.hash(suite))
}

// The same tests, once for each suite.
#[cfg(test)]
#[path = "state"]
mod nist {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Nist;
    #[path = "tests.rs"]
    mod tests;
}
#[cfg(test)]
#[allow(clippy::duplicate_mod)]
#[path = "state"]
mod guomi {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Guomi;
    #[path = "tests.rs"]
    mod tests;
}

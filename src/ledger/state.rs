//! What the records of a chain add up to.
//!
//! Applying a record is a pure function: the same records in the same order give the same state, and
//! the same hash of it, on every hub and in every replay. What may stand in a chain is decided here,
//! in [`State::apply`], and nowhere else.

mod attested;
mod check;
mod derived;
mod enter;
mod hubs;
mod image;
mod leases;
mod relay;
mod rotation;

pub use attested::AttestedBy;

use super::facts::{Derivation, DeviceTip, Document, HubTip, Identity, Lease, Totals, Word};
use super::section::Section;
use super::shape::ApplyError;
use borsh::BorshSerialize;
use check::genesis_key;
pub use leases::MAX_LEASES;
use std::collections::BTreeMap;
use weighbridge_verifier::relay::{Chains, Exchanges};
use weighbridge_verifier::signature::DirectCheck;
use weighbridge_verifier::succession::Votes;
use weighbridge_verifier::{
    CentreShare, Hash, IdentityKind, PublicKey, Record, RecordBody, SignatureCheck, Suite,
    ValidatorSet, encode,
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
    /// Votes on hubs that have not changed the set yet.
    votes: Section<Votes>,
    /// Who reads each device, and did; the oldest first.
    leases: Section<BTreeMap<String, Vec<Lease>>>,
    /// What a relay knows of other chains.
    chains: Section<Chains>,
    /// Exchanges between them that are not over.
    exchanges: Section<Exchanges>,
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
            votes: Section::default(),
            leases: Section::default(),
            chains: Section::default(),
            exchanges: Section::default(),
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
            ("chains", filled(suite, &self.chains)),
            ("centres", filled(suite, &self.centres)),
            ("chain", Some(self.chain.hash(suite))),
            ("derivations", filled(suite, &self.derivations)),
            ("devices", filled(suite, &self.devices)),
            ("documents", filled(suite, &self.documents)),
            ("exchanges", filled(suite, &self.exchanges)),
            ("former_keys", filled(suite, &self.former_keys)),
            ("hubs", filled(suite, &self.hubs)),
            ("identities", filled(suite, &self.identities)),
            ("leases", filled(suite, &self.leases)),
            ("totals", Some(self.totals.hash(suite))),
            (
                "validators",
                self.validators
                    .as_ref()
                    .map(|_| self.validators.hash(suite)),
            ),
            ("votes", filled(suite, &self.votes)),
        ];
        let parts: BTreeMap<&str, Hash> = parts
            .into_iter()
            .filter_map(|(name, hash)| Some((name, hash?)))
            .collect();
        suite.hash(&[STATE_DOMAIN, &encode(&parts)])
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
    #[path = "tests/mod.rs"]
    mod tests;
}
#[cfg(test)]
#[allow(clippy::duplicate_mod)]
#[path = "state"]
mod guomi {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Guomi;
    #[path = "tests/mod.rs"]
    mod tests;
}

//! One access to the factory's data: a record, the entry of a block's body.
//!
//! Who (subject), what (action), on which object, the content's hashes, the hub's response, and the
//! hub's signature (Wan et al. 2019, Table 1). Contents are hashes of ciphertext and salted
//! commitments: nothing in a record can be guessed back.

use crate::centres::{CentresContent, DerivedContent};
use crate::codec::encode;
use crate::exchange::{AnchorContent, ExchangeContent};
use crate::hash::Hash;
use crate::membership::{EquivocationContent, HubVoteContent, LeaseContent};
use crate::rotation::RotationContent;
use crate::signature::{DirectCheck, PublicKey, Signature, SignatureCheck, SignatureError};
use crate::suite::Suite;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Version of the record format this code writes; a record carries it with its suite's mark.
pub const RECORD_VERSION: u8 = 1;

const RECORD_DOMAIN: &[u8] = b"weighbridge/record/v1\0";
const ATTESTATION_DOMAIN: &[u8] = b"weighbridge/attestation/v1\0";

/// What was done, or asked for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// An identity enters the ledger.
    Enrol,
    /// An identity is withdrawn.
    Revoke,
    /// Limits, device configuration, roles or lists change.
    Configure,
    /// A batch enters the record.
    Store,
    /// Data was read.
    Read,
    /// A machine was acted upon.
    Control,
    /// A permit or a key was granted.
    Grant,
    /// A copy of data was released to a lower level.
    Release,
    /// Anything that was refused.
    Refuse,
    /// A session began or ended.
    Session,
    /// Many like events in one record.
    Summary,
    /// Data was exchanged with another chain.
    Exchange,
    /// A hub was voted in or out.
    Membership,
    /// Key wraps were overwritten.
    Erase,
    /// An alarm was acknowledged, confirmed, shelved or commented upon.
    Acknowledge,
    /// An alarm was raised, became worse, or is over.
    Alarm,
}

/// The hub's answer (Wan et al. 2019, Table 1, "response").
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Done as asked.
    Accepted,
    /// Not done.
    Refused,
}

/// What validation said of a batch.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum VerdictClass {
    /// In control: stored.
    Accepted,
    /// A real event: stored, flagged, alarmed.
    OutOfControl,
    /// Malformed or impossible: refused.
    Invalid,
}

impl VerdictClass {
    /// The name used in files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::OutOfControl => "out_of_control",
            Self::Invalid => "invalid",
        }
    }
}

/// As much of a verdict as the chain may tell: the statistics stay in the sealed batch.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictSummary {
    /// The class.
    pub class: VerdictClass,
    /// The chart that signalled first, for example `ewma`; empty when none did.
    pub chart: String,
    /// The rule of that chart, for example `beyond_limit`; empty when none did.
    pub rule: String,
}

/// Where the ciphertext is, and what it must hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct SealedRef {
    /// Hash of the ciphertext.
    pub hash: Hash,
    /// Its length in bytes.
    pub length: u64,
    /// Epoch of the key it is sealed under.
    pub key_epoch: u64,
}

/// The signature of a device or edge node that has a key of its own.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// Its key.
    pub key: PublicKey,
    /// Its signature over [`attestation_message`].
    pub signature: Signature,
}

/// A batch: what was stored, or refused.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct BatchContent {
    /// The device it came from.
    pub device: String,
    /// Fencing epoch of the lease under which it was read.
    pub epoch: u64,
    /// Sequence number within device and epoch, from 1.
    pub sequence: u64,
    /// Number of samples, that is, of leaves of the inner tree.
    pub samples: u32,
    /// Privacy grade (Yang et al. 2024, "Egrade").
    pub grade: u8,
    /// Root of the inner tree over the salted samples.
    pub inner_root: Hash,
    /// The sealed batch; `None` when it was refused and therefore not kept.
    pub sealed: Option<SealedRef>,
    /// What validation said.
    pub verdict: VerdictSummary,
    /// Hash of the limits and settings that judged it (salted commitment).
    pub judged_by: Hash,
    /// Who attests the data besides the hub.
    pub attester: Option<Attestation>,
}

/// A sealed document: limits, a device configuration.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct DocumentContent {
    /// What it is, for example `limits`.
    pub kind: String,
    /// Version of the document for its object, from 1.
    pub version: u64,
    /// Salted commitment to the plaintext: `H(0x00 ‖ salt ‖ plaintext)`.
    pub commitment: Hash,
    /// The sealed document.
    pub sealed: SealedRef,
}

/// What somebody asked for or did, sealed under a key of the hub's own, object `hub:` and the hub's
/// id: only a holder of that key reads the details.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct MessageContent {
    /// What it is, for example `control` or `control-result`.
    pub kind: String,
    /// Salted commitment to the plaintext: `H(0x00 ‖ salt ‖ plaintext)`.
    pub commitment: Hash,
    /// The sealed details.
    pub sealed: SealedRef,
}

/// Kinds of identity.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    /// A management hub.
    Hub,
    /// An edge node.
    Edge,
    /// A PLC, robot or sensor.
    Device,
    /// A person or a program.
    User,
}

/// An identity and its key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityContent {
    /// Its id, unique in the chain.
    pub id: String,
    /// What it is.
    pub kind: IdentityKind,
    /// Its public key; `None` for a device that cannot sign.
    pub key: Option<PublicKey>,
}

/// What a record is about.
// Nearly every record is about a batch; a box around it would save nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A batch.
    Batch(BatchContent),
    /// A sealed document.
    Document(DocumentContent),
    /// An identity.
    Identity(IdentityContent),
    /// Anything else, by its salted commitment.
    Commitment(Hash),
    /// Something that was asked for or done, with sealed details.
    Message(MessageContent),
    /// Another key for an identity.
    Rotation(RotationContent),
    /// A version of the set of key generation centres.
    Centres(CentresContent),
    /// An identity with a certificateless key.
    Derived(DerivedContent),
    /// A vote on who is in the set of hubs.
    HubVote(HubVoteContent),
    /// Who reads a device from now on.
    Lease(LeaseContent),
    /// Proof that a hub of the set lied.
    Equivocation(EquivocationContent),
    /// On a relay chain, a certified header of another chain.
    Anchor(AnchorContent),
    /// On a relay chain, a step of an exchange between two others.
    Exchange(ExchangeContent),
}

/// Everything of a record that is signed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct RecordBody {
    /// [`RECORD_VERSION`], with the mark of its suite ([`Suite::marked`]).
    pub version: u8,
    /// Id of the chain it was made for: a record signed for one chain means nothing on another.
    pub chain: String,
    /// Id of the hub that made the record.
    pub hub: String,
    /// Number of the record in this hub's own chain, from 1.
    pub sequence: u64,
    /// Hash of this hub's previous record; [`Hash::ZERO`] for its first.
    pub previous: Hash,
    /// When, in ns since 1970, by the hub's clock.
    pub time: i64,
    /// Who asked, for example `device:press-1`.
    pub subject: String,
    /// What was done or asked for.
    pub action: Action,
    /// On what, for example `device:press-1` or `limits:press-1`.
    pub object: String,
    /// Hash of the permit used.
    pub permit: Option<Hash>,
    /// What it is about.
    pub content: Content,
    /// The hub's answer.
    pub response: Response,
}

/// A signed record.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Record {
    /// What is signed.
    pub body: RecordBody,
    /// The hub's signature over [`RecordBody::hash`].
    pub signature: Signature,
}

impl RecordBody {
    /// The suite it is of.
    pub fn suite(&self) -> Suite {
        Suite::of_marked(self.version).0
    }

    /// What the hub signs, and what its next record points back to.
    pub fn hash(&self) -> Hash {
        self.suite().hash(&[&self.preimage()])
    }

    /// What [`hash`](Self::hash) is the hash of.
    pub fn preimage(&self) -> Vec<u8> {
        [RECORD_DOMAIN, &encode(self)].concat()
    }

    /// The batch this record is about.
    pub fn batch(&self) -> Option<&BatchContent> {
        match &self.content {
            Content::Batch(batch) => Some(batch),
            _ => None,
        }
    }

    /// The sealed bytes this record answers for, if any.
    pub fn sealed(&self) -> Option<&SealedRef> {
        self.content.sealed()
    }
}

impl Content {
    /// The sealed bytes it names, if any.
    pub fn sealed(&self) -> Option<&SealedRef> {
        match self {
            Self::Batch(batch) => batch.sealed.as_ref(),
            Self::Document(document) => Some(&document.sealed),
            Self::Message(message) => Some(&message.sealed),
            Self::Identity(_)
            | Self::Commitment(_)
            | Self::Rotation(_)
            | Self::Centres(_)
            | Self::Derived(_)
            | Self::HubVote(_)
            | Self::Lease(_)
            | Self::Equivocation(_)
            | Self::Anchor(_)
            | Self::Exchange(_) => None,
        }
    }

    /// Whether only blocks that several hubs decided hold such a thing: a lone hub has nobody to vote with,
    /// and would lock itself out by letting another one in.
    pub fn is_of_several(&self) -> bool {
        matches!(
            self,
            Self::HubVote(_) | Self::Lease(_) | Self::Equivocation(_)
        )
    }
}

impl Record {
    /// Leaf of the outer tree.
    pub fn leaf(&self) -> Hash {
        crate::merkle::leaf_hash(self.body.suite(), &encode(self))
    }

    /// Checks the hub's signature, the attester's where there is one, and those of a rotation. Whether the attester may
    /// attest this device is not said here: the chain's state knows the devices' keys.
    pub fn verify(&self, hub: &PublicKey) -> Result<(), SignatureError> {
        self.verify_with(hub, &DirectCheck)
    }

    /// The same, with the caller's way of checking signatures.
    pub fn verify_with(
        &self,
        hub: &PublicKey,
        check: &dyn SignatureCheck,
    ) -> Result<(), SignatureError> {
        let suite = self.body.suite();
        hub.check_suite(suite)?;
        let signed = self.body.preimage();
        check.check_preimage(hub, (suite, &signed), &self.signature)?;
        if let Some(batch) = self.body.batch()
            && let Some(attester) = &batch.attester
        {
            attester.key.check_suite(suite)?;
            let message = attestation_message(suite, batch);
            check.check(&attester.key, &message, &attester.signature)?;
        }
        match &self.body.content {
            Content::Identity(identity) => match &identity.key {
                Some(key) => key.check_suite(suite),
                None => Ok(()),
            },
            Content::HubVote(vote) => vote.key.check_suite(suite),
            Content::Rotation(rotation) => rotation.verify_with(suite, &self.body.chain, check),
            // They are SM2 keys: a chain of another suite has nothing to say with them.
            Content::Centres(_) | Content::Derived(_) if suite != Suite::Guomi => {
                Err(SignatureError::Suite(suite))
            }
            Content::Derived(derived) => derived.verify_with(suite, &self.body.chain, check),
            // Whether evidence proves anything is a question about who is in the set: `succession`.
            _ => Ok(()),
        }
    }
}

/// What a device or edge node signs: which batch, of which grade, how many samples, and their root.
pub fn attestation_message(suite: Suite, batch: &BatchContent) -> Hash {
    let which = (&batch.device, batch.epoch, batch.sequence);
    let what = (batch.samples, batch.grade, batch.inner_root);
    suite.hash(&[ATTESTATION_DOMAIN, &encode(&(which, what))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::{Faults, HubChange};

    struct AnySignature;

    impl SignatureCheck for AnySignature {
        fn check(&self, _: &PublicKey, _: &Hash, _: &Signature) -> Result<(), SignatureError> {
            Ok(())
        }
    }

    fn key(suite: Suite) -> PublicKey {
        PublicKey([suite.marked(2); 33])
    }

    fn record(suite: Suite, content: Content) -> Record {
        Record {
            body: RecordBody {
                version: suite.marked(RECORD_VERSION),
                chain: "plant".to_owned(),
                hub: "hub-1".to_owned(),
                sequence: 1,
                previous: Hash::ZERO,
                time: 0,
                subject: "hub:hub-1".to_owned(),
                action: Action::Enrol,
                object: "edge:edge-1".to_owned(),
                permit: None,
                content,
                response: Response::Accepted,
            },
            signature: Signature([7; 64]),
        }
    }

    #[test]
    fn what_a_record_names_is_of_its_suite() {
        let [nist, guomi] = Suite::ALL;
        let identity = |key| IdentityContent {
            id: "edge-1".to_owned(),
            kind: IdentityKind::Edge,
            key,
        };
        let named = |suite| Content::Identity(identity(Some(key(suite))));
        let centres = Content::Centres(CentresContent {
            version: 1,
            members: vec![],
        });
        let derived = Content::Derived(DerivedContent {
            identity: identity(Some(key(guomi))),
            version: 1,
            declared: key(guomi),
            replaces: None,
            proof: Signature([7; 64]),
            consent: None,
        });
        let vote = Content::HubVote(HubVoteContent {
            hub: "hub-2".to_owned(),
            key: key(nist),
            change: HubChange::Admit,
            faults: Faults::Byzantine,
        });
        let cases = [
            (vote, [true, false]),
            (Content::Identity(identity(None)), [true, true]),
            (named(nist), [true, false]),
            (named(guomi), [false, true]),
            (centres, [false, true]),
            (derived, [false, true]),
        ];
        for (content, holds) in cases {
            for (suite, holds) in Suite::ALL.into_iter().zip(holds) {
                let record = record(suite, content.clone());
                let verified = record.verify_with(&key(suite), &AnySignature);
                let wanted = holds.then_some(()).ok_or(SignatureError::Suite(suite));
                assert_eq!(verified, wanted, "{suite}: {content:?}");
            }
        }
    }
}

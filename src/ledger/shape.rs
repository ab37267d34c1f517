//! Which records make sense on their own: action, content and response must fit each other.

use super::facts::DeviceTip;
use super::words::ACCESS_OBJECT;
use weighbridge_verifier::record::RECORD_VERSION;
use weighbridge_verifier::relay::MAX_LEADS;
use weighbridge_verifier::succession::{MAX_HUBS, SuccessionError};
use weighbridge_verifier::{
    Action, Content, ExchangeStep, IdentityKind, RecordBody, Response, SignatureError, Suite,
    VerdictClass,
};

/// Longest name in a record (subject, object, ids, kinds, chart, rule), in bytes.
pub const MAX_NAME: usize = 256;

/// Longest evidence of two messages that exclude each other, in bytes; it has some 260.
pub const MAX_EQUIVOCATION: usize = 512;

/// Why a record may not come next in a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It was written by a version of the format this code does not know.
    #[error("the format version {0} is not known here")]
    Version(u8),
    /// It is of another suite than the chain.
    #[error("it is of suite `{record}`, the chain of suite `{chain}`")]
    Suite {
        /// The record's.
        record: Suite,
        /// The chain's.
        chain: Suite,
    },
    /// An identity's key is of another suite than the chain.
    #[error("the key of `{0}` is not of the chain's suite `{1}`")]
    KeySuite(String, Suite),
    /// It was made for another chain.
    #[error("it was made for the chain `{0}`")]
    Chain(String),
    /// The first record must enrol the hub that makes it.
    #[error("the first record of a chain must enrol the hub that makes it, with its key")]
    Genesis,
    /// Nobody enrolled this hub, or it was revoked.
    #[error("`{0}` is not an enrolled hub")]
    UnknownHub(String),
    /// A signature is wrong.
    #[error("{0}")]
    Signature(#[from] SignatureError),
    /// Not the next record of its hub.
    #[error("record {got} of hub `{hub}` came where its record {wanted} was due")]
    Sequence {
        /// The hub.
        hub: String,
        /// The number that was due.
        wanted: u64,
        /// The number that came.
        got: u64,
    },
    /// It does not point back to the hub's record before.
    #[error("it does not point back to the previous record of hub `{0}`")]
    Previous(String),
    /// It is older than the hub's record before.
    #[error("it is older than the previous record of hub `{0}`")]
    Time(String),
    /// A batch is missing before it, or it is there already.
    #[error(
        "batch {epoch}.{sequence} of `{device}` does not follow batch {}.{}",
        tip.epoch, tip.sequence
    )]
    BatchSequence {
        /// The device.
        device: String,
        /// Its newest batch.
        tip: DeviceTip,
        /// Epoch of the batch that came.
        epoch: u64,
        /// Sequence number of the batch that came.
        sequence: u64,
    },
    /// The hub has no lease of the device under this epoch.
    #[error("`{hub}` has no lease of `{device}` under epoch {epoch}")]
    NotLeased {
        /// The device.
        device: String,
        /// The epoch of the batch that came.
        epoch: u64,
        /// The hub that recorded it.
        hub: String,
    },
    /// A lease under an epoch that is not new.
    #[error("a lease of `{device}` under epoch {got} came, and its epochs go up to {newest}")]
    LeaseEpoch {
        /// The device.
        device: String,
        /// The newest epoch that is known of it.
        newest: u64,
        /// The epoch that came.
        got: u64,
    },
    /// A vote that nobody may cast like this, or a proof of nothing.
    #[error("{0}")]
    Membership(#[from] SuccessionError),
    /// An anchor or a step of an exchange that does not count, or a chain that holds other things than a relay.
    #[error("{0}")]
    Relay(String),
    /// The attester may not speak for the device.
    #[error("the key that attests the batch of `{0}` is not enrolled for it")]
    Attester(String),
    /// A version of a document is missing before it, or it is there already.
    #[error("version {got} of `{kind}` for `{object}` came where version {wanted} was due")]
    DocumentVersion {
        /// What the document is for.
        object: String,
        /// What it is.
        kind: String,
        /// The version that was due.
        wanted: u64,
        /// The version that came.
        got: u64,
    },
    /// The id is in use.
    #[error("the identity `{0}` is enrolled already")]
    IdentityTaken(String),
    /// The new key is in use, or was.
    #[error(
        "the new key of `{0}` is, or was, the key of `{1}`: a key has one owner and never comes back"
    )]
    KeyTaken(String, String),
    /// The key that a rotation replaces is not the identity's.
    #[error("`{0}` has another key than the one that is to be replaced")]
    Replaced(String),
    /// A hub's key is replaced by the hub itself, and by nobody else.
    #[error("the key of `{0}` is not replaced by its owner")]
    Rotates(String),
    /// A set of key generation centres that is none, or out of turn.
    #[error("the key generation centres: {0}")]
    Centres(String),
    /// A certificateless key that does not come of its point and its centres.
    #[error("the key of `{0}` is not the one that its declared point and its centres give")]
    Derived(String),
    /// There is no such identity to be revoked.
    #[error("there is no such identity `{0}` in force")]
    UnknownIdentity(String),
    /// A hub that signs blocks cannot simply be revoked.
    #[error("`{0}` signs blocks: it leaves by a membership record")]
    RevokesValidator(String),
    /// Action, content and response do not fit each other.
    #[error("a `{action:?}` record cannot say this: {why}")]
    Shape {
        /// The action.
        action: Action,
        /// What does not fit.
        why: &'static str,
    },
    /// A number has reached its end.
    #[error("a sequence number has reached its end")]
    Exhausted,
}

/// Checks suite, version, lengths, and that action, content and response fit each other.
pub(super) fn check_shape(suite: Suite, body: &RecordBody) -> Result<(), ApplyError> {
    let own = body.suite();
    if body.version != own.marked(RECORD_VERSION) {
        return Err(ApplyError::Version(body.version));
    }
    if own != suite {
        return Err(ApplyError::Suite {
            record: own,
            chain: suite,
        });
    }
    let wrong = |why| {
        Err(ApplyError::Shape {
            action: body.action,
            why,
        })
    };
    if (body.action == Action::Refuse) != (body.response == Response::Refused) {
        return wrong("what is refused, and only that, has the action refuse");
    }
    let names = [&body.chain, &body.hub, &body.subject, &body.object];
    if names.iter().any(|n| n.is_empty()) || names.iter().any(|n| n.len() > MAX_NAME) {
        return wrong("a name is empty or longer than 256 bytes");
    }
    match (body.action, &body.content) {
        (Action::Store, Content::Batch(batch)) => {
            if batch.sealed.is_none() || batch.verdict.class == VerdictClass::Invalid {
                return wrong("a stored batch is valid and has its sealed bytes");
            }
            check_batch_names(batch).or_else(wrong)
        }
        (Action::Refuse, Content::Batch(batch)) => {
            if batch.sealed.is_some() || batch.verdict.class == VerdictClass::Accepted {
                return wrong("a refused batch was not accepted and has no sealed bytes");
            }
            check_batch_names(batch).or_else(wrong)
        }
        (Action::Configure, Content::Document(document)) => {
            if document.kind.is_empty() || document.kind.len() > MAX_NAME {
                return wrong("the kind of a document has 1 to 256 bytes");
            }
            Ok(())
        }
        (Action::Enrol | Action::Revoke, Content::Identity(identity)) => {
            if identity.id.is_empty() || identity.id.len() > MAX_NAME {
                return wrong("an id has 1 to 256 bytes");
            }
            Ok(())
        }
        (Action::Configure, Content::Centres(centres)) => {
            if centres.members.iter().any(|m| m.name.len() > MAX_NAME) {
                return wrong("a centre's name has 1 to 256 bytes");
            }
            Ok(())
        }
        (Action::Enrol, Content::Derived(derived)) => {
            let id = &derived.identity.id;
            if id.is_empty() || id.len() > MAX_NAME {
                return wrong("an id has 1 to 256 bytes");
            }
            Ok(())
        }
        (Action::Enrol | Action::Membership, Content::Rotation(rotation)) => {
            let hub = rotation.identity.kind == IdentityKind::Hub;
            if hub != (body.action == Action::Membership) {
                return wrong("a hub's new key, and only that, changes who signs");
            }
            let id = &rotation.identity.id;
            if id.is_empty() || id.len() > MAX_NAME {
                return wrong("an id has 1 to 256 bytes");
            }
            Ok(())
        }
        (
            Action::Refuse
            | Action::Read
            | Action::Control
            | Action::Grant
            | Action::Release
            | Action::Session
            | Action::Summary
            | Action::Exchange
            | Action::Erase
            | Action::Acknowledge,
            Content::Commitment(_),
        ) => Ok(()),
        (action, Content::Message(message)) if tells(action, &body.object) => {
            if message.kind.is_empty() || message.kind.len() > MAX_NAME {
                return wrong("the kind of a message has 1 to 256 bytes");
            }
            Ok(())
        }
        (Action::Exchange | Action::Refuse, Content::Anchor(_) | Content::Exchange(_)) => {
            check_relayed(body).or_else(wrong)
        }
        (
            Action::Membership | Action::Grant,
            Content::HubVote(_) | Content::Lease(_) | Content::Equivocation(_),
        ) => check_of_several(body).or_else(wrong),
        _ => wrong("the content is of another kind than the action needs"),
    }
}

/// Whether a record of `action` on `object` may tell of an act by a sealed message. Those that make
/// and withdraw identities and configure tell so of access only: elsewhere they say it openly.
pub(super) fn tells(action: Action, object: &str) -> bool {
    match action {
        Action::Configure | Action::Enrol | Action::Revoke => object.starts_with(ACCESS_OBJECT),
        Action::Store | Action::Membership => false,
        _ => true,
    }
}

/// What hubs record about themselves: the object says of what, and names are bounded.
fn check_of_several(body: &RecordBody) -> Result<(), &'static str> {
    let is_name = |name: &str| (1..=MAX_NAME).contains(&name.len());
    let (action, named) = match &body.content {
        Content::HubVote(vote) => {
            let object = format!("hub:{}", vote.hub);
            (
                Action::Membership,
                is_name(&vote.hub) && body.object == object,
            )
        }
        Content::Equivocation(proof) => {
            if proof.evidence.len() > MAX_EQUIVOCATION {
                return Err("the evidence is longer than any that proves something");
            }
            let hub = body.object.strip_prefix("hub:");
            (Action::Membership, hub.is_some_and(is_name))
        }
        Content::Lease(lease) => {
            let object = format!("device:{}", lease.device);
            if lease.epoch == 0 {
                return Err("epochs of leases are counted from 1");
            }
            let named = is_name(&lease.device) && is_name(&lease.hub) && body.object == object;
            (Action::Grant, named)
        }
        _ => return Err("the content is of another kind than the action needs"),
    };
    if body.action != action {
        return Err("votes and proofs of lies are about membership, a lease grants");
    }
    match named {
        true => Ok(()),
        false => Err("the object is not what the content is about"),
    }
}

/// What a relay records: the object says of what, lengths are bounded, and only a refused step is a refusal.
fn check_relayed(body: &RecordBody) -> Result<(), &'static str> {
    let is_name = |name: &String| (1..=MAX_NAME).contains(&name.len());
    let (refused, object, bounded) = match &body.content {
        Content::Anchor(anchor) => {
            let header = &anchor.header;
            let names = [&header.chain, &header.proposer];
            let signatures = anchor.certificate.signatures();
            let few = signatures.len() <= MAX_HUBS && anchor.leads.len() <= MAX_LEADS;
            let bounded = names.into_iter().all(is_name)
                && few
                && signatures.iter().all(|one| is_name(&one.validator));
            (false, anchor.object(), bounded)
        }
        Content::Exchange(said) => {
            let bounded = [&said.acid, &said.ceid, &said.hub].into_iter().all(is_name);
            (said.step == ExchangeStep::Refuse, said.object(), bounded)
        }
        _ => return Err("the content is of another kind than the action needs"),
    };
    if refused != (body.action == Action::Refuse) {
        return Err("a refused step, and only that, is a refusal");
    }
    match bounded && body.object == object {
        true => Ok(()),
        false => Err("the object is not what the content is about, or something is too long"),
    }
}

fn check_batch_names(batch: &weighbridge_verifier::BatchContent) -> Result<(), &'static str> {
    let verdict = &batch.verdict;
    let long = [&batch.device, &verdict.chart, &verdict.rule]
        .iter()
        .any(|n| n.len() > MAX_NAME);
    if batch.device.is_empty() || long {
        return Err("a name is empty or longer than 256 bytes");
    }
    if batch.samples == 0 {
        return Err("a batch has at least one sample");
    }
    if batch.sequence == 0 {
        return Err("batches are counted from 1");
    }
    Ok(())
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;

//! What a hub wants to record, before it is numbered, chained and signed.

use crate::model::Nanos;
use weighbridge_verifier::{
    Action, BatchContent, CentresContent, Content, DerivedContent, DocumentContent, Hash,
    IdentityContent, IdentityKind, PublicKey, Record, RecordBody, Response, RotationContent,
};

/// A record to be: everything but its place in the chain and its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// When it happened, by the hub's clock. The record's time is moved forward where needed, so that
    /// a hub's records never go back in time.
    pub time: Nanos,
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

impl Draft {
    /// A sealed batch that enters the record.
    pub fn store(time: Nanos, batch: BatchContent) -> Self {
        Self::batch(time, Action::Store, Response::Accepted, batch)
    }

    /// A batch that is refused: its record has no sealed bytes.
    pub fn refuse(time: Nanos, batch: BatchContent) -> Self {
        Self::batch(time, Action::Refuse, Response::Refused, batch)
    }

    fn batch(time: Nanos, action: Action, response: Response, batch: BatchContent) -> Self {
        let device = format!("device:{}", batch.device);
        Self {
            time,
            subject: device.clone(),
            action,
            object: device,
            permit: None,
            content: Content::Batch(batch),
            response,
        }
    }

    /// A new version of the document that is in force for `object`.
    pub fn configure(time: Nanos, subject: &str, object: &str, document: DocumentContent) -> Self {
        Self {
            time,
            subject: subject.to_owned(),
            action: Action::Configure,
            object: object.to_owned(),
            permit: None,
            content: Content::Document(document),
            response: Response::Accepted,
        }
    }

    /// The first record of a chain: the hub that begins it enrols itself.
    pub(super) fn first(time: Nanos, hub: &str, key: PublicKey) -> Self {
        let identity = IdentityContent {
            id: hub.to_owned(),
            kind: IdentityKind::Hub,
            key: Some(key),
        };
        Self::enrol(time, &format!("hub:{hub}"), identity)
    }

    /// An identity that enters the ledger.
    pub fn enrol(time: Nanos, subject: &str, identity: IdentityContent) -> Self {
        Self {
            time,
            subject: subject.to_owned(),
            action: Action::Enrol,
            object: format!("identity:{}", identity.id),
            permit: None,
            content: Content::Identity(identity),
            response: Response::Accepted,
        }
    }

    /// Another key for an identity that has one: of a hub a change of who signs.
    pub fn rotate(time: Nanos, subject: &str, rotation: RotationContent) -> Self {
        Self {
            time,
            subject: subject.to_owned(),
            action: match rotation.identity.kind {
                IdentityKind::Hub => Action::Membership,
                _ => Action::Enrol,
            },
            object: format!("identity:{}", rotation.identity.id),
            permit: None,
            content: Content::Rotation(rotation),
            response: Response::Accepted,
        }
    }

    /// A version of the set of key generation centres.
    pub fn centres(time: Nanos, subject: &str, centres: CentresContent) -> Self {
        let version = centres.version;
        let content = Content::Centres(centres);
        Self::open(
            time,
            subject,
            Action::Configure,
            (format!("centres:{version}"), content),
        )
    }

    /// An identity with a certificateless key.
    pub fn derived(time: Nanos, subject: &str, derived: DerivedContent) -> Self {
        let object = format!("identity:{}", derived.identity.id);
        let content = Content::Derived(derived);
        Self::open(time, subject, Action::Enrol, (object, content))
    }

    fn open(
        time: Nanos,
        subject: &str,
        action: Action,
        (object, content): (String, Content),
    ) -> Self {
        Self {
            time,
            subject: subject.to_owned(),
            action,
            object,
            permit: None,
            content,
            response: Response::Accepted,
        }
    }

    /// What a record that is in no block yet wanted to say, to be said anew.
    pub(super) fn again(body: &RecordBody) -> Self {
        Self {
            time: body.time,
            subject: body.subject.clone(),
            action: body.action,
            object: body.object.clone(),
            permit: body.permit,
            content: body.content.clone(),
            response: body.response,
        }
    }

    /// What takes the place of a record that was durable, and that may not stand in the chain any more because of
    /// what another hub recorded meanwhile: `record` is its hash.
    pub(super) fn left_out(body: &RecordBody, record: Hash) -> Self {
        Self {
            action: Action::Refuse,
            content: Content::Commitment(record),
            response: Response::Refused,
            ..Self::again(body)
        }
    }

    /// Whether it gives `hub` another key.
    pub(super) fn rotates(&self, hub: &str) -> bool {
        let identity = match &self.content {
            Content::Rotation(rotation) => &rotation.identity,
            _ => return false,
        };
        identity.kind == IdentityKind::Hub && identity.id == hub
    }

    /// Whether `record` says what this draft wanted to say.
    pub(crate) fn became(&self, record: &Record) -> bool {
        let body = &record.body;
        body.subject == self.subject
            && body.action == self.action
            && body.object == self.object
            && body.permit == self.permit
            && body.content == self.content
            && body.response == self.response
    }
}

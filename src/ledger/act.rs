//! What users did or asked for, sealed: who wrote what, who acknowledged which alarm, who was refused.
//!
//! The record says who, on which object, and of what kind; the details are sealed under a key of the
//! hub's own, and padded so that their length does not tell them either.

use super::Draft;
use super::keys::sealed_key;
use super::shape::{MAX_NAME, tells};
use super::store::{Put, Space};
use crate::crypto::EpochKey;
use crate::model::Nanos;
use serde_json::Value as Json;
use std::sync::atomic::{AtomicBool, Ordering};
use weighbridge_verifier::{Action, Content, MessageContent, Response, SealedRef};

/// Most bytes of one act's details.
pub const MAX_DETAILS: usize = 256 * 1024;

/// Details are filled up with blanks to a multiple of this.
const PADDING: usize = 256;

/// Something that somebody did or asked for.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// When.
    pub time: Nanos,
    /// Who, for example `user:anna`.
    pub subject: &'a str,
    /// What was done or asked for. A refusal's action is always [`Action::Refuse`].
    pub action: Action,
    /// On what, for example `device:press-1`.
    pub object: &'a str,
    /// What the details are, for example `control`, `control-result`, `acknowledge`, `history-read`.
    pub kind: &'a str,
    /// The details, for whoever holds the hub's key.
    pub details: &'a Json,
    /// What the hub answered.
    pub response: Response,
}

/// Why an act cannot be sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// A name is too long for a record, or empty.
    #[error("its {0} must have 1 to 256 bytes")]
    Name(&'static str),
    /// The details are too long.
    #[error("its details have {0} bytes, more than {MAX_DETAILS}")]
    Long(usize),
    /// Not an action that a message tells of.
    #[error("a `{0:?}` record is no act")]
    Action(Action),
}

/// An act that is ready to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedAct {
    pub(super) draft: Draft,
    pub(super) puts: Vec<Put>,
}

impl SealedAct {
    /// The record to be, and the values that must be durable with it.
    pub fn into_parts(self) -> (Draft, Vec<Put>) {
        (self.draft, self.puts)
    }
}

/// Seals acts under one epoch key of the hub.
pub struct ActSealer {
    key: EpochKey,
    wraps: Vec<Put>,
    wrapped: AtomicBool,
}

impl ActSealer {
    /// A sealer under `key`, whose object is [`hub_object`](super::key_wrap::hub_object); its `wraps` are written with every act
    /// until one of them is known to be durable.
    pub fn new(key: EpochKey, wraps: Vec<Put>) -> Self {
        let wrapped = AtomicBool::new(false);
        Self {
            key,
            wraps,
            wrapped,
        }
    }

    /// Messages counted under the key.
    pub fn used(&self) -> u64 {
        self.key.used()
    }

    /// What it sealed is durable, and the wrap with it.
    pub fn durable(&self) {
        self.wrapped.store(true, Ordering::Release);
    }

    /// Record and values of an act.
    pub fn seal(&self, act: &Act<'_>) -> Result<SealedAct, ActError> {
        let refused = act.response == Response::Refused;
        let action = if refused { Action::Refuse } else { act.action };
        if !tells(action, act.object) || (action == Action::Refuse && !refused) {
            return Err(ActError::Action(act.action));
        }
        let names = [
            ("subject", act.subject),
            ("object", act.object),
            ("kind", act.kind),
        ];
        if let Some((what, _)) = names
            .iter()
            .find(|(_, name)| name.is_empty() || name.len() > MAX_NAME)
        {
            return Err(ActError::Name(what));
        }
        let mut plain = act.details.to_string().into_bytes();
        if plain.len() > MAX_DETAILS {
            return Err(ActError::Long(plain.len()));
        }
        plain.resize(plain.len().next_multiple_of(PADDING), b' ');
        let number = self.key.next_message();
        let salt = self.key.salts(number.get(), 1).remove(0);
        let suite = self.key.suite();
        let commitment = suite.hash(&[&[0], &salt, &plain]);
        let ciphertext = self.key.seal(number, &plain);
        let hash = suite.hash(&[&ciphertext]);
        let sealed = SealedRef {
            hash,
            length: ciphertext.len() as u64,
            key_epoch: self.key.epoch(),
        };
        let mut puts = Vec::with_capacity(2);
        if !self.wrapped.load(Ordering::Acquire) {
            puts.extend(self.wraps.iter().cloned());
        }
        puts.push(Put {
            space: Space::Sealed,
            key: sealed_key(&hash),
            value: ciphertext,
        });
        let draft = Draft {
            time: act.time,
            subject: act.subject.to_owned(),
            action,
            object: act.object.to_owned(),
            permit: None,
            content: Content::Message(MessageContent {
                kind: act.kind.to_owned(),
                commitment,
                sealed,
            }),
            response: act.response,
        };
        Ok(SealedAct { draft, puts })
    }
}

/// A name for a record, cut to what fits: names come from outside.
pub fn name(prefix: &str, name: &str) -> String {
    let mut whole = format!("{prefix}:{name}");
    let end = whole.floor_char_boundary(MAX_NAME);
    whole.truncate(end);
    whole
}

//! What an engine asks of whoever embeds it.

use crate::certificate::Certificate;
use crate::validators::Validators;
use bytes::Bytes;
use weighbridge_verifier::equivocation::Signed;
use weighbridge_verifier::vote::Proposal;
use weighbridge_verifier::{Hash, PublicKey};

/// A place in which one value can be decided: some round of some height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Height, from 1.
    pub height: u64,
    /// Round, from 0: one for each attempt at the height.
    pub round: u32,
}

/// Where a chain stands.
#[derive(Clone, Debug)]
pub struct Tip {
    /// Height of the last value that is durable here; 0 when there is none.
    pub height: u64,
    /// Who decides the next one.
    pub validators: Validators,
}

/// A value of our own.
#[derive(Clone, Debug)]
pub struct Proposed {
    /// Its id: a hash that its bytes can be checked against.
    pub id: Hash,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What is to be said of another hub's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds: this hub may vote for it.
    Valid(Hash),
    /// It can be read, and does not hold.
    Invalid(Hash),
    /// The bytes are no value: whoever sent them is at fault.
    Unreadable,
    /// It cannot be said, for a reason of our own. Nothing is said of the value.
    Unknown,
}

/// A decision.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The id of the value.
    pub id: Hash,
    /// Its bytes.
    pub bytes: Bytes,
    /// The precommits that decided it, with height and round.
    pub certificate: Certificate,
}

/// A decision, as it is handed to a hub that catches up.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The bytes of the value.
    pub bytes: Bytes,
    /// Its certificate.
    pub certificate: Certificate,
}

/// Why an application cannot do what it must; the chain stops at that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// What somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The chain stands still here until the hub is started again, or somebody steps in.
    Halted(String),
    /// The engine's own log of what it signed cannot be read: starting without it could make this hub
    /// sign two things, so it does not vote until somebody decides (docs/adr/030 says what to do).
    LogDamaged(String),
    /// Enough other hubs decided a value that does not hold here: this hub is of another version, or
    /// too many others are liars.
    Disagrees {
        /// The height.
        height: u64,
        /// The value.
        id: Hash,
    },
}

/// The ledger of one chain, as consensus sees it.
///
/// All methods may block but [`Application::has_data`] and [`Application::alarm`]: they are called on
/// threads of their own, never on those that move votes. For one chain they are called one after the
/// other where their order matters: a `check`, `check_decided` or `propose` for a height comes after the `decide` of the
/// height before has returned.
pub trait Application: Send + Sync + 'static {
    /// Where the chain stands. Called once, before anything else.
    fn tip(&self) -> Result<Tip, Refused>;

    /// Whether there is anything that waits to be recorded. Asked often, must not block. As long as no
    /// hub has anything, no height begins.
    fn has_data(&self) -> bool;

    /// A value for this slot; `None` when there is nothing to record, and then the slot passes.
    fn propose(&self, slot: Slot) -> Option<Proposed>;

    /// Whether another hub's bytes are a value that may be decided at this slot's height. The same
    /// bytes may come more than once.
    fn check(&self, slot: Slot, bytes: &Bytes) -> Verdict;

    /// Whether bytes that other hubs decided while this one was behind hold here. It is not asked for a vote on
    /// them: who must have more than the bytes before it votes need not have that now.
    fn check_decided(&self, slot: Slot, bytes: &Bytes) -> Verdict {
        self.check(slot, bytes)
    }

    /// The hub with this key proposed, when it was its turn, a value that [`check`](Self::check) found not to hold.
    /// Its signature was verified: nobody else can have said it.
    fn refuted(&self, _by: PublicKey, _proposal: Signed<Proposal>) {}

    /// Makes a decision durable, value and certificate in one, and says who decides the next height.
    /// Nothing else of the chain moves until it returns. An error stops the chain.
    fn decide(&self, decided: Decided) -> Result<Validators, Refused>;

    /// More about the decision that was stored last: a certificate with signatures that came late, and
    /// evidence of equivocation, each piece fit for [`check_evidence`](crate::check_evidence). Called
    /// when there is either.
    fn finalize(&self, certificate: Certificate, evidence: Vec<Vec<u8>>) -> Result<(), Refused>;

    /// The lowest height whose value can still be handed out.
    fn first_height(&self) -> u64;

    /// The decision of a height, for a hub that catches up.
    fn stored(&self, height: u64) -> Option<Stored>;

    /// Somebody should look. Must not block.
    fn alarm(&self, alarm: Alarm);
}

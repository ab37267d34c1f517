//! Why a relay refuses.

use super::{MAX_CHAINS, MAX_OPEN};
use crate::block::BlockError;
use crate::evidence::EvidenceError;
use crate::signature::SignatureError;

/// Why a relay does not take an anchor or a step.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A relay does not anchor itself.
    #[error("`{0}` is the relay itself")]
    Itself(String),
    /// It has no anchor.
    #[error("the chain `{0}` has no anchor here")]
    Unknown(String),
    /// There are too many.
    #[error("the relay knows {MAX_CHAINS} chains, and no more")]
    TooManyChains,
    /// Heights and times only grow.
    #[error("the header of `{0}` is not after the one that is anchored")]
    Old(String),
    /// Its first anchor said another.
    #[error("the grade of `{chain}` is {grade}")]
    Grade {
        /// The chain.
        chain: String,
        /// Its grade.
        grade: u8,
    },
    /// What shows its hubs does not hold.
    #[error("what shows the hubs of `{chain}` does not hold: {why}")]
    Leads {
        /// The chain.
        chain: String,
        /// Why.
        why: Box<EvidenceError>,
    },
    /// What shows its hubs is about something else, or leaves something out.
    #[error("what shows the hubs of `{chain}` {why}")]
    Astray {
        /// The chain.
        chain: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The header's certificate does not hold.
    #[error("the header of `{chain}` does not hold: {why}")]
    Header {
        /// The chain.
        chain: String,
        /// Why.
        why: BlockError,
    },
    /// Nobody exchanges with itself.
    #[error("`{0}` asks itself")]
    Alone(String),
    /// Not the next of the chain that asks.
    #[error("exchange {got} of `{acid}` came where its exchange {wanted} was due")]
    Number {
        /// The chain that asks.
        acid: String,
        /// The number that was due.
        wanted: u64,
        /// The number that came.
        got: u64,
    },
    /// Too many at once.
    #[error("`{0}` has {MAX_OPEN} exchanges open, and no more")]
    TooManyOpen(String),
    /// There is no such exchange, or it is over.
    #[error("there is no exchange {number} of `{acid}` with `{ceid}` of this grade and time open")]
    NotOpen {
        /// The chain that asks.
        acid: String,
        /// The number.
        number: u64,
        /// The chain that is asked.
        ceid: String,
    },
    /// Another step is due.
    #[error("exchange {number} of `{acid}`: {why}")]
    Step {
        /// The chain that asks.
        acid: String,
        /// The number.
        number: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// Who says so is no hub of the chain whose step it is.
    #[error("`{hub}` is no hub of `{chain}`, whose step it is")]
    Stranger {
        /// The chain.
        chain: String,
        /// Who said so.
        hub: String,
    },
    /// The signature does not hold.
    #[error("the signature of `{hub}` of `{chain}` does not hold: {why}")]
    Signature {
        /// The chain.
        chain: String,
        /// Its hub.
        hub: String,
        /// Why.
        why: SignatureError,
    },
}

//! Why a link ended, and who is to blame.

use super::wire::WireError;
use crate::cluster::ports::Fault;
use weighbridge_verifier::plain;

/// Longest reason of another hub that is shown, in characters.
const MAX_REASON: usize = 256;

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Why.
    pub(super) why: String,
    /// The other hub said what cannot be.
    pub(super) lie: bool,
}

impl Ended {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            lie: false,
        }
    }

    pub(super) fn lie(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            lie: true,
        }
    }

    /// The other hub has ended it, and says why.
    pub(super) fn goodbye(why: &str) -> Self {
        let shown: String = why.chars().take(MAX_REASON).collect();
        Self::new(format!("it said: {}", plain(&shown)))
    }
}

impl From<WireError> for Ended {
    fn from(error: WireError) -> Self {
        match error {
            WireError::TooLong(_) | WireError::Form(_) => Self::lie(error.to_string()),
            _ => Self::new(error.to_string()),
        }
    }
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self {
            lie: fault.is_lie(),
            why: fault.why,
        }
    }
}

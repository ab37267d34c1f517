//! What every protocol adapter offers to a device actor.

use super::control::Control;
use crate::model::{About, BatchBuilder, Nanos, Peer, TagSpec};
use async_trait::async_trait;
use std::sync::Arc;

/// How a source gathers its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All tags at once: use [`BatchBuilder::scanning`].
    Scanning,
    /// Each tag when it changes: use [`BatchBuilder::subscribing`].
    Subscribing,
}

/// Why a source cannot go on. The device actor backs off and connects again.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No connection, or it broke.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why, in plain words, with the operating system's word at the end.
        reason: String,
    },
    /// No answer in time.
    #[error("{address} did not answer within {milliseconds} ms")]
    Timeout {
        /// Where.
        address: String,
        /// How long was waited.
        milliseconds: u64,
    },
    /// It answered what the protocol does not allow.
    #[error("{address} broke the protocol: {reason}")]
    Protocol {
        /// Where.
        address: String,
        /// What was wrong.
        reason: String,
    },
}

impl SourceError {
    /// What is wrong, in plain words, and what to look at.
    pub fn plain(&self) -> String {
        match self {
            Self::Unreachable { address, reason } => {
                let hint = hint(reason);
                format!("{address} cannot be reached: {hint}")
            }
            Self::Timeout { address, .. } => format!(
                "{address} takes connections but does not answer: look whether the device is busy, or \
                 listens to another unit"
            ),
            Self::Protocol { address, .. } => format!(
                "what answers at {address} is not what was expected: look whether address and protocol \
                 are those of this device"
            ),
        }
    }

    /// The exact error, as the protocol or the operating system gave it.
    pub fn exact(&self) -> String {
        match self {
            Self::Unreachable { reason, .. } => reason.clone(),
            Self::Timeout { milliseconds, .. } => {
                format!("did not answer within {milliseconds} ms")
            }
            Self::Protocol { reason, .. } => format!("broke the protocol: {reason}"),
        }
    }
}

/// What to look at when a connection fails, as far as its error tells.
fn hint(reason: &str) -> &'static str {
    let reason = reason.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if says(&["refused"]) {
        "the machine is there, but nothing listens at this port: look at the port, and whether the \
         device's server is switched on"
    } else if says(&["no route", "unreachable", "host is down"]) {
        "no way leads there: look at the cable, the switch and the network address"
    } else if says(&["lookup", "resolve", "name or service", "nodename"]) {
        "the name means no address: look at its spelling and at the name server"
    } else if says(&["reset", "closed", "broken pipe", "eof", "end of file"]) {
        "the device ended the connection: look whether it restarted, or serves another client only"
    } else if says(&["certificate", "security"]) {
        "the two sides do not trust each other: look at the certificates and the security settings"
    } else if says(&["timed out", "timeout", "no connection within", "no answer"]) {
        "nobody answers: look whether the device is on and the address right"
    } else {
        "look whether the device is on, and at the exact error"
    }
}

/// What a device sent by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sent {
    /// Samples, wanted or not.
    pub samples: u64,
    /// What it was asked to send in a second, at most.
    pub per_second: f64,
    /// What it may send at once, after a pause.
    pub burst: u64,
}

/// What is recorded of a device.
#[async_trait]
pub trait Recorded: Send + Sync {
    /// For each tag, in the order of the source's, a source time up to which its samples are recorded,
    /// or were not there; `None` when nothing is recorded of the device. Samples whose status code
    /// (without the low 16 bits, which tell of the sample) is one of `uncounted` are not looked at. May take seconds.
    ///
    /// # Errors
    /// Why it cannot be told.
    async fn newest(&self, uncounted: &[u32]) -> Result<Vec<Option<Nanos>>, String>;
}

/// A device's side of a protocol.
///
/// A device's exception for some tags is not an error: those tags get a Bad quality and the others
/// go on. Errors are for the connection as a whole; after one, the next call is `connect`.
#[async_trait]
pub trait Source: Send {
    /// The tags, in the order of the batch's columns.
    fn tags(&self) -> Arc<[TagSpec]>;

    /// How samples are gathered.
    fn mode(&self) -> Mode;

    /// Connects, dropping an older connection. Cancel-safe.
    async fn connect(&mut self) -> Result<(), SourceError>;

    /// Waits until the next scan is due, or the next values arrive, and writes them into `out`.
    ///
    /// Cancel-safe up to the first sample written: a cancelled call has either written a whole scan
    /// or nothing.
    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError>;

    /// Whether what was written last ends a batch, whatever its size: a machine's cycle is over. Asked
    /// once after every `read`.
    fn batch_ended(&mut self) -> bool {
        false
    }

    /// What is known of the device since it was connected.
    fn about(&self) -> About {
        About::default()
    }

    /// Who answers on the connection that was made last; `None` where there is nobody to tell from another,
    /// as on a serial line.
    fn peer(&self) -> Option<Peer> {
        None
    }

    /// Samples lost since the last call, because nobody took them in time.
    fn lost(&mut self) -> u64 {
        0
    }

    /// What the device sent by itself since the last call; `None` for one that only answers, or that may
    /// send as much as it can.
    fn sent(&mut self) -> Option<Sent> {
        None
    }

    /// Tells it, before the first `connect`, where to learn what is recorded of the device: one that can
    /// ask the device for its past goes on from there.
    fn go_on_from(&mut self, _recorded: Arc<dyn Recorded>) {}

    /// The handle that acts upon the device, beside `read`; `None` where the device can only be read.
    /// It stays valid over reconnections.
    fn control(&self) -> Option<Arc<dyn Control>> {
        None
    }

    /// Ends the connection in good order.
    async fn close(&mut self) {}

    /// Ends the connection because another one than the device answers, whoever else uses it.
    async fn turn_away(&mut self) {
        self.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_a_plain_and_an_exact_layer() {
        let refused = SourceError::Unreachable {
            address: "10.0.0.7:502".into(),
            reason: "Connection refused (os error 111)".into(),
        };
        assert!(
            refused.plain().contains("nothing listens"),
            "{}",
            refused.plain()
        );
        assert!(!refused.plain().contains("os error"));
        assert_eq!(refused.exact(), "Connection refused (os error 111)");
        let silent = SourceError::Timeout {
            address: "10.0.0.7:502".into(),
            milliseconds: 500,
        };
        assert!(silent.plain().starts_with("10.0.0.7:502 takes connections"));
        assert_eq!(silent.exact(), "did not answer within 500 ms");
    }
}

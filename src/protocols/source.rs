//! What every protocol adapter offers to a device actor.

use super::control::Control;
use crate::model::{BatchBuilder, TagSpec};
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

    /// Samples lost since the last call, because nobody took them in time.
    fn lost(&mut self) -> u64 {
        0
    }

    /// The handle that acts upon the device, beside `read`; `None` where the device can only be read.
    /// It stays valid over reconnections.
    fn control(&self) -> Option<Arc<dyn Control>> {
        None
    }

    /// Ends the connection in good order.
    async fn close(&mut self) {}
}

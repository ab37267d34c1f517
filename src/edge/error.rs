//! Why an edge node cannot start, or go on.

use crate::crypto::OpenError;
use crate::crypto::pinned_tls::TlsError;
use crate::hub::HubError;
use crate::protocols::edge::UploadError;
use crate::store::spool::SpoolError;
use std::path::PathBuf;
use weighbridge_verifier::Suite;

/// Why an edge node cannot start, or go on.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The buffer.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A batch cannot be packed.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A hub is of another suite.
    #[error(
        "the hub at {address} has keys of suite `{suite}`, and this edge node's key is of suite `{own}`"
    )]
    Suite {
        /// Which hub.
        address: String,
        /// Its suite.
        suite: Suite,
        /// Ours.
        own: Suite,
    },
    /// A hub's sealing key is none.
    #[error("the sealing key of the hub at {address} is no key: {source}")]
    SealingKey {
        /// Which hub.
        address: String,
        /// Why.
        source: OpenError,
    },
    /// What a device is known by cannot be read or kept.
    #[error("what the device is known by, in {}, cannot be read or kept: {source}", dir.display())]
    Known {
        /// Where.
        dir: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The numbering of a lane.
    #[error("the numbering of the batches in {} cannot be kept: {source}", dir.display())]
    Numbering {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A device.
    #[error("the device `{device}` cannot be read here: {reason}")]
    Device {
        /// Which.
        device: String,
        /// Why.
        reason: &'static str,
    },
    /// A device that no hub could use either.
    #[error(transparent)]
    Setup(#[from] HubError),
    /// Another key that is none of this edge node's.
    #[error("the new key is of another suite than the one in use, or of another edge node")]
    Successor,
    /// It is ending.
    #[error("the edge node is ending")]
    Ending,
    /// There is nobody to upload to.
    #[error("there is no hub to upload to: name at least one")]
    NoHub,
    /// Threads.
    #[error("the edge node's threads cannot be started: {0}")]
    Threads(std::io::Error),
    /// It ended before everything was on disk.
    #[error("{samples} samples were read but are not in the buffer: {reason}")]
    Lost {
        /// How many.
        samples: u64,
        /// Why.
        reason: &'static str,
    },
}

/// Why an edge node's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// It is a hub's.
    #[error("the configuration has no `[edge]`: it is not an edge node's")]
    NotAnEdge,
    /// The key.
    #[error(transparent)]
    Key(#[from] crate::crypto::KeyFileError),
    /// A device.
    #[error(transparent)]
    Device(#[from] crate::hub::HubError),
}

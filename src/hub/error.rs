//! Why a hub cannot start, or go on.

use crate::crypto::KeyFileError;
use crate::ledger::LedgerError;
use crate::ledger::opening::OpeningError;
use crate::ledger::store::StoreError;
use crate::validation::ValidationError;
use weighbridge_verifier::Suite;

/// Why a hub cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A key that is to take the place of another.
    #[error(transparent)]
    NextKey(#[from] crate::crypto::NextKeyError),
    /// A key file of another suite than the configuration's.
    #[error(
        "the key in {path} is of suite `{suite}`, and `[ledger]` says `suite = \"{wanted}\"`: the suite is \
         fixed by the first block of a ledger, and the hub's keys are of it"
    )]
    KeySuite {
        /// The file.
        path: std::path::PathBuf,
        /// The suite of its key.
        suite: Suite,
        /// The suite that the configuration says.
        wanted: Suite,
    },
    /// The hub's two keys are not of one suite.
    #[error(
        "the signing key is of suite `{signing}` and the sealing key of `{sealing}`: a chain is of one suite"
    )]
    TwoSuites {
        /// The signing key's.
        signing: Suite,
        /// The sealing key's.
        sealing: Suite,
    },
    /// The hubs that the chain is shared with.
    #[error("the chain cannot be shared: {0}")]
    Cluster(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A sealed document of the ledger.
    #[error("the validation settings of `{device}` cannot be read from the ledger: {source}")]
    Settings {
        /// Whose.
        device: String,
        /// Why.
        source: OpeningError,
    },
    /// A device's validation settings.
    #[error("the validation settings of `{device}` cannot be used: {source}")]
    Validation {
        /// Whose.
        device: String,
        /// Why.
        source: ValidationError,
    },
    /// A device's protocol settings.
    #[error("the device `{device}` cannot be used: {reason}")]
    Device {
        /// Which.
        device: String,
        /// Why.
        reason: String,
    },
    /// What is recorded of access, or what the configuration says of it.
    #[error("who may what cannot be brought into force: {entry}: {reason}")]
    Access {
        /// Which entry.
        entry: String,
        /// Why.
        reason: String,
    },
    /// The key under which users' acts are sealed.
    #[error("what users do cannot be recorded: {0}")]
    Journal(String),
    /// The index of what was recorded.
    #[error("the history cannot be opened: {0}")]
    History(#[from] crate::ledger::history::PastError),
    /// The files of the HTTP face's TLS.
    #[error(
        "the HTTP face cannot speak TLS: {0}; `weighbridge certs issue hub ID` makes its certificate and key, and `certificate` and `key` in [http] name others"
    )]
    HttpTls(#[source] crate::crypto::TlsError),
    /// An erasure.
    #[error("it cannot be erased: {0}")]
    Erasure(#[from] crate::ledger::erasure::ErasureError),
    /// The HTTP face.
    #[error(transparent)]
    Http(#[from] crate::api::ApiError),
    /// The OPC UA server.
    #[error(transparent)]
    OpcUa(#[from] crate::protocols::opcua::ScadaError),
    /// An edge node.
    #[error("the edge node `{edge}` cannot be used: {reason}")]
    Edge {
        /// Which.
        edge: String,
        /// Why.
        reason: String,
    },
    /// The connections of edge nodes.
    #[error(transparent)]
    EdgeTls(#[from] crate::crypto::pinned_tls::TlsError),
    /// Where edge nodes connect.
    #[error(transparent)]
    EdgeListen(#[from] crate::protocols::edge::ListenError),
    /// Threads and files.
    #[error("{what}: {source}")]
    Io {
        /// What failed.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The hub's threads ended.
    #[error("the hub's actors ended early, see the log")]
    Gone,
    /// The hub ended before the disk took everything.
    #[error("{samples} samples were read but are not recorded: {reason}")]
    Lost {
        /// How many.
        samples: u64,
        /// Why.
        reason: String,
    },
    /// An invariant of the ledger broke while the hub ran.
    #[error("the ledger is broken: {0}")]
    Broken(String),
}

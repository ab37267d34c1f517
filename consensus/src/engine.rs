//! An engine, and one chain in it.

use crate::application::{Application, Refused};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use weighbridge_verifier::{Hash, PublicKey, Signature};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Signs with a hub's key, wherever that is kept.
pub trait Sign: Send + Sync + 'static {
    /// The public half, of P-256.
    fn public_key(&self) -> PublicKey;

    /// A signature over this hash with low s, as everywhere in the house.
    fn sign(&self, message: &Hash) -> Result<Signature, Refused>;
}

/// Which hubs a quorum allows for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Faults {
    /// Liars: fewer than a third, and more than two thirds decide.
    #[default]
    Byzantine,
    /// Hubs that stop, but never lie: fewer than half, and more than half decide. For three hubs, of
    /// which two have to be able to go on; whoever trusts it must know that one liar breaks it.
    Crash,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a hub waits for the proposal of a round; every further round waits half of it longer.
    pub propose: Duration,
    /// How long a hub waits for the votes of the others once a quorum has voted, differently.
    pub vote: Duration,
    /// The longest that any of these becomes.
    pub longest: Duration,
    /// The least time that a height takes: signatures and equivocations that come late are only seen
    /// within it.
    pub height: Duration,
    /// How often a hub tells the others where it stands.
    pub status: Duration,
    /// How long a hub waits for another one that it asked for decisions which it missed.
    pub request: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            propose: Duration::from_millis(500),
            vote: Duration::from_millis(250),
            longest: Duration::from_secs(5),
            height: Duration::from_millis(20),
            status: Duration::from_secs(1),
            request: Duration::from_secs(3),
        }
    }
}

/// The secret half of what a hub is known by on the network of a chain: an Ed25519 seed. It vouches for
/// connections only; what is decided rests on the hub's own key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct NetworkKey(pub(crate) [u8; 32]);

impl NetworkKey {
    /// The key with this seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(seed)
    }
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkKey(..)")
    }
}

/// Another hub, to be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    /// What its network key is known by ([`Chain::network_id`]).
    pub id: String,
}

/// A chain to be opened.
pub struct Setup {
    /// The chain's name. Every signature is for one chain.
    pub chain: String,
    /// Where the engine keeps its log: a directory of this chain's own.
    pub directory: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What this hub is known by on the network.
    pub network_key: NetworkKey,
    /// The other hubs. Nobody else is connected to.
    pub peers: Vec<Peer>,
    /// This hub's key.
    pub signer: Arc<dyn Sign>,
    /// Which faults are allowed for.
    pub faults: Faults,
    /// How long things may take.
    pub timing: Timing,
    /// Longest value, in bytes.
    pub max_value: usize,
}

/// Where a chain is, for whoever watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Height of the last durable decision.
    pub tip: u64,
    /// The height that is being decided; `None` before the first one.
    pub deciding: Option<u64>,
    /// Whether it rests until there is something to decide.
    pub parked: bool,
    /// How many hubs are connected.
    pub peers: usize,
    /// Why it stands still, if it does so for good.
    pub halted: Option<String>,
}

/// Why a chain cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The settings make no sense.
    #[error("{0}")]
    Setup(String),
    /// The store is behind what the engine has signed: blocks have been lost, and voting on could
    /// contradict what this hub said before.
    #[error(
        "the store ends at height {tip}, but the consensus log has height {log}: decisions have been lost from the store"
    )]
    StoreBehind {
        /// The store's tip.
        tip: u64,
        /// The height in the log.
        log: u64,
    },
    /// The application does not know where its chain stands.
    #[error("the chain's tip cannot be read: {0}")]
    Tip(#[from] Refused),
    /// The log of the engine.
    #[error("the consensus log {path}: {reason}")]
    Log {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Anything else.
    #[error("the consensus engine: {0}")]
    Engine(String),
}

/// A way of making hubs agree.
pub trait Engine: Send + Sync {
    /// Opens a chain, and takes part in it.
    fn open(
        &self,
        setup: Setup,
        application: Arc<dyn Application>,
    ) -> Result<Box<dyn Chain>, EngineError>;
}

/// A chain that this hub takes part in. Dropping it stops it.
pub trait Chain: Send + Sync {
    /// There is something to record now: a chain that rests asks [`Application::has_data`] again.
    fn wake(&self);

    /// Where it is, and every change of that.
    fn progress(&self) -> watch::Receiver<Progress>;

    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// What this hub is known by on the network.
    fn network_id(&self) -> &str;

    /// Connects to another hub from now on.
    fn add_peer(&self, peer: &Peer) -> Result<(), EngineError>;

    /// Lets go of another hub.
    fn remove_peer(&self, peer: &Peer) -> Result<(), EngineError>;

    /// Leaves, and waits until nothing of it runs any more.
    fn stop(self: Box<Self>);
}

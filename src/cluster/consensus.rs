//! This hub's part in consensus: it is begun when the hub is one of those that decide, and woken when there is
//! something to decide.

use super::application::Deciding;
use super::book::SharedBook;
use crate::crypto::{NetworkSeed, Signer};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use weighbridge_consensus::malachite::Malachite;
use weighbridge_consensus::{
    Chain, Engine, EngineError, NetworkKey, Peer, Progress, PublicKey, Refused, Setup, Sign,
    Signature, Timing,
};
use weighbridge_verifier::{Faults, Hash};

/// Threads of the engine.
const THREADS: usize = 2;
/// Longest value, in bytes: a block of that many records and no sealed bytes.
pub const MAX_VALUE: usize = 4 << 20;

/// What consensus is told.
pub struct ConsensusSetup {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The directory of its log: it must not come from a backup.
    pub directory: PathBuf,
    /// What this hub is known by.
    pub network: NetworkSeed,
    /// The other hubs.
    pub peers: Vec<ConsensusPeer>,
    /// How long things may take.
    pub timing: Timing,
}

/// Another hub, to consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsensusPeer {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is known by.
    pub network: String,
}

impl From<&ConsensusPeer> for Peer {
    fn from(peer: &ConsensusPeer) -> Self {
        Self {
            address: peer.address,
            id: peer.network.clone(),
        }
    }
}

/// The chain, as long as this hub takes part in it.
type Running = Arc<Mutex<Option<Box<dyn Chain>>>>;

/// This hub's part in consensus. Dropping it leaves.
pub struct Consensus {
    book: Arc<SharedBook>,
    chain: Running,
    address: SocketAddr,
    progress: watch::Receiver<Progress>,
    /// Its threads.
    _engine: Malachite,
    _waking: AbortOnDropHandle<()>,
}

/// The key of a hub, for consensus.
struct Key(Arc<dyn Signer>);

impl Sign for Key {
    fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    fn sign(&self, message: &Hash) -> Result<Signature, Refused> {
        Ok(self.0.sign(message))
    }
}

impl Consensus {
    /// Takes part from now on; blocks come from here alone. Blocking.
    pub fn open(
        setup: ConsensusSetup,
        book: &Arc<SharedBook>,
        signer: &Arc<dyn Signer>,
        runtime: &Handle,
    ) -> Result<Self, EngineError> {
        let wrong = |why: &str| EngineError::Setup(why.to_owned());
        let set = book
            .members()
            .ok_or_else(|| wrong("the chain has no hubs yet"))?;
        let faults = Faults::of(&set);
        let engine = Malachite::start(THREADS)?;
        book.deciding.store(true, Ordering::Release);
        let opened = engine.open(
            Setup {
                chain: book.chain(),
                directory: setup.directory,
                listen: setup.listen,
                network_key: NetworkKey::from_seed(setup.network.bytes()),
                peers: setup.peers.iter().map(Peer::from).collect(),
                signer: Arc::new(Key(signer.clone())),
                faults: match faults {
                    Faults::Byzantine => weighbridge_consensus::Faults::Byzantine,
                    Faults::Crash => weighbridge_consensus::Faults::Crash,
                },
                timing: setup.timing,
                max_value: MAX_VALUE,
            },
            Arc::new(Deciding::new(book.clone(), faults)),
        );
        let chain = opened.inspect_err(|_| book.deciding.store(false, Ordering::Release))?;
        let (address, progress) = (chain.address(), chain.progress());
        chain.wake();
        let chain: Running = Arc::new(Mutex::new(Some(chain)));
        let (waking, mut woken) = (chain.clone(), book.woken());
        let waking = runtime.spawn(async move {
            while woken.changed().await.is_ok() {
                if let Some(chain) = &*waking.lock() {
                    chain.wake();
                }
            }
        });
        Ok(Self {
            book: book.clone(),
            chain,
            address,
            progress,
            _engine: engine,
            _waking: AbortOnDropHandle::new(waking),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Connects to another hub from now on.
    pub fn add_peer(&self, peer: &ConsensusPeer) -> Result<(), EngineError> {
        match &*self.chain.lock() {
            Some(chain) => chain.add_peer(&peer.into()),
            None => Ok(()),
        }
    }

    /// Lets go of another hub.
    pub fn remove_peer(&self, peer: &ConsensusPeer) -> Result<(), EngineError> {
        match &*self.chain.lock() {
            Some(chain) => chain.remove_peer(&peer.into()),
            None => Ok(()),
        }
    }

    /// Leaves, and waits until nothing of it runs any more. Blocking.
    pub fn stop(&self) {
        self.book.end();
        let chain = self.chain.lock().take();
        if let Some(chain) = chain {
            chain.stop();
        }
    }
}

impl Drop for Consensus {
    fn drop(&mut self) {
        self.stop();
    }
}

//! The links between the hubs of a chain.
//!
//! Every hub dials every other one and reads from it, so between two hubs there are two links, each with the records of
//! the one that is dialled. Both sides show their signing keys in TLS 1.3 (`crypto/mesh_tls.rs`), and take only those of
//! hubs of the chain; who may be there can change while links are up. A hub that is slow, away or lying costs its own
//! link, never another one. See docs/cluster.md.

mod bounded;
mod dial;
mod door;
mod ended;
mod fetch;
mod greeting;
mod inbox;
mod outbox;
mod pace;
mod peer;
mod publisher;
mod roster;
mod shape;
mod status;
mod strangers;
mod subscriber;
mod sync;
mod taking;
mod window;
pub mod wire;
mod wraps;

#[cfg(test)]
mod tests;

pub use pace::Pace;
pub use status::{HubStatus, LinkStatus, MeshStatus, SyncProgress};

use super::ports::{Fault, MeshBook};
use crate::crypto::pinned_tls::TlsError;
use crate::crypto::{Identity, SealingWord};
use crate::ledger::shared::Want;
use ended::Ended;
use parking_lot::{Mutex, RwLock};
use peer::{News, Peer};
use roster::Roster;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use strangers::Strangers;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weighbridge_verifier::{Hash, PublicKey};

/// Who this hub is, and where the others find it.
pub struct MeshSetup {
    /// Where it listens for the other hubs.
    pub bind: SocketAddr,
    /// Id of the chain.
    pub chain: String,
    /// Its own id.
    pub hub: String,
    /// Its word for its sealing key, once there is one: nobody is let in before.
    pub word: watch::Receiver<Option<Arc<SealingWord>>>,
    /// The bounds of the links.
    pub pace: Pace,
}

/// Another hub of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshHub {
    /// Its id.
    pub id: String,
    /// The keys that it may show: its own, and during a rotation the one before or after.
    pub keys: Vec<PublicKey>,
    /// Where it listens, host and port.
    pub address: String,
}

/// Why there are no links.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// Nobody can be listened for.
    #[error("other hubs cannot be listened for at {bind}: {source}")]
    Listen {
        /// Where.
        bind: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A key of a hub is none, or TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The links of a hub with all others.
pub struct Mesh {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// What all links have in common.
struct Shared {
    chain: String,
    hub: String,
    incarnation: u64,
    pace: Pace,
    book: Arc<dyn MeshBook>,
    word: watch::Receiver<Option<Arc<SealingWord>>>,
    roster: RwLock<Roster>,
    /// Held while the roster is exchanged.
    exchange: Mutex<()>,
    news: Arc<News>,
    strangers: Strangers,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Mesh {
    /// Listens for `hubs`, dials each of them, and goes on until stopped. On the runtime that it is called on.
    ///
    /// # Errors
    /// There is no listening at that address, or a key is none.
    pub async fn start(
        setup: MeshSetup,
        identity: Arc<Identity>,
        hubs: &[MeshHub],
        book: Arc<dyn MeshBook>,
    ) -> Result<Self, MeshError> {
        let bind = setup.bind;
        let failed = |source| MeshError::Listen { bind, source };
        let roster = Roster::of_nobody(identity.clone())?;
        let listener = TcpListener::bind(bind).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            chain: setup.chain,
            hub: setup.hub,
            incarnation: pace::random(),
            strangers: Strangers::new(setup.pace.strangers),
            pace: setup.pace,
            book,
            word: setup.word,
            roster: RwLock::new(roster),
            exchange: Mutex::new(()),
            news: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        shared.set_hubs(hubs)?;
        shared.tasks.spawn(door::listen(shared.clone(), listener));
        shared.tasks.spawn(fetch::keep(shared.clone()));
        shared.tasks.spawn(wraps::keep(shared.clone()));
        Ok(Self { shared, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on these are the other hubs: links with others end, those with hubs whose shown key and address stay
    /// go on. Nothing changes when there is an error.
    ///
    /// # Errors
    /// A key is none.
    pub fn set_hubs(&self, hubs: &[MeshHub]) -> Result<(), TlsError> {
        self.shared.set_hubs(hubs)
    }

    /// From now on this hub shows the key of `identity`. Links that are there go on.
    ///
    /// # Errors
    /// TLS cannot be set up with it.
    pub fn show(&self, identity: Arc<Identity>) -> Result<(), TlsError> {
        self.shared.show(identity)
    }

    /// Looks for sealed bytes at the other hubs, whatever the chain says of them, for so long at most; what was not
    /// found or could not be kept.
    pub async fn fetch(&self, wants: Vec<Want>, within: Duration) -> Vec<Want> {
        fetch::within(&self.shared, wants, within).await
    }

    /// What a user logs in by, sealed for this hub, of the first hub by its id after `after` that has it; and which that
    /// is.
    pub async fn credentials(&self, user: &str, after: Option<&str>) -> Option<(String, Vec<u8>)> {
        wraps::credentials(&self.shared, user, after).await
    }

    /// Reads blocks from the hub with the highest one, until this hub is level with all that say the truth; height of
    /// its newest block then. Goes on as long as nobody has what is said to be there: whoever has waited long enough
    /// drops it.
    pub async fn sync_blocks(&self, progress: &watch::Sender<SyncProgress>) -> u64 {
        sync::run(&self.shared, progress).await
    }

    /// How the links are.
    pub fn status(&self) -> MeshStatus {
        let (newest, tip) = {
            let (changed, tip) = (self.shared.book.own_changed(), self.shared.book.tip());
            let (newest, tip) = (changed.borrow().1, tip.borrow().0);
            (newest, tip)
        };
        let hubs = self.shared.peers();
        MeshStatus {
            address: self.address,
            hubs: hubs.iter().map(|hub| hub.status(tip, newest)).collect(),
            turned_away: self.shared.strangers.turned_away(),
        }
    }

    /// Wakes when a link came or went.
    pub fn links(&self) -> watch::Receiver<u64> {
        self.shared.news.links.subscribe()
    }

    /// Ends all links and waits until they are.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    fn peers(&self) -> Arc<[Arc<Peer>]> {
        self.roster.read().peers.clone()
    }

    /// Asks the rest of the hub on a thread that may be blocked.
    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn MeshBook) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let book = self.book.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&*book)).await;
        asked.map_err(|e| Fault::failed(format!("this hub could not look at it: {e}")))
    }

    /// Hears of the newest block of a hub.
    async fn hear_tip(&self, peer: &Peer, tip: (u64, Hash)) -> Result<(), Ended> {
        if peer.says(tip) {
            let hub = peer.id.clone();
            self.blocking(move |book| book.heard(&hub, tip)).await?;
        }
        Ok(())
    }
}

//! A whole hub: what it is put together from ([`HubBuilder`]), how it starts (`start.rs`: the data flow on one
//! screen), and the handle that an embedding program holds ([`Hub`]).

mod access;
mod actors;
mod apply;
mod builder;
mod checkpoints;
mod cluster;
mod control;
mod credentials;
mod device;
mod edges;
mod erasure;
mod error;
mod faces;
mod fellows;
mod following;
mod history;
mod hub_keys;
mod joining;
mod keys;
mod last;
mod lease_table;
mod leases;
mod plan;
mod readers;
mod recorded;
mod renewal;
mod retention;
mod sealing;
mod served;
mod setup;
mod start;
mod threads;
mod unread;

pub use apply::{Change, NotApplied};
pub use builder::HubBuilder;
pub use checkpoints::Checkpoints;
pub use cluster::{ClusterDesk, ClusterPeer, ClusterSetup};
pub(crate) use control::check_value;
pub use device::DeviceSetup;
pub(crate) use device::check as check_devices;
pub use edges::EdgesSetup;
pub use erasure::{Eraser, StoppedErasure};
pub use error::HubError;
pub use faces::{Faces, LogInFiles, OpenFaces, device_info};
pub use fellows::Fellows;
pub use history::HubHistory;
pub use hub_keys::HubKeys;
pub use keys::KeyDesk;
pub use readers::{NotSettled, Readers};
pub use retention::{Retainer, RetentionSetup};

use crate::actors::alarms::AlarmDesk;
use crate::actors::hub::Shutdown;
use crate::actors::journal::Journal;
use crate::actors::ledger::{BlockCommitted, LedgerHealth, LedgerStatus};
use crate::actors::session::SessionDoor;
use crate::ledger::query::Explorer;
use crate::live_view::LiveView;
use crate::model::Nanos;
use crate::protocols::edge::{EdgeListener, NodeStatus};
use crate::stats::Stats;
use crate::store::{BufferStatus, BufferedStore};
use crate::validation::ChartHistory;
use actors::Actors;
use edges::Edges;
use plan::Planner;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use threads::Threads;
use tokio::sync::{broadcast, watch};

/// A running hub. Dropping it stops it in good order too, but without a word on what went wrong.
pub struct Hub {
    retainer: Option<Retainer>,
    buffer: Option<Arc<BufferedStore>>,
    edges: Arc<Edges>,
    cluster: Option<Arc<ClusterDesk>>,
    leases: Option<leases::Leases>,
    /// Held while devices and edge nodes change.
    changing: Arc<tokio::sync::Mutex<()>>,
    eraser: Arc<Eraser>,
    readers: Readers,
    fellows: Fellows,
    keys: Arc<KeyDesk>,
    id: String,
    started: Nanos,
    live: LiveView,
    stats: Arc<Stats>,
    history: Arc<ChartHistory>,
    explorer: Explorer,
    checkpoints: Option<Arc<Checkpoints>>,
    past: Arc<HubHistory>,
    actors: Actors,
    planner: Arc<Planner>,
    threads: Option<Threads>,
    shutdown_wait: Duration,
}

impl Hub {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it started.
    pub fn started(&self) -> Nanos {
        self.started
    }

    /// What waits for the disk of the ledger; `None` when the hub has no buffer.
    pub fn buffer(&self) -> Option<BufferStatus> {
        self.buffer.as_ref().map(|buffer| buffer.status())
    }

    /// Where edge nodes connect; `None` when the hub has none.
    pub fn edge_address(&self) -> Option<SocketAddr> {
        self.edges.listener().map(EdgeListener::address)
    }

    /// How its edge nodes are.
    pub fn edge_nodes(&self) -> Vec<NodeStatus> {
        self.edges.status()
    }

    /// The newest sample of every tag.
    pub fn live(&self) -> &LiveView {
        &self.live
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The control charts.
    pub fn charts(&self) -> &Arc<ChartHistory> {
        &self.history
    }

    /// Makes checkpoints of the ledger; `None` when it was given no file for their key.
    pub fn checkpoints(&self) -> Option<Arc<Checkpoints>> {
        self.checkpoints.clone()
    }

    /// Retires what is older than its policy; `None` when the hub has none.
    pub fn retainer(&self) -> Option<&Retainer> {
        self.retainer.as_ref()
    }

    /// Erases what was recorded, for those who may.
    pub fn eraser(&self) -> &Arc<Eraser> {
        &self.eraser
    }

    /// Those who open what was recorded by themselves.
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Replaces keys, for those who may.
    pub fn keys(&self) -> &Arc<KeyDesk> {
        &self.keys
    }

    /// Blocks and records.
    pub fn explorer(&self) -> &Explorer {
        &self.explorer
    }

    /// What was recorded, decrypted for who may see it.
    pub fn past(&self) -> &Arc<HubHistory> {
        &self.past
    }

    /// The ledger's state, to be watched.
    pub fn ledger_status(&self) -> watch::Receiver<LedgerStatus> {
        self.actors.status.clone()
    }

    /// Every block that becomes durable from now on; for the first who asks, from the hub's start on.
    pub fn committed(&self) -> broadcast::Receiver<Arc<BlockCommitted>> {
        let first = self.actors.from_the_start.lock().take();
        first.unwrap_or_else(|| self.actors.committed.subscribe())
    }

    /// Where faces tell of their users' sessions.
    pub fn sessions(&self) -> &Arc<SessionDoor> {
        &self.actors.sessions
    }

    /// Records what users do: durable before it is answered.
    pub fn journal(&self) -> &Journal {
        self.actors.doors.journal()
    }

    /// The alarms.
    pub fn alarms(&self) -> &AlarmDesk {
        &self.actors.alarms
    }

    /// The runtime that servers may run on.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        match &self.threads {
            Some(threads) => threads.io.handle().clone(),
            None => unreachable!("the runtime lives as long as the hub"),
        }
    }

    /// Stops reading, waits until all that was read is durable, and ends. Blocking; call it from no
    /// async thread.
    ///
    /// # Errors
    /// When the ledger broke while the hub ran, or when something that was read is lost because it
    /// could not be made durable in time.
    pub fn shutdown(mut self) -> Result<(), HubError> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), HubError> {
        let (Some(stop), Some(threads)) = (self.actors.stop.take(), self.threads.take()) else {
            return Ok(());
        };
        self.leases = None;
        self.past.end();
        if let Some(retainer) = &mut self.retainer {
            retainer.end(&threads);
        }
        threads.io.block_on(self.actors.sessions.sum_up());
        threads.io.block_on(self.edges.stop());
        let dropped_before = self.dropped();
        let ledger_died = self.actors.status.has_changed().is_err();
        let shutdown = self.actors.hub.send(Shutdown(self.shutdown_wait));
        // A hub whose actors died has none to ask.
        let durable = threads.io.block_on(shutdown).unwrap_or(false);
        let _ = stop.send(());
        let joined = self.actors.thread.take().map(JoinHandle::join);
        if let Some(cluster) = &self.cluster {
            cluster.stop(threads.io.handle());
        }
        threads.end();
        let lost = match durable {
            true => 0,
            false => self.dropped() - dropped_before,
        };
        match &self.actors.status.borrow().health {
            LedgerHealth::Broken(reason) => Err(HubError::Broken(reason.clone())),
            _ if ledger_died || matches!(joined, Some(Err(_))) => Err(HubError::Gone),
            LedgerHealth::Waiting(reason) if lost > 0 => Err(HubError::Lost {
                samples: lost,
                reason: reason.clone(),
            }),
            LedgerHealth::Up if lost > 0 => Err(HubError::Lost {
                samples: lost,
                reason: "there was not enough time to write it".to_owned(),
            }),
            LedgerHealth::Up | LedgerHealth::Waiting(_) => Ok(()),
        }
    }

    /// Samples that were read and will never be recorded.
    fn dropped(&self) -> u64 {
        let devices = self.live.devices();
        let dropped = devices.iter().map(|d| d.dropped.load(Ordering::Relaxed));
        dropped.sum()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the hub did not end in good order");
        }
    }
}

//! A chain that runs: how it is watched, changed and left.

use super::links::Links;
use super::settings::multiaddr;
use crate::application::{Alarm, Application};
use crate::engine::{Chain, EngineError, Peer, Progress};
use crate::malachite::context::Context;
use crate::malachite::wait;
use arc_malachitebft_app::engine::util::events::{Event, RxEvent};
use ractor::ActorCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// How long an actor has for stopping before it is stopped in the middle.
const STOPPING: Duration = Duration::from_secs(2);

/// A running chain.
pub struct Running {
    pub(super) runtime: Handle,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) wake: Arc<Notify>,
    pub(super) links: Links,
    pub(super) address: SocketAddr,
    pub(super) network_id: String,
    /// Somebody wants it to stop.
    pub(super) leaving: Arc<AtomicBool>,
    /// In the order in which they are stopped.
    pub(super) actors: Vec<ActorCell>,
    pub(super) tasks: Vec<JoinHandle<()>>,
}

/// Waits for what the engine does not come back from.
#[derive(Clone)]
pub(super) struct Watching {
    pub(super) leaving: Arc<AtomicBool>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) application: Arc<dyn Application>,
}

impl Watching {
    /// A log that cannot be replayed makes the engine stop where it is, by design; somebody must hear
    /// of it.
    pub(super) async fn log(self, mut events: RxEvent<Context>) {
        loop {
            let damage = match events.recv().await {
                Ok(Event::WalCorrupted(e)) => e.to_string(),
                Ok(Event::WalReplayError(e)) => e.to_string(),
                Ok(Event::WalResetError(e)) => e.to_string(),
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let halted = format!("the consensus log is damaged: {damage}");
            self.progress
                .send_modify(|progress| progress.halted = Some(halted));
            self.application.alarm(Alarm::LogDamaged(damage));
        }
    }

    /// An engine that dies by itself is no engine that was stopped.
    pub(super) async fn death(self, stopped: JoinHandle<()>) {
        let _ = stopped.await;
        let halted = "the consensus engine has stopped".to_owned();
        self.progress.send_modify(|progress| {
            progress.halted.get_or_insert(halted.clone());
        });
        if !self.leaving.load(Ordering::SeqCst) {
            self.application.alarm(Alarm::Halted(halted));
        }
    }
}

pub(super) async fn stop(actors: Vec<ActorCell>) {
    for actor in actors {
        if actor.stop_and_wait(None, Some(STOPPING)).await.is_err() {
            let _ = actor.kill_and_wait(Some(STOPPING)).await;
        }
    }
}

impl Running {
    fn leave(&mut self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.leaving.store(true, Ordering::SeqCst);
        let actors = std::mem::take(&mut self.actors);
        let tasks = std::mem::take(&mut self.tasks);
        async move {
            stop(actors).await;
            for task in tasks {
                let _ = task.await;
            }
        }
    }
}

impl Chain for Running {
    fn wake(&self) {
        self.wake.notify_one();
    }

    fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn network_id(&self) -> &str {
        &self.network_id
    }

    fn add_peer(&self, peer: &Peer) -> Result<(), EngineError> {
        let (links, id, address) = (self.links.clone(), peer.id.clone(), multiaddr(peer)?);
        wait(&self.runtime, async move { links.add(id, address).await })?
    }

    fn remove_peer(&self, peer: &Peer) -> Result<(), EngineError> {
        let (links, id, address) = (self.links.clone(), peer.id.clone(), multiaddr(peer)?);
        wait(
            &self.runtime,
            async move { links.remove(&id, address).await },
        )?
    }

    fn stop(mut self: Box<Self>) {
        let leaving = self.leave();
        let _ = wait(&self.runtime, leaving);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let leaving = self.leave();
        self.runtime.spawn(leaving);
    }
}

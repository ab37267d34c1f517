//! The engine: Malachite (Tendermint in Rust), assembled from its actors.
//!
//! It comes with a builder, which is not used: that one fixes the threshold at two thirds, and puts a
//! connector between the engine and us that waits for one answer before it takes the next question.

mod actors;
mod assembly;
mod chain;
mod codec;
mod context;
mod evidence;
mod log;
mod signing;
mod start;
mod values;
mod wire;

#[cfg(test)]
mod assembly_tests;
#[cfg(test)]
mod codec_tests;
#[cfg(test)]
#[allow(dead_code)]
#[path = "../../tests/it/ledger.rs"]
mod ledger;
#[cfg(test)]
mod liar_tests;
#[cfg(test)]
#[allow(dead_code)]
#[path = "../../tests/it/site.rs"]
mod site;
#[cfg(test)]
pub(crate) mod test_keys;

use crate::application::Application;
use crate::engine::{Chain, Engine, EngineError, NetworkKey, Setup};
use arc_malachitebft_app::types::Keypair;
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use tokio::runtime::{Builder, Handle, Runtime};

/// The engine, with threads of its own. Dropping it stops all of its chains.
pub struct Malachite {
    runtime: Option<Runtime>,
}

impl Malachite {
    /// Starts it, with so many threads for all of its chains together.
    pub fn start(threads: usize) -> Result<Self, EngineError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("consensus")
            .enable_all()
            .build()
            .map_err(|e| EngineError::Engine(e.to_string()))?;
        Ok(Self {
            runtime: Some(runtime),
        })
    }
}

impl Drop for Malachite {
    fn drop(&mut self) {
        // Waiting here could be waiting on a thread of another runtime, which panics.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a network key is known by to other hubs ([`Peer::id`](crate::Peer)).
pub fn network_id(key: &NetworkKey) -> Result<String, EngineError> {
    let pair =
        Keypair::ed25519_from_bytes(key.0).map_err(|e| EngineError::Engine(e.to_string()))?;
    Ok(pair.public().to_peer_id().to_string())
}

/// Runs something on the engine's threads and waits for it on whatever thread this is.
fn wait<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, EngineError> {
    let (done, waiting) = sync_channel(1);
    runtime.spawn(async move {
        let _ = done.send(work.await);
    });
    let gone = |_| EngineError::Engine("it is gone".to_owned());
    waiting.recv().map_err(gone)
}

impl Engine for Malachite {
    fn open(
        &self,
        setup: Setup,
        application: Arc<dyn Application>,
    ) -> Result<Box<dyn Chain>, EngineError> {
        let gone = || EngineError::Engine("it is gone".to_owned());
        let runtime = self.runtime.as_ref().ok_or_else(gone)?.handle().clone();
        let opening = start::open(runtime.clone(), setup, application);
        let chain = wait(&runtime, opening)??;
        Ok(Box::new(chain))
    }
}

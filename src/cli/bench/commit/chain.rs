//! When each block was durable at hub 1, and what is in the blocks.

use crate::actors::ledger::BlockCommitted;
use crate::cli::hubs::Place;
use crate::crypto::SealingKey;
use crate::ledger::opening::{ActOpener, Opener};
use crate::ledger::query::Explorer;
use crate::model::{Nanos, now};
use crate::store::FjallStore;
use anyhow::Context;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use weighbridge_verifier::Content;

/// What acts that are submitted in this process are about, before their number.
pub(super) const SUBMITTED: &str = "submitted:";

/// Something that a client sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Submitted {
    /// Its name, by which it is found on the chain.
    pub(super) number: u32,
    /// Whether its answer waited for the certificate.
    pub(super) waited: bool,
    pub(super) sent: Nanos,
    pub(super) answered: Option<Nanos>,
    pub(super) taken: bool,
}

/// When the blocks were there, by height.
#[derive(Clone, Default)]
pub(super) struct Lines {
    at: Arc<Mutex<BTreeMap<u64, Nanos>>>,
    newest: Arc<watch::Sender<u64>>,
}

impl Lines {
    /// Notes when blocks are there, as long as the hub says so.
    pub(super) async fn note(self, mut committed: broadcast::Receiver<Arc<BlockCommitted>>) {
        loop {
            match committed.recv().await {
                Ok(block) => {
                    let height = block.tip.height;
                    self.at.lock().insert(height, now());
                    self.newest.send_replace(height);
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Height of the newest one.
    pub(super) fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Waits until there is a block of this height.
    pub(super) async fn reach(&self, height: u64) {
        let mut newest = self.newest.subscribe();
        // It is there as long as this is.
        let _ = newest.wait_for(|newest| *newest >= height).await;
    }

    pub(super) fn at(&self, height: u64) -> Option<Nanos> {
        self.at.lock().get(&height).copied()
    }

    pub(super) fn times(&self) -> Vec<Nanos> {
        self.at.lock().values().copied().collect()
    }
}

/// What is in the blocks.
#[derive(Default)]
pub(super) struct Chain {
    requests: HashMap<u32, u64>,
    /// Batches of hub 1: their records' times and heights.
    pub(super) batches: Vec<(Nanos, u64)>,
    /// How many records of all hubs each block has.
    pub(super) records: BTreeMap<u64, u64>,
    /// How many bytes each block has, with the sealed bytes that its records name.
    pub(super) bytes: BTreeMap<u64, u64>,
    pub(super) blocks: u64,
    /// Blocks that several hubs decided, and their signatures.
    pub(super) shared: u64,
    pub(super) signatures: usize,
    /// Bytes of the largest block, as the hubs decided on it.
    pub(super) largest: usize,
}

impl Chain {
    pub(super) fn of_request(&self, number: u32) -> Option<u64> {
        self.requests.get(&number).copied()
    }
}

/// Reads the ledger of a hub that has ended.
pub(super) fn read(hub: &Place) -> anyhow::Result<Chain> {
    let store = Arc::new(FjallStore::open(&hub.dir.join("data"))?);
    let sealing = SealingKey::load(&hub.dir.join("keys/sealing.key"))?;
    let explorer = Explorer::new(store.clone());
    let mut opener = ActOpener::new(Opener::new(store, Arc::new(sealing), &hub.id), &hub.id);
    let tip = explorer.tip()?.context("the ledger is empty")?;
    let mut chain = Chain {
        blocks: tip.height,
        ..Chain::default()
    };
    for height in 1..=tip.height {
        let block = explorer.block(height)?.context("a block is missing")?;
        chain.records.insert(height, block.records.len() as u64);
        if block.header.is_shared() {
            chain.shared += 1;
            chain.signatures += block.certificate.signatures().len();
        }
        let length = block.value_bytes().len();
        chain.largest = chain.largest.max(length);
        let sealed = block.records.iter().filter_map(|r| r.body.sealed());
        let sealed: u64 = sealed.map(|sealed| sealed.length).sum();
        chain.bytes.insert(height, length as u64 + sealed);
        let own = block
            .records
            .iter()
            .filter(|record| record.body.hub == hub.id);
        for record in own {
            if record.body.batch().is_some() {
                chain.batches.push((record.body.time, height));
            }
            if let Content::Message(message) = &record.body.content {
                // What is submitted in this process has its name where it need not be opened.
                let number = match record.body.object.strip_prefix(SUBMITTED) {
                    Some(number) => number.parse().ok(),
                    None => {
                        let details = opener.open(message)?;
                        let name = details.get("request_id").and_then(|name| name.as_str());
                        name.and_then(|name| name.parse().ok())
                    }
                };
                if let Some(number) = number {
                    chain.requests.insert(number, height);
                }
            }
        }
    }
    Ok(chain)
}

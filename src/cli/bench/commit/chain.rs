//! When each block was durable at hub 1, as it said itself, and what is in the blocks.

use crate::cli::hubs::{News, Place, Said};
use crate::crypto::SealingKey;
use crate::ledger::opening::{ActOpener, Opener};
use crate::ledger::query::Explorer;
use crate::model::{Nanos, now};
use crate::store::FjallStore;
use anyhow::Context;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use weighbridge_verifier::Content;

/// Lines that may wait to be read.
const LINES: usize = 4096;

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

/// Listens to the hubs.
pub(super) struct Seen(SyncSender<News>);

/// When the blocks were there, by height.
#[derive(Default)]
pub(super) struct Lines(BTreeMap<u64, Nanos>);

impl Seen {
    pub(super) fn new() -> (Self, Receiver<News>) {
        let (send, heard) = sync_channel(LINES);
        (Self(send), heard)
    }

    pub(super) fn channel(&self) -> SyncSender<News> {
        self.0.clone()
    }

    /// Notes what hub 1 says until nobody says anything any more.
    pub(super) fn listen(&self, heard: Receiver<News>) -> JoinHandle<Lines> {
        std::thread::spawn(move || {
            let mut lines = BTreeMap::new();
            for news in heard {
                if let (0, Said::Block(block)) = (news.hub, &news.said)
                    && let Some(height) = block["height"].as_u64()
                {
                    let ago = i64::try_from(news.at.elapsed().as_nanos()).unwrap_or_default();
                    lines.insert(height, now() - ago);
                }
            }
            Lines(lines)
        })
    }
}

impl Lines {
    pub(super) fn at(&self, height: u64) -> Option<Nanos> {
        self.0.get(&height).copied()
    }

    pub(super) fn times(&self) -> impl Iterator<Item = Nanos> {
        self.0.values().copied()
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
        chain.largest = chain.largest.max(block.value_bytes().len());
        let own = block
            .records
            .iter()
            .filter(|record| record.body.hub == hub.id);
        for record in own {
            if record.body.batch().is_some() {
                chain.batches.push((record.body.time, height));
            }
            if let Content::Message(message) = &record.body.content {
                let details = opener.open(message)?;
                let name = details.get("request_id").and_then(|name| name.as_str());
                if let Some(number) = name.and_then(|name| name.parse().ok()) {
                    chain.requests.insert(number, height);
                }
            }
        }
    }
    Ok(chain)
}

//! The chains of one process: started one after the other, run side by side, ended together.
//!
//! Each has a hub of its own, with its keys, its ledger, its faces and its threads. What they share is the process: its
//! log, its memory, and the signals that end it or have it read its files again. A chain whose ledger breaks stays
//! where it is, shows that on its faces, and makes the process end in failure; the others go on.

use crate::actors::ledger::{BlockCommitted, LedgerHealth};
use crate::cli::ending::asked_to_end;
use crate::cli::output;
use crate::cli::reload::{Reload, Running};
use crate::config::HubConfig;
use crate::hub::{Faces, Hub, HubBuilder, OpenFaces};
use anyhow::Context;
use futures_util::future::join_all;
use serde_json::json;
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};

/// Runs the chains of these files until the process is asked to end, or none of them can go on.
pub(super) fn run_all(files: Vec<(PathBuf, HubConfig)>, json: bool) -> anyhow::Result<()> {
    let mut chains = Vec::with_capacity(files.len());
    let mut outcome = Ok(());
    for (file, config) in files {
        match Chain::start(file, config, json) {
            Ok(chain) => chains.push(chain),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    if let (Ok(()), Some(first)) = (&outcome, chains.first()) {
        // None of them ends before all do, so the first one's threads are there all the time.
        let runtime = first.hub.runtime();
        let several = chains.len() > 1;
        let (all, _) = watch::channel(false);
        let all = &all;
        let lives = chains.iter_mut().map(|chain| async move {
            let lived = chain.live(json, all).await;
            if let (true, Err(error)) = (several, &lived) {
                let error = format!("{error:#}");
                tracing::error!(chain = chain.name, error, "the chain does not go on");
            }
            named(lived, &chain.name, several)
        });
        outcome = runtime.block_on(join_all(lives)).into_iter().collect();
    }
    let several = chains.len() > 1;
    for chain in chains {
        let name = chain.name.clone();
        outcome = named(chain.end(json), &name, several).and(outcome);
    }
    outcome
}

/// Says of which chain an error is, where there are several.
fn named(outcome: anyhow::Result<()>, name: &str, several: bool) -> anyhow::Result<()> {
    match several {
        true => outcome.with_context(|| format!("chain {name}")),
        false => outcome,
    }
}

type Blocks = broadcast::Receiver<Arc<BlockCommitted>>;

/// A chain that is up.
struct Chain {
    name: String,
    file: PathBuf,
    config: HubConfig,
    faces: OpenFaces,
    hub: Hub,
    blocks: Blocks,
    /// Ready when the process is asked to end.
    asked: Pin<Box<dyn Future<Output = ()>>>,
}

impl Chain {
    fn start(file: PathBuf, config: HubConfig, json: bool) -> anyhow::Result<Self> {
        let data = &config.hub.data;
        let hub = HubBuilder::from_config(&config)?
            .start()
            .with_context(|| format!("the hub cannot start on {}", data.display()))?;
        let blocks = hub.committed();
        let asked = Box::pin(asked_to_end(&hub.runtime()));
        let faces = hub.open_faces(&Faces::from_config(&config))?;
        let name = config.ledger.chain.clone();
        let (http, opcua) = (faces.http_url(), faces.opcua_url());
        tracing::info!(hub = hub.id(), chain = name, http, opcua, "the hub is up");
        if json {
            output::print_json(&json!({
                "event": "up", "hub": hub.id(), "chain": name, "http_url": http, "opcua_url": opcua,
                "edge_address": hub.edge_address(),
            }))?;
        }
        Ok(Self {
            name,
            file,
            config,
            faces,
            hub,
            blocks,
            asked,
        })
    }

    /// Returns when the process is asked to end, and tells `all`; an error when the ledger broke.
    async fn live(&mut self, json: bool, all: &watch::Sender<bool>) -> anyhow::Result<()> {
        let mut told = all.subscribe();
        let asked = &mut self.asked;
        let end = async move {
            tokio::select! {
                () = asked => {
                    all.send_replace(true);
                }
                _ = told.wait_for(|told| *told) => {}
            }
        };
        let blocks = json.then_some((&*self.name, &mut self.blocks));
        let running = (&self.hub, &self.faces);
        let life = async {
            let reload = Reload::new(&self.file, self.config.clone());
            until_the_end(running, blocks, reload, end).await
        };
        inside(self.hub.runtime(), life).await
    }

    /// Ends it in good order.
    fn end(mut self, json: bool) -> anyhow::Result<()> {
        self.faces.close(&self.hub.runtime());
        let ended_well = self.hub.shutdown();
        if json {
            print_last_blocks(&self.name, &mut self.blocks)?;
        }
        Ok(ended_well?)
    }
}

/// Has a future run as a part of `runtime`, whichever drives it: what it spawns belongs to its own hub.
async fn inside<F: Future>(runtime: Handle, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _inside = runtime.enter();
        future.as_mut().poll(context)
    })
    .await
}

/// Returns when the hub is asked to end; an error when its ledger broke.
async fn until_the_end(
    (hub, faces): (&Hub, &OpenFaces),
    mut blocks: Option<(&str, &mut Blocks)>,
    mut reload: Reload,
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut status = hub.ledger_status();
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return Ok(()),
            () = reload.wanted() => {
                let outcome = tokio::select! {
                    () = &mut end => return Ok(()),
                    outcome = reload.now(Running::Hub(hub, faces)) => outcome,
                };
                if let Some(outcome) = outcome.filter(|_| blocks.is_some()) {
                    output::print_json(&outcome)?;
                }
            }
            changed = status.changed() => {
                if changed.is_err() {
                    anyhow::bail!("the hub's actors ended early, see the log");
                }
                if let LedgerHealth::Broken(reason) = &status.borrow().health {
                    anyhow::bail!("the ledger is broken: {reason}");
                }
            }
            (chain, block) = next_block(&mut blocks) => match block {
                Ok(block) => print_block(chain, &block)?,
                Err(RecvError::Lagged(missed)) => warn_of_missed(missed),
                Err(RecvError::Closed) => anyhow::bail!("the hub's actors ended early, see the log"),
            },
        }
    }
}

async fn next_block<'a>(
    blocks: &mut Option<(&'a str, &mut Blocks)>,
) -> (&'a str, Result<Arc<BlockCommitted>, RecvError>) {
    match blocks {
        Some((chain, blocks)) => (*chain, blocks.recv().await),
        None => std::future::pending().await,
    }
}

/// What became durable on the way out counts as much as any other.
fn print_last_blocks(chain: &str, blocks: &mut Blocks) -> anyhow::Result<()> {
    loop {
        match blocks.try_recv() {
            Ok(block) => print_block(chain, &block)?,
            Err(TryRecvError::Lagged(missed)) => warn_of_missed(missed),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
        }
    }
}

fn warn_of_missed(missed: u64) {
    tracing::warn!(
        missed,
        "standard output is too slow, blocks were not printed"
    );
}

fn print_block(chain: &str, block: &BlockCommitted) -> anyhow::Result<()> {
    let batches = block.batches.iter().map(|(device, epoch, sequence, verdict)| {
        json!({"device": **device, "epoch": epoch, "sequence": sequence, "verdict": verdict})
    });
    output::print_json(&json!({
        "event": "block",
        "chain": chain,
        "height": block.tip.height,
        "hash": block.tip.hash,
        "batches": batches.collect::<Vec<_>>(),
    }))
}

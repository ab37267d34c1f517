//! `weighbridge run`: a hub or an edge node as its configuration says.

use crate::actors::ledger::{BlockCommitted, LedgerHealth};
use crate::cli::ending::asked_to_end;
use crate::cli::log;
use crate::cli::output;
use crate::cli::reload::{Reload, Running};
use crate::config::{self, LogConfig};
use crate::hub::{Faces, Hub, HubBuilder, OpenFaces};
use anyhow::Context;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// What `weighbridge run` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge run --config plant/hub.toml
  weighbridge run --config plant/hub.toml --json    one JSON line a block, on standard output

The file and its profiles are watched: a change is checked, and taken over without touching devices
that it does not concern; one with mistakes changes nothing. SIGHUP reads them again at once.
Ctrl-C (or SIGTERM) ends it in good order: what was read is made durable first.")]
pub(super) struct RunArgs {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print a JSON line when the hub is up, and one for every durable block
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let style = output::Style::stderr();
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            for diagnostic in &diagnostics {
                eprintln!("{}", diagnostic.render(style.colour));
            }
            return Ok(ExitCode::from(super::EXIT_CONFIG));
        }
    };
    for warning in &loaded.warnings {
        eprintln!("{}", warning.render(style.colour));
    }
    let _log = start_log(&loaded.config.log);
    if loaded.config.edge.is_some() {
        return super::edge::run(&args.config, loaded.config, args.json);
    }
    let data = &loaded.config.hub.data;
    let hub = HubBuilder::from_config(&loaded.config)?
        .start()
        .with_context(|| format!("the hub cannot start on {}", data.display()))?;
    let mut committed = hub.committed();
    let end = asked_to_end(&hub.runtime());
    let faces = hub.open_faces(&Faces::from_config(&loaded.config))?;
    tracing::info!(
        hub = hub.id(),
        http = faces.http_url(),
        opcua = faces.opcua_url(),
        "the hub is up"
    );
    if args.json {
        let (http, opcua) = (faces.http_url(), faces.opcua_url());
        output::print_json(&json!({
            "event": "up", "hub": hub.id(), "http_url": http, "opcua_url": opcua,
            "edge_address": hub.edge_address(),
        }))?;
    }
    let blocks = args.json.then_some(&mut committed);
    let until_the_end = async {
        let reload = Reload::new(&args.config, loaded.config);
        until_the_end((&hub, &faces), blocks, reload, end).await
    };
    let ended = hub.runtime().block_on(until_the_end);
    faces.close(&hub.runtime());
    let ended_well = hub.shutdown();
    if args.json {
        print_last_blocks(&mut committed)?;
    }
    ended_well?;
    ended.map(|()| ExitCode::SUCCESS)
}

type Blocks = broadcast::Receiver<Arc<BlockCommitted>>;

/// Returns when the hub is asked to end; an error when its ledger broke.
async fn until_the_end(
    (hub, faces): (&Hub, &OpenFaces),
    mut blocks: Option<&mut Blocks>,
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
            block = next_block(&mut blocks) => match block {
                Ok(block) => print_block(&block)?,
                Err(RecvError::Lagged(missed)) => warn_of_missed(missed),
                Err(RecvError::Closed) => anyhow::bail!("the hub's actors ended early, see the log"),
            },
        }
    }
}

async fn next_block(blocks: &mut Option<&mut Blocks>) -> Result<Arc<BlockCommitted>, RecvError> {
    match blocks {
        Some(blocks) => blocks.recv().await,
        None => std::future::pending().await,
    }
}

/// What became durable on the way out counts as much as any other.
fn print_last_blocks(blocks: &mut Blocks) -> anyhow::Result<()> {
    loop {
        match blocks.try_recv() {
            Ok(block) => print_block(&block)?,
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

fn print_block(block: &BlockCommitted) -> anyhow::Result<()> {
    let batches = block.batches.iter().map(|(device, epoch, sequence, verdict)| {
        json!({"device": **device, "epoch": epoch, "sequence": sequence, "verdict": verdict})
    });
    output::print_json(&json!({
        "event": "block",
        "height": block.tip.height,
        "hash": block.tip.hash,
        "batches": batches.collect::<Vec<_>>(),
    }))
}

/// What libraries say: warnings, but not the OPC UA stack's complaints about certificates that an
/// unencrypted loopback connection does not need, nor about every stranger who says nonsense.
pub(super) const QUIET: &str = "warn,opcua_core=off,opcua_crypto=off,opcua_client=off,\
     opcua_server=off,opcua_server::server=error";

fn start_log(config: &LogConfig) -> log::Log {
    let filter = format!("{QUIET},weighbridge={}", config.level.name());
    log::start(&filter, config.format, output::Style::stderr().colour)
}

//! `weighbridge run`: a hub as its configuration says.

use crate::actors::ledger::{BlockCommitted, LedgerHealth};
use crate::cli::output;
use crate::config::{self, LogConfig, LogFormat};
use crate::hub::{Faces, Hub, HubBuilder};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::sync::broadcast::error::RecvError;
use tracing_subscriber::EnvFilter;

/// What `weighbridge run` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge run --config plant/hub.toml
  weighbridge run --config plant/hub.toml --json    one JSON line a block, on standard output

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
    start_log(&loaded.config.log);
    let hub = HubBuilder::from_config(&loaded.config)?.start()?;
    let faces = hub.open_faces(&Faces::from_config(&loaded.config))?;
    tracing::info!(
        hub = hub.id(),
        http = faces.http_url(),
        opcua = faces.opcua_url(),
        "the hub is up"
    );
    if args.json {
        let (http, opcua) = (faces.http_url(), faces.opcua_url());
        output::print_json(
            &json!({"event": "up", "hub": hub.id(), "http_url": http, "opcua_url": opcua}),
        )?;
    }
    let ended = hub.runtime().block_on(until_the_end(&hub, args.json));
    faces.close(&hub.runtime());
    hub.shutdown()?;
    ended.map(|()| ExitCode::SUCCESS)
}

/// Returns when the hub is asked to end; an error when its ledger broke.
async fn until_the_end(hub: &Hub, json: bool) -> anyhow::Result<()> {
    let mut status = hub.ledger_status();
    let mut committed = hub.committed();
    let end = asked_to_end();
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return Ok(()),
            changed = status.changed() => {
                if changed.is_err() {
                    anyhow::bail!("the hub's actors ended early, see the log");
                }
                if let LedgerHealth::Broken(reason) = &status.borrow().health {
                    anyhow::bail!("the ledger is broken: {reason}");
                }
            }
            block = committed.recv(), if json => match block {
                Ok(block) => print_block(&block)?,
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "standard output is too slow, blocks were not printed"),
                Err(RecvError::Closed) => anyhow::bail!("the hub's actors ended early, see the log"),
            },
        }
    }
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

/// Ctrl-C, or SIGTERM where there is one.
pub(super) async fn asked_to_end() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}

/// What libraries say: warnings, but not the OPC UA stack's complaints about certificates that an
/// unencrypted loopback connection does not need.
pub(super) const QUIET: &str =
    "warn,opcua_core=off,opcua_crypto=off,opcua_client=off,opcua_server=error";

fn start_log(config: &LogConfig) {
    // RUST_LOG wins, as everywhere.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{QUIET},weighbridge={}", config.level.name())));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Already set by an embedding program or a test: theirs counts.
    let _ = match config.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.with_ansi(output::Style::stderr().colour).try_init(),
    };
}

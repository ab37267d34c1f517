//! `weighbridge run`: a hub or an edge node as its configuration says.

mod chain;

use crate::cli::log;
use crate::cli::output;
use crate::config::{self, HubConfig, LogConfig};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `weighbridge run` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge run --config plant/hub.toml
  weighbridge run --config plant/hub.toml --json    one JSON line a block, on standard output
  weighbridge run --config acme/hub.toml --config bolt/hub.toml

Several files are several chains in this one process, each with directories, keys and addresses of its own
(`weighbridge check --together` says what they may not share). The log is as the first file says.

The file and its profiles are watched: a change is checked, and taken over without touching devices
that it does not concern; one with mistakes changes nothing. SIGHUP reads them again at once.
Ctrl-C (or SIGTERM) ends it in good order: what was read is made durable first.")]
pub(super) struct RunArgs {
    /// The configuration; several times for several chains
    #[arg(long, value_name = "FILE", required = true)]
    config: Vec<PathBuf>,
    /// Print a JSON line when the hub is up, and one for every durable block
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let Some(files) = load(&args.config) else {
        return Ok(ExitCode::from(super::EXIT_CONFIG));
    };
    let log = files.first().map(|(_, config)| config.log.clone());
    let _log = start_log(&log.unwrap_or_default());
    match <[_; 1]>::try_from(files) {
        Ok([(file, config)]) if config.edge.is_some() => super::edge::run(&file, config, args.json),
        Ok(one) => chain::run_all(one.into(), args.json).map(|()| ExitCode::SUCCESS),
        Err(several) => chain::run_all(several, args.json).map(|()| ExitCode::SUCCESS),
    }
}

/// Reads all files, and says what is wrong with them; `None` where something is.
fn load(files: &[PathBuf]) -> Option<Vec<(PathBuf, HubConfig)>> {
    let style = output::Style::stderr();
    let mut loaded = Vec::with_capacity(files.len());
    for file in files {
        let (found, config) = match config::load(file) {
            Ok(right) => (right.warnings, Some(right.config)),
            Err(diagnostics) => (diagnostics, None),
        };
        for diagnostic in &found {
            eprintln!("{}", diagnostic.render(style.colour));
        }
        loaded.extend(config.map(|config| (file.clone(), config)));
    }
    let beside: Vec<_> = loaded
        .iter()
        .map(|(file, config)| (&**file, config))
        .collect();
    let shared = config::side_by_side(&beside);
    for diagnostic in &shared {
        eprintln!("{}", diagnostic.render(style.colour));
    }
    (loaded.len() == files.len() && shared.is_empty()).then_some(loaded)
}

/// What libraries say: warnings, but not the OPC UA stack's complaints about certificates that an
/// unencrypted loopback connection does not need, nor about every stranger who says nonsense.
pub(super) const QUIET: &str = "warn,opcua_core=off,opcua_crypto=off,opcua_client=off,\
     opcua_server=off,opcua_server::server=error";

fn start_log(config: &LogConfig) -> log::Log {
    let filter = format!("{QUIET},weighbridge={}", config.level.name());
    log::start(&filter, config.format, output::Style::stderr().colour)
}

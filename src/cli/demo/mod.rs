//! `weighbridge demo`: a factory cell and a hub in one command, no set-up.

mod hubs;
mod plan;
mod view;

use super::ending::asked_to_end;
use super::log;
use super::output::{self, Style};
use crate::access::Role;
use crate::actors::ledger::LedgerHealth;
use crate::api::ApiError;
use crate::config::LogFormat;
use crate::crypto::{Identity, SealingKey};
use crate::hub::{Faces, Hub, HubBuilder, HubKeys, OpenFaces};
use crate::protocols::opcua::OpcUaServerConfig;
use crate::sim::cell::{Cell, CellOptions};
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use view::View;

/// What `weighbridge demo` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge demo                                  until Ctrl-C, with a live view
  weighbridge demo --dir cell && weighbridge verify cell
  weighbridge demo --headless --for 20 --json       one JSON object at the end, for a script
  weighbridge demo --hubs 4 --dir site              four hubs share a chain: kill one, start it again

Four robots and a PLC, simulated behind real Modbus TCP and OPC UA servers on loopback, and a hub
that reads them. After a few seconds a sensor drifts, later one fails, so that a batch is seen out
of control and one refused. Without --dir everything is in a temporary directory that is removed at the end.")]
pub(super) struct DemoArgs {
    /// End after this many seconds
    #[arg(long = "for", visible_alias = "seconds", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=366 * 86_400))]
    seconds: Option<u64>,
    /// No live view
    #[arg(long)]
    headless: bool,
    /// Keep keys and ledger here; an existing directory is resumed
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
    /// So many hubs, each a process of its own, that share one chain; the machines are divided among them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=i64::from(hubs::MOST)))]
    hubs: Option<u8>,
}

/// What was recorded.
#[derive(Debug, Serialize)]
struct Summary {
    points: u64,
    batches: u64,
    accepted: u64,
    out_of_control: u64,
    invalid: u64,
    blocks: u64,
    records: u64,
    height: u64,
    last_block_hash: String,
    opcua_url: String,
    http_url: String,
    first_block_ms: Option<u64>,
}

const HUB: &str = "hub-1";
/// Where a person looks first, unless another program is there.
const HTTP_PORT: u16 = 8080;
const OPCUA_PORT: u16 = 4840;

pub(super) fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let _log = start_log();
    if let Some(hubs) = args.hubs {
        return hubs::run(&args, hubs);
    }
    let temporary;
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => {
            temporary = super::temporary::TemporaryDir::new("demo")?;
            temporary.path().to_owned()
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("factory-cell")
        .enable_all()
        .build()
        .context("the cell's threads cannot be started")?;
    // From here on Ctrl-C lets the demo tidy up behind itself, however far it has come.
    let end = asked_to_end(runtime.handle());
    let cell = runtime.block_on(Cell::start(&CellOptions::default()))?;
    let mut builder = HubBuilder::new(keys(&dir)?, dir.join("data"))
        .checkpoint_key(dir.join("keys").join(HubKeys::CHECKPOINT));
    for setup in plan::devices(&cell) {
        builder = builder.device(setup);
    }
    let hub = builder.start()?;
    let first_block = runtime.spawn(first_block(hub.committed(), began));
    let faces = open_faces(&hub, &cell, &dir)?;
    let (http, opcua) = (
        faces.http_url().unwrap_or_default(),
        faces.opcua_url().unwrap_or_default(),
    );
    let live = std::io::stdout().is_terminal() && !args.headless && !args.json;
    if !live || args.seconds.is_some() {
        eprintln!("dashboard  {http}\nOPC UA     {opcua}");
    }
    let faults = runtime.spawn(plan::faults(cell.panel.clone(), began));
    let ended = runtime.block_on(until_the_end(
        &args,
        (began, end),
        live,
        &hub,
        (&http, &opcua),
    ));
    faults.abort();
    faces.close(&hub.runtime());
    let stats = hub.stats().clone();
    let status = hub.ledger_status();
    hub.shutdown()?;
    ended?;
    let first_block_ms = runtime.block_on(async {
        first_block.abort();
        first_block.await.ok().flatten()
    });
    let tip = status.borrow().tip;
    let count = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
    let summary = Summary {
        points: count(&stats.points),
        batches: stats.batches(),
        accepted: count(&stats.accepted),
        out_of_control: count(&stats.out_of_control),
        invalid: count(&stats.invalid),
        blocks: count(&stats.blocks),
        records: count(&stats.records),
        height: tip.height,
        last_block_hash: tip.hash.to_string(),
        opcua_url: opcua,
        http_url: http,
        first_block_ms,
    };
    print_summary(&args, &summary)?;
    Ok(ExitCode::SUCCESS)
}

fn print_summary(args: &DemoArgs, s: &Summary) -> anyhow::Result<()> {
    if args.json {
        return output::print_json(s);
    }
    output::print(&format!(
        "recorded {} points in {} batches: {} accepted, {} out of control, {} refused\n\
         {} blocks with {} records, height {}, last block {}\n",
        s.points,
        s.batches,
        s.accepted,
        s.out_of_control,
        s.invalid,
        s.blocks,
        s.records,
        s.height,
        s.last_block_hash
    ))?;
    match &args.dir {
        Some(dir) => output::print(&format!(
            "check it: weighbridge verify {0} --trust {0}/keys/hub.pub\n",
            dir.display()
        )),
        None => output::print("with --dir DIR it would have been kept, to be verified\n"),
    }
}

/// The keys of an earlier demo in `dir`, or new ones.
fn keys(dir: &Path) -> anyhow::Result<HubKeys> {
    let keys = dir.join("keys");
    let (signing, sealing) = (keys.join(HubKeys::SIGNING), keys.join(HubKeys::SEALING));
    if signing.exists() {
        return Ok(HubKeys {
            signing: Identity::load(&signing, HUB)?,
            sealing: SealingKey::load(&sealing)?,
        });
    }
    let made = HubKeys::generate(HUB);
    // The signing key last: it says that both are there.
    made.sealing.save(&sealing)?;
    let public = crate::crypto::Signer::public_key(&made.signing);
    std::fs::write(keys.join("hub.pub"), format!("{public}\n"))?;
    made.signing.save(&signing)?;
    Ok(made)
}

/// Milliseconds from the process's start to the first block that recorded a batch.
async fn first_block(
    mut committed: tokio::sync::broadcast::Receiver<
        std::sync::Arc<crate::actors::ledger::BlockCommitted>,
    >,
    began: Instant,
) -> Option<u64> {
    loop {
        if !committed.recv().await.ok()?.batches.is_empty() {
            return u64::try_from(began.elapsed().as_millis()).ok();
        }
    }
}

/// The well-known ports if they are free, else any.
fn open_faces(hub: &Hub, cell: &Cell, dir: &Path) -> anyhow::Result<OpenFaces> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let port = |wanted| {
        if TcpListener::bind(at(wanted)).is_ok() {
            wanted
        } else {
            0
        }
    };
    let mut faces = Faces {
        http: Some(at(port(HTTP_PORT))),
        // Alone on this machine, with a cell that is not real: everything may be tried.
        http_roles: vec![Role::Engineer],
        opcua: Some(OpcUaServerConfig {
            bind: at(port(OPCUA_PORT)),
            pki_dir: dir.join("pki"),
            ..OpcUaServerConfig::default()
        }),
        devices: plan::device_infos(cell),
        ..Faces::default()
    };
    match hub.open_faces(&faces) {
        // Somebody was faster.
        Err(crate::hub::HubError::Http(ApiError::InUse(_))) => {
            faces.http = Some(at(0));
            if let Some(opcua) = &mut faces.opcua {
                opcua.bind = at(0);
            }
            Ok(hub.open_faces(&faces)?)
        }
        opened => Ok(opened?),
    }
}

async fn until_the_end(
    args: &DemoArgs,
    (began, end): (Instant, impl Future<Output = ()>),
    live: bool,
    hub: &Hub,
    (http, opcua): (&str, &str),
) -> anyhow::Result<()> {
    tokio::pin!(end);
    let over = async {
        match args.seconds {
            Some(seconds) => {
                let end = began + Duration::from_secs(seconds);
                tokio::time::sleep_until(end.into()).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    let mut view = View::new(Style::stdout(), format!("{http}   {opcua}"));
    let mut redraw = tokio::time::interval(Duration::from_millis(250));
    let mut status = hub.ledger_status();
    loop {
        tokio::select! {
            () = &mut end => return Ok(()),
            () = &mut over => return Ok(()),
            _ = redraw.tick(), if live => view.draw(hub, &plan::fault_line(began)),
            changed = status.changed() => {
                if changed.is_err() {
                    anyhow::bail!("the hub's actors ended early, see the log");
                }
                if let LedgerHealth::Broken(reason) = &status.borrow_and_update().health {
                    anyhow::bail!("the ledger is broken: {reason}");
                }
            }
        }
    }
}

/// Quiet unless asked: the live view is the demo's voice.
fn start_log() -> log::Log {
    let quiet = "error,opcua_core=off,opcua_crypto=off,opcua_client=off";
    log::start(quiet, LogFormat::Text, Style::stderr().colour)
}

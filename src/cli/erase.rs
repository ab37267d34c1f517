//! `weighbridge erase`: destroys the keys of what was recorded of a device up to a time.

use super::data_dir::{data_dir, open_store};
use super::http_get::{HubUrl, get_json, path, post};
use super::output::{self, Style, cell};
use super::verify::{Bar, hub_buffer};
use crate::api::{EraseStatus, erasure_view};
use crate::config;
use crate::crypto::{Identity, SealingRing, Signer};
use crate::hub::{HubKeys, StoppedErasure};
use crate::ledger::query::Explorer;
use crate::ledger::report::Progress;
use crate::model::{Nanos, parse_time, rfc3339};
use crate::store::{BufferedStore, HeadFile};
use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::{Value as Json, json};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// What `weighbridge erase` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge erase --device plc-1 --until 2026-01-01T00:00:00Z --dry-run     what would go
  weighbridge erase --device plc-1 --until 2026-01-01T00:00:00Z               of the hub on this machine
  weighbridge erase --device plc-1 --until 2026-01-01T00:00:00Z --dir plant   of a stopped hub
  weighbridge verify plant                                                    and what was erased

A record says what is erased and who asked; then the keys are overwritten and the sealed batches removed.
Nobody brings them back. Records, blocks, checkpoints and evidence files stay, and verify as before. Keys are
of one day (UTC), so a midnight takes whole keys; docs/erasure.md says what is left at other times, and what
cannot be reached: backups, copies of the file system, and whoever has read the data.

Exit codes: 0 erased, or nothing was there to be erased; 1 not erased; 69 no hub answers.")]
pub(super) struct EraseArgs {
    /// The device
    #[arg(long, value_name = "DEVICE")]
    device: String,
    /// Everything before this source time, as in 2026-01-01T00:00:00Z, or ns since 1970
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    until: Nanos,
    /// A running hub
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL"
    )]
    url: HubUrl,
    /// The directory of a stopped hub, as `init` made it, instead of a running one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The stopped hub's configuration, when ledger and keys are not where `init` puts them
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    config: Option<PathBuf>,
    /// Only say what would be erased
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: EraseArgs) -> anyhow::Result<ExitCode> {
    match (&args.dir, &args.config) {
        (None, None) => at_hub(&args),
        _ => at_directory(&args),
    }
}

fn at_hub(args: &EraseArgs) -> anyhow::Result<ExitCode> {
    let target = path(&["api", "v1", "devices", &args.device, "erase"]);
    let ask = |dry_run: bool| -> anyhow::Result<Json> {
        let body = json!({"until": args.until.to_string(), "dry_run": dry_run});
        match post(&args.url, &target, &body)? {
            (200, answer) => Ok(answer),
            (_, answer) => bail!(
                "{} was not erased: {}",
                args.device,
                cell(&answer, "/detail")
            ),
        }
    };
    let found = ask(true)?;
    if !goes_on(args, &found)? {
        return Ok(ExitCode::SUCCESS);
    }
    let mut status = ask(false)?;
    let mut bar = Bar::new(args.json);
    while status["done"] == json!(false) && status["trouble"].is_null() {
        std::thread::sleep(Duration::from_millis(300));
        status = get_json(&args.url, &target, &[])?;
        let number = |at: &str| status.pointer(at).and_then(Json::as_u64).unwrap_or(0);
        bar.show(Progress {
            what: "erasing",
            done: number("/progress/0"),
            total: number("/progress/1"),
        });
    }
    bar.end();
    show(args, &status, true)
}

fn at_directory(args: &EraseArgs) -> anyhow::Result<ExitCode> {
    let mut erasure = open(args)?;
    let plan = erasure.plan(&args.device, args.until)?;
    let status = |plan, height| {
        erasure_view(&EraseStatus {
            plan,
            height,
            progress: None,
            done: true,
            trouble: None,
        })
    };
    if !goes_on(args, &status(plan, None))? {
        return Ok(ExitCode::SUCCESS);
    }
    let user = std::env::var("USER").unwrap_or_else(|_| "local".to_owned());
    let subject = crate::ledger::act::name("user", &user);
    let mut bar = Bar::new(args.json);
    let wanted = (&*args.device, args.until);
    let erased = erasure.erase(wanted, &subject, &mut |progress| bar.show(progress));
    bar.end();
    let (plan, height) = erased.context("it is not finished; the next start or erasure goes on")?;
    show(args, &status(plan, height), true)
}

/// The ledger and keys of a stopped hub.
fn open(args: &EraseArgs) -> anyhow::Result<StoppedErasure> {
    let (data, signing, sealing, buffer) = places(args)?;
    let store = open_store(&data)?;
    if let Some(buffer) = buffer
        && let Some(waiting) = BufferedStore::look(store.clone(), &buffer)?
    {
        ensure!(
            waiting.status().waiting == 0,
            "blocks wait in the buffer {}: start the hub until they are written, then erase",
            buffer.display()
        );
    }
    let genesis = Explorer::new(store.clone()).genesis()?;
    let header = genesis.context("the ledger is empty")?.header;
    let signer: Arc<dyn Signer> = Arc::new(Identity::load(&signing, &header.proposer)?);
    let keys = (signer, SealingRing::load(&sealing)?);
    let head = Box::new(HeadFile::new(&data));
    Ok(StoppedErasure::open_by(store, head, keys, &header.chain)?)
}

/// Data directory, signing and sealing key, and buffer of a stopped hub.
type Places = (PathBuf, PathBuf, PathBuf, Option<PathBuf>);

fn places(args: &EraseArgs) -> anyhow::Result<Places> {
    let Some(file) = &args.config else {
        let dir = args.dir.as_deref().unwrap_or(Path::new("."));
        let (data, keys) = (data_dir(dir), dir.join("keys"));
        let buffer = hub_buffer(&data);
        let (signing, sealing) = (keys.join(HubKeys::SIGNING), keys.join(HubKeys::SEALING));
        return Ok((data, signing, sealing, buffer));
    };
    match config::load(file) {
        Ok(loaded) => {
            let (hub, buffer) = (loaded.config.hub, loaded.config.buffer);
            let buffer = buffer.map(|b| b.dir).filter(|dir| dir.is_dir());
            Ok((hub.data, hub.signing_key, hub.sealing_key, buffer))
        }
        Err(diagnostics) => {
            for diagnostic in &diagnostics {
                eprintln!("{}", diagnostic.render(Style::stderr().colour));
            }
            bail!("{} cannot be used", file.display())
        }
    }
}

/// Shows what would be erased, and asks; whether it is to be.
fn goes_on(args: &EraseArgs, found: &Json) -> anyhow::Result<bool> {
    let nothing = found["keys"] == json!(0) && found["batches"] == json!(0);
    if args.dry_run || nothing {
        show(args, found, false)?;
        return Ok(false);
    }
    if args.yes {
        return Ok(true);
    }
    ensure!(
        std::io::stdin().is_terminal(),
        "there is nobody to ask: say `--yes` to erase, or `--dry-run` to see what would go"
    );
    eprintln!("{}", text(args, found, false));
    eprint!("This cannot be undone. To erase it write the device's name: ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    ensure!(line.trim() == args.device, "nothing was erased");
    Ok(true)
}

fn show(args: &EraseArgs, status: &Json, erased: bool) -> anyhow::Result<ExitCode> {
    if args.json {
        output::print_json(status)?;
    } else {
        output::print(&(text(args, status, erased) + "\n"))?;
    }
    match status["trouble"].as_str() {
        None => Ok(ExitCode::SUCCESS),
        Some(trouble) => bail!("the keys are destroyed, and the rest is not finished: {trouble}"),
    }
}

fn text(args: &EraseArgs, status: &Json, erased: bool) -> String {
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let (keys, batches) = (number("keys"), number("batches"));
    let (device, until) = (&args.device, rfc3339(args.until));
    if keys == 0 && batches == 0 {
        return format!("nothing is recorded of {device} before {until} that could be erased");
    }
    let would = if erased { "erased" } else { "would be erased" };
    let mut text = format!(
        "{device} before {until}: {keys} keys, {batches} batches ({}) {would}",
        output::bytes(number("bytes") as f64)
    );
    if let Some(height) = status["height"].as_u64() {
        text += &format!("; block {height} records it");
    }
    if number("without_key") > 0 {
        text += &format!(
            "\n  {} of the batches are removed, but their keys stay: later batches are under them, too",
            number("without_key")
        );
    }
    if number("across") > 0 {
        text += &format!(
            "\n  {} batches stay, with samples on both sides of that time",
            number("across")
        );
    }
    if status["reached_ns"] != status["until_ns"] {
        text += &format!(
            "\n  no key is left for anything before {}",
            cell(status, "/reached")
        );
    }
    text
}

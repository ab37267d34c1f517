//! `weighbridge verify`: checks a ledger, buffers or an evidence file, offline.

mod buffer;

use super::data_dir::{data_dir, open_store};
use super::output::{self, Style};
use super::verify_evidence;
use crate::ledger::head::HeadSlot;
use crate::ledger::query::Explorer;
use crate::ledger::report::{LedgerTrust, Progress, Report};
use crate::ledger::store::Store;
use crate::ledger::verify::verify_store;
use crate::store::{BufferedStore, FjallStore, HeadFile};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weighbridge_verifier::{Hash, PublicKey};

/// What `weighbridge verify` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge verify plant                                    everything that is recorded
  weighbridge verify plant --trust $(cat plant/keys/hub.pub)  and that it was begun under this key
  weighbridge verify plant --buffer /mnt/other/buffer         with the blocks that wait in its buffer
  weighbridge verify cell-a                                   what waits at an edge node
  weighbridge verify sample.evidence --trust KEYFILE          samples that somebody handed you

A hub or edge node must be stopped before its directory is verified. Without --trust the result is
`self-consistent only`: whoever wrote it all could have written something else.

Exit codes: 0 nothing is wrong, 1 something is.")]
pub(super) struct VerifyArgs {
    /// The directory of a stopped hub or edge node, or an evidence file
    #[arg(value_name = "DIR|FILE")]
    what: PathBuf,
    /// A hub's (or edge node's) public key that you trust: 66 hexadecimal digits, or a file with one or more,
    /// a line each; may be given again
    #[arg(long, value_name = "KEY", value_parser = public_keys)]
    trust: Vec<Keys>,
    /// A block that the ledger must hold, noted earlier from `status` or `verify`: without one nobody can
    /// tell whether the newest blocks were taken away
    #[arg(long, value_name = "HEIGHT:HASH", value_parser = checkpoint)]
    checkpoint: Option<(u64, Hash)>,
    /// The hub's buffer; by default `buffer` beside its data, if it is there
    #[arg(long, value_name = "DIR")]
    buffer: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn checkpoint(text: &str) -> Result<(u64, Hash), String> {
    let wrong = || "write it as HEIGHT:HASH, as in 102:5d0c… with all 64 digits".to_owned();
    let (height, hash) = text.split_once(':').ok_or_else(wrong)?;
    Ok((
        height.parse().map_err(|_| wrong())?,
        hash.parse().map_err(|_| wrong())?,
    ))
}

/// Keys of one option.
#[derive(Clone, Debug)]
struct Keys(Vec<PublicKey>);

/// A key given as digits, or as a file that holds some.
fn public_keys(text: &str) -> Result<Keys, String> {
    if let Ok(key) = text.parse() {
        return Ok(Keys(vec![key]));
    }
    let file = std::fs::read_to_string(text)
        .map_err(|e| format!("neither 66 hexadecimal digits nor a file that can be read ({e})"))?;
    let lines = file.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Result<Vec<PublicKey>, _> = lines.map(str::parse).collect();
    let keys = keys.map_err(|e| format!("the file {text} holds no public key: {e}"))?;
    match keys.is_empty() {
        true => Err(format!("the file {text} holds no public key: it is empty")),
        false => Ok(Keys(keys)),
    }
}

pub(super) fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let metadata = std::fs::metadata(&args.what)
        .with_context(|| format!("{} cannot be read", args.what.display()))?;
    let trusted: Vec<PublicKey> = args.trust.iter().flat_map(|k| k.0.clone()).collect();
    if metadata.is_dir() {
        directory(&args, &trusted)
    } else {
        verify_evidence::run(&args.what, &trusted, args.json)
    }
}

fn directory(args: &VerifyArgs, trusted: &[PublicKey]) -> anyhow::Result<ExitCode> {
    if trusted.len() > 1 {
        anyhow::bail!("a ledger is begun under one key: give `--trust` one");
    }
    let dir = data_dir(&args.what);
    if !FjallStore::is_in(&dir) {
        let lanes = buffer::of_edge(&args.what);
        if !lanes.is_empty() {
            return edge_buffers(args, trusted.first(), &lanes);
        }
    }
    let store: Arc<dyn Store> = match open_store(&dir) {
        Err(error) if args.json => {
            output::print_json(&json!({"clean": false, "reason": format!("{error:#}")}))?;
            return Ok(ExitCode::FAILURE);
        }
        opened => Arc::new(opened?),
    };
    let waiting = args.buffer.clone().or_else(|| buffer::of_hub(&dir));
    let buffered = waiting.as_deref().map(buffer::check_commits).transpose()?;
    // What waits in a sound buffer is part of the ledger.
    let store = match &buffered {
        Some(buffered) if buffered.is_clean() => {
            let both = BufferedStore::look(store.clone(), &buffered.dir)?;
            both.map_or(store, |both| Arc::new(both))
        }
        _ => store,
    };
    let head = HeadFile::new(&dir).read()?;
    let mut bar = Bar::new(args.json);
    let report = verify_store(&*store, &head, trusted.first(), &mut |progress| {
        bar.show(progress);
    })?;
    bar.end();
    let missed = match args.checkpoint {
        Some((height, hash)) => {
            let block = Explorer::new(store).block(height)?;
            let there = block.is_some_and(|block| block.header.hash() == hash);
            (!there).then_some(format!(
                "block {height} with hash {hash} is not in the ledger"
            ))
        }
        None => None,
    };
    let whole = buffered.as_ref().is_none_or(|b| b.is_clean());
    let clean = report.is_clean() && missed.is_none() && whole;
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        if let Some(object) = json.as_object_mut() {
            object.insert("clean".to_owned(), clean.into());
            object.insert("checkpoint_missed".to_owned(), missed.into());
            object.insert("buffer".to_owned(), json!(buffered.map(|b| b.json())));
        }
        output::print_json(&json)?;
    } else {
        if let Some(buffered) = &buffered {
            output::print(&buffered.text(Style::stdout()))?;
        }
        output::print(&report_text(
            &report,
            &dir,
            missed.as_deref(),
            args.checkpoint.is_some(),
            whole,
        ))?;
    }
    Ok(exit_code(clean))
}

fn exit_code(clean: bool) -> ExitCode {
    if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What waits at an edge node.
fn edge_buffers(
    args: &VerifyArgs,
    trusted: Option<&PublicKey>,
    lanes: &[PathBuf],
) -> anyhow::Result<ExitCode> {
    let check = |dir: &PathBuf| buffer::check_batches(dir, trusted);
    let checked: Vec<_> = lanes.iter().map(check).collect::<Result<_, _>>()?;
    let clean = checked.iter().all(buffer::Checked::is_clean);
    if args.json {
        let buffers: Vec<_> = checked.iter().map(buffer::Checked::json).collect();
        output::print_json(&json!({"clean": clean, "buffers": buffers}))?;
        return Ok(exit_code(clean));
    }
    let style = Style::stdout();
    let texts: String = checked.iter().map(|buffer| buffer.text(style)).collect();
    let end = match (clean, trusted) {
        (false, _) => style.red("NOT CLEAN: what is named above was changed, damaged or lost"),
        (true, Some(_)) => style.green("clean, under the trusted key"),
        (true, None) => style.yellow("clean, self-consistent only"),
    };
    output::print(&format!("{texts}{end}\n"))?;
    Ok(exit_code(clean))
}

fn report_text(
    report: &Report,
    dir: &Path,
    missed: Option<&str>,
    checkpoint: bool,
    buffer_is_whole: bool,
) -> String {
    let style = Style::stdout();
    let totals = &report.totals;
    let mut text = format!(
        "{}\n  chain {}, height {}, last block {}\n  {} records: {} batches accepted, {} out of control, {} refused\n  \
         {} sealed values ({}), {} wrapped keys\n",
        dir.display(),
        report.chain,
        report.height,
        report.block_hash,
        totals.records,
        totals.accepted,
        totals.out_of_control,
        totals.invalid,
        report.sealed,
        output::bytes(report.sealed_bytes as f64),
        report.wraps,
    );
    if let Some(key) = &report.key {
        text += &format!("  begun under the key {key}\n");
    }
    for finding in &report.findings {
        text += &format!("{} {finding}\n", style.red("×"));
    }
    let unlisted = report.finding_count - report.findings.len() as u64;
    if unlisted > 0 {
        text += &format!("  and {unlisted} more\n");
    }
    if let Some(missed) = missed {
        text += &format!("{} {missed}\n", style.red("×"));
    }
    if !checkpoint {
        text += &format!(
            "  up to height {}: whether newer blocks were taken away shows only with --checkpoint\n",
            report.height
        );
    }
    text += &if !report.is_clean() || missed.is_some() || !buffer_is_whole {
        style.red("NOT CLEAN: what is named above was changed, damaged or lost")
    } else if report.trust == LedgerTrust::Key {
        style.green("clean, under the trusted key")
    } else {
        style.yellow("clean, self-consistent only")
    };
    text + "\n"
}

/// A progress bar that appears when the work takes over a second.
struct Bar {
    since: Instant,
    bar: Option<(&'static str, ProgressBar)>,
    wanted: bool,
}

impl Bar {
    fn new(json: bool) -> Self {
        Self {
            since: Instant::now(),
            bar: None,
            wanted: !json,
        }
    }

    fn show(&mut self, progress: Progress) {
        if !self.wanted || self.since.elapsed() < Duration::from_secs(1) {
            return;
        }
        if self
            .bar
            .as_ref()
            .is_none_or(|(what, _)| *what != progress.what)
        {
            self.end();
            // Hidden by itself where standard error is no terminal.
            let bar = ProgressBar::new(progress.total);
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(progress.what);
            self.bar = Some((progress.what, bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_position(progress.done);
        }
    }

    fn end(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

//! `weighbridge verify`: checks a ledger, buffers, an evidence file or a checkpoint, offline.

mod buffer;

use super::checkpoint::timestamp;
use super::data_dir::{data_dir, open_store};
use super::output::{self, Style};
use super::verify_evidence;
use super::verify_note::{self, Earlier, Trusted};
use crate::ledger::evidence::MAX_BYTES;
use crate::ledger::head::HeadSlot;
use crate::ledger::report::{HubEvent, LedgerTrust, Progress, Report};
use crate::ledger::store::Store;
use crate::ledger::verify::verify_store;
use crate::model::rfc3339;
use crate::store::{BufferedStore, FjallStore, HeadFile};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weighbridge_verifier::PublicKey;
use weighbridge_verifier::note::NoteKey;

/// What `weighbridge verify` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge verify plant                                    everything that is recorded
  weighbridge verify plant --trust $(cat plant/keys/hub.pub)  and that it was begun under this key
  weighbridge verify plant --checkpoint 102.note              and that it goes on from this checkpoint
  weighbridge verify plant --buffer /mnt/other/buffer         with the blocks that wait in its buffer
  weighbridge verify cell-a                                   what waits at an edge node
  weighbridge verify sample.evidence --trust KEYFILE          samples that somebody handed you
  weighbridge verify 102.note --trust KEYFILE --timestamp 102.tst --tsa-ca FILE
                                                              when a checkpoint was there
  weighbridge verify new.proof --checkpoint 102.note --trust KEYFILE
                                                              that one checkpoint extends another

A hub or edge node must be stopped before its directory is verified. Without --trust the result is
`self-consistent only`: whoever wrote it all could have written something else.

Exit codes: 0 nothing is wrong, 1 something is.")]
pub(super) struct VerifyArgs {
    /// The directory of a stopped hub or edge node, an evidence file, or a checkpoint with or without its
    /// proof
    #[arg(value_name = "DIR|FILE")]
    what: PathBuf,
    /// A hub's (or edge node's) public key that you trust: 66 hexadecimal digits, or a file with one or more,
    /// a line each; may be given again
    #[arg(long, value_name = "KEY", value_parser = public_keys)]
    trust: Vec<Keys>,
    /// What the ledger must go on from: a checkpoint in a file, or a block noted earlier from `status` or
    /// `verify`. Without one nobody can tell whether the newest blocks were taken away
    #[arg(long, value_name = "NOTE|HEIGHT:HASH")]
    checkpoint: Option<Earlier>,
    /// A witness that must have cosigned the checkpoint, NAME+ID+BASE64; can be given several times
    #[arg(long, value_name = "KEY")]
    witness_key: Vec<NoteKey>,
    /// A time stamp of the checkpoint (RFC 3161), which must hold
    #[arg(long, value_name = "FILE", requires = "tsa_ca")]
    timestamp: Option<PathBuf>,
    /// The certificates of time stamp authorities that you trust, as PEM
    #[arg(long, value_name = "FILE", requires = "timestamp")]
    tsa_ca: Option<PathBuf>,
    /// The hub's buffer; by default `buffer` beside its data, if it is there
    #[arg(long, value_name = "DIR")]
    buffer: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
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
        file(&args, &trusted)
    }
}

/// An evidence file, or a checkpoint.
fn file(args: &VerifyArgs, trusted: &[PublicKey]) -> anyhow::Result<ExitCode> {
    let mut bytes = Vec::new();
    File::open(&args.what)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("{} cannot be read", args.what.display()))?;
    if verify_note::looks_like(&bytes) {
        let keys = note_keys(args, trusted)?;
        return verify_note::run(&bytes, args.checkpoint.as_ref(), &keys, args.json);
    }
    no_timestamp(args)?;
    verify_evidence::run(&bytes, trusted, args.json)
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
        opened => opened?,
    };
    let waiting = args.buffer.clone().or_else(|| buffer::of_hub(&dir));
    let buffered = waiting.as_deref().map(buffer::check_commits).transpose()?;
    let store = with_buffer(store, buffered.as_ref())?;
    let head = HeadFile::new(&dir).read()?;
    let mut bar = Bar::new(args.json);
    let report = verify_store(&*store, &head, trusted.first(), &mut |progress| {
        bar.show(progress);
    })?;
    bar.end();
    let mut stamped = None;
    let missed = match &args.checkpoint {
        Some(earlier) => {
            verify_note::missed(store, earlier, &note_keys(args, trusted)?, &mut stamped)?
        }
        None => {
            no_timestamp(args)?;
            None
        }
    };
    let whole = buffered.as_ref().is_none_or(|b| b.is_clean());
    let clean = report.is_clean() && missed.is_none() && whole;
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        if let Some(object) = json.as_object_mut() {
            object.insert("clean".to_owned(), clean.into());
            object.insert("checkpoint_missed".to_owned(), missed.into());
            let stamped = stamped.as_ref().map(timestamp::as_json);
            object.insert("timestamp".to_owned(), stamped.into());
            object.insert("buffer".to_owned(), json!(buffered.map(|b| b.json())));
        }
        output::print_json(&json)?;
    } else {
        if let Some(buffered) = &buffered {
            output::print(&buffered.text(Style::stdout()))?;
        }
        if let Some(stamp) = &stamped {
            output::print(&format!("the checkpoint\n{}", timestamp::as_text(stamp)))?;
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

/// What waits in a sound buffer is part of the ledger.
fn with_buffer(
    store: Arc<dyn Store>,
    buffered: Option<&buffer::Checked>,
) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match buffered {
        Some(buffered) if buffered.is_clean() => {
            let both = BufferedStore::look(store.clone(), &buffered.dir)?;
            both.map_or(store, |both| Arc::new(both))
        }
        _ => store,
    })
}

/// The ledger in directory `data` with what waits in its buffer: the one in `given`, or beside it.
pub(super) fn open_whole(data: &Path, given: Option<&Path>) -> anyhow::Result<Arc<dyn Store>> {
    let store = open_store(data)?;
    let waiting = given.map(Path::to_owned).or_else(|| buffer::of_hub(data));
    let buffered = waiting.as_deref().map(buffer::check_commits).transpose()?;
    with_buffer(store, buffered.as_ref())
}

/// The buffer beside the data directory of a stopped hub, if there is one.
pub(super) fn hub_buffer(data: &Path) -> Option<PathBuf> {
    buffer::of_hub(data)
}

/// A hub signs its checkpoints alone.
fn note_keys<'a>(args: &'a VerifyArgs, trusted: &'a [PublicKey]) -> anyhow::Result<Trusted<'a>> {
    if trusted.len() > 1 {
        anyhow::bail!("a checkpoint is signed under one hub's key: give `--trust` one");
    }
    let both = args.timestamp.as_deref().zip(args.tsa_ca.as_deref());
    Ok(Trusted {
        hub: trusted.first(),
        witnesses: &args.witness_key,
        timestamp: both,
    })
}

/// A time stamp is one of a checkpoint.
fn no_timestamp(args: &VerifyArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.timestamp.is_none(),
        "a time stamp is one of a checkpoint: name that with --checkpoint, or verify it by itself"
    );
    Ok(())
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
    if report.open > 0 {
        let open = report.open;
        text += &format!(
            "  {open} records of this hub are not in a block yet: other hubs have to agree\n"
        );
    }
    if report.lacking > 0 {
        let lacking = report.lacking;
        text += &format!("  {lacking} sealed values have not come from other hubs yet\n");
    }
    for to in &report.recipients {
        let removed = match to.removed {
            0 => String::new(),
            removed => format!(", {removed} wraps overwritten"),
        };
        text += &format!(
            "  {} keys are wrapped to {} as well{removed}; recorded in block {}\n",
            to.wraps, to.name, to.height
        );
    }
    for changed in &report.hubs {
        let what = match changed.event {
            HubEvent::Admitted => "was let in",
            HubEvent::StandsBy => "was let stand by",
            HubEvent::CameIn => "stood by, and came in",
            HubEvent::Dismissed => "was dismissed by votes",
            HubEvent::Proven => "was dismissed: it signed two things that exclude each other",
            HubEvent::Unlisted => "stands by no longer",
        };
        let (hub, height) = (&changed.hub, changed.height);
        text += &format!("  `{hub}` {what}, in block {height}\n");
    }
    for since in &report.rotations {
        let (hub, key, height) = (&since.hub, since.key, since.height);
        text += &format!("  `{hub}` signs by the key {key} from block {height} on\n");
    }
    for erasure in &report.erasures {
        text += &format!(
            "  erased: {} before {}, {} batches ({}), by {} in block {}\n",
            erasure.device,
            rfc3339(erasure.until),
            erasure.batches,
            output::bytes(erasure.bytes as f64),
            erasure.by,
            erasure.height,
        );
    }
    let unlisted = report.erasure_count - report.erasures.len() as u64;
    if unlisted > 0 {
        text += &format!("  and {unlisted} more erasures\n");
    }
    text += &retired_text(report);
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

/// Retirements named in full.
const RETIREMENTS: usize = 10;

fn retired_text(report: &Report) -> String {
    let mut text = String::new();
    for retired in report.retirements.iter().take(RETIREMENTS) {
        text += &format!(
            "  retired on record, {}: batches up to block {}, bodies up to block {}; {} values ({}), {}{}\n",
            rfc3339(retired.time),
            retired.batches,
            retired.bodies,
            retired.values,
            output::bytes(retired.bytes as f64),
            match retired.segments.len() {
                0 => "not archived".to_owned(),
                files => format!("archived in {} ({files} files)", retired.archive),
            },
            match retired.pending {
                true => "; still being removed, the hub goes on with it",
                false => "",
            },
        );
    }
    let listed = report.retirements.len().min(RETIREMENTS) as u64;
    let unlisted = report.retirement_count.saturating_sub(listed);
    if unlisted > 0 {
        text += &format!("  and {unlisted} earlier retirements\n");
    }
    text
}

/// A progress bar that appears when the work takes over a second.
pub(super) struct Bar {
    since: Instant,
    bar: Option<(&'static str, ProgressBar)>,
    wanted: bool,
}

impl Bar {
    pub(super) fn new(json: bool) -> Self {
        Self {
            since: Instant::now(),
            bar: None,
            wanted: !json,
        }
    }

    pub(super) fn show(&mut self, progress: Progress) {
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

    pub(super) fn end(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

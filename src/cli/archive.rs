//! `weighbridge archive`: what was retired, in the files that it was archived in.

use super::data_dir::{data_dir, open_store};
use super::output::{self, Align, Style};
use crate::api::RecordAt;
use crate::api::views::RecordView;
use crate::ledger::query::Explorer;
use crate::ledger::retention::retired::Retired;
use crate::ledger::retention::segment::{SegmentRef, What};
use crate::ledger::store::Store;
use crate::store::ArchiveDir;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use weighbridge_verifier::Block;

/// What `weighbridge archive` is told.
#[derive(Debug, Args)]
pub(super) struct ArchiveArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the files of an archive
    #[command(after_help = "\
Examples:
  weighbridge archive list plant/archive

Exit codes: 0 listed, 1 it cannot be read.")]
    List(ListArgs),
    /// Check the files of an archive, and that they are those a ledger has on record
    #[command(after_help = "\
Examples:
  weighbridge archive verify plant/archive                 that every file is what was written
  weighbridge archive verify plant/archive --dir plant     and that each is on record, and none is missing

Exit codes: 0 nothing is wrong, 1 something is.")]
    Verify(VerifyArgs),
    /// Show the records in an archive, the newest first
    #[command(after_help = "\
Examples:
  weighbridge archive read plant/archive
  weighbridge archive read plant/archive --device plc-1 --before 5000 --limit 5 --json

What was measured needs the hub's keys and its ledger: `weighbridge history`, `evidence`, `prove` and `records` take
`--archive plant/archive` beside `--dir plant`.

Exit codes: 0 shown, 1 it cannot be read.")]
    Read(ReadArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The archive
    #[arg(value_name = "DIR")]
    archive: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// The archive
    #[arg(value_name = "DIR")]
    archive: PathBuf,
    /// The directory of the stopped hub whose archive it is
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ReadArgs {
    /// The archive
    #[arg(value_name = "DIR")]
    archive: PathBuf,
    /// Only records about this device
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Only blocks below this height
    #[arg(long, value_name = "HEIGHT")]
    before: Option<u64>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: ArchiveArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => list(&args),
        Command::Verify(args) => verify(&args),
        Command::Read(args) => read(&args),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let archive = ArchiveDir::open(&args.archive)?;
    if args.json {
        output::print_json(&json!({
            "chain": archive.chain(),
            "genesis": archive.genesis(),
            "segments": archive.segments().iter().map(view).collect::<Vec<_>>(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let headings = [
        ("blocks", Align::Right),
        ("to", Align::Right),
        ("values", Align::Right),
        ("size", Align::Right),
        ("file", Align::Left),
        ("hash", Align::Left),
    ];
    let row = |segment: &SegmentRef| {
        vec![
            segment.first.to_string(),
            segment.last.to_string(),
            segment.values.to_string(),
            output::bytes(segment.bytes as f64),
            segment.file(),
            segment.hash.short(),
        ]
    };
    let rows: Vec<_> = archive.segments().iter().map(row).collect();
    match rows.is_empty() {
        true => output::print("nothing is archived yet\n")?,
        false => output::print(&output::table(Style::stdout(), &headings, &rows))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn view(segment: &SegmentRef) -> Json {
    json!({
        "file": segment.file(),
        "first": segment.first,
        "last": segment.last,
        "values": segment.values,
        "bytes": segment.bytes,
        "hash": segment.hash,
    })
}

/// What is wrong with an archive.
fn findings(archive: &ArchiveDir, dir: Option<&Path>) -> anyhow::Result<(Vec<String>, u64)> {
    let mut found = Vec::new();
    let mut blocks = 0;
    let store: Option<Arc<dyn Store>> = match dir {
        Some(dir) => Some(open_store(&data_dir(dir))?),
        None => None,
    };
    let explorer = store.clone().map(Explorer::new);
    if let Some(explorer) = &explorer {
        let genesis = explorer.genesis()?.context("the ledger is empty")?;
        if genesis.header.hash() != archive.genesis() {
            bail!(
                "it is the archive of another ledger, of the chain `{}`",
                archive.chain()
            );
        }
    }
    for segment in archive.segments() {
        let mut other = None;
        let mut unread = None;
        let checked = archive.read(segment, |part| {
            let What::Block(block) = part.what else {
                return;
            };
            blocks += 1;
            match explorer.as_ref().map(|e| e.block(block.header.height)) {
                Some(Ok(Some(here))) if here.header == block.header => {}
                Some(Ok(_)) => other = Some(block.header.height),
                Some(Err(error)) => unread = Some(error),
                None => {}
            }
        });
        if let Some(error) = unread {
            return Err(error.into());
        }
        if let Err(error) = checked {
            found.push(error.to_string());
        }
        if let Some(height) = other {
            let file = segment.file();
            found.push(format!(
                "{file}: block {height} is not the one of the ledger"
            ));
        }
    }
    if let Some(store) = store {
        let retired = Retired::load(&*store)?;
        let on_record: Vec<_> = retired.notices().iter().flat_map(|n| &n.segments).collect();
        for segment in &on_record {
            if !archive.segments().contains(segment) {
                found.push(format!(
                    "{}: it is on record, and not in the archive",
                    segment.file()
                ));
            }
        }
    }
    Ok((found, blocks))
}

fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let archive = ArchiveDir::open(&args.archive)?;
    let (found, blocks) = findings(&archive, args.dir.as_deref())?;
    let clean = found.is_empty();
    let segments = archive.segments().len();
    if args.json {
        output::print_json(&json!({
            "clean": clean,
            "segments": segments,
            "blocks": blocks,
            "findings": found,
        }))?;
    } else {
        let style = Style::stdout();
        let chain = archive.chain();
        let mut text = format!("chain {chain}, {segments} segments with {blocks} blocks\n");
        for finding in &found {
            text += &format!("{} {finding}\n", style.red("×"));
        }
        text += &match (clean, &args.dir) {
            (false, _) => style.red("NOT CLEAN: what is named above was changed, damaged or lost"),
            (true, Some(_)) => style.green("clean, and on record in the ledger"),
            (true, None) => style.yellow("clean, self-consistent only"),
        };
        output::print(&(text + "\n"))?;
    }
    Ok(match clean {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The newest records in an archive of which there are not too many.
fn newest(archive: &ArchiveDir, args: &ReadArgs) -> anyhow::Result<Vec<Json>> {
    let limit = usize::from(args.limit);
    let mut segments: Vec<_> = archive.segments().iter().collect();
    segments.sort_unstable_by_key(|segment| std::cmp::Reverse(segment.first));
    let below = args.before.unwrap_or(u64::MAX);
    let mut found: Vec<Json> = Vec::new();
    for segment in segments.into_iter().filter(|s| s.first < below) {
        let mut here = Vec::new();
        archive.read(segment, |part| {
            if let What::Block(block) = part.what
                && block.header.height < below
            {
                here.extend(wanted(&block, args.device.as_deref()));
                let over = here.len().saturating_sub(limit);
                here.drain(..over);
            }
        })?;
        found.extend(here.into_iter().rev());
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

fn wanted(block: &Block, device: Option<&str>) -> Vec<Json> {
    let height = block.header.height;
    let records = (0u32..).zip(&block.records).filter(|(_, record)| {
        let object = record.body.object.split_once(':').map(|(_, of)| of);
        device.is_none_or(|d| object == Some(d))
    });
    let view = |(position, record)| {
        let view = RecordView::new(RecordAt { height, position }, record);
        serde_json::to_value(view).ok()
    };
    records.filter_map(view).collect()
}

fn read(args: &ReadArgs) -> anyhow::Result<ExitCode> {
    let archive = ArchiveDir::open(&args.archive)?;
    let answer = json!({ "records": newest(&archive, args)? });
    match args.json {
        true => output::print_json(&answer)?,
        false => output::print(&super::records::text(&answer, Style::stdout()))?,
    }
    Ok(ExitCode::SUCCESS)
}

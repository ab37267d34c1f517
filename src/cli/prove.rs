//! `weighbridge prove`: one sample with everything that proves it, as one file.

use super::output;
use super::stopped_hub::StoppedHub;
use crate::ledger::history::evidence::prove_one;
use crate::ledger::opening::OpeningError;
use crate::ledger::proof::{self, SampleAt};
use crate::ledger::query::PlacedRecord;
use crate::model::{Nanos, parse_time, rfc3339};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use weighbridge_verifier::{BatchContent, Value};

/// What `weighbridge prove` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge prove --dir plant --device plc-1 --tag pressure \\
      --at 2026-05-04T12:00:00Z -o sample.evidence
  weighbridge verify sample.evidence --trust plant/keys/hub.pub

The last sample at or before the time is proven. The hub must be stopped, and its sealing key at
hand: the evidence shows this one sample in the clear, and nothing of its neighbours.")]
pub(super) struct ProveArgs {
    /// The directory of a stopped hub, as `init` or `demo --dir` made it
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The hub's configuration, when ledger and keys are not where `init` puts them
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    config: Option<PathBuf>,
    /// The device
    #[arg(long, value_name = "ID")]
    device: String,
    /// The tag
    #[arg(long, value_name = "NAME")]
    tag: String,
    /// A time, as in 2026-05-04T12:00:00Z, or nanoseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Nanos,
    /// Also look at what was recorded over an hour after the time, as after a long outage
    #[arg(long)]
    late: bool,
    /// Also read what was retired into this archive
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// The evidence file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Print one JSON object about the sample
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: ProveArgs) -> anyhow::Result<ExitCode> {
    let archived = args.archive.as_deref().map(|a| (a, &*args.device));
    let archive = StoppedHub::open(&args.dir, args.config.as_deref(), archived)?;
    let gone = archive.gone(&args.device, args.at)?;
    let Some(found) = archive.find(&args)? else {
        let gone = gone.iter().map(|gone| gone.words(&args.device));
        let gone = gone.map(|gone| format!(": {gone}"));
        bail!(
            "no stored sample of {}/{} is at or before {}{}",
            args.device,
            args.tag,
            rfc3339(args.at),
            gone.collect::<String>(),
        );
    };
    let (height, index) = found.record.place;
    let block = archive.explorer.block(height)?;
    let block = block.with_context(|| format!("block {height} is missing"))?;
    let evidence = prove_one(
        &archive.explorer,
        (block, index as usize),
        &found.opened.content.batch,
        found.at,
        |position| {
            let salt = usize::try_from(position)
                .ok()
                .and_then(|p| found.opened.salts.get(p));
            salt.copied().unwrap_or_default()
        },
    )?;
    let bytes = evidence.to_bytes();
    std::fs::write(&args.output, &bytes)
        .with_context(|| format!("{} cannot be written", args.output.display()))?;
    let (_, _, sample) = evidence.samples().next().context("nothing was proven")?;
    let file = args.output.display();
    if args.json {
        output::print_json(&json!({
            "file": file.to_string(),
            "bytes": bytes.len(),
            "device": args.device,
            "tag": sample.tag,
            "time": rfc3339(sample.time),
            "time_ns": sample.time.to_string(),
            "value": sample.value,
            "quality": sample.quality.to_string(),
            "height": height,
        }))?;
    } else {
        let value: &Value = &sample.value;
        output::print(&format!(
            "{}/{} = {value} ({}) at {}, in block {height}\n{file}: {} bytes; check it with `weighbridge verify {file} --trust KEY`\n",
            args.device,
            sample.tag,
            sample.quality,
            rfc3339(sample.time),
            bytes.len(),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A batch with the wanted sample.
struct Found {
    record: PlacedRecord,
    opened: crate::ledger::opening::OpenedBatch,
    at: SampleAt,
}

impl StoppedHub {
    /// The batch with the device's last sample of the tag at or before the time. A batch is recorded
    /// after its samples were taken, usually within seconds: so the search goes back from what was
    /// recorded an hour after the time, until nothing older can hold a newer sample.
    fn find(&self, args: &ProveArgs) -> anyhow::Result<Option<Found>> {
        let mut best: Option<(Nanos, Found)> = None;
        let mut before = match args.late {
            true => None,
            false => self.explorer.height_at(args.at.saturating_add(HOUR))?,
        }
        // All records of that block, and what is before it.
        .map(|height| (height, u32::MAX));
        loop {
            let page = self.explorer.records_where(before, PAGE, |record| {
                let stored = record.body.batch();
                stored.is_some_and(|b| b.device == args.device && b.sealed.is_some())
            })?;
            for record in page.items {
                let recorded = record.record.body.time;
                // Nothing older can hold a newer sample, unless a clock went back.
                if best.as_ref().is_some_and(|(time, _)| recorded < *time) {
                    return Ok(best.map(|(_, found)| found));
                }
                if let Some((time, found)) = self.look_into(record, args)?
                    && best.as_ref().is_none_or(|(newest, _)| time > *newest)
                {
                    best = Some((time, found));
                }
            }
            match page.next {
                Some(next) => before = Some(next),
                None => return Ok(best.map(|(_, found)| found)),
            }
        }
    }

    fn look_into(
        &self,
        record: PlacedRecord,
        args: &ProveArgs,
    ) -> anyhow::Result<Option<(Nanos, Found)>> {
        let Some(BatchContent {
            sealed: Some(sealed),
            ..
        }) = record.record.body.batch()
        else {
            return Ok(None);
        };
        let opened = match self.opener.open_batch(&args.device, sealed) {
            // Of what was retired only the record is left here.
            Err(OpeningError::Missing(_)) if self.fate_of_block(record.place.0).is_some() => {
                return Ok(None);
            }
            opened => opened?,
        };
        let batch = &opened.content.batch;
        let Some(at) = proof::last_sample(batch, &args.tag, args.at) else {
            return Ok(None);
        };
        let column = batch
            .columns
            .get(at.column)
            .context("the batch has no such column")?;
        let time = batch.times(column).get(at.index).copied();
        let time = time.context("the batch has no such sample")?;
        Ok(Some((time, Found { record, opened, at })))
    }
}

/// Records looked through at a time.
const PAGE: usize = 100;
/// In nanoseconds.
const HOUR: Nanos = 3_600_000_000_000;

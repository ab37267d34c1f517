//! `weighbridge evidence`: all samples of a time with everything that proves them, as one file.

use super::output;
use super::stopped_hub::StoppedHub;
use crate::ledger::history::evidence::{MOST_SAMPLES, Wanted, evidence_of};
use crate::ledger::history::reader::Archive;
use crate::model::{Nanos, now, parse_time, rfc3339};
use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use weighbridge_verifier::Content;
use weighbridge_verifier::evidence::Evidence;

/// What `weighbridge evidence` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge evidence plc-1 --dir plant -o plc-1.evidence.json           all tags, the last hour
  weighbridge evidence plc-1 pressure --from 2026-05-04T12:00:00Z --to 2026-05-04T12:10:00Z \\
      --dir plant --settings -o pressure.evidence.json
  weighbridge verify pressure.evidence.json --trust plant/keys/hub.pub

The hub must be stopped, and its sealing key at hand: the file shows these samples in the clear, and
nothing of their neighbours. docs/evidence.md says what is in it and how to check it without us.

Exit codes: 0 written, 1 not written.")]
pub(super) struct EvidenceArgs {
    /// The device
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The tags; all where none is named
    #[arg(value_name = "TAG")]
    tags: Vec<String>,
    /// From this source time on, as in 2026-05-04T12:00:00Z, or ns since 1970; by default an hour before the end
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    from: Option<Nanos>,
    /// Up to this source time, not included; by default now
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    to: Option<Nanos>,
    /// Also show the settings and limits that judged the samples
    #[arg(long)]
    settings: bool,
    /// How many samples at most: more is an error
    #[arg(long, value_name = "N", default_value_t = MOST_SAMPLES, value_parser = limit)]
    limit: usize,
    /// The directory of a stopped hub, as `init` or `demo --dir` made it
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The hub's configuration, when ledger and keys are not where `init` puts them
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    config: Option<PathBuf>,
    /// Also read what was retired into this archive
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// The evidence file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Print one JSON object about what was written
    #[arg(long)]
    json: bool,
}

fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|n| (1..=MOST_SAMPLES).contains(n));
    limit.ok_or_else(|| format!("it is a number from 1 to {MOST_SAMPLES}"))
}

/// An hour, ns.
const HOUR: Nanos = 3_600_000_000_000;

pub(super) fn run(args: EvidenceArgs) -> anyhow::Result<ExitCode> {
    let to = args.to.unwrap_or_else(now);
    let from = args.from.unwrap_or_else(|| to.saturating_sub(HOUR));
    if from >= to {
        bail!(
            "the time from {} to {} is empty",
            rfc3339(from),
            rfc3339(to)
        );
    }
    let archive = args.archive.as_deref().map(|a| (a, &*args.device));
    let hub = StoppedHub::open(&args.dir, args.config.as_deref(), archive)?;
    hub.complete_index()?;
    let wanted = Wanted {
        device: &args.device,
        tags: &args.tags,
        range: (from, to),
        limit: args.limit,
        settings: args.settings,
    };
    // Hidden by itself where standard error is no terminal.
    let bar = match args.json {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(0),
    };
    let style = ProgressStyle::with_template("batches {wide_bar} {pos}/{len} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let past = Archive::new(hub.store.clone(), hub.opener.clone());
    let gone = hub.gone(&args.device, from)?;
    let gone: Vec<_> = gone.iter().map(|gone| gone.words(&args.device)).collect();
    let evidence = evidence_of(&past, &hub.explorer, &wanted, |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let evidence = evidence.with_context(|| {
        let gone = gone.iter().map(|gone| format!(" ({gone})"));
        format!(
            "no evidence of `{}` from {} to {}{}",
            args.device,
            rfc3339(from),
            rfc3339(to),
            gone.collect::<String>(),
        )
    })?;
    for gone in &gone {
        eprintln!("{gone}");
    }
    let bytes = evidence.to_bytes();
    std::fs::write(&args.output, &bytes)
        .with_context(|| format!("{} cannot be written", args.output.display()))?;
    let counts = Counts::of(&evidence);
    let file = args.output.display();
    if args.json {
        output::print_json(&json!({
            "file": file.to_string(),
            "bytes": bytes.len(),
            "device": args.device,
            "from": rfc3339(from),
            "from_ns": from.to_string(),
            "to": rfc3339(to),
            "to_ns": to.to_string(),
            "samples": counts.samples,
            "batches": counts.batches,
            "settings": counts.settings,
            "blocks": evidence.blocks.len(),
        }))?;
    } else {
        output::print(&format!(
            "{} samples of {}, in {} batches, {} blocks; settings shown: {}\n{file}: {}; check it with `weighbridge verify {file} --trust KEY`\n",
            counts.samples,
            args.device,
            counts.batches,
            evidence.blocks.len(),
            counts.settings,
            output::bytes(bytes.len() as f64),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How much an evidence shows.
pub(super) struct Counts {
    pub(super) samples: usize,
    pub(super) batches: usize,
    pub(super) settings: usize,
    pub(super) records: usize,
}

impl Counts {
    pub(super) fn of(evidence: &Evidence) -> Self {
        let records = || evidence.blocks.iter().flat_map(|b| &b.records);
        let document = |content: &Content| matches!(content, Content::Document(_));
        Self {
            samples: evidence.samples().count(),
            batches: records().filter(|r| !r.samples.is_empty()).count(),
            settings: records()
                .filter(|r| r.opened.is_some() && document(&r.record.body.content))
                .count(),
            records: records().count(),
        }
    }
}

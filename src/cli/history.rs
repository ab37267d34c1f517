//! `weighbridge history`: what was recorded of a tag.

use super::http_get::{HubUrl, get_json};
use super::output::{self, Align, Style, cell};
use super::stopped_hub::StoppedHub;
use crate::api::views::{GoneView, SampleView};
use crate::ledger::history::reader::{Archive, Cursor, Direction};
use crate::model::{Nanos, now, parse_time};
use anyhow::anyhow;
use clap::Args;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `weighbridge history` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge history plc-1 temperature                       the last hour, of a running hub
  weighbridge history plc-1 temperature --from 2026-05-04T00:00:00Z --to 2026-05-05T00:00:00Z --csv
  weighbridge history plc-1 temperature --dir plant --json    of a stopped hub, with its sealing key

A running hub records who asked for what, and answers only if the roles in its [http] section may see
history: `roles = [\"auditor\"]`. Where `--from` is after `--to`, the newest samples come first.

Exit codes: 0 listed, 1 refused or unreadable, 69 no hub answers.")]
pub(super) struct HistoryArgs {
    /// The device
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The tag
    #[arg(value_name = "TAG")]
    tag: String,
    /// From this source time on, as in 2026-05-04T12:00:00Z, or ns since 1970; by default an hour before the end
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    from: Option<Nanos>,
    /// Up to this source time, not included; by default now
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    to: Option<Nanos>,
    /// How many samples at most
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    limit: usize,
    /// A running hub
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL"
    )]
    url: HubUrl,
    /// The directory of a stopped hub, instead of a running one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Also read what was retired into this archive
    #[arg(long, value_name = "DIR", requires = "dir")]
    archive: Option<PathBuf>,
    /// Print lines of time, value, quality and status, separated by commas
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Samples asked for at a time.
const PAGE: usize = 1_000;
/// An hour, ns.
const HOUR: Nanos = 3_600_000_000_000;

pub(super) fn run(args: HistoryArgs) -> anyhow::Result<ExitCode> {
    let to = args.to.unwrap_or_else(now);
    let from = args.from.unwrap_or_else(|| to.saturating_sub(HOUR));
    let (samples, gone) = match &args.dir {
        Some(dir) => stored(dir, &args, (from, to))?,
        None => asked(&args, (from, to))?,
    };
    // Beside the lines, whatever reads those.
    for gone in &gone {
        eprintln!("{}", cell(gone, "/detail"));
    }
    if args.json {
        let (device, tag) = (&args.device, &args.tag);
        output::print_json(
            &json!({ "device": device, "tag": tag, "samples": samples, "gone": gone }),
        )?;
    } else if args.csv {
        output::print(&csv(&samples)?)?;
    } else {
        output::print(&table(&samples))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Samples, and what is gone.
type Found = (Vec<Json>, Vec<Json>);

/// Of a running hub, page by page.
fn asked(args: &HistoryArgs, (from, to): (Nanos, Nanos)) -> anyhow::Result<Found> {
    let path = format!("/api/v1/devices/{}/tags/{}/history", args.device, args.tag);
    let (mut samples, mut gone) = (Vec::new(), Vec::new());
    let mut after: Option<String> = None;
    while samples.len() < args.limit {
        let limit = (args.limit - samples.len()).min(PAGE);
        let mut query = vec![
            ("from", from.to_string()),
            ("to", to.to_string()),
            ("limit", limit.to_string()),
        ];
        query.extend(after.clone().map(|after| ("after", after)));
        let mut answer = get_json(&args.url, &path, &query)?;
        let found = answer.get_mut("samples").and_then(Json::as_array_mut);
        samples.append(found.ok_or_else(|| anyhow!("the answer has no `samples`"))?);
        // The same on every page.
        if let Some(Json::Array(of_page)) = answer.get("gone") {
            gone.clone_from(of_page);
        }
        let next = answer.get("next").and_then(Json::as_str).map(str::to_owned);
        if next.is_none() || next == after {
            break;
        }
        after = next;
    }
    Ok((samples, gone))
}

/// Of a stopped hub, with its own key. Who holds the key can read without anybody's leave, so there is
/// nothing to record.
fn stored(dir: &Path, args: &HistoryArgs, (from, to): (Nanos, Nanos)) -> anyhow::Result<Found> {
    let archive = args.archive.as_deref().map(|a| (a, &*args.device));
    let hub = StoppedHub::open(dir, None, archive)?;
    hub.complete_index()?;
    let gone = hub.gone(&args.device, from.min(to))?;
    let gone: Result<Vec<Json>, _> = gone
        .iter()
        .map(|gone| serde_json::to_value(GoneView::new(&args.device, gone)))
        .collect();
    let past = Archive::new(hub.store, hub.opener);
    let tag = past.tag(&args.device, &args.tag);
    let (range, direction) = match from <= to {
        true => ((from, to), Direction::Forward),
        false => (
            (to.saturating_add(1), from.saturating_add(1)),
            Direction::Backward,
        ),
    };
    let mut samples = Vec::new();
    let mut after: Option<Cursor> = None;
    while samples.len() < args.limit {
        let page = tag.page(
            range,
            direction,
            after,
            (args.limit - samples.len()).min(PAGE),
        )?;
        for sample in &page.samples {
            samples.push(serde_json::to_value(SampleView::from(sample))?);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok((samples, gone?))
}

fn csv(samples: &[Json]) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["time_ns", "time", "value", "quality", "status_code"])?;
    for sample in samples {
        let fields = ["/time_ns", "/time", "/value", "/quality", "/status_code"];
        writer.write_record(fields.map(|field| cell(sample, field)))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn table(samples: &[Json]) -> String {
    if samples.is_empty() {
        return "there is no sample in this time\n".to_owned();
    }
    let headings = [
        ("time", Align::Left),
        ("value", Align::Right),
        ("quality", Align::Left),
        ("status", Align::Left),
    ];
    let row = |sample: &Json| {
        let fields = ["/time", "/value", "/quality", "/status"];
        fields.map(|field| cell(sample, field)).to_vec()
    };
    let rows: Vec<_> = samples.iter().map(row).collect();
    output::table(Style::stdout(), &headings, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_what_a_spreadsheet_needs_and_quote_what_must_be() {
        let samples = [json!({
            "time": "2026-05-04T12:00:00.000Z",
            "time_ns": "1777896000000000000",
            "value": "a, \"b\"",
            "quality": "Good",
            "status_code": 0,
        })];
        let text = csv(&samples).unwrap();
        assert_eq!(
            text.lines().nth(1),
            Some("1777896000000000000,2026-05-04T12:00:00.000Z,\"a, \"\"b\"\"\",Good,0")
        );
    }
}

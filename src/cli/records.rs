//! `weighbridge records`: the newest records of a ledger.

use super::ledger_from::Listing;
use super::output::{self, Align, Style, cell, short};
use clap::Args;
use serde_json::Value as Json;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `weighbridge records` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge records                                  of the hub running on this machine
  weighbridge records --device plc-1 --limit 5 --json
  weighbridge records --dir plant                      of a stopped hub
  weighbridge records --dir plant --key plant/keys/sealing.key
                                                       also what users did, in every detail

Exit codes: 0 listed, 1 the ledger cannot be read, 69 no hub answers.")]
pub(super) struct RecordsArgs {
    #[command(flatten)]
    listing: Listing,
    /// Only records about this device
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Also read what was retired into this archive
    #[arg(long, value_name = "DIR", requires = "dir")]
    archive: Option<PathBuf>,
    /// The hub's sealing key: shows the details of what users did
    #[arg(long, value_name = "FILE", requires = "dir")]
    key: Option<PathBuf>,
}

pub(super) fn run(args: RecordsArgs) -> anyhow::Result<ExitCode> {
    let answer = args.listing.records(
        args.device.as_deref(),
        args.key.as_deref(),
        args.archive.as_deref(),
    )?;
    if args.listing.json {
        output::print_json(&answer)?;
    } else {
        output::print(&text(&answer, Style::stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn text(answer: &Json, style: Style) -> String {
    let headings = [
        ("block", Align::Right),
        ("#", Align::Right),
        ("time", Align::Left),
        ("action", Align::Left),
        ("by", Align::Left),
        ("object", Align::Left),
        ("batch", Align::Right),
        ("samples", Align::Right),
        ("response", Align::Left),
        ("says", Align::Left),
        ("hash", Align::Left),
    ];
    let row = |record: &Json| {
        vec![
            cell(record, "/height"),
            cell(record, "/position"),
            cell(record, "/time"),
            cell(record, "/action"),
            cell(record, "/subject"),
            cell(record, "/object"),
            cell(record, "/content/batch/sequence"),
            cell(record, "/content/batch/samples"),
            cell(record, "/response"),
            says(record),
            short(&cell(record, "/hash")),
        ]
    };
    let records = answer.get("records").and_then(Json::as_array);
    match records.map(Vec::as_slice) {
        None | Some([]) => "there is no such record\n".to_owned(),
        Some(records) => {
            let rows: Vec<_> = records.iter().map(row).collect();
            output::table(style, &headings, &rows)
        }
    }
}

/// What the record says in short: the verdict, or what was done.
fn says(record: &Json) -> String {
    let kind = cell(record, "/content/message/kind");
    match record.get("details") {
        _ if kind.is_empty() => verdict(record),
        None => kind,
        Some(details) => {
            let details: String = details.to_string().chars().take(160).collect();
            format!("{kind} {details}")
        }
    }
}

/// Class of the verdict, and what signalled.
fn verdict(record: &Json) -> String {
    let class = cell(record, "/content/batch/verdict/class");
    let chart = cell(record, "/content/batch/verdict/chart");
    let rule = cell(record, "/content/batch/verdict/rule");
    match (chart.is_empty(), rule.is_empty()) {
        (true, true) => class,
        (false, true) => format!("{class} ({chart})"),
        (true, false) => format!("{class} ({rule})"),
        (false, false) => format!("{class} ({chart}: {rule})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_verdict_names_what_signalled() {
        let record = |class: &str, chart: &str, rule: &str| {
            let verdict = json!({"class": class, "chart": chart, "rule": rule});
            json!({"content": {"batch": {"verdict": verdict}}})
        };
        assert_eq!(verdict(&record("accepted", "", "")), "accepted");
        assert_eq!(verdict(&record("invalid", "", "nan")), "invalid (nan)");
        assert_eq!(
            verdict(&record("out_of_control", "ewma", "beyond_limit")),
            "out_of_control (ewma: beyond_limit)"
        );
        assert_eq!(verdict(&json!({"content": {"commitment": "00"}})), "");
    }
}

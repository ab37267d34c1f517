//! `weighbridge blocks`: the newest blocks of a ledger.

use super::ledger_from::Listing;
use super::output::{self, Align, Style, cell, short};
use clap::Args;
use serde_json::Value as Json;
use std::process::ExitCode;

/// What `weighbridge blocks` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge blocks                        of the hub running on this machine
  weighbridge blocks --limit 5 --json
  weighbridge blocks --dir plant/data       of a stopped hub

Exit codes: 0 listed, 1 the ledger cannot be read, 69 no hub answers.")]
pub(super) struct BlocksArgs {
    #[command(flatten)]
    listing: Listing,
    /// Only blocks below this height
    #[arg(long, value_name = "HEIGHT", value_parser = clap::value_parser!(u64).range(1..))]
    before: Option<u64>,
}

pub(super) fn run(args: BlocksArgs) -> anyhow::Result<ExitCode> {
    let answer = args.listing.blocks(args.before)?;
    if args.listing.json {
        output::print_json(&answer)?;
    } else {
        output::print(&text(&answer, Style::stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(answer: &Json, style: Style) -> String {
    let headings = [
        ("height", Align::Right),
        ("time", Align::Left),
        ("records", Align::Right),
        ("hash", Align::Left),
        ("state", Align::Left),
        ("signed by", Align::Left),
    ];
    let blocks = answer.get("blocks").and_then(Json::as_array);
    let row = |block: &Json| {
        vec![
            cell(block, "/height"),
            cell(block, "/time"),
            cell(block, "/record_count"),
            short(&cell(block, "/hash")),
            short(&cell(block, "/state_hash")),
            cell(block, "/signed_by"),
        ]
    };
    match blocks.map(Vec::as_slice) {
        None | Some([]) => "there is no block yet\n".to_owned(),
        Some(blocks) => {
            let rows: Vec<_> = blocks.iter().map(row).collect();
            output::table(style, &headings, &rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_line_a_block() {
        let answer = json!({"blocks": [{
            "height": 7, "time": "2026-01-02T03:04:05.678Z", "record_count": 3,
            "hash": "ab".repeat(32), "state_hash": "cd".repeat(32), "signed_by": ["hub-1"],
        }], "next": null});
        let text = text(&answer, Style { colour: false });
        let line = text.lines().nth(1).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[0], "7");
        assert_eq!(words[3], "abababababababab");
        assert_eq!(words[5], "hub-1");
    }

    #[test]
    fn an_empty_ledger_is_said_to_be_empty() {
        let text = text(
            &json!({"blocks": [], "next": null}),
            Style { colour: false },
        );
        assert_eq!(text, "there is no block yet\n");
    }
}

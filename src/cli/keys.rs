//! `weighbridge keys`: the keys that a hub's ledger knows, and another one for the hub.

use super::http_get::{HubUrl, get_json, post_json};
use super::next_key::MakeArgs;
use super::output::{self, Align, Style, cell};
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const CENTRES: &str = "/api/v1/keys/centres";

/// What `weighbridge keys` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge keys                 the keys of hub, edge nodes and devices, and those they had
  weighbridge keys rotate hub      a new signing key for the running hub, at once
  weighbridge keys rotate sealing  a new sealing key for it; what it recorded is wrapped anew
  weighbridge keys make edge:edge-1 new.key --chain main --replaces cell-a/keys/edge.key
  weighbridge keys enrol new.key.enrol.json

The old key signs a record that gives the hub the new one, and from the next block on the new one signs. The
new key takes the file of the old one, which is overwritten; edge nodes find it out by themselves. What was
signed before stays valid. docs/keys.md says what those do who were given the old key.

Whoever asks here is the user `local`; it takes \"security_admin\" in `roles` in [http].
Exit codes: 0 listed or done, 1 refused, 69 no hub answers.")]
pub(super) struct KeysArgs {
    /// A running hub
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL",
        global = true
    )]
    url: HubUrl,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Give somebody another key
    #[command(subcommand)]
    Rotate(Whose),
    /// The key generation centres; with their cards, another version of the set
    Centres {
        /// What each prints with `weighbridge centre card`
        cards: Vec<PathBuf>,
    },
    /// Make another key for an edge node or device; no hub is asked
    Make(MakeArgs),
    /// Show the hub the key that somebody has now: one that `make` or key generation centres made
    Enrol {
        /// What `weighbridge keys make` or `weighbridge centre answer` has written
        file: PathBuf,
    },
    /// Have it recorded who keeps a key from being made
    Complain {
        /// The file that went round
        making: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum Whose {
    /// The hub's signing key
    Hub,
    /// The hub's sealing key, which opens what it recorded
    Sealing,
}

pub(super) fn run(args: KeysArgs) -> anyhow::Result<ExitCode> {
    if let Some(Act::Make(make)) = &args.act {
        make.run()?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer = match &args.act {
        None | Some(Act::Make(_)) => get_json(&args.url, "/api/v1/keys", &[])?,
        Some(Act::Rotate(Whose::Hub)) => {
            post_json(&args.url, "/api/v1/keys/hub/rotate", &json!({}))?
        }
        Some(Act::Rotate(Whose::Sealing)) => {
            post_json(&args.url, "/api/v1/keys/sealing/rotate", &json!({}))?
        }
        Some(Act::Centres { cards }) if cards.is_empty() => get_json(&args.url, CENTRES, &[])?,
        Some(Act::Centres { cards }) => {
            let mut members: Vec<Json> = cards.iter().map(|c| read(c)).collect::<Result<_, _>>()?;
            members.sort_by_key(|member| cell(member, "/name"));
            post_json(&args.url, CENTRES, &json!({ "members": members }))?
        }
        Some(Act::Enrol { file }) => post_json(&args.url, "/api/v1/keys/enrol", &read(file)?)?,
        Some(Act::Complain { making }) => {
            post_json(&args.url, "/api/v1/keys/complain", &read(making)?)?
        }
    };
    if args.json {
        output::print_json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let height = &answer["height"];
    output::print(&match &args.act {
        None | Some(Act::Make(_)) => text(&answer, Style::stdout()),
        Some(Act::Rotate(Whose::Hub)) => rotated(&answer),
        Some(Act::Rotate(Whose::Sealing)) => format!(
            "new keys are wrapped to {}\n  in place of {}, which is kept until every wrap to it is made anew\n",
            cell(&answer, "/key"),
            cell(&answer, "/replaces"),
        ),
        Some(Act::Centres { cards }) if cards.is_empty() => sets(&answer),
        Some(Act::Centres { .. }) => format!(
            "block {height} records version {} of the centres\n",
            answer["version"]
        ),
        Some(Act::Enrol { .. }) => format!("block {height} records it\n"),
        Some(Act::Complain { .. }) => match answer["fault"].as_str() {
            Some(fault) => format!("on record: {fault}\n"),
            None => "nobody keeps it from being made\n".to_owned(),
        },
    })?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<Json> {
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("{} cannot be read", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no JSON", file.display()))
}

fn sets(answer: &Json) -> String {
    let sets = answer["sets"].as_array().into_iter().flatten();
    let lines = sets.map(|set| {
        let members = set["members"].as_array().into_iter().flatten();
        let names: Vec<_> = members.map(|member| cell(member, "/name")).collect();
        format!("version {}: {}\n", set["version"], names.join(", "))
    });
    let lines: String = lines.collect();
    match lines.is_empty() {
        true => "there are no key generation centres\n".to_owned(),
        false => lines,
    }
}

fn rotated(answer: &Json) -> String {
    format!(
        "the hub signs by the key {}\n  since block {}, in place of {}\n",
        cell(answer, "/key"),
        answer["height"],
        cell(answer, "/replaces"),
    )
}

fn text(answer: &Json, style: Style) -> String {
    let headings = [
        ("kind", Align::Left),
        ("id", Align::Left),
        ("key", Align::Left),
        ("before", Align::Right),
        ("", Align::Left),
    ];
    let keys = answer["keys"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = keys
        .map(|known| {
            let former = known["former"].as_array().map_or(0, Vec::len);
            let key = match known["key"].as_str() {
                Some(key) => key.to_owned(),
                None => "none of its own".to_owned(),
            };
            let revoked = match known["revoked"].as_bool() {
                Some(true) => "withdrawn".to_owned(),
                _ => String::new(),
            };
            let (kind, id) = (cell(known, "/kind"), cell(known, "/id"));
            vec![kind, id, key, former.to_string(), revoked]
        })
        .collect();
    let mut text = output::table(style, &headings, &rows);
    let sealing = &answer["sealing"];
    if let Some(key) = sealing["key"].as_str() {
        text.push_str(&format!("\nthe hub's sealing key is {key}\n"));
    }
    for former in sealing["former"].as_array().into_iter().flatten() {
        let former = former.as_str().unwrap_or_default();
        let why = sealing["waits_for"]
            .as_str()
            .unwrap_or("what is wrapped to it");
        text.push_str(&format!("  {former} is still kept, for: {why}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_whose_key_it_is_and_how_many_there_were_before() {
        let answer = json!({"keys": [
            {"id": "hub-1", "kind": "hub", "key": "02ab", "former": ["03cd"], "revoked": false},
            {"id": "press-1", "kind": "device", "key": null, "former": [], "revoked": true},
        ], "sealing": {"key": "03ee", "former": ["02dd"], "waits_for": "some wraps"}});
        let text = text(&answer, Style { colour: false });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("hub-1") && lines[1].contains("02ab") && lines[1].contains('1'));
        assert!(lines[2].contains("none of its own") && lines[2].contains("withdrawn"));
        assert!(text.contains("sealing key is 03ee"));
        assert!(text.contains("02dd is still kept, for: some wraps"));
    }
}

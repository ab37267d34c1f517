//! `weighbridge watch`: live values as they change.
//!
//! On a terminal a table that is drawn anew; into a pipe one line a change. What is watched is asked
//! for in turns, so a value that came and went between two looks is not seen: the record has it.

use super::http_get::{HubUrl, Unreachable, get_json, path};
use super::live::{self, Row};
use super::output::{self, Align, Style, cell};
use anyhow::Context;
use clap::Args;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Tags watched at most.
const MOST_TAGS: usize = 1_000;
/// Lines of the table where the terminal does not say how many it has.
const LINES: usize = 40;
/// How long until a hub that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// What `weighbridge watch` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge watch                                    all tags of the hub on this machine
  weighbridge watch plc-1 robot-1/axis_1
  weighbridge watch plc-1/temperature --json | jq .value
  weighbridge watch plc-1 --every 100 --for 10 > changes.txt

It ends with Ctrl-C.

Exit codes: 0 ended as told, 1 there is no such device or tag, 69 no hub answers at the start.")]
pub(super) struct WatchArgs {
    /// Devices and tags; all when there are none
    #[arg(value_name = "DEVICE[/TAG]")]
    targets: Vec<String>,
    /// A running hub
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL"
    )]
    url: HubUrl,
    /// Look every so many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    every: u64,
    /// End after so many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Print one JSON object a change
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let drawn = !args.json && std::io::stdout().is_terminal();
    let end = args
        .seconds
        .map(|s| Instant::now() + Duration::from_secs(s));
    let mut seen = Seen::default();
    let mut answered = false;
    loop {
        let mut wait = Duration::from_millis(args.every);
        match look(&args) {
            Ok(look) => {
                answered = true;
                let went_on = if drawn {
                    draw(&look, Style::stdout())
                } else {
                    print_changes(&mut seen, &look, args.json)
                };
                if !went_on? {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Err(error) if answered && error.is::<Unreachable>() => {
                wait = AGAIN;
                eprintln!("{error:#}; next attempt in {} s", AGAIN.as_secs());
            }
            Err(error) => return Err(error),
        }
        if end.is_some_and(|end| Instant::now() + wait > end) {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(wait);
    }
}

/// What is seen at one look.
struct Look {
    /// Devices with their connections.
    links: Vec<(String, Json)>,
    /// Devices and tags.
    tags: Vec<(String, Json)>,
    /// Whether there are more tags than are watched.
    more: bool,
}

fn look(args: &WatchArgs) -> anyhow::Result<Look> {
    let mut look = Look {
        links: Vec::new(),
        tags: Vec::new(),
        more: false,
    };
    let limit = [("limit", MOST_TAGS.to_string())];
    if args.targets.is_empty() {
        let devices = get_json(&args.url, "/api/v1/devices", &limit)?;
        for device in items(&devices, "devices")? {
            look.links
                .push((cell(device, "/id"), device["link"].clone()));
        }
        let tags = get_json(&args.url, "/api/v1/tags", &limit)?;
        look.more = tags["next"].is_string();
        for tag in items(&tags, "tags")? {
            look.tags.push((cell(tag, "/device"), tag.clone()));
        }
        return Ok(look);
    }
    for target in &args.targets {
        let (device, tag) = match target.split_once('/') {
            None => (target.as_str(), None),
            Some((device, tag)) => (device, Some(tag)),
        };
        let of_device = path(&["api", "v1", "devices", device]);
        let link = match tag {
            Some(tag) => {
                let tag = get_json(&args.url, &(of_device + &path(&["tags", tag])), &[])?;
                let link = tag["link"].clone();
                look.tags.push((device.to_owned(), tag));
                link
            }
            None => {
                let whole = get_json(&args.url, &of_device, &limit)?;
                let tags = items(&whole, "tags")?.iter();
                look.tags
                    .extend(tags.map(|tag| (device.to_owned(), tag.clone())));
                whole["link"].clone()
            }
        };
        if !look.links.iter().any(|(known, _)| known == device) {
            look.links.push((device.to_owned(), link));
        }
    }
    Ok(look)
}

fn items<'a>(answer: &'a Json, name: &str) -> anyhow::Result<&'a Vec<Json>> {
    let items = answer.get(name).and_then(Json::as_array);
    items.with_context(|| format!("the answer has no `{name}`"))
}

/// What was printed last.
#[derive(Default)]
struct Seen {
    links: BTreeMap<String, String>,
    /// Value and status of each device and tag.
    tags: BTreeMap<(String, String), (Json, Json)>,
}

impl Seen {
    /// The lines that tell what has changed since the last look.
    fn changes(&mut self, look: &Look, json: bool) -> Vec<String> {
        let mut lines = Vec::new();
        for (device, link) in &look.links {
            let state = cell(link, "/state");
            if self.links.insert(device.clone(), state.clone()) == Some(state.clone()) {
                continue;
            }
            lines.push(match (json, live::trouble(link)) {
                (true, _) => json!({"device": device, "link": link}).to_string(),
                (false, Some(trouble)) => format!("{device} is down: {trouble}"),
                (false, None) => format!("{device} is {state}"),
            });
        }
        for (device, tag) in &look.tags {
            let Some(sample) = tag.get("sample").filter(|sample| !sample.is_null()) else {
                continue;
            };
            let name = cell(tag, "/tag");
            let now = (sample["value"].clone(), sample["status"].clone());
            let key = (device.clone(), name.clone());
            if self.tags.get(&key) == Some(&now) {
                continue;
            }
            self.tags.insert(key, now);
            lines.push(if json {
                json!({
                    "device": device, "tag": name, "unit": tag["unit"], "value": sample["value"],
                    "quality": sample["quality"], "status": sample["status"],
                    "time": sample["time"], "time_ns": sample["time_ns"],
                })
                .to_string()
            } else {
                let (time, value) = (cell(sample, "/time"), cell(sample, "/value"));
                let (unit, status) = (cell(tag, "/unit"), cell(sample, "/status"));
                let line = format!("{time}  {device}/{name}  {value} {unit}");
                format!("{}  {status}", line.trim_end())
            });
        }
        lines
    }
}

/// Prints what has changed; false when nobody reads it any more.
fn print_changes(seen: &mut Seen, look: &Look, json: bool) -> anyhow::Result<bool> {
    if look.more && seen.links.is_empty() {
        eprintln!("only the first {MOST_TAGS} tags are watched: name the devices to see others");
    }
    let mut out = std::io::stdout().lock();
    for line in seen.changes(look, json) {
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(false),
            other => other?,
        }
    }
    Ok(true)
}

/// Draws the table over the one before.
fn draw(look: &Look, style: Style) -> anyhow::Result<bool> {
    let lines = std::env::var("LINES").ok().and_then(|l| l.parse().ok());
    let room = lines.unwrap_or(LINES);
    let text = table(look, style, room);
    // Home, every line cleared behind its end, and all below the last one.
    let text = text.replace('\n', "\x1b[K\n");
    output::print(&format!("\x1b[H{text}\x1b[J"))?;
    Ok(true)
}

fn table(look: &Look, style: Style, room: usize) -> String {
    let mut text = String::new();
    for (device, link) in &look.links {
        if let Some(trouble) = live::trouble(link) {
            text.push_str(&style.red(&format!("{device} is down: {trouble}")));
            text.push('\n');
        }
    }
    let room = room.saturating_sub(text.lines().count() + 3).max(5);
    let headings = [
        ("device", Align::Left),
        ("tag", Align::Left),
        ("value", Align::Right),
        ("unit", Align::Left),
        ("quality", Align::Left),
        ("time", Align::Left),
    ];
    let rows = look.tags.iter().take(room).map(|(device, tag)| {
        let mut cells = vec![device.clone()];
        cells.extend(Row::new(tag).cells());
        cells
    });
    text.push_str(&output::table(style, &headings, &rows.collect::<Vec<_>>()));
    let hidden = look.tags.len().saturating_sub(room);
    if hidden > 0 || look.more {
        let more = if look.more { "at least " } else { "" };
        text.push_str(&format!(
            "{more}{hidden} more: name a device to see its tags, or pipe this into a file\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(value: Json, state: &str) -> Look {
        let sample = json!({"value": value, "status": "Good", "quality": "Good", "time": "t"});
        let tag = json!({"tag": "speed", "unit": "m/s", "sample": sample});
        Look {
            links: vec![("plc".into(), json!({"state": state, "reason": "silent"}))],
            tags: vec![("plc".into(), tag)],
            more: false,
        }
    }

    #[test]
    fn only_changes_are_printed() {
        let mut seen = Seen::default();
        let mut lines = |value: Json, state| seen.changes(&look(value, state), false);
        assert_eq!(
            lines(json!(1), "up"),
            ["plc is up", "t  plc/speed  1 m/s  Good"]
        );
        assert!(lines(json!(1), "up").is_empty());
        assert_eq!(lines(json!(2), "up"), ["t  plc/speed  2 m/s  Good"]);
        let down = lines(json!(2), "down");
        assert!(
            down.len() == 1 && down[0].starts_with("plc is down: silent"),
            "{down:?}"
        );
        assert_eq!(lines(json!(2), "up"), ["plc is up"]);
    }

    #[test]
    fn changes_as_json_are_whole_objects() {
        let lines = Seen::default().changes(&look(json!(1.5), "up"), true);
        let tag: Json = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(tag["device"], "plc");
        assert_eq!(tag["value"], 1.5);
    }

    #[test]
    fn the_table_says_what_it_leaves_out() {
        let mut many = look(json!(1), "down");
        many.tags = vec![many.tags[0].clone(); 100];
        let text = table(&many, Style { colour: false }, 20);
        assert!(text.starts_with("plc is down: silent"), "{text}");
        assert!(text.contains("84 more"), "{text}");
        assert!(text.lines().count() <= 20);
    }
}

//! `weighbridge status`: a running hub or edge node at a glance.

mod edge;

use super::http_get::{HubUrl, get_json};
use super::live;
use super::output::{self, Align, Style, bytes, cell, short};
use clap::Args;
use serde_json::Value as Json;
use std::process::ExitCode;

/// What `weighbridge status` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge status
  weighbridge status --url http://127.0.0.1:8081 --json    an edge node too, where its file has `http`

Exit codes: 0 the hub answered, 1 it did not answer as a hub does, 69 no hub answers.")]
pub(super) struct StatusArgs {
    /// The hub or edge node
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL"
    )]
    url: HubUrl,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let mut status = get_json(&args.url, "/api/v1/status", &[])?;
    let style = Style::stdout();
    if status.get("edge").is_some() {
        // An edge node's devices are in its status.
        match args.json {
            true => output::print_json(&status)?,
            false => output::print(&edge::text(&status, style))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let limit = [("limit", "1000".to_owned())];
    let mut devices = get_json(&args.url, "/api/v1/devices", &limit)?;
    let devices = devices.get_mut("devices").map(Json::take);
    let devices = devices.unwrap_or_default();
    if args.json {
        if let Json::Object(fields) = &mut status {
            fields.insert("device_list".to_owned(), devices);
        }
        output::print_json(&status)?;
    } else {
        let devices = devices.as_array().map_or(&[][..], Vec::as_slice);
        let parts = [
            text(&status, style),
            warnings(&status, style),
            troubles(devices, style),
            list(devices, style),
        ];
        output::print(&parts.concat())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for each thing that ends soon, ten at most.
fn warnings(status: &Json, style: Style) -> String {
    let warnings = status.get("warnings").and_then(Json::as_array);
    let said = warnings.into_iter().flatten().filter_map(Json::as_str);
    let said: Vec<_> = said
        .map(|line| line.replace(char::is_control, " "))
        .collect();
    lines(&style.yellow("expiry"), &said)
}

/// One line for each device that is down, ten at most.
fn troubles(devices: &[Json], style: Style) -> String {
    let down = devices.iter().filter_map(|device| {
        let trouble = live::trouble(device.get("link")?)?;
        Some(format!("{}: {trouble}", cell(device, "/id")))
    });
    lines(&style.red("down"), &down.collect::<Vec<_>>())
}

/// So many lines under one word.
const LINES: usize = 10;

fn lines(word: &str, said: &[String]) -> String {
    let mut text = String::new();
    for line in said.iter().take(LINES) {
        text.push_str(&format!("{word:<10}{line}\n"));
    }
    if said.len() > LINES {
        text.push_str(&format!("          and {} more\n", said.len() - LINES));
    }
    text
}

/// Most devices that are listed; JSON has all.
const LISTED: usize = 20;

/// The devices, and what they say that they are.
fn list(devices: &[Json], style: Style) -> String {
    if devices.is_empty() {
        return String::new();
    }
    let headings = [
        ("device", Align::Left),
        ("link", Align::Left),
        ("says that it is", Align::Left),
        ("address", Align::Left),
    ];
    let row = |device: &Json| {
        let part = |name: &str| cell(device, &format!("/nameplate/{name}"));
        let said = ["manufacturer", "product", "model", "version"].map(part);
        let said: Vec<_> = said.into_iter().filter(|part| !part.is_empty()).collect();
        vec![
            cell(device, "/id"),
            cell(device, "/link/state"),
            said.join(" "),
            cell(device, "/address"),
        ]
    };
    let rows: Vec<_> = devices.iter().take(LISTED).map(row).collect();
    let mut text = format!("\n{}", output::table(style, &headings, &rows));
    if devices.len() > LISTED {
        text.push_str(&format!(
            "and {} more: --json has all\n",
            devices.len() - LISTED
        ));
    }
    text
}

fn text(status: &Json, style: Style) -> String {
    let number = |pointer: &str| {
        status
            .pointer(pointer)
            .and_then(Json::as_f64)
            .unwrap_or(0.0)
    };
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        out.push_str(&format!("{}{value}\n", style.bold(&format!("{name:<10}"))));
    };
    let at = |pointer: &str| cell(status, pointer);
    let up = duration(number("/uptime_seconds"));
    line(
        "hub",
        format!("{}, version {}, up {up}", at("/hub"), at("/version")),
    );
    let down = number("/devices/down");
    let links = format!(
        "{} of {} up, {} down, {} starting",
        at("/devices/up"),
        at("/devices/total"),
        at("/devices/down"),
        at("/devices/starting"),
    );
    line(
        "devices",
        if down > 0.0 { style.red(&links) } else { links },
    );
    for node in edge::nodes(status, style) {
        line("edge", node);
    }
    let escrow = status.get("escrow").and_then(Json::as_array);
    for name in escrow.into_iter().flatten().filter_map(Json::as_str) {
        let said =
            format!("every key is wrapped to {name} as well: its owner can open what is recorded");
        line("escrow", style.yellow(&said));
    }
    let dropped = number("/dropped");
    let dropped_text = format!("{dropped:.0} dropped");
    let dropped_text = if dropped > 0.0 {
        style.red(&dropped_text)
    } else {
        dropped_text
    };
    let rate = number("/points_per_second");
    line(
        "points",
        format!(
            "{rate:.0}/s, {} recorded since start, {dropped_text}",
            at("/points")
        ),
    );
    line(
        "batches",
        format!(
            "{} accepted, {}, {}",
            at("/batches/accepted"),
            style.yellow(&format!("{} out of control", at("/batches/out_of_control"))),
            style.red(&format!("{} invalid", at("/batches/invalid"))),
        ),
    );
    let last = match at("/last_block_hash").as_str() {
        "" => "no block yet".to_owned(),
        hash => format!(
            "height {}, {} records, newest block {} of {}",
            at("/height"),
            at("/records"),
            short(hash),
            at("/last_block_time"),
        ),
    };
    line("ledger", last);
    if let Some(cluster) = status.get("cluster").filter(|c| !c.is_null()) {
        line("cluster", super::cluster::line(cluster, style));
        let alarms = cluster["alarms"].as_array().into_iter().flatten();
        for alarm in alarms.filter_map(Json::as_str) {
            let alarm = alarm.replace(char::is_control, " ");
            line("", style.red(&alarm));
        }
    }
    if let Some(kept) = retention(status, style) {
        line("retention", kept);
    }
    if let Some(config) = config(status, style) {
        line("config", config);
    }
    let opcua = at("/opcua_url");
    if !opcua.is_empty() {
        line("OPC UA", opcua);
    }
    if let Some(memory) = status.get("memory_bytes").and_then(Json::as_f64) {
        let cpu = number("/cpu_seconds");
        line(
            "process",
            format!("{}, {cpu:.1} s of CPU time", bytes(memory)),
        );
    }
    out
}

/// What is kept, where not everything is.
fn retention(status: &Json, style: Style) -> Option<String> {
    let retention = status.get("retention").filter(|r| !r.is_null())?;
    let number = |key: &str| retention.get(key).and_then(Json::as_f64).unwrap_or(0.0);
    let mut text = format!(
        "batches after block {}, bodies after block {}; {} used",
        number("batches_horizon"),
        number("bodies_horizon"),
        bytes(number("used_bytes")),
    );
    if number("max_bytes") > 0.0 {
        text += &format!(" of {}", bytes(number("max_bytes")));
    }
    if number("segments") > 0.0 {
        let archived = bytes(number("archived_bytes"));
        text += &format!(", {archived} archived in {}", cell(retention, "/archive"));
    }
    let trouble = cell(retention, "/trouble");
    if !trouble.is_empty() {
        text += &style.red(&format!("; {trouble}"));
    }
    Some(text)
}

/// What is to be said of the configuration, if anything.
fn config(status: &Json, style: Style) -> Option<String> {
    let at = |pointer: &str| cell(status, pointer);
    let mut parts = Vec::new();
    if status
        .pointer("/config/refused")
        .is_some_and(|r| !r.is_null())
    {
        let (errors, first) = (at("/config/refused/errors"), at("/config/refused/first"));
        parts.push(style.red(&format!(
            "not taken over, it has {errors} mistake(s): {first}"
        )));
    }
    let restart = status
        .pointer("/config/needs_restart")
        .and_then(Json::as_array);
    let restart: Vec<_> = restart
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    if !restart.is_empty() {
        let keys = restart.join(", ");
        parts.push(style.yellow(&format!("takes effect after a restart: {keys}")));
    }
    if status
        .pointer("/config/last_change")
        .is_some_and(|c| !c.is_null())
    {
        parts.push(format!(
            "changed {}: {} added, {} removed, {} built anew",
            at("/config/last_change/time"),
            at("/config/last_change/added"),
            at("/config/last_change/removed"),
            at("/config/last_change/changed"),
        ));
    }
    (!parts.is_empty()).then(|| parts.join("\n          "))
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    // Saturates; an up-time is never negative.
    let seconds = seconds.max(0.0) as u64;
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_as_people_say_them() {
        let texts = [0.4, 61.0, 3_700.0, 200_000.0].map(duration);
        assert_eq!(texts, ["0 s", "1 min 1 s", "1 h 1 min", "2 d 7 h"]);
    }

    #[test]
    fn what_is_kept_is_said_where_not_everything_is() {
        let plain = Style { colour: false };
        assert_eq!(retention(&json!({"retention": null}), plain), None);
        let status = json!({"retention": {
            "bodies_horizon": 7, "batches_horizon": 9, "used_bytes": 1_048_576, "max_bytes": 2_097_152,
            "segments": 2, "archived_bytes": 1_048_576, "archive": "/a", "trouble": "the archive: no room",
        }});
        let text = retention(&status, plain).unwrap();
        for part in [
            "batches after block 9, bodies after block 7",
            "archived in /a",
            "; the archive: no room",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_status_is_readable_and_an_empty_one_no_panic() {
        let plain = Style { colour: false };
        let status = json!({
            "hub": "hub-1", "version": "0.1.0", "uptime_seconds": 12.5, "height": 3,
            "last_block_hash": "ab".repeat(32), "last_block_time": "t", "records": 9,
            "points": 100, "points_per_second": 50.2, "dropped": 0,
            "batches": {"total": 4, "accepted": 2, "out_of_control": 1, "invalid": 1},
            "devices": {"total": 5, "up": 5, "starting": 0, "down": 0},
            "opcua_url": "opc.tcp://127.0.0.1:4840/", "memory_bytes": 1048576, "cpu_seconds": 1.0,
            "config": {
                "last_change": null, "needs_restart": ["http.bind"],
                "refused": {"errors": 2, "first": "hub.toml:3:1: no"},
            },
        });
        let text = text(&status, plain);
        assert!(
            text.contains("hub       hub-1, version 0.1.0, up 12 s"),
            "{text}"
        );
        assert!(text.contains("5 of 5 up"), "{text}");
        assert!(text.contains("height 3, 9 records"), "{text}");
        assert!(text.contains("2 mistake(s): hub.toml:3:1: no"), "{text}");
        assert!(text.contains("after a restart: http.bind"), "{text}");
        super::text(&json!({}), plain);
    }

    #[test]
    fn devices_say_what_they_are_and_what_ends_soon_is_said_first() {
        let plain = Style { colour: false };
        let device = |i: usize| {
            json!({
                "id": format!("plc-{i}"), "address": "h:502", "link": {"state": "up"},
                "nameplate": {"manufacturer": "Weighs & Co", "product": "Press", "model": "", "version": "2"},
            })
        };
        let devices: Vec<_> = (0..25).map(device).collect();
        let said = list(&devices, plain);
        assert!(said.contains("Weighs & Co Press 2"), "{said}");
        assert!(said.contains("and 5 more"), "{said}");
        assert_eq!(list(&[], plain), "");
        let status = json!({"warnings": ["plc-1: our certificate expires in 12 days"]});
        let said = warnings(&status, plain);
        assert_eq!(
            said,
            "expiry    plc-1: our certificate expires in 12 days\n"
        );
        assert_eq!(warnings(&json!({}), plain), "");
    }
}

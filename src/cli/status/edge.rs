//! Edge nodes at a glance: as one of them says it of itself, and as a hub says it of those it has.

use super::super::live;
use super::super::output::{Style, bytes, cell};
use super::{config, duration};
use serde_json::Value as Json;

/// Devices that are listed with their buffers.
const LISTED: usize = 20;

/// What an edge node says of itself.
pub(super) fn text(status: &Json, style: Style) -> String {
    let number = |pointer: &str| {
        let number = status.pointer(pointer).and_then(Json::as_f64);
        number.unwrap_or(0.0)
    };
    let at = |pointer: &str| cell(status, pointer);
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        out.push_str(&format!("{}{value}\n", style.bold(&format!("{name:<10}"))));
    };
    let up = duration(number("/uptime_seconds"));
    let (edge, version) = (at("/edge"), at("/version"));
    line("edge node", format!("{edge}, version {version}, up {up}"));
    line("hub", uplink(status, style));
    let links = format!(
        "{} of {} up, {} down, {} starting",
        at("/devices/up"),
        at("/devices/total"),
        at("/devices/down"),
        at("/devices/starting"),
    );
    let down = number("/devices/down") > 0.0;
    line("devices", if down { style.red(&links) } else { links });
    let mut buffer = format!(
        "{} batches wait, {} of {}, when full {}",
        at("/buffer/batches"),
        bytes(number("/buffer/bytes")),
        bytes(number("/buffer/limit_bytes")),
        at("/buffer/when_full"),
    );
    for (key, what) in [
        ("/buffer/dropped_samples", "samples dropped by that policy"),
        ("/buffer/damaged_batches", "batches lost by the disk"),
    ] {
        if number(key) > 0.0 {
            buffer += &format!(", {}", style.red(&format!("{} {what}", at(key))));
        }
    }
    line("buffer", buffer);
    let lanes = status.get("lanes").and_then(Json::as_array);
    let lanes = lanes.map_or(&[][..], Vec::as_slice);
    for lane in lanes.iter().take(LISTED) {
        line("", device(lane, style));
    }
    if lanes.len() > LISTED {
        line("", format!("and {} more", lanes.len() - LISTED));
    }
    if let Some(config) = config(status, style) {
        line("config", config);
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

fn uplink(status: &Json, style: Style) -> String {
    let at = |key: &str| cell(status, &format!("/uplink/{key}"));
    match at("state").as_str() {
        "up" => format!("{} at {}, since {}", at("hub"), at("address"), at("since")),
        "down" => {
            let last = match at("last_success").as_str() {
                "" => "none was heard since the start".to_owned(),
                time => format!("last heard {time}"),
            };
            style.red(&format!(
                "none: {}; {last}; next attempt {}",
                at("reason"),
                at("retry_at")
            ))
        }
        _ => "not tried yet".to_owned(),
    }
}

fn device(lane: &Json, style: Style) -> String {
    let at = |pointer: &str| cell(lane, pointer);
    let size = lane.get("buffered_bytes").and_then(Json::as_f64);
    let mut text = format!(
        "{}: {}, {} batches wait ({})",
        at("/device"),
        at("/link/state"),
        at("/buffered_batches"),
        bytes(size.unwrap_or(0.0)),
    );
    if let Some(trouble) = lane.get("link").and_then(live::trouble) {
        text += &format!("; {}", style.red(&trouble));
    }
    if !at("/refused").is_empty() {
        let refused = format!("the hub does not take it: {}", at("/refused"));
        text += &format!("; {}", style.red(&refused));
    }
    text
}

/// What a hub says of its edge nodes, one line each.
pub(super) fn nodes(status: &Json, style: Style) -> Vec<String> {
    let nodes = status.get("edges").and_then(Json::as_array);
    let node = |node: &Json| {
        let at = |pointer: &str| cell(node, pointer);
        let number = |key: &str| node.get(key).and_then(Json::as_f64);
        let mut text = format!("{}: {} devices, ", at("/id"), at("/devices"));
        text += &match node.get("connected").and_then(Json::as_bool) {
            Some(true) => format!("connected since {}", at("/since")),
            _ => {
                let last = match at("/last_heard").as_str() {
                    "" => "never heard since the hub started".to_owned(),
                    time => format!("last heard {time}"),
                };
                style.red(&format!("not connected: {}; {last}", at("/reason")))
            }
        };
        if number("buffered_batches") > Some(0.0) {
            let size = bytes(number("buffered_bytes").unwrap_or(0.0));
            text += &format!(", {} batches wait there ({size})", at("/buffered_batches"));
        }
        if let Some(lag) = number("lag_seconds") {
            text += &format!(", newest values {lag:.1} s old");
        }
        text
    };
    nodes.into_iter().flatten().map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_edge_node_is_readable_and_an_empty_one_no_panic() {
        let plain = Style { colour: false };
        let status = json!({
            "edge": "edge-1", "version": "0.1.0", "uptime_seconds": 12.5,
            "uplink": {
                "state": "down", "reason": "192.0.2.1:4850: refused", "last_success": "t1",
                "retry_at": "t2",
            },
            "devices": {"total": 1, "up": 1, "down": 0, "starting": 0},
            "buffer": {
                "when_full": "drop_oldest", "batches": 7, "bytes": 1048576, "limit_bytes": 2097152,
                "dropped_samples": 12,
            },
            "lanes": [{
                "device": "press-1", "buffered_batches": 7, "buffered_bytes": 1048576,
                "link": {"state": "up"}, "refused": "other tags",
            }],
        });
        let text = text(&status, plain);
        for part in [
            "none: 192.0.2.1:4850: refused; last heard t1; next attempt t2",
            "7 batches wait",
            "12 samples dropped by that policy",
            "press-1: up, 7 batches wait",
            "the hub does not take it: other tags",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        super::text(&json!({}), plain);
        let hub = json!({"edges": [
            {"id": "edge-1", "connected": false, "devices": 2, "reason": "gone", "last_heard": "t",
             "buffered_batches": 3, "buffered_bytes": 10, "lag_seconds": 1.25},
        ]});
        let nodes = nodes(&hub, plain);
        let said = "edge-1: 2 devices, not connected: gone; last heard t, 3 batches wait there";
        assert!(nodes[0].starts_with(said), "{nodes:?}");
        assert!(nodes[0].ends_with("newest values 1.2 s old"), "{nodes:?}");
    }
}

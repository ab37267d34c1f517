//! What must hold between hubs and edge nodes as far as one file shows it.

use super::{Input, exclusive, unique};
use crate::config::diagnostic::{Diagnostic, Related};
use crate::config::tree::Step::{Index, Key};
use crate::config::tree::{self, Step};
use crate::config::{DeviceConfig, EdgeSection, HubConfig};

/// Sections that make no sense beside `[edge]`.
const OF_HUBS: [&str; 5] = ["hub", "ledger", "opcua_server", "edges", "http"];

/// A file of an edge node.
pub(super) fn edge_node(edge: &EdgeSection, input: &Input<'_>, found: &mut Vec<Diagnostic>) {
    let own = input.spot(&[Key("edge")]);
    for section in OF_HUBS {
        let Some(spot) = tree::find(input.root, &[Key(section)]) else {
            continue;
        };
        let message = format!("`[{section}]` is a hub's, and `[edge]` makes this an edge node");
        let mut d = input.error(&spot.key, message, "an edge node has none");
        d.related.push(Related {
            place: input.source.place(&own.key),
            label: "this makes it an edge node".to_owned(),
        });
        d.help.push(match section {
            "hub" => "an edge node's id and key stand in `[edge]`".to_owned(),
            _ => format!("take `[{section}]` away, or `[edge]`"),
        });
        found.push(d);
    }
    if edge.hubs.is_empty() && !input.was_wrong(&own.value, "hub") {
        let message = "the edge node has no hub to upload to".to_owned();
        let mut d = input.error(&own.value, message, "no `[[edge.hub]]` under it");
        d.suggestion = Some("[[edge.hub]]".to_owned());
        d.help.push(
            "`weighbridge card --config hub.toml`, run at the hub, prints what belongs here"
                .to_owned(),
        );
        found.push(d);
    }
    let addresses = edge.hubs.iter().map(|h| h.address.as_str());
    unique(input, "hub's address", addresses, found, |i| {
        vec![Key("edge"), Key("hub"), Index(i), Key("address")]
    });
}

/// The edge nodes of a hub.
pub(super) fn edges(config: &HubConfig, input: &Input<'_>, found: &mut Vec<Diagnostic>) {
    let Some(edges) = &config.edges else {
        return;
    };
    let at = |i, key| vec![Key("edges"), Key("node"), Index(i), Key(key)];
    let ids = edges.nodes.iter().map(|n| n.id.as_str());
    unique(input, "edge node's id", ids, found, |i| at(i, "id"));
    let keys: Vec<_> = edges.nodes.iter().map(|n| n.key.to_string()).collect();
    let keys = keys.iter().map(String::as_str);
    unique(input, "key", keys, found, |i| at(i, "key"));
    for (i, node) in edges.nodes.iter().enumerate() {
        if node.id != config.hub.id {
            continue;
        }
        let message = format!("the edge node `{}` has the hub's own id", node.id);
        let span = input.spot(&at(i, "id")).value;
        let mut d = input.error(&span, message, "the ledger could not tell them apart");
        d.help.push("give one of them another id".to_owned());
        found.push(d);
    }
}

/// Whether a device is read as it can be.
pub(super) fn feeding(
    config: &HubConfig,
    device: &DeviceConfig,
    at: usize,
    input: &Input<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let path = |key| [Key("device"), Index(at), Key(key)];
    if let Some(edge) = &device.edge {
        let spot = input.spot(&path("edge"));
        let others = [
            ("modbus", device.modbus.is_some()),
            ("opcua", device.opcua.is_some()),
        ];
        for (other, _) in others.into_iter().filter(|(_, there)| *there) {
            let message = format!("device `{}` has both `{other}` and `edge`", device.id);
            let other = input.spot(&path(other)).key;
            let help = "either this hub reads it, or the edge node does, and has its address";
            found.push(exclusive(input, message, other, spot.key.clone(), help));
        }
        unknown_edge(config, edge, &spot.value, input, found);
    }
    for (i, tag) in device.tags.iter().enumerate() {
        let of_tag = |key| [Key("device"), Index(at), Key("tag"), Index(i), Key(key)];
        if tag.kind.is_some() && device.edge.is_none() {
            let message = format!("tag `{}` has a `type` of its own", tag.name);
            let span = input.spot(&of_tag("type")).key;
            let mut d = input.error(&span, message, "only where an edge node reads the device");
            d.help.push(
                "elsewhere the type stands with the address: `modbus = { …, type = \"f32\" }`"
                    .to_owned(),
            );
            found.push(d);
        }
        let addressed = [
            ("modbus", tag.modbus.is_some()),
            ("opcua", tag.opcua.is_some()),
        ];
        let addressed = addressed.iter().find(|(_, there)| *there);
        if let (Some(edge), Some((key, _))) = (&device.edge, addressed) {
            let message = format!(
                "tag `{}` has an address that this hub has no use for",
                tag.name
            );
            let label = format!("the edge node `{edge}` reads it, and needs the address there");
            let path: &[Step<'_>] = &of_tag(key);
            let mut d = input.error(&input.spot(path).key, message, &label);
            d.help.push(
                "here a tag has its name, type, unit, range and validation; the address stands in \
                 the edge node's file"
                    .to_owned(),
            );
            found.push(d);
        }
    }
}

fn unknown_edge(
    config: &HubConfig,
    edge: &str,
    span: &std::ops::Range<usize>,
    input: &Input<'_>,
    found: &mut Vec<Diagnostic>,
) {
    if config.edge.is_some() {
        let message = "an edge node reads its devices itself".to_owned();
        let mut d = input.error(span, message, "this is for a hub's file");
        d.help
            .push("give it `modbus` or `opcua`, with its address".to_owned());
        found.push(d);
        return;
    }
    let nodes = config.edges.iter().flat_map(|e| &e.nodes);
    if nodes.clone().any(|n| n.id == edge) {
        return;
    }
    let message = format!("there is no edge node `{edge}`");
    let mut d = input.error(span, message, "no `[[edges.node]]` has this id");
    let known: Vec<_> = nodes.map(|n| format!("`{}`", n.id)).collect();
    d.help.push(if known.is_empty() {
        "add `[edges]` with `bind`, and an `[[edges.node]]`; `weighbridge card --config \
         edge.toml`, run at the edge node, prints what belongs there"
            .to_owned()
    } else {
        format!("edge nodes known here: {}", known.join(", "))
    });
    found.push(d);
}

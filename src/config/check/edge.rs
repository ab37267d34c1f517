//! What must hold between hubs and edge nodes as far as one file shows it.

use super::{Place, exclusive, only_loopback, unique};
use crate::config::diagnostic::Diagnostic;
use crate::config::reader::ReadDevice;
use crate::config::source::Span;
use crate::config::tree;
use crate::config::{BufferConfig, EdgeSection, HubConfig, TagConfig, WhenFullConfig};
use crate::crypto::PeerKey;
use crate::model::{TagSpec, ValueKind};
use crate::protocols::preprocess::{PreprocessError, Processing};
use weighbridge_verifier::Suite;

/// Sections that make no sense beside `[edge]`.
const OF_HUBS: [&str; 6] = ["hub", "ledger", "opcua_server", "edges", "http", "cluster"];

/// Samples a second that a device may be said to send.
const MOST_SAMPLES: f64 = 1e8;

/// A file of an edge node.
pub(super) fn edge_node(edge: &EdgeSection, input: &Place<'_, '_>, found: &mut Vec<Diagnostic>) {
    let own = input.spot(&["edge"]);
    for section in OF_HUBS {
        let Some(spot) = tree::find(input.table, &[section]) else {
            continue;
        };
        let message = format!("`[{section}]` is a hub's, and `[edge]` makes this an edge node");
        let mut d = input.error(&spot.key, message, "an edge node has none");
        let label = "this makes it an edge node";
        d.related.push(input.sources.related(&own.key, label));
        d.help.push(match section {
            "http" => {
                "where an edge node shows its status stands in `[edge]`, as `http`".to_owned()
            }
            "hub" => "an edge node's id and key stand in `[edge]`".to_owned(),
            _ => format!("take `[{section}]` away, or `[edge]`"),
        });
        found.push(d);
    }
    if edge.hubs.is_empty() && !input.was_wrong(&own.value, "hub") {
        // No error: its card can be printed, which a hub needs to know of it.
        let message = "the edge node has no hub to upload to, and does not start".to_owned();
        let mut d = input.warning(&own.value, message, "no `[[edge.hub]]` under it");
        d.suggestion = Some("[[edge.hub]]".to_owned());
        d.help.push(
            "`weighbridge edge card --config hub.toml`, run at the hub, prints what belongs here"
                .to_owned(),
        );
        found.push(d);
    }
    if let Some(http) = edge.http {
        only_loopback(http, &["edge", "http"], input, found);
    }
    for (i, hub) in edge.hubs.iter().enumerate() {
        let at = |key: &str| input.element(&["edge", "hub"], i, key);
        link(&hub.address, hub.keys(), at, input, found);
    }
    let indices: Vec<_> = (0..edge.hubs.len()).collect();
    let addresses = edge.hubs.iter().map(|h| h.address.as_str());
    unique(
        input,
        "hub's address",
        addresses.zip(&indices),
        found,
        |i| input.element(&["edge", "hub"], *i, "address"),
    );
}

/// The edge nodes of a hub, and its buffer.
pub(super) fn edges(config: &HubConfig, input: &Place<'_, '_>, found: &mut Vec<Diagnostic>) {
    let drops = |b: &BufferConfig| b.when_full == WhenFullConfig::DropOldest;
    if config.buffer.as_ref().is_some_and(drops) {
        let spot = input.spot(&["buffer", "when_full"]);
        let message = "a hub's buffer drops nothing".to_owned();
        let mut d = input.error(
            &spot.value,
            message,
            "its blocks are signed and acknowledged",
        );
        d.suggestion = Some("\"stop\"".to_owned());
        d.help
            .push("an edge node's buffer can drop the oldest samples".to_owned());
        found.push(d);
    }
    let Some(edges) = &config.edges else {
        return;
    };
    let at = |i: usize, key: &str| input.element(&["edges", "node"], i, key);
    let indices: Vec<_> = (0..edges.nodes.len()).collect();
    let ids = edges.nodes.iter().map(|n| n.id.as_str());
    unique(input, "edge node's id", ids.zip(&indices), found, |i| {
        at(*i, "id")
    });
    let suite = config.ledger.suite;
    let ledger = input.spot(&["ledger"]).value;
    let known = !input.was_wrong(&ledger, "suite");
    for (i, node) in edges.nodes.iter().enumerate() {
        if known && node.key.suite() != suite {
            let of = node.key.suite();
            let message = format!("the key of edge node `{}` is of suite `{of}`", node.id);
            let label = format!("the ledger is of suite `{suite}`, and this key signs for it");
            let mut d = input.error(&at(i, "key"), message, &label);
            d.help.push(format!(
                "make it with `weighbridge edge init --suite {suite}`"
            ));
            found.push(d);
            continue;
        }
        link(&node.id, node.keys(), |key| at(i, key), input, found);
    }
    let keys: Vec<_> = edges.nodes.iter().map(|n| n.key.to_string()).collect();
    let keys = keys.iter().map(String::as_str);
    unique(input, "key", keys.zip(&indices), found, |i| at(*i, "key"));
    for (i, node) in edges.nodes.iter().enumerate() {
        if node.id != config.hub.id {
            continue;
        }
        let message = format!("the edge node `{}` has the hub's own id", node.id);
        let span = at(i, "id");
        let mut d = input.error(&span, message, "the ledger could not tell them apart");
        d.help.push("give one of them another id".to_owned());
        found.push(d);
    }
}

/// TLS knows P-256 keys only.
fn link(
    who: &str,
    keys: PeerKey,
    at: impl Fn(&str) -> Span,
    input: &Place<'_, '_>,
    found: &mut Vec<Diagnostic>,
) {
    if keys.link.suite() == Suite::Nist {
        return;
    }
    let (key, message) = match keys.link == keys.own {
        true => ("key", format!("`{who}` has an SM2 key and no `link_key`")),
        false => (
            "link_key",
            format!("the `link_key` of `{who}` is no P-256 key"),
        ),
    };
    let label = "the link is TLS, which has a P-256 key beside it";
    let mut d = input.error(&at(key), message, label);
    d.help
        .push("`weighbridge edge card`, run at the other side, prints both keys".to_owned());
    found.push(d);
}

/// Whether a device is read as it can be.
pub(super) fn feeding(
    config: &HubConfig,
    read: &ReadDevice<'_>,
    input: &Place<'_, '_>,
    found: &mut Vec<Diagnostic>,
) {
    let device = &read.config;
    if let Some(edge) = &device.edge {
        let spot = input.spot(&["edge"]);
        let others = [
            ("modbus", device.modbus.is_some()),
            ("opcua", device.opcua.is_some()),
        ];
        for (other, _) in others.into_iter().filter(|(_, there)| *there) {
            let message = format!("device `{}` has both `{other}` and `edge`", device.id);
            let other = input.spot(&[other]).key;
            let help = "either this hub reads it, or the edge node does, and has its address";
            found.push(exclusive(input, message, other, spot.key.clone(), help));
        }
        unknown_edge(config, edge, &spot.value, input, found);
    }
    if let Some(rate) = device.samples_per_second {
        let spot = input.spot(&["samples_per_second"]);
        if device.edge.is_none() {
            let message = format!("device `{}` says how much it sends", device.id);
            let label = "only where an edge node reads the device";
            let mut d = input.error(&spot.key, message, label);
            d.help
                .push("elsewhere the hub knows what it asks for".to_owned());
            found.push(d);
        } else if !(rate > 0.0 && rate <= MOST_SAMPLES) {
            let message = format!("device `{}` cannot send so many samples", device.id);
            let label = "a number above 0, up to 100 million";
            found.push(input.error(&spot.value, message, label));
        }
    }
    if let Some(cycle) = &device.cycle {
        let span = input.spot(&["cycle"]).value;
        match cycle.tag() {
            None => {
                let message = format!("how device `{}` tells its cycles is not clear", device.id);
                found.push(input.error(&span, message, "either `rising_edge` or `counter`"));
            }
            Some((name, _)) if device.tags.iter().all(|tag| tag.name != name) => {
                let message = format!("device `{}` has no tag `{name}`", device.id);
                found.push(input.error(&span, message, "cycles are told by it"));
            }
            Some(_) => {}
        }
    }
    for (tag, table) in device.tags.iter().zip(&read.tags) {
        let of_tag = Place { table, ..*input };
        if tag.kind.is_some() && device.edge.is_none() {
            let message = format!("tag `{}` has a `type` of its own", tag.name);
            let span = of_tag.spot(&["type"]).key;
            let mut d = of_tag.error(&span, message, "only where an edge node reads the device");
            d.help.push(
                "elsewhere the type stands with the address: `modbus = { …, type = \"f32\" }`"
                    .to_owned(),
            );
            found.push(d);
        }
        let process = of_tag.spot(&["process"]).key;
        if let Err(error) = processing(tag) {
            let message = format!("tag `{}` cannot be processed like this", tag.name);
            found.push(of_tag.error(&process, message, &error.reason));
        }
        let addressed = [
            ("modbus", tag.modbus.is_some()),
            ("opcua", tag.opcua.is_some()),
            ("process", tag.process.is_some()),
        ];
        let addressed = addressed.iter().find(|(_, there)| *there);
        if let (Some(edge), Some((key, _))) = (&device.edge, addressed) {
            let message = format!(
                "tag `{}` has an address that this hub has no use for",
                tag.name
            );
            let label = format!("the edge node `{edge}` reads it, and needs the address there");
            let mut d = of_tag.error(&of_tag.spot(&[key]).key, message, &label);
            d.help.push(
                "here a tag has its name, type, unit, range and validation; address and processing \
                 stand in the edge node's file"
                    .to_owned(),
            );
            found.push(d);
        }
    }
}

/// Whether a tag's samples can be processed; the same question is asked again when it is read.
fn processing(tag: &TagConfig) -> Result<(), PreprocessError> {
    let Some(process) = &tag.process else {
        return Ok(());
    };
    let modbus = tag.modbus.as_ref().map(|point| point.value_kind());
    let kind = modbus.or(tag.opcua.as_ref().map(|point| point.kind));
    let spec = TagSpec {
        name: tag.name.as_str().into(),
        kind: kind.unwrap_or(ValueKind::F64),
        unit: tag.unit.clone(),
        description: String::new(),
        range: tag.range.map(|range| range.bounds()),
        writable: false,
    };
    Processing::new(&[spec], std::slice::from_ref(process), None).map(drop)
}

fn unknown_edge(
    config: &HubConfig,
    edge: &str,
    span: &Span,
    input: &Place<'_, '_>,
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
        "add `[edges]` with `bind`, and an `[[edges.node]]`; `weighbridge edge card --config \
         edge.toml`, run at the edge node, prints what belongs there"
            .to_owned()
    } else {
        format!("edge nodes known here: {}", known.join(", "))
    });
    found.push(d);
}

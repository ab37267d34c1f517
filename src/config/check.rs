//! What no single value can tell: things that must be unique, given once, or fit each other.

use super::diagnostic::{Diagnostic, Severity};
use super::reader::ReadDevice;
use super::reading::MAX_MISTAKES;
use super::source::{Sources, Span};
use super::tree::{self, Node, Removed, Spot};
use super::{DeviceConfig, HubConfig, TagConfig};
use crate::model::{TagSpec, ValueKind};
use crate::protocols::modbus::{ModbusConfig, ModbusPoint, Table};
use crate::protocols::opcua::server::ConfigError;
use crate::validation::{DeviceValidator, ValidationError};
use std::collections::HashMap;
use std::net::SocketAddr;

mod cluster;
mod edge;

/// A table of a file, and what is known of it.
pub(super) struct Place<'p, 'a> {
    pub sources: &'p Sources<'a>,
    pub table: &'p Node<'a>,
    pub removed: &'p [Removed],
    /// Where the profile is named that parts of the table are from.
    pub used: Option<&'p Span>,
}

impl Place<'_, '_> {
    fn spot(&self, path: &[&str]) -> Spot {
        // What is not in the file stands at its default: the nearest table that is there is meant.
        let found = (1..=path.len())
            .rev()
            .find_map(|n| tree::find(self.table, path.get(..n)?));
        found.unwrap_or(Spot {
            key: self.table.span.clone(),
            value: self.table.span.clone(),
        })
    }

    /// The value of `key` in an element of the list at `path`.
    fn element(&self, path: &[&str], index: usize, key: &str) -> Span {
        let list = path.iter().try_fold(self.table, |node, key| node.get(key));
        let element = list.and_then(|list| list.elements().get(index));
        match element.map(|e| (tree::find(e, &[key]), e)) {
            Some((Some(spot), _)) => spot.value,
            Some((None, element)) => element.span.clone(),
            None => self.spot(path).value,
        }
    }

    /// Whether `key` of the table at `span` was there, but wrong.
    fn was_wrong(&self, span: &Span, key: &str) -> bool {
        let mut removed = self.removed.iter();
        removed.any(|r| r.table == *span && r.key == key)
    }

    fn said(&self, severity: Severity, span: &Span, message: String, label: &str) -> Diagnostic {
        let mut d = self.sources.diagnostic(severity, span, message, label);
        if let Some(used) = self.used.filter(|_| !self.sources.in_first(span)) {
            d.related
                .push(self.sources.related(used, "required by this"));
        }
        d
    }

    fn error(&self, span: &Span, message: String, label: &str) -> Diagnostic {
        self.said(Severity::Error, span, message, label)
    }

    fn warning(&self, span: &Span, message: String, label: &str) -> Diagnostic {
        self.said(Severity::Warning, span, message, label)
    }
}

/// Everything that is wrong or odd, in no order; not much more than anybody reads.
pub(super) fn check(
    config: &HubConfig,
    input: &Place<'_, '_>,
    read: &[ReadDevice<'_>],
    found: &mut Vec<Diagnostic>,
) {
    match &config.edge {
        Some(edge) => edge::edge_node(edge, input, found),
        None => {
            hub(input, found);
            faces(config, input, found);
            edge::edges(config, input, found);
            cluster::cluster(config, input, found);
        }
    }
    devices(config, input, read, found);
}

fn hub(input: &Place<'_, '_>, found: &mut Vec<Diagnostic>) {
    let present = tree::find(input.table, &["hub"]).is_some();
    if !present && !input.was_wrong(&input.table.span, "hub") {
        let mut d = Diagnostic::new(
            Severity::Error,
            input.sources.first_name(),
            "the section `[hub]` is missing",
        );
        d.suggestion = Some("[hub]".to_owned());
        d.help.push(
            "every hub has an id of its own: `[hub]` and below it `id = \"hub-1\"`".to_owned(),
        );
        found.push(d);
    }
}

/// HTTP at `bind`, which the last key of `keys` says, where nobody can log in.
fn only_loopback(
    bind: SocketAddr,
    keys: &[&str],
    input: &Place<'_, '_>,
    found: &mut Vec<Diagnostic>,
) {
    if bind.ip().is_loopback() {
        return;
    }
    let span = input.spot(keys).value;
    let message = format!("the HTTP interface would be reachable from other machines at {bind}");
    let label = "only loopback: it has neither encryption nor log-in";
    let mut d = input.error(&span, message, label);
    let (port, key) = (bind.port(), keys.last().copied().unwrap_or_default());
    d.suggestion = Some(format!("127.0.0.1:{port}"));
    d.help.push(format!(
        "write `{key} = \"127.0.0.1:{port}\"`; for other machines put a reverse proxy with TLS and \
         log-in before it"
    ));
    found.push(d);
}

fn faces(config: &HubConfig, input: &Place<'_, '_>, found: &mut Vec<Diagnostic>) {
    if let Some((key, what, remedy)) = config.http.fault() {
        let closed = config.http.log_in && config.http.tls;
        let label = match key {
            "bind" if !closed => "beyond loopback only with log-in and TLS",
            _ => "the hub does not start with this",
        };
        let mut d = input.error(&input.spot(&["http", key]).value, what, label);
        d.help.push(remedy);
        found.push(d);
    }
    if let Err(error) = config.opcua_server.check() {
        let key: &[_] = match &error {
            ConfigError::NoUsers(_) => &["bind"],
            ConfigError::Closed => &["allow_none_loopback"],
            ConfigError::TrustAny(_) => &["trust"],
            ConfigError::ZeroLimit(limit) => &["limits", limit],
            ConfigError::LogIn { .. }
            | ConfigError::Name { .. }
            | ConfigError::TwoSources { .. } => &["users"],
            ConfigError::TwoFolders => &["user_certificates"],
        };
        let span = match &error {
            ConfigError::LogIn { index, .. }
            | ConfigError::Name { index, .. }
            | ConfigError::TwoSources { index, .. } => {
                input.element(&["opcua_server", "users"], *index, "name")
            }
            _ => input.spot(&[&["opcua_server"], key].concat()).value,
        };
        let text = error.to_string();
        let (what, remedy) = text.split_once(": ").unwrap_or((&text, ""));
        let mut d = input.error(&span, what.to_owned(), "the hub does not start with this");
        d.help.push(remedy.to_owned());
        found.push(d);
    }
    let faults = [
        ("alarms", config.alarms.fault()),
        ("access", config.access.fault()),
    ];
    for (section, fault) in faults {
        let Some((key, why)) = fault else { continue };
        let spot = input.spot(&[section, key]);
        let mut d = input.error(&spot.value, format!("`{key}` is no use like this"), why);
        d.help
            .push(format!("change `{key}`, or leave it out for its default"));
        found.push(d);
    }
    if let Some((key, why)) = config.ledger.retention.fault(&config.hub.data) {
        let spot = input.spot(&["ledger", "retention", key]);
        let mut d = input.error(&spot.value, format!("`{key}` is no use like this"), why);
        d.help.push(format!("change `{key}`, or leave it out"));
        found.push(d);
    }
    if let Some((key, why)) = config.ledger.postgres.as_ref().and_then(|p| p.fault()) {
        let spot = input.spot(&["ledger", "postgres", key]);
        let mut d = input.error(&spot.value, format!("`{key}` is no use like this"), why);
        let help = "`ca` is a file with the certificate of whoever vouches for the database server";
        d.help.push(help.to_owned());
        found.push(d);
    }
    same_port(config, input, found);
}

fn same_port(config: &HubConfig, input: &Place<'_, '_>, found: &mut Vec<Diagnostic>) {
    let (http, opcua) = (config.http.bind, config.opcua_server.bind);
    if http.port() == 0 || http.port() != opcua.port() {
        return;
    }
    // One of them may stand at its default, and not be in the file.
    let place = |section| tree::find(input.table, &[section, "bind"]).map(|s| s.value);
    let (first, second) = match (place("http"), place("opcua_server")) {
        (http, Some(opcua)) => (http, opcua),
        (Some(http), None) => (None, http),
        (None, None) => return,
    };
    let message = format!("HTTP and OPC UA would both listen on port {}", http.port());
    let mut d = input.error(&second, message, "this port is taken");
    d.related
        .extend(first.map(|span| input.sources.related(&span, "by this")));
    d.help
        .push("by default HTTP has port 8080 and OPC UA port 4840".to_owned());
    found.push(d);
}

fn devices(
    config: &HubConfig,
    input: &Place<'_, '_>,
    read: &[ReadDevice<'_>],
    found: &mut Vec<Diagnostic>,
) {
    let wrong = |key| input.was_wrong(&input.table.span, key);
    if read.is_empty() && !wrong("device") && !wrong("devices") {
        let message = "there is no device: the hub will run, and have nothing to record";
        let mut d = Diagnostic::new(Severity::Warning, input.sources.first_name(), message);
        d.help.push("add a `[[device]]`".to_owned());
        found.push(d);
    }
    let place = |device: &ReadDevice<'_>| {
        let spot = tree::find(&device.table, &["id"]);
        spot.map_or(device.table.span.clone(), |spot| spot.value)
    };
    let ids = read.iter().map(|d| (d.config.id.as_ref(), d));
    unique(input, "device id", ids, found, place);
    for read in read {
        if found.len() >= MAX_MISTAKES {
            break;
        }
        let place = Place {
            sources: input.sources,
            table: &read.table,
            removed: &read.removed,
            used: read.used.as_ref(),
        };
        edge::feeding(config, read, &place, found);
        cluster::readers(config, &read.config, &place, found);
        device(read, &place, false, found);
    }
    serial_ports(input, read, found);
}

/// A serial port that two devices want to be set differently.
fn serial_ports(input: &Place<'_, '_>, read: &[ReadDevice<'_>], found: &mut Vec<Diagnostic>) {
    let mut ports: HashMap<String, (&ReadDevice<'_>, &ModbusConfig)> = HashMap::new();
    for device in read {
        let modbus = device.config.modbus.as_ref();
        let Some(modbus) = modbus.filter(|m| m.is_serial()) else {
            continue;
        };
        let (first, other) = *ports
            .entry(modbus.transport.to_string())
            .or_insert((device, modbus));
        if let Some(conflict) = modbus.conflict(other)
            && found.len() < MAX_MISTAKES
        {
            let spot = |device: &ReadDevice<'_>| {
                let spot = tree::find(&device.table, &["modbus"]);
                spot.map_or(device.table.span.clone(), |spot| spot.key)
            };
            let (what, remedy) = conflict.split_once(": ").unwrap_or((&conflict, ""));
            let mut d = input.error(&spot(device), what.to_owned(), "set like this");
            d.related
                .push(input.sources.related(&spot(first), "and otherwise here"));
            d.help.push(remedy.to_owned());
            found.push(d);
        }
    }
}

/// Looks at one device; a profile's may have no protocol, when it is only for judging history.
pub(super) fn device(
    read: &ReadDevice<'_>,
    input: &Place<'_, '_>,
    is_profile: bool,
    found: &mut Vec<Diagnostic>,
) {
    let device = &read.config;
    let table = &input.table.span;
    // With the profile most of what is missing is missing.
    let no_profile = input.was_wrong(table, "profile");
    let wrong = ["modbus", "opcua", "edge"]
        .iter()
        .any(|key| input.was_wrong(table, key));
    match (&device.modbus, &device.opcua) {
        (Some(_), Some(_)) => {
            let message = format!("device `{}` has both `modbus` and `opcua`", device.id);
            let (modbus, opcua) = (input.spot(&["modbus"]).key, input.spot(&["opcua"]).key);
            found.push(exclusive(input, message, modbus, opcua, DEVICE_HELP));
        }
        (None, None) if !wrong && !no_profile && !is_profile && device.edge.is_none() => {
            let message = format!("device `{}` has no protocol", device.id);
            let mut d = input.error(table, message, "neither `modbus` nor `opcua`");
            d.help.push(DEVICE_HELP.to_owned());
            d.suggestion = Some("modbus".to_owned());
            found.push(d);
        }
        _ => {}
    }
    if device.tags.is_empty() && !input.was_wrong(table, "tag") && !no_profile {
        let message = format!(
            "device `{}` has no tags: nothing is read from it",
            device.id
        );
        let header = if is_profile {
            "[[tag]]"
        } else {
            "[[device.tag]]"
        };
        let mut d = input.error(table, message, &format!("no `{header}` under it"));
        d.help.push(format!("add a `{header}` for each variable"));
        found.push(d);
    }
    let place = |tag: &Node<'_>| {
        let spot = tree::find(tag, &["name"]);
        spot.map_or(tag.span.clone(), |spot| spot.value)
    };
    let names = device.tags.iter().map(|t| t.name.as_str()).zip(&read.tags);
    unique(input, "tag name", names, found, place);
    let history = is_profile && device.modbus.is_none() && device.opcua.is_none();
    for (tag, table) in device.tags.iter().zip(&read.tags) {
        if found.len() >= MAX_MISTAKES {
            return;
        }
        let place = Place { table, ..*input };
        one_tag(device, tag, &place, history, found);
    }
    overlaps(device, read, input, found);
}

/// Points that share registers although neither is part of the other: one of the two addresses is
/// wrong, almost surely.
fn overlaps(
    device: &DeviceConfig,
    read: &ReadDevice<'_>,
    input: &Place<'_, '_>,
    found: &mut Vec<Diagnostic>,
) {
    let points = device.tags.iter().zip(&read.tags);
    let mut points: Vec<(&ModbusPoint, &TagConfig, &Node<'_>)> = points
        .filter_map(|(tag, node)| Some((tag.modbus.as_ref()?, tag, node)))
        .collect();
    let end = |point: &ModbusPoint| u32::from(point.address) + u32::from(point.width());
    // Whoever begins first, and of those the longest: then only what is open can overlap.
    points.sort_by_key(|(p, ..)| (p.table, p.address, std::cmp::Reverse(p.width())));
    let mut open: Option<(&ModbusPoint, &TagConfig)> = None;
    for (point, tag, node) in points {
        if found.len() >= MAX_MISTAKES {
            return;
        }
        if let Some((before, other)) = open
            && before.table == point.table
            && u32::from(point.address) < end(before)
            && end(point) > end(before)
            && before.address < point.address
        {
            let spot = tree::find(node, &["modbus"]);
            let at = spot.map_or(node.span.clone(), |spot| spot.value);
            let message = format!(
                "tags `{}` and `{}` overlap in the {}s",
                other.name, tag.name, point.table
            );
            let label = format!(
                "{} to {} here, {} to {} there",
                point.address,
                end(point) - 1,
                before.address,
                end(before) - 1
            );
            let mut d = input.warning(&at, message, &label);
            d.help.push(format!(
                "the next free address after `{}` is {}",
                other.name,
                end(before)
            ));
            found.push(d);
        }
        let further =
            open.is_none_or(|(before, _)| before.table != point.table || end(point) > end(before));
        if further {
            open = Some((point, tag));
        }
    }
}

const DEVICE_HELP: &str = "give exactly one: `modbus = { address = \"…\" }`, `opcua = { url = \"opc.tcp://…\" }` or \
     `edge = \"edge-1\"`";

fn one_tag(
    device: &DeviceConfig,
    tag: &TagConfig,
    input: &Place<'_, '_>,
    history: bool,
    found: &mut Vec<Diagnostic>,
) {
    let table = &input.table.span;
    let key = |name| input.spot(&[name]).key;
    let help = match (&device.modbus, &device.opcua) {
        (_, None) => {
            "say where it is, for example `modbus = { holding_register = 10, type = \"f32\" }`"
        }
        _ => "say where it is, for example `opcua = { node = \"ns=2;s=Robot1.Temp\" }`",
    };
    match (&tag.modbus, &tag.opcua) {
        (Some(_), Some(_)) => {
            let message = format!("tag `{}` has both `modbus` and `opcua`", tag.name);
            found.push(exclusive(input, message, key("modbus"), key("opcua"), help));
        }
        (None, None) => {
            let wrong = input.was_wrong(table, "modbus") || input.was_wrong(table, "opcua");
            if !wrong && !history && device.edge.is_none() {
                let message = format!("tag `{}` has no place in its device", tag.name);
                let mut d = input.error(table, message, "neither `modbus` nor `opcua`");
                d.help.push(help.to_owned());
                found.push(d);
            }
        }
        (Some(_), None) if device.modbus.is_none() && device.opcua.is_some() => {
            found.push(other_protocol(
                input,
                key("modbus"),
                tag,
                device,
                "OPC UA",
                help,
            ));
        }
        (None, Some(_)) if device.opcua.is_none() && device.modbus.is_some() => {
            found.push(other_protocol(
                input,
                key("opcua"),
                tag,
                device,
                "Modbus",
                help,
            ));
        }
        _ => {}
    }
    if let (Some(modbus), Some(point)) = (&device.modbus, &tag.modbus)
        && let Some(fault) = modbus.fault(point, tag.writable)
    {
        let message = format!("tag `{}` cannot be as it is", tag.name);
        let mut d = input.error(&key("modbus"), message, &fault);
        d.help
            .push("change its address, or the limits of its device".to_owned());
        found.push(d);
    }
    if let Some(point) = tag.modbus.as_ref().filter(|_| input.used.is_none()) {
        found.extend(old_notation(tag, point, input));
    }
    if let Err(ValidationError::Settings { reason, .. }) = judging(device, tag) {
        let message = format!("tag `{}` cannot be judged like this", tag.name);
        let mut d = input.error(&key("validation"), message, &reason);
        d.help
            .push("change `validation` of the tag, or of its device".to_owned());
        found.push(d);
    }
}

/// An address that looks like those of old manuals, where 40001 is holding register 0 and 30001 input
/// register 0. Some devices do have registers up there, so this may be right.
fn old_notation(tag: &TagConfig, point: &ModbusPoint, input: &Place<'_, '_>) -> Option<Diagnostic> {
    let (key, first) = match point.table {
        Table::HoldingRegister => ("holding_register", 40_001),
        Table::InputRegister => ("input_register", 30_001),
        Table::DiscreteInput => ("discrete_input", 10_001),
        Table::Coil => return None,
    };
    let address = point.address.checked_sub(first).filter(|a| *a < 9_999)?;
    // A register with a number that ends in zeros is the base of a map, and meant as it is.
    if point.address.is_multiple_of(1000) {
        return None;
    }
    let message = format!(
        "tag `{}`: address {} looks like the notation of manuals that count from {first}",
        tag.name, point.address
    );
    let at = input.spot(&["modbus", key]).value;
    let mut d = input.warning(&at, message, "addresses count from 0 here");
    d.help.push(format!("if so, write `{key} = {address}`"));
    Some(d)
}

/// Whether validation can be set up for a tag; the same question is asked again when the hub starts.
fn judging(device: &DeviceConfig, tag: &TagConfig) -> Result<(), ValidationError> {
    let modbus = tag.modbus.as_ref().map(|point| point.value_kind());
    let kind = modbus
        .or(tag.opcua.as_ref().map(|point| point.kind))
        .or(tag.kind);
    let spec = TagSpec {
        name: tag.name.as_str().into(),
        kind: kind.unwrap_or(ValueKind::F64),
        unit: tag.unit.clone(),
        description: String::new(),
        range: tag.range.map(|range| range.bounds()),
        writable: false,
    };
    let own = std::slice::from_ref(&tag.validation);
    DeviceValidator::new([spec].into(), &device.validation, own, None).map(drop)
}

fn other_protocol(
    input: &Place<'_, '_>,
    span: Span,
    tag: &TagConfig,
    device: &DeviceConfig,
    protocol: &str,
    help: &str,
) -> Diagnostic {
    let message = format!(
        "tag `{}` cannot be read: device `{}` is reached over {protocol}",
        tag.name, device.id
    );
    let mut d = input.error(&span, message, "of another protocol than its device");
    d.help.push(help.to_owned());
    d
}

fn exclusive(
    input: &Place<'_, '_>,
    message: String,
    first: Span,
    second: Span,
    help: &str,
) -> Diagnostic {
    let (first, second) = if first.start <= second.start {
        (first, second)
    } else {
        (second, first)
    };
    let mut d = input.error(&second, message, "only one of the two can be");
    d.related
        .push(input.sources.related(&first, "the other one"));
    d.help.push(help.to_owned());
    d
}

/// Reports names that are there twice, and names that only capitals tell apart.
fn unique<'n, T: 'n>(
    input: &Place<'_, '_>,
    what: &str,
    names: impl Iterator<Item = (&'n str, &'n T)>,
    found: &mut Vec<Diagnostic>,
    place: impl Fn(&T) -> Span,
) {
    let mut seen: HashMap<String, (&T, &str)> = HashMap::new();
    for (name, of) in names {
        let Some((first, other)) = seen.get(&name.to_lowercase()) else {
            seen.insert(name.to_lowercase(), (of, name));
            continue;
        };
        if found.len() >= MAX_MISTAKES {
            return;
        }
        let span = place(of);
        let mut d = if *other == name {
            let message = format!("the {what} `{name}` is there twice");
            input.error(&span, message, "must be unique")
        } else {
            let message = format!("only capitals tell `{name}` from `{other}`");
            input.warning(&span, message, "many systems will take them for one")
        };
        d.related
            .push(input.sources.related(&place(first), "first here"));
        d.help.push("give one of them another name".to_owned());
        found.push(d);
    }
}

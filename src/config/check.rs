//! What no single value can tell: things that must be unique, given once, or fit each other.

use super::diagnostic::{Diagnostic, Related, Severity, SourceText};
use super::tree::Step::{Index, Key};
use super::tree::{self, Removed, Spot, Step};
use super::{DeviceConfig, HubConfig, TagConfig};
use crate::model::{TagSpec, ValueKind};
use crate::protocols::modbus::ModbusConfig;
use crate::protocols::opcua::server::ConfigError;
use crate::validation::{DeviceValidator, ValidationError};
use std::collections::HashMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::DeTable;

mod edge;

/// The file that the configuration was read from.
pub(super) struct Input<'a> {
    pub source: &'a SourceText<'a>,
    pub root: &'a Spanned<DeTable<'a>>,
    pub removed: &'a [Removed],
}

impl Input<'_> {
    fn spot(&self, path: &[Step<'_>]) -> Spot {
        // What is not in the file stands at its default: the nearest table that is there is meant.
        (1..=path.len())
            .rev()
            .find_map(|n| tree::find(self.root, path.get(..n)?))
            .unwrap_or(Spot {
                key: 0..0,
                value: 0..0,
            })
    }

    /// Whether `key` of the table at `span` was there, but wrong.
    fn was_wrong(&self, table: &Range<usize>, key: &str) -> bool {
        let mut removed = self.removed.iter();
        removed.any(|r| r.table == *table && r.key == key)
    }

    fn error(&self, span: &Range<usize>, message: String, label: &str) -> Diagnostic {
        self.source
            .diagnostic(Severity::Error, span, message, label)
    }

    fn warning(&self, span: &Range<usize>, message: String, label: &str) -> Diagnostic {
        self.source
            .diagnostic(Severity::Warning, span, message, label)
    }
}

/// Everything that is wrong or odd, in no order.
pub(super) fn check(config: &HubConfig, input: &Input<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    match &config.edge {
        Some(edge) => edge::edge_node(edge, input, &mut found),
        None => {
            hub(input, &mut found);
            faces(config, input, &mut found);
            edge::edges(config, input, &mut found);
        }
    }
    devices(config, input, &mut found);
    found
}

fn hub(input: &Input<'_>, found: &mut Vec<Diagnostic>) {
    let present = tree::find(input.root, &[Key("hub")]).is_some();
    if !present && !input.was_wrong(&input.root.span(), "hub") {
        let mut d = Diagnostic::new(
            Severity::Error,
            input.source.name,
            "the section `[hub]` is missing",
        );
        d.suggestion = Some("[hub]".to_owned());
        d.help.push(
            "every hub has an id of its own: `[hub]` and below it `id = \"hub-1\"`".to_owned(),
        );
        found.push(d);
    }
}

fn faces(config: &HubConfig, input: &Input<'_>, found: &mut Vec<Diagnostic>) {
    let http = input.spot(&[Key("http"), Key("bind")]).value;
    if !config.http.bind.ip().is_loopback() {
        let message = format!(
            "the HTTP interface would be reachable from other machines at {}",
            config.http.bind
        );
        let mut d = input.error(
            &http,
            message,
            "only loopback: it has neither encryption nor log-in",
        );
        d.suggestion = Some(format!("127.0.0.1:{}", config.http.bind.port()));
        d.help.push(format!(
            "write `bind = \"127.0.0.1:{}\"`; for other machines put a reverse proxy with TLS and \
             log-in before it",
            config.http.bind.port()
        ));
        found.push(d);
    }
    if let Err(error) = config.opcua_server.check() {
        let key: &[_] = match &error {
            ConfigError::NoUsers(_) => &[Key("bind")],
            ConfigError::Closed => &[Key("allow_none_loopback")],
            ConfigError::TrustAny(_) => &[Key("trust")],
            ConfigError::ZeroLimit(limit) => &[Key("limits"), Key(limit)],
        };
        let spot = input.spot(&[&[Key("opcua_server")], key].concat());
        let text = error.to_string();
        let (what, remedy) = text.split_once(": ").unwrap_or((&text, ""));
        let mut d = input.error(
            &spot.value,
            what.to_owned(),
            "the hub does not start with this",
        );
        d.help.push(remedy.to_owned());
        found.push(d);
    }
    if let Some((key, why)) = config.alarms.fault() {
        let spot = input.spot(&[Key("alarms"), Key(key)]);
        found.push(input.error(&spot.value, format!("`{key}` is no use like this"), why));
    }
    same_port(config, input, found);
}

fn same_port(config: &HubConfig, input: &Input<'_>, found: &mut Vec<Diagnostic>) {
    let (http, opcua) = (config.http.bind, config.opcua_server.bind);
    if http.port() == 0 || http.port() != opcua.port() {
        return;
    }
    // One of them may stand at its default, and not be in the file.
    let place = |section| tree::find(input.root, &[Key(section), Key("bind")]).map(|s| s.value);
    let (first, second) = match (place("http"), place("opcua_server")) {
        (http, Some(opcua)) => (http, opcua),
        (Some(http), None) => (None, http),
        (None, None) => return,
    };
    let message = format!("HTTP and OPC UA would both listen on port {}", http.port());
    let mut d = input.error(&second, message, "this port is taken");
    d.related.extend(first.map(|span| Related {
        place: input.source.place(&span),
        label: "by this".to_owned(),
    }));
    d.help
        .push("by default HTTP has port 8080 and OPC UA port 4840".to_owned());
    found.push(d);
}

fn devices(config: &HubConfig, input: &Input<'_>, found: &mut Vec<Diagnostic>) {
    if config.devices.is_empty() && !input.was_wrong(&input.root.span(), "device") {
        let message = "there is no device: the hub will run, and have nothing to record";
        let mut d = Diagnostic::new(Severity::Warning, input.source.name, message);
        d.help.push("add a `[[device]]`".to_owned());
        found.push(d);
    }
    let ids = config.devices.iter().map(|d| d.id.as_ref());
    unique(input, "device id", ids, found, |i| {
        vec![Key("device"), Index(i), Key("id")]
    });
    for (at, device) in config.devices.iter().enumerate() {
        edge::feeding(config, device, at, input, found);
        one_device(device, at, input, found);
    }
    serial_ports(config, input, found);
}

/// A serial port that two devices want to be set differently.
fn serial_ports(config: &HubConfig, input: &Input<'_>, found: &mut Vec<Diagnostic>) {
    let mut ports: HashMap<String, (usize, &ModbusConfig)> = HashMap::new();
    for (at, device) in config.devices.iter().enumerate() {
        let Some(modbus) = device.modbus.as_ref().filter(|m| m.is_serial()) else {
            continue;
        };
        let (first, other) = *ports
            .entry(modbus.transport.to_string())
            .or_insert((at, modbus));
        if let Some(conflict) = modbus.conflict(other) {
            let spot = |at| input.spot(&[Key("device"), Index(at), Key("modbus")]).key;
            let (what, remedy) = conflict.split_once(": ").unwrap_or((&conflict, ""));
            let mut d = input.error(&spot(at), what.to_owned(), "set like this");
            d.related.push(Related {
                place: input.source.place(&spot(first)),
                label: "and otherwise here".to_owned(),
            });
            d.help.push(remedy.to_owned());
            found.push(d);
        }
    }
}

fn one_device(device: &DeviceConfig, at: usize, input: &Input<'_>, found: &mut Vec<Diagnostic>) {
    let table = input.spot(&[Key("device"), Index(at)]).value;
    let wrong = ["modbus", "opcua", "edge"]
        .iter()
        .any(|key| input.was_wrong(&table, key));
    match (&device.modbus, &device.opcua) {
        (Some(_), Some(_)) => {
            let message = format!("device `{}` has both `modbus` and `opcua`", device.id);
            let modbus = input.spot(&[Key("device"), Index(at), Key("modbus")]).key;
            let opcua = input.spot(&[Key("device"), Index(at), Key("opcua")]).key;
            found.push(exclusive(input, message, modbus, opcua, DEVICE_HELP));
        }
        (None, None) if !wrong && device.edge.is_none() => {
            let message = format!("device `{}` has no protocol", device.id);
            let mut d = input.error(&table, message, "neither `modbus` nor `opcua`");
            d.help.push(DEVICE_HELP.to_owned());
            d.suggestion = Some("modbus".to_owned());
            found.push(d);
        }
        _ => {}
    }
    if device.tags.is_empty() && !input.was_wrong(&table, "tag") {
        let message = format!(
            "device `{}` has no tags: nothing is read from it",
            device.id
        );
        let mut d = input.error(&table, message, "no `[[device.tag]]` under it");
        d.help
            .push("add a `[[device.tag]]` for each variable".to_owned());
        found.push(d);
    }
    let names = device.tags.iter().map(|t| t.name.as_str());
    unique(input, "tag name", names, found, |i| {
        vec![Key("device"), Index(at), Key("tag"), Index(i), Key("name")]
    });
    for (i, tag) in device.tags.iter().enumerate() {
        one_tag(
            device,
            tag,
            &[Key("device"), Index(at), Key("tag"), Index(i)],
            input,
            found,
        );
    }
}

const DEVICE_HELP: &str = "give exactly one: `modbus = { address = \"…\" }`, `opcua = { url = \"opc.tcp://…\" }` or \
     `edge = \"edge-1\"`";

fn one_tag(
    device: &DeviceConfig,
    tag: &TagConfig,
    path: &[Step<'_>],
    input: &Input<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let table = input.spot(path).value;
    let key = |name| {
        let mut path = path.to_vec();
        path.push(Key(name));
        input.spot(&path).key
    };
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
            let wrong = input.was_wrong(&table, "modbus") || input.was_wrong(&table, "opcua");
            if !wrong && device.edge.is_none() {
                let message = format!("tag `{}` has no place in its device", tag.name);
                let mut d = input.error(&table, message, "neither `modbus` nor `opcua`");
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
        found.push(input.error(&key("modbus"), message, &fault));
    }
    if let Err(ValidationError::Settings { reason, .. }) = judging(device, tag) {
        let message = format!("tag `{}` cannot be judged like this", tag.name);
        found.push(input.error(&key("validation"), message, &reason));
    }
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
    input: &Input<'_>,
    span: Range<usize>,
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
    input: &Input<'_>,
    message: String,
    first: Range<usize>,
    second: Range<usize>,
    help: &str,
) -> Diagnostic {
    let (first, second) = if first.start <= second.start {
        (first, second)
    } else {
        (second, first)
    };
    let mut d = input.error(&second, message, "only one of the two can be");
    d.related.push(Related {
        place: input.source.place(&first),
        label: "the other one".to_owned(),
    });
    d.help.push(help.to_owned());
    d
}

/// Reports names that are there twice, and names that only capitals tell apart.
fn unique<'a>(
    input: &Input<'_>,
    what: &str,
    names: impl Iterator<Item = &'a str>,
    found: &mut Vec<Diagnostic>,
    path: impl Fn(usize) -> Vec<Step<'static>>,
) {
    let mut seen: HashMap<String, (usize, &str)> = HashMap::new();
    for (at, name) in names.enumerate() {
        let Some((first, other)) = seen.get(&name.to_lowercase()) else {
            seen.insert(name.to_lowercase(), (at, name));
            continue;
        };
        let span = input.spot(&path(at)).value;
        let mut d = if *other == name {
            let message = format!("the {what} `{name}` is there twice");
            input.error(&span, message, "must be unique")
        } else {
            let message = format!("only capitals tell `{name}` from `{other}`");
            input.warning(&span, message, "many systems will take them for one")
        };
        d.related.push(Related {
            place: input.source.place(&input.spot(&path(*first)).value),
            label: "first here".to_owned(),
        });
        d.help.push("give one of them another name".to_owned());
        found.push(d);
    }
}

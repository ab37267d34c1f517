//! Tag exports and projects of KEPServerEX and ThingWorx Kepware Server.
//!
//! A CSV has one tag a line and names its columns; a JSON project has channels, devices, tags and
//! groups of tags, with properties named like `servermain.TAG_ADDRESS`. Source: Kepware, KEPServerEX
//! manual, "Tag Properties" and "Import/Export"; Configuration API, property definitions.

use super::address::{Suffix, address};
use crate::config::{MAX_ID, MAX_TAG_NAME};
use anyhow::{Context, bail};
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// A device that was read.
#[derive(Debug)]
pub(super) struct Device {
    pub id: String,
    pub address: String,
    pub unit_id: u8,
    pub tags: Vec<Tag>,
    /// Tags that were not taken over, and why.
    pub left: Vec<(String, String)>,
}

/// A tag that was taken over.
#[derive(Debug)]
pub(super) struct Tag {
    pub name: String,
    pub unit: String,
    pub description: String,
    pub writable: bool,
    /// The point as TOML.
    pub point: String,
    scan_ms: u64,
}

impl Device {
    fn new(id: String, address: String, unit_id: u8) -> Self {
        Self {
            id,
            address,
            unit_id,
            tags: Vec::new(),
            left: Vec::new(),
        }
    }

    /// As often as its quickest tag.
    pub fn period_ms(&self) -> u64 {
        let scans = self.tags.iter().map(|tag| tag.scan_ms);
        scans.filter(|ms| *ms > 0).min().unwrap_or(1000)
    }

    fn take(&mut self, raw: Raw, how: &How) {
        let named = raw.name.clone();
        match raw.tag(how) {
            Ok(mut tag) => {
                let taken: BTreeSet<_> = self.tags.iter().map(|t| t.name.to_lowercase()).collect();
                let plain = tag.name.clone();
                let mut next = 2;
                while taken.contains(&tag.name.to_lowercase()) {
                    tag.name = format!("{plain}_{next}");
                    next += 1;
                }
                self.tags.push(tag);
            }
            Err(reason) => self.left.push((named, reason)),
        }
    }
}

/// How a device's tags are to be understood.
struct How {
    little: bool,
    /// Number of the first cell.
    first: u32,
}

/// A tag as the export has it.
#[derive(Default)]
struct Raw {
    name: String,
    address: String,
    kind: String,
    writable: bool,
    scan_ms: u64,
    scaling: String,
    raw: (f64, f64),
    scaled: (f64, f64),
    clamped: bool,
    negated: bool,
    unit: String,
    description: String,
}

impl Raw {
    fn tag(self, how: &How) -> Result<Tag, String> {
        if self.address.starts_with('_') || self.name.contains("_System.") {
            return Err("a tag of Kepware itself".into());
        }
        let at = address(&self.address, how.first)?;
        let kind = self.kind.trim_end_matches(" Array");
        let bits = matches!(at.table, "coil" | "discrete_input");
        let mut point = vec![format!("{} = {}", at.table, at.cell)];
        let mut wide = false;
        match (kind, at.suffix) {
            ("Boolean", Suffix::Bit(bit)) => point.push(format!("bit = {bit}")),
            (_, Suffix::Bit(_)) => return Err(format!("a bit cannot be a {kind}")),
            ("Boolean" | "Default", _) if bits => {}
            (_, _) if bits => return Err(format!("a {} cannot be a {kind}", at.table)),
            ("String", Suffix::Text { bytes, high_first }) => {
                let registers = bytes.div_ceil(2);
                point.push(format!("type = \"text\", registers = {registers}"));
                if !high_first {
                    point.push("swap_bytes = true".into());
                }
            }
            (_, Suffix::Text { .. }) => return Err(format!("text cannot be a {kind}")),
            (kind, _) => {
                let (name, registers) = match kind {
                    "Boolean" => ("bool", 1),
                    "Word" | "Default" => ("u16", 1),
                    "Short" => ("i16", 1),
                    "DWord" => ("u32", 2),
                    "Long" => ("i32", 2),
                    "Float" => ("f32", 2),
                    "QWord" => ("u64", 4),
                    "LLong" => ("i64", 4),
                    "Double" => ("f64", 4),
                    "BCD" => ("bcd16", 1),
                    "LBCD" => ("bcd32", 2),
                    other => return Err(format!("the data type {other} is not known here")),
                };
                wide = registers > 1;
                point.push(format!("type = \"{name}\""));
            }
        }
        if let Suffix::Array(elements) = at.suffix {
            point.push(format!("elements = {elements}"));
        }
        if wide && how.little {
            point.push("word_order = \"little\"".into());
        }
        if let Some((scale, offset)) = self.scale()? {
            point.push(format!("scale = {scale:?}"));
            if offset != 0.0 {
                point.push(format!("offset = {offset:?}"));
            }
        }
        let writable = self.writable && matches!(at.table, "coil" | "holding_register");
        Ok(Tag {
            name: tag_name(&self.name),
            unit: self.unit.trim().to_owned(),
            description: self.description.trim().to_owned(),
            writable,
            point: format!("{{ {} }}", point.join(", ")),
            scan_ms: self.scan_ms,
        })
    }

    fn scale(&self) -> Result<Option<(f64, f64)>, String> {
        match self.scaling.as_str() {
            "" | "None" => return Ok(None),
            "Linear" => {}
            other => return Err(format!("{other} scaling is not known here")),
        }
        if self.clamped {
            return Err(
                "its scaled values are clamped, which would hide what is out of range".into(),
            );
        }
        let (low, high) = self.raw;
        let sign = if self.negated { -1.0 } else { 1.0 };
        let scale = sign * (self.scaled.1 - self.scaled.0) / (high - low);
        let offset = sign * self.scaled.0 - low * scale;
        if !scale.is_finite() || !offset.is_finite() || scale == 0.0 {
            return Err("its scaling has no range".into());
        }
        Ok(Some((scale, offset)))
    }
}

/// A name without what names of tags cannot have.
fn tag_name(name: &str) -> String {
    let plain = |c: char| if c.is_control() || c == '/' { '_' } else { c };
    let name: String = name.trim().chars().map(plain).collect();
    let mut end = name.len().min(MAX_TAG_NAME - 8);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let name = name.get(..end).unwrap_or_default().trim();
    if name.is_empty() { "tag" } else { name }.to_owned()
}

/// An id made from a name.
fn id(name: &str, taken: &BTreeSet<String>) -> String {
    let plain = |c: char| match c {
        'a'..='z' | '0'..='9' | '_' | '.' => c,
        'A'..='Z' => c.to_ascii_lowercase(),
        _ => '-',
    };
    let id: String = name.chars().map(plain).take(MAX_ID - 4).collect();
    let id = id.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let id = if id.is_empty() { "device" } else { id };
    let numbered = (2u32..).map(|n| format!("{id}-{n}"));
    let mut all = std::iter::once(id.to_owned()).chain(numbered);
    all.find(|id| !taken.contains(id)).unwrap_or_default()
}

/// Reads a tag export: one device.
pub(super) fn csv(text: &str, name: &str, address: &str, little: bool) -> anyhow::Result<Device> {
    // Comments stand before the line with the columns' names.
    let begin = text
        .find("Tag Name")
        .context("there is no column `Tag Name`")?;
    let begin = text[..begin].rfind('\n').map_or(0, |at| at + 1);
    let mut reader = ::csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(&text.as_bytes()[begin..]);
    let columns = reader.headers()?.clone();
    let column = |name: &str| columns.iter().position(|c| c.trim() == name);
    let (Some(names), Some(addresses)) = (column("Tag Name"), column("Address")) else {
        bail!("the columns `Tag Name` and `Address` are needed");
    };
    let mut device = Device::new(id(name, &BTreeSet::new()), address.to_owned(), 1);
    let how = How { little, first: 1 };
    for row in reader.records() {
        let row = row?;
        let at = |index: usize| row.get(index).unwrap_or_default().trim().to_owned();
        let cell = |name: &str| column(name).map_or(String::new(), at);
        let number = |name: &str| cell(name).parse().unwrap_or(0.0);
        let truth = |name: &str| !matches!(cell(name).to_lowercase().as_str(), "" | "0" | "false");
        if at(names).is_empty() && at(addresses).is_empty() {
            continue;
        }
        let raw = Raw {
            name: at(names),
            address: at(addresses),
            kind: cell("Data Type"),
            writable: cell("Client Access") == "R/W",
            scan_ms: cell("Scan Rate").parse().unwrap_or(0),
            scaling: cell("Scaling"),
            raw: (number("Raw Low"), number("Raw High")),
            scaled: (number("Scaled Low"), number("Scaled High")),
            clamped: truth("Clamp Low") || truth("Clamp High"),
            negated: truth("Negate Value"),
            unit: cell("Eng Units"),
            description: cell("Description"),
        };
        device.take(raw, &how);
    }
    Ok(device)
}

/// Names of the data types by their numbers; arrays begin at 20.
const KINDS: [&str; 15] = [
    "String", "Boolean", "Char", "Byte", "Short", "Word", "Long", "DWord", "Float", "Double",
    "BCD", "LBCD", "Date", "LLong", "QWord",
];

/// Reads a project, or a part of one: every device of every channel.
pub(super) fn project(text: &str) -> anyhow::Result<Vec<Device>> {
    let json: Json = serde_json::from_str(text)?;
    let root = json.get("project").unwrap_or(&json);
    let list = |of: &Json, key: &str| -> Vec<Json> {
        of.get(key)
            .and_then(Json::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut channels = list(root, "channels");
    if channels.is_empty() && root.get("devices").is_some() {
        channels.push(root.clone());
    }
    if channels.is_empty() && root.get("tags").is_some() {
        channels.push(serde_json::json!({ "devices": [root] }));
    }
    if channels.is_empty() {
        bail!("it has neither channels nor devices nor tags");
    }
    let mut devices: Vec<Device> = Vec::new();
    for channel in &channels {
        for device in list(channel, "devices") {
            let taken = devices.iter().map(|d| d.id.clone()).collect();
            devices.push(one_device(channel, &device, &taken));
        }
    }
    Ok(devices)
}

fn text_of(of: &Json, key: &str) -> String {
    of.get(key)
        .and_then(Json::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn truth_of(of: &Json, key: &str) -> Option<bool> {
    let value = of.get(key)?;
    value.as_bool().or(value.as_i64().map(|n| n != 0))
}

fn one_device(channel: &Json, json: &Json, taken: &BTreeSet<String>) -> Device {
    let name = text_of(json, "common.ALLTYPES_NAME");
    let full = match text_of(channel, "common.ALLTYPES_NAME").as_str() {
        "" => name,
        channel => format!("{channel}-{name}"),
    };
    let (host, unit) = device_id(&text_of(json, "servermain.DEVICE_ID_STRING"));
    let port = json.get("modbus_ethernet.DEVICE_ETHERNET_PORT_NUMBER");
    let port = port.and_then(Json::as_u64).unwrap_or(502);
    let mut device = Device::new(id(&full, taken), format!("{host}:{port}"), unit);
    let driver = [json, channel]
        .map(|of| text_of(of, "servermain.MULTIPLE_TYPES_DEVICE_DRIVER"))
        .into_iter()
        .find(|driver| !driver.is_empty());
    let other = driver.filter(|driver| !driver.contains("Modbus"));
    // What the driver does unless it is told otherwise.
    let zero_based = truth_of(json, "modbus_ethernet.DEVICE_ZERO_BASED_ADDRESSING");
    let how = How {
        little: truth_of(json, "modbus_ethernet.DEVICE_FIRST_WORD_LOW").unwrap_or(true),
        first: u32::from(zero_based.unwrap_or(true)),
    };
    tags(json, "", &mut |raw| match &other {
        Some(driver) => {
            let reason = format!("its driver is {driver}, and only Modbus is taken over");
            device.left.push((raw.name, reason));
        }
        None => device.take(raw, &how),
    });
    device
}

/// Host and unit of a device's id: `<192.168.1.10>.3`, or `192.168.1.10.3`.
fn device_id(text: &str) -> (String, u8) {
    let plain = text.trim().trim_start_matches('<');
    let (host, unit) = match plain.split_once('>') {
        Some((host, rest)) => (host, rest.trim_start_matches('.')),
        None => match plain.rsplit_once('.') {
            Some((host, unit)) if host.matches('.').count() == 3 => (host, unit),
            _ => (plain, ""),
        },
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let host = match host {
        host if !host.is_empty() && host.chars().all(fits) => host,
        // A placeholder that check accepts and no network routes (RFC 5737).
        _ => "192.0.2.1",
    };
    (host.to_owned(), unit.parse().unwrap_or(1))
}

/// Every tag of a device or group, and of the groups below.
fn tags(of: &Json, path: &str, take: &mut impl FnMut(Raw)) {
    let list = |key: &str| of.get(key).and_then(Json::as_array).into_iter().flatten();
    for tag in list("tags") {
        take(raw(tag, path));
    }
    for group in list("tag_groups") {
        let name = text_of(group, "common.ALLTYPES_NAME");
        tags(group, &format!("{path}{name}."), take);
    }
}

fn raw(tag: &Json, path: &str) -> Raw {
    let number = |key: &str| tag.get(key).and_then(Json::as_f64).unwrap_or(0.0);
    let whole = |key: &str| tag.get(key).and_then(Json::as_i64);
    let kind = match whole("servermain.TAG_DATA_TYPE") {
        None | Some(-1) => Some("Default".to_owned()),
        Some(number) => {
            let (at, array) = if number >= 20 {
                (number - 20, " Array")
            } else {
                (number, "")
            };
            let name = usize::try_from(at).ok().and_then(|at| KINDS.get(at));
            name.map(|name| format!("{name}{array}"))
        }
    };
    let scaling = match whole("servermain.TAG_SCALING_TYPE") {
        None | Some(0) => "None",
        Some(1) => "Linear",
        Some(_) => "Square Root",
    };
    let truth = |key: &str| truth_of(tag, key).unwrap_or(false);
    Raw {
        name: format!("{path}{}", text_of(tag, "common.ALLTYPES_NAME")),
        address: text_of(tag, "servermain.TAG_ADDRESS"),
        kind: kind.unwrap_or_else(|| "with a number that nobody knows".to_owned()),
        writable: whole("servermain.TAG_READ_WRITE_ACCESS") == Some(1),
        scan_ms: tag
            .get("servermain.TAG_SCAN_RATE_MILLISECONDS")
            .and_then(Json::as_u64)
            .unwrap_or(0),
        scaling: scaling.to_owned(),
        raw: (
            number("servermain.TAG_SCALING_RAW_LOW"),
            number("servermain.TAG_SCALING_RAW_HIGH"),
        ),
        scaled: (
            number("servermain.TAG_SCALING_SCALED_LOW"),
            number("servermain.TAG_SCALING_SCALED_HIGH"),
        ),
        clamped: truth("servermain.TAG_SCALING_CLAMP_LOW")
            || truth("servermain.TAG_SCALING_CLAMP_HIGH"),
        negated: truth("servermain.TAG_SCALING_NEGATE_VALUE"),
        unit: text_of(tag, "servermain.TAG_SCALING_UNITS"),
        description: text_of(tag, "common.ALLTYPES_DESCRIPTION"),
    }
}

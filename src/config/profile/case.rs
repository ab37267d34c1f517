//! Golden cases: what a machine says, and what must come of it.

use super::argument::Argument;
use super::assemble::Chain;
use crate::config::diagnostic::Diagnostic;
use crate::config::explain::{AlsoKnown, nearest};
use crate::config::mistake::Mistake;
use crate::config::reading::Reading;
use crate::config::source::Sources;
use crate::config::tree::{Entry, Node, Value};
use crate::config::{DeviceConfig, reader};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A case of a profile.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The device with the case's parameters.
    pub device: DeviceConfig,
    /// What stands in the device's registers, for Modbus.
    pub registers: Registers,
    /// Values of the server's nodes, for OPC UA.
    pub values: BTreeMap<String, toml::Value>,
    /// Values of tags that must come out.
    pub expect: BTreeMap<String, toml::Value>,
    /// How its cycles are told.
    pub cycle: Option<CycleCase>,
}

/// What the tag that tells cycles says, one value after the other, and what comes of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CycleCase {
    /// The values.
    pub values: Vec<toml::Value>,
    /// How many batches end by them.
    pub ends: usize,
}

/// What stands in a Modbus device: by first address, values one after the other.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registers {
    /// Holding registers.
    pub holding: BTreeMap<String, Vec<u16>>,
    /// Input registers.
    pub input: BTreeMap<String, Vec<u16>>,
    /// Coils.
    pub coils: BTreeMap<String, Vec<bool>>,
    /// Discrete inputs.
    pub discrete_inputs: BTreeMap<String, Vec<bool>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseText {
    name: String,
    /// Read from the tree, for its places.
    #[serde(default)]
    #[allow(dead_code)]
    with: BTreeMap<String, Argument>,
    #[serde(default)]
    registers: Registers,
    #[serde(default)]
    values: BTreeMap<String, toml::Value>,
    expect: BTreeMap<String, toml::Value>,
    #[serde(default)]
    cycle: Option<CycleCase>,
}

/// The cases of a profile; what is wrong with them goes into `found`.
pub fn cases(chain: &Chain, sources: &Sources<'_>, found: &mut Vec<Diagnostic>) -> Vec<Case> {
    let Some(own) = chain.templates.last() else {
        return Vec::new();
    };
    let mut reading = Reading::default();
    let mut cases = Vec::new();
    for node in &own.cases {
        let mut table = node.clone();
        let Some(text) = reading.table::<CaseText>(&mut table, &AlsoKnown::default()) else {
            continue;
        };
        addresses(&table, &mut reading.mistakes);
        let given: &[Entry<'_>] = match table.get("with").map(|with| &with.value) {
            Some(Value::Table(entries)) => entries,
            _ => &[],
        };
        let Some((mut of_case, device)) = reader::probe(chain, given, sources) else {
            continue;
        };
        reading.mistakes.append(&mut of_case.mistakes);
        let Some(device) = device else { continue };
        let names: Vec<_> = device.config.tags.iter().map(|t| t.name.clone()).collect();
        let expected = table.get("expect").map_or(&[][..], Node::entries);
        for entry in expected
            .iter()
            .filter(|e| !names.iter().any(|n| *n == e.key))
        {
            let meant = nearest(&entry.key, &names);
            let label = match &meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "no tag has this name".to_owned(),
            };
            let message = format!("the profile has no tag `{}`", entry.key);
            let mistake = Mistake::new(entry.at.clone(), message, label)
                .help("`weighbridge profile show PROFILE` lists its tags")
                .suggest(meant);
            reading.mistakes.push(mistake);
        }
        cases.push(Case {
            name: text.name,
            device: device.config,
            registers: text.registers,
            values: text.values,
            expect: text.expect,
            cycle: text.cycle,
        });
    }
    found.extend(reading.mistakes.iter().map(|m| m.diagnostic(sources)));
    cases
}

/// Keys of registers are addresses, and nothing goes past the last one.
fn addresses(table: &Node<'_>, mistakes: &mut Vec<Mistake>) {
    let registers = table.get("registers").map_or(&[][..], Node::entries);
    for entry in registers.iter().flat_map(|t| t.node.entries()) {
        let cells = entry.node.elements().len();
        let address: Option<usize> = entry.key.parse().ok();
        if address.is_none_or(|address| address + cells > 65_536) {
            let message = format!("`{}` is no address for {cells} cells", entry.key);
            let label = "expected the first address, 0 to 65535, in quotes";
            let mistake = Mistake::new(entry.at.clone(), message, label);
            mistakes.push(mistake.help("write for example `\"100\" = [1, 2]`"));
        }
    }
}

//! Runs golden cases: a device that holds the case's registers is read as any other would be, from
//! the requests to the samples.

use super::cycles;
use crate::cli::output::Style;
use crate::config::DeviceConfig;
use crate::config::profile::{Case, Profile};
use crate::hub::DeviceSetup;
use crate::model::{BatchBuilder, Quality, Value, ValueKind};
use crate::protocols::Mode;
use crate::protocols::modbus::{Endpoint, ModbusConfig};
use crate::sim::register_image::{ImageServer, RegisterImage};
use anyhow::Context;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// How long a case may take: everything is on this machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of one case.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    profile: String,
    case: String,
    /// What was compared.
    values: usize,
    /// What differed, in words.
    wrong: Vec<String>,
}

impl Outcome {
    pub(super) fn passed(&self) -> bool {
        self.wrong.is_empty()
    }
}

pub(super) fn run(profiles: &[Profile]) -> anyhow::Result<Vec<Outcome>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime can be started")?;
    let mut outcomes = Vec::new();
    for profile in profiles {
        for case in &profile.cases {
            let samples = match case.device.modbus {
                Some(_) => runtime.block_on(async { timeout(PATIENCE, over_modbus(case)).await }),
                None => Ok(over_opcua(case)),
            };
            let samples = samples.unwrap_or_else(|_| Err("the device did not answer".into()));
            let mut wrong = match samples {
                Ok(samples) => differences(case, &samples),
                Err(reason) => vec![reason],
            };
            if let Some(cycle) = &case.cycle {
                wrong.extend(runtime.block_on(cycles::differs(case, cycle)).err());
            }
            outcomes.push(Outcome {
                profile: profile.id.clone(),
                case: case.name.clone(),
                values: case.expect.len() + case.cycle.iter().len(),
                wrong,
            });
        }
    }
    Ok(outcomes)
}

type Samples = BTreeMap<String, Result<Value, String>>;

/// Reads the case's registers over a real connection.
async fn over_modbus(case: &Case) -> Result<Samples, String> {
    let server = ImageServer::start(image(case)).await;
    let server = server.map_err(|e| format!("no device can be simulated: {e}"))?;
    let device = at(&case.device, Endpoint::from(server.address()));
    let setup = DeviceSetup::from_config(&device).map_err(|e| e.to_string())?;
    let make = setup.source().ok_or("the device is read by an edge node")?;
    let mut source = make();
    let tags = source.tags();
    let mut batch = match source.mode() {
        Mode::Scanning => BatchBuilder::scanning(device.id.clone(), tags.clone()),
        Mode::Subscribing => BatchBuilder::subscribing(device.id.clone(), tags.clone()),
    };
    source.connect().await.map_err(|e| e.to_string())?;
    source.read(&mut batch).await.map_err(|e| e.to_string())?;
    let read = batch.take(0, 0).ok_or("nothing was read")?;
    source.close().await;
    let mut samples = Samples::new();
    for (tag, column) in tags.iter().zip(&read.columns) {
        let last = column.values.len().saturating_sub(1);
        let quality = column.quality.get(last);
        let sample = match column.values.get(last) {
            Some(value) if quality == Quality::GOOD => Ok(value),
            _ => Err(format!("its quality is {quality:?}")),
        };
        samples.insert(tag.name.to_string(), sample);
    }
    Ok(samples)
}

/// The device with another address, and asked as often as it likes.
fn at(device: &DeviceConfig, address: Endpoint) -> DeviceConfig {
    let mut device = device.clone();
    device.modbus = device.modbus.map(|modbus| ModbusConfig {
        unit_id: modbus.unit_id,
        max_registers: modbus.max_registers,
        max_coils: modbus.max_coils,
        max_gap: modbus.max_gap,
        ..ModbusConfig::new(address)
    });
    device
}

fn image(case: &Case) -> RegisterImage {
    fn table<T: Copy>(given: &BTreeMap<String, Vec<T>>) -> BTreeMap<u16, T> {
        let runs = given.iter().filter_map(|(first, cells)| {
            // Checked when the profile was read.
            let first: u16 = first.parse().ok()?;
            Some((first..=u16::MAX).zip(cells.iter().copied()))
        });
        runs.flatten().collect()
    }
    let registers = &case.registers;
    RegisterImage {
        holding: table(&registers.holding),
        input: table(&registers.input),
        coils: table(&registers.coils),
        discrete_inputs: table(&registers.discrete_inputs),
    }
}

/// Gives every tag the value of its node, as its type.
fn over_opcua(case: &Case) -> Result<Samples, String> {
    let mut samples = Samples::new();
    let mut unread: Vec<&String> = case.values.keys().collect();
    for tag in &case.device.tags {
        let Some(point) = &tag.opcua else { continue };
        let node = point.node.to_string();
        unread.retain(|known| **known != node);
        let sample = match case.values.get(&node) {
            Some(value) => converted(value, point.kind)
                .ok_or_else(|| format!("{value} is no {:?}", point.kind)),
            None => Err(format!("the case has no value of its node `{node}`")),
        };
        samples.insert(tag.name.clone(), sample);
    }
    match unread.first() {
        Some(node) => Err(format!("no tag reads the node `{node}`")),
        None => Ok(samples),
    }
}

pub(super) fn converted(value: &toml::Value, kind: ValueKind) -> Option<Value> {
    Some(match (kind, value) {
        (ValueKind::Bool, toml::Value::Boolean(v)) => Value::Bool(*v),
        (ValueKind::I64, toml::Value::Integer(v)) => Value::I64(*v),
        (ValueKind::U64, toml::Value::Integer(v)) => Value::U64(u64::try_from(*v).ok()?),
        (ValueKind::F64, toml::Value::Float(v)) => Value::F64(*v),
        (ValueKind::F64, toml::Value::Integer(v)) => Value::F64(*v as f64),
        (ValueKind::Text, toml::Value::String(v)) => Value::Text(v.as_str().into()),
        _ => return None,
    })
}

fn differences(case: &Case, samples: &Samples) -> Vec<String> {
    let differs = |(tag, wanted): (&String, &toml::Value)| match samples.get(tag) {
        None => Some(format!("{tag}: there is no such tag")),
        Some(Err(reason)) => Some(format!("{tag}: {reason}")),
        Some(Ok(value)) if same(value, wanted) => None,
        Some(Ok(value)) => Some(format!(
            "{tag}: expected {wanted}, and it is {}",
            shown(value)
        )),
    };
    case.expect.iter().filter_map(differs).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(v) => v.to_string(),
        Value::I64(v) => v.to_string(),
        Value::U64(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        Value::Text(v) => format!("{v:?}"),
        Value::Bytes(v) => format!("{v:02x?}"),
    }
}

/// Whether a value is the one in the file; numbers with a fraction to nine digits, since scaling
/// rounds.
fn same(value: &Value, wanted: &toml::Value) -> bool {
    let number = match wanted {
        toml::Value::Integer(n) => Some(*n as f64),
        toml::Value::Float(n) => Some(*n),
        _ => None,
    };
    match (value, wanted, number) {
        (Value::Bool(v), toml::Value::Boolean(w), _) => v == w,
        (Value::I64(v), toml::Value::Integer(w), _) => v == w,
        (Value::U64(v), toml::Value::Integer(w), _) => u64::try_from(*w) == Ok(*v),
        (Value::F64(v), _, Some(w)) => (v - w).abs() <= 1e-9 * w.abs().max(1.0),
        (Value::Text(v), toml::Value::String(w), _) => **v == **w,
        (Value::Bytes(v), toml::Value::String(w), _) => {
            let hex: String = v.iter().map(|byte| format!("{byte:02x}")).collect();
            hex == *w
        }
        _ => false,
    }
}

pub(super) fn text(outcomes: &[Outcome], style: Style) -> String {
    let mut out = String::new();
    for outcome in outcomes {
        let mark = match outcome.passed() {
            true => style.green("✓"),
            false => style.red("×"),
        };
        let profile = style.bold(&outcome.profile);
        out.push_str(&format!("{mark} {profile}: {}\n", outcome.case));
        for wrong in &outcome.wrong {
            out.push_str(&format!("    {wrong}\n"));
        }
    }
    let failed = outcomes.iter().filter(|o| !o.passed()).count();
    let values: usize = outcomes.iter().map(|o| o.values).sum();
    out.push_str(&match (outcomes.len(), failed) {
        (0, _) => "there are no cases\n".to_owned(),
        (all, 0) => format!("{all} cases, {values} values, all as expected\n"),
        (all, failed) => format!("{failed} of {all} cases did not come out as expected\n"),
    });
    out
}

pub(super) fn json(outcomes: &[Outcome]) -> Json {
    let cases: Vec<_> = outcomes
        .iter()
        .map(|o| {
            json!({
                "profile": o.profile, "case": o.case, "ok": o.passed(),
                "values": o.values, "wrong": o.wrong,
            })
        })
        .collect();
    json!({ "ok": outcomes.iter().all(Outcome::passed), "cases": cases })
}

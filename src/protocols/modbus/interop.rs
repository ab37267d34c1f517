//! The source against a server that others wrote. Needs pymodbus, so it runs only when asked for:
//! `WEIGHBRIDGE_PYTHON=venv/bin/python cargo test -- --ignored pymodbus`.

use super::config::ModbusConfig;
use super::point::ModbusPoint;
use super::source::ModbusSource;
use super::transport::Endpoint;
use crate::model::{BatchBuilder, Quality, TagSpec, Value};
use crate::protocols::source::Source;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const TAGS: [(&str, Value); 15] = [
    ("holding_register = 0\ntype = 'f32'", Value::F64(21.5)),
    (
        "holding_register = 2\ntype = 'f32'\nword_order = 'little'",
        Value::F64(6.25),
    ),
    (
        "holding_register = 6\ntype = 'i16'\nscale = 0.5",
        Value::F64(-20.0),
    ),
    (
        "holding_register = 8\ntype = 'f64'",
        Value::F64(1_234.567_890_1),
    ),
    (
        "holding_register = 12\ntype = 'bytes'\nregisters = 1",
        Value::Bytes(Vec::new()),
    ),
    (
        "holding_register = 12\ntype = 'text'\nregisters = 4",
        Value::Text(String::new()),
    ),
    ("holding_register = 20\nbit = 15", Value::Bool(true)),
    ("holding_register = 20\nbit = 1", Value::Bool(false)),
    ("holding_register = 20", Value::U64(0b1000_0000_0000_0101)),
    ("input_register = 0", Value::U64(1000)),
    ("input_register = 99", Value::U64(1099)),
    ("coil = 9", Value::Bool(true)),
    ("coil = 8", Value::Bool(false)),
    ("discrete_input = 1", Value::Bool(false)),
    ("discrete_input = 3", Value::Bool(true)),
];

#[tokio::test]
#[ignore = "needs pymodbus"]
async fn pymodbus_is_read_as_a_plc() {
    let python = std::env::var("WEIGHBRIDGE_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/pymodbus_plc.py");
    let mut server = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = format!("127.0.0.1:{}", said["port"]);

    let mut points: Vec<ModbusPoint> = TAGS
        .iter()
        .map(|(text, _)| toml::from_str(text).unwrap())
        .collect();
    let counter = points.len();
    points.push(toml::from_str("holding_register = 4\ntype = 'u32'").unwrap());
    points.push(toml::from_str("holding_register = 7").unwrap());
    let tag = |(i, point): (usize, ModbusPoint)| {
        let spec = TagSpec {
            name: format!("tag{i}").into(),
            kind: point.value_kind(),
            unit: String::new(),
            description: String::new(),
            range: None,
            writable: false,
        };
        (spec, point)
    };
    let mut config = ModbusConfig::new(Endpoint::try_from(address).unwrap());
    config.period_ms = 150.try_into().unwrap();
    // Reads over the holes on purpose: the device refuses, and the source has to find out why.
    config.max_gap = 10.try_into().unwrap();
    let points = points.into_iter().enumerate().map(tag).collect();
    let mut source = ModbusSource::new("pymodbus".into(), config, points).unwrap();
    source.connect().await.unwrap();
    let mut out = BatchBuilder::scanning("pymodbus".into(), source.tags());
    for _ in 0..3 {
        source.read(&mut out).await.unwrap();
    }
    source.close().await;
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());

    let batch = out.take(1, 1).unwrap();
    for ((text, expected), column) in TAGS.iter().zip(&batch.columns) {
        let expected = match expected {
            Value::Bytes(_) => Value::Bytes(b"PR".to_vec()),
            Value::Text(_) => Value::Text("PRESS 4".into()),
            other => other.clone(),
        };
        for scan in 0..3 {
            assert_eq!(column.quality.get(scan), Quality::GOOD, "{text}");
            assert_eq!(column.values.get(scan), Some(expected.clone()), "{text}");
        }
    }
    let counts: Vec<_> = (0..3)
        .map(|i| batch.columns[counter].values.number(i))
        .collect();
    assert!(
        counts[0] < counts[2],
        "the counter stands still: {counts:?}"
    );
    assert!(batch.columns[counter + 1].quality.get(2).is_bad());
}

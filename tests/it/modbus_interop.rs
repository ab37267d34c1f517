//! Reads and writes a device that others wrote, as a file says: `tests/interop/modbus.py` starts the
//! device, writes the file, and looks into the device afterwards.

use serde::Deserialize;
use weighbridge::model::{BatchBuilder, TagSpec, Value};
use weighbridge::protocols::Source;
use weighbridge::protocols::control::TagWrite;
use weighbridge::protocols::modbus::{ModbusConfig, ModbusPoint, ModbusSource};

/// What is to be done.
#[derive(Deserialize)]
struct Job {
    modbus: ModbusConfig,
    write: Vec<Write>,
}

#[derive(Deserialize)]
struct Write {
    modbus: ModbusPoint,
    value: toml::Value,
}

fn value(toml: &toml::Value) -> Value {
    match toml {
        toml::Value::Boolean(on) => Value::Bool(*on),
        toml::Value::Integer(x) => Value::I64(*x),
        toml::Value::Float(x) => Value::F64(*x),
        toml::Value::String(text) => Value::Text(text.clone()),
        other => panic!("{other} is no value"),
    }
}

#[tokio::test]
#[ignore = "run by tests/interop/modbus.py, which says where the device is"]
async fn reads_and_writes_what_it_is_told() {
    let file = std::env::var("WEIGHBRIDGE_INTEROP_MODBUS").expect("a file with a job");
    let job: Job = toml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let points = job.write.iter().enumerate().map(|(i, write)| {
        let spec = TagSpec {
            name: format!("t{i}").into(),
            kind: write.modbus.value_kind(),
            unit: String::new(),
            description: String::new(),
            range: None,
            writable: true,
        };
        (spec, write.modbus.clone())
    });
    let mut source = ModbusSource::new("plc".into(), job.modbus, points.collect()).unwrap();
    source.connect().await.unwrap();
    if let Some(identification) = source.identification() {
        println!("identification: {identification}");
    }
    let control = source.control().unwrap();
    let writes = job.write.iter().enumerate();
    let writes: Vec<TagWrite> = writes
        .map(|(tag, write)| TagWrite {
            tag,
            value: value(&write.value),
        })
        .collect();
    for (write, written) in job.write.iter().zip(control.write(&writes).await.unwrap()) {
        written.unwrap_or_else(|fault| panic!("{:?}: {fault}", write.modbus));
    }
    let mut out = BatchBuilder::scanning("plc".into(), source.tags());
    source.read(&mut out).await.unwrap();
    let batch = out.take(1, 1).unwrap();
    for (column, write) in batch.columns.iter().zip(&job.write) {
        let read = column.values.get(0).unwrap();
        let wanted = value(&write.value);
        let same = match (&read, read.as_f64(), wanted.as_f64()) {
            (Value::F64(_) | Value::I64(_) | Value::U64(_), Some(a), Some(b)) => {
                (a - b).abs() <= 1e-6 * b.abs()
            }
            _ => read == wanted,
        };
        assert!(same, "{:?} reads {read}, not {wanted}", write.modbus);
    }
    source.close().await;
    println!("{} values written and read", writes.len());
}

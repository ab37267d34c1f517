//! `weighbridge import`: tags that another gateway was taught already.

mod address;
mod kepware;

use super::output::{self, Style};
use crate::config;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use kepware::{Device, Tag};
use serde_json::json;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `weighbridge import` is told.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    command: ImportCommand,
}

#[derive(Debug, Subcommand)]
enum ImportCommand {
    /// Read a tag export (CSV) or a project (JSON) of KEPServerEX or ThingWorx Kepware Server
    #[command(after_help = "\
Examples:
  weighbridge import kepware tags.csv --address 192.0.2.7:502 -o devices.toml
  weighbridge import kepware project.json -o devices.toml

Modbus addresses are taken over: 4xxxxx, 3xxxxx, 1xxxxx and 0xxxxx, with bits, strings and arrays. What
cannot be is listed, on standard error and in the file. The result is checked before it is written; put
it into the configuration of a hub.

Exit codes: 0 all was taken over, 1 something was not (the rest is written) or nothing could be read.")]
    Kepware(KepwareArgs),
}

#[derive(Debug, Args)]
struct KepwareArgs {
    /// The export: .csv or .json
    file: PathBuf,
    /// Where the devices are written; standard output when it is not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// host:port of the device, for a CSV, which has none
    #[arg(long, value_name = "HOST:PORT", default_value = "192.0.2.1:502")]
    address: String,
    /// Which word of a value of several registers comes first, for a CSV; Kepware's default is little
    #[arg(long, value_parser = ["little", "big"], default_value = "little")]
    word_order: String,
    /// Print one JSON object on what was not taken over
    #[arg(long, requires = "output")]
    json: bool,
}

pub(super) fn run(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let ImportCommand::Kepware(args) = args.command;
    let read = read(&args)?;
    let text = toml(&read, &args.file);
    accepted(&text)?;
    let tags: usize = read.iter().map(|device| device.tags.len()).sum();
    let left: Vec<_> = read
        .iter()
        .flat_map(|device| device.left.iter().map(move |left| (&device.id, left)))
        .collect();
    match &args.output {
        Some(path) => write_new(path, &text)?,
        None => output::print(&text)?,
    }
    if args.json {
        let left = left.iter().map(
            |(device, (tag, reason))| json!({ "device": device, "tag": tag, "reason": reason }),
        );
        output::print_json(&json!({
            "devices": read.len(), "tags": tags, "left_out": left.collect::<Vec<_>>(),
        }))?;
    } else {
        let style = Style::stderr();
        for (device, (tag, reason)) in &left {
            eprintln!("{} {device} {tag}: {reason}", style.yellow("left out:"));
        }
        eprintln!(
            "{} devices, {tags} tags taken over, {} left out",
            read.len(),
            left.len()
        );
    }
    Ok(match left.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn read(args: &KepwareArgs) -> anyhow::Result<Vec<Device>> {
    let path = args.file.display();
    let text = std::fs::read(&args.file).with_context(|| format!("cannot read {path}"))?;
    let text = String::from_utf8_lossy(&text);
    let text = text.trim_start_matches('\u{feff}');
    let extension = args.file.extension().and_then(|e| e.to_str());
    let json = match extension.map(str::to_lowercase).as_deref() {
        Some("json") => true,
        Some("csv") => false,
        _ => text.trim_start().starts_with(['{', '[']),
    };
    let little = args.word_order == "little";
    let devices = if json {
        kepware::project(text).with_context(|| format!("{path} is no project of Kepware"))?
    } else {
        let name = args.file.file_stem().and_then(|s| s.to_str());
        let device = kepware::csv(text, name.unwrap_or("device"), &args.address, little)
            .with_context(|| format!("{path} is no tag export of Kepware"))?;
        vec![device]
    };
    if devices
        .iter()
        .all(|d| d.tags.is_empty() && d.left.is_empty())
    {
        bail!("{path} has no tags");
    }
    Ok(devices)
}

/// The devices as a configuration has them.
fn toml(devices: &[Device], from: &Path) -> String {
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    let mut out = format!("# Taken over from {name} by `weighbridge import kepware`.\n");
    for device in devices {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        // Writing into a String cannot fail.
        let _ = writeln!(out);
        for (tag, reason) in &device.left {
            let _ = writeln!(out, "# left out: {}: {reason}", tag.replace('\n', " "));
        }
        if device.tags.is_empty() {
            continue;
        }
        let _ = writeln!(
            out,
            "[[device]]\nid = {}\nmodbus = {{ address = {}, unit_id = {}, period_ms = {} }}",
            quoted(&device.id),
            quoted(&device.address),
            device.unit_id,
            device.period_ms()
        );
        for Tag {
            name,
            unit,
            description,
            writable,
            point,
            ..
        } in &device.tags
        {
            let _ = writeln!(out, "\n[[device.tag]]\nname = {}", quoted(name));
            for (key, text) in [("unit", unit), ("description", description)] {
                if !text.is_empty() {
                    let _ = writeln!(out, "{key} = {}", quoted(text));
                }
            }
            if *writable {
                let _ = writeln!(out, "writable = true");
            }
            let _ = writeln!(out, "modbus = {point}");
        }
    }
    out
}

/// What is written must be what a hub accepts.
fn accepted(text: &str) -> anyhow::Result<()> {
    let whole = format!("{text}\n[hub]\nid = \"import\"\n");
    match config::parse(&whole, "imported.toml") {
        Ok(_) => Ok(()),
        Err(found) => {
            let found: String = found.iter().map(ToString::to_string).collect();
            bail!("what came out would not be accepted; this is a mistake of the import\n{found}")
        }
    }
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)?;
        file.write_all(text.as_bytes())
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DeviceConfig;

    fn devices(devices: &[Device]) -> Vec<DeviceConfig> {
        let text = toml(devices, Path::new("x.csv"));
        accepted(&text).unwrap();
        let whole = format!("{text}\n[hub]\nid = \"h\"\n");
        config::parse(&whole, "t").unwrap().config.devices
    }

    const CSV: &str = "\
Tag Name,Address,Data Type,Respect Data Type,Client Access,Scan Rate,Scaling,Raw Low,Raw High,Scaled Low,Scaled High,Scaled Data Type,Clamp Low,Clamp High,Eng Units,Description,Negate Value
\"Pump.Speed\",\"400011\",Word,1,RO,100,Linear,0,27648,0,1500,Double,0,0,\"rpm\",\"speed, of the pump\",0
\"Pump.Flow\",\"40021\",Float,1,R/W,200,None,,,,,,,,\"l/min\",,
\"Run\",\"000001\",Boolean,1,R/W,100,None,,,,,,,,,,
\"Door\",\"100003\",Boolean,1,RO,100,None,,,,,,,,,,
\"Ready\",\"400030.2\",Boolean,1,RO,100,None,,,,,,,,,,
\"Order\",\"400101.16H\",String,1,RO,100,None,,,,,,,,,,
\"Zones\",\"300201 [4]\",Short Array,1,RO,100,None,,,,,,,,,,
\"Total\",\"300301\",LBCD,1,RO,1000,None,,,,,,,,,,
\"Root\",\"400400\",Word,1,RO,100,Square Root,0,1,0,1,Double,0,0,,,
\"Clock\",\"400500\",Date,1,RO,100,None,,,,,,,,,,
\"Block\",\"D10\",Word,1,RO,100,None,,,,,,,,,,
\"_System._Error\",\"_Error\",Boolean,1,RO,100,None,,,,,,,,,,
\"Pump/Speed\",\"400600\",Word,1,RO,100,None,,,,,,,,,,
";

    #[test]
    fn a_tag_export_becomes_a_device() {
        let device = kepware::csv(CSV, "Line 1", "192.0.2.7:502", true).unwrap();
        let left: Vec<_> = device.left.iter().map(|(tag, _)| tag.as_str()).collect();
        assert_eq!(left, ["Root", "Clock", "Block", "_System._Error"]);
        assert_eq!(
            device.tags.len() + device.left.len(),
            CSV.lines().count() - 1
        );
        let devices = devices(&[device]);
        let device = &devices[0];
        assert_eq!(&*device.id, "line-1");
        let tag = |name: &str| device.tags.iter().find(|tag| tag.name == name).unwrap();
        let speed = tag("Pump.Speed").modbus.clone().unwrap();
        assert_eq!(speed.address, 10);
        assert_eq!(speed.scale, 1500.0 / 27648.0);
        assert_eq!(tag("Pump.Speed").unit, "rpm");
        assert!(tag("Pump.Flow").writable && !tag("Ready").writable);
        let point = |name: &str| {
            toml::Value::try_from(tag(name).modbus.as_ref())
                .unwrap()
                .to_string()
        };
        assert_eq!(
            point("Pump.Flow"),
            "{ holding_register = 20, type = \"f32\", word_order = \"little\" }"
        );
        assert_eq!(point("Run"), "{ coil = 0 }");
        assert_eq!(point("Door"), "{ discrete_input = 2 }");
        assert_eq!(point("Ready"), "{ bit = 2, holding_register = 29 }");
        assert!(
            point("Order").contains("holding_register = 100"),
            "{}",
            point("Order")
        );
        assert!(
            point("Zones").contains("elements = 4"),
            "{}",
            point("Zones")
        );
        assert!(point("Total").contains("bcd32"), "{}", point("Total"));
        assert!(device.tags.iter().any(|tag| tag.name == "Pump_Speed"));
    }

    const PROJECT: &str = r#"{ "project": { "channels": [ {
        "common.ALLTYPES_NAME": "Modbus", "servermain.MULTIPLE_TYPES_DEVICE_DRIVER": "Modbus TCP/IP Ethernet",
        "devices": [ {
            "common.ALLTYPES_NAME": "Press 1", "servermain.MULTIPLE_TYPES_DEVICE_DRIVER": "Modbus TCP/IP Ethernet",
            "servermain.DEVICE_ID_STRING": "<192.168.1.10>.3", "modbus_ethernet.DEVICE_ETHERNET_PORT_NUMBER": 1502,
            "modbus_ethernet.DEVICE_FIRST_WORD_LOW": false, "modbus_ethernet.DEVICE_ZERO_BASED_ADDRESSING": true,
            "tags": [ { "common.ALLTYPES_NAME": "Force", "servermain.TAG_ADDRESS": "400011", "servermain.TAG_DATA_TYPE": 8,
                        "servermain.TAG_READ_WRITE_ACCESS": 0, "servermain.TAG_SCAN_RATE_MILLISECONDS": 50 } ],
            "tag_groups": [ { "common.ALLTYPES_NAME": "Zones", "tags": [
                { "common.ALLTYPES_NAME": "Z1", "servermain.TAG_ADDRESS": "300001[3]", "servermain.TAG_DATA_TYPE": 25 } ],
                "tag_groups": [ { "common.ALLTYPES_NAME": "Deep", "tags": [
                { "common.ALLTYPES_NAME": "B", "servermain.TAG_ADDRESS": "400001.15", "servermain.TAG_DATA_TYPE": 1,
                  "servermain.TAG_READ_WRITE_ACCESS": 1 } ] } ] } ] } ] },
        { "common.ALLTYPES_NAME": "S7", "servermain.MULTIPLE_TYPES_DEVICE_DRIVER": "Siemens TCP/IP Ethernet",
          "devices": [ { "common.ALLTYPES_NAME": "Cpu", "tags": [
              { "common.ALLTYPES_NAME": "T", "servermain.TAG_ADDRESS": "DB1.REAL0", "servermain.TAG_DATA_TYPE": 8 } ] } ] } ] } }"#;

    #[test]
    fn a_project_becomes_its_devices() {
        let read = kepware::project(PROJECT).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].left.len(), 1, "{:?}", read[1].left);
        assert!(read[1].left[0].1.contains("Siemens TCP/IP Ethernet"));
        let devices = devices(&read);
        assert_eq!(devices.len(), 1);
        let press = &devices[0];
        let modbus = press.modbus.as_ref().unwrap();
        assert_eq!((&*press.id, modbus.unit_id), ("modbus-press-1", 3));
        assert_eq!(modbus.transport.to_string(), "192.168.1.10:1502");
        assert_eq!(modbus.period_ms.get(), 50);
        let names: Vec<_> = press.tags.iter().map(|tag| tag.name.as_str()).collect();
        assert_eq!(names, ["Force", "Zones.Z1", "Zones.Deep.B"]);
        assert!(press.tags[2].writable);
        assert_eq!(press.tags[0].modbus.as_ref().unwrap().address, 10);
    }

    #[test]
    fn what_is_no_export_is_refused() {
        for text in ["", "a,b\n1,2\n", "{", "[]", "{\"project\": 5}"] {
            let csv = kepware::csv(text, "x", "a:1", true);
            let empty = |d: &Device| d.tags.is_empty() && d.left.is_empty();
            assert!(csv.is_err() || csv.is_ok_and(|d| empty(&d)), "{text}");
            let project = kepware::project(text);
            assert!(
                project.is_err() || project.is_ok_and(|p| p.iter().all(empty)),
                "{text}"
            );
        }
    }
}

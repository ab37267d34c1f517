//! `weighbridge sim`: the factory cell alone, for whatever is to be pointed at it.

use super::ending::asked_to_end;
use super::output::{self, Align, Style};
use crate::sim::bench_server::BenchServers;
use crate::sim::cell::{Cell, CellOptions};
use crate::sim::fault::PlannedFault;
use anyhow::Context;
use clap::Args;
use serde_json::{Value as Json, json};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use tokio::runtime::Handle;

/// Longest run, seconds: a year.
const LONGEST: u64 = 366 * 86_400;

/// What `weighbridge sim` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge sim                                    free ports, until Ctrl-C
  weighbridge sim --port-base 15020 --for 600
  weighbridge sim --fault robot-1:drift@30s --fault plc-1/pressure:stuck@60s
  mbpoll -m tcp -p 15020 -0 -1 -t 3:float -B -r 0 -c 6 127.0.0.1     the PLC's measurements

Faults: drift[=SHARE OF RANGE A SECOND], stuck, spike[=SHARE OF RANGE], disconnect, corrupt, nan.
A fault without a signal strikes the machine's first temperature.")]
pub(super) struct SimArgs {
    /// Port of the PLC; the robots take the ones after it [default: free ports]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port_base: Option<u16>,
    /// The interface to listen on; the machines have no protection at all
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Seed of the machines' noise: the same seed gives the same run
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Turn a fault on: DEVICE[/SIGNAL]:FAULT[=SIZE][@SECONDSs]; may be given several times
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<PlannedFault>,
    /// End after this many seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
    seconds: Option<u64>,
    /// Print the machines as one JSON line
    #[arg(long)]
    json: bool,
    /// Serve plain devices for `bench` instead of the cell
    #[arg(long, hide = true, value_name = "N", requires = "bench_registers",
          conflicts_with_all = ["port_base", "faults"], value_parser = clap::value_parser!(u16).range(1..=1000))]
    bench_devices: Option<u16>,
    /// Registers of each
    #[arg(long, hide = true, value_name = "N", requires = "bench_devices",
          value_parser = clap::value_parser!(u16).range(1..=32_768))]
    bench_registers: Option<u16>,
}

pub(super) fn run(args: SimArgs) -> anyhow::Result<ExitCode> {
    if let (Some(devices), Some(registers)) = (args.bench_devices, args.bench_registers) {
        return bench(devices, registers, args.seconds);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the cell's runtime cannot start")?;
    runtime.block_on(cell(args))?;
    Ok(ExitCode::SUCCESS)
}

/// Serves the cell until its time is over or somebody presses Ctrl-C.
async fn cell(args: SimArgs) -> anyhow::Result<()> {
    let options = CellOptions {
        host: args.host,
        port_base: args.port_base,
        seed: args.seed,
    };
    let end = asked_to_end(&Handle::current());
    let cell = Cell::start(&options).await?;
    let faults = cell.panel.run(args.faults)?;
    print_machines(&cell, args.json)?;
    let faults = tokio::spawn(faults);
    let time_is_over = async {
        match args.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = time_is_over => {}
        () = end => {}
    }
    faults.abort();
    Ok(())
}

fn print_machines(cell: &Cell, json: bool) -> anyhow::Result<()> {
    if json {
        let modbus = cell.modbus.iter().map(|m| {
            let tags: Vec<&str> = m.points.iter().map(|(tag, _)| &*tag.name).collect();
            json!({"id": m.id, "group": m.group, "modbus": m.address.to_string(), "tags": tags})
        });
        let opcua = cell.opcua.iter().map(|m| {
            let tags: Vec<&str> = m.points.iter().map(|(tag, _)| &*tag.name).collect();
            json!({"id": m.id, "group": m.group, "opcua": m.url, "tags": tags})
        });
        let machines: Vec<Json> = modbus.chain(opcua).collect();
        // Always one line: whoever reads it waits for the line's end.
        return output::print(&format!("{}\n", json!({ "machines": machines })));
    }
    let headings = ["machine", "group", "protocol", "address", "tags"].map(|h| (h, Align::Left));
    let row = |id: &str, group: &str, protocol: &str, address: &str, tags: usize| {
        let mut row = [id, group, protocol, address].map(str::to_owned).to_vec();
        row.push(tags.to_string());
        row
    };
    let modbus = cell.modbus.iter().map(|m| {
        let address = m.address.to_string();
        row(&m.id, m.group, "Modbus TCP", &address, m.points.len())
    });
    let opcua = cell.opcua.iter();
    let opcua = opcua.map(|m| row(&m.id, m.group, "OPC UA", &m.url, m.points.len()));
    let rows: Vec<Vec<String>> = modbus.chain(opcua).collect();
    output::print(&output::table(Style::stdout(), &headings, &rows))?;
    output::print("\nThe cell runs until Ctrl-C.\n")
}

/// Serves plain devices, prints their ports as one JSON line, and ends when standard input does or the
/// time is over: so they never outlive the benchmark that started them.
fn bench(devices: u16, registers: u16, seconds: Option<u64>) -> anyhow::Result<ExitCode> {
    let servers = BenchServers::start(devices.into(), registers)
        .context("the benchmark's devices cannot listen")?;
    output::print(&format!("{}\n", json!({ "ports": servers.ports() })))?;
    let (closed, input) = channel::<()>();
    std::thread::spawn(move || {
        let mut ignored = [0; 256];
        while matches!(std::io::stdin().read(&mut ignored), Ok(read) if read > 0) {}
        drop(closed);
    });
    let longest = Duration::from_secs(seconds.unwrap_or(LONGEST));
    match input.recv_timeout(longest) {
        Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {}
    }
    drop(servers);
    Ok(ExitCode::SUCCESS)
}

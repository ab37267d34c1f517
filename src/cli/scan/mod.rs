//! `weighbridge scan`: what is there, before anybody has described it. One file a protocol.

mod modbus;
mod modbus_profile;
mod opcua;

use clap::{Args, Subcommand};
use std::process::ExitCode;

/// What `weighbridge scan` is told.
#[derive(Debug, Args)]
pub(super) struct ScanArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Units, readable ranges and guesses at types behind a Modbus address or serial port
    Modbus(modbus::ModbusArgs),
    /// The variables of an OPC UA server, with types, units, ranges and addresses
    #[command(name = "opcua")]
    OpcUa(opcua::OpcUaArgs),
}

pub(super) fn run(args: ScanArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Modbus(args) => modbus::run(args),
        What::OpcUa(args) => opcua::run(args),
    }
}

//! `weighbridge scan`: what is there, before anybody has described it. One file a protocol.

mod modbus;
mod modbus_profile;
mod opcua;
mod opcua_profile;
mod target;

use clap::{Args, Subcommand};
use std::process::ExitCode;

/// What `weighbridge scan` is told.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  weighbridge scan opc.tcp://192.0.2.8:4840
  weighbridge scan opc.tcp://192.0.2.8:4840 -o plugins/profiles/robot.toml
  weighbridge scan modbus 192.0.2.7:502 --units 1-10 -o plugins/profiles/meter.toml

With -o a device profile is written: `weighbridge profile test` and `weighbridge check` take it, and a
[[device]] with `profile = …` uses it."
)]
pub(super) struct ScanArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// An address that begins with opc.tcp:// needs no word before it.
    #[command(flatten)]
    direct: Option<opcua::OpcUaArgs>,
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
    match (args.what, args.direct) {
        (Some(What::Modbus(args)), _) => modbus::run(args),
        (Some(What::OpcUa(args)), _) | (None, Some(args)) => opcua::run(args),
        (None, None) => anyhow::bail!("nothing to scan: see `weighbridge scan --help`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        args: ScanArgs,
    }

    #[test]
    fn an_opc_ua_address_needs_no_word_before_it() {
        let read = |line: &str| Alone::try_parse_from(line.split(' ')).map(|alone| alone.args);
        let direct = read("scan opc.tcp://h:4840 -o x.toml --json").unwrap();
        assert!(direct.what.is_none());
        assert_eq!(direct.direct.unwrap().url, "opc.tcp://h:4840");
        let named = read("scan opcua opc.tcp://h:4840 --most 5").unwrap();
        assert!(matches!(named.what, Some(What::OpcUa(_))));
        let modbus = read("scan modbus 192.0.2.7 --units 1-3").unwrap();
        assert!(matches!(modbus.what, Some(What::Modbus(_))));
        for (line, help) in [
            ("scan 192.0.2.7", "weighbridge scan modbus 192.0.2.7"),
            ("scan opcua 192.0.2.7:4840", "opc.tcp://192.0.2.7:4840"),
        ] {
            let error = read(line).err().unwrap().to_string();
            assert!(error.contains(help), "{error}");
        }
        assert!(read("scan").is_err());
    }
}

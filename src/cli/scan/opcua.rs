//! `weighbridge scan opc.tcp://…`: the variables of a server, as a table, as JSON, or as a profile.

use super::opcua_profile::{device, profile};
use super::target::Target;
use crate::cli::output::{self, Align, Style};
use crate::protocols::opcua::{
    FoundVariable, Mode, OpcUaConfig, Policy, Scan, ScanBounds, Trust, scan,
};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `weighbridge scan opcua` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge scan opcua opc.tcp://192.0.2.8:4840
  weighbridge scan opcua opc.tcp://192.0.2.8:4840 -o plugins/profiles/robot.toml
  weighbridge scan opcua opc.tcp://192.0.2.8:4840 --security-policy basic256sha256 \\
      --user reader --password-file keys/robot.pw

The word `opcua` may be left out.
Addresses are written by the URI of their namespace, so they survive a server that renumbers them.
Exit codes: 0 the server was looked through, 1 it was not, and standard error says why.")]
pub(super) struct OpcUaArgs {
    /// The OPC UA server
    #[arg(value_name = "opc.tcp://HOST:PORT", value_parser = url)]
    pub(super) url: String,
    /// Write a device profile with the variables as tags: ID.toml, best in plugins/profiles
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// none, basic256sha256, aes128_sha256_rsa_oaep or aes256_sha256_rsa_pss
    #[arg(long, value_name = "POLICY", default_value = "none", value_parser = policy)]
    security_policy: Policy,
    /// Sign messages without encrypting them
    #[arg(long)]
    sign_only: bool,
    /// Certificate folder
    #[arg(long, value_name = "DIR", default_value = "pki/opcua-client")]
    pki: PathBuf,
    /// Trust the server's certificate, whatever it is
    #[arg(long)]
    trust_any: bool,
    /// User name
    #[arg(long, requires = "password_file")]
    user: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// List so many variables at most
    #[arg(long, value_name = "N", default_value_t = ScanBounds::default().variables)]
    most: usize,
}

fn url(text: &str) -> Result<String, String> {
    match text.starts_with("opc.tcp://") {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "an OPC UA server is opc.tcp://{text} (with its port, often 4840); for Modbus write \
             `weighbridge scan modbus {text}`"
        )),
    }
}

fn policy(text: &str) -> Result<Policy, String> {
    toml::Value::String(text.into())
        .try_into()
        .map_err(|_| format!("there is no policy {text:?}"))
}

pub(super) fn run(args: OpcUaArgs) -> anyhow::Result<ExitCode> {
    let target = args.output.as_deref().map(Target::new).transpose()?;
    let config = OpcUaConfig {
        security_policy: args.security_policy,
        security_mode: match args.sign_only {
            true => Mode::Sign,
            false => Mode::SignAndEncrypt,
        },
        trust: match args.trust_any {
            true => Trust::Any,
            false => Trust::Folder,
        },
        pki_dir: args.pki.clone(),
        user: args.user.clone(),
        password_file: args.password_file.clone(),
        ..OpcUaConfig::new(args.url.clone())
    };
    let bounds = ScanBounds {
        variables: args.most,
        ..ScanBounds::default()
    };
    // It draws on standard error, and only on a terminal.
    let bar = ProgressBar::new_spinner();
    let progress = |nodes: usize, variables: usize| {
        bar.set_message(format!("{nodes} nodes, {variables} variables"));
        bar.tick();
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let found = runtime.block_on(scan(&config, bounds, progress));
    bar.finish_and_clear();
    let found = found?;
    if let Some(target) = &target {
        target.write(&profile(&target.id, &config, &found))?;
    }
    if args.json {
        output::print_json(&as_json(&config, &found))?;
    } else if let Some(target) = &target {
        let (file, next) = (target.shown(), target.next(&device(&config)));
        let done = Style::stdout().green("✓");
        output::print(&format!("{}\n{done} {file}\n\n{next}", sum(&found)))?;
    } else {
        output::print(&text(&found, Style::stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sum(found: &Scan) -> String {
    let mut text = format!(
        "{} variables in {} nodes, {} left out (arrays, structures, not readable)",
        found.variables.len(),
        found.nodes,
        found.left_out
    );
    if !found.complete {
        text += "; there is more than was looked at (--most)";
    }
    text
}

pub(super) fn kind_name(variable: &FoundVariable) -> String {
    toml::Value::try_from(variable.kind)
        .ok()
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn text(found: &Scan, style: Style) -> String {
    let headings = [
        ("variable", Align::Left),
        ("type", Align::Left),
        ("value", Align::Right),
        ("unit", Align::Left),
        ("range", Align::Left),
        ("can", Align::Left),
        ("node", Align::Left),
    ];
    let rows: Vec<_> = found
        .variables
        .iter()
        .map(|v| {
            let range = v.range.map(|(low, high)| format!("{low} … {high}"));
            let can = [(v.writable, "write"), (v.history, "history")];
            let can: Vec<_> = can.iter().filter(|c| c.0).map(|c| c.1).collect();
            let value = v.value.as_ref().map(ToString::to_string);
            let value: String = value.unwrap_or_default().chars().take(24).collect();
            vec![
                v.path.join("."),
                kind_name(v),
                value,
                v.unit.clone(),
                range.unwrap_or_default(),
                can.join(", "),
                v.node.to_string(),
            ]
        })
        .collect();
    format!("{}{}\n", output::table(style, &headings, &rows), sum(found))
}

fn as_json(config: &OpcUaConfig, found: &Scan) -> serde_json::Value {
    let variables = found.variables.iter().map(|v| {
        json!({
            "path": v.path,
            "node": v.node.to_string(),
            "type": kind_name(v),
            "value": v.value.as_ref().map(ToString::to_string),
            "unit": v.unit,
            "range": v.range.map(|(low, high)| [low, high]),
            "description": v.description,
            "writable": v.writable,
            "history": v.history,
        })
    });
    json!({
        "url": config.url,
        "nodes": found.nodes,
        "left_out": found.left_out,
        "complete": found.complete,
        "variables": variables.collect::<Vec<_>>(),
    })
}

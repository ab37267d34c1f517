//! `weighbridge scan opcua`: the variables of a server, as a table, as JSON, or as a configuration.

use crate::cli::output::{self, Align, Style};
use crate::config::MAX_TAG_NAME;
use crate::protocols::opcua::{
    FoundVariable, Mode, OpcUaConfig, Policy, Scan, ScanBounds, Trust, scan,
};
use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

/// Longest tag name, with room for a number that tells it from others.
const NAME: usize = MAX_TAG_NAME - 8;

/// What `weighbridge scan opcua` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge scan opcua opc.tcp://192.0.2.8:4840
  weighbridge scan opcua opc.tcp://192.0.2.8:4840 -o robot.toml && weighbridge check robot.toml
  weighbridge scan opcua opc.tcp://192.0.2.8:4840 --security-policy basic256sha256 \\
      --user reader --password-file keys/robot.pw

Addresses are written by the URI of their namespace, so they survive a server that renumbers them.
Exit codes: 0 the server was looked through, 1 it was not, and standard error says why.")]
pub(super) struct OpcUaArgs {
    /// The server, opc.tcp://HOST:PORT
    url: String,
    /// Write a configuration with the variables as tags
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

fn policy(text: &str) -> Result<Policy, String> {
    toml::Value::String(text.into())
        .try_into()
        .map_err(|_| format!("there is no policy {text:?}"))
}

pub(super) fn run(args: OpcUaArgs) -> anyhow::Result<ExitCode> {
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
    if let Some(path) = &args.output {
        let text = configuration(&config, &found);
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    if args.json {
        output::print_json(&as_json(&config, &found))?;
    } else if let Some(path) = &args.output {
        let path = path.display();
        output::print(&format!(
            "{}\n{path}: run `weighbridge check {path}`, then move the device into your configuration\n",
            sum(&found)
        ))?;
    } else {
        output::print(&text(&found, Style::stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn sum(found: &Scan) -> String {
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

fn kind_name(variable: &FoundVariable) -> String {
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

/// A configuration that `check` accepts and a person finishes.
fn configuration(config: &OpcUaConfig, found: &Scan) -> String {
    let mut device = toml::Table::new();
    let mut set = |key: &str, value: Option<toml::Value>| {
        if let Some(value) = value {
            device.insert(key.into(), value);
        }
    };
    set("url", Some(config.url.clone().into()));
    if config.security_policy != Policy::None {
        set(
            "security_policy",
            toml::Value::try_from(config.security_policy).ok(),
        );
        set(
            "security_mode",
            toml::Value::try_from(config.security_mode).ok(),
        );
        set("trust", toml::Value::try_from(config.trust).ok());
        set("pki_dir", toml::Value::try_from(&config.pki_dir).ok());
    }
    set("user", config.user.clone().map(Into::into));
    let password = config.password_file.as_ref();
    set(
        "password_file",
        password.and_then(|p| toml::Value::try_from(p).ok()),
    );
    let mut out = format!(
        "# Found by `weighbridge scan opcua {}`: {}.\n\
         # A range that a server gives is the normal one. The hub takes `range` for what is possible at all, so it\n\
         # stands in a comment. Take away what nobody needs, and move the [[device]] into your configuration.\n\
         \n[hub]\nid = \"hub-1\"\n\n[[device]]\nid = \"device-1\"\n\n[device.opcua]\n{device}",
        config.url,
        sum(found),
    );
    let mut names = HashSet::new();
    for variable in &found.variables {
        let name = unique(&mut names, &tag_name(&variable.path));
        out += &format!("\n[[device.tag]]\nname = {}\n", quoted(&name));
        if !variable.unit.is_empty() {
            out += &format!("unit = {}\n", quoted(&variable.unit));
        }
        if !variable.description.is_empty() {
            out += &format!("description = {}\n", quoted(&variable.description));
        }
        if let Some((low, high)) = variable.range {
            out += &format!("# range = [{low:?}, {high:?}]\n");
        }
        if variable.writable {
            out += "# writable = true\n";
        }
        let node = quoted(&variable.node.to_string());
        let kind = quoted(&kind_name(variable));
        out += &format!("opcua = {{ node = {node}, type = {kind} }}\n");
    }
    out
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// The path as a tag's name: no slash, no control characters, not too long.
fn tag_name(path: &[String]) -> String {
    let joined = path.join(".");
    let clean = joined.trim().chars().map(|c| match c {
        '/' => '_',
        c if c.is_control() => '_',
        c => c,
    });
    let mut name = String::new();
    for c in clean {
        if name.len() + c.len_utf8() > NAME {
            break;
        }
        name.push(c);
    }
    match name.trim() {
        "" => "variable".into(),
        name => name.into(),
    }
}

fn unique(names: &mut HashSet<String>, name: &str) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while !names.insert(candidate.clone()) {
        candidate = format!("{name}_{number}");
        number += 1;
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::ValueKind;

    fn variable(path: &[&str], node: &str) -> FoundVariable {
        FoundVariable {
            path: path.iter().map(|p| (*p).to_owned()).collect(),
            node: node.parse().unwrap(),
            kind: ValueKind::F64,
            value: None,
            unit: "°C".into(),
            range: Some((0.0, 100.0)),
            description: "a \"hot\"\nthing".into(),
            writable: true,
            history: false,
        }
    }

    #[test]
    fn what_a_scan_writes_is_a_configuration() {
        let found = Scan {
            variables: vec![
                variable(&["Machine", "a/b"], "nsu=urn:x%3By;s=\"DB\".\"a\""),
                variable(&["Machine", "a_b"], "i=5"),
                variable(&[""], "ns=9;g=C496578A-0DFE-4B8F-870A-745238C6AEAE"),
                variable(&["x".repeat(500).as_str()], "ns=2;b=AQI="),
            ],
            nodes: 9,
            left_out: 1,
            complete: false,
        };
        let secure = OpcUaConfig {
            security_policy: Policy::Aes256Sha256RsaPss,
            user: Some("reader".into()),
            password_file: Some("keys/pw".into()),
            ..OpcUaConfig::new("opc.tcp://127.0.0.1:4840")
        };
        for settings in [OpcUaConfig::new("opc.tcp://127.0.0.1:4840"), secure] {
            let text = configuration(&settings, &found);
            let loaded = config::parse(&text, "scan.toml");
            let loaded = loaded.unwrap_or_else(|found| panic!("{text}\n{found:?}"));
            assert_eq!(loaded.warnings, []);
            let device = &loaded.config.devices[0];
            assert_eq!(device.opcua.as_ref().unwrap().user, settings.user);
            let names: Vec<_> = device.tags.iter().map(|t| t.name.as_str()).collect();
            assert_eq!(names[..3], ["Machine.a_b", "Machine.a_b_2", "variable"]);
            for (tag, variable) in device.tags.iter().zip(&found.variables) {
                assert_eq!(tag.opcua.as_ref().unwrap().node, variable.node);
                assert_eq!(tag.unit, "°C");
            }
        }
        let shown = super::text(&found, Style { colour: false });
        assert!(shown.contains("there is more"), "{shown}");
    }
}

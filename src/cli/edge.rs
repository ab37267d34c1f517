//! `weighbridge edge`: edge nodes, which read machines and upload to hubs.

use super::init::{hub_id, private_directory, write_new};
use super::output::{self, Style};
use super::reload::{Reload, Running};
use crate::api::ConfigStatus;
use crate::config::{self, HubConfig};
use crate::crypto::{Identity, PeerKey, SealingKey, Signer};
use crate::edge::{EdgeBuilder, EdgeNode, UplinkStatus};
use crate::hub::DeviceSetup;
use crate::model::TagSpec;
use crate::protocols::edge::tag_card;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use weighbridge_verifier::Suite;

const EDGE: &str = include_str!("edge.toml");

/// What `weighbridge edge` is told.
#[derive(Debug, Args)]
pub(super) struct EdgeArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a directory with a key and a configuration for an edge node
    Init(InitArgs),
    /// Print what the other side's configuration needs to know of this one
    Card(CardArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge edge init cell-a --id edge-1

It makes DIR/edge.toml and DIR/keys/edge.key (mode 0600). It never overwrites anything.")]
struct InitArgs {
    /// The directory; made if it is not there
    dir: PathBuf,
    /// Id of the edge node: lower-case letters, digits, `-`, `_` and `.`
    #[arg(long, value_name = "ID", default_value = "edge-1", value_parser = hub_id)]
    id: String,
    /// Suite of the hubs that it uploads to: `nist` or `guomi`
    #[arg(long, value_name = "SUITE", default_value = "nist")]
    suite: Suite,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge edge card --config plant/hub.toml      for the file of an edge node
  weighbridge edge card --config cell-a/edge.toml    for the file of its hubs

Only public keys are printed.")]
struct CardArgs {
    /// The configuration of a hub, or of an edge node
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn command(args: EdgeArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Init(args) => init(&args),
        What::Card(args) => card(&args.config),
    }
}

fn init(args: &InitArgs) -> anyhow::Result<ExitCode> {
    let (file, key) = (args.dir.join("edge.toml"), args.dir.join("keys/edge.key"));
    if let Some(there) = [&file, &key]
        .into_iter()
        .find(|f| f.symlink_metadata().is_ok())
    {
        bail!(
            "{} is already there, and nothing is overwritten: choose another directory",
            there.display()
        );
    }
    private_directory(&args.dir.join("keys"))?;
    let identity = Identity::generate_of(args.suite, &args.id);
    identity.save(&key)?;
    write_new(&file, &EDGE.replace("{id}", &args.id))?;
    let style = Style::stdout();
    output::print(&format!(
        "{} edge node {}\n  {}  its configuration\n  {}  signs what it reads; keep it secret\n\n\
         Next:\n  put your machines and your hub into {}\n  weighbridge edge card --config {}   for \
         the hub's file\n  weighbridge run --config {}\n",
        style.green("✓"),
        style.bold(&args.id),
        file.display(),
        key.display(),
        file.display(),
        file.display(),
        file.display(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn card(path: &Path) -> anyhow::Result<ExitCode> {
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(found) => {
            let style = Style::stderr();
            for diagnostic in &found {
                eprintln!("{}", diagnostic.render(style.colour));
            }
            return Ok(ExitCode::from(super::EXIT_CONFIG));
        }
    };
    let text = match &loaded.config.edge {
        Some(edge) => {
            let identity = Identity::load(&edge.signing_key, &edge.id)?;
            edge_card(&identity, &loaded.config)?
        }
        None => hub_card(&loaded.config)?,
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn hub_card(config: &HubConfig) -> anyhow::Result<String> {
    let signing = Identity::load(&config.hub.signing_key, &config.hub.id)?;
    let sealing = SealingKey::load(&config.hub.sealing_key)?;
    let port = config.edges.as_ref().map_or(4850, |e| e.bind.port());
    let mut text = format!(
        "# For the file of each edge node that uploads to {}:\n",
        config.hub.id
    );
    if config.edges.is_none() {
        text = "# First let edge nodes in: add `[edges]` with `bind = \"0.0.0.0:4850\"`.\n"
            .to_owned()
            + &text;
    }
    text += &format!(
        "\n[[edge.hub]]\naddress = \"192.0.2.1:{port}\"      # where this hub is\n{}sealing_key = \"{}\"\n",
        keys_text(signing.peer_key()),
        sealing.public().compressed()
    );
    Ok(text)
}

fn edge_card(identity: &Identity, config: &HubConfig) -> anyhow::Result<String> {
    let (id, keys) = (identity.id(), keys_text(identity.peer_key()));
    let mut text = format!(
        "# For the file of each hub that {id} uploads to:\n\n[[edges.node]]\nid = \"{id}\"\n{keys}"
    );
    for device in &config.devices {
        let setup = DeviceSetup::from_config(device)?;
        text += &format!("\n[[device]]\nid = \"{}\"\nedge = \"{id}\"\n", device.id);
        if device.grade != 0 {
            text += &format!("grade = {}\n", device.grade);
        }
        for tag in &*setup.tags {
            text += &tag_text(tag);
        }
    }
    Ok(text)
}

fn keys_text(keys: PeerKey) -> String {
    let mut text = format!("key = \"{}\"\n", keys.own);
    if keys.link != keys.own {
        text += &format!("link_key = \"{}\"\n", keys.link);
    }
    text
}

fn tag_text(tag: &TagSpec) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let (name, kind) = tag_card(tag);
    let mut text = format!(
        "\n[[device.tag]]\nname = {}\ntype = \"{kind}\"\n",
        quoted(&name)
    );
    if !tag.unit.is_empty() {
        text += &format!("unit = {}\n", quoted(&tag.unit));
    }
    if !tag.description.is_empty() {
        text += &format!("description = {}\n", quoted(&tag.description));
    }
    if tag.writable {
        text += "writable = true\n";
    }
    if let Some((low, high)) = tag.range {
        let number = |x: f64| toml::Value::Float(x).to_string();
        text += &format!("range = [{}, {}]\n", number(low), number(high));
    }
    text
}

/// Runs the edge node of the configuration at `path` until the process is asked to end.
pub(super) fn run(path: &Path, config: HubConfig, json: bool) -> anyhow::Result<ExitCode> {
    let edge = EdgeBuilder::from_config(&config)?
        .start()
        .context("the edge node cannot start")?;
    let end = super::ending::asked_to_end(&edge.runtime());
    let state = ConfigStatus::default();
    let bind = config.edge.as_ref().and_then(|edge| edge.http);
    let http = bind.map(|bind| edge.open_http(bind, &state)).transpose()?;
    let url = http.as_ref().map(|http| http.url());
    tracing::info!(edge = edge.id(), http = url, "the edge node is up");
    if json {
        output::print_json(&json!({"event": "up", "edge": edge.id(), "http_url": url}))?;
    }
    edge.runtime().block_on(async {
        let reload = Reload::new(path, config);
        let ended = until_the_end((&edge, &state), json, reload, end).await;
        if let Some(http) = http {
            http.stop().await;
        }
        ended
    })?;
    edge.shutdown()?;
    Ok(ExitCode::SUCCESS)
}

async fn until_the_end(
    (edge, state): (&EdgeNode, &ConfigStatus),
    json: bool,
    mut reload: Reload,
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (mut status, mut key) = (edge.uplink(), edge.key());
    // Attempts that fail for the same reason are one thing to say.
    let mut said = None;
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return Ok(()),
            () = reload.wanted() => {
                let outcome = tokio::select! {
                    () = &mut end => return Ok(()),
                    outcome = reload.now(Running::Edge(edge, state)) => outcome,
                };
                if let Some(outcome) = outcome.filter(|_| json) {
                    output::print_json(&outcome)?;
                }
                continue;
            }
            changed = key.changed() => {
                changed.context("the edge node ended early, see the log")?;
                if json {
                    let key = key.borrow_and_update().public_key();
                    output::print_json(&json!({"event": "key", "key": key}))?;
                }
                continue;
            }
            changed = status.changed() => changed.context("the edge node ended early, see the log")?,
        }
        let now = status.borrow_and_update().clone();
        let what = match &now {
            UplinkStatus::Starting => None,
            UplinkStatus::Up { hub, since, .. } => Some((true, format!("{hub} {since}"))),
            UplinkStatus::Down { reason, .. } => Some((false, reason.clone())),
        };
        if json && said != what {
            print_status(edge, &now)?;
            said = what;
        }
    }
}

fn print_status(edge: &EdgeNode, uplink: &UplinkStatus) -> anyhow::Result<()> {
    let (hub, reason) = match uplink {
        UplinkStatus::Starting => (None, None),
        UplinkStatus::Up { hub, .. } => (Some(hub), None),
        UplinkStatus::Down { reason, .. } => (None, Some(reason)),
    };
    let lanes = edge.lanes();
    let lanes = lanes.iter().map(|lane| {
        json!({
            "device": *lane.device, "pending_batches": lane.pending, "buffer_bytes": lane.bytes,
            "stored_batches": lane.stored, "acknowledged_batches": lane.acknowledged,
            "dropped_samples": lane.dropped, "damaged_batches": lane.damaged,
        })
    });
    let lanes: Vec<_> = lanes.collect();
    output::print_json(&json!({"event": "uplink", "hub": hub, "reason": reason, "devices": lanes}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_edge_init_makes_says_what_is_missing_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let args = InitArgs {
            dir: dir.path().join("cell"),
            id: "edge-7".to_owned(),
            suite: Suite::Nist,
        };
        init(&args).unwrap();
        let loaded = config::load(&args.dir.join("edge.toml")).unwrap();
        let warnings: Vec<_> = loaded.warnings.iter().map(|d| &*d.message).collect();
        let without = "the edge node has no hub to upload to, and does not start";
        assert!(warnings.contains(&without), "{warnings:?}");
        let error = EdgeBuilder::from_config(&loaded.config).unwrap().start();
        assert!(matches!(error, Err(crate::edge::EdgeError::NoHub)));
        assert!(
            init(&args)
                .unwrap_err()
                .to_string()
                .contains("already there")
        );
    }

    #[test]
    fn the_cards_are_what_the_other_file_needs() {
        let (edge, hub) = (Identity::generate("edge-1"), Identity::generate("hub-1"));
        let dir = tempfile::tempdir().unwrap();
        let (signing, sealing) = (dir.path().join("hub.key"), dir.path().join("sealing.key"));
        hub.save(&signing).unwrap();
        SealingKey::generate().save(&sealing).unwrap();
        let base = format!(
            "[hub]\nid = \"hub-1\"\nsigning_key = {signing:?}\nsealing_key = {sealing:?}\n\n\
             [edges]\nbind = \"127.0.0.1:4850\"\n"
        );
        let parse = |text: &str| match config::parse(text, "x.toml") {
            Ok(loaded) => loaded.config,
            Err(found) => panic!("{text}{found:?}"),
        };
        let card = hub_card(&parse(&base)).unwrap();
        let of_edge = format!(
            "[edge]\nid = \"edge-1\"\n{card}\n[[device]]\nid = \"press-1\"\ngrade = 2\n\
             modbus = {{ address = \"127.0.0.1:502\" }}\n[[device.tag]]\nname = \"a \\\"b\\\"\"\n\
             unit = \"°C\"\nrange = [0.0, 1.5]\nmodbus = {{ holding_register = 1, type = \"u16\" }}\n"
        );
        let of_edge = parse(&of_edge);
        let known = &of_edge.edge.as_ref().unwrap().hubs[0];
        assert_eq!(known.key, hub.public_key());
        let of_hub = parse(&(base + &edge_card(&edge, &of_edge).unwrap()));
        assert_eq!(of_hub.edges.unwrap().nodes[0].key, edge.public_key());
        let there = DeviceSetup::from_config(&of_edge.devices[0]).unwrap();
        let here = DeviceSetup::from_config(&of_hub.devices[0]).unwrap();
        assert_eq!(here.tags, there.tags);
        assert_eq!(here.grade, there.grade);
    }
}

//! `weighbridge init`: a directory with keys and a configuration that runs.

use super::certs::{CorporateArgs, establish};
use super::output::{self, Style};
use crate::config::{self, cell_devices, id_fault};
use crate::crypto::{CheckpointKey, Identity, SealingKey, Signer};
use crate::hub::HubKeys;
use crate::protocols::opcua::server::ensure_certificate;
use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use weighbridge_verifier::Suite;

const HUB: &str = include_str!("init.toml");
const DEVICES: &str = include_str!("init_devices.toml");

/// What `weighbridge init` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge init plant
  weighbridge init plant --id hub-7
  weighbridge init plant --suite guomi      keys and ledger of SM2, SM3 and SM4
  weighbridge init plant --ca corp.pem --ca-key corp.key
  weighbridge init try-out --with-sim       reads `weighbridge sim --port-base 15020`

It makes DIR/hub.toml, DIR/keys/hub.key and DIR/keys/sealing.key (mode 0600: make a backup of the
sealing key, without it nothing that was recorded can be opened), DIR/keys/checkpoint.key, which signs
checkpoints, and DIR/keys/hub.pub, the public key that auditors are given; DIR/pki/opcua with the OPC UA server's certificate;
and the site's authority (DIR/keys/authority.key, DIR/pki/authority.crt) with the certificate that it issues to the hub. With
--ca a corporate authority stands in its place; without --ca-key a request for it is made instead. It never overwrites anything.

Exit codes: 0 made, 1 not made.")]
pub(super) struct InitArgs {
    /// The directory; made if it is not there
    dir: PathBuf,
    /// Id of the hub: lower-case letters, digits, `-`, `_` and `.`
    #[arg(long, value_name = "ID", default_value = "hub-1", value_parser = hub_id)]
    id: String,
    /// Algorithms of the ledger and its keys: `nist` (P-256, SHA-256, AES) or `guomi` (SM2, SM3, SM4)
    #[arg(long, value_name = "SUITE", default_value = "nist")]
    suite: Suite,
    /// Configure the devices of the cell that `weighbridge sim --port-base 15020` starts
    #[arg(long)]
    with_sim: bool,
    #[command(flatten)]
    corporate: CorporateArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn hub_id(text: &str) -> Result<String, String> {
    match id_fault(text) {
        None => Ok(text.to_owned()),
        Some(fault) => Err(fault),
    }
}

pub(super) fn run(args: InitArgs) -> anyhow::Result<ExitCode> {
    let made = make(&args)?;
    if args.json {
        output::print_json(&json!({
            "hub": args.id,
            "suite": args.suite,
            "config": made.config,
            "public_key": made.public_key,
            "signing_key_file": made.signing_key,
            "sealing_key_file": made.sealing_key,
            "checkpoint_key_file": made.checkpoint_key,
            "public_key_file": made.public_key_file,
            "certificate": made.certificate,
            "site_files": made.site.iter().map(|(path, _)| path).collect::<Vec<_>>(),
        }))?;
    } else {
        output::print(&made.text(&args, Style::stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the directory of a hub as `weighbridge init DIR --id ID` does.
pub(super) fn of_hub(dir: &Path, id: &str) -> anyhow::Result<()> {
    let args = InitArgs {
        dir: dir.to_owned(),
        id: id.to_owned(),
        suite: Suite::Nist,
        with_sim: false,
        corporate: CorporateArgs::default(),
        json: false,
    };
    make(&args).map(drop)
}

struct Made {
    config: PathBuf,
    signing_key: PathBuf,
    sealing_key: PathBuf,
    checkpoint_key: PathBuf,
    public_key_file: PathBuf,
    certificate: PathBuf,
    /// Of the site's authority: files, and what they are for.
    site: Vec<(PathBuf, &'static str)>,
    public_key: String,
}

impl Made {
    fn text(&self, args: &InitArgs, style: Style) -> String {
        let mut out = format!("{} hub {}\n", style.green("✓"), style.bold(&args.id));
        for (path, what) in [
            (&self.config, "its configuration"),
            (
                &self.signing_key,
                "signs records and blocks; keep it secret",
            ),
            (
                &self.sealing_key,
                "opens what was recorded; keep it secret, and a backup of it",
            ),
            (&self.checkpoint_key, "signs checkpoints; keep it secret"),
            (&self.public_key_file, "the public key, for auditors"),
            (
                &self.certificate,
                "the OPC UA server's certificate, for SCADA",
            ),
        ] {
            out.push_str(&format!("  {}  {what}\n", path.display()));
        }
        for (path, what) in &self.site {
            out.push_str(&format!("  {}  {what}\n", path.display()));
        }
        out.push_str(&format!("\npublic key {}\n\nNext:\n", self.public_key));
        if args.with_sim {
            out.push_str("  weighbridge sim --port-base 15020        in another terminal\n");
        } else {
            out.push_str(&format!(
                "  put your machines into {}\n",
                self.config.display()
            ));
        }
        out.push_str(&format!(
            "  weighbridge run --config {}\n",
            self.config.display()
        ));
        out
    }
}

fn make(args: &InitArgs) -> anyhow::Result<Made> {
    let dir = &args.dir;
    let made = Made {
        config: dir.join("hub.toml"),
        signing_key: dir.join("keys/hub.key"),
        sealing_key: dir.join("keys/sealing.key"),
        checkpoint_key: dir.join("keys").join(HubKeys::CHECKPOINT),
        public_key_file: dir.join("keys/hub.pub"),
        certificate: dir.join("pki/opcua/own/cert.der"),
        site: Vec::new(),
        public_key: String::new(),
    };
    // Looked at before anything is written, so that a second `init` changes nothing at all.
    let files = [
        &made.config,
        &made.signing_key,
        &made.sealing_key,
        &made.checkpoint_key,
        &made.public_key_file,
    ];
    if let Some(there) = files.into_iter().find(|f| f.symlink_metadata().is_ok()) {
        bail!(
            "{} is already there, and nothing is overwritten: choose another directory",
            there.display()
        );
    }
    private_directory(&dir.join("keys"))?;
    // First, because it can be refused: a corporate key may not fit.
    let site = establish(dir, &args.id, &args.corporate)?;
    let signing = Identity::generate_of(args.suite, &args.id);
    let sealing = SealingKey::generate_of(args.suite);
    signing.save(&made.signing_key)?;
    sealing.save(&made.sealing_key)?;
    CheckpointKey::generate().save(&made.checkpoint_key)?;
    let public_key = signing.public_key().to_string();
    write_new(&made.public_key_file, &format!("{public_key}\n"))?;
    let text = configuration(&args.id, args.suite, args.with_sim);
    make_certificate(&text, dir)?;
    // Last: where there is a configuration, everything it names is there too.
    write_new(&made.config, &text)?;
    Ok(Made {
        site,
        public_key,
        ..made
    })
}

fn configuration(id: &str, suite: Suite, with_sim: bool) -> String {
    let devices = if with_sim { cell_devices() } else { DEVICES };
    HUB.replace("{id}", id).replace("{suite}", suite.name()) + devices
}

/// The certificate that the OPC UA server of this configuration will show.
fn make_certificate(text: &str, dir: &Path) -> anyhow::Result<()> {
    let Ok(loaded) = config::parse(text, "hub.toml") else {
        unreachable!("a test loads what is written here");
    };
    let mut server = loaded.config.opcua_server;
    server.pki_dir = dir.join(&server.pki_dir);
    Ok(ensure_certificate(&server)?)
}

/// A directory that only its owner enters.
pub(super) fn private_directory(path: &Path) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    let parent = path.parent().unwrap_or(Path::new(""));
    let cannot = || format!("the directory {} cannot be made", path.display());
    if !parent.as_os_str().is_empty() {
        builder.create(parent).with_context(cannot)?;
    }
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).with_context(cannot)
}

pub(super) fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: &Path, with_sim: bool) -> InitArgs {
        InitArgs {
            dir: dir.to_owned(),
            id: "hub-7".to_owned(),
            suite: Suite::Nist,
            with_sim,
            corporate: CorporateArgs::default(),
            json: false,
        }
    }

    #[test]
    fn what_init_makes_loads_and_only_the_owner_reads_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(&args(&dir.path().join("plant"), false)).unwrap();
        let loaded = config::load(&made.config).unwrap();
        assert_eq!(loaded.config.hub.id, "hub-7");
        let identity = Identity::load(&loaded.config.hub.signing_key, "hub-7").unwrap();
        SealingKey::load(&loaded.config.hub.sealing_key).unwrap();
        let pki = &loaded.config.opcua_server.pki_dir;
        assert!(pki.join("own/cert.der").is_file());
        assert_eq!(identity.public_key().to_string(), made.public_key);
        let public = fs::read_to_string(&made.public_key_file).unwrap();
        assert_eq!(public.trim(), made.public_key);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&made.signing_key), 0o600);
            assert_eq!(mode(&made.sealing_key), 0o600);
            assert_eq!(mode(&made.checkpoint_key), 0o600);
            assert_eq!(mode(made.signing_key.parent().unwrap()), 0o700);
        }

        // Nothing secret is printed.
        let args = args(&dir.path().join("plant"), true);
        let text = made.text(&args, Style { colour: false });
        let pem = fs::read_to_string(&made.signing_key).unwrap();
        for line in pem.lines().filter(|l| !l.starts_with("-----")) {
            assert!(!text.contains(line));
        }

        // A second `init` changes nothing.
        let read = |p: &Path| fs::read(p).unwrap();
        let before = (read(&made.signing_key), read(&made.config));
        let error = make(&args).err().unwrap();
        assert!(error.to_string().contains("already there"), "{error}");
        assert_eq!((read(&made.signing_key), read(&made.config)), before);
    }

    #[test]
    fn keys_and_configuration_are_of_the_suite_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut args = args(&dir.path().join("plant"), false);
        args.suite = Suite::Guomi;
        let made = make(&args).unwrap();
        let loaded = config::load(&made.config).unwrap();
        assert_eq!(loaded.config.ledger.suite, Suite::Guomi);
        let identity = Identity::load(&made.signing_key, "hub-7").unwrap();
        assert_eq!(identity.suite(), Suite::Guomi);
        let sealing = SealingKey::load(&made.sealing_key).unwrap();
        assert_eq!(sealing.suite(), Suite::Guomi);
    }

    #[test]
    fn the_cell_can_be_had_too() {
        let text = configuration("hub-7", Suite::Nist, true);
        let loaded = config::parse(&text, "hub.toml").unwrap();
        assert_eq!(loaded.config.devices.len(), 5);
        assert_eq!(loaded.warnings, vec![]);
    }

    #[test]
    fn the_examples_in_the_comments_are_right_too() {
        let text = DEVICES.lines().map(|line| {
            let example = line.strip_prefix("# ").or(line.strip_prefix('#'));
            example.filter(|l| l.contains(['=', '[']) || l.is_empty())
        });
        let text: Vec<_> = text.flatten().collect();
        let text = HUB.replace("{id}", "hub-7").replace("{suite}", "nist") + &text.join("\n");
        let loaded = config::parse(&text, "hub.toml").unwrap_or_else(|found| {
            panic!(
                "{}",
                found.iter().map(ToString::to_string).collect::<String>()
            )
        });
        assert_eq!(loaded.config.devices.len(), 2);
        assert_eq!(loaded.warnings, vec![]);
    }
}

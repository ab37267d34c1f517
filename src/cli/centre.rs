//! `weighbridge centre`: key generation centres, and the keys that several of them help to make.
//!
//! Nothing of it needs a network: a file goes round, and each party adds what is due from it.

use super::output;
use crate::crypto::guomi::centre::{CentreKey, Centres};
use crate::crypto::guomi::certificateless::UserKey;
use crate::crypto::guomi::making::{Kept, Making, Turn};
use crate::crypto::guomi::recorded;
use crate::crypto::{Identity, Signer};
use crate::store::replace_file;
use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use weighbridge_verifier::centres::{derived_message, derived_name};
use weighbridge_verifier::{
    CentresContent, DerivedContent, IdentityContent, IdentityKind, PublicKey, Signature, Suite,
};
use zeroize::Zeroizing;

/// What `weighbridge centre` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge centre init north --name north            a share of the master key, at one centre
  weighbridge centre card north --version 1 > north.card
  weighbridge keys centres north.card south.card        at the hub: version 1 of the set, on record
  weighbridge keys centres --json > sets.json
  weighbridge centre ask cell-a --edge edge-1 --chain main --sets sets.json   begins cell-a/making.json
  weighbridge centre answer north cell-a/making.json --sets sets.json         each centre, each round
  weighbridge centre answer cell-a cell-a/making.json --sets sets.json        the applicant, each round
  weighbridge keys enrol cell-a/enrol.json              at the hub

The file goes round three times: commitments, points, parts. Whoever is due adds to it, and says who else is.
A centre that answers otherwise than it had committed to, or gives a part that does not fit, is named; `weighbridge
keys complain` puts that on record. No centre learns the key, nor do all of them together. docs/keys.md

Exit codes: 0 done, 1 not done, and standard error says why.")]
pub(super) struct CentreArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Make a centre: its share of the master key
    Init {
        /// A new directory for it
        dir: PathBuf,
        /// What it is called among the centres
        #[arg(long)]
        name: String,
    },
    /// Print what a centre says of itself to join a version of the set
    Card {
        /// Its directory
        dir: PathBuf,
        /// The version, which is the newest one and one more
        #[arg(long)]
        version: u32,
    },
    /// Begin to make a key
    Ask {
        /// Where the key goes, and what the applicant keeps meanwhile
        dir: PathBuf,
        /// The edge node that gets it
        #[arg(long, value_name = "ID", conflicts_with = "device")]
        edge: Option<String>,
        /// The device that gets it
        #[arg(long, value_name = "ID")]
        device: Option<String>,
        /// Id of the chain
        #[arg(long)]
        chain: String,
        /// What `weighbridge keys centres --json` prints
        #[arg(long, value_name = "FILE")]
        sets: PathBuf,
        /// The file of the key that it has, which is to be replaced
        #[arg(long, value_name = "FILE")]
        replaces: Option<PathBuf>,
    },
    /// Add what is due from a centre, or from the applicant
    Answer {
        /// The centre's or the applicant's directory
        dir: PathBuf,
        /// The file that goes round
        making: PathBuf,
        /// What `weighbridge keys centres --json` prints
        #[arg(long, value_name = "FILE")]
        sets: PathBuf,
    },
}

/// What the applicant remembers of what it asked for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    chain: String,
    kind: IdentityKind,
    id: String,
    replaces: Option<PathBuf>,
    kept: Kept,
}

#[derive(Deserialize)]
struct Sets {
    sets: Vec<CentresContent>,
}

const KEY: &str = "centre.key";
const NAME: &str = "centre.json";
const ASKED: &str = "asked.json";
const MAKING: &str = "making.json";
const ENROL: &str = "enrol.json";

pub(super) fn run(args: CentreArgs) -> anyhow::Result<ExitCode> {
    match args.act {
        Act::Init { dir, name } => init(&dir, &name)?,
        Act::Card { dir, version } => {
            let share = recorded::share(&centre(&dir)?.member(u64::from(version)));
            output::print_json(&share.context("the centre's share is none")?)?;
        }
        Act::Ask {
            dir,
            edge,
            device,
            chain,
            sets,
            replaces,
        } => {
            let (kind, id) = match (edge, device) {
                (Some(id), None) => (IdentityKind::Edge, id),
                (None, Some(id)) => (IdentityKind::Device, id),
                _ => bail!("for whom? say `--edge ID` or `--device ID`"),
            };
            let newest = read_sets(&sets)?.pop();
            let set = as_centres(&newest.context("there are no centres yet")?)?;
            let name = derived_name(&chain, kind_name(kind), &id);
            let mut nonce = [0; 32];
            getrandom::fill(&mut nonce)?;
            let (making, kept) = Making::begin(&set, &name, nonce)?;
            fs::create_dir_all(&dir)?;
            let asked = Asked {
                chain,
                kind,
                id,
                replaces,
                kept,
            };
            ensure!(
                !dir.join(ASKED).exists(),
                "{} is there: a key is being made already; remove it to begin again",
                dir.join(ASKED).display()
            );
            keep(&dir.join(ASKED), &asked)?;
            publish(&dir.join(MAKING), &making)?;
            let made = dir.join(MAKING);
            output::print(&format!("{}: now each centre answers it\n", made.display()))?;
        }
        Act::Answer { dir, making, sets } => answer(&dir, &making, &sets)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn init(dir: &Path, name: &str) -> anyhow::Result<()> {
    ensure!(
        (1..=64).contains(&name.len()),
        "a centre's name has 1 to 64 bytes"
    );
    let key = CentreKey::generate(name);
    key.save(&dir.join(KEY))?;
    publish(&dir.join(NAME), &json!({ "name": name }))?;
    output::print(&format!(
        "{}: the share of the centre `{name}`; nobody else ever has it\n",
        dir.join(KEY).display()
    ))
}

fn centre(dir: &Path) -> anyhow::Result<CentreKey> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let Named { name } = read(&dir.join(NAME))?;
    Ok(CentreKey::load(&dir.join(KEY), &name)?)
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(file).map(Zeroizing::new);
    let text = text.with_context(|| format!("{} cannot be read", file.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not what it should be", file.display()))
}

fn read_sets(file: &Path) -> anyhow::Result<Vec<CentresContent>> {
    read::<Sets>(file).map(|sets| sets.sets)
}

fn as_centres(set: &CentresContent) -> anyhow::Result<Centres> {
    Ok(recorded::centres(set.version, &set.members)?)
}

/// What only its owner may read.
fn keep(file: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let text = Zeroizing::new(serde_json::to_string(value)?);
    let kept = replace_file(file, text.as_bytes(), 0o600);
    kept.with_context(|| format!("{} cannot be written", file.display()))
}

fn publish(file: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    let written = replace_file(file, text.as_bytes(), 0o644);
    written.with_context(|| format!("{} cannot be written", file.display()))
}

fn answer(dir: &Path, file: &Path, sets: &Path) -> anyhow::Result<()> {
    let mut making: Making = read(file)?;
    let sets = read_sets(sets)?;
    let set = sets.iter().find(|set| set.version == making.version);
    let set =
        set.with_context(|| format!("there is no version {} of the centres", making.version))?;
    let set = as_centres(set)?;
    let said = match dir.join(NAME).exists() {
        true => help(dir, &mut making, &set)?,
        false => go_on(dir, &mut making, &set)?,
    };
    publish(file, &making)?;
    output::print(&(said + "\n"))
}

fn help(dir: &Path, making: &mut Making, set: &Centres) -> anyhow::Result<String> {
    let key = centre(dir)?;
    let file = dir.join(format!("making-{}.json", making.nonce));
    let mut kept: Option<Kept> = match file.exists() {
        true => Some(read(&file)?),
        false => None,
    };
    let turn = making.answer(set, &key, &mut kept)?;
    match &kept {
        // Before anybody sees what depends on it.
        Some(kept) => keep(&file, kept)?,
        None => fs::remove_file(&file)?,
    }
    Ok(match turn {
        Turn::Said => format!("`{}` has answered for {}", key.name(), making.name),
        Turn::Waits(who) => format!("nothing is due here; {} first", parties(&who)),
        Turn::Done => format!("`{}` has given its part for {}", key.name(), making.name),
    })
}

fn parties(who: &[String]) -> String {
    let name = |name: &String| match name.as_str() {
        "" => "the applicant".to_owned(),
        centre => format!("the centre `{centre}`"),
    };
    let names: Vec<_> = who.iter().map(name).collect();
    names.join(", ")
}

fn go_on(dir: &Path, making: &mut Making, set: &Centres) -> anyhow::Result<String> {
    let at = dir.join(ASKED);
    let mut asked: Asked = read(&at)?;
    let key = match making.go_on(set, &mut asked.kept)? {
        Err(Turn::Waits(who)) => {
            return Ok(format!("nothing is due here; {} first", parties(&who)));
        }
        Err(_) => {
            keep(&at, &asked)?;
            return Ok(format!("the applicant has answered for {}", making.name));
        }
        Ok(key) => key,
    };
    let (file, offered) = finish(dir, &asked, making.version, &key)?;
    publish(&dir.join(ENROL), &json!({ "derived": offered }))?;
    fs::remove_file(&at)?;
    Ok(format!(
        "{}: the key of `{}`, which nobody else has\n{}: show it to the hub with `weighbridge keys enrol`",
        file.display(),
        asked.id,
        dir.join(ENROL).display()
    ))
}

/// Writes the key, and says who has it.
fn finish(
    dir: &Path,
    asked: &Asked,
    version: u32,
    key: &UserKey,
) -> anyhow::Result<(PathBuf, DerivedContent)> {
    let identity = Identity::derived(&asked.id, key);
    let before = match &asked.replaces {
        Some(file) => Some(Identity::load(file, &asked.id)?),
        None => None,
    };
    let declared = PublicKey::from_sec1(Suite::Guomi, &key.declared.0);
    let mut derived = DerivedContent {
        identity: IdentityContent {
            id: asked.id.clone(),
            kind: asked.kind,
            key: Some(identity.public_key()),
        },
        version,
        declared: declared.context("the declared point is none")?,
        replaces: before.as_ref().map(Signer::public_key),
        proof: Signature([0; 64]),
        consent: None,
    };
    let message = derived_message(Suite::Guomi, &asked.chain, &derived);
    derived.proof = identity.sign(&message);
    derived.consent = before.map(|before| before.sign(&message));
    let file = dir.join(format!("{}-{version}.key", kind_name(asked.kind)));
    identity.save(&file)?;
    Ok((file, derived))
}

fn kind_name(kind: IdentityKind) -> &'static str {
    match kind {
        IdentityKind::Edge => "edge",
        _ => "device",
    }
}

//! `weighbridge reader`: reading what was recorded with a key of one's own.

mod fetch;
mod keygen;
mod show;

use super::http_get::HubUrl;
use super::secret_input;
use crate::crypto::SealingKey;
use crate::model::{Nanos, now, parse_time};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use weighbridge_verifier::PublicKey;
use zeroize::Zeroizing;

/// What `weighbridge reader` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge reader keygen anna                                  anna.key.pem for her, anna.pub.pem for the hub
  weighbridge access reader user:anna anna.pub.pem                at the hub, by who may enrol
  weighbridge access grant user:anna 'press-*'
  weighbridge reader read press-1 --key anna.key.pem --tag force  sealed batches, opened here
  weighbridge reader read press-1 --key anna.key.pem --dir copy   of a copied directory, without any hub
  weighbridge reader release press-1 --key anna.key.pem           a copy that the hub made for her

The hub hands out ciphertext, on record; the private key never leaves the reader. Signatures, proofs and inner roots
are checked before anything is shown; --trust says under whose key they must be. docs/readers.md has more.

Exit codes: 0 done, 1 refused, or something does not hold, 69 no hub answers.")]
pub(super) struct ReaderArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Make a key: the private half for the reader, the public half for the hub
    Keygen(keygen::KeygenArgs),
    /// Fetch sealed batches and open them here
    Read(ReadArgs),
    /// Have the hub release a copy, and open it here
    Release(ReleaseArgs),
    /// Open a file that `read --save` or `release --save` wrote
    Open(OpenArgs),
}

/// The reader's key, and whom they trust.
#[derive(Debug, Args)]
struct KeyArgs {
    /// The private key: PKCS#8 PEM, mode 0600
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the key file's passphrase stands, on the first line; it is asked for otherwise
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The public key of the hub: 66 hexadecimal digits, or a file with them
    #[arg(long, value_name = "KEY", value_parser = trusted)]
    trust: Option<PublicKey>,
}

impl KeyArgs {
    fn load(&self) -> anyhow::Result<SealingKey> {
        let mut failed = None;
        let ask = || match secret_input::passphrase(self.passphrase_file.as_deref()) {
            Ok(passphrase) => Some(passphrase),
            Err(error) => {
                failed = Some(error);
                None
            }
        };
        let loaded = SealingKey::load_with(&self.key, ask);
        match failed {
            Some(error) => Err(error),
            None => Ok(loaded?),
        }
    }

    fn trusted(&self) -> Vec<PublicKey> {
        self.trust.into_iter().collect()
    }
}

fn trusted(text: &str) -> Result<PublicKey, String> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let file = std::fs::read_to_string(text)
        .map_err(|e| format!("neither 66 hexadecimal digits nor a file that can be read ({e})"))?;
    let key = file.trim().parse();
    key.map_err(|e| format!("the file {text} holds no public key: {e}"))
}

/// How samples are printed.
#[derive(Debug, Args)]
struct Form {
    /// Print lines of time, tag, value, quality and status, separated by commas
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A running hub, and who asks.
#[derive(Debug, Args)]
struct HubArgs {
    /// A running hub
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL"
    )]
    url: HubUrl,
    /// Where users log in: a file with the token that POST /api/v1/login gave
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl HubArgs {
    fn token(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        self.token_file
            .as_deref()
            .map(secret_input::first_line)
            .transpose()
    }
}

/// Which samples.
#[derive(Debug, Args)]
struct What {
    /// The device
    #[arg(value_name = "DEVICE")]
    device: String,
    /// A tag; may be given several times; all when not given
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// From this source time on, as in 2026-05-04T12:00:00Z, or ns since 1970; by default an hour before the end
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    from: Option<Nanos>,
    /// Up to this source time, not included; by default now
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    to: Option<Nanos>,
}

impl What {
    fn range(&self) -> (Nanos, Nanos) {
        let to = self.to.unwrap_or_else(now);
        (self.from.unwrap_or_else(|| to.saturating_sub(HOUR)), to)
    }
}

/// An hour, ns.
const HOUR: Nanos = 3_600_000_000_000;

#[derive(Debug, Args)]
struct ReadArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    hub: HubArgs,
    /// The directory of a stopped hub, or a copy of one, instead of a running one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep what was fetched, as it is, sealed
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
struct ReleaseArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    hub: HubArgs,
    /// Keep the release, as it is, encrypted
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
struct OpenArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    form: Form,
}

pub(super) fn run(args: ReaderArgs) -> anyhow::Result<ExitCode> {
    match args.act {
        Act::Keygen(args) => keygen::run(&args)?,
        Act::Read(args) => fetch::read(&args)?,
        Act::Release(args) => fetch::release(&args)?,
        Act::Open(args) => fetch::open(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a new file.
fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use anyhow::Context;
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.with_context(|| format!("{} cannot be written", path.display()))
}

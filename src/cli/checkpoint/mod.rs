//! `weighbridge checkpoint`: the ledger's head as a signed note, and witnesses' cosignatures of it.

mod kept;
mod source;
pub(super) mod timestamp;
mod witness;

use super::http_get::HubUrl;
use super::output::{self, Style};
use super::verify_note::read_note;
use crate::crypto::ed25519_holds;
use crate::model::{Nanos, rfc3339};
use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use kept::Kept;
use serde_json::json;
use source::Source;
use std::path::PathBuf;
use std::process::ExitCode;
use weighbridge_verifier::checkpoint::{Checkpoint, Submission};
use weighbridge_verifier::note::{Note, NoteKey};
use weighbridge_verifier::tree::is_consistent;
use witness::{Answer, WitnessUrl};

/// What `weighbridge checkpoint` is told.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  weighbridge checkpoint                                the newest one, of the hub on this machine
  weighbridge checkpoint --dir plant                    of a stopped hub; its keys are in plant/keys
  weighbridge checkpoint --keys                         the keys that witnesses and auditors are given
  weighbridge checkpoint --witness http://127.0.0.1:7380 --witness-key w.example/1+0a1b2c3d+BAAA… --keep notes
  weighbridge checkpoint --since notes/00000000000000000102.note -o new.proof
  weighbridge verify plant --checkpoint notes/00000000000000000102.note
  weighbridge checkpoint timestamp held.note --tsa http://tsa.example/tsr --tsa-ca tsa-ca.pem

A checkpoint is a note of c2sp.org/tlog-checkpoint. Who has one can tell later whether history was
rewritten or cut short; a witness (c2sp.org/tlog-witness) cosigns only what extends all it has seen.
Witnesses on other machines are reached through a tunnel or a TLS proxy on this one.

Exit codes: 0 made, 1 not made or refused by a witness, 69 no hub answers."
)]
pub(super) struct CheckpointArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// A running hub
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL"
    )]
    url: HubUrl,
    /// The directory of a stopped hub, as `init` made it, instead of a running one
    #[arg(long, value_name = "DIR", alias = "data")]
    dir: Option<PathBuf>,
    /// The stopped hub's buffer; by default `buffer` beside its data, if it is there
    #[arg(long, value_name = "DIR", requires = "dir")]
    buffer: Option<PathBuf>,
    /// Print the keys that sign checkpoints, as NAME+ID+BASE64, and nothing else
    #[arg(long, conflicts_with_all = ["witness", "since", "keep"])]
    keys: bool,
    /// Write the proof that the newest checkpoint extends the one in this file
    #[arg(long, value_name = "NOTE", conflicts_with = "witness")]
    since: Option<PathBuf>,
    /// Have it cosigned by the witness below this address; can be given several times
    #[arg(long, value_name = "URL", requires = "witness_key")]
    witness: Vec<WitnessUrl>,
    /// A witness's key, NAME+ID+BASE64; can be given several times. Other keys are believed nothing
    #[arg(long, value_name = "KEY", requires = "witness")]
    witness_key: Vec<NoteKey>,
    /// Where cosigned notes are kept; of a stopped hub `checkpoints` beside its ledger
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Write it to this file instead of standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "keys")]
    output: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Have a time stamp authority say when a checkpoint was there (RFC 3161)
    Timestamp(timestamp::TimestampArgs),
}

pub(super) fn run(args: CheckpointArgs) -> anyhow::Result<ExitCode> {
    if let Some(What::Timestamp(args)) = &args.what {
        return timestamp::run(args);
    }
    let mut source = Source::open(&args.url, args.dir.as_deref(), args.buffer.as_deref())?;
    if args.keys {
        return keys(&source, args.json);
    }
    if let Some(file) = &args.since {
        return since(&args, &mut source, file);
    }
    let kept = args.keep.clone().or(source.notes()).map(Kept::new);
    let newest = kept.as_ref().map(Kept::newest).transpose()?.flatten();
    let before = newest.as_ref().map(|(_, checkpoint)| checkpoint);
    let first = source.submission(before.map_or(0, |c| c.size), None)?;
    if let Some((file, before)) = &newest {
        // Whoever signs two histories can be caught; so an honest hub must not do it by accident.
        extends(&first, before)
            .with_context(|| format!("the kept checkpoint {}", file.display()))?;
    }
    let mut cosigning = Cosigning::new(first)?;
    for url in &args.witness {
        let cosigned = cosigning.ask(url, &args.witness_key, &mut source);
        if let Err(error) = cosigned {
            cosigning
                .failed
                .push((url.to_string(), format!("{error:#}")));
        }
    }
    let file = match &kept {
        Some(kept) if !cosigning.stamps.is_empty() => {
            Some(kept.keep(&cosigning.checkpoint, &mut cosigning.note)?)
        }
        _ => None,
    };
    cosigning.show(&args, file)
}

fn keys(source: &Source, json: bool) -> anyhow::Result<ExitCode> {
    let keys = source.keys()?;
    if json {
        let of = |i: usize| keys.get(i).map(ToString::to_string);
        output::print_json(&json!({ "checkpoint_key": of(0), "hub_key": of(1) }))?;
    } else {
        let lines = keys.iter().map(|key| format!("{key}\n"));
        output::print(&lines.collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The proof from an earlier note on, as a file.
fn since(
    args: &CheckpointArgs,
    source: &mut Source,
    file: &std::path::Path,
) -> anyhow::Result<ExitCode> {
    let (_, before) = read_note(file)?;
    let made = source.submission(before.size, None)?;
    extends(&made, &before).with_context(|| format!("the checkpoint {}", file.display()))?;
    let now = Checkpoint::parse(&made.note.text)?;
    write(args, &made.to_string())?;
    if args.json {
        output::print_json(&json!({
            "origin": now.origin,
            "old_size": made.old,
            "size": now.size,
            "hashes": made.proof.len(),
            "proof": made.to_string(),
            "file": args.output,
        }))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to the file that was named, or to standard output unless that gets JSON.
fn write(args: &CheckpointArgs, text: &str) -> anyhow::Result<()> {
    match &args.output {
        Some(file) => std::fs::write(file, text)
            .with_context(|| format!("{} cannot be written", file.display())),
        None if args.json => Ok(()),
        None => output::print(text),
    }
}

/// Whether what is submitted extends the tree of `before`.
fn extends(made: &Submission, before: &Checkpoint) -> anyhow::Result<()> {
    let now = Checkpoint::parse(&made.note.text)?;
    if now.origin != before.origin {
        bail!(
            "is of the log {}, and this ledger is {}",
            before.origin,
            now.origin
        );
    }
    let consistent = is_consistent(
        (before.size, &before.root),
        (now.size, &now.root),
        &made.proof,
    );
    ensure!(
        made.old == before.size && consistent,
        "is not extended by the ledger: its first {} blocks are not what they were",
        before.size
    );
    Ok(())
}

/// A checkpoint on its way to the witnesses.
struct Cosigning {
    checkpoint: Checkpoint,
    note: Note,
    /// With the proof that was last asked for.
    submission: Submission,
    /// Names of those who cosigned, and when, in seconds since 1970.
    stamps: Vec<(String, Option<u64>)>,
    failed: Vec<(String, String)>,
}

/// How often a witness may say that it has seen another size meanwhile.
const ATTEMPTS: usize = 3;

impl Cosigning {
    fn new(submission: Submission) -> anyhow::Result<Self> {
        Ok(Self {
            checkpoint: Checkpoint::parse(&submission.note.text)?,
            note: submission.note.clone(),
            submission,
            stamps: Vec::new(),
            failed: Vec::new(),
        })
    }

    /// Has it cosigned by one witness. What size it has seen it says itself, where our guess is wrong.
    fn ask(
        &mut self,
        url: &WitnessUrl,
        keys: &[NoteKey],
        source: &mut Source,
    ) -> anyhow::Result<()> {
        let size = self.checkpoint.size;
        for _ in 0..ATTEMPTS {
            match url.add_checkpoint(&self.submission)? {
                Answer::Cosigned(lines) => return self.take(lines, keys),
                Answer::Seen(seen) if seen > size => bail!(
                    "it has cosigned {seen} blocks of this log, and this checkpoint has {size}: the \
                     ledger was cut short, or somebody else asked for a newer one (then ask again)"
                ),
                Answer::Seen(seen) if seen == self.submission.old => bail!(
                    "it has cosigned another tree of {seen} blocks: the ledger's history is not the one \
                     that it has seen"
                ),
                Answer::Seen(seen) => self.submission = source.submission(seen, Some(size))?,
            }
        }
        bail!("it said {ATTEMPTS} times that it has seen another size")
    }

    fn take(
        &mut self,
        lines: Vec<weighbridge_verifier::note::NoteSignature>,
        keys: &[NoteKey],
    ) -> anyhow::Result<()> {
        let answer = Note {
            text: self.note.text.clone(),
            signatures: lines,
        };
        let before = self.stamps.len();
        for key in keys {
            let Ok(stamp) = answer.verify(key, ed25519_holds) else {
                continue;
            };
            let id = key.id();
            let own = |s: &&_| is_of(s, &key.name, id);
            self.note.signatures.retain(|s| !is_of(s, &key.name, id));
            let lines = answer.signatures.iter().filter(own);
            self.note.signatures.extend(lines.cloned());
            self.stamps.push((key.name.clone(), stamp.0));
        }
        ensure!(
            self.stamps.len() > before,
            "it answered without a cosignature that holds under a key given with --witness-key"
        );
        Ok(())
    }

    fn show(&self, args: &CheckpointArgs, kept: Option<PathBuf>) -> anyhow::Result<ExitCode> {
        let text = self.note.to_string();
        write(args, &text)?;
        let time = |s: u64| i64::try_from(s).ok().and_then(|s| s.checked_mul(SECOND));
        let time = |s: Option<u64>| s.and_then(time).map(rfc3339);
        if args.json {
            let stamps = self.stamps.iter();
            let stamps = stamps.map(|(name, at)| json!({"name": name, "time": time(*at)}));
            let failed = self.failed.iter();
            let failed = failed.map(|(url, why)| json!({"witness": url, "why": why}));
            output::print_json(&json!({
                "origin": self.checkpoint.origin,
                "size": self.checkpoint.size,
                "root": self.checkpoint.root,
                "note": text,
                "cosigned": stamps.collect::<Vec<_>>(),
                "failed": failed.collect::<Vec<_>>(),
                "kept": kept,
            }))?;
        }
        let style = Style::stderr();
        for (name, at) in &self.stamps {
            let at = time(*at).unwrap_or_default();
            eprintln!("{} cosigned by {name} at {at}", style.green("✓"));
        }
        if let Some(file) = kept {
            eprintln!("  kept in {}", file.display());
        }
        for (url, why) in &self.failed {
            eprintln!("{}: the witness {url}: {why}", style.red("error"));
        }
        Ok(if self.failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// In nanoseconds.
const SECOND: Nanos = 1_000_000_000;

fn is_of(line: &weighbridge_verifier::note::NoteSignature, name: &str, id: [u8; 4]) -> bool {
    line.name == name && line.key_id == id
}

//! `weighbridge-verify`: checks evidence files, with nothing of the hub in it.
//!
//! ```text
//! weighbridge-verify FILE [--trust KEY|KEYFILE]...
//! weighbridge-verify FILE --relay RELAYFILE [--trust KEY|KEYFILE]...
//! weighbridge-verify --stream [--trust KEY|KEYFILE]...
//! ```
//!
//! With `--relay` the keys are those of a relay chain, and its evidence says whose keys the file is to be trusted under.
//!
//! The verdict is the last line of standard output; exit codes: 0 proven, 1 not, 2 wrong command line.
//! With `--stream` standard input holds many files, each behind its length (4 bytes, big-endian), and
//! every verdict is a line: for whoever checks this program against another.

#![forbid(unsafe_code)]

use std::io::{BufRead, ErrorKind, Read, Write};
use std::process::ExitCode;
use weighbridge_verifier::evidence::{Evidence, EvidenceError, MAX_BYTES, Trust};
use weighbridge_verifier::relay::vouched;
use weighbridge_verifier::{KeyCache, PublicKey, plain};

const USAGE: &str =
    "usage: weighbridge-verify FILE|--stream [--relay RELAYFILE] [--trust KEY|KEYFILE]...";

fn main() -> ExitCode {
    let Asked {
        file,
        relay,
        trusted,
    } = match arguments(std::env::args().skip(1)) {
        Ok(understood) => understood,
        Err(why) => {
            eprintln!("error: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let done = match file {
        Some(file) => one(&file, relay.as_deref(), &trusted),
        None => stream(&trusted).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// What was asked for; without a file, a stream of them.
struct Asked {
    file: Option<String>,
    relay: Option<String>,
    trusted: Vec<PublicKey>,
}

fn arguments(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let (mut file, mut stream, mut trusted) = (None, false, Vec::new());
    let mut relay = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--trust" => {
                let key = arguments.next().ok_or("`--trust` needs a key")?;
                trusted.extend(keys(&key)?);
            }
            "--relay" => relay = Some(arguments.next().ok_or("`--relay` needs a file")?),
            "--stream" => stream = true,
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ if file.is_some() => return Err("one file at a time".to_owned()),
            _ => file = Some(argument),
        }
    }
    match file.is_some() == stream {
        true => Err("which file?".to_owned()),
        false if stream && relay.is_some() => Err("a relay is for one file".to_owned()),
        false => Ok(Asked {
            file,
            relay,
            trusted,
        }),
    }
}

/// A key given as digits, or the keys in a file, a line each.
fn keys(text: &str) -> Result<Vec<PublicKey>, String> {
    if let Ok(key) = text.parse() {
        return Ok(vec![key]);
    }
    let file = std::fs::read_to_string(text).map_err(|e| format!("{text}: {e}"))?;
    let lines = file.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Result<Vec<PublicKey>, _> = lines.map(str::parse).collect();
    let keys = keys.map_err(|e| format!("{text} holds no public key: {e}"))?;
    match keys.is_empty() {
        true => Err(format!("{text} holds no public key")),
        false => Ok(keys),
    }
}

fn verdict(
    bytes: &[u8],
    trusted: &[PublicKey],
    cache: &KeyCache,
) -> Result<(Evidence, Trust), EvidenceError> {
    let evidence = Evidence::from_bytes(bytes)?;
    let trust = evidence.verify_with(trusted, cache)?;
    Ok((evidence, trust))
}

fn words(trust: Trust) -> &'static str {
    match trust {
        Trust::Key => "proven, under the trusted key",
        Trust::SelfConsistentOnly => "proven, self-consistent only",
    }
}

fn read(file: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(file)?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The verdict on a file of which a relay is to say whose keys count. How far it is trusted is how far the relay is.
fn through(
    relay: &[u8],
    bytes: &[u8],
    trusted: &[PublicKey],
) -> Result<(Evidence, Trust), EvidenceError> {
    let cache = KeyCache::default();
    let (relay, trust) = verdict(relay, trusted, &cache)?;
    let evidence = Evidence::from_bytes(bytes)?;
    match vouched(&relay, &evidence, &cache) {
        keys if keys.is_empty() => Err(EvidenceError::Untrusted),
        keys => {
            evidence.verify_with(&keys, &cache)?;
            Ok((evidence, trust))
        }
    }
}

fn one(file: &str, relay: Option<&str>, trusted: &[PublicKey]) -> std::io::Result<ExitCode> {
    let bytes = read(file)?;
    let checked = match relay {
        Some(relay) => through(&read(relay)?, &bytes, trusted),
        None => verdict(&bytes, trusted, &KeyCache::default()),
    };
    match checked {
        Ok((evidence, trust)) => {
            let mut out = std::io::stdout().lock();
            for (_, record, sample) in evidence.samples() {
                let device = record.record.body.batch().map_or("", |b| &b.device);
                let (tag, value, time) = (&sample.tag, &sample.value, sample.time);
                let quality = sample.quality;
                let line = format!("{device}/{tag} = {value} ({quality}) at {time} ns");
                writeln!(out, "{}", plain(&line))?;
            }
            writeln!(out, "{}", words(trust))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let why = plain(&error.to_string());
            eprintln!("error: the evidence does not hold: {why}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn stream(trusted: &[PublicKey]) -> std::io::Result<()> {
    let cache = KeyCache::default();
    let (mut input, mut out) = (std::io::stdin().lock(), std::io::stdout().lock());
    while !input.fill_buf()?.is_empty() {
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        let length = u64::from(u32::from_be_bytes(length));
        let mut bytes = Vec::new();
        input.by_ref().take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match verdict(&bytes, trusted, &cache) {
            Ok((_, trust)) => writeln!(out, "{}", words(trust))?,
            Err(error) => {
                let why = plain(&error.to_string());
                writeln!(out, "not proven: {why}")?;
            }
        }
        out.flush()?;
    }
    Ok(())
}

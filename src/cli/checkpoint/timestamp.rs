//! `weighbridge checkpoint timestamp`: an authority says when a checkpoint was there (RFC 3161).

use super::super::http_get::{HubUrl, Unreachable, post_bytes};
use super::super::output::{self, Style};
use super::super::verify_note::read_note;
use crate::crypto::timestamp::{
    MAX_TOKEN, Timestamp, TimestampAuthorities, nonce, request, token_of_response, verify,
};
use crate::model::rfc3339;
use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::{Value as Json, json};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use weighbridge_verifier::sha256;

/// What files of time stamps end in, beside the note they are of.
const SUFFIX: &str = "tst";
/// Longest file of authorities, in bytes.
const MAX_PEM: u64 = 1 << 20;
/// What a refusal is quoted with, in bytes.
const QUOTED: usize = 200;

/// What `weighbridge checkpoint timestamp` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge checkpoint timestamp held.note --tsa http://tsa.example/tsr --tsa-ca tsa-ca.pem
  weighbridge verify held.note --trust hub.pub --timestamp held.tst --tsa-ca tsa-ca.pem
  sed '/^$/,$d' held.note | openssl ts -verify -data /dev/stdin -in held.tst -token_in -CAfile tsa-ca.pem

What is stamped is the SHA-256 of the note's text, the lines before the empty one: cosignatures that come
later change nothing. The authority sees that hash only. Its answer is signed and checked, so it is asked
over plain HTTP.

Exit codes: 0 stamped, 1 not.")]
pub(in crate::cli) struct TimestampArgs {
    /// The checkpoint
    #[arg(value_name = "NOTE")]
    note: PathBuf,
    /// The time stamp authority
    #[arg(long, value_name = "URL")]
    tsa: TsaUrl,
    /// The certificates of authorities that you trust, as PEM
    #[arg(long, value_name = "FILE")]
    tsa_ca: PathBuf,
    /// The policy to ask for, an object identifier; by default the authority's own
    #[arg(long, value_name = "OID")]
    policy: Option<String>,
    /// The file of the time stamp; by default the note's name with .tst at its end
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// `http://HOST[:PORT]/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TsaUrl {
    server: HubUrl,
    target: String,
}

impl FromStr for TsaUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").ok_or_else(|| {
            "an authority is asked over plain HTTP, as in http://tsa.example/tsr: its answer is signed"
                .to_owned()
        })?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_graphic() && c != '#';
        if !path.chars().all(plain) {
            return Err("expected http://HOST:PORT/PATH".to_owned());
        }
        Ok(Self {
            server: format!("http://{authority}").parse()?,
            target: format!("/{path}"),
        })
    }
}

impl fmt::Display for TsaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.server, self.target)
    }
}

/// What is stamped of a note: its text without the signatures.
fn imprint(text: &str) -> [u8; 32] {
    sha256(&[text.as_bytes()]).0
}

/// The authorities in a PEM file.
fn authorities(file: &Path) -> anyhow::Result<TimestampAuthorities> {
    let pem = bounded(file, MAX_PEM)?;
    TimestampAuthorities::from_pem(&pem).with_context(|| file.display().to_string())
}

fn bounded(file: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(most + 1).read_to_end(&mut bytes))
        .with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(bytes)
}

/// The time stamp in `file`, if it is one of the note with this text by an authority in `trusted`.
pub(in crate::cli) fn check(text: &str, file: &Path, trusted: &Path) -> anyhow::Result<Timestamp> {
    let token = bounded(file, MAX_TOKEN as u64)?;
    let authorities = authorities(trusted)?;
    verify(&token, &imprint(text), None, None, &authorities)
        .with_context(|| format!("the time stamp {} does not hold", file.display()))
}

/// What is told of a time stamp.
pub(in crate::cli) fn as_json(stamp: &Timestamp) -> Json {
    json!({
        "time": rfc3339(stamp.time),
        "time_ns": stamp.time.to_string(),
        "accuracy_ns": stamp.accuracy.map(|ns| ns.to_string()),
        "authority": stamp.authority,
        "serial": stamp.serial,
        "policy": stamp.policy,
    })
}

/// The same as a line.
pub(in crate::cli) fn as_text(stamp: &Timestamp) -> String {
    let (authority, at) = (&stamp.authority, rfc3339(stamp.time));
    format!("  stamped by {authority} at {at}\n")
}

pub(super) fn run(args: &TimestampArgs) -> anyhow::Result<ExitCode> {
    let (note, checkpoint) = read_note(&args.note)?;
    let authorities = authorities(&args.tsa_ca)?;
    let file = match &args.output {
        Some(file) => file.clone(),
        None => args.note.with_extension(SUFFIX),
    };
    let (nonce, policy) = (nonce()?, args.policy.as_deref());
    let imprint = imprint(&note.text);
    let answer = ask(&args.tsa, &request(&imprint, nonce, policy)?)?;
    let read = || {
        let token = token_of_response(&answer)?;
        let stamp = verify(&token, &imprint, Some(nonce), policy, &authorities)?;
        anyhow::Ok((token, stamp))
    };
    let (token, stamp) = read().with_context(|| format!("the answer of {}", args.tsa))?;
    std::fs::write(&file, &token)
        .with_context(|| format!("{} cannot be written", file.display()))?;
    if args.json {
        let mut said = as_json(&stamp);
        if let Some(fields) = said.as_object_mut() {
            fields.insert("file".to_owned(), json!(file));
            fields.insert("origin".to_owned(), json!(checkpoint.origin));
            fields.insert("size".to_owned(), json!(checkpoint.size));
        }
        output::print_json(&said)?;
    } else {
        let style = Style::stdout();
        let text = format!("stamped by {} at {}", stamp.authority, rfc3339(stamp.time));
        output::print(&format!(
            "{}\n  kept in {}\n",
            style.green(&text),
            file.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(tsa: &TsaUrl, request: &[u8]) -> anyhow::Result<Vec<u8>> {
    let sent = post_bytes(
        &tsa.server,
        &tsa.target,
        "application/timestamp-query",
        request,
    );
    let (status, body) = sent.map_err(|error| match error.downcast::<Unreachable>() {
        Ok(unreachable) => anyhow!("nobody answers at {tsa}: {}", unreachable.reason()),
        Err(other) => other,
    })?;
    if status != 200 {
        let said = String::from_utf8_lossy(&body);
        let said: String = said
            .chars()
            .filter(|c| !c.is_control())
            .take(QUOTED)
            .collect();
        bail!("{tsa} answered with HTTP {status}: {said}");
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_explained() {
        for (text, shown) in [
            ("http://tsa.example/tsr", "http://tsa.example:80/tsr"),
            ("http://127.0.0.1:3161", "http://127.0.0.1:3161/"),
            ("http://[::1]:1/a?b=c", "http://[::1]:1/a?b=c"),
        ] {
            assert_eq!(text.parse::<TsaUrl>().unwrap().to_string(), shown);
        }
        for bad in [
            "https://tsa.example",
            "tsa.example",
            "http://",
            "http://a/b c",
            "http://a/#b",
        ] {
            assert!(bad.parse::<TsaUrl>().is_err(), "{bad}");
        }
    }
}

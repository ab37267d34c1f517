//! Asking a witness: `POST add-checkpoint` of c2sp.org/tlog-witness.

use super::super::http_get::{HubUrl, Unreachable, post_text};
use anyhow::{anyhow, bail};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use weighbridge_verifier::checkpoint::{Submission, decimal};
use weighbridge_verifier::note::{MAX_SIGNATURES, NoteSignature};

/// The submission prefix of a witness, on this machine: `http://HOST:PORT[/PREFIX]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WitnessUrl {
    server: HubUrl,
    prefix: String,
}

impl FromStr for WitnessUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let far = "a witness is asked over plain HTTP, so only on this machine (127.0.0.1, [::1]); \
                   reach one elsewhere through a tunnel or a proxy that does TLS";
        let rest = text.strip_prefix("http://").ok_or_else(|| far.to_owned())?;
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let server: HubUrl = format!("http://{authority}").parse()?;
        let host = server.host().trim_matches(['[', ']']);
        let near = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !near {
            return Err(far.to_owned());
        }
        let prefix = prefix.trim_end_matches('/').to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/%".contains(c);
        if !prefix.chars().all(plain) {
            return Err("expected http://HOST:PORT/PREFIX, without a query".to_owned());
        }
        Ok(Self { server, prefix })
    }
}

impl fmt::Display for WitnessUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)?;
        if self.prefix.is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.prefix)
    }
}

/// What a witness may answer and we can go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Signature lines.
    Cosigned(Vec<NoteSignature>),
    /// The size that it cosigned last.
    Seen(u64),
}

/// What a refusal is quoted with, in bytes.
const QUOTED: usize = 200;

impl WitnessUrl {
    /// Sends a checkpoint with its proof.
    pub(super) fn add_checkpoint(&self, submission: &Submission) -> anyhow::Result<Answer> {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        let target = format!("{slash}{}/add-checkpoint", self.prefix);
        let sent = post_text(&self.server, &target, &submission.to_string());
        let (status, body) = sent.map_err(|error| match error.downcast::<Unreachable>() {
            Ok(unreachable) => anyhow!("nobody answers there: {}", unreachable.reason()),
            Err(other) => other,
        })?;
        read(status, &body)
    }
}

fn read(status: u16, body: &[u8]) -> anyhow::Result<Answer> {
    let text = String::from_utf8_lossy(body);
    let why = match status {
        200 => {
            let lines = text
                .strip_suffix('\n')
                .map(|t| t.split('\n').take(MAX_SIGNATURES + 1));
            let lines: Option<Vec<_>> = lines.and_then(|l| l.map(NoteSignature::parse).collect());
            match lines {
                Some(lines) if lines.len() <= MAX_SIGNATURES => return Ok(Answer::Cosigned(lines)),
                _ => bail!("it answered with something else than signature lines"),
            }
        }
        409 => match text.strip_suffix('\n').and_then(decimal) {
            Some(size) => return Ok(Answer::Seen(size)),
            None => "it has seen another size, but does not say which",
        },
        400 => "it cannot read the request",
        403 => {
            "it does not take the signature: give it the first key that `checkpoint --keys` prints"
        }
        404 => {
            "it does not know this log: its operator must add the log with the first key that \
             `checkpoint --keys` prints"
        }
        422 => "the ledger does not extend the history that it has seen: it was rewritten",
        _ => "it does not cosign",
    };
    let said: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(QUOTED)
        .collect();
    let said = if said.is_empty() {
        said
    } else {
        format!(": {said}")
    };
    bail!("{why} (HTTP {status}{said})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_on_this_machine() {
        for good in [
            "http://127.0.0.1:7380",
            "http://localhost/w/1",
            "http://[::1]:80/a%20b",
        ] {
            assert!(good.parse::<WitnessUrl>().is_ok(), "{good}");
        }
        for bad in [
            "https://127.0.0.1",
            "http://192.0.2.1",
            "http://witness.example",
            "http://127.0.0.1/a?b",
            "http://127.0.0.1/a b",
            "http://localhost.example",
        ] {
            assert!(bad.parse::<WitnessUrl>().is_err(), "{bad}");
        }
        let url: WitnessUrl = "http://127.0.0.1:1/w/".parse().unwrap();
        assert_eq!(url.to_string(), "http://127.0.0.1:1/w");
    }

    #[test]
    fn answers_are_read_or_explained() {
        let line = "— w AAAAAAE=\n";
        let lines = read(200, line.repeat(2).as_bytes()).unwrap();
        assert!(matches!(lines, Answer::Cosigned(lines) if lines.len() == 2));
        assert_eq!(read(409, b"17\n").unwrap(), Answer::Seen(17));
        let many = line.repeat(MAX_SIGNATURES + 1);
        for (status, body, said) in [
            (200, "", "something else"),
            (200, "{}\n", "something else"),
            (200, "\n", "something else"),
            (200, &many, "something else"),
            (409, "x", "another size"),
            (409, "017\n", "another size"),
            (400, "", "cannot read"),
            (403, "", "signature"),
            (404, "", "does not know"),
            (422, "bad proof\n", "rewritten (HTTP 422: bad proof)"),
            (500, "", "does not cosign (HTTP 500)"),
        ] {
            let error = read(status, body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{status}: {error}");
        }
    }
}

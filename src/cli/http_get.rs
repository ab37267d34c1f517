//! One HTTP/1.1 GET or POST to a hub, a witness or a time stamp authority, in plain or by TLS: enough for their APIs, and nothing
//! else. No redirects, no compression; every step and every size is bounded. Whoever logged in at the hub
//! (`weighbridge login`) is who asks.

mod answer;
mod target;
mod url;

pub(super) use target::path;
pub(super) use url::HubUrl;

use super::session;
use crate::crypto::tls;
use answer::{Answer, read_answer};
use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value as Json;
use std::path::PathBuf;
use std::time::Duration;
use target::target;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the whole answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Nobody answers there.
#[derive(Debug, thiserror::Error)]
#[error(
    "no hub answers at {address}: {reason}; start one with `weighbridge run`, or name another with --url"
)]
pub(super) struct Unreachable {
    address: String,
    reason: String,
}

impl Unreachable {
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }
}

/// Names a file with the authority of a hub's certificate, for those who are not logged in.
const CA_VARIABLE: &str = "WEIGHBRIDGE_CA";

/// By what somebody is known to a hub, and it to them.
#[derive(Default)]
pub(super) struct Credentials {
    /// That of a session.
    pub(super) token: Option<Zeroizing<String>>,
    /// The authority of the hub's certificate, in PEM.
    pub(super) ca: Option<String>,
    /// The files of a certificate and its key.
    pub(super) pair: Option<(PathBuf, PathBuf)>,
}

impl Credentials {
    /// Those of the session at a hub, if there is one.
    pub(super) fn kept(url: &HubUrl) -> anyhow::Result<Self> {
        let kept = session::at(url)?;
        Ok(kept.map_or_else(Self::default, |kept| Self {
            token: kept.is_open().then(|| Zeroizing::new(kept.token.clone())),
            ca: kept.ca.clone(),
            pair: None,
        }))
    }

    fn tls(&self, url: &HubUrl) -> anyhow::Result<TlsConnector> {
        let named = || std::env::var_os(CA_VARIABLE).filter(|v| !v.is_empty());
        let pem = match (&self.ca, named()) {
            (Some(pem), _) => pem.clone(),
            (None, Some(file)) => std::fs::read_to_string(&file)
                .with_context(|| format!("{} cannot be read", PathBuf::from(file).display()))?,
            (None, None) => bail!(
                "nothing is known by which the certificate of {url} could be checked: log in with \
                 `weighbridge login {url} --user NAME --ca pki/authority.crt`, or name the site's authority by \
                 {CA_VARIABLE}=FILE"
            ),
        };
        let pair = self.pair.as_ref().map(|(c, k)| (c.as_path(), k.as_path()));
        Ok(TlsConnector::from(tls::client_trusting(&pem, pair)?))
    }
}

/// GETs `path` with `query` from the hub at `url`; the answer as JSON.
pub(super) fn get_json(url: &HubUrl, path: &str, query: &[(&str, String)]) -> anyhow::Result<Json> {
    let target = target(path, query);
    let answer = ask(url, &target, None)?;
    read_json(url, &target, &answer)
}

/// POSTs a JSON body to `path` of the hub at `url`; the answer as JSON.
pub(super) fn post_json(url: &HubUrl, path: &str, body: &Json) -> anyhow::Result<Json> {
    let answer = ask(url, path, Some(&Body::json(body)))?;
    read_json(url, path, &answer)
}

/// GETs `path` with `query` from the hub at `url`; the answer as text.
pub(super) fn get_text(
    url: &HubUrl,
    path: &str,
    query: &[(&str, String)],
) -> anyhow::Result<String> {
    let target = target(path, query);
    let answer = ask(url, &target, None)?;
    went_well(url, &target, &answer)?;
    String::from_utf8(answer.body)
        .with_context(|| format!("{url}{target} did not answer with text"))
}

/// GETs `path` as [`get_text`] does, by the token of whoever logged in.
pub(super) fn get_text_as(
    url: &HubUrl,
    path: &str,
    query: &[(&str, String)],
    token: Option<&str>,
) -> anyhow::Result<String> {
    let target = target(path, query);
    let answer = ask_as(url, &target, None, token)?;
    went_well(url, &target, &answer)?;
    String::from_utf8(answer.body)
        .with_context(|| format!("{url}{target} did not answer with text"))
}

/// POSTs as [`post_json`] does, by the token of whoever logged in; the answer as text.
pub(super) fn post_as(
    url: &HubUrl,
    path: &str,
    body: &Json,
    token: Option<&str>,
) -> anyhow::Result<String> {
    let answer = ask_as(url, path, Some(&Body::json(body)), token)?;
    went_well(url, path, &answer)?;
    String::from_utf8(answer.body).with_context(|| format!("{url}{path} did not answer with text"))
}

/// POSTs a text to `path` at `url`; status and body of the answer, whatever the status.
pub(super) fn post_text(url: &HubUrl, path: &str, text: &str) -> anyhow::Result<(u16, Vec<u8>)> {
    post_bytes(url, path, "text/plain; charset=utf-8", text.as_bytes())
}

/// The same for bytes of any kind.
pub(super) fn post_bytes(
    url: &HubUrl,
    path: &str,
    kind: &'static str,
    bytes: &[u8],
) -> anyhow::Result<(u16, Vec<u8>)> {
    let bytes = bytes.to_vec();
    let answer = ask(url, path, Some(&Body { kind, bytes }))?;
    Ok((answer.status, answer.body))
}

fn went_well(url: &HubUrl, target: &str, answer: &Answer) -> anyhow::Result<()> {
    if answer.status == 200 {
        return Ok(());
    }
    let json: Option<Json> = serde_json::from_slice(&answer.body).ok();
    let detail = json.and_then(|j| {
        let text = |key: &str| j.get(key).and_then(Json::as_str).map(str::to_owned);
        text("detail").or(text("title"))
    });
    let detail = detail.map_or(String::new(), |d| format!(": {d}"));
    bail!("{url}{target} answered {}{detail}", answer.status)
}

fn read_json(url: &HubUrl, target: &str, answer: &Answer) -> anyhow::Result<Json> {
    went_well(url, target, answer)?;
    serde_json::from_slice(&answer.body).with_context(|| {
        format!("{url}{target} did not answer with JSON; is it a Weighbridge hub?")
    })
}

/// POSTs `body` to `path` of the hub at `url`; status and JSON of the answer, whatever the status.
pub(super) fn post(url: &HubUrl, path: &str, body: &Json) -> anyhow::Result<(u16, Json)> {
    let answer = ask(url, path, Some(&Body::json(body)))?;
    let json = serde_json::from_slice(&answer.body).with_context(|| {
        let status = answer.status;
        format!("{url}{path} answered {status} without JSON; is it a Weighbridge hub?")
    })?;
    Ok((answer.status, json))
}

/// What is POSTed.
struct Body {
    kind: &'static str,
    bytes: Vec<u8>,
}

impl Body {
    fn json(json: &Json) -> Self {
        Self {
            kind: "application/json",
            bytes: json.to_string().into_bytes(),
        }
    }
}

/// POSTs JSON to `path` of the hub at `url` as somebody who is not logged in there; status and JSON of the answer,
/// whatever the status.
pub(super) fn post_with(
    url: &HubUrl,
    path: &str,
    json: &str,
    credentials: &Credentials,
) -> anyhow::Result<(u16, Json)> {
    let body = Body {
        kind: "application/json",
        bytes: json.as_bytes().to_vec(),
    };
    let answer = ask_with(url, path, Some(&body), credentials)?;
    let json = serde_json::from_slice(&answer.body).with_context(|| {
        let status = answer.status;
        format!("{url}{path} answered {status} without JSON; is it a Weighbridge hub?")
    })?;
    Ok((answer.status, json))
}

fn ask(url: &HubUrl, target: &str, body: Option<&Body>) -> anyhow::Result<Answer> {
    let credentials = Credentials::kept(url)?;
    let answer = ask_with(url, target, body, &credentials)?;
    let log_in = format!("`weighbridge login {url} --user NAME`");
    match (answer.status, &credentials.token) {
        (401, Some(_)) => bail!(
            "your session at {url} is over: it ended by rest or age, or the hub was started again; log in again by {log_in}"
        ),
        (401, None) => bail!("{url} wants to know who you are: log in by {log_in}"),
        _ => Ok(answer),
    }
}

/// By another token than that of the session, where one is given.
fn ask_as(
    url: &HubUrl,
    target: &str,
    body: Option<&Body>,
    token: Option<&str>,
) -> anyhow::Result<Answer> {
    let Some(token) = token else {
        return ask(url, target, body);
    };
    ensure!(
        token.bytes().all(|byte| byte.is_ascii_graphic()),
        "the token is none: it has other characters than a token has"
    );
    let credentials = Credentials {
        token: Some(Zeroizing::new(token.to_owned())),
        ..Credentials::kept(url)?
    };
    ask_with(url, target, body, &credentials)
}

fn ask_with(
    url: &HubUrl,
    target: &str,
    body: Option<&Body>,
    credentials: &Credentials,
) -> anyhow::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime cannot be started")?;
    runtime.block_on(request(url, target, body, credentials))
}

async fn request(
    url: &HubUrl,
    target: &str,
    body: Option<&Body>,
    credentials: &Credentials,
) -> anyhow::Result<Answer> {
    let unreachable = |reason: String| Unreachable {
        address: url.to_string(),
        reason,
    };
    let host = url.host.trim_start_matches('[').trim_end_matches(']');
    let connecting = TcpStream::connect((host, url.port));
    let stream = match tokio::time::timeout(CONNECT, connecting).await {
        Err(_) => bail!(unreachable(format!(
            "no connection within {} s",
            CONNECT.as_secs()
        ))),
        Ok(Err(e)) => bail!(unreachable(e.to_string())),
        Ok(Ok(stream)) => stream,
    };
    let token = credentials.token.as_ref().map(|token| token.as_str());
    let unread = || format!("the answer of {url} cannot be read");
    let exchanged = async {
        if !url.tls {
            let plain = exchange(stream, url, (target, token), body).await;
            return plain.with_context(unread);
        }
        let (connector, name) = (credentials.tls(url)?, tls::server_name(&url.host)?);
        let stream = connector.connect(name, stream).await.with_context(|| {
            format!("{url} did not show a certificate for this name by the authority that is trusted here")
        })?;
        let secure = exchange(stream, url, (target, token), body).await;
        secure.with_context(unread)
    };
    tokio::time::timeout(ANSWER, exchanged)
        .await
        .map_err(|_| anyhow!("{url} did not answer within {} s", ANSWER.as_secs()))?
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    url: &HubUrl,
    (target, token): (&str, Option<&str>),
    body: Option<&Body>,
) -> anyhow::Result<Answer> {
    let (host, port) = (&url.host, url.port);
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut request = Zeroizing::new(format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: application/json, text/plain, application/timestamp-reply\r\n\
         User-Agent: weighbridge/{}\r\nConnection: close\r\n",
        env!("CARGO_PKG_VERSION")
    ));
    if let Some(token) = token {
        request.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    if let Some(Body { kind, bytes }) = body {
        let length = bytes.len();
        request.push_str(&format!(
            "Content-Type: {kind}\r\nContent-Length: {length}\r\n"
        ));
    }
    request.push_str("\r\n");
    let mut request = Zeroizing::new(request.as_bytes().to_vec());
    request.extend_from_slice(body.map_or(&[], |body| &body.bytes));
    stream.write_all(&request).await?;
    read_answer(&mut BufReader::new(stream)).await
}

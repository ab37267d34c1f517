//! One HTTP/1.1 GET or POST to a hub, a witness or a time stamp authority, in plain or by TLS: enough for their APIs, and nothing
//! else. No redirects, no compression; every step and every size is bounded. Whoever logged in at the hub
//! (`weighbridge login`) is who asks.

use super::session;
use crate::crypto::tls;
use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value as Json;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the whole answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest answer that is read, in bytes.
const MAX_BODY: usize = 64 << 20;
/// Longest line of a head, in bytes.
const MAX_LINE: usize = 16 << 10;
/// Most lines of a head.
const MAX_HEADERS: usize = 100;

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

/// An address of a hub: `http://HOST[:PORT]` or `https://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubUrl {
    tls: bool,
    host: String,
    port: u16,
}

impl std::str::FromStr for HubUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.strip_prefix("http://").map(|rest| (false, rest));
        let either = plain.or_else(|| Some((true, text.strip_prefix("https://")?)));
        let (tls, rest) = either.ok_or_else(|| {
            format!(
                "expected http://HOST:PORT or https://HOST:PORT, for example http://127.0.0.1:8080, not `{text}`"
            )
        })?;
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
            return Err("expected only the address, without a path: https://HOST:PORT".to_owned());
        }
        let bracket_end = authority.rfind(']').map_or(0, |i| i + 1);
        let colon = authority
            .get(bracket_end..)
            .and_then(|tail| tail.rfind(':'))
            .map(|i| bracket_end + i);
        let (host, port) = match colon {
            None => (authority, if tls { 443 } else { 80 }),
            Some(colon) => {
                let (host, port) = authority.split_at(colon);
                let port = port.trim_start_matches(':');
                let port = port
                    .parse()
                    .map_err(|_| format!("`{port}` is not a port: 1 to 65535"))?;
                (host, port)
            }
        };
        // A name is the same in whichever letters it is written, and so is the session there.
        let host = host.to_ascii_lowercase();
        Ok(Self { tls, host, port })
    }
}

impl HubUrl {
    /// Whether TLS is spoken.
    pub(super) fn is_tls(&self) -> bool {
        self.tls
    }

    /// Its host, an IPv6 address in brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

impl std::fmt::Display for HubUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
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

/// An absolute path of these segments, whatever is in them.
pub(super) fn path(segments: &[&str]) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        escape(segment, &mut path);
    }
    path
}

fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                into.push(char::from(byte));
            }
            _ => into.push_str(&format!("%{byte:02X}")),
        }
    }
}

fn target(path: &str, query: &[(&str, String)]) -> String {
    let mut target = path.to_owned();
    for (i, (name, value)) in query.iter().enumerate() {
        target.push(if i == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        escape(value, &mut target);
    }
    target
}

struct Answer {
    status: u16,
    body: Vec<u8>,
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

async fn read_answer<R: AsyncBufRead + Unpin>(reader: &mut R) -> anyhow::Result<Answer> {
    let line = read_line(reader).await?;
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| anyhow!("it does not speak HTTP"))?;
    let (mut length, mut chunked) = (None, false);
    for count in 0.. {
        ensure!(
            count <= MAX_HEADERS,
            "it sent more than {MAX_HEADERS} headers"
        );
        let line = read_line(reader).await?;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            bail!("it sent a header without a colon");
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(
                value
                    .parse::<usize>()
                    .context("its content length is no number")?,
            );
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.eq_ignore_ascii_case("chunked");
            ensure!(chunked, "it answered in the transfer encoding `{value}`");
        }
    }
    let mut body = Vec::new();
    if chunked {
        read_chunks(reader, &mut body).await?;
    } else if let Some(length) = length {
        read_exactly(reader, length, &mut body).await?;
    } else {
        let bound = MAX_BODY as u64 + 1;
        reader.take(bound).read_to_end(&mut body).await?;
        ensure!(body.len() <= MAX_BODY, "it is longer than {MAX_BODY} bytes");
    }
    Ok(Answer { status, body })
}

async fn read_chunks<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    body: &mut Vec<u8>,
) -> anyhow::Result<()> {
    loop {
        let line = read_line(reader).await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).context("a chunk's size is no number")?;
        if size == 0 {
            return Ok(());
        }
        read_exactly(reader, size, body).await?;
        let end = read_line(reader).await?;
        ensure!(end.is_empty(), "a chunk is longer than it says");
    }
}

async fn read_exactly<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    length: usize,
    body: &mut Vec<u8>,
) -> anyhow::Result<()> {
    let fits = body
        .len()
        .checked_add(length)
        .is_some_and(|n| n <= MAX_BODY);
    ensure!(fits, "it is longer than {MAX_BODY} bytes");
    let read = reader.take(length as u64).read_to_end(body).await?;
    ensure!(read == length, "it ended early: {read} of {length} bytes");
    Ok(())
}

async fn read_line<R: AsyncBufRead + Unpin>(reader: &mut R) -> anyhow::Result<String> {
    let mut line = Vec::new();
    let bound = MAX_LINE as u64 + 1;
    reader.take(bound).read_until(b'\n', &mut line).await?;
    ensure!(
        line.len() <= MAX_LINE,
        "a line is longer than {MAX_LINE} bytes"
    );
    ensure!(line.pop() == Some(b'\n'), "it ended early");
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).context("its head is not text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: &[u8]) -> anyhow::Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(read_answer(&mut BufReader::new(bytes)))
    }

    #[test]
    fn urls_are_read_or_explained() {
        let url: HubUrl = "http://127.0.0.1:8080/".parse().unwrap();
        assert_eq!(url.to_string(), "http://127.0.0.1:8080");
        let url: HubUrl = "http://[::1]:81".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), ("[::1]", 81));
        let url: HubUrl = "http://[::1]".parse().unwrap();
        assert_eq!((url.port, url.is_tls()), (80, false));
        let url: HubUrl = "https://Plant.Example/".parse().unwrap();
        assert_eq!(
            (url.to_string().as_str(), url.is_tls()),
            ("https://plant.example:443", true)
        );
        for bad in [
            "127.0.0.1:8080",
            "ftp://127.0.0.1",
            "https://",
            "http://",
            "http://h:99999",
            "http://h/api",
            "http://u@h",
        ] {
            assert!(bad.parse::<HubUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn queries_are_escaped() {
        let query = [("device", "a b&c=ä".to_owned()), ("limit", "5".to_owned())];
        assert_eq!(target("/x", &query), "/x?device=a%20b%26c%3D%C3%A4&limit=5");
    }

    #[test]
    fn answers_with_length_with_chunks_and_up_to_the_end() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}rest";
        assert_eq!(answer(plain).unwrap().body, b"{}");
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\n\r\n";
        assert_eq!(answer(chunked).unwrap().body, b"{}");
        let open = b"HTTP/1.0 404 Not Found\r\n\r\nabc";
        let open = answer(open).unwrap();
        assert_eq!((open.status, open.body.as_slice()), (404, &b"abc"[..]));
    }

    #[test]
    fn broken_answers_are_errors() {
        for bad in [
            &b""[..],
            b"SSH-2.0-x\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        ] {
            assert!(answer(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let mut long = b"HTTP/1.1 200 OK\r\n".to_vec();
        long.extend(std::iter::repeat_n(b'a', MAX_LINE + 10));
        assert!(answer(&long).is_err());
        let mut many = b"HTTP/1.1 200 OK\r\n".to_vec();
        many.extend(b"a: b\r\n".repeat(MAX_HEADERS + 2));
        assert!(answer(&many).is_err());
    }
}

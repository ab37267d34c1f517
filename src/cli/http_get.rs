//! One HTTP/1.1 GET or POST to a hub or a witness on this machine, or to a time stamp authority: enough for them, and nothing else. No TLS,
//! no redirects, no compression; every step and every size is bounded.

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value as Json;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

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

/// An address of a hub: `http://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubUrl {
    host: String,
    port: u16,
}

impl std::str::FromStr for HubUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").ok_or_else(|| {
            if text.starts_with("https://") {
                "a hub speaks plain HTTP on its own machine: write http://".to_owned()
            } else {
                format!(
                    "expected http://HOST:PORT, for example http://127.0.0.1:8080, not `{text}`"
                )
            }
        })?;
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
            return Err("expected only http://HOST:PORT, without a path".to_owned());
        }
        let bracket_end = authority.rfind(']').map_or(0, |i| i + 1);
        let colon = authority
            .get(bracket_end..)
            .and_then(|tail| tail.rfind(':'))
            .map(|i| bracket_end + i);
        let (host, port) = match colon {
            None => (authority, 80),
            Some(colon) => {
                let (host, port) = authority.split_at(colon);
                let port = port.trim_start_matches(':');
                let port = port
                    .parse()
                    .map_err(|_| format!("`{port}` is not a port: 1 to 65535"))?;
                (host, port)
            }
        };
        let host = host.to_owned();
        Ok(Self { host, port })
    }
}

impl HubUrl {
    /// Its host, an IPv6 address in brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

impl std::fmt::Display for HubUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
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

fn ask(url: &HubUrl, target: &str, body: Option<&Body>) -> anyhow::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime cannot be started")?;
    runtime.block_on(request(url, target, body))
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

async fn request(url: &HubUrl, target: &str, body: Option<&Body>) -> anyhow::Result<Answer> {
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
    tokio::time::timeout(ANSWER, exchange(stream, url, target, body))
        .await
        .map_err(|_| anyhow!("{url} did not answer within {} s", ANSWER.as_secs()))?
        .with_context(|| format!("the answer of {url} cannot be read"))
}

async fn exchange(
    mut stream: TcpStream,
    url: &HubUrl,
    target: &str,
    body: Option<&Body>,
) -> anyhow::Result<Answer> {
    let (host, port) = (&url.host, url.port);
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: application/json, text/plain, application/timestamp-reply\r\n\
         User-Agent: weighbridge/{}\r\nConnection: close\r\n",
        env!("CARGO_PKG_VERSION")
    );
    if let Some(Body { kind, bytes }) = body {
        let length = bytes.len();
        request.push_str(&format!(
            "Content-Type: {kind}\r\nContent-Length: {length}\r\n"
        ));
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
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
        assert_eq!(url.port, 80);
        for bad in [
            "127.0.0.1:8080",
            "https://127.0.0.1",
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

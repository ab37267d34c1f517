//! Reading an answer of HTTP/1.1 (RFC 9112): with a length, in chunks, or up to the end.

use anyhow::{Context, anyhow, bail, ensure};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Longest answer that is read, in bytes.
const MAX_BODY: usize = 64 << 20;
/// Longest line of a head, in bytes.
const MAX_LINE: usize = 16 << 10;
/// Most lines of a head.
const MAX_HEADERS: usize = 100;

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Reads it, with every step and size bounded.
pub(super) async fn read_answer<R: AsyncBufRead + Unpin>(reader: &mut R) -> anyhow::Result<Answer> {
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
    use tokio::io::BufReader;

    fn answer(bytes: &[u8]) -> anyhow::Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(read_answer(&mut BufReader::new(bytes)))
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

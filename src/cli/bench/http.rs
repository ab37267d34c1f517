//! One HTTP/1.1 connection that stays open: enough for a client that asks one thing after the other.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer.
const MAX_BODY: usize = 16 << 20;
/// Longest head.
const MAX_HEAD: usize = 64 << 10;

/// A connection, in plain or by TLS.
pub(super) struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    host: SocketAddr,
}

/// What bytes go over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(host: SocketAddr) -> io::Result<Self> {
        let stream = within(TcpStream::connect(host)).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = Box::new(stream);
        let stream = BufReader::new(stream);
        Ok(Self { stream, host })
    }

    /// The same by TLS: `host` must show a certificate for its address.
    pub(super) async fn open_tls(host: SocketAddr, tls: &TlsConnector) -> io::Result<Self> {
        let stream = within(TcpStream::connect(host)).await?;
        stream.set_nodelay(true)?;
        let shaken = within(tls.connect(host.ip().into(), stream)).await?;
        let stream: Box<dyn Stream> = Box::new(shaken);
        let stream = BufReader::new(stream);
        Ok(Self { stream, host })
    }

    /// Asks, and waits for the whole answer. `headers` are whole lines; a body is JSON. After an error the
    /// connection is of no more use.
    pub(super) async fn ask(
        &mut self,
        (method, path): (&str, &str),
        headers: &str,
        body: &str,
    ) -> io::Result<Reply> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        within(async {
            self.stream.write_all(request.as_bytes()).await?;
            self.stream.flush().await?;
            self.answer().await
        })
        .await
    }

    async fn answer(&mut self) -> io::Result<Reply> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut head = (&mut self.stream).take(MAX_HEAD as u64);
        let mut line = String::new();
        head.read_line(&mut line).await?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| wrong("no status line"))?;
        let mut length = None;
        loop {
            line.clear();
            if head.read_line(&mut line).await? == 0 {
                return Err(wrong("the head has no end"));
            }
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse::<usize>().ok();
            }
        }
        let length = length.filter(|length| *length <= MAX_BODY);
        let mut body = vec![0; length.ok_or_else(|| wrong("no length that can be"))?];
        self.stream.read_exact(&mut body).await?;
        Ok(Reply { status, body })
    }
}

async fn within<T>(doing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = timeout(PATIENCE, doing).await;
    done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

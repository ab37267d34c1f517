//! One connection: a request, its answer, and nothing else in flight.

use super::serial::OpenPort;
use super::transport::{Endpoint, TlsSide, Transport};
use super::wire::Wire;
use crate::crypto::{possession, tls};
use crate::model::Peer;
use crate::protocols::neighbour::who_answers;
use crate::protocols::source::SourceError;
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_modbus::client::{Client, Context, rtu, tcp};
use tokio_modbus::slave::SlaveContext;
use tokio_modbus::{Error, ExceptionCode, ProtocolError, Request, Response, Slave};
use tokio_rustls::TlsConnector;
use weighbridge_verifier::Hash;

/// How one device is asked over a connection that it may share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Station {
    /// Its unit id.
    pub unit_id: u8,
    /// How long to wait for a connection, and for each answer.
    pub timeout: Duration,
    /// The silence that it needs before each request.
    pub delay: Duration,
}

/// A connection. After an error an answer may still be under way, and would be taken for the next
/// one's: see [`Link::after`].
pub(super) struct Link {
    context: Context,
    address: String,
    /// Who answers; `None` on a serial line.
    peer: Option<Peer>,
    /// Of a serial line: the port, and the silence between two frames.
    serial: Option<(OpenPort, Duration)>,
    /// Whether the serial line may still carry something old.
    unsettled: bool,
}

impl Link {
    /// Connects.
    pub(super) async fn open(transport: &Transport, limit: Duration) -> Result<Self, SourceError> {
        let address = transport.to_string();
        let opening = async {
            match transport {
                Transport::Tcp(endpoint) => {
                    let stream = connect(endpoint).await?;
                    let peer = answering(endpoint, &stream, None)?;
                    Ok(Self::tcp(stream, address.clone()).answered_by(peer))
                }
                Transport::RtuOverTcp(endpoint) => {
                    let stream = connect(endpoint).await?;
                    let peer = answering(endpoint, &stream, None)?;
                    Ok(Self::rtu(stream, address.clone(), None).answered_by(peer))
                }
                Transport::Tls(endpoint, side) => {
                    let stream = handshake(endpoint, side).await?;
                    let (tcp, tls) = stream.get_ref();
                    let shown = tls.peer_certificates().and_then(|chain| chain.first());
                    let key = shown.and_then(|der| possession::certified_key_hash(der));
                    let peer = answering(endpoint, tcp, key)?;
                    Ok(Self::tcp(stream, address.clone()).answered_by(peer))
                }
                Transport::Serial(line) => {
                    let port = OpenPort::open(line)?;
                    let serial = Some((port.clone(), line.silence()));
                    Ok(Self::rtu(port, address.clone(), serial))
                }
            }
        };
        match timeout(limit, opening).await {
            Ok(opened) => opened.map_err(|reason| SourceError::Unreachable { address, reason }),
            Err(_) => Err(timed_out(&address, limit)),
        }
    }

    /// Speaks Modbus TCP over a stream that is there already.
    pub(super) fn tcp<T>(stream: T, address: String) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug + 'static,
    {
        Self {
            context: tcp::attach(Wire::new(stream)),
            address,
            peer: None,
            serial: None,
            unsettled: false,
        }
    }

    fn rtu<T>(stream: T, address: String, serial: Option<(OpenPort, Duration)>) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug + 'static,
    {
        Self {
            context: rtu::attach(stream),
            address,
            peer: None,
            unsettled: serial.is_some(),
            serial,
        }
    }

    fn answered_by(mut self, peer: Peer) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Who answers.
    pub(super) fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// The least silence before a request.
    pub(super) fn silence(&self) -> Duration {
        self.serial
            .as_ref()
            .map_or(Duration::ZERO, |serial| serial.1)
    }

    /// Makes `request` to a device. An exception is an answer. `check` takes the response, or says
    /// what is wrong with it.
    pub(super) async fn call<T>(
        &mut self,
        station: &Station,
        request: Request<'_>,
        check: impl FnOnce(Response) -> Result<T, String>,
    ) -> Result<Result<T, ExceptionCode>, SourceError> {
        if let Some((port, _)) = &mut self.serial
            && std::mem::take(&mut self.unsettled)
        {
            port.until_quiet(station.timeout).await;
            self.context = rtu::attach(port.clone());
        }
        self.context.set_slave(Slave(station.unit_id));
        // Not `read_coils` and the like: these trust the count that the device sent.
        match timeout(station.timeout, self.context.call(request)).await {
            Ok(Ok(Ok(response))) => check(response).map(Ok).map_err(|r| self.broken(r)),
            Ok(Ok(Err(exception))) => Ok(Err(exception)),
            Ok(Err(error)) => Err(self.error(error)),
            Err(_) => Err(timed_out(&self.address, station.timeout)),
        }
    }

    /// What is left of the connection after `error`: nothing, for a late answer must find nobody; but
    /// a serial line is only waited for until it is quiet.
    pub(super) fn after(mut self, error: &SourceError) -> Option<Self> {
        let open = !matches!(error, SourceError::Unreachable { .. });
        self.unsettled = true;
        (open && self.serial.is_some()).then_some(self)
    }

    /// What an exception of a gateway means: not a matter of some registers, nobody is there.
    pub(super) fn behind_gateway(
        &self,
        station: &Station,
        exception: ExceptionCode,
    ) -> Option<SourceError> {
        let gateway = matches!(
            exception,
            ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice
        );
        gateway.then(|| SourceError::Unreachable {
            address: self.address.clone(),
            reason: format!(
                "the gateway gets no answer from unit {} (exception {})",
                station.unit_id,
                u8::from(exception)
            ),
        })
    }

    fn error(&self, error: Error) -> SourceError {
        match error {
            Error::Protocol(error) => self.broken(mismatch(&error)),
            Error::Transport(error) => match error.kind() {
                io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::UnexpectedEof => self.broken(error.to_string()),
                _ => SourceError::Unreachable {
                    address: self.address.clone(),
                    reason: in_plain_words(&error),
                },
            },
        }
    }

    fn broken(&self, reason: String) -> SourceError {
        SourceError::Protocol {
            address: self.address.clone(),
            reason,
        }
    }

    /// Says goodbye.
    pub(super) async fn close(mut self, limit: Duration) {
        let closing = timeout(limit, self.context.disconnect()).await;
        if let Ok(Err(error)) = closing {
            tracing::debug!(address = self.address, %error, "connection did not close in order");
        }
    }
}

/// Who is at the other end of a stream.
fn answering(endpoint: &Endpoint, stream: &TcpStream, key: Option<Hash>) -> Result<Peer, String> {
    let address = stream.peer_addr().map_err(|e| in_plain_words(&e))?;
    Ok(who_answers(endpoint.to_string(), address, key))
}

async fn connect(endpoint: &Endpoint) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(endpoint.as_str())
        .await
        .map_err(|error| in_plain_words(&error))?;
    // A request is one small segment; waiting to fill it would cost a round trip each.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(address = %endpoint, %error, "cannot set TCP_NODELAY");
    }
    Ok(stream)
}

/// The files are read anew for every connection: whoever renews a certificate restarts nothing.
async fn handshake(
    endpoint: &Endpoint,
    side: &TlsSide,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let settings = side.files.client().map_err(|e| e.to_string())?;
    let name = side.server_name.as_deref().unwrap_or(endpoint.host());
    let server = tls::server_name(name).map_err(|e| e.to_string())?;
    let stream = connect(endpoint).await?;
    let connected = TlsConnector::from(settings).connect(server, stream).await;
    connected.map_err(|error| {
        format!(
            "the TLS handshake failed: {error}; the device's certificate must be for {name} and of an \
             authority in {}, and the device must know the authority of ours",
            side.files.ca.display()
        )
    })
}

fn timed_out(address: &str, limit: Duration) -> SourceError {
    SourceError::Timeout {
        address: address.to_owned(),
        milliseconds: limit.as_millis() as u64,
    }
}

/// Without the values of the wrong answer, which may be many.
fn mismatch(error: &ProtocolError) -> String {
    match error {
        ProtocolError::HeaderMismatch { .. } => {
            "the answer belongs to another request or unit".to_owned()
        }
        ProtocolError::FunctionCodeMismatch { request, result } => {
            let answered = match result {
                Ok(response) => response.function_code(),
                Err(exception) => exception.function,
            };
            format!("it answered function {answered} when asked for function {request}")
        }
    }
}

fn in_plain_words(error: &io::Error) -> String {
    let what = match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there, or a firewall refuses",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "the connection broke",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "there is no way to that network; is the cable in?"
        }
        io::ErrorKind::ConnectionAborted => return error.to_string(),
        _ => "the connection failed",
    };
    format!("{what} ({error})")
}

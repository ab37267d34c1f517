//! One connection to a device: a request, its answer, and nothing else in flight.

use super::config::ModbusConfig;
use super::decode::Reply;
use super::plan::ReadRequest;
use super::point::Table;
use super::polls::Refusal;
use super::wire::Wire;
use crate::protocols::source::SourceError;
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_modbus::client::{Client, Context, tcp};
use tokio_modbus::{Error, ExceptionCode, ProtocolError, Request, Response, Slave};

/// A connection. After an error it is to be dropped: an answer may still be under way, and would be
/// taken for the next one's.
pub(super) struct Link {
    context: Context,
    address: String,
    unit_id: u8,
    timeout: Duration,
}

impl Link {
    /// Connects to the device.
    pub(super) async fn connect(config: &ModbusConfig) -> Result<Self, SourceError> {
        let address = config.address.as_str();
        let limit = Duration::from_millis(config.timeout_ms.get().into());
        let stream = match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(SourceError::Unreachable {
                    address: address.into(),
                    reason: in_plain_words(&error),
                });
            }
            Err(_) => {
                return Err(SourceError::Timeout {
                    address: address.into(),
                    milliseconds: config.timeout_ms.get().into(),
                });
            }
        };
        // A request is one small segment; waiting to fill it would cost a round trip each.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(address, %error, "cannot set TCP_NODELAY");
        }
        Ok(Self::attach(stream, config))
    }

    /// Speaks Modbus over a stream that is there already.
    pub(super) fn attach<T>(stream: T, config: &ModbusConfig) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug + 'static,
    {
        Self {
            context: tcp::attach_slave(Wire::new(stream), Slave(config.unit_id)),
            address: config.address.to_string(),
            unit_id: config.unit_id,
            timeout: Duration::from_millis(config.timeout_ms.get().into()),
        }
    }

    /// Reads what `request` asks for. A refusal is an answer; an error ends the connection.
    pub(super) async fn read(
        &mut self,
        request: &ReadRequest,
    ) -> Result<Result<Reply, Refusal>, SourceError> {
        let (address, count) = (request.address, request.count);
        let call = match request.table {
            Table::Coil => Request::ReadCoils(address, count),
            Table::DiscreteInput => Request::ReadDiscreteInputs(address, count),
            Table::HoldingRegister => Request::ReadHoldingRegisters(address, count),
            Table::InputRegister => Request::ReadInputRegisters(address, count),
        };
        // Not `read_coils` and the like: these trust the count that the device sent.
        match timeout(self.timeout, self.context.call(call)).await {
            Ok(Ok(Ok(response))) => self.reply(request, response).map(Ok),
            Ok(Ok(Err(exception))) => self.refusal(exception).map(Err),
            Ok(Err(error)) => Err(self.error(error)),
            Err(_) => Err(SourceError::Timeout {
                address: self.address.clone(),
                milliseconds: self.timeout.as_millis() as u64,
            }),
        }
    }

    fn reply(&self, request: &ReadRequest, response: Response) -> Result<Reply, SourceError> {
        let count = usize::from(request.count);
        let (reply, got) = match response {
            Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) => {
                let got = words.len();
                (Reply::Words(words), got)
            }
            Response::ReadCoils(mut bits) | Response::ReadDiscreteInputs(mut bits) => {
                // Bits come in whole bytes; the last byte is filled up with zeroes.
                let padded = bits.len() == count.next_multiple_of(8);
                let got = if padded { count } else { bits.len() };
                bits.truncate(got);
                (Reply::Bits(bits), got)
            }
            other => {
                return Err(self.broken(format!("function {} in answer", other.function_code())));
            }
        };
        if got == count {
            return Ok(reply);
        }
        Err(self.broken(format!(
            "{got} values came for {count} {}s from address {}",
            request.table, request.address
        )))
    }

    fn refusal(&self, exception: ExceptionCode) -> Result<Refusal, SourceError> {
        match exception {
            ExceptionCode::IllegalFunction => Ok(Refusal::Function),
            ExceptionCode::Acknowledge | ExceptionCode::ServerDeviceBusy => Ok(Refusal::Busy),
            ExceptionCode::ServerDeviceFailure | ExceptionCode::MemoryParityError => {
                Ok(Refusal::Failure)
            }
            // Not a matter of some registers: nobody is there.
            ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice => {
                Err(SourceError::Unreachable {
                    address: self.address.clone(),
                    reason: format!(
                        "the gateway gets no answer from unit {} (exception {})",
                        self.unit_id,
                        u8::from(exception)
                    ),
                })
            }
            _ => Ok(Refusal::Cells),
        }
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
    pub(super) async fn close(mut self) {
        let closing = timeout(self.timeout, self.context.disconnect()).await;
        if let Ok(Err(error)) = closing {
            tracing::debug!(address = self.address, %error, "connection did not close in order");
        }
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

//! A connection that requests take turns on: those of a scan, those of a write, and those of other
//! devices behind the same address or serial port. The turns are fair and last one request each, so a
//! write waits for one request of a scan, never for the whole of it.

use super::config::ModbusConfig;
use super::decode::Reply;
use super::link::{Link, Station};
use super::plan::ReadRequest;
use super::point::Table;
use super::polls::Refusal;
use super::transport::Transport;
use super::writes::WriteRequest;
use crate::model::Peer;
use crate::protocols::source::SourceError;
use parking_lot::Mutex as Latch;
use std::borrow::Cow;
use std::sync::{Arc, Weak};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_modbus::prelude::{ReadCode, ReadDeviceIdentificationResponse};
use tokio_modbus::{ExceptionCode, Request, Response};

/// The connections of this process that several devices may share. A serial port is there once, so
/// this list is, too.
static SHARED: Latch<Vec<Weak<Bus>>> = Latch::new(Vec::new());

/// Whom a device met when it connected last.
pub(super) type Met = Arc<Latch<Option<Peer>>>;

/// A connection, or the want of one.
pub(super) struct Bus {
    transport: Transport,
    shared: bool,
    line: Mutex<Line>,
    /// Who answered when somebody looked: another one is not asked before somebody looked again.
    peer: Latch<Option<Peer>>,
}

#[derive(Default)]
struct Line {
    /// Taken out while a request is under way: whoever stops waiting for the answer drops it, and
    /// nobody else takes that answer for theirs.
    link: Option<Link>,
    /// When the last exchange ended.
    last: Option<Instant>,
}

impl Bus {
    /// The connection that the device of `config` uses; nothing is connected yet.
    pub(super) fn of(config: &ModbusConfig) -> Arc<Self> {
        let new = || {
            Arc::new(Self {
                transport: config.transport.clone(),
                shared: config.is_shared(),
                line: Mutex::default(),
                peer: Latch::default(),
            })
        };
        if !config.is_shared() {
            return new();
        }
        let mut shared = SHARED.lock();
        shared.retain(|bus| bus.strong_count() > 0);
        let mut open = shared.iter().filter_map(Weak::upgrade);
        if let Some(bus) = open.find(|bus| bus.transport == config.transport) {
            return bus;
        }
        let bus = new();
        shared.push(Arc::downgrade(&bus));
        bus
    }

    /// A connection that is there already.
    #[cfg(test)]
    pub(super) fn with(link: Link, config: &ModbusConfig) -> Self {
        Self {
            transport: config.transport.clone(),
            shared: false,
            line: Mutex::new(Line {
                link: Some(link),
                last: None,
            }),
            peer: Latch::default(),
        }
    }

    /// Connects anew; a shared connection that is there stays.
    pub(super) async fn connect(&self, station: &Station) -> Result<(), SourceError> {
        let mut line = self.line.lock().await;
        if self.shared && line.link.is_some() {
            return Ok(());
        }
        line.link = None;
        let link = Link::open(&self.transport, station.timeout).await?;
        *self.peer.lock() = link.peer().cloned();
        line.link = Some(link);
        Ok(())
    }

    /// Who answers on the connection that [`connect`](Self::connect) made last.
    pub(super) fn peer(&self) -> Option<Peer> {
        self.peer.lock().clone()
    }

    /// Whether still answers whom a device met: another device of a shared connection may have connected
    /// to somebody else since.
    ///
    /// # Errors
    /// When another one answers: then the device has to connect, and be looked at.
    pub(super) fn still(&self, met: &Met) -> Result<(), SourceError> {
        same(self.peer.lock().as_ref(), met.lock().as_ref())
    }

    /// Ends the connection in good order, unless it is shared.
    pub(super) async fn close(&self, station: &Station) {
        if !self.shared {
            self.hang_up(station).await;
        }
    }

    /// Ends the connection in good order, whoever shares it.
    pub(super) async fn hang_up(&self, station: &Station) {
        let link = self.line.lock().await.link.take();
        if let Some(link) = link {
            link.close(station.timeout).await;
        }
    }

    /// Makes one request, when it is its turn. Connects first when there is no connection.
    async fn call<T>(
        &self,
        station: &Station,
        request: Request<'_>,
        check: impl FnOnce(Response) -> Result<T, String>,
    ) -> Result<Result<T, ExceptionCode>, SourceError> {
        let mut line = self.line.lock().await;
        let mut link = match line.link.take() {
            Some(link) => link,
            None => {
                let link = Link::open(&self.transport, station.timeout).await?;
                same(link.peer(), self.peer.lock().as_ref())?;
                link
            }
        };
        let pause = station.delay.max(link.silence());
        if let Some(last) = line.last
            && !pause.is_zero()
        {
            sleep_until(last + pause).await;
        }
        let answer = link.call(station, request, check).await;
        line.last = Some(Instant::now());
        match answer {
            Ok(answer) => {
                let exception = answer.as_ref().err();
                let gone = exception.and_then(|e| link.behind_gateway(station, *e));
                line.link = Some(link);
                gone.map_or(Ok(answer), Err)
            }
            Err(error) => {
                line.link = link.after(&error);
                Err(error)
            }
        }
    }

    /// Reads what `request` asks for. A refusal is an answer; an error ends the connection.
    pub(super) async fn read(
        &self,
        station: &Station,
        request: &ReadRequest,
    ) -> Result<Result<Reply, Refusal>, SourceError> {
        let (address, count) = (request.address, request.count);
        let call = match request.table {
            Table::Coil => Request::ReadCoils(address, count),
            Table::DiscreteInput => Request::ReadDiscreteInputs(address, count),
            Table::HoldingRegister => Request::ReadHoldingRegisters(address, count),
            Table::InputRegister => Request::ReadInputRegisters(address, count),
        };
        let answer = self
            .call(station, call, |response| reply(request, response))
            .await?;
        Ok(answer.map_err(refusal))
    }

    /// Writes what `request` says; the words that came back, where it asks for them.
    pub(super) async fn write(
        &self,
        station: &Station,
        request: &WriteRequest,
    ) -> Result<Result<Option<Vec<u16>>, ExceptionCode>, SourceError> {
        let call = match request {
            WriteRequest::Coil(at, on) => Request::WriteSingleCoil(*at, *on),
            WriteRequest::Coils(at, on) => Request::WriteMultipleCoils(*at, Cow::Borrowed(on)),
            WriteRequest::Register(at, word) => Request::WriteSingleRegister(*at, *word),
            WriteRequest::Registers(at, words) => {
                Request::WriteMultipleRegisters(*at, Cow::Borrowed(words))
            }
            WriteRequest::Mask { address, and, or } => {
                Request::MaskWriteRegister(*address, *and, *or)
            }
            WriteRequest::ReadWrite(at, words) => {
                let words = Cow::Borrowed(words.as_slice());
                Request::ReadWriteMultipleRegisters(*at, words.len() as u16, *at, words)
            }
        };
        self.call(station, call, |response| confirmed(request, response))
            .await
    }

    /// Asks for the objects of the device's identification from `object` on, or for that one alone
    /// (Modbus Application Protocol V1.1b3, 6.21).
    pub(super) async fn identify(
        &self,
        station: &Station,
        code: ReadCode,
        object: u8,
    ) -> Result<Result<ReadDeviceIdentificationResponse, ExceptionCode>, SourceError> {
        let request = Request::ReadDeviceIdentification(code, object);
        self.call(station, request, |response| match response {
            Response::ReadDeviceIdentification(objects) => Ok(objects),
            other => Err(unexpected(&other)),
        })
        .await
    }
}

/// A connection that nobody looked at leads to whom the one before led to.
fn same(now: Option<&Peer>, before: Option<&Peer>) -> Result<(), SourceError> {
    match (now, before) {
        (Some(now), Some(before)) if now.differs(before) => Err(SourceError::Unreachable {
            address: before.dialled.clone(),
            reason: format!("{now} answers, and {before} did before"),
        }),
        _ => Ok(()),
    }
}

fn unexpected(response: &Response) -> String {
    format!("function {} in answer", response.function_code())
}

fn reply(request: &ReadRequest, response: Response) -> Result<Reply, String> {
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
        other => return Err(unexpected(&other)),
    };
    if got == count {
        return Ok(reply);
    }
    Err(format!(
        "{got} values came for {count} {}s from address {}",
        request.table, request.address
    ))
}

fn refusal(exception: ExceptionCode) -> Refusal {
    match exception {
        ExceptionCode::IllegalFunction => Refusal::Function,
        ExceptionCode::Acknowledge | ExceptionCode::ServerDeviceBusy => Refusal::Busy,
        ExceptionCode::ServerDeviceFailure | ExceptionCode::MemoryParityError => Refusal::Failure,
        _ => Refusal::Cells,
    }
}

/// A device repeats what it wrote; anything else means that it understood something else.
fn confirmed(request: &WriteRequest, response: Response) -> Result<Option<Vec<u16>>, String> {
    let same = match (request, &response) {
        (WriteRequest::Coil(at, on), Response::WriteSingleCoil(a, v)) => (at, on) == (a, v),
        (WriteRequest::Coils(at, on), Response::WriteMultipleCoils(a, n)) => {
            at == a && on.len() == usize::from(*n)
        }
        (WriteRequest::Register(at, word), Response::WriteSingleRegister(a, v)) => {
            (at, word) == (a, v)
        }
        (WriteRequest::Registers(at, words), Response::WriteMultipleRegisters(a, n)) => {
            at == a && words.len() == usize::from(*n)
        }
        (
            WriteRequest::Mask { address, and, or },
            Response::MaskWriteRegister(a, and_mask, or_mask),
        ) => (address, and, or) == (a, and_mask, or_mask),
        (WriteRequest::ReadWrite(_, words), Response::ReadWriteMultipleRegisters(read)) => {
            words.len() == read.len()
        }
        _ => return Err(unexpected(&response)),
    };
    match (same, response) {
        (true, Response::ReadWriteMultipleRegisters(read)) => Ok(Some(read)),
        (true, _) => Ok(None),
        (false, _) => Err("it confirmed another write than the one it was asked for".to_owned()),
    }
}

//! A simulated machine behind a real Modbus TCP server.
//!
//! | table | from | what |
//! | --- | --- | --- |
//! | input registers | [`MEASUREMENTS`] | measurements: f32 in two registers, high word first |
//! | input registers | [`COUNTERS`] | counters: u32 in two registers, high word first |
//! | input registers | [`CODES`] | code words, one register each |
//! | holding registers | the same | the same |
//! | discrete inputs | [`SWITCHES`] | switches |
//! | coils | the same | the same |
//! | holding registers | [`NOTEPAD`] | a hundred that keep what is written |
//! | coils | [`NOTEPAD`] | the same |
//!
//! Each kind follows the order of the machine's signals without gaps. What lies between is an illegal
//! data address, and nothing else can be written. It says who it is (function 43/14). Any unit id is
//! answered, as devices without a gateway do.

use super::device::SimDevice;
use super::fault::FaultSwitch;
#[cfg(doc)]
use super::notepad::NOTEPAD;
use super::notepad::Notepad;
use super::signal::{Signal, SignalKind};
use crate::model::{TagSpec, Value};
use crate::protocols::modbus::{
    DataType, MAX_COILS, MAX_REGISTERS, ModbusPoint, PointError, Table,
};
use parking_lot::Mutex;
use std::future::{Future, Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_modbus::prelude::{
    ConformityLevel, DeviceIdObject, ReadCode, ReadDeviceIdentificationResponse,
};
use tokio_modbus::server::{Service, tcp::Server};
use tokio_modbus::{ExceptionCode, Request, Response};
use tokio_util::task::AbortOnDropHandle;

/// Address of the first measurement.
pub const MEASUREMENTS: u16 = 0;
/// Address of the first counter.
pub const COUNTERS: u16 = 200;
/// Address of the first code word.
pub const CODES: u16 = 300;
/// Address of the first switch.
pub const SWITCHES: u16 = 0;

/// Most connections at once.
const CONNECTIONS: usize = 32;
/// A machine measures anew when its newest sample is older than this.
const SAMPLE_AGE: Duration = Duration::from_millis(1);
/// How long to wait before listening again after listening failed.
const LISTEN_AGAIN: Duration = Duration::from_millis(200);

/// The tags of a machine with these signals, and where they are in its registers: measurements in
/// input registers, counters and codes in holding registers, switches in discrete inputs.
pub fn points(signals: &[Signal]) -> Result<Vec<(TagSpec, ModbusPoint)>, PointError> {
    let (mut measurements, mut counters) = (MEASUREMENTS, COUNTERS);
    let (mut codes, mut switches) = (CODES, SWITCHES);
    let point = |signal: &Signal| {
        let (table, next, data) = match signal.kind {
            SignalKind::F32 { .. } => (Table::InputRegister, &mut measurements, DataType::F32),
            SignalKind::U32 => (Table::HoldingRegister, &mut counters, DataType::U32),
            SignalKind::U16 => (Table::HoldingRegister, &mut codes, DataType::U16),
            SignalKind::Bool => (Table::DiscreteInput, &mut switches, DataType::Bool),
        };
        let point = ModbusPoint::new(table, *next, data)?;
        *next += data.width();
        Ok((signal.tag(), point))
    };
    signals.iter().map(point).collect()
}

/// A machine's tables at one moment.
#[derive(Debug, Default)]
struct Tables {
    measurements: Vec<u16>,
    counters: Vec<u16>,
    codes: Vec<u16>,
    switches: Vec<bool>,
}

impl Tables {
    fn of(signals: &[Signal], values: &[Value]) -> Self {
        let mut tables = Self::default();
        for (signal, value) in signals.iter().zip(values) {
            let number = match value {
                Value::F64(x) => (*x as f32).to_bits(),
                Value::U64(x) => *x as u32,
                Value::Bool(on) => u32::from(*on),
                Value::I64(_) | Value::Text(_) | Value::Bytes(_) => 0,
            };
            let words = [(number >> 16) as u16, number as u16];
            match signal.kind {
                SignalKind::F32 { .. } => tables.measurements.extend(words),
                SignalKind::U32 => tables.counters.extend(words),
                SignalKind::U16 => tables.codes.push(words[1]),
                SignalKind::Bool => tables.switches.push(number != 0),
            }
        }
        tables
    }

    fn registers(&self, address: u16, count: u16) -> Result<Vec<u16>, ExceptionCode> {
        if count == 0 || u32::from(count) > MAX_REGISTERS {
            return Err(ExceptionCode::IllegalDataValue);
        }
        let block = match address {
            CODES.. => (&self.codes, CODES),
            COUNTERS.. => (&self.counters, COUNTERS),
            _ => (&self.measurements, MEASUREMENTS),
        };
        cells(block.0, address - block.1, count)
    }

    fn bits(&self, address: u16, count: u16) -> Result<Vec<bool>, ExceptionCode> {
        if count == 0 || u32::from(count) > MAX_COILS {
            return Err(ExceptionCode::IllegalDataValue);
        }
        cells(&self.switches, address, count)
    }
}

pub(super) fn cells<T: Copy>(block: &[T], first: u16, count: u16) -> Result<Vec<T>, ExceptionCode> {
    let first = usize::from(first);
    let cells = block.get(first..first + usize::from(count));
    cells
        .map(<[T]>::to_vec)
        .ok_or(ExceptionCode::IllegalDataAddress)
}

/// A machine that measures when it is asked.
struct Machine {
    device: SimDevice,
    started: Instant,
    sampled: Option<Instant>,
    tables: Tables,
    notepad: Notepad,
}

impl Machine {
    fn tables(&mut self) -> &Tables {
        let fresh = self.sampled.is_some_and(|at| at.elapsed() < SAMPLE_AGE);
        if !fresh {
            let values = self.device.sample(self.started.elapsed().as_secs_f64());
            self.tables = Tables::of(self.device.signals(), &values);
            self.sampled = Some(Instant::now());
        }
        &self.tables
    }

    fn answer(&mut self, request: Request<'_>) -> Result<Response, ExceptionCode> {
        if let Request::ReadDeviceIdentification(code, first) = request {
            return Ok(self.identification(code, first));
        }
        if let Some(answer) = self.notepad.answer(&request) {
            return answer;
        }
        let tables = self.tables();
        match request {
            Request::ReadCoils(at, n) => tables.bits(at, n).map(Response::ReadCoils),
            Request::ReadDiscreteInputs(at, n) => {
                tables.bits(at, n).map(Response::ReadDiscreteInputs)
            }
            Request::ReadHoldingRegisters(at, n) => {
                tables.registers(at, n).map(Response::ReadHoldingRegisters)
            }
            Request::ReadInputRegisters(at, n) => {
                tables.registers(at, n).map(Response::ReadInputRegisters)
            }
            _ => Err(ExceptionCode::IllegalFunction),
        }
    }

    /// The three objects that every device with this function has to have.
    fn identification(&self, code: ReadCode, first: u8) -> Response {
        let texts = ["Weighbridge", self.device.id(), env!("CARGO_PKG_VERSION")];
        let object = |(id, text): (u8, &str)| DeviceIdObject {
            id,
            value: text.as_bytes().to_vec().into(),
        };
        let objects = (0..).zip(texts).filter(|(id, _)| *id >= first).map(object);
        Response::ReadDeviceIdentification(ReadDeviceIdentificationResponse {
            read_code: code,
            conformity_level: ConformityLevel::BasicIdentificationStreamOnly,
            more_follows: false,
            next_object_id: 0,
            device_id_objects: objects.collect(),
        })
    }
}

#[derive(Clone)]
struct MachineService(Arc<Mutex<Machine>>);

impl Service for MachineService {
    type Request = Request<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        ready(self.0.lock().answer(request))
    }
}

/// A connection whose outgoing frames the fault switch can spoil. It keeps its place among the
/// server's connections until it ends.
struct Spoiled {
    stream: TcpStream,
    faults: FaultSwitch,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Spoiled {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Spoiled {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.faults.corrupts() {
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        }
        // As interference on the cable would, if TCP had no checksum: every byte is wrong.
        let spoiled: Vec<u8> = bytes.iter().map(|b| b ^ 0x5a).collect();
        Pin::new(&mut this.stream).poll_write(cx, &spoiled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A machine that serves until this is dropped.
pub struct ModbusServer {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl ModbusServer {
    /// Serves `device` at `bind` (port 0 takes a free one); its time counts from `started`.
    pub async fn start(device: SimDevice, bind: SocketAddr, started: Instant) -> io::Result<Self> {
        let listener = TcpListener::bind(bind).await?;
        let address = listener.local_addr()?;
        let faults = device.faults();
        let service = MachineService(Arc::new(Mutex::new(Machine {
            device,
            started,
            sampled: None,
            tables: Tables::default(),
            notepad: Notepad::default(),
        })));
        let task = tokio::spawn(run(listener, address, service, faults));
        Ok(Self {
            address,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves while the device is connected; while it is not, nothing listens on its port.
async fn run(
    listener: TcpListener,
    address: SocketAddr,
    service: MachineService,
    faults: FaultSwitch,
) {
    let mut listener = Some(listener);
    loop {
        wait_until(&faults, |faults| !faults.disconnects()).await;
        let listening = match listener.take() {
            Some(listener) => listener,
            None => match TcpListener::bind(address).await {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::warn!(%address, %error, "cannot listen again yet");
                    tokio::time::sleep(LISTEN_AGAIN).await;
                    continue;
                }
            },
        };
        tokio::select! {
            // Dropping it ends its connections.
            result = serve(listening, &service, &faults) => if let Err(error) = result {
                tracing::warn!(%address, %error, "cannot accept connections");
                tokio::time::sleep(LISTEN_AGAIN).await;
            },
            () = wait_until(&faults, FaultSwitch::disconnects) => {}
        }
    }
}

async fn wait_until(faults: &FaultSwitch, test: impl Fn(&FaultSwitch) -> bool) {
    let mut changes = faults.changes();
    // The switch outlives this, so `changed` cannot fail.
    while !test(faults) && changes.changed().await.is_ok() {}
}

fn serve(
    listener: TcpListener,
    service: &MachineService,
    faults: &FaultSwitch,
) -> impl Future<Output = io::Result<()>> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (service, faults) = (service.clone(), faults.clone());
    async move {
        let on_connected = |stream: TcpStream, _| {
            let place = places.clone().try_acquire_owned();
            let (service, faults) = (service.clone(), faults.clone());
            async move {
                let Ok(place) = place else {
                    return Ok(None);
                };
                stream.set_nodelay(true)?;
                let stream = Spoiled {
                    stream,
                    faults,
                    _place: place,
                };
                Ok(Some((service, stream)))
            }
        };
        let on_error = |error| tracing::debug!(%error, "a connection broke");
        Server::new(listener).serve(&on_connected, on_error).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BatchBuilder;
    use crate::protocols::modbus::{Endpoint, ModbusConfig, ModbusSource};
    use crate::protocols::source::{Source, SourceError};
    use crate::sim::fault::Fault;
    use tokio_modbus::client::{Reader, Writer, tcp};

    async fn plc() -> (ModbusServer, ModbusSource, BatchBuilder, FaultSwitch) {
        let device = SimDevice::plc("plc-1", 4);
        let faults = device.faults();
        let points = points(device.signals()).unwrap();
        let bind = "127.0.0.1:0".parse().unwrap();
        let server = ModbusServer::start(device, bind, Instant::now())
            .await
            .unwrap();
        let mut config = ModbusConfig::new(Endpoint::from(server.address()));
        config.period_ms = 0.try_into().unwrap();
        let mut source = ModbusSource::new("plc-1".into(), config, points).unwrap();
        source.connect().await.unwrap();
        let out = BatchBuilder::scanning("plc-1".into(), source.tags());
        (server, source, out, faults)
    }

    #[tokio::test]
    async fn a_machine_is_read_as_it_is() {
        for device in [SimDevice::plc("d", 1), SimDevice::robot("d", 2)] {
            let points = points(device.signals()).unwrap();
            let signals = device.signals();
            let bind = "127.0.0.1:0".parse().unwrap();
            let server = ModbusServer::start(device, bind, Instant::now())
                .await
                .unwrap();
            let config = ModbusConfig::new(Endpoint::from(server.address()));
            let mut source = ModbusSource::new("d".into(), config, points).unwrap();
            source.connect().await.unwrap();
            let mut out = BatchBuilder::scanning("d".into(), source.tags());
            source.read(&mut out).await.unwrap();
            let batch = out.take(1, 1).unwrap();
            for (signal, column) in signals.iter().zip(&batch.columns) {
                assert!(column.quality.exceptions.is_empty(), "{}", signal.name);
                if let Some((low, high)) = signal.range() {
                    let x = column.values.number(0).unwrap();
                    assert!(low <= x && x <= high, "{} is {x}", signal.name);
                }
            }
            let voltage = signals.iter().position(|s| s.name == "supply_voltage");
            if let Some(column) = voltage {
                let x = batch.columns[column].values.number(0).unwrap();
                assert!((x - 24.0).abs() < 1.0, "the supply is at {x} V");
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_an_illegal_data_address() {
        let (server, ..) = plc().await;
        let mut client = tcp::connect(server.address()).await.unwrap();
        let illegal = Err(ExceptionCode::IllegalDataAddress);
        assert_eq!(client.read_input_registers(100, 1).await.unwrap(), illegal);
        assert_eq!(client.read_holding_registers(11, 2).await.unwrap(), illegal);
        assert_eq!(
            client.read_holding_registers(65535, 1).await.unwrap(),
            illegal
        );
        assert!(client.read_holding_registers(10, 2).await.unwrap().is_ok());
        assert_eq!(
            client.read_coils(9, 1).await.unwrap(),
            Err(ExceptionCode::IllegalDataAddress)
        );
        assert_eq!(
            client.read_input_registers(0, 126).await.unwrap(),
            Err(ExceptionCode::IllegalDataValue)
        );
        assert_eq!(
            client.write_single_register(0, 1).await.unwrap(),
            illegal_write()
        );
        assert_eq!(
            client
                .write_multiple_registers(1099, &[1, 2])
                .await
                .unwrap(),
            illegal_write()
        );
    }

    fn illegal_write() -> Result<(), ExceptionCode> {
        Err(ExceptionCode::IllegalDataAddress)
    }

    #[tokio::test]
    async fn the_notepad_keeps_what_is_written() {
        let (server, ..) = plc().await;
        let mut client = tcp::connect(server.address()).await.unwrap();
        client
            .write_single_register(1000, 0x00ff)
            .await
            .unwrap()
            .unwrap();
        client
            .write_multiple_registers(1001, &[2, 3])
            .await
            .unwrap()
            .unwrap();
        client
            .masked_write_register(1000, !0x000f, 0x0003)
            .await
            .unwrap()
            .unwrap();
        let read = client.read_write_multiple_registers(1000, 4, 1003, &[4]);
        assert_eq!(read.await.unwrap().unwrap(), [0x00f3, 2, 3, 4]);
        client.write_single_coil(1005, true).await.unwrap().unwrap();
        client
            .write_multiple_coils(1006, &[false, true])
            .await
            .unwrap()
            .unwrap();
        let coils = client.read_coils(1005, 3).await.unwrap().unwrap();
        assert_eq!(coils, [true, false, true]);
    }

    #[tokio::test]
    async fn a_disconnected_machine_is_gone_at_once_and_comes_back() {
        let (_server, mut source, mut out, faults) = plc().await;
        source.read(&mut out).await.unwrap();
        faults.set(Fault::Disconnect, None);
        // A read may have been answered before the switch was seen, so until the first error.
        while source.read(&mut out).await.is_ok() {}
        while source.connect().await.is_ok() {
            let _ = source.read(&mut out).await;
        }
        faults.clear();
        while source.connect().await.is_err() {
            tokio::task::yield_now().await;
        }
        source.read(&mut out).await.unwrap();
    }

    #[tokio::test]
    async fn corrupt_frames_are_noticed_and_end_with_the_fault() {
        let (_server, mut source, mut out, faults) = plc().await;
        faults.set(Fault::CorruptFrame, None);
        let error = source.read(&mut out).await.unwrap_err();
        assert!(matches!(error, SourceError::Protocol { .. }), "{error}");
        assert_eq!(out.samples(), 0);
        faults.clear();
        source.connect().await.unwrap();
        source.read(&mut out).await.unwrap();
    }

    #[tokio::test]
    async fn a_sensor_fault_comes_over_the_wire() {
        let (_server, mut source, mut out, faults) = plc().await;
        faults.set(Fault::NotANumber, Some("pressure"));
        source.read(&mut out).await.unwrap();
        let batch = out.take(1, 1).unwrap();
        let pressure = batch
            .tags
            .iter()
            .position(|t| &*t.name == "pressure")
            .unwrap();
        assert!(batch.columns[pressure].values.number(0).unwrap().is_nan());
    }
}

//! A Modbus TCP server that can be told to misbehave.

use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use weighbridge::hub::DeviceSetup;
use weighbridge::model::{TagSpec, ValueKind};
use weighbridge::protocols::Source;
use weighbridge::protocols::modbus::{DataType, ModbusConfig, ModbusPoint, ModbusSource, Table};

/// Holding registers that it has.
pub const REGISTERS: u16 = 50;
/// Where the hub expects one more, which is not there.
pub const BEYOND: u16 = 100;

/// How a PLC answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Manner {
    /// As it should: register 0 counts requests, the others hold their addresses.
    Good,
    /// Bytes that are no Modbus.
    Garbage,
    /// A frame whose length says more than can be.
    Length,
    /// A frame for another transaction.
    Transaction,
    /// Fewer registers than it was asked for.
    Short,
    /// More registers than it was asked for.
    Long,
    /// The answer to another function.
    Function,
    /// Half a frame, and then the connection ends.
    Torn,
    /// This exception, whatever it is asked.
    Exception(u8),
    /// No answer.
    Silent,
    /// Bytes without end.
    Flood,
    /// It ends the connection.
    HangUp,
}

struct Shared {
    manner: Mutex<Manner>,
    requests: Mutex<u16>,
    /// A register among the good ones that is not there for now.
    bad: Mutex<Option<usize>>,
    ended: AtomicBool,
}

/// The server; it ends when dropped.
pub struct Plc {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Plc {
    /// A PLC that behaves, for now.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            manner: Mutex::new(Manner::Good),
            requests: Mutex::new(0),
            bad: Mutex::new(None),
            ended: AtomicBool::new(false),
        });
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = of_thread.clone();
                // A hub has one connection, but one that is half open stays for a while. A broken
                // one is a part of the test.
                std::thread::spawn(move || stream.and_then(|stream| serve(stream, &shared)));
            }
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// Changes how it answers.
    pub fn behaves(&self, manner: Manner) {
        *self.shared.manner.lock() = manner;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The register that is not there for now.
    pub fn bad_register(&self) -> Option<usize> {
        *self.shared.bad.lock()
    }

    /// Takes a register away, or gives it back.
    pub fn set_bad_register(&self, register: Option<usize>) {
        *self.shared.bad.lock() = register;
    }

    /// As a hub needs it: four registers, and when `beyond` one that is not there.
    pub fn setup(&self, id: &str, beyond: bool) -> DeviceSetup {
        self.setup_at(self.address, id, 4, beyond)
    }

    /// The same with so many registers, reached at another address.
    pub fn setup_at(
        &self,
        address: SocketAddr,
        id: &str,
        registers: u16,
        beyond: bool,
    ) -> DeviceSetup {
        let mut config = ModbusConfig::new(address.into());
        config.period_ms = 2.try_into().unwrap();
        config.timeout_ms = 200.try_into().unwrap();
        let addresses = (0..registers).chain(beyond.then_some(BEYOND));
        let points: Vec<_> = addresses.map(point).collect();
        let tags: Arc<[TagSpec]> = points.iter().map(|(tag, _)| tag.clone()).collect();
        let device = Arc::from(id);
        let make = move || {
            let source =
                ModbusSource::new(Arc::clone(&device), config.clone(), points.clone()).unwrap();
            Box::new(source) as Box<dyn Source>
        };
        let mut setup = DeviceSetup::new(id.into(), tags, make);
        setup.batch.samples = 20;
        setup.batch.age = Duration::from_millis(50);
        setup.validation.phase1_samples = 0;
        setup.validation.charts = Vec::new();
        setup
    }
}

impl Drop for Plc {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes it from waiting for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn point(address: u16) -> (TagSpec, ModbusPoint) {
    let tag = crate::machines::tag(&format!("r{address}"), ValueKind::U64);
    let point = ModbusPoint::new(Table::HoldingRegister, address, DataType::U16).unwrap();
    (tag, point)
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    loop {
        let mut request = [0; 12];
        stream.read_exact(&mut request)?;
        let manner = *shared.manner.lock();
        match manner {
            Manner::Silent => continue,
            Manner::HangUp => return Ok(()),
            Manner::Flood => loop {
                stream.write_all(&[0x5a; 4096])?;
                if *shared.manner.lock() != Manner::Flood {
                    return Ok(());
                }
            },
            _ => {}
        }
        let answer = answer(&request, manner, shared);
        stream.write_all(&answer)?;
        if manner == Manner::Torn {
            return Ok(());
        }
    }
}

/// The answer to a "read holding registers": MBAP header and PDU.
fn answer(request: &[u8; 12], manner: Manner, shared: &Shared) -> Vec<u8> {
    let first = u16::from_be_bytes([request[8], request[9]]);
    let count = u16::from_be_bytes([request[10], request[11]]);
    let exception = |code| vec![request[7] | 0x80, code];
    let registers = |count: u16| {
        let mut requests = shared.requests.lock();
        let mut pdu = vec![request[7], (2 * count) as u8];
        for address in first..first + count {
            let value = if address == 0 { *requests } else { address };
            pdu.extend(value.to_be_bytes());
        }
        *requests = requests.wrapping_add(u16::from(first == 0));
        pdu
    };
    let bad = shared
        .bad
        .lock()
        .is_some_and(|bad| (usize::from(first)..usize::from(first + count)).contains(&bad));
    let mut pdu = match manner {
        Manner::Exception(code) => exception(code),
        _ if bad => exception(2),
        _ if first + count > REGISTERS => exception(2),
        Manner::Short => registers(count - 1),
        Manner::Long => registers(count + 1),
        _ => registers(count),
    };
    if manner == Manner::Function {
        pdu[0] = 4;
    }
    let mut length = (pdu.len() + 1) as u16;
    let mut transaction = [request[0], request[1]];
    match manner {
        Manner::Length => length = u16::MAX,
        Manner::Transaction => transaction[0] ^= 0x80,
        _ => {}
    }
    let mut frame = transaction.to_vec();
    frame.extend([0, 0]);
    frame.extend(length.to_be_bytes());
    frame.push(request[6]);
    frame.extend(pdu);
    match manner {
        Manner::Garbage => frame.iter().map(|b| b ^ 0xa5).collect(),
        Manner::Torn => frame[..9].to_vec(),
        _ => frame,
    }
}

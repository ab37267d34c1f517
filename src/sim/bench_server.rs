//! Many plain Modbus TCP devices in one thread, as cheap as they can be: what `bench` reads from. They
//! share the machine with the hub that is measured, so their frames are built in place from a
//! register image that is already in the order of the wire. A register that was written keeps its value.

use super::noise::Noise;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

/// Most registers in one request (Modbus Application Protocol V1.1b3, 6.3).
const MAX_REGISTERS: u16 = 125;
/// Bytes before the unit id: transaction, protocol, length.
const PREFIX: usize = 6;
/// Longest request (Modbus Messaging on TCP/IP V1.0b, 4.1).
const LONGEST: usize = 260;
/// Bytes that may be read in one go.
const RECEIVED: usize = 3 * LONGEST;
/// Most connections to one device.
const CONNECTIONS: usize = 16;

const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_DATA_ADDRESS: u8 = 2;
const ILLEGAL_DATA_VALUE: u8 = 3;

/// The registers of one device: every read finds them a little changed, around a level of their own.
struct Registers {
    /// High byte first, as they are sent.
    image: Vec<u8>,
    writes: Writes,
    /// The registers that were written; empty as long as none was.
    kept: Vec<bool>,
    noise: Noise,
}

impl Registers {
    fn new(count: u16, seed: u64, writes: Writes) -> Self {
        let mut registers = Self {
            image: vec![0; usize::from(count) * 2],
            writes,
            kept: Vec::new(),
            noise: Noise::new(seed),
        };
        registers.change(0..usize::from(count));
        registers
    }

    /// Gives the registers in `range` new values: level plus the number of ones among 32 random bits,
    /// which is near enough to a normal distribution of standard deviation 2.8.
    fn change(&mut self, range: Range<usize>) {
        let Some(bytes) = self.image.get_mut(range.start * 2..range.end * 2) else {
            return;
        };
        for (i, pair) in bytes.chunks_mut(4).enumerate() {
            let bits = self.noise.bits();
            let draws = [bits as u32, (bits >> 32) as u32];
            for (j, (cell, draw)) in pair.chunks_exact_mut(2).zip(draws).enumerate() {
                let register = range.start + 2 * i + j;
                if self.kept.get(register) == Some(&true) {
                    continue;
                }
                let value = level(register) + draw.count_ones() as u16;
                cell.copy_from_slice(&value.to_be_bytes());
            }
        }
    }

    /// Writes registers, which keep their values from now on.
    fn keep(&mut self, range: Range<usize>, values: &[u8]) {
        if let Writes(Some(writes)) = &self.writes {
            writes.lock().push(values.to_vec());
        }
        self.kept.resize(self.image.len() / 2, false);
        if let Some(kept) = self.kept.get_mut(range.clone()) {
            kept.fill(true);
        }
        let cells = self.image.get_mut(range.start * 2..range.end * 2);
        for (cell, value) in cells.into_iter().flatten().zip(values) {
            *cell = *value;
        }
    }

    /// Appends the answer to `request`, or says that its bytes are no Modbus.
    fn answer(&mut self, request: &[u8], out: &mut Vec<u8>) -> Result<(), NotModbus> {
        let [
            t0,
            t1,
            _,
            _,
            _,
            _,
            unit,
            function,
            a0,
            a1,
            c0,
            c1,
            ref values @ ..,
        ] = *request
        else {
            return Err(NotModbus);
        };
        let first = usize::from(u16::from_be_bytes([a0, a1]));
        let count = u16::from_be_bytes([c0, c1]);
        let range = first..first + usize::from(count);
        let refusal = match function {
            3 | 4 if !(1..=MAX_REGISTERS).contains(&count) => ILLEGAL_DATA_VALUE,
            3 | 4 if range.end * 2 > self.image.len() => ILLEGAL_DATA_ADDRESS,
            3 | 4 => {
                self.change(range.clone());
                let bytes = (count * 2) as u8;
                out.extend([t0, t1, 0, 0, 0, bytes + 3, unit, function, bytes]);
                let cells = self.image.get(range.start * 2..range.end * 2);
                out.extend_from_slice(cells.unwrap_or_default());
                return Ok(());
            }
            16 if values.first().map(|n| u16::from(*n)) != Some(count * 2)
                || values.len() != usize::from(count) * 2 + 1 =>
            {
                ILLEGAL_DATA_VALUE
            }
            16 if range.end * 2 > self.image.len() => ILLEGAL_DATA_ADDRESS,
            16 => {
                self.keep(range, values.get(1..).unwrap_or_default());
                out.extend([t0, t1, 0, 0, 0, 6, unit, function, a0, a1, c0, c1]);
                return Ok(());
            }
            _ => ILLEGAL_FUNCTION,
        };
        out.extend([t0, t1, 0, 0, 0, 3, unit, function | 0x80, refusal]);
        Ok(())
    }
}

fn level(register: usize) -> u16 {
    1000 + (register * 37 % 20_000) as u16
}

/// What was written, in the order in which it came, as the devices themselves saw it; nothing is kept where
/// nobody asked for it.
#[derive(Clone, Default)]
pub struct Writes(Option<Arc<parking_lot::Mutex<Vec<Vec<u8>>>>>);

impl Writes {
    /// None yet.
    pub fn kept() -> Self {
        Self(Some(Arc::default()))
    }

    /// The values of each write, as they were on the wire.
    pub fn seen(&self) -> Vec<Vec<u8>> {
        let writes = self.0.as_ref();
        writes
            .map(|writes| writes.lock().clone())
            .unwrap_or_default()
    }
}

/// The bytes are no Modbus request of a fixed length; the connection ends.
#[derive(Debug)]
struct NotModbus;

/// The devices, which serve until this is dropped.
pub struct BenchServers {
    ports: Vec<u16>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl BenchServers {
    /// Starts `devices` devices with `registers` holding registers each (the same as input
    /// registers), on free ports of the loopback interface, in a thread of their own.
    pub fn start(devices: usize, registers: u16) -> io::Result<Self> {
        Self::watched(devices, registers, &Writes::default())
    }

    /// The same, which tell `writes` of what is written to them.
    pub fn watched(devices: usize, registers: u16, writes: &Writes) -> io::Result<Self> {
        let writes = writes.clone();
        let listeners = (0..devices).map(|_| {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listeners: Vec<_> = listeners.collect::<io::Result<_>>()?;
        let ports = listeners.iter().map(|l| Ok(l.local_addr()?.port()));
        let ports = ports.collect::<io::Result<_>>()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serve = move || {
            runtime.block_on(async {
                for (index, listener) in listeners.into_iter().enumerate() {
                    match TcpListener::from_std(listener) {
                        Ok(listener) => {
                            let registers = Registers::new(registers, index as u64, writes.clone());
                            drop(tokio::spawn(device(listener, registers, index)));
                        }
                        Err(error) => tracing::error!(%error, index, "a device cannot listen"),
                    }
                }
                // Ends when the sender is dropped, too.
                let _ = stopped.await;
            });
        };
        let thread = std::thread::Builder::new()
            .name("bench-devices".into())
            .spawn(serve)?;
        Ok(Self {
            ports,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The devices' ports.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The devices' addresses.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let address = |port: &u16| SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        self.ports.iter().map(address)
    }
}

impl Drop for BenchServers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic, if it had one, is printed already.
            let _ = thread.join();
        }
    }
}

async fn device(listener: TcpListener, registers: Registers, index: usize) {
    let registers = Arc::new(parking_lot::Mutex::new(registers));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let registers = registers.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, &registers).await {
                tracing::debug!(index, %error, "a connection broke");
            }
            drop(place);
        });
    }
}

async fn serve(mut stream: TcpStream, registers: &parking_lot::Mutex<Registers>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = [0; RECEIVED];
    let mut length = 0;
    let mut out = Vec::with_capacity(512);
    loop {
        let room = received.get_mut(length..).unwrap_or_default();
        match stream.read(room).await? {
            0 => return Ok(()),
            read => length += read,
        }
        let mut whole = 0;
        while let Some(prefix) = received
            .get(whole..length)
            .and_then(|r| r.first_chunk::<PREFIX>())
        {
            let [_, _, 0, 0, high, low] = *prefix else {
                return Ok(());
            };
            let end = PREFIX + usize::from(u16::from_be_bytes([high, low]));
            if end > LONGEST {
                return Ok(());
            }
            let Some(request) = received.get(whole..length).and_then(|r| r.get(..end)) else {
                break;
            };
            if registers.lock().answer(request, &mut out).is_err() {
                return Ok(());
            }
            whole += end;
        }
        stream.write_all(&out).await?;
        out.clear();
        received.copy_within(whole..length, 0);
        length -= whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(stream: &mut TcpStream, request: &[u8]) -> Vec<u8> {
        stream.write_all(request).await.unwrap();
        let mut header = [0; 6];
        stream.read_exact(&mut header).await.unwrap();
        let mut body = vec![0; usize::from(header[5])];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(header[..2], request[..2]);
        body
    }

    #[tokio::test]
    async fn registers_are_served_and_limits_are_kept() {
        let servers = BenchServers::start(2, 130).unwrap();
        let address = servers.addresses().nth(1).unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let body = ask(&mut stream, &[7, 9, 0, 0, 0, 6, 5, 3, 0, 128, 0, 2]).await;
        assert_eq!((body.len(), &body[..3]), (7, &[5, 3, 4][..]));
        let value = u16::from_be_bytes([body[3], body[4]]);
        assert!((level(128)..=level(128) + 32).contains(&value), "{value}");
        for (request, exception) in [
            (
                [0, 1, 0, 0, 0, 6, 5, 3, 0, 129, 0, 2],
                [5, 0x83, ILLEGAL_DATA_ADDRESS],
            ),
            (
                [0, 1, 0, 0, 0, 6, 5, 4, 0xff, 0xff, 0, 125],
                [5, 0x84, ILLEGAL_DATA_ADDRESS],
            ),
            (
                [0, 1, 0, 0, 0, 6, 5, 3, 0, 0, 0, 126],
                [5, 0x83, ILLEGAL_DATA_VALUE],
            ),
            (
                [0, 1, 0, 0, 0, 6, 5, 3, 0, 0, 0, 0],
                [5, 0x83, ILLEGAL_DATA_VALUE],
            ),
            (
                [0, 1, 0, 0, 0, 6, 5, 1, 0, 0, 0, 1],
                [5, 0x81, ILLEGAL_FUNCTION],
            ),
        ] {
            assert_eq!(ask(&mut stream, &request).await, exception);
        }
    }

    #[tokio::test]
    async fn what_was_written_stays() {
        let servers = BenchServers::start(1, 10).unwrap();
        let address = servers.addresses().next().unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let write = [0, 1, 0, 0, 0, 11, 1, 16, 0, 8, 0, 2, 4, 1, 2, 3, 4];
        assert_eq!(ask(&mut stream, &write).await, [1, 16, 0, 8, 0, 2]);
        for _ in 0..3 {
            let read = [0, 2, 0, 0, 0, 6, 1, 3, 0, 8, 0, 2];
            assert_eq!(ask(&mut stream, &read).await, [1, 3, 4, 1, 2, 3, 4]);
        }
        let beyond = [0, 1, 0, 0, 0, 11, 1, 16, 0, 9, 0, 2, 4, 1, 2, 3, 4];
        let refused = [1, 0x90, ILLEGAL_DATA_ADDRESS];
        assert_eq!(ask(&mut stream, &beyond).await, refused);
        let torn = [0, 1, 0, 0, 0, 11, 1, 16, 0, 8, 0, 2, 3, 1, 2, 3, 4];
        assert_eq!(ask(&mut stream, &torn).await, [1, 0x90, ILLEGAL_DATA_VALUE]);
    }

    #[tokio::test]
    async fn requests_in_one_segment_are_all_answered_and_rubbish_ends_the_connection() {
        let servers = BenchServers::start(1, 10).unwrap();
        let address = servers.addresses().next().unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = [0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1];
        stream
            .write_all(&[request, request].concat())
            .await
            .unwrap();
        let mut answers = [0; 22];
        stream.read_exact(&mut answers).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert_eq!(stream.read(&mut answers).await.unwrap_or(0), 0);
    }

    #[test]
    fn every_register_moves_around_its_level() {
        let mut registers = Registers::new(7, 1, Writes::default());
        let mut sum = 0.0;
        for _ in 0..1000 {
            registers.change(6..7);
            let [.., high, low] = registers.image[..] else {
                unreachable!()
            };
            sum += f64::from(u16::from_be_bytes([high, low]));
        }
        let mean = sum / 1000.0 - f64::from(level(6));
        assert!((mean - 16.0).abs() < 0.5, "mean {mean}");
    }
}

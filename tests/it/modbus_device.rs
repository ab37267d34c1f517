//! A Modbus device in memory, written from the standard alone: what the hub's own Modbus is held
//! against. It serves any stream, with MBAP or RTU frames, and remembers what it was asked.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// Tables by the function that reads them.
pub const COILS: u8 = 1;
pub const DISCRETE: u8 = 2;
pub const HOLDING: u8 = 3;
pub const INPUT: u8 = 4;

/// A request as it was understood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// Counted from 0 over the device's life.
    pub connection: usize,
    pub unit: u8,
    pub function: u8,
    pub address: u16,
    pub count: u16,
}

/// The device. A cell that was never set holds a number that depends on its place alone.
pub struct Memory {
    pub cells: BTreeMap<(u8, u16), u16>,
    /// Cells that do not exist, by table.
    pub missing: BTreeSet<(u8, u16)>,
    /// Cells that keep what they hold, whatever is written.
    pub stubborn: BTreeSet<u16>,
    /// Functions that it does not have.
    pub without: BTreeSet<u8>,
    /// Units that answer; empty for all.
    pub units: BTreeSet<u8>,
    /// Puts these bytes before every answer.
    pub rubbish: Vec<u8>,
    /// Does not answer at all.
    pub silent: bool,
    /// Ends every connection, as one that restarts.
    pub away: bool,
    pub asked: Vec<Asked>,
    connections: usize,
}

pub type Shared = Arc<Mutex<Memory>>;

impl Memory {
    pub fn shared() -> Shared {
        Arc::new(Mutex::new(Self {
            cells: BTreeMap::new(),
            missing: BTreeSet::new(),
            stubborn: BTreeSet::new(),
            without: BTreeSet::new(),
            units: BTreeSet::new(),
            rubbish: Vec::new(),
            silent: false,
            away: false,
            asked: Vec::new(),
            connections: 0,
        }))
    }

    /// What a cell holds; a bit 0 or 1.
    pub fn cell(&self, table: u8, address: u16) -> u16 {
        let unset = (u32::from(address) + 1).wrapping_mul(0x9e37_79b1) >> 13;
        let word = self.cells.get(&(table, address)).copied();
        let word = word.unwrap_or(unset as u16 ^ u16::from(table));
        if table <= DISCRETE { word & 1 } else { word }
    }

    fn put(&mut self, table: u8, address: u16, value: u16) {
        if !self.stubborn.contains(&address) {
            self.cells.insert((table, address), value);
        }
    }

    fn there(&self, table: u8, address: u16, count: u16) -> bool {
        let end = u32::from(address) + u32::from(count);
        end <= 0x1_0000
            && !(u32::from(address)..end).any(|a| self.missing.contains(&(table, a as u16)))
    }

    /// The PDU that answers `pdu`: Modbus Application Protocol V1.1b3, chapter 6.
    fn answer(&mut self, connection: usize, unit: u8, pdu: &[u8]) -> Vec<u8> {
        let word = |at: usize| u16::from_be_bytes([pdu[at], pdu[at + 1]]);
        let function = pdu[0];
        let (address, count) = match function {
            43 => (0, 0),
            5 | 6 | 22 => (word(1), 1),
            _ => (word(1), word(3)),
        };
        self.asked.push(Asked {
            connection,
            unit,
            function,
            address,
            count,
        });
        let refuse = |code: u8| vec![function | 0x80, code];
        if self.without.contains(&function) {
            return refuse(1);
        }
        match function {
            COILS | DISCRETE | HOLDING | INPUT => {
                let most = if function <= DISCRETE { 2000 } else { 125 };
                if !(1..=most).contains(&count) {
                    return refuse(3);
                }
                if !self.there(function, address, count) {
                    return refuse(2);
                }
                self.read(function, function, address, count)
            }
            5 | 15 => {
                if !self.there(COILS, address, count) {
                    return refuse(2);
                }
                for i in 0..count {
                    let on = match function {
                        5 => word(3) == 0xff00,
                        _ => pdu[6 + usize::from(i) / 8] >> (i % 8) & 1 == 1,
                    };
                    self.put(COILS, address + i, on.into());
                }
                pdu[..5].to_vec()
            }
            6 | 16 => {
                if !self.there(HOLDING, address, count) {
                    return refuse(2);
                }
                if count > 123 {
                    return refuse(3);
                }
                for i in 0..count {
                    let at = if function == 6 {
                        3
                    } else {
                        6 + 2 * usize::from(i)
                    };
                    self.put(HOLDING, address + i, word(at));
                }
                pdu[..5].to_vec()
            }
            22 => {
                if !self.there(HOLDING, address, 1) {
                    return refuse(2);
                }
                let (and, or) = (word(3), word(5));
                let now = self.cell(HOLDING, address);
                self.put(HOLDING, address, now & and | or & !and);
                pdu.to_vec()
            }
            23 => {
                let (first, written) = (word(5), word(7));
                if !self.there(HOLDING, first, written) || !self.there(HOLDING, address, count) {
                    return refuse(2);
                }
                for i in 0..written {
                    self.put(HOLDING, first + i, word(10 + 2 * usize::from(i)));
                }
                self.read(23, HOLDING, address, count)
            }
            43 => {
                let mut answer = vec![43, 14, pdu[2], 0x81, 0, 0, 3];
                for (id, text) in ["Weighs & Co", "WB-1", "v2"].into_iter().enumerate() {
                    answer.extend([id as u8, text.len() as u8]);
                    answer.extend(text.as_bytes());
                }
                answer
            }
            _ => refuse(1),
        }
    }

    fn read(&self, function: u8, table: u8, address: u16, count: u16) -> Vec<u8> {
        let cells = (0..count).map(|i| self.cell(table, address + i));
        let data: Vec<u8> = if table <= DISCRETE {
            let bits: Vec<u16> = cells.collect();
            let byte = |bits: &[u16]| bits.iter().rev().fold(0u16, |b, bit| b << 1 | bit) as u8;
            bits.chunks(8).map(byte).collect()
        } else {
            cells.flat_map(u16::to_be_bytes).collect()
        };
        [&[function, data.len() as u8], &data[..]].concat()
    }

    /// What is sent for `pdu`; `None` for nothing.
    fn reply(&mut self, connection: usize, unit: u8, pdu: &[u8]) -> Option<Vec<u8>> {
        let mine = self.units.is_empty() || self.units.contains(&unit);
        let answer = mine.then(|| self.answer(connection, unit, pdu))?;
        (!self.silent).then_some(answer)
    }
}

/// Serves frames with an MBAP header until the stream ends.
pub async fn mbap<T: AsyncRead + AsyncWrite + Unpin>(
    mut stream: T,
    memory: Shared,
) -> std::io::Result<()> {
    let connection = begin(&memory);
    loop {
        let mut header = [0; 7];
        stream.read_exact(&mut header).await?;
        let length = u16::from_be_bytes([header[4], header[5]]);
        let mut pdu = vec![0; usize::from(length) - 1];
        stream.read_exact(&mut pdu).await?;
        let (answer, rubbish) = {
            let mut memory = memory.lock();
            if memory.away {
                return Ok(());
            }
            let answer = memory.reply(connection, header[6], &pdu);
            (answer, memory.rubbish.clone())
        };
        let Some(answer) = answer else { continue };
        let mut frame = rubbish;
        frame.extend(&header[..4]);
        frame.extend((answer.len() as u16 + 1).to_be_bytes());
        frame.push(header[6]);
        frame.extend(answer);
        stream.write_all(&frame).await?;
        stream.flush().await?;
    }
}

/// Serves RTU frames until the stream ends.
pub async fn rtu<T: AsyncRead + AsyncWrite + Unpin>(
    mut stream: T,
    memory: Shared,
) -> std::io::Result<()> {
    let connection = begin(&memory);
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        let mut more = [0; 256];
        match stream.read(&mut more).await? {
            0 => return Ok(()),
            n => buffer.extend(&more[..n]),
        }
        while let Some(length) = request_length(&buffer).filter(|n| *n <= buffer.len()) {
            let frame: Vec<u8> = buffer.drain(..length).collect();
            let (body, crc) = frame.split_at(length - 2);
            if crc16(body).to_le_bytes() != crc {
                // Out of step: a device waits for silence, and this is enough for a test.
                buffer.clear();
                continue;
            }
            let (answer, rubbish) = {
                let mut memory = memory.lock();
                if memory.away {
                    return Ok(());
                }
                let answer = memory.reply(connection, body[0], &body[1..]);
                (answer, memory.rubbish.clone())
            };
            let Some(answer) = answer else { continue };
            let mut out = vec![body[0]];
            out.extend(answer);
            out.extend(crc16(&out).to_le_bytes());
            stream.write_all(&[rubbish, out].concat()).await?;
            stream.flush().await?;
        }
    }
}

fn begin(memory: &Shared) -> usize {
    let mut memory = memory.lock();
    memory.connections += 1;
    memory.connections - 1
}

fn request_length(frame: &[u8]) -> Option<usize> {
    Some(match frame.get(1)? {
        1..=6 => 8,
        15 | 16 => 9 + usize::from(*frame.get(6)?),
        22 => 10,
        23 => 13 + usize::from(*frame.get(10)?),
        43 => 7,
        _ => return None,
    })
}

/// CRC-16 of Modbus over Serial Line V1.02, 6.2.2.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| match crc & 1 {
            1 => crc >> 1 ^ 0xa001,
            _ => crc >> 1,
        })
    })
}

/// Frames over TCP.
#[derive(Clone, Copy)]
pub enum Frames {
    Mbap,
    Rtu,
}

/// Listens on a free port and serves `memory` to whoever connects.
pub async fn listen(memory: Shared, frames: Frames) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let memory = memory.clone();
            tokio::spawn(async move {
                // Whoever connected went away.
                let _ = match frames {
                    Frames::Mbap => mbap(stream, memory).await,
                    Frames::Rtu => rtu(stream, memory).await,
                };
            });
        }
    });
    address
}

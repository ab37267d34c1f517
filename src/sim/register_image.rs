//! A Modbus TCP device that holds what it is told and answers reads of it: for the golden cases of
//! profiles. What was not told is 0.
//!
//! It is written by hand, with nothing of the client's in it, so that a mistake in how requests are
//! made or answers are read is not made twice.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What stands in the four tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegisterImage {
    /// Holding registers by address.
    pub holding: BTreeMap<u16, u16>,
    /// Input registers by address.
    pub input: BTreeMap<u16, u16>,
    /// Coils by address.
    pub coils: BTreeMap<u16, bool>,
    /// Discrete inputs by address.
    pub discrete_inputs: BTreeMap<u16, bool>,
}

/// A running device; it ends when it is dropped.
pub struct ImageServer {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl ImageServer {
    /// Serves `image` on loopback.
    pub async fn start(image: RegisterImage) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let image = image.clone();
                tokio::spawn(async move {
                    // Whoever hangs up is done.
                    let _ = serve(stream, &image).await;
                });
            }
        });
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

/// Answers until the client hangs up. A frame is transaction, protocol 0, length, unit (MODBUS
/// Messaging on TCP/IP V1.0b, 3.1.3), then function and data.
async fn serve(mut stream: TcpStream, image: &RegisterImage) -> io::Result<()> {
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head).await?;
        let length = u16::from_be_bytes([head[4], head[5]]);
        let mut request = vec![0; usize::from(length.saturating_sub(1)).min(260)];
        stream.read_exact(&mut request).await?;
        let answer = answer(&request, image);
        let length = u16::try_from(answer.len() + 1).unwrap_or(u16::MAX);
        let mut frame = head[..4].to_vec();
        frame.extend(length.to_be_bytes());
        frame.push(head[6]);
        frame.extend(answer);
        stream.write_all(&frame).await?;
    }
}

/// Illegal function, and illegal data address (MODBUS Application Protocol V1.1b3, 7).
const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_ADDRESS: u8 = 2;

fn answer(request: &[u8], image: &RegisterImage) -> Vec<u8> {
    let &[function, a, b, c, d, ..] = request else {
        let function = request.first().copied().unwrap_or(0);
        return vec![function | 0x80, ILLEGAL_FUNCTION];
    };
    let (first, count) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let Some(last) = first.checked_add(count.saturating_sub(1)) else {
        return vec![function | 0x80, ILLEGAL_ADDRESS];
    };
    let bits = |table: &BTreeMap<u16, bool>| {
        let mut bytes = vec![0u8; usize::from(count).div_ceil(8)];
        for (at, address) in (first..=last).enumerate() {
            let on = table.get(&address).copied().unwrap_or(false);
            if let Some(byte) = bytes.get_mut(at / 8) {
                *byte |= u8::from(on) << (at % 8);
            }
        }
        bytes
    };
    let words = |table: &BTreeMap<u16, u16>| {
        let words = (first..=last).map(|at| table.get(&at).copied().unwrap_or(0));
        words.flat_map(u16::to_be_bytes).collect()
    };
    let data: Vec<u8> = match (function, count) {
        (1, 1..=2000) => bits(&image.coils),
        (2, 1..=2000) => bits(&image.discrete_inputs),
        (3, 1..=125) => words(&image.holding),
        (4, 1..=125) => words(&image.input),
        _ => return vec![function | 0x80, ILLEGAL_FUNCTION],
    };
    let length = u8::try_from(data.len()).unwrap_or(u8::MAX);
    [vec![function, length], data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_as_the_standard_says() {
        let image = RegisterImage {
            holding: [(107, 0x022b), (109, 100)].into(),
            coils: [(19, true), (21, true), (27, true)].into(),
            ..RegisterImage::default()
        };
        // The standard's example of Read Holding Registers, 6.3.
        let read = answer(&[3, 0, 107, 0, 3], &image);
        assert_eq!(read, [3, 6, 0x02, 0x2b, 0, 0, 0, 0x64]);
        assert_eq!(answer(&[1, 0, 19, 0, 10], &image), [1, 2, 0b0000_0101, 1]);
        assert_eq!(answer(&[3, 0xff, 0xff, 0, 2], &image), [0x83, 2]);
        assert_eq!(answer(&[3, 0, 0, 0, 126], &image), [0x83, 1]);
        assert_eq!(answer(&[6, 0, 0, 0, 1], &image), [0x86, 1]);
        assert_eq!(answer(&[3], &image), [0x83, 1]);
    }
}

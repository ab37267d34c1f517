//! What an edge node and a hub say to each other: frames of `length(u32, little-endian) ‖ borsh`.
//!
//! The edge speaks first ([`Hello`]), the hub answers for every device where its ledger stands
//! ([`Welcome`]), then uploads go one way and what is durable the other. Each device can leave and enter
//! again meanwhile, by itself: its configuration may change on either side. Orders of users go to the
//! edge, and what came of them back. Bytes from the other side cost at most memory in the order of
//! [`MAX_FRAME`].

use super::order::{Order, Outcome};
use super::upload::Upload;
use crate::access::{Nonce, RenewalChallenge};
use crate::crypto::SealingWord;
use crate::model::Peer;
use borsh::{BorshDeserialize, BorshSerialize};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weighbridge_verifier::{PublicKey, Signature, decode, encode};

/// Version of what is spoken.
pub const EDGE_PROTOCOL: u16 = 5;
/// Longest frame, in bytes: the largest batch, sealed.
pub const MAX_FRAME: usize = 64 << 20;
/// Longest frame of a hub after its [`Welcome`], in bytes: an edge node has little memory.
pub const MAX_ANSWER: usize = 1 << 20;
/// Status codes that a question for what is recorded may name.
pub const MAX_UNCOUNTED: usize = 16;
/// Batches of a device that may be on their way: sent, and not yet durable.
pub const WINDOW: u64 = 8;

/// The first word of an edge node.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Hello {
    /// [`EDGE_PROTOCOL`].
    pub version: u16,
    /// What it reads.
    pub devices: Vec<DeviceHello>,
}

/// A device that an edge node reads.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct DeviceHello {
    /// Its id.
    pub id: String,
    /// Privacy grade of its data.
    pub grade: u8,
    /// Name and kind of its tags, in order.
    pub tags: Vec<(String, String)>,
}

/// A hub's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Welcome {
    /// Its id.
    pub hub: String,
    /// The key that uploads must be sealed to.
    pub sealing: PublicKey,
    /// For each device of the hello, in its order.
    pub devices: Vec<DeviceWelcome>,
}

/// What a hub's ledger has of a device, each as epoch and sequence number, zeros for none.
///
/// The two differ when somebody else has read the device since: the hub itself, or another edge node. The
/// numbers of the newest batch then say nothing of what this edge node has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Standing {
    /// The newest batch.
    pub newest: (u64, u64),
    /// The newest batch of this edge node.
    pub own: (u64, u64),
}

/// Whether a hub takes a device's batches.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum DeviceWelcome {
    /// It does, and what its ledger has.
    Standing(Standing),
    /// It does not, and why.
    Refused(String),
}

/// How a device is, seen by the edge node that reads it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum DeviceLink {
    /// It answers.
    Up,
    /// It does not, and why.
    Down(String),
}

/// From the edge node, after [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum FromEdge {
    /// A batch.
    Upload(Box<Upload>),
    /// How a device is.
    Link(String, DeviceLink),
    /// Is anybody there? Numbered from 1.
    Ping(u64),
    /// It reads this device, as it is now: may its batches come?
    Enter(DeviceHello),
    /// It reads this device no more, or not as it was.
    Leave(String),
    /// What waits in the device's buffer: batches and bytes.
    Backlog(String, u64, u64),
    /// What came of the order of this number.
    Acted(u64, Outcome),
    /// How far is this device recorded? A number that the answer repeats, the device, and status codes
    /// whose samples do not count, at most [`MAX_UNCOUNTED`].
    Newest(u64, String, Vec<u32>),
    /// Who answers as this device, since it was connected last; in whose place, if that is another one.
    Answers(String, Peer),
    /// The answer to [`FromHub::Prove`]: the device, the random bytes, the signature over the text.
    Proof(String, Nonce, Signature),
    /// All that waits in its buffers is sealed to this key of the hub, and so is what comes.
    SealsTo(PublicKey),
}

/// From the hub, after [`Welcome`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum FromHub {
    /// Everything that this edge node numbered up to this batch is in the ledger: device, epoch, sequence.
    Durable(String, u64, u64),
    /// Somebody is there.
    Pong,
    /// The answer to [`FromEdge::Enter`].
    Entered(String, DeviceWelcome),
    /// The hub takes no more batches of the device as it entered, and why: it may enter again.
    Again(String, String),
    /// Do this with a device, now or never.
    Act(Order),
    /// The hub ends the connection, and why.
    Goodbye(String),
    /// The answer to [`FromEdge::Newest`]: its number, the device, and for each tag the newest source time
    /// that is recorded, or why that cannot be told.
    Recorded(u64, String, Result<Vec<Option<i64>>, String>),
    /// What this device is known by from now on: whoever differs is not read. `None`: who answers next.
    Known(String, Option<Peer>),
    /// The permit of a device ends soon: sign this.
    Prove(RenewalChallenge),
    /// The hub's word for its sealing key: the first after [`Welcome`], and whenever it has another one.
    Sealing(Box<SealingWord>),
}

/// Why a frame cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other side is gone.
    #[error("the connection was closed")]
    Closed,
    /// The connection.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// Longer than any frame may be.
    #[error("a frame of {0} bytes is longer than any may be")]
    TooLong(usize),
    /// Not what was due.
    #[error(transparent)]
    Form(#[from] weighbridge_verifier::DecodeError),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Without TLS's own word of farewell, too: a process that was killed says none.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// Writes one frame; it leaves with the next flush.
pub async fn write<T: BorshSerialize>(
    out: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), WireError> {
    let bytes = encode(message);
    if bytes.len() > MAX_FRAME {
        return Err(WireError::TooLong(bytes.len()));
    }
    out.write_all(&(bytes.len() as u32).to_le_bytes()).await?;
    out.write_all(&bytes).await?;
    Ok(())
}

/// Reads one frame of at most `bound` bytes. Not cancel-safe.
pub async fn read<T: BorshDeserialize>(
    from: &mut (impl AsyncRead + Unpin),
    what: &'static str,
    bound: usize,
) -> Result<T, WireError> {
    let length = from.read_u32_le().await? as usize;
    if length > bound {
        return Err(WireError::TooLong(length));
    }
    // The bytes come before the memory for them: a length alone costs nothing.
    let mut bytes = Vec::with_capacity(length.min(64 << 10));
    let read = from.take(length as u64).read_to_end(&mut bytes).await?;
    if read < length {
        return Err(WireError::Closed);
    }
    Ok(decode(what, &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Introduction;

    #[tokio::test]
    async fn frames_are_read_as_they_were_written_and_never_longer() {
        let hello = Hello {
            version: EDGE_PROTOCOL,
            devices: vec![DeviceHello {
                id: "press-1".to_owned(),
                grade: 2,
                tags: vec![("force".to_owned(), "f64".to_owned())],
            }],
        };
        let mut bytes = Vec::new();
        write(&mut bytes, &hello).await.unwrap();
        let read_back: Hello = read(&mut bytes.as_slice(), "hello", MAX_FRAME)
            .await
            .unwrap();
        assert_eq!(read_back, hello);
        let bound = bytes.len() - 5;
        let refused = read::<Hello>(&mut bytes.as_slice(), "hello", bound).await;
        assert!(matches!(refused, Err(WireError::TooLong(_))));
        for cut in 0..bytes.len() {
            let cut = &bytes[..cut];
            let error = read::<Hello>(&mut { cut }, "hello", MAX_FRAME).await;
            assert!(matches!(error, Err(WireError::Closed)));
        }
        let rubbish = [4, 0, 0, 0, 255, 255, 255, 255];
        let error = read::<Hello>(&mut rubbish.as_slice(), "hello", MAX_FRAME).await;
        assert!(matches!(error, Err(WireError::Form(_))));
    }

    /// A text, an address with its port, a MAC address, and no key.
    const PEER: &str = "010000007000c0000207f6010102020202020200";

    fn peer() -> Peer {
        Peer {
            dialled: "p".to_owned(),
            address: ([192, 0, 2, 7], 502).into(),
            mac: Some(crate::model::Mac([2; 6])),
            key: None,
        }
    }

    /// What is said under this version: who changes it gives it another one.
    #[test]
    fn what_version_5_says_is_what_it_always_said() {
        let words = [
            encode(&Hello {
                version: EDGE_PROTOCOL,
                devices: Vec::new(),
            }),
            encode(&DeviceWelcome::Standing(Standing {
                newest: (3, 4),
                own: (1, 2),
            })),
            encode(&DeviceWelcome::Refused("x".to_owned())),
            encode(&FromEdge::Newest(7, "d".to_owned(), vec![0x8034_0000])),
            encode(&FromHub::Durable("d".to_owned(), 1, 2)),
            encode(&FromHub::Recorded(
                7,
                "d".to_owned(),
                Ok(vec![Some(-1), None]),
            )),
            encode(&FromHub::Recorded(7, "d".to_owned(), Err("x".to_owned()))),
            encode(&FromEdge::Answers("d".to_owned(), peer())),
            encode(&FromEdge::Proof(
                "d".to_owned(),
                [7; 32],
                Signature([8; 64]),
            )),
            encode(&FromHub::Known("d".to_owned(), Some(peer()))),
            encode(&FromHub::Prove(RenewalChallenge {
                chain: "c".to_owned(),
                hub: "h".to_owned(),
                device: "d".to_owned(),
                signer: "e".to_owned(),
                epoch: 3,
                nonce: [7; 32],
                expires: 5,
            })),
            encode(&FromEdge::SealsTo(PublicKey([9; 33]))),
            encode(&FromHub::Sealing(Box::new(SealingWord {
                introduction: Introduction {
                    records: Vec::new(),
                    link: PublicKey([1; 33]),
                    vouch: Signature([2; 64]),
                },
                sealing: PublicKey([3; 33]),
                vouch: Signature([4; 64]),
            }))),
        ];
        let hex = |bytes: &Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let said: Vec<_> = words.iter().map(hex).collect();
        let long = |numbers: &[u64]| {
            let bytes = numbers.iter().flat_map(|n| n.to_le_bytes());
            hex(&bytes.collect())
        };
        let expected = [
            "050000000000".to_owned(),
            format!("00{}", long(&[3, 4, 1, 2])),
            "010100000078".to_owned(),
            format!("07{}01000000640100000000003480", long(&[7])),
            format!("000100000064{}", long(&[1, 2])),
            format!("06{}01000000640102000000", long(&[7])) + "01ffffffffffffffff00",
            format!("06{}0100000064000100000078", long(&[7])),
            format!("080100000064{PEER}"),
            format!("090100000064{}{}", "07".repeat(32), "08".repeat(64)),
            format!("07010000006401{PEER}"),
            format!(
                "080100000063010000006801000000640100000065{}{}{}",
                long(&[3]),
                "07".repeat(32),
                long(&[5])
            ),
            format!("0a{}", "09".repeat(33)),
            format!(
                "0900000000{}{}{}{}",
                "01".repeat(33),
                "02".repeat(64),
                "03".repeat(33),
                "04".repeat(64)
            ),
        ];
        assert_eq!(said, expected);
    }
}

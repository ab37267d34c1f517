//! What hubs say to each other: frames of `length(u32, little-endian) ‖ borsh`.
//!
//! Each hub dials every other one and reads from it: the *subscriber* dials, the *publisher* listens, and it is the
//! publisher's records that a link carries. Both begin with a [`Hello`], whose first two bytes are the version in every
//! version. Then the subscriber asks ([`FromSubscriber`]) and the publisher tells ([`FromPublisher`]). Bytes from the other
//! side cost at most memory in the order of [`MAX_FRAME`].

use super::bounded;
use crate::crypto::SealingWord;
use crate::ledger::shared::{Carried, Want};
use crate::ledger::store::Put;
use borsh::{BorshDeserialize, BorshSerialize};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::time::timeout;
use weighbridge_verifier::{Hash, encode};

/// Version of what is spoken.
pub const MESH_PROTOCOL: u16 = 2;
/// Longest [`Hello`], in bytes: a word that brings many rotations.
pub const MAX_HELLO: usize = 8 << 20;
/// Longest frame of a subscriber after its hello, in bytes: another word.
pub const MAX_QUESTION: usize = MAX_HELLO;
/// Longest frame of a publisher after its hello, in bytes: the largest batch, sealed, with its wraps.
pub const MAX_FRAME: usize = 72 << 20;
/// Written at once, so that a long frame over a slow line is seen to move.
const CHUNK: usize = 64 << 10;

/// The first word of either side.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Hello {
    /// [`MESH_PROTOCOL`].
    pub version: u16,
    /// Id of the chain.
    pub chain: String,
    /// Id of the hub that says it.
    pub hub: String,
    /// Another number at each start of the hub: generations of different starts have nothing to do with each other.
    pub incarnation: u64,
    /// The hub's word for its sealing key.
    pub word: Box<SealingWord>,
}

/// The version that a [`Hello`] of whatever version says.
pub fn version_of(hello: &[u8]) -> Option<u16> {
    let first = hello.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*first))
}

/// From who reads, after [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum FromSubscriber {
    /// Send your records, from this number on. What was sent before counts no more.
    Follow {
        /// Rises with each; what answers it says the same.
        turn: u32,
        /// The first that is wanted.
        from: u64,
        /// The generation that what came before was of; `None` when nothing came yet.
        generation: Option<u64>,
        /// Bytes of [`FromPublisher::Run`] that may be on their way: sent, and not yet taken. A single record may be
        /// longer, when nothing else is on its way.
        window: u32,
    },
    /// All records up to this number are taken.
    Took {
        /// The number.
        sequence: u64,
    },
    /// Lend me these sealed bytes. One question at a time.
    WantSealed(Want),
    /// Send me blocks. One question at a time.
    WantBlocks {
        /// Height of the first.
        from: u64,
    },
    /// My newest block. At least every few seconds.
    Tip {
        /// Its height.
        height: u64,
        /// Its hash.
        hash: Hash,
    },
    /// The hub's word for another sealing key.
    Word(Box<SealingWord>),
    /// The link ends, and why.
    Goodbye(String),
    /// Lend me the wraps that were made for me. One question at a time.
    WantWraps {
        /// Those at this place among all wraps, and after it.
        from: Vec<u8>,
    },
    /// Send me what this user logs in by, sealed to the key of my word. One question at a time.
    WantCredentials {
        /// The user.
        user: String,
    },
}

/// From whose records are read, after [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum FromPublisher {
    /// Records without gaps, after those of the run before; or, where a block has some in between already, after those.
    Run {
        /// Of the [`FromSubscriber::Follow`] that it answers.
        turn: u32,
        /// The generation that they are of.
        generation: u64,
        /// Them.
        #[borsh(deserialize_with = "bounded::carried")]
        carried: Vec<Carried>,
    },
    /// Records were signed anew. Nothing more comes before another [`FromSubscriber::Follow`].
    Again {
        /// Of the [`FromSubscriber::Follow`] that it answers.
        turn: u32,
        /// The first that no block has.
        from: u64,
        /// The generation from now on.
        generation: u64,
    },
    /// The answer to [`FromSubscriber::WantSealed`].
    Sealed(#[borsh(deserialize_with = "bounded::puts")] Vec<Put>),
    /// The answer to [`FromSubscriber::WantBlocks`].
    Blocks(#[borsh(deserialize_with = "bounded::blocks")] Vec<Vec<u8>>),
    /// Whatever was asked for is not here.
    No,
    /// My newest block. Whenever there is one, and at least every few seconds.
    Tip {
        /// Its height.
        height: u64,
        /// Its hash.
        hash: Hash,
    },
    /// The hub's word for another sealing key.
    Word(Box<SealingWord>),
    /// The link ends, and why.
    Goodbye(String),
    /// The answer to [`FromSubscriber::WantWraps`].
    Wraps {
        /// Wraps for the hub that asked.
        #[borsh(deserialize_with = "bounded::wraps")]
        puts: Vec<Put>,
        /// Where to go on; `None` at the end.
        next: Option<Vec<u8>>,
        /// Whether whoever lends them had made one of each key that it opens before it looked.
        all: bool,
    },
    /// The answer to [`FromSubscriber::WantCredentials`].
    Credentials(Vec<u8>),
}

/// What becomes of a publisher's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It waits until it is taken.
    Run,
    /// It goes to whoever asked.
    Answer,
    /// It is small, and looked at at once.
    Word,
}

/// What becomes of a publisher's frame, by its first byte; nothing else of it has been looked at.
pub(super) fn kind(frame: &[u8]) -> Kind {
    match frame.first() {
        Some(0) => Kind::Run,
        Some(2..=4 | 8 | 9) => Kind::Answer,
        _ => Kind::Word,
    }
}

/// Of a frame with records, the turn that it answers; nothing else of it has been looked at.
pub(super) fn turn_of(run: &[u8]) -> Option<u32> {
    let turn = run.get(1..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*turn))
}

/// Why a link cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other side is gone.
    #[error("the connection was closed")]
    Closed,
    /// The other side is there no more, as far as one can tell.
    #[error("nothing was heard for {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// The other side takes nothing.
    #[error("it took nothing for {} s", .0.as_secs_f64())]
    Stuck(Duration),
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
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// Reads frames.
pub(super) struct Frames<R> {
    from: BufReader<R>,
    /// How long nothing at all may come.
    silence: Duration,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(from: R, silence: Duration) -> Self {
        Self {
            from: BufReader::new(from),
            silence,
        }
    }

    /// The next frame, of at most `bound` bytes. Not cancel-safe.
    pub(super) async fn next(&mut self, bound: usize) -> Result<Vec<u8>, WireError> {
        let silent = |_| WireError::Silent(self.silence);
        let length = timeout(self.silence, self.from.read_u32_le()).await;
        let length = length.map_err(silent)?? as usize;
        if length > bound {
            return Err(WireError::TooLong(length));
        }
        // The bytes come before the memory for them: a length alone costs nothing.
        let mut bytes = Vec::with_capacity(length.min(CHUNK));
        let mut rest = (&mut self.from).take(length as u64);
        while bytes.len() < length {
            let read = timeout(self.silence, rest.read_buf(&mut bytes)).await;
            if read.map_err(|_| WireError::Silent(self.silence))?? == 0 {
                return Err(WireError::Closed);
            }
        }
        Ok(bytes)
    }
}

/// Writes frames.
pub(super) struct Writing<W> {
    out: BufWriter<W>,
    /// How long nothing at all may leave.
    silence: Duration,
}

impl<W: AsyncWrite + Unpin> Writing<W> {
    pub(super) fn new(out: W, silence: Duration) -> Self {
        Self {
            out: BufWriter::with_capacity(CHUNK, out),
            silence,
        }
    }

    /// Writes a message; it leaves with the next flush.
    pub(super) async fn say(&mut self, message: &impl BorshSerialize) -> Result<(), WireError> {
        self.frame(&encode(message)).await
    }

    /// Writes a message that is encoded already.
    pub(super) async fn frame(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        if bytes.len() > MAX_FRAME {
            return Err(WireError::TooLong(bytes.len()));
        }
        let length = (bytes.len() as u32).to_le_bytes();
        for chunk in std::iter::once(&length[..]).chain(bytes.chunks(CHUNK)) {
            let written = timeout(self.silence, self.out.write_all(chunk)).await;
            written.map_err(|_| WireError::Stuck(self.silence))??;
        }
        Ok(())
    }

    /// Writes bytes that are no frame.
    #[cfg(test)]
    pub(super) async fn raw(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        Ok(self.out.write_all(bytes).await?)
    }

    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        let flushed = timeout(self.silence, self.out.flush()).await;
        Ok(flushed.map_err(|_| WireError::Stuck(self.silence))??)
    }

    /// Says the last word.
    pub(super) async fn close(&mut self, message: &impl BorshSerialize) -> Result<(), WireError> {
        self.say(message).await?;
        self.flush().await?;
        let closed = timeout(self.silence, self.out.shutdown()).await;
        Ok(closed.map_err(|_| WireError::Stuck(self.silence))??)
    }
}

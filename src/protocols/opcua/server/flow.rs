//! Bytes between two sockets, with as few calls of the system and timers as can be: every message of a
//! client passes here twice.

use std::io::ErrorKind;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, Sleep, sleep, timeout};

/// What a connection's buffer begins with; it grows to the largest chunk that comes.
const ROOM: usize = 8_192;
/// Time for the other side to take what it is sent.
const STALLED: Duration = Duration::from_secs(30);

/// The reading half of a socket, and what was read and not yet used.
pub(super) struct Inflow {
    socket: OwnedReadHalf,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    /// One timer for all reads: it is set anew only when it fires, or must fire sooner.
    timer: Pin<Box<Sleep>>,
}

impl Inflow {
    /// `usual` is how long a read may wait, as a rule.
    pub(super) fn new(socket: OwnedReadHalf, usual: Duration) -> Self {
        Self {
            socket,
            buffer: vec![0; ROOM],
            from: 0,
            to: 0,
            timer: Box::pin(sleep(usual)),
        }
    }

    /// What is there.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.from..self.to).unwrap_or_default()
    }

    /// The first `count` bytes, or what is there of them.
    pub(super) fn first(&self, count: usize) -> &[u8] {
        let bytes = self.bytes();
        bytes.get(..count).unwrap_or(bytes)
    }

    /// Has used the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.from = (self.from + count).min(self.to);
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
    }

    /// Reads what comes, with room for `wanted` bytes in all; false at the end of the stream, and when
    /// nothing comes `until` then.
    pub(super) async fn read(&mut self, wanted: usize, until: Instant) -> bool {
        if self.buffer.len() - self.from < wanted {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
        }
        if until < self.timer.deadline() {
            self.timer.as_mut().reset(until);
        }
        let Some(room) = self.buffer.get_mut(self.to..) else {
            return false;
        };
        loop {
            tokio::select! {
                biased;
                read = self.socket.read(room) => {
                    let count = read.unwrap_or(0);
                    self.to += count;
                    return count > 0;
                }
                () = self.timer.as_mut() => {
                    if Instant::now() >= until {
                        return false;
                    }
                    self.timer.as_mut().reset(until);
                }
            }
        }
    }
}

/// The writing half of a socket.
pub(super) struct Outflow {
    socket: OwnedWriteHalf,
    /// Of the bytes that are being sent.
    sent: usize,
}

impl Outflow {
    pub(super) fn new(socket: OwnedWriteHalf) -> Self {
        Self { socket, sent: 0 }
    }

    /// Sends what can be sent at once; whether that was all. What was not is for
    /// [`finish`](Self::finish).
    pub(super) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.sent = match self.socket.try_write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            // The next attempt fails as well, and says so.
            Err(_) => 0,
        };
        self.sent == bytes.len()
    }

    /// Sends what [`try_send`](Self::try_send) left; false when the other side does not take it.
    pub(super) async fn finish(&mut self, bytes: &[u8]) -> bool {
        let rest = bytes.get(self.sent..).unwrap_or_default();
        matches!(
            timeout(STALLED, self.socket.write_all(rest)).await,
            Ok(Ok(()))
        )
    }

    /// Sends it all; false when the other side does not take it.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.try_send(bytes) || self.finish(bytes).await
    }

    /// Sends it and ends the stream, within `patience`.
    pub(super) async fn send_and_close(&mut self, bytes: &[u8], patience: Duration) {
        let _ = timeout(patience, self.send(bytes)).await;
        let _ = self.socket.shutdown().await;
    }
}

//! The TCP stream under a Modbus connection, watched: a frame that cannot be Modbus and a connection
//! that was closed are told apart from a device that is silent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes before the length field's own count: transaction id, protocol id, length.
const PREFIX: usize = 6;
/// Unit id, and at least a function code and one byte more.
const SHORTEST: u16 = 3;
/// Unit id and the longest PDU (Modbus Application Protocol V1.1b3, 4.1).
const LONGEST: u16 = 254;

/// A stream whose incoming bytes are checked to be a sequence of MBAP frames.
#[derive(Debug)]
pub(super) struct Wire<T> {
    stream: T,
    prefix: [u8; PREFIX],
    in_prefix: usize,
    in_body: usize,
}

impl<T> Wire<T> {
    pub(super) fn new(stream: T) -> Self {
        Self {
            stream,
            prefix: [0; PREFIX],
            in_prefix: 0,
            in_body: 0,
        }
    }

    fn check(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.in_body > 0 {
                let skip = self.in_body.min(bytes.len());
                self.in_body -= skip;
                bytes = bytes.get(skip..).unwrap_or_default();
                continue;
            }
            if let Some(slot) = self.prefix.get_mut(self.in_prefix) {
                *slot = *first;
            }
            self.in_prefix += 1;
            bytes = rest;
            if self.in_prefix == PREFIX {
                self.in_prefix = 0;
                let [_, _, p0, p1, l0, l1] = self.prefix;
                let protocol = u16::from_be_bytes([p0, p1]);
                let length = u16::from_be_bytes([l0, l1]);
                if protocol != 0 {
                    return Err(malformed(format!("the protocol id is {protocol}, not 0")));
                }
                if !(SHORTEST..=LONGEST).contains(&length) {
                    return Err(malformed(format!(
                        "the frame length is {length}, not between {SHORTEST} and {LONGEST}"
                    )));
                }
                self.in_body = length.into();
            }
        }
        Ok(())
    }
}

fn malformed(what: String) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("malformed frame: {what}"),
    )
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        match buf.filled().get(before..) {
            Some(new) if !new.is_empty() => Poll::Ready(this.check(new)),
            // Only an error tells the reader of a closed connection from the errno that the thread
            // happens to have.
            _ => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the device closed the connection",
            ))),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(length: u16) -> Vec<u8> {
        let mut frame = vec![0, 1, 0, 0];
        frame.extend(length.to_be_bytes());
        frame.extend(vec![9; length.into()]);
        frame
    }

    #[test]
    fn what_is_no_modbus_is_refused_at_its_sixth_byte() {
        for (bytes, said) in [
            (&b"HTTP/1.1 400 Bad Request"[..], "protocol id"),
            (&[0, 1, 0, 0, 0, 2, 1], "length is 2"),
            (&[0, 1, 0, 0, 0, 255], "length is 255"),
            (&[0, 1, 0, 0, 0xff, 0xff], "length is 65535"),
        ] {
            let error = Wire::new(()).check(bytes).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn frames_pass_however_they_are_cut(
            lengths in prop::collection::vec(SHORTEST..=LONGEST, 1..5),
            cuts in prop::collection::vec(1usize..50, 1..100),
        ) {
            let bytes: Vec<u8> = lengths.into_iter().flat_map(frame).collect();
            let mut wire = Wire::new(());
            let mut rest = &bytes[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                prop_assert!(wire.check(now).is_ok());
                rest = later;
            }
            prop_assert!(wire.check(rest).is_ok());
            prop_assert_eq!((wire.in_prefix, wire.in_body), (0, 0));
        }
    }
}

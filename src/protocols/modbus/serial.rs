//! A serial port under RTU frames.

use super::transport::{Parity, SerialLine};
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout};
use tokio_serial::{DataBits, SerialPortBuilderExt, SerialStream, StopBits};

/// The line is quiet when nothing came for so long: longer than adapters keep bytes back (16 ms is
/// usual for those on USB).
const QUIET: Duration = Duration::from_millis(25);

/// An open port. Its clones are the same port: whoever speaks over it can be replaced without closing
/// it, which would pull a modem line and reset some devices.
#[derive(Clone, Debug)]
pub(super) struct OpenPort(Arc<Mutex<SerialStream>>);

impl OpenPort {
    /// Opens and sets the port. No other program can open it meanwhile.
    pub(super) fn open(line: &SerialLine) -> Result<Self, String> {
        let parity = match line.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        };
        let stop_bits = match line.stop_bits {
            2 => StopBits::Two,
            _ => StopBits::One,
        };
        let port = tokio_serial::new(&line.port, line.baud)
            .data_bits(DataBits::Eight)
            .parity(parity)
            .stop_bits(stop_bits)
            .open_native_async()
            .map_err(|error| in_plain_words(&error))?;
        Ok(Self(Arc::new(Mutex::new(port))))
    }

    /// Throws away what comes until the line is quiet, at most for `limit`: an answer that is late
    /// must not be taken for the next one's.
    pub(super) async fn until_quiet(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut rubbish = [0; 256];
        while Instant::now() < until {
            match timeout(QUIET, self.read(&mut rubbish)).await {
                Ok(Ok(1..)) => {}
                _ => return,
            }
        }
    }
}

fn in_plain_words(error: &tokio_serial::Error) -> String {
    use tokio_serial::ErrorKind;
    let what = match error.kind() {
        ErrorKind::Io(io::ErrorKind::NotFound) | ErrorKind::NoDevice => {
            "there is no such serial port, or another program has it; is the adapter in?"
        }
        ErrorKind::Io(io::ErrorKind::PermissionDenied) => {
            "the serial port may not be opened; on Linux add the user to the group `dialout`"
        }
        ErrorKind::InvalidInput => "the serial port cannot be set like this",
        _ => "the serial port cannot be opened",
    };
    format!("{what} ({error})")
}

impl AsyncRead for OpenPort {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_read(cx, buf)
    }
}

impl AsyncWrite for OpenPort {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_shutdown(cx)
    }
}

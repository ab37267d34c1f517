//! The log of a running hub: a thread of its own writes it, so that a reader who stops reading (a full
//! pipe, a journal that hangs) stops nobody's work. What does not fit meanwhile is dropped, and the log
//! says how much as soon as it is read again.

use crate::config::LogFormat;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written.
const LINES: usize = 4_096;
/// How long the end of the program waits for the last of them.
const FAREWELL: Duration = Duration::from_secs(1);

enum Word {
    Line(Vec<u8>),
    /// Everything before it is written when the other end hears of it.
    End(SyncSender<()>),
}

/// Where the log goes. Cheap to clone.
#[derive(Clone)]
struct Pen {
    words: SyncSender<Word>,
    dropped: Arc<AtomicU64>,
}

/// The log; dropping it waits, shortly, until all of it is written.
pub(super) struct Log(Pen);

/// Starts the log on standard error. `RUST_LOG` wins over `filter`, as everywhere.
pub(super) fn start(filter: &str, format: LogFormat, colour: bool) -> Log {
    let pen = Pen::new(io::stderr());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(pen.clone());
    // Already set by an embedding program or a test: theirs counts.
    let _ = match format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.with_ansi(colour).try_init(),
    };
    Log(pen)
}

impl Pen {
    fn new(out: impl Write + Send + 'static) -> Self {
        let (words, waiting) = sync_channel(LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = dropped.clone();
        let thread = std::thread::Builder::new().name("log".to_owned());
        if let Err(error) = thread.spawn(move || write(&waiting, &lost, out)) {
            eprintln!("there is no thread for the log, so there is none: {error}");
        }
        Self { words, dropped }
    }
}

/// Writes what comes. What cannot be written is nobody's to hear of.
fn write(waiting: &Receiver<Word>, lost: &AtomicU64, mut out: impl Write) {
    for word in waiting {
        match word {
            Word::Line(line) => drop(out.write_all(&line)),
            Word::End(done) => drop(done.try_send(())),
        }
        let dropped = lost.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = writeln!(
                out,
                "{dropped} lines of the log are missing here: nobody read it in time"
            );
        }
    }
}

impl Write for Pen {
    /// One line, as the subscriber writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.words.try_send(Word::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Pen {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        let until = Instant::now() + FAREWELL;
        let mut end = Word::End(done);
        while let Err(TrySendError::Full(again)) = self.0.words.try_send(end) {
            if Instant::now() > until {
                return;
            }
            end = again;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Takes nothing until it is told to.
    struct Stuck(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_holds_up_nobody_and_says_what_is_missing() {
        let (read, stuck) = std::sync::mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut pen = Pen::new(Stuck(stuck, written.clone()));
        for i in 0..2 * LINES {
            pen.write_all(format!("line {i}\n").as_bytes()).unwrap();
        }
        // From now on somebody reads.
        drop(read);
        drop(Log(pen));
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "line 0");
        let of_log = lines.iter().filter(|l| l.starts_with("line ")).count();
        let said: usize = lines
            .iter()
            .filter_map(|line| {
                line.strip_suffix(" lines of the log are missing here: nobody read it in time")
            })
            .map(|count| count.parse::<usize>().unwrap())
            .sum();
        assert!(said > 0);
        assert_eq!(of_log + said, 2 * LINES);
    }
}

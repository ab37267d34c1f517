//! The engine's log: its own format and its own order of events, synced once for what it has to be synced for.
//!
//! The engine asks for a sync before each thing that it says, before each round and before each decision, whether
//! anything was written since the last one or not, and syncs when it begins a height, which says nothing yet. On a
//! disk that others use as well a sync is most of what a height takes. Here what was written and is not synced is
//! synced when it is asked for, as it must be before a vote leaves; where nothing was written nothing is done, and an
//! emptied log is synced with the first entry of its height.
//!
//! An emptied log that a power failure undoes is the log of the height before, of which the store has the decision:
//! the engine empties it again. If only its new height survives, with entries of the old one behind it, they are votes
//! of a height that is over, which the engine lets go of.

use super::codec::Forms;
use super::context::{Context, Height};
use arc_malachitebft_app::consensus::Input;
use arc_malachitebft_app::engine::node::{NodeMsg, NodeRef};
use arc_malachitebft_app::engine::wal::{Msg, WalRef, decode_entry, encode_entry};
use arc_malachitebft_app::wal::{Storage, log};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// The file; its syncs do nothing where there is nothing to sync.
struct Kept {
    file: File,
    dirty: bool,
    /// What is asked to be synced now is synced with what comes next.
    later: Arc<AtomicBool>,
}

impl Read for Kept {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.read(into)
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.dirty = true;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Kept {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Storage for Kept {
    type OpenOptions = Arc<AtomicBool>;

    fn open_with(path: impl AsRef<Path>, later: Self::OpenOptions) -> io::Result<Self> {
        Ok(Self {
            // Locked as the engine's own is.
            file: <File as Storage>::open_with(path, ())?,
            dirty: true,
            later,
        })
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Storage::size_bytes(&self.file)
    }

    fn truncate_to(&mut self, size: u64) -> io::Result<()> {
        self.dirty = true;
        self.file.set_len(size)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        if self.dirty && !self.later.load(Ordering::Relaxed) {
            // The length of a file belongs to what this syncs.
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }
}

/// The log, on a thread of its own.
struct Writing {
    log: log::Log<Kept>,
    later: Arc<AtomicBool>,
    forms: Forms,
    height: Height,
    /// Entries were written since the last sync.
    entered: bool,
}

/// Whom the engine gives what it logs.
struct Logger;

#[async_trait::async_trait]
impl Actor for Logger {
    type Msg = Msg<Context>;
    type State = Sender<Msg<Context>>;
    type Arguments = Sender<Msg<Context>>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        thread: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(thread)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        thread: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // A thread that is gone answers nobody: the engine takes that for what it is.
        let _ = thread.send(message);
        Ok(())
    }
}

/// Opens the log, and the actor that has it.
pub async fn open(path: &Path, forms: Forms, node: NodeRef) -> io::Result<WalRef<Context>> {
    let later = Arc::new(AtomicBool::new(false));
    let log = log::Log::open_with(path, later.clone())?;
    let mut writing = Writing {
        log,
        later,
        forms,
        height: Height::default(),
        entered: false,
    };
    let (messages, asked) = channel();
    let spawned = Actor::spawn(None, Logger, messages).await;
    let (actor, _) = spawned.map_err(io::Error::other)?;
    let thread = std::thread::Builder::new().name("consensus log".to_owned());
    thread.spawn(move || {
        let worked = catch_unwind(AssertUnwindSafe(|| writing.work(&asked)));
        if worked.is_err() {
            let why = "the thread of the consensus log panicked".to_owned();
            let _ = node.cast(NodeMsg::SafetyFailure(why));
        }
    })?;
    Ok(actor)
}

impl Writing {
    /// Until the actor is gone.
    fn work(&mut self, asked: &Receiver<Msg<Context>>) {
        for message in asked {
            match message {
                Msg::StartedHeight(height, reply) => {
                    let entries = match self.height == height {
                        true => Ok(Vec::new()),
                        false => self.begin(height),
                    };
                    let _ = reply.send(entries.map_err(Into::into));
                }
                Msg::Reset(height, reply) => {
                    let _ = reply.send(self.empty(height).map_err(Into::into));
                }
                Msg::Append(height, entry, reply) => {
                    let written = match self.height == height {
                        true => self.append(entry),
                        false => {
                            tracing::warn!(
                                of = height.0,
                                at = self.height.0,
                                "an entry of another height is not logged"
                            );
                            Ok(())
                        }
                    };
                    let _ = reply.send(written.map_err(Into::into));
                }
                Msg::Flush(reply) => {
                    let _ = reply.send(self.sync().map_err(Into::into));
                }
                Msg::Dump => {}
            }
        }
    }

    /// The entries of this height from before a stop; an empty log where it is of another one.
    fn begin(&mut self, height: Height) -> io::Result<Vec<io::Result<Input<Context>>>> {
        if self.log.sequence() != height.0 {
            self.empty(height)?;
            return Ok(Vec::new());
        }
        self.height = height;
        let mut entries = Vec::new();
        let mut broken = None;
        if !self.log.is_empty() {
            for (at, entry) in self.log.iter()?.enumerate() {
                let last = entry.is_err();
                let read = entry.and_then(|bytes| decode_entry(&self.forms, Cursor::new(bytes)));
                entries.push(read);
                if last {
                    broken = Some(at as u64);
                    break;
                }
            }
        }
        if let Some(at) = broken {
            self.log.truncate(at)?;
        }
        Ok(entries)
    }

    fn empty(&mut self, height: Height) -> io::Result<()> {
        self.height = height;
        self.later.store(true, Ordering::Relaxed);
        let emptied = self.log.reset(height.0);
        self.later.store(false, Ordering::Relaxed);
        self.entered = false;
        emptied
    }

    fn append(&mut self, entry: Input<Context>) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode_entry(entry, &self.forms, &mut bytes)?;
        if !bytes.is_empty() {
            // Also where it fails: a part of it may be there.
            self.entered = true;
            self.log.append(&bytes)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.entered {
            self.log.flush()?;
            self.entered = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> (log::Log<Kept>, Arc<AtomicBool>) {
        let later = Arc::new(AtomicBool::new(false));
        (log::Log::open_with(path, later.clone()).unwrap(), later)
    }

    #[test]
    fn what_is_in_the_file_is_what_the_engines_own_log_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, later) = open(&path);
        log.reset(7).unwrap();
        later.store(true, Ordering::Relaxed);
        log.append(b"of the height before").unwrap();
        log.reset(8).unwrap();
        later.store(false, Ordering::Relaxed);
        log.append(b"one").unwrap();
        log.append(b"two").unwrap();
        log.flush().unwrap();
        drop(log);
        let mut read = arc_malachitebft_app::wal::Log::open(&path).unwrap();
        assert_eq!(read.sequence(), 8);
        let entries: Vec<_> = read.iter().unwrap().map(Result::unwrap).collect();
        assert_eq!(entries, [b"one".to_vec(), b"two".to_vec()]);
    }
}

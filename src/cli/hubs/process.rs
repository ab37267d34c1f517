//! A hub in a process of its own: started, frozen, killed, ended, always by its own process id; and what it says.

use super::Place;
use anyhow::{Context, bail};
use serde_json::Value as Json;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// How often it is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Something that a hub said, or that happened to it.
#[derive(Debug)]
pub(in crate::cli) struct News {
    /// Which hub, by its place.
    pub(in crate::cli) hub: usize,
    /// In which of its lives.
    pub(in crate::cli) life: u32,
    /// When it was read.
    pub(in crate::cli) at: Instant,
    pub(in crate::cli) said: Said,
}

/// What it said.
#[derive(Debug)]
pub(in crate::cli) enum Said {
    /// It is up: it is one of those that decide, and its faces are open.
    Up,
    /// A block is durable there, with its certificate.
    Block(Json),
    /// Its output has ended, and so has it.
    Gone,
}

/// The process. One that is dropped is killed.
pub(in crate::cli) struct HubProcess {
    child: Child,
    frozen: bool,
}

impl HubProcess {
    /// Starts the hub of this place; what it says is sent, what it logs goes to `hub.log` there.
    pub(in crate::cli) fn start(
        (hub, place): (usize, &Place),
        life: u32,
        news: SyncSender<News>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own path is not known")?;
        let file = place.dir.join("hub.log");
        let log = OpenOptions::new().create(true).append(true).open(&file);
        let log = log.with_context(|| format!("{} cannot be written", file.display()))?;
        let mut child = Command::new(program)
            .args(["run", "--json", "--config"])
            .arg(&place.config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("a hub's process cannot be started")?;
        let out = child.stdout.take().context("the hub says nothing")?;
        std::thread::spawn(move || {
            let tell = |said| {
                let at = Instant::now();
                news.send(News {
                    hub,
                    life,
                    at,
                    said,
                })
            };
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let Ok(line) = serde_json::from_str::<Json>(&line) else {
                    continue;
                };
                let event = line.get("event").and_then(Json::as_str);
                let told = match event {
                    Some("up") => tell(Said::Up),
                    Some("block") => tell(Said::Block(line)),
                    _ => Ok(()),
                };
                if told.is_err() {
                    // Nobody listens, but the hub must not wait for that.
                    continue;
                }
            }
            let _ = tell(Said::Gone);
        });
        Ok(Self {
            child,
            frozen: false,
        })
    }

    /// Its process.
    pub(in crate::cli) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it stands still.
    pub(in crate::cli) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Ends it as a power failure would, as far as a process can tell.
    pub(in crate::cli) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Has it stand still, with its connections open, or go on.
    #[cfg(unix)]
    pub(in crate::cli) fn freeze(&mut self, frozen: bool) -> anyhow::Result<()> {
        use rustix::process::Signal;
        self.signal(match frozen {
            true => Signal::STOP,
            false => Signal::CONT,
        })?;
        self.frozen = frozen;
        Ok(())
    }

    #[cfg(not(unix))]
    pub(in crate::cli) fn freeze(&mut self, _: bool) -> anyhow::Result<()> {
        bail!("a process cannot be stopped here")
    }

    #[cfg(unix)]
    fn signal(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        let id = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(id, signal)?)
    }

    /// Asks it to end in good order.
    pub(in crate::cli) fn ask_to_end(&mut self) -> anyhow::Result<()> {
        #[cfg(unix)]
        {
            if self.frozen {
                self.freeze(false)?;
            }
            // One that has ended by itself is still known by its id until it is waited for.
            self.signal(rustix::process::Signal::TERM)
        }
        #[cfg(not(unix))]
        Ok(self.child.kill()?)
    }

    /// Waits until it has ended; one that does not until then is killed, and that is said.
    pub(in crate::cli) fn ended(mut self, until: Instant) -> anyhow::Result<()> {
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= until {
                let id = self.id();
                self.kill()?;
                bail!("the hub's process {id} did not end in time, and was killed");
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for HubProcess {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

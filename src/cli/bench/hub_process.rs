//! A hub in a process of its own, so that it can be killed.

use anyhow::{Context, anyhow};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The process; killed when it is dropped.
pub(super) struct HubProcess {
    child: Child,
    /// What it said when it was up.
    up: Json,
}

impl HubProcess {
    /// Starts a hub with this configuration file and waits until it is up.
    pub(super) fn start(config: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own path is not known")?;
        let mut child = Command::new(program)
            .args(["run", "--json", "--config"])
            .arg(config)
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the hub's process cannot be started")?;
        let out = child.stdout.take().context("the hub says nothing")?;
        let mut hub = Self {
            child,
            up: Json::Null,
        };
        let mut lines = BufReader::new(out).lines();
        let up = lines.next().context("the hub ended before it was up")??;
        hub.up = serde_json::from_str(&up)?;
        // The rest must be read, or the hub would wait for it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(hub)
    }

    /// What it said of itself under `name`: an address of one of its faces.
    pub(super) fn said(&self, name: &str) -> anyhow::Result<&str> {
        let said = self.up.get(name).and_then(Json::as_str);
        said.ok_or_else(|| anyhow!("the hub has no {name}"))
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power failure would, as far as a process can tell.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
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

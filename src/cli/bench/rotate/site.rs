//! The hub and the edge node whose keys are replaced: their directories, made by this program's own commands,
//! and their processes.

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// The hub's id.
pub(super) const HUB: &str = "hub-1";
/// The edge node's.
pub(super) const EDGE: &str = "edge-1";
/// The chain's.
const CHAIN: &str = "main";
/// Who replaces keys, and writes to machines.
pub(super) const ADMIN: &str = "admin";
/// Who gets another password.
pub(super) const ANNA: &str = "anna";
/// Who gets another certificate.
pub(super) const CARL: &str = "carl";
/// Who reads with a key of their own.
pub(super) const RITA: &str = "rita";
/// Machines of the hub, and as many behind the edge node.
pub(super) const MACHINES: usize = 2;
/// How long anything may take that is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What a machine is called, `far` behind the edge node.
pub(super) fn machine(far: bool, index: usize) -> String {
    format!("{}-{index}", if far { "far" } else { "press" })
}

/// The directory of all of it.
pub(super) struct Site {
    pub(super) dir: PathBuf,
    machines: Vec<SocketAddr>,
    pub(super) url: String,
    edge_address: String,
}

impl Site {
    /// Makes keys, users and configurations, with a machine at each of these addresses.
    pub(super) fn make(dir: &Path, machines: Vec<SocketAddr>) -> anyhow::Result<Self> {
        let site = Self {
            dir: dir.to_owned(),
            machines,
            url: String::new(),
            edge_address: String::new(),
        };
        site.tool(&["init", &site.text("plant"), "--id", HUB])?;
        site.tool(&["edge", "init", &site.text("cell"), "--id", EDGE])?;
        for user in [ADMIN, ANNA, CARL, RITA] {
            site.password(user, 0)?;
            let file = site.text(&format!("{user}.txt"));
            site.hub_tool(&["user", "add", user, "--password-file", &file])?;
        }
        site.configure(&site.dir.join("cell/keys/edge.key"), None)?;
        Ok(site)
    }

    /// A path in the directory.
    pub(super) fn text(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Writes another password of `user` into its file.
    pub(super) fn password(&self, user: &str, number: u32) -> anyhow::Result<String> {
        let password = format!("{user} may come in, {number}");
        std::fs::write(self.dir.join(format!("{user}.txt")), &password)?;
        Ok(password)
    }

    /// Writes both configurations, for the edge node's key in `file`; `card` is what the edge node knows of the
    /// hub.
    fn configure(&self, file: &Path, card: Option<&str>) -> anyhow::Result<()> {
        let edge = format!(
            "[edge]\nid = \"{EDGE}\"\nsigning_key = {:?}\n{}[buffer]\ndir = \"buffer\"\n",
            file.display().to_string(),
            card.unwrap_or_default(),
        );
        let (near, far) = self.machines.split_at(MACHINES);
        let devices = |machines: &[SocketAddr], far: bool| {
            let devices = machines.iter().enumerate();
            let devices = devices.map(|(i, at)| device(&machine(far, i), *at));
            devices.collect::<String>()
        };
        let file = self.dir.join("cell/edge.toml");
        std::fs::write(&file, edge + &devices(far, true))?;
        let of_edge = self.tool(&["edge", "card", "--config", &file.display().to_string()])?;
        let users = [
            (
                ADMIN,
                "\"supervisor\", \"engineer\", \"auditor\", \"security_admin\"",
            ),
            (ANNA, "\"supervisor\""),
            (CARL, "\"observer\""),
            (RITA, "\"observer\""),
        ];
        let users = users
            .map(|(name, roles)| format!("[[http.users]]\nname = \"{name}\"\nroles = [{roles}]\n"));
        let hub = format!(
            "[hub]\nid = \"{HUB}\"\n[ledger]\nchain = \"{CHAIN}\"\nmax_delay_ms = 100\n\
             [http]\nbind = \"127.0.0.1:0\"\nlog_in = true\ntls = true\nclient_certificates = true\n{}\
             [access]\nflood_requests = 0\n\
             [opcua_server]\nbind = \"127.0.0.1:0\"\nanonymous_roles = [\"engineer\"]\n\
             [edges]\nbind = \"127.0.0.1:0\"\n{of_edge}\n",
            users.concat()
        );
        let file = self.dir.join("plant/hub.toml");
        std::fs::write(file, hub + &devices(near, false))?;
        Ok(())
    }

    /// Runs a command of this program, and returns what it says.
    pub(super) fn tool(&self, args: &[&str]) -> anyhow::Result<String> {
        self.tool_as(ADMIN, args)
    }

    /// The same in the session of `user`.
    pub(super) fn tool_as(&self, user: &str, args: &[&str]) -> anyhow::Result<String> {
        let program = std::env::current_exe().context("this program's own path is not known")?;
        let done = Command::new(program)
            .args(args)
            .current_dir(&self.dir)
            .env("XDG_CONFIG_HOME", self.dir.join("settings").join(user))
            .env("WEIGHBRIDGE_URL", &self.url)
            .env("WEIGHBRIDGE_CA", self.dir.join("plant/pki/authority.crt"))
            .stdin(Stdio::null())
            .output()
            .context("a command cannot be started")?;
        let (out, error) = (done.stdout, String::from_utf8_lossy(&done.stderr));
        let said = format!("`weighbridge {}` fails: {error}", args.join(" "));
        ensure!(done.status.success(), said);
        Ok(String::from_utf8(out)?)
    }

    /// A command that is told where the hub's configuration is.
    pub(super) fn hub_tool(&self, args: &[&str]) -> anyhow::Result<String> {
        let config = self.text("plant/hub.toml");
        self.tool(&[args, &["--config", &config]].concat())
    }

    /// Starts the hub.
    pub(super) fn start_hub(&mut self) -> anyhow::Result<Running> {
        let hub = Running::start(&self.dir.join("plant/hub.toml"))?;
        self.url = hub.said("http_url")?.trim_end_matches('/').to_owned();
        self.edge_address = hub.said("edge_address")?.to_owned();
        Ok(hub)
    }

    /// Starts the edge node of the hub that was started last.
    pub(super) fn start_edge(&self) -> anyhow::Result<Running> {
        self.edge_has(&self.dir.join("cell/keys/edge.key"))?;
        Running::start(&self.dir.join("cell/edge.toml"))
    }

    /// From now on the edge node's key is in `file`: both configurations say so.
    pub(super) fn edge_has(&self, file: &Path) -> anyhow::Result<()> {
        let hub = self.text("plant/hub.toml");
        let card = self.tool(&["edge", "card", "--config", &hub])?;
        // The hub listens where the system let it.
        let (before, after) = card.split_once("address = \"").context("a card")?;
        let (_, after) = after.split_once('"').context("a card")?;
        let card = format!("{before}address = \"{}\"{after}", self.edge_address);
        self.configure(file, Some(&card))
    }

    /// Logs `user` in for the commands to come.
    pub(super) fn log_in(&self, user: &str, how: &[&str]) -> anyhow::Result<()> {
        let ca = self.text("plant/pki/authority.crt");
        let log_in = [&["login", &self.url, "--ca", &ca], how].concat();
        self.tool_as(user, &log_in).map(drop)
    }

    /// Where the hub's HTTP face is.
    pub(super) fn http(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.url.trim_start_matches("https://").parse()?)
    }
}

fn device(id: &str, at: SocketAddr) -> String {
    format!(
        "[[device]]\nid = \"{id}\"\nmodbus = {{ address = \"{at}\", period_ms = 100 }}\n\
         [[device.tag]]\nname = \"setpoint\"\nwritable = true\n\
         modbus = {{ holding_register = 0, type = \"u32\" }}\n\
         [[device.tag]]\nname = \"pressure\"\nmodbus = {{ holding_register = 2, type = \"u16\" }}\n"
    )
}

/// A hub or an edge node in a process of its own; killed when it is dropped.
pub(super) struct Running {
    child: Child,
    up: Json,
    /// What it says, and when.
    said: Receiver<(Instant, Json)>,
}

impl Running {
    fn start(config: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own path is not known")?;
        let mut child = Command::new(program)
            .args(["run", "--json", "--config"])
            .arg(config)
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("a process cannot be started")?;
        let out = child.stdout.take().context("the process says nothing")?;
        let (says, said) = channel();
        // The rest must be read, or the process would wait for it.
        std::thread::spawn(move || tell(BufReader::new(out), &says));
        let mut running = Self {
            child,
            up: Json::Null,
            said,
        };
        running.up = running.next("up")?;
        Ok(running)
    }

    fn said(&self, name: &str) -> anyhow::Result<&str> {
        let said = self.up.get(name).and_then(Json::as_str);
        said.ok_or_else(|| anyhow!("the process has no {name}"))
    }

    /// Where its OPC UA server is.
    pub(super) fn opcua(&self) -> anyhow::Result<String> {
        self.said("opcua_url").map(str::to_owned)
    }

    /// The next `event` that it tells of.
    pub(super) fn next(&self, event: &str) -> anyhow::Result<Json> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (_, line) = self.said.recv_timeout(left).map_err(|error| match error {
                RecvTimeoutError::Timeout => anyhow!("it does not tell of `{event}`"),
                RecvTimeoutError::Disconnected => anyhow!("it ended before `{event}`"),
            })?;
            if line.get("event").and_then(Json::as_str) == Some(event) {
                return Ok(line);
            }
        }
    }

    /// Waits until a block has a batch of `device`.
    pub(super) fn records(&self, device: &str) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let block = self.next("block")?;
            let batches = block.get("batches").and_then(Json::as_array);
            let of = |batch: &Json| batch.get("device").is_some_and(|of| of == device);
            if batches.is_some_and(|batches| batches.iter().any(of)) {
                return Ok(());
            }
        }
        bail!("nothing of {device} is recorded")
    }

    /// When it told of each block since it was asked last.
    pub(super) fn blocks(&self) -> Vec<Instant> {
        let said = self.said.try_iter();
        let blocks = said.filter(|(_, line)| line.get("event").is_some_and(|e| e == "block"));
        blocks.map(|(when, _)| when).collect()
    }

    /// Ends it in good order.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status()?;
        ensure!(told.success(), "the process {id} cannot be told to end");
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the process {id} ended with {status}");
                return Ok(());
            }
            ensure!(Instant::now() < until, "the process {id} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn tell(lines: impl BufRead, says: &Sender<(Instant, Json)>) {
    for line in lines.lines().map_while(Result::ok) {
        let Ok(line) = serde_json::from_str(&line) else {
            continue;
        };
        if says.send((Instant::now(), line)).is_err() {
            return;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

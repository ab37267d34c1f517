//! A small plant for the tests: a directory made by `weighbridge init`, a simulated machine, and hubs
//! that are started, read and killed as a user would.

use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Lines, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use weighbridge::ledger::query::Explorer;
use weighbridge::store::FjallStore;

/// The program under test.
pub fn weighbridge() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weighbridge"))
}

/// Runs the program to its end.
pub fn run(args: &[&str]) -> Output {
    weighbridge().args(args).output().unwrap()
}

/// Runs the program, which must succeed, and reads the JSON that it prints.
pub fn run_json(args: &[&str]) -> Json {
    let output = run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A small generator (xorshift64*), so that a run can be replayed: `WEIGHBRIDGE_SEED=… cargo test`.
pub struct Random {
    pub seed: u64,
    state: u64,
}

impl Random {
    /// From `WEIGHBRIDGE_SEED`, or from the clock.
    pub fn from_env() -> Self {
        let given = std::env::var("WEIGHBRIDGE_SEED").ok();
        let seed = given.and_then(|s| s.parse().ok());
        let seed = seed
            .unwrap_or_else(|| weighbridge::model::now() as u64)
            .max(1);
        eprintln!("WEIGHBRIDGE_SEED={seed}");
        Self::seeded(seed)
    }

    /// From `seed`, which is not 0.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// Another generator, for something that runs beside: the same for the same seed.
    pub fn fork(&mut self) -> Self {
        Self::seeded((self.below(1 << 31) << 31 | self.below(1 << 31)).max(1))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// What a process said on standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Sends a signal: `-INT`, as Ctrl-C does, or `-TERM`, as an operating system that shuts down does.
#[cfg(unix)]
pub fn signal(child: &Child, signal: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args([signal, &id]).status().unwrap();
    assert!(sent.success());
}

/// The program came to an end by itself: no panic, no signal.
pub fn ended(output: &Output) -> i32 {
    let said = stderr(output);
    assert!(!said.contains("panicked"), "{said}");
    let code = output.status.code();
    code.unwrap_or_else(|| panic!("{:?}: {said}", output.status))
}

/// The program failed in good order and said why; what it said.
pub fn failed(output: &Output) -> String {
    assert_eq!(ended(output), 1, "{}", stderr(output));
    let said = stderr(output);
    assert!(said.contains("error: "), "{said}");
    said
}

/// A directory with keys and configuration, and a machine to read.
pub struct Plant {
    dir: tempfile::TempDir,
    sim: Option<Child>,
}

const CONFIG: &str = "[hub]\nid = \"hub-1\"\n\n[ledger]\nmax_records = 8\nmax_delay_ms = 10\n\n\
    [http]\nbind = \"127.0.0.1:0\"\n\n[opcua_server]\nbind = \"127.0.0.1:0\"\n";

fn config_of(suite: &str) -> String {
    match suite {
        // It is the default, and then the file does not say it.
        "nist" => CONFIG.to_owned(),
        other => CONFIG.replace("[ledger]\n", &format!("[ledger]\nsuite = \"{other}\"\n")),
    }
}

impl Plant {
    /// `init`, and no machine.
    pub fn without_machines() -> Self {
        Self::of("nist")
    }

    /// `init --suite`, and no machine.
    fn of(suite: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plant = dir.path().join("plant");
        let init = run(&["init", plant.to_str().unwrap(), "--suite", suite]);
        assert!(init.status.success(), "{}", stderr(&init));
        std::fs::write(plant.join("hub.toml"), config_of(suite)).unwrap();
        Self { dir, sim: None }
    }

    /// `init`, and a simulated PLC in a process of its own, which outlives the hubs.
    pub fn start() -> Self {
        Self::with_machines(2, 20)
    }

    /// The same with so many PLCs of so many registers.
    pub fn with_machines(machines: usize, registers: usize) -> Self {
        Self::of_with_machines("nist", machines, registers)
    }

    /// The same with keys and ledger of this suite.
    pub fn of_with_machines(suite: &str, machines: usize, registers: usize) -> Self {
        let mut plant = Self::of(suite);
        let (devices, each) = (machines.to_string(), registers.to_string());
        let mut sim = weighbridge()
            .args([
                "sim",
                "--bench-devices",
                &devices,
                "--bench-registers",
                &each,
            ])
            .args(["--for", "600", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(sim.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ports: Json = serde_json::from_str(&line).unwrap();
        let mut config = config_of(suite);
        for (i, port) in ports["ports"].as_array().unwrap().iter().enumerate() {
            config += &format!(
                "\n[[device]]\nid = \"plc-{i}\"\nbatch = {{ samples = 200, milliseconds = 20 }}\n\
                 modbus = {{ address = \"127.0.0.1:{port}\", period_ms = 2 }}\n"
            );
            for register in 0..registers {
                config += &format!(
                    "\n[[device.tag]]\nname = \"r{register}\"\n\
                     modbus = {{ holding_register = {register}, type = \"u16\" }}\n"
                );
            }
        }
        std::fs::write(plant.path("hub.toml"), config).unwrap();
        plant.sim = Some(sim);
        plant
    }

    /// Adds to the configuration.
    pub fn configure(&self, more: &str) {
        let file = self.path("hub.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, config + more).unwrap();
    }

    /// Gives everybody who comes by HTTP these roles.
    pub fn http_roles(&self, roles: &[&str]) {
        let file = self.path("hub.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        let given = format!("[http]\nroles = {roles:?}\n");
        assert!(config.contains("[http]\n"), "{config}");
        std::fs::write(file, config.replace("[http]\n", &given)).unwrap();
    }

    /// A file or directory of the plant.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join("plant").join(file)
    }

    /// Starts a hub and waits until it is up.
    pub fn run_hub(&self) -> RunningHub {
        RunningHub::start(&self.path("hub.toml"))
    }

    /// `weighbridge verify` finds nothing.
    pub fn verify_is_clean(&self) {
        let verified = run(&["verify", self.path("data").to_str().unwrap()]);
        let said = String::from_utf8_lossy(&verified.stdout);
        let error = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success(), "{said}{error}");
    }

    /// The ledger of the stopped hub.
    pub fn open_ledger(&self) -> Explorer {
        let store = FjallStore::open(&self.path("data")).unwrap();
        Explorer::new(std::sync::Arc::new(store))
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        if let Some(sim) = &mut self.sim {
            drop(sim.stdin.take());
            let _ = sim.kill();
            let _ = sim.wait();
        }
    }
}

/// A block as `run --json` prints it.
pub struct PrintedBlock {
    pub height: u64,
    pub hash: String,
    /// Device, epoch and sequence.
    pub batches: Vec<(String, u64, u64)>,
}

/// A hub in a process of its own that was started, and is killed when nobody waits for it any more.
pub struct StartingHub {
    child: Option<Child>,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl StartingHub {
    /// Starts a hub with a log of `level`, which goes to `log`.
    pub fn of(config: &Path, level: &str, log: Stdio) -> Self {
        let mut child = weighbridge()
            .args(["run", "--json", "--config", config.to_str().unwrap()])
            .env("RUST_LOG", level)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child: Some(child),
            lines: Some(lines),
        }
    }

    /// Waits until it is up, or has ended by itself.
    pub fn up(mut self) -> Result<RunningHub, Output> {
        let first = self.lines.as_mut().and_then(Iterator::next);
        let (child, lines) = (self.child.take().unwrap(), self.lines.take().unwrap());
        match first {
            Some(up) => {
                let up = serde_json::from_str(&up.unwrap()).unwrap();
                Ok(RunningHub { child, lines, up })
            }
            None => Err(child.wait_with_output().unwrap()),
        }
    }
}

impl Drop for StartingHub {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A hub in a process of its own.
pub struct RunningHub {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it said when it was up.
    pub up: Json,
}

impl RunningHub {
    fn start(config: &Path) -> Self {
        Self::try_start(config).unwrap_or_else(|output| panic!("{}", stderr(&output)))
    }

    /// Starts a hub and waits until it is up, or has ended by itself.
    pub fn try_start(config: &Path) -> Result<Self, Output> {
        Self::try_start_logging(config, "error", Stdio::piped())
    }

    /// The same with a log of `level`, which goes to `log`.
    pub fn try_start_logging(config: &Path, level: &str, log: Stdio) -> Result<Self, Output> {
        StartingHub::of(config, level, log).up()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// An address of its HTTP face.
    pub fn http_url(&self) -> &str {
        self.up["http_url"].as_str().unwrap()
    }

    /// Asks it to end: the blocks that it printed until then, and how it ended.
    #[cfg(unix)]
    pub fn ends(mut self, how: &str) -> (Vec<PrintedBlock>, Output) {
        signal(&self.child, how);
        let mut blocks = Vec::new();
        for line in self.lines.by_ref() {
            blocks.push(printed_block(&line.unwrap()));
        }
        let mut said = Vec::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_end(&mut said).unwrap();
        let output = Output {
            status: self.child.wait().unwrap(),
            stdout: Vec::new(),
            stderr: said,
        };
        (blocks, output)
    }

    /// The next durable block.
    pub fn next_block(&mut self) -> PrintedBlock {
        printed_block(&self.lines.next().expect("the hub goes on").unwrap())
    }

    /// The next line about the configuration.
    pub fn next_config_event(&mut self) -> Json {
        loop {
            let line = self.lines.next().expect("the hub goes on").unwrap();
            let event: Json = serde_json::from_str(&line).unwrap();
            if event["event"] != "block" {
                return event;
            }
        }
    }

    /// Sends it a signal.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for RunningHub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn printed_block(line: &str) -> PrintedBlock {
    let json: Json = serde_json::from_str(line).unwrap();
    assert_eq!(json["event"], "block");
    let batches = json["batches"].as_array().unwrap().iter();
    let batches = batches.map(|batch| {
        let device = batch["device"].as_str().unwrap().to_owned();
        let number = |key: &str| batch[key].as_u64().unwrap();
        (device, number("epoch"), number("sequence"))
    });
    PrintedBlock {
        height: json["height"].as_u64().unwrap(),
        hash: json["hash"].as_str().unwrap().to_owned(),
        batches: batches.collect(),
    }
}

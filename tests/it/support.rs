//! A small plant for the tests: a directory made by `weighbridge init`, a simulated machine, and hubs
//! that are started, read and killed as a user would.

use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Lines};
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
        Self { seed, state: seed }
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// A directory with keys and configuration, and a machine to read.
pub struct Plant {
    dir: tempfile::TempDir,
    sim: Child,
}

impl Plant {
    /// `init`, and a simulated PLC in a process of its own, which outlives the hubs.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plant = dir.path().join("plant");
        let init = run(&["init", plant.to_str().unwrap()]);
        assert!(
            init.status.success(),
            "{}",
            String::from_utf8_lossy(&init.stderr)
        );
        let mut sim = weighbridge()
            .args(["sim", "--bench-devices", "2", "--bench-registers", "20"])
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
        let mut config = String::from(
            "[hub]\nid = \"hub-1\"\n\n[ledger]\nmax_records = 8\nmax_delay_ms = 10\n\n\
             [http]\nbind = \"127.0.0.1:0\"\n\n[opcua_server]\nbind = \"127.0.0.1:0\"\n",
        );
        for (i, port) in ports["ports"].as_array().unwrap().iter().enumerate() {
            config += &format!(
                "\n[[device]]\nid = \"plc-{i}\"\nbatch = {{ samples = 200, milliseconds = 20 }}\n\
                 modbus = {{ address = \"127.0.0.1:{port}\", period_ms = 2 }}\n"
            );
            for register in 0..20 {
                config += &format!(
                    "\n[[device.tag]]\nname = \"r{register}\"\n\
                     modbus = {{ holding_register = {register}, type = \"u16\" }}\n"
                );
            }
        }
        std::fs::write(plant.join("hub.toml"), config).unwrap();
        Self { dir, sim }
    }

    fn path(&self, file: &str) -> PathBuf {
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
        drop(self.sim.stdin.take());
        let _ = self.sim.kill();
        let _ = self.sim.wait();
    }
}

/// A block as `run --json` prints it.
pub struct PrintedBlock {
    pub height: u64,
    pub hash: String,
    /// Device, epoch and sequence.
    pub batches: Vec<(String, u64, u64)>,
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
        let mut child = weighbridge()
            .args(["run", "--json", "--config", config.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let up = lines.next().expect("the hub says that it is up").unwrap();
        let up = serde_json::from_str(&up).unwrap();
        Self { child, lines, up }
    }

    /// The next durable block.
    pub fn next_block(&mut self) -> PrintedBlock {
        let line = self.lines.next().expect("the hub goes on").unwrap();
        let json: Json = serde_json::from_str(&line).unwrap();
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

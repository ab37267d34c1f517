//! From one hub to four as docs/cluster.md shows it: through the program, with four configuration files.

use crate::support::{RunningHub, StartingHub, run, run_json, stderr, weighbridge};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Machines, which outlive the hubs.
struct Machines {
    sim: Child,
    ports: Vec<u64>,
}

impl Machines {
    fn start(machines: usize) -> Self {
        let mut sim = weighbridge()
            .args(["sim", "--bench-devices", &machines.to_string()])
            .args(["--bench-registers", "5", "--for", "600", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(sim.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let said: Json = serde_json::from_str(&line).unwrap();
        let ports = said["ports"].as_array().unwrap().iter();
        let ports = ports.map(|port| port.as_u64().unwrap()).collect();
        Self { sim, ports }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        drop(self.sim.stdin.take());
        let _ = self.sim.kill();
        let _ = self.sim.wait();
    }
}

/// A hub's directory.
struct Plant {
    id: &'static str,
    dir: PathBuf,
    /// Where consensus and the links listen: ports that were free a moment ago, because the files of the others name
    /// them.
    ports: [u16; 2],
    /// Its entry in the files of the others.
    card: String,
    key: String,
}

/// A listener at a port that nobody is given who asks for any: it is free a moment later, too. Another one each time.
fn free_listener() -> TcpListener {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let from = 20_000 + std::process::id() % 8_000;
    let mut ports = std::iter::repeat_with(|| from + NEXT.fetch_add(1, Ordering::Relaxed));
    let listener = |port| TcpListener::bind(("127.0.0.1", u16::try_from(port).unwrap()));
    ports.find_map(|port| listener(port).ok()).unwrap()
}

impl Plant {
    fn init(parent: &Path, id: &'static str, machine: u64) -> Self {
        let dir = parent.join(id);
        let made = run(&["init", dir.to_str().unwrap(), "--id", id]);
        assert!(made.status.success(), "{}", stderr(&made));
        let held = [0, 1].map(|_| free_listener());
        let ports = held.map(|held| held.local_addr().unwrap().port());
        let mut plant = Self {
            id,
            dir,
            ports,
            card: String::new(),
            key: String::new(),
        };
        plant.configure(machine, "", "");
        let card = run(&["cluster", "card", "--config", &plant.file()]);
        assert!(card.status.success(), "{}", stderr(&card));
        plant.card = String::from_utf8(card.stdout).unwrap();
        let key = plant.card.lines().find_map(|l| l.strip_prefix("key = \""));
        plant.key = key.unwrap().trim_end_matches('"').to_owned();
        plant
    }

    fn file(&self) -> String {
        self.dir.join("hub.toml").to_str().unwrap().to_owned()
    }

    fn configure(&self, machine: u64, genesis: &str, others: &str) {
        let (id, [listen, mesh]) = (self.id, self.ports);
        let config = format!(
            "[hub]\nid = \"{id}\"\n\n[ledger]\nmax_delay_ms = 50\n\n[http]\nbind = \"127.0.0.1:0\"\nroles = \
             [\"observer\", \"security_admin\"]\n\n[opcua_server]\nbind = \"127.0.0.1:0\"\n\n[cluster]\nlisten = \
             \"127.0.0.1:{listen}\"\nmesh = \"127.0.0.1:{mesh}\"\n{genesis}\n{others}\n[[device]]\nid = \
             \"plc-{id}\"\nbatch = {{ samples = 50, milliseconds = 50 }}\nmodbus = {{ address = \
             \"127.0.0.1:{machine}\", period_ms = 10 }}\n\n[[device.tag]]\nname = \"r0\"\nmodbus = {{ \
             holding_register = 0, type = \"u16\" }}\n"
        );
        std::fs::write(self.file(), config).unwrap();
    }

    fn begin(&self) -> StartingHub {
        StartingHub::of(Path::new(&self.file()), "error", Stdio::piped())
    }

    fn up(&self, starting: StartingHub) -> RunningHub {
        let up = starting.up();
        up.unwrap_or_else(|output| panic!("{}: {}", self.id, stderr(&output)))
    }

    fn start(&self) -> RunningHub {
        self.up(self.begin())
    }
}

/// How many hubs decide, as this one knows.
fn members(hub: &RunningHub) -> usize {
    let status = run_json(&["cluster", "status", "--json", "--url", hub.http_url()]);
    let hubs = status["hubs"].as_array().unwrap().iter();
    hubs.filter(|hub| hub["member"] == true).count()
}

#[test]
#[cfg(unix)]
fn four_files_become_a_site_and_one_of_its_hubs_is_killed() {
    let parent = tempfile::tempdir().unwrap();
    let machines = Machines::start(4);
    let ids = ["hub-a", "hub-b", "hub-c", "hub-d"];
    let plants = ids.iter().zip(&machines.ports);
    let plants: Vec<_> = plants
        .map(|(id, port)| Plant::init(parent.path(), id, *port))
        .collect();
    let genesis = &plants[0].key;
    let begun = format!("genesis = {{ hub = \"hub-a\", key = \"{genesis}\" }}");
    for (plant, machine) in plants.iter().zip(&machines.ports) {
        let others = plants.iter().filter(|other| other.id != plant.id);
        let others: Vec<_> = others.map(|other| other.card.as_str()).collect();
        plant.configure(*machine, &begun, &others.join("\n"));
        let checked = run(&["check", &plant.file()]);
        assert!(checked.status.success(), "{}", stderr(&checked));
    }

    let mut hubs = vec![plants[0].start()];
    for plant in &plants[1..] {
        let comes = plant.begin();
        for hub in &hubs {
            let vote = ["cluster", "admit", "--id", plant.id, "--key", &plant.key];
            let vote = [&vote[..], &["--url", hub.http_url()]].concat();
            let given = run(&vote);
            assert!(given.status.success(), "{}", stderr(&given));
        }
        hubs.push(plant.up(comes));
    }
    let status = run_json(&["cluster", "status", "--json", "--url", hubs[3].http_url()]);
    assert_eq!(status["threshold"], 3);
    assert_eq!(members(&hubs[3]), 4);
    // The first hub may be a block behind the newest, which says that it is in as soon as it knows.
    while members(&hubs[0]) < 4 {
        hubs[0].next_block();
    }
    let shown = run(&["status", "--url", hubs[0].http_url()]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("3 of 4 hubs decide"), "{shown}");

    // The blocks of all have batches of all.
    for hub in &mut hubs {
        let mut missing: Vec<_> = ids.iter().map(|id| format!("plc-{id}")).collect();
        while !missing.is_empty() {
            let block = hub.next_block();
            missing.retain(|device| block.batches.iter().all(|(of, ..)| of != device));
        }
    }
    hubs.remove(2).kill();
    let at = hubs[0].next_block().height;
    while hubs[0].next_block().height < at + 3 {}
    let mut back = plants[2].start();
    let behind = back.next_block().height;
    let now = hubs[0].next_block().height;
    while back.next_block().height < now.max(behind) {}
    hubs.push(back);

    for hub in hubs {
        let (_, ended) = hub.ends("-INT");
        assert!(ended.status.success(), "{}", stderr(&ended));
    }
    for plant in &plants {
        let data = plant.dir.join("data");
        let verified = run(&["verify", data.to_str().unwrap(), "--trust", genesis]);
        let said = String::from_utf8_lossy(&verified.stdout);
        assert!(verified.status.success(), "{}: {said}", plant.id);
    }
}

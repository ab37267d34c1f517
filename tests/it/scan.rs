//! From a machine that nobody has described to values: `scan -o`, a device of three lines, and a read.

use crate::support::{run, run_json, stderr};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use weighbridge::sim::cell::{Cell, CellOptions};
use weighbridge::sim::controller::{Controller, ControllerPlan};

/// Runs the program beside the machines of this test.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// A directory of a configuration.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn profile(&self, id: &str) -> PathBuf {
        self.0.path().join(format!("plugins/profiles/{id}.toml"))
    }

    /// Scans into the profile `id`; what was said.
    async fn scan(&self, args: &[&str], id: &str) -> String {
        let mut args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        let profile = self.profile(id).to_str().unwrap().to_owned();
        args.splice(0..0, ["scan".to_owned()]);
        args.extend(["-o".to_owned(), profile.clone()]);
        beside(move || {
            let scanned = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(scanned.status.success(), "{}", stderr(&scanned));
            for accepts in [
                ["check", &profile].as_slice(),
                &["profile", "test", &profile],
            ] {
                let accepted = run(accepts);
                assert!(accepted.status.success(), "{}", stderr(&accepted));
            }
            let again = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(again.status.code(), Some(1), "nothing is overwritten");
            String::from_utf8(scanned.stdout).unwrap()
        })
        .await
    }

    /// The device's tags as it gives them, when the configuration has what the scan proposed.
    async fn read(&self, said: &str, id: &str) -> Json {
        let (_, device) = said.split_once("[[device]]").unwrap();
        let (device, _) = device.split_once("\n\n").unwrap();
        let config = format!("[hub]\nid = \"hub-1\"\n\n[[device]]{device}\n");
        assert!(config.lines().count() < 9, "a few lines: {config}");
        let hub = self.0.path().join("hub.toml");
        std::fs::write(&hub, config).unwrap();
        let (hub, id) = (hub.to_str().unwrap().to_owned(), id.to_owned());
        beside(move || run_json(&["read", &id, "--direct", "--config", &hub, "--json"])).await
    }
}

fn good(read: &Json) -> usize {
    let tags = read["tags"].as_array().unwrap().iter();
    tags.filter(|tag| tag["sample"]["quality"] == "Good")
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opc_ua_server_becomes_a_profile_and_a_device_of_few_lines() {
    let controller = Controller::new(ControllerPlan::new(5, Duration::from_millis(50)));
    let address = controller.start(&[]).await.unwrap();
    let site = Site::new();
    let url = format!("opc.tcp://{address}");
    let said = site.scan(&[&url], "robot").await;
    assert!(said.contains("weighbridge profile test"), "{said}");
    let text = std::fs::read_to_string(site.profile("robot")).unwrap();
    assert!(!text.contains("[[device]]"), "{text}");
    let read = site.read(&said, "robot-1").await;
    // Five variables that change, a setpoint, a stubborn and a locked one.
    assert_eq!(good(&read), 8, "{read}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_modbus_device_becomes_a_profile_and_a_device_of_few_lines() {
    let cell = Cell::start(&CellOptions::default()).await.unwrap();
    let plc = cell.modbus[0].address.to_string();
    let site = Site::new();
    let args = ["modbus", &plc, "--units", "1", "--delay-ms", "0"];
    let said = site.scan(&args, "plc").await;
    let read = site.read(&said, "plc-1").await;
    let tags = read["tags"].as_array().unwrap().len();
    assert!(tags >= 6 && good(&read) == tags, "{read}");
}

#[test]
fn a_file_that_can_be_no_profile_is_refused_before_anything_is_scanned() {
    for (file, reason) in [("Robot.toml", "not an id"), ("robot", "ID.toml")] {
        let refused = run(&["scan", "opc.tcp://127.0.0.1:1", "-o", file]);
        let said = stderr(&refused);
        assert!(said.contains(reason), "{said}");
        assert!(!Path::new(file).exists());
    }
}

//! A hub of suite `guomi`, from a simulated PLC to evidence that an auditor verifies.

use crate::support::{Plant, ended, failed, run, run_json, stderr};
use std::fs;
use std::path::Path;
use weighbridge_verifier::evidence::{Evidence, Trust};
use weighbridge_verifier::{PublicKey, Suite};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
#[cfg(unix)]
fn what_a_plc_says_becomes_evidence_of_suite_guomi() {
    let plant = Plant::of_with_machines("guomi", 1, 4);
    let mut hub = plant.run_hub();
    while hub.next_block().batches.is_empty() {}
    let (_, output) = hub.ends("-INT");
    assert_eq!(ended(&output), 0, "{}", stderr(&output));

    let key = fs::read_to_string(plant.path("keys/hub.pub")).unwrap();
    let key: PublicKey = key.trim().parse().unwrap();
    assert_eq!(key.suite(), Suite::Guomi);
    let data = plant.path("data");
    let trust = key.to_string();
    let report = run_json(&["verify", text(&data), "--trust", &trust, "--json"]);
    assert_eq!(report["clean"], true, "{report}");
    assert_eq!(report["suite"], "guomi");
    assert_eq!(report["key"], trust);

    // What was sealed opens, and what it says can be proven.
    let file = plant.path("sample.evidence");
    let (dir, plc) = (plant.path("."), ["--device", "plc-0", "--tag", "r0"]);
    let prove = ["prove", "--dir", text(&dir), "--at", "2100-01-01T00:00:00Z"];
    let made = run(&[&prove[..], &plc, &["-o", text(&file)]].concat());
    assert_eq!(ended(&made), 0, "{}", stderr(&made));
    let proven = run_json(&["verify", text(&file), "--trust", &trust, "--json"]);
    assert_eq!(proven["clean"], true, "{proven}");
    assert_eq!(
        (&proven["suite"], &proven["trust"]),
        (&"guomi".into(), &"key".into())
    );
    let bytes = fs::read(&file).unwrap();
    let evidence = Evidence::from_bytes(&bytes).unwrap();
    assert_eq!(evidence.verify(&[key]).unwrap(), Trust::Key);
    assert!(bytes.len() <= 4096, "{} bytes", bytes.len());

    // A chain goes on in the suite it was begun in, and a checkpoint of it holds.
    let mut hub = plant.run_hub();
    hub.next_block();
    let (_, output) = hub.ends("-INT");
    assert_eq!(ended(&output), 0, "{}", stderr(&output));
    plant.verify_is_clean();
    let note = plant.path("head.checkpoint");
    let config = plant.path("hub.toml");
    let made = run(&["checkpoint", "--dir", text(&dir), "-o", text(&note)]);
    assert_eq!(ended(&made), 0, "{}", stderr(&made));
    let checked = run(&["verify", text(&note), "--trust", &trust]);
    assert_eq!(ended(&checked), 0, "{}", stderr(&checked));

    // Another suite later is an error that says what is wrong.
    let right = fs::read_to_string(&config).unwrap();
    fs::write(&config, right.replace("\"guomi\"", "\"nist\"")).unwrap();
    let said = failed(&run(&["run", "--config", text(&config)]));
    assert!(
        said.contains("is of suite `guomi`, and `[ledger]` says"),
        "{said}"
    );
    let other = plant.path("other");
    let made = run(&["init", text(&other)]);
    assert_eq!(ended(&made), 0, "{}", stderr(&made));
    for name in ["hub.key", "sealing.key"] {
        fs::copy(other.join("keys").join(name), plant.path("keys").join(name)).unwrap();
    }
    let said = failed(&run(&["run", "--config", text(&config)]));
    let wanted = "the ledger is of suite `guomi` and the keys are of suite `nist`";
    assert!(said.contains(wanted), "{said}");
}

//! A hub alone can rewrite what it keeps, under its own keys, and its ledger verifies: only who holds
//! a checkpoint, or a witness, can tell.

use crate::support::{Plant, ended, failed, run, run_json, stderr};
use crate::witness::Witness;
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

/// Runs a hub for `blocks` blocks.
fn run_for(plant: &Plant, blocks: usize) {
    let mut hub = plant.run_hub();
    for _ in 0..blocks {
        hub.next_block();
    }
    hub.kill();
}

fn verify(plant: &Plant, note: &str) -> Output {
    run(&["verify", &text(plant.path("data")), "--checkpoint", note])
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(output)
}

/// `checkpoint` of the stopped hub.
fn checkpoint(plant: &Plant, more: &[&str]) -> Output {
    let dir = text(plant.path(""));
    run(&[&["checkpoint", "--dir", &dir][..], more].concat())
}

#[test]
fn a_lone_hubs_rewritten_history_is_found_by_note_and_witness() {
    let plant = Plant::start();
    run_for(&plant, 3);
    let (data, aside) = (plant.path("data"), plant.path("aside"));
    copy(&data, &aside);
    run_for(&plant, 3);

    let keys = run_json(&[
        "checkpoint",
        "--dir",
        &text(plant.path("")),
        "--keys",
        "--json",
    ]);
    let witness = Witness::start(keys["checkpoint_key"].as_str().unwrap());
    let (url, key) = (witness.url(), witness.key());
    let cosign = ["--witness", &url, "--witness-key", &key];
    let done = checkpoint(&plant, &cosign);
    assert!(done.status.success(), "{}", stderr(&done));
    let note = text(plant.path("held.note"));
    fs::write(&note, &done.stdout).unwrap();
    let seen = held_size(&note);
    assert_eq!(witness.answers(), [200]);

    // The ledger goes on, and both agree.
    run_for(&plant, 2);
    let agreed = checkpoint(&plant, &cosign);
    assert!(agreed.status.success(), "{}", stderr(&agreed));
    assert_eq!(witness.answers(), [200]);
    let clean = verify(&plant, &note);
    assert_eq!(ended(&clean), 0, "{}", said(&clean));
    let hub = text(plant.path("keys/hub.pub"));
    let with = ["verify", &note, "--trust", &hub, "--witness-key", &key];
    assert_eq!(ended(&run(&with)), 0);

    // An earlier copy is put back: what was recorded since is gone.
    fs::remove_dir_all(&data).unwrap();
    copy(&aside, &data);
    plant.verify_is_clean();
    let short = verify(&plant, &note);
    assert_eq!(ended(&short), 1);
    assert!(said(&short).contains("cut short"), "{}", said(&short));
    let short = failed(&checkpoint(&plant, &cosign));
    assert!(short.contains("cut short"), "{short}");

    // The hub runs on from there until it has more blocks than anybody saw: another history.
    run_for(&plant, 3);
    while held_blocks(&plant) <= seen + 4 {
        run_for(&plant, 3);
    }
    plant.verify_is_clean();
    let rewritten = verify(&plant, &note);
    assert_eq!(ended(&rewritten), 1);
    let why = said(&rewritten);
    assert!(why.contains("history was rewritten"), "{why}");
    let _ = witness.answers();
    let refused = failed(&checkpoint(&plant, &cosign));
    assert!(refused.contains("rewritten"), "{refused}");
    assert!(witness.answers().contains(&422));
    // Nothing of it was kept as cosigned, and with the notes at hand nothing is even sent.
    assert!(!plant.path("data/checkpoints").exists());
    let notes = plant.path("notes");
    fs::create_dir(&notes).unwrap();
    fs::copy(&note, notes.join(format!("{seen:020}.note"))).unwrap();
    let keep = [&cosign[..], &["--keep", notes.to_str().unwrap()]].concat();
    let refused = failed(&checkpoint(&plant, &keep));
    assert!(refused.contains("is not extended"), "{refused}");
    assert_eq!(witness.answers(), [0; 0]);

    // Begun anew, it is another log, which the witness does not know.
    fs::remove_dir_all(&data).unwrap();
    run_for(&plant, 1);
    let anew = verify(&plant, &note);
    assert!(said(&anew).contains("begun anew"), "{}", said(&anew));
    let unknown = failed(&checkpoint(&plant, &cosign));
    assert!(unknown.contains("does not know this log"), "{unknown}");
    assert_eq!(witness.answers(), [404]);
}

fn held_size(note: &str) -> u64 {
    let text = fs::read_to_string(note).unwrap();
    text.lines().nth(1).unwrap().parse().unwrap()
}

fn held_blocks(plant: &Plant) -> u64 {
    let tip = plant.open_ledger().tip().unwrap();
    tip.unwrap().height
}

#[test]
fn a_running_hub_makes_checkpoints_and_proofs_between_them() {
    let plant = Plant::start();
    let mut hub = plant.run_hub();
    hub.next_block();
    let url = hub.http_url().to_owned();
    let ask = |more: &[&str]| {
        let output = run(&[&["checkpoint", "--url", &url][..], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let keys = ask(&["--keys"]);
    assert_eq!(keys.lines().count(), 2);
    let (first, later) = (
        text(plant.path("first.note")),
        text(plant.path("later.proof")),
    );
    ask(&["-o", &first]);
    for _ in 0..5 {
        hub.next_block();
    }
    ask(&["--since", &first, "-o", &later]);
    let hub_key = text(plant.path("keys/hub.pub"));
    let check = [
        "verify",
        &later,
        "--checkpoint",
        &first,
        "--trust",
        &hub_key,
        "--json",
    ];
    let checked: Json = run_json(&check);
    assert_eq!(checked["trust"], "key");
    assert_eq!(checked["extends"], held_size(&first));

    // One witness is asked while blocks are written, and has the last word about what it has seen.
    let witness = Witness::start(keys.lines().next().unwrap());
    let (at, key) = (witness.url(), witness.key());
    let notes = text(plant.path("notes"));
    for _ in 0..3 {
        hub.next_block();
        ask(&["--witness", &at, "--witness-key", &key, "--keep", &notes]);
    }
    ask(&["--witness", &at, "--witness-key", &key]);
    assert_eq!(witness.answers(), [200, 200, 200, 409, 200]);

    // Another witness's key is not believed, and a log that it was not given is not cosigned.
    let other = Witness::start(keys.lines().next().unwrap());
    let stranger = other.key();
    let ask = [
        "checkpoint",
        "--url",
        &url,
        "--witness",
        &at,
        "--witness-key",
        &stranger,
    ];
    let refused = failed(&run(&ask));
    assert!(
        refused.contains("without a cosignature that holds"),
        "{refused}"
    );
    hub.kill();

    // A changed note or proof does not verify.
    for file in [&first, &later] {
        let whole = fs::read_to_string(file).unwrap();
        let (head, tail) = whole.split_once("weighbridge/").unwrap();
        let other = tail.replacen('\n', "\n1", 1);
        fs::write(file, format!("{head}weighbridge/{other}")).unwrap();
        assert_eq!(ended(&run(&check)), 1, "{file}");
        fs::write(file, whole).unwrap();
        assert_eq!(ended(&run(&check)), 0);
    }
    // A copy without the hub's line is not the hub's word.
    let whole = fs::read_to_string(&first).unwrap();
    let (rest, _) = whole.trim_end().rsplit_once('\n').unwrap();
    let bare = text(plant.path("bare.note"));
    fs::write(&bare, format!("{rest}\n")).unwrap();
    let bare = run(&["verify", &bare, "--trust", &hub_key]);
    assert!(failed(&bare).contains("trusted key"), "{}", stderr(&bare));
    // Without any key it fits together, and that is all that is said.
    let alone = run_json(&["verify", &later, "--checkpoint", &first, "--json"]);
    assert_eq!(alone["trust"], "self_consistent_only");
    let without = run(&["verify", &first, "--witness-key", &stranger]);
    assert!(
        failed(&without).contains("not signed by"),
        "{}",
        stderr(&without)
    );
}

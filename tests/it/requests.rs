//! Requests at a hub that is killed: whether each answer has its record (`weighbridge bench requests`).

use crate::support::{Random, run, stderr};

#[test]
fn every_answer_has_its_record_over_three_kills() {
    let mut random = Random::from_env();
    let seed = random.below(1 << 31).to_string();
    let output = run(&[
        "bench",
        "requests",
        "--requests",
        "3000",
        "--kills",
        "3",
        "--clients",
        "16",
        "--devices",
        "4",
        "--seed",
        &seed,
        "--json",
    ]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", stderr(&output));
    let result: serde_json::Value = serde_json::from_str(&said).unwrap();
    let number = |at: &str| result.pointer(at).unwrap().as_u64().unwrap();
    // It means something only when most was answered, and machines were acted upon.
    assert!(number("/answered") > 2_000, "{said}");
    assert!(number("/machine_writes") > 100, "{said}");
    assert!(number("/records") > 2_000, "{said}");
}

//! What a proof tells of the samples beside the one that it shows: nothing, not to somebody who tries
//! every value either.
//!
//! The attacker has the file, and knows of the neighbour everything but its value and salt: device,
//! tag, place, time and quality. The first sibling in the path is the hash of its leaf, so a guess can
//! be checked. All 2³² values of a 32-bit sensor are tried by
//!
//! ```text
//! cargo test --release -p weighbridge-verifier --test neighbours -- --ignored --nocapture
//! ```

#![allow(clippy::unwrap_used)]

use std::time::Instant;
use weighbridge_verifier::{Hash, Quality, Salt, Suite, TagDigest, merkle};

const SHOWN: u32 = 4;
/// Its sibling.
const NEIGHBOUR: u32 = 5;
const SAMPLES: u32 = 1_000;
const PERIOD: i64 = 100_000_000;

/// A pressure, as a sensor of 32 bits says it.
fn value(position: u32) -> f32 {
    2.5 + (position as f32).sin() / 8.0
}

/// As unknown as one from a key that nobody has (ADR 3), and the same in every run.
fn salt(position: u32) -> Salt {
    let hash = Suite::Nist.hash(&[b"salt", &position.to_le_bytes()]).0;
    let mut salt = [0; 16];
    salt.copy_from_slice(&hash[..16]);
    salt
}

/// The hash of the neighbour's leaf, as it stands in the proof of the sample that is shown.
fn sibling(suite: Suite) -> Hash {
    let tag = TagDigest::new(suite, "press-1", "pressure");
    let leaf = |i: u32| guess(&tag, i, &salt(i), value(i));
    let leaves: Vec<Hash> = (0..SAMPLES).map(leaf).collect();
    let path = merkle::multi_path(suite, &leaves, &[SHOWN as usize]).unwrap();
    let (at, size) = (u64::from(SHOWN), u64::from(SAMPLES));
    let root = merkle::root_from_path(suite, leaf(SHOWN), at, size, &path);
    assert_eq!(root, Some(merkle::root(suite, &leaves)));
    path[0]
}

fn guess(tag: &TagDigest, position: u32, salt: &Salt, value: f32) -> Hash {
    let time = i64::from(position) * PERIOD;
    tag.leaf_f64(salt, position, time, Quality::GOOD, f64::from(value))
}

/// The values with bits in `range` that give the neighbour's leaf under this salt.
fn found(suite: Suite, salt: &Salt, range: impl Iterator<Item = u32>) -> Vec<f32> {
    let sibling = sibling(suite);
    let tag = TagDigest::new(suite, "press-1", "pressure");
    let values = range.map(f32::from_bits);
    values
        .filter(|value| guess(&tag, NEIGHBOUR, salt, *value) == sibling)
        .collect()
}

/// A million values about the true one, and with them the true one.
fn about() -> impl Iterator<Item = u32> {
    let bits = value(NEIGHBOUR).to_bits();
    bits - (1 << 19)..bits + (1 << 19)
}

#[test]
fn a_neighbour_is_not_found_without_its_salt_and_with_it_at_once() {
    for suite in Suite::ALL {
        // Nothing better is known than salts that are known: none, or that of the sample shown.
        for known in [[0; 16], salt(SHOWN)] {
            assert!(found(suite, &known, about()).is_empty(), "{suite}");
        }
        let own = salt(NEIGHBOUR);
        assert_eq!(found(suite, &own, about()), [value(NEIGHBOUR)], "{suite}");
    }
}

#[test]
#[ignore = "2³² hashes: minutes"]
fn none_of_all_values_of_a_neighbour_is_found_without_its_salt() {
    for (what, salt, expected) in [
        ("with the salt of the sample shown", salt(SHOWN), vec![]),
        ("with its own salt", salt(NEIGHBOUR), vec![value(NEIGHBOUR)]),
    ] {
        let began = Instant::now();
        assert_eq!(found(Suite::Nist, &salt, 0..=u32::MAX), expected, "{what}");
        let seconds = began.elapsed().as_secs_f64();
        let rate = f64::from(u32::MAX) / seconds / 1e6;
        println!(
            "{what}: 2^32 values in {seconds:.0} s, {rate:.1} million a second; found {}",
            expected.len()
        );
    }
}

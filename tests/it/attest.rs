//! A device with a key of its own signs what the hub records of it.

use crate::machines::{EPOCH, MS, Scripted, tag};
use crate::site::{self, Site};
use std::sync::Arc;
use weighbridge::access::Role;
use weighbridge::api::{KeyPort, OfferedKey};
use weighbridge::crypto::{Identity, ReplaceableKey, Signer};
use weighbridge::hub::HubError;
use weighbridge::model::ValueKind;
use weighbridge_verifier::record::attestation_message;
use weighbridge_verifier::rotation::rotation_message;
use weighbridge_verifier::{IdentityContent, IdentityKind, RotationContent, Suite};

const SCANS: usize = 5;

#[test]
fn the_devices_own_signature_is_recorded_beside_the_hubs() {
    for suite in Suite::ALL {
        both_signatures_are_recorded(suite);
    }
}

fn both_signatures_are_recorded(suite: Suite) {
    let site = Site::of(suite, 21);
    let key = Arc::new(Identity::generate_of(suite, "press-1"));
    // Twice: the key is enrolled at the first start, and known at the second.
    for round in 1..=2i64 {
        let press = Scripted::new("press-1", [tag("force", ValueKind::F64)]);
        let mut setup = press.setup(SCANS);
        setup.attester = Some(key.clone());
        let hub = site.hub().device(setup).start().unwrap();
        for scan in 0..SCANS as i64 {
            press.scan(EPOCH + (round * 100 + scan) * MS, [scan as f64]);
        }
        site::batches(&hub, 1);
        hub.shutdown().unwrap();
    }
    site.verify_is_clean();
    let recorded = site.recorded();
    assert_eq!(recorded.batches.len(), 2);
    for batch in &recorded.batches {
        let attester = batch.content.attester.expect("it is attested");
        assert_eq!(attester.key, key.public_key());
        let message = attestation_message(suite, &batch.content);
        key.public_key()
            .verify(&message, &attester.signature)
            .unwrap();
    }
}

#[test]
fn the_device_goes_over_to_its_new_key_when_that_is_on_record() {
    for suite in Suite::ALL {
        goes_over(suite);
    }
}

fn goes_over(suite: Suite) {
    let site = Site::of(suite, 24);
    let press = Scripted::new("press-1", [tag("force", ValueKind::F64)]);
    let first = Identity::generate_of(suite, "press-1");
    let key = Arc::new(ReplaceableKey::new(first));
    let mut setup = press.setup(SCANS);
    setup.attester = Some(key.clone());
    let hub = site.hub().device(setup).start().unwrap();
    let anna = site::enter(&hub, "anna", &[Role::SecurityAdmin]);
    let mut keys = vec![key.public_key()];
    for round in 0..3i64 {
        for scan in 0..SCANS as i64 {
            press.scan(EPOCH + (round * 100 + scan) * MS, [scan as f64]);
        }
        site::batches(&hub, round as u64 + 1);
        let (old, new) = (key.current(), Identity::generate_of(suite, "press-1"));
        let identity = IdentityContent {
            id: "press-1".to_owned(),
            kind: IdentityKind::Device,
            key: Some(new.public_key()),
        };
        let message = rotation_message(suite, "main", &identity, &old.public_key());
        let rotation = RotationContent {
            proof: new.sign(&message),
            consent: Some(old.sign(&message)),
            replaces: old.public_key(),
            identity,
        };
        keys.push(new.public_key());
        // Enrolled before it is there, it would be another's word.
        key.offer(new).unwrap();
        assert_eq!(key.public_key(), old.public_key());
        let enrolled = hub.keys().enrol(&anna, OfferedKey::Rotation(rotation));
        site::wait(&hub, "its new key", enrolled).unwrap();
        assert_eq!(key.public_key(), keys[keys.len() - 1]);
    }
    hub.shutdown().unwrap();
    site.verify_is_clean();
    let recorded = site.recorded();
    let signed = recorded.batches.iter();
    let signed: Vec<_> = signed.map(|b| b.content.attester.unwrap().key).collect();
    assert_eq!(signed, keys[..3]);
    // A start with the newest key knows it.
    let mut setup = press.setup(SCANS);
    setup.attester = Some(key);
    let hub = site.hub().device(setup).start().unwrap();
    hub.shutdown().unwrap();
}

#[test]
fn another_devices_key_is_refused() {
    let site = Site::new(22);
    let press = Scripted::new("press-1", [tag("force", ValueKind::F64)]);
    let mut setup = press.setup(SCANS);
    setup.attester = Some(Arc::new(Identity::generate("press-2")));
    let refused = site.hub().device(setup).start().err().unwrap();
    assert!(matches!(refused, HubError::Device { .. }), "{refused}");
}

#[test]
fn a_devices_key_of_another_suite_is_refused() {
    let site = Site::of(Suite::Guomi, 23);
    let press = Scripted::new("press-1", [tag("force", ValueKind::F64)]);
    let mut setup = press.setup(SCANS);
    setup.attester = Some(Arc::new(Identity::generate("press-1")));
    let refused = site.hub().device(setup).start().err().unwrap().to_string();
    assert!(refused.contains("the chain's suite `guomi`"), "{refused}");
}

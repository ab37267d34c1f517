use super::*;
use crate::model::{BatchBuilder, Value};
use proptest::prelude::*;
use std::sync::Arc;

fn tag(name: &str, kind: ValueKind) -> TagSpec {
    TagSpec {
        writable: false,
        name: name.into(),
        kind,
        unit: "°C".to_owned(),
        description: "what it is".to_owned(),
        range: Some((-0.0, f64::INFINITY)),
    }
}

fn all_kinds() -> Arc<[TagSpec]> {
    let name = |(i, kind): (usize, &ValueKind)| tag(&format!("tag-{i}"), *kind);
    KINDS.iter().enumerate().map(name).collect()
}

/// Numbers as sensors have them, and all that are not numbers.
fn any_f64() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (0i32..4_000).prop_map(|n| f64::from(n) * 0.1),
        Just(-0.0),
        Just(f64::from_bits(0x7ff8_0000_dead_beef)),
        Just(f64::NEG_INFINITY),
    ]
}

fn any_value(kind: ValueKind) -> BoxedStrategy<Value> {
    match kind {
        ValueKind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        ValueKind::I64 => any::<i64>().prop_map(Value::I64).boxed(),
        ValueKind::U64 => any::<u64>().prop_map(Value::U64).boxed(),
        ValueKind::F64 => any_f64().prop_map(Value::F64).boxed(),
        ValueKind::Text => "\\PC{0,12}".prop_map(Value::Text).boxed(),
        ValueKind::Bytes => any::<Vec<u8>>().prop_map(Value::Bytes).boxed(),
    }
}

fn any_quality() -> impl Strategy<Value = Quality> {
    prop_oneof![
        4 => Just(Quality::GOOD),
        1 => any::<u32>().prop_map(Quality),
        2 => Just(Quality::BAD_NO_COMMUNICATION),
    ]
}

/// Scans with a value or none for every tag.
fn any_batch() -> impl Strategy<Value = Batch> {
    let cell = |kind| {
        (
            proptest::option::weighted(0.9, any_value(kind)),
            any_quality(),
        )
    };
    let row = KINDS.map(cell);
    let rows = proptest::collection::vec((any::<i64>(), row), 1..40);
    (rows, any::<bool>()).prop_map(|(rows, polled)| {
        let tags = all_kinds();
        let device: Arc<str> = "press-1".into();
        let mut builder = match polled {
            true => BatchBuilder::scanning(device, tags),
            false => BatchBuilder::subscribing(device, tags),
        };
        for (time, cells) in rows {
            if polled {
                builder.begin_scan(time);
            }
            for (column, (value, quality)) in cells.into_iter().enumerate() {
                match (value, polled) {
                    (Some(value), true) => builder.scan(column, value, quality),
                    (None, true) => builder.scan_missing(column, quality),
                    (value, false) => builder.push(column, time, value, quality),
                }
            }
        }
        builder.take(3, 7).unwrap()
    })
}

/// Equal to the bit: NaN is equal to itself here.
fn same(a: &UnpackedBatch, b: &UnpackedBatch) -> bool {
    let bits = |unpacked: &UnpackedBatch| {
        let mut batch = unpacked.batch.clone();
        let mut all = Vec::new();
        for column in &mut batch.columns {
            if let Values::F64(v) = &mut column.values {
                all.extend(v.drain(..).map(f64::to_bits));
            }
        }
        (
            batch,
            all,
            unpacked.state_before.clone(),
            unpacked.verdict.clone(),
        )
    };
    bits(a) == bits(b)
}

proptest! {
    #[test]
    fn what_is_packed_is_unpacked_to_the_bit(batch in any_batch(), state: Vec<u8>, verdict: Vec<u8>) {
        let bytes = pack(&batch, &state, &verdict).unwrap();
        let unpacked = unpack(&bytes).unwrap();
        let expected = UnpackedBatch { batch, state_before: state, verdict, salts: None };
        prop_assert!(same(&unpacked, &expected));
    }

    #[test]
    fn changed_bytes_do_no_harm(
        batch in any_batch(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = pack(&batch, b"state", b"verdict").unwrap();
        for (at, change) in changes {
            let at = at.index(bytes.len());
            bytes[at] ^= change;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(unpacked) = unpack(&bytes) {
            prop_assert!(unpacked.batch.samples() <= MAX_SAMPLES);
            // What was read is a whole batch again.
            prop_assert!(pack(&unpacked.batch, b"", b"").is_ok());
        }
    }

    #[test]
    fn rubbish_is_refused(mut bytes: Vec<u8>) {
        if let Some(first) = bytes.first_mut() {
            *first = BATCH_VERSION;
        }
        prop_assert!(unpack(&bytes).is_err());
    }

    #[test]
    fn rubbish_streams_of_numbers_are_refused(bytes: Vec<u8>, count in 0usize..5_000) {
        let _ = unpack_numbers::<f64>(&bytes, count);
        let _ = unpack_numbers::<i64>(&bytes, count);
    }

    #[test]
    fn changed_streams_of_numbers_do_no_harm(
        numbers in proptest::collection::vec(any_f64(), 1..600),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = pack_numbers(&numbers);
        for (at, change) in changes {
            let at = at.index(bytes.len());
            bytes[at] ^= change;
        }
        if let Ok(read) = unpack_numbers::<f64>(&bytes, numbers.len()) {
            prop_assert_eq!(read.len(), numbers.len());
        }
    }
}

fn small() -> Batch {
    let mut builder = BatchBuilder::scanning("press-1".into(), all_kinds());
    builder.begin_scan(5);
    builder.scan(3, Value::F64(1.5), Quality::GOOD);
    builder.take(1, 1).unwrap()
}

#[test]
fn a_malformed_batch_is_not_packed() {
    let refused = |change: fn(&mut Batch)| {
        let mut batch = small();
        change(&mut batch);
        pack(&batch, b"", b"").unwrap_err()
    };
    let column = |e| matches!(e, PackError::Column { .. });
    assert!(column(refused(|b| b.columns[1].timeline = 9)));
    assert!(column(refused(
        |b| b.columns[1].values = Values::I64(vec![])
    )));
    assert!(column(refused(
        |b| b.columns[1].values = Values::U64(vec![4])
    )));
    assert!(column(refused(|b| {
        b.columns.pop();
    })));
    assert!(column(refused(|b| {
        b.columns[0].quality.exceptions = vec![(1, Quality::BAD)];
    })));
    let large = refused(|b| b.timelines = vec![vec![0; MAX_SAMPLES + 1]]);
    assert_eq!(large, PackError::TooLarge);
}

#[test]
fn a_later_version_is_named() {
    let mut bytes = pack(&small(), b"", b"").unwrap();
    bytes[0] = 9;
    let error = unpack(&bytes).unwrap_err().to_string();
    assert!(error.contains("version 9"), "{error}");
}

#[test]
fn a_steady_plant_packs_well() {
    let tags: Arc<[TagSpec]> = (0..100)
        .map(|i| tag(&format!("t{i}"), ValueKind::F64))
        .collect();
    let mut builder = BatchBuilder::scanning("press-1".into(), tags);
    for scan in 0..40i64 {
        builder.begin_scan(scan * 100_000_000);
        for column in 0..100 {
            let step = (scan * 7 + column as i64 * 13) % 20;
            builder.scan_f64(column, (column as f64 * 40.0 + step as f64) * 0.1);
        }
    }
    let batch = builder.take(1, 1).unwrap();
    let per_sample = pack(&batch, b"", b"").unwrap().len() as f64 / batch.samples() as f64;
    assert!(per_sample < 3.0, "{per_sample} bytes a sample");
}

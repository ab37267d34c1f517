//! What a source may say that is wrong, end to end: the hub says so, records it, and goes on.

use crate::machines::{EPOCH, MS, Scripted, Step, tag};
use crate::site::{self, Site};
use VerdictClass::{Accepted, Invalid, OutOfControl};
use std::sync::atomic::Ordering;
use weighbridge::hub::Hub;
use weighbridge::model::{Quality, Value, ValueKind, VerdictClass};
use weighbridge::validation::config::{ChartKind, LimitPolicy};
use weighbridge::validation::{Finite, Positive, TagValidation};
use weighbridge_verifier::{Action, Response};

const PRESS: &str = "press-1";

fn press() -> Scripted {
    let tags = [
        tag("pressure", ValueKind::F64),
        tag("speed", ValueKind::F64),
    ];
    Scripted::new(PRESS, tags)
}

/// Class and reason of the newest verdict, once `batches` are durable.
fn verdict(hub: &Hub, batches: u64) -> (VerdictClass, String) {
    site::batches(hub, batches);
    let live = hub.live().device(PRESS).unwrap();
    let (class, _, reason) = live.verdict().expect("it was judged");
    (class, reason)
}

fn qualities(hub: &Hub) -> Vec<Quality> {
    let samples = hub.live().device(PRESS).unwrap().samples();
    samples.into_iter().map(|s| s.unwrap().quality).collect()
}

#[test]
fn nan_and_infinity_are_refused_and_the_next_good_batch_is_accepted() {
    let site = Site::new(3);
    let press = press();
    let hub = site.hub().device(press.setup(2)).start().unwrap();
    press.scan(EPOCH, [1.0, 10.0]);
    press.scan(EPOCH + MS, [1.1, 11.0]);
    assert_eq!(verdict(&hub, 1).0, Accepted);
    assert_eq!(qualities(&hub), [Quality::GOOD, Quality::GOOD]);

    let wrong = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    for (i, number) in (1..).zip(wrong) {
        let time = EPOCH + i * 10 * MS;
        press.scan(time, [1.0, 10.0]);
        press.scan(time + MS, [1.0, number]);
        let (class, reason) = verdict(&hub, 2 * i as u64);
        assert_eq!(class, Invalid);
        assert!(reason.contains("is not a finite number"), "{reason}");
        assert!(reason.contains("speed"), "{reason}");
        // The tag is named by the finding, the others are in the same refused batch.
        assert!(qualities(&hub).iter().all(|q| q.is_bad()));
        let refusal = &hub.stats().refusals()[0];
        assert_eq!((&*refusal.device, refusal.sequence), (PRESS, 2 * i as u64));
        assert_eq!(refusal.reason, reason);

        press.scan(time + 2 * MS, [1.0, 10.0]);
        press.scan(time + 3 * MS, [1.0, 10.0]);
        assert_eq!(verdict(&hub, 2 * i as u64 + 1).0, Accepted);
        assert_eq!(qualities(&hub), [Quality::GOOD, Quality::GOOD]);
    }
    hub.shutdown().unwrap();

    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    let (good, bad) = (Accepted, Invalid);
    assert_eq!(
        recorded.classes(PRESS),
        [good, bad, good, bad, good, bad, good]
    );
    for batch in recorded.of(PRESS) {
        let refused = batch.content.verdict.class == Invalid;
        assert_eq!(
            batch.opened.is_none(),
            refused,
            "what is refused is not kept"
        );
        if refused {
            assert_eq!(batch.content.verdict.chart, "sensor");
            assert_eq!(batch.content.verdict.rule, "not_finite");
            assert_eq!(batch.action, Action::Refuse);
            assert_eq!(batch.response, Response::Refused);
        } else {
            assert_eq!(batch.action, Action::Store);
        }
    }
}

#[test]
fn a_batch_out_of_control_is_kept_and_shown_uncertain() {
    let site = Site::new(4);
    let press = press();
    let mut setup = press.setup(1);
    let charted = TagValidation {
        charts: Some(vec![ChartKind::Individuals]),
        limits: Some(LimitPolicy::Sigma),
        center: Some(Finite::try_from(100.0).unwrap()),
        sigma: Some(Positive::try_from(2.0).unwrap()),
        ..TagValidation::default()
    };
    setup.tag_validation = vec![charted, TagValidation::default()];
    let hub = site.hub().device(setup).start().unwrap();
    press.scan(EPOCH, [105.9, 1.0]);
    assert_eq!(verdict(&hub, 1).0, Accepted);
    press.scan(EPOCH + MS, [106.1, 1.0]);
    let (class, reason) = verdict(&hub, 2);
    assert_eq!(class, OutOfControl);
    for named in ["individuals", "pressure", "106.1", "106"] {
        assert!(reason.contains(named), "{named}: {reason}");
    }
    assert_eq!(
        qualities(&hub),
        [
            Quality::UNCERTAIN_ENGINEERING_UNITS_EXCEEDED,
            Quality::UNCERTAIN
        ]
    );
    press.scan(EPOCH + 2 * MS, [100.0, 1.0]);
    assert_eq!(verdict(&hub, 3).0, Accepted);
    assert_eq!(qualities(&hub), [Quality::GOOD, Quality::GOOD]);
    hub.shutdown().unwrap();
    site.verify_is_clean();
    let recorded = site.recorded();
    assert_eq!(recorded.classes(PRESS), [Accepted, OutOfControl, Accepted]);
    let kept = recorded.of(PRESS).nth(1).unwrap();
    assert_eq!(kept.batch().columns[0].values.number(0), Some(106.1));
}

#[test]
fn a_clock_that_jumps_back_is_refused_until_it_runs_evenly_or_has_caught_up() {
    let site = Site::new(5);
    let press = press();
    let hub = site.hub().device(press.setup(2)).start().unwrap();
    let mut batches = 0;
    let mut at = |time| {
        press.scan(time, [1.0, 2.0]);
        press.scan(time + MS, [1.0, 2.0]);
        batches += 1;
        verdict(&hub, batches)
    };
    let minute = 60_000 * MS;
    assert_eq!(at(EPOCH + 10 * minute).0, Accepted);
    // Back and forth: refused while it is behind, believed as soon as it has caught up.
    let (class, reason) = at(EPOCH + 9 * minute);
    assert_eq!(class, Invalid);
    assert!(reason.contains("clock_back"), "{reason}");
    assert!(
        reason.contains("is earlier than the sample before it"),
        "{reason}"
    );
    assert!(reason.contains("2023-11-14T22:23:20.001Z"), "{reason}");
    assert_eq!(at(EPOCH + 11 * minute).0, Accepted);
    // Set back for good: three batches that run evenly, then it counts.
    for i in 0..3 {
        assert_eq!(at(EPOCH + i * minute).0, Invalid);
    }
    assert_eq!(at(EPOCH + 4 * minute).0, Accepted);
    assert_eq!(at(EPOCH + 5 * minute).0, Accepted);
    hub.shutdown().unwrap();
    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    let refused = recorded.of(PRESS).filter(|b| b.opened.is_none());
    assert_eq!(refused.count(), 4);
}

#[test]
fn the_ends_of_every_type_and_of_time_go_through() {
    let site = Site::new(6);
    let kinds = [
        ("bool", ValueKind::Bool),
        ("i64", ValueKind::I64),
        ("u64", ValueKind::U64),
        ("f64", ValueKind::F64),
        ("text", ValueKind::Text),
        ("bytes", ValueKind::Bytes),
    ];
    let odd = Scripted::new(PRESS, kinds.map(|(name, kind)| tag(name, kind)));
    let hub = site.hub().device(odd.setup(1)).start().unwrap();
    let long = "🌡\0\n".repeat(100_000);
    let scans = [
        (i64::MIN, true, i64::MIN, 0, f64::MIN, String::new()),
        (i64::MIN + 1, false, -1, 1, f64::MIN_POSITIVE, long),
        (-1, true, 0, 1 << 53, -0.0, "\u{202e}".to_owned()),
        (0, false, 1, u64::MAX - 1, f64::EPSILON, "\0".to_owned()),
        (i64::MAX, true, i64::MAX, u64::MAX, f64::MAX, "ü".to_owned()),
        (i64::MAX, true, i64::MAX, u64::MAX, 5e-324, "ü".to_owned()),
    ];
    let sent = scans.map(|(time, b, i, u, f, text)| {
        let bytes = text.clone().into_bytes();
        let values = vec![
            Value::Bool(b),
            Value::I64(i),
            Value::U64(u),
            Value::F64(f),
            Value::Text(text),
            Value::Bytes(bytes),
        ];
        odd.does(Step::Scan(time, values.clone()));
        (time, values)
    });
    site::batches(&hub, sent.len() as u64);
    // A clock at the end of time cannot be followed by a later one.
    odd.does(Step::Scan(i64::MIN, sent[0].1.clone()));
    let (class, reason) = verdict(&hub, sent.len() as u64 + 1);
    assert_eq!(class, Invalid, "{reason}");
    let live = hub.live().device(PRESS).unwrap();
    assert_eq!(live.dropped.load(Ordering::Relaxed), 0);
    hub.shutdown().unwrap();

    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    for (batch, (time, values)) in recorded.of(PRESS).zip(&sent) {
        let batch = batch.batch();
        assert_eq!(batch.timelines, [[*time]]);
        for (column, value) in batch.columns.iter().zip(values) {
            assert_eq!(column.values.get(0).as_ref(), Some(value));
            assert_eq!(column.quality.get(0), Quality::GOOD);
        }
    }
}

#[test]
fn a_value_of_the_wrong_type_is_bad_and_its_neighbours_are_not() {
    let site = Site::new(7);
    let press = press();
    let hub = site.hub().device(press.setup(3)).start().unwrap();
    for (i, wrong) in [
        Value::Text("off".to_owned()),
        Value::U64(u64::MAX),
        Value::F64(3.0),
    ]
    .into_iter()
    .enumerate()
    {
        let time = EPOCH + i as i64 * MS;
        press.does(Step::Scan(time, vec![Value::F64(1.0), wrong]));
    }
    let (class, reason) = verdict(&hub, 1);
    assert_eq!(class, OutOfControl, "{reason}");
    assert!(reason.contains("missing"), "{reason}");
    // Scans that say too little; what they leave out is filled in when the next one begins.
    for i in 0..4 {
        press.does(Step::Scan(EPOCH + (10 + i) * MS, vec![Value::F64(1.0)]));
    }
    assert_eq!(verdict(&hub, 2).0, OutOfControl);
    assert!(qualities(&hub)[1].is_bad());
    hub.shutdown().unwrap();
    site.verify_is_clean();
    let recorded = site.recorded();
    let first = recorded.of(PRESS).next().unwrap().batch();
    assert!(first.columns[0].quality.exceptions.is_empty());
    let bad = Quality::BAD_OUT_OF_RANGE;
    assert_eq!(first.columns[1].quality.exceptions, [(0, bad), (1, bad)]);
}

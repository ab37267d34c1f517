//! What must hold for any batch: no panic, the same verdict bits elsewhere, no effect of where
//! batches are cut, and no difference between the fast path and the one it stands for.

use super::support::{batch, device, one_tag, own, tag, times, validator};
use crate::model::{
    Batch, Column, Nanos, Quality, QualityColumn, TagSpec, ValueKind, Values, VerdictClass,
};
use crate::validation::{Chart, DeviceValidator, Limits, Rule, Verdict};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Settings that between them switch everything on.
const SETTINGS: [&str; 5] = [
    "phase1_samples = 30",
    "phase1_samples = 25\nlimits = \"sigma\"\ncharts = [\"individuals\", \"moving_range\", \"xbar_s\", \"ewma\", \"cusum\"]\nsubgroup = 3",
    "phase1_samples = 2\ncharts = [\"individuals\"]\nlimits = \"sigma\"\nwestern_electric = [1, 2, 3, 4]\nnelson = [1, 2, 3, 4, 5, 6, 7, 8]",
    "phase1_samples = 20\non_signal = \"refuse\"\non_stuck = \"refuse\"\nstuck_after = 4\ncharts = [\"ewma\", \"cusum\"]\ncusum = { k = 0.25, h = 4, after_signal = \"continue\" }",
    "phase1_samples = 10\non_clock = \"flag\"\non_range = \"flag\"\nclock_recovery = 1\nmissing_share = 0.0",
];

const OVERRIDES: [&str; 4] = [
    "",
    "max_rate = 3.0",
    "center = 1.0\nsigma = 0.5",
    "ucl = 4.0\nnelson = [2]",
];

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -3.0..3.0f64,
        2 => (-4i32..4).prop_map(f64::from),
        1 => any::<f64>(),
        1 => prop::sample::select(vec![
            f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -f64::MAX, f64::MIN_POSITIVE, -0.0,
        ]),
    ]
}

fn quality() -> impl Strategy<Value = Quality> {
    prop_oneof![
        Just(Quality::BAD_NO_DATA),
        Just(Quality::UNCERTAIN),
        any::<u32>().prop_map(Quality),
    ]
}

/// One column's samples: values, exceptions of quality.
fn column(samples: usize) -> impl Strategy<Value = (Vec<f64>, BTreeMap<u32, Quality>)> {
    (
        prop::collection::vec(value(), samples),
        prop::collection::btree_map(0..samples.max(1) as u32, quality(), 0..3),
    )
}

/// Steps from one source time to the next; mostly forward.
fn steps(samples: usize) -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![
        40 => 0..1_000_000_000i64,
        1 => -5_000_000_000..0i64,
        1 => any::<i64>(),
    ];
    prop::collection::vec(step, samples)
}

type RawBatch = (Vec<i64>, Vec<(Vec<f64>, BTreeMap<u32, Quality>)>);

fn raw_batch() -> impl Strategy<Value = RawBatch> {
    (0usize..40).prop_flat_map(|n| (steps(n), prop::collection::vec(column(n), 4)))
}

fn tags() -> Arc<[TagSpec]> {
    let ranged = TagSpec {
        range: Some((-1e6, 1e6)),
        ..tag("ranged", ValueKind::F64)
    };
    [
        ranged,
        tag("free", ValueKind::F64),
        tag("whole", ValueKind::I64),
        tag("text", ValueKind::Text),
    ]
    .into()
}

/// Turns raw numbers into a batch of every kind of column, its times going on from `clock`.
fn build(tags: &Arc<[TagSpec]>, raw: &RawBatch, clock: &mut Nanos) -> Batch {
    let next = |step: &i64| {
        *clock = clock.saturating_add(*step);
        *clock
    };
    let timeline: Vec<Nanos> = raw.0.iter().map(next).collect();
    let columns = raw
        .1
        .iter()
        .enumerate()
        .map(|(i, (values, exceptions))| Column {
            timeline: 0,
            values: match i {
                2 => Values::I64(values.iter().map(|x| *x as i64).collect()),
                3 => Values::Text(values.iter().map(f64::to_string).collect()),
                _ => Values::F64(values.clone()),
            },
            quality: QualityColumn {
                exceptions: exceptions
                    .iter()
                    .filter(|(i, _)| (**i as usize) < values.len())
                    .map(|(i, q)| (*i, *q))
                    .collect(),
            },
        });
    Batch {
        device: "d".into(),
        epoch: 1,
        sequence: 1,
        tags: tags.clone(),
        timelines: vec![timeline],
        columns: columns.collect(),
    }
}

/// Signals by chart and rule: where the first was, and how many.
fn signals(verdicts: &[(usize, Verdict)]) -> BTreeMap<(Chart, Rule), (usize, u32)> {
    let mut all = BTreeMap::new();
    for (offset, verdict) in verdicts {
        for f in &verdict.findings {
            let first = offset + f.sample as usize;
            let entry = all.entry((f.chart, f.rule)).or_insert((first, 0));
            entry.1 += f.count;
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever arrives, a verdict comes out, and whoever has settings, limits and state finds the
    /// same one, bit by bit.
    #[test]
    fn judging_again_from_the_state_before_gives_the_same_bits(
        settings in prop::sample::select(SETTINGS.to_vec()),
        overrides in prop::collection::vec(prop::sample::select(OVERRIDES.to_vec()), 4),
        batches in prop::collection::vec(raw_batch(), 1..12),
    ) {
        let (tags, device) = (tags(), device(settings));
        let per_tag: Vec<_> = overrides.iter().map(|o| own(o)).collect();
        let mut validator = DeviceValidator::new(tags.clone(), &device, &per_tag, None).unwrap();
        let mut clock = 0;
        for raw in &batches {
            let batch = build(&tags, raw, &mut clock);
            let (state, limits) = (validator.state(), validator.limits().encode());
            let settings = validator.settings_document();
            let judged = validator.judge(&batch);
            let limits = Limits::decode(&limits).unwrap();
            let mut elsewhere =
                DeviceValidator::restore(tags.clone(), &device, &per_tag, Some(limits), &state).unwrap();
            prop_assert_eq!(&elsewhere.state(), &state);
            prop_assert_eq!(elsewhere.settings_document(), settings);
            let again = elsewhere.judge(&batch);
            prop_assert_eq!(again.verdict.encode(), judged.verdict.encode());
            prop_assert_eq!(again.learned, judged.learned);
            prop_assert_eq!(elsewhere.state(), validator.state());
            let clock_back = judged.verdict.findings.iter().any(|f| f.rule == Rule::ClockBack);
            if judged.verdict.class == VerdictClass::Invalid && !clock_back {
                prop_assert_eq!(validator.state(), state, "a refused batch feeds no chart");
            }
            // The class is the worst of the findings, and they can be said.
            let worst = judged.verdict.findings.iter().map(|f| f.class).max();
            prop_assert_eq!(judged.verdict.class, worst.unwrap_or(VerdictClass::Accepted));
            prop_assert!(!judged.verdict.summary().is_empty());
        }
    }

    /// Where batches are cut makes no difference to charts, rules and Phase I.
    #[test]
    fn cutting_a_batch_in_two_changes_no_signal(
        settings in prop::sample::select(SETTINGS[..3].to_vec()),
        values in prop::collection::vec(-3.0..3.0f64, 20..200),
        cut in 0.0..1.0f64,
    ) {
        let (device, n) = (device(settings), values.len());
        let cut = (cut * n as f64) as usize;
        let mut whole = validator(&device, own(""));
        let mut parts = whole.clone();
        let time = times(0, n);
        let at_once = whole.judge(&batch(&one_tag(), &time, &[&values])).verdict;
        let first = parts.judge(&batch(&one_tag(), &time[..cut], &[&values[..cut]])).verdict;
        let second = parts.judge(&batch(&one_tag(), &time[cut..], &[&values[cut..]])).verdict;
        prop_assert_eq!(signals(&[(0, at_once)]), signals(&[(0, first), (cut, second)]));
        prop_assert_eq!(whole.state(), parts.state());
        prop_assert_eq!(whole.limits(), parts.limits());
    }

    /// An Uncertain sample is judged like a Good one, but keeps a column from the fast path.
    #[test]
    fn the_fast_path_finds_what_the_slow_one_finds(
        settings in prop::sample::select(vec![
            "phase1_samples = 30", "phase1_samples = 30\ncharts = [\"ewma\"]\nmargin = 0.1",
            "phase1_samples = 30\nmargin = 0.0\nsigmas = 2.0", "phase1_samples = 30\ncharts = []",
            "phase1_samples = 30\nlimits = \"sigma\"\nstuck_after = 3",
        ]),
        learn in prop::collection::vec(-3.0..3.0f64, 31),
        batches in prop::collection::vec(prop::collection::vec(prop_oneof![
            20 => -3.0..3.0f64, 20 => (0i32..2).prop_map(f64::from), 1 => value()
        ], 1..60), 1..6),
    ) {
        let mut fast = validator(&device(settings), own(""));
        fast.judge(&batch(&one_tag(), &times(0, 31), &[&learn]));
        let mut slow = fast.clone();
        let mut at = 31;
        for values in &batches {
            let plain = batch(&one_tag(), &times(at, values.len()), &[values]);
            let mut marked = plain.clone();
            marked.columns[0].quality.exceptions = vec![(0, Quality::UNCERTAIN)];
            let (a, b) = (fast.judge(&plain).verdict, slow.judge(&marked).verdict);
            prop_assert_eq!(a.encode(), b.encode());
            prop_assert_eq!(fast.state(), slow.state());
            at += values.len();
        }
    }

    /// Bytes from outside are a state or an error, and a state that was read can judge.
    #[test]
    fn state_bytes_from_outside_never_panic(
        settings in prop::sample::select(SETTINGS.to_vec()),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        raw in raw_batch(),
    ) {
        let (tags, device) = (tags(), device(settings));
        let restore = |bytes: &[u8]| DeviceValidator::restore(tags.clone(), &device, &[], None, bytes);
        let _ = restore(&bytes);
        let mut clock = 0;
        let batch = build(&tags, &raw, &mut clock);
        let mut validator = DeviceValidator::new(tags.clone(), &device, &[], None).unwrap();
        validator.judge(&batch);
        let limits = validator.limits().encode();
        let mut state = validator.state();
        for (at, byte) in &flips {
            let at = at.index(state.len());
            state[at] = *byte;
        }
        let limits = Limits::decode(&limits).unwrap();
        if let Ok(mut odd) = DeviceValidator::restore(tags.clone(), &device, &[], Some(limits), &state) {
            for _ in 0..3 {
                odd.judge(&batch);
                odd.finish_phase1();
            }
        }
        let _ = Limits::decode(&bytes);
    }
}

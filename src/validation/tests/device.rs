//! Whole devices: the three verdicts, Phase I, and what sensors do wrong.

use super::support::{
    Normal, Random, batch, device, mark_bad, one_tag, own, tag, times, validator,
};
use crate::model::{ValueKind, Values, VerdictClass};
use crate::validation::{
    Behaviour, Chart, DeviceValidator, Limits, Rule, TagValidation, ValidationConfig, Verdict,
};
use std::sync::Arc;
use weighbridge_verifier::settings::{Origin, origins};
use weighbridge_verifier::sha256;

fn noise(seed: u64, count: usize) -> Vec<f64> {
    let normal = Normal::new();
    let mut random = Random(seed);
    (0..count)
        .map(|_| 50.0 + normal.draw(&mut random))
        .collect()
}

/// A device of one tag that has learned from 1,000 samples of noise about 50, and where its time is.
fn learned(own: TagValidation) -> (DeviceValidator, usize) {
    let mut validator = validator(&ValidationConfig::default(), own);
    let judged = validator.judge(&batch(&one_tag(), &times(0, 1000), &[&noise(1, 1000)]));
    assert_eq!(judged.verdict, Verdict::accepted());
    assert!(judged.learned.is_some());
    (validator, 1000)
}

fn judge(validator: &mut DeviceValidator, at: usize, values: &[f64]) -> Verdict {
    let batch = batch(&one_tag(), &times(at, values.len()), &[values]);
    validator.judge(&batch).verdict
}

fn first(verdict: &Verdict) -> (VerdictClass, Chart, Rule, u32) {
    let f = &verdict.findings[0];
    assert_eq!(f.class, verdict.class);
    (f.class, f.chart, f.rule, f.sample)
}

#[test]
fn a_hundred_thousand_samples_of_noise_raise_no_alarm() {
    let (mut validator, mut at) = learned(own(""));
    let samples = noise(2, 100_000);
    for chunk in samples.chunks(500) {
        assert_eq!(judge(&mut validator, at, chunk), Verdict::accepted());
        at += chunk.len();
    }
}

#[test]
fn a_moving_robot_raises_no_alarm_and_a_spike_a_drift_and_a_stuck_joint_do() {
    let normal = Normal::new();
    let mut random = Random(3);
    // A joint that goes to and fro with rests, and a current that follows its acceleration.
    let mut position = |i: usize| {
        let phase = (i % 160) as f64 / 160.0;
        let swing = (phase * 4.0 - 2.0).clamp(-1.0, 1.0)
            * if (i / 160).is_multiple_of(2) {
                1.0
            } else {
                -1.0
            };
        90.0 * swing + 0.01 * normal.draw(&mut random)
    };
    let mut validator = validator(&ValidationConfig::default(), own(""));
    let motion: Vec<f64> = (0..20_000).map(&mut position).collect();
    for (i, chunk) in motion.chunks(100).enumerate() {
        assert_eq!(judge(&mut validator, i * 100, chunk), Verdict::accepted());
    }
    let at = motion.len();
    let mut spike: Vec<f64> = (at..at + 100).map(&mut position).collect();
    spike[40] += 120.0;
    let found = validator
        .clone()
        .judge(&batch(&one_tag(), &times(at, 100), &[&spike]))
        .verdict;
    assert_eq!(
        first(&found),
        (
            VerdictClass::OutOfControl,
            Chart::MovingRange,
            Rule::BeyondLimit,
            40
        )
    );
    let drifted: Vec<f64> = (at..at + 2000)
        .map(|i| position(i) + 0.2 * (i - at) as f64)
        .collect();
    let found = validator
        .clone()
        .judge(&batch(&one_tag(), &times(at, 2000), &[&drifted]))
        .verdict;
    assert_eq!(found.class, VerdictClass::OutOfControl);
    assert!(
        found.findings.iter().any(|f| f.chart == Chart::Individuals),
        "{}",
        found.summary()
    );
    let stuck = vec![12.5; 200];
    let found = validator
        .clone()
        .judge(&batch(&one_tag(), &times(at, 200), &[&stuck]))
        .verdict;
    assert!(
        found.findings.iter().any(|f| f.rule == Rule::Stuck),
        "{}",
        found.summary()
    );
}

#[test]
fn what_did_not_move_counts_or_warms_up_is_not_charted() {
    let tags: Arc<[_]> = ["setpoint", "counter", "motor"]
        .map(|n| tag(n, ValueKind::F64))
        .into();
    let mut validator =
        DeviceValidator::new(tags.clone(), &ValidationConfig::default(), &[], None).unwrap();
    let noise = noise(4, 4000);
    let setpoint: Vec<f64> = (0..4000)
        .map(|i| if i < 2000 { 7.0 } else { 9.0 })
        .collect();
    let counter: Vec<f64> = (0..4000).map(|i| (i / 50) as f64).collect();
    let motor: Vec<f64> = (0..4000)
        .map(|i| 20.0 + 0.02 * i as f64 + 0.1 * noise[i])
        .collect();
    for at in (0..4000).step_by(100) {
        let part = at..at + 100;
        let columns: [&[f64]; 3] = [
            &setpoint[part.clone()],
            &counter[part.clone()],
            &motor[part],
        ];
        let judged = validator.judge(&batch(&tags, &times(at, 100), &columns));
        assert_eq!(judged.verdict, Verdict::accepted());
    }
    let limits = validator.limits();
    let behaviour = |name| limits.tag(name).unwrap().behaviour.unwrap();
    assert_eq!(behaviour("setpoint"), Behaviour::Constant);
    assert_eq!(behaviour("counter"), Behaviour::Monotone);
    assert_eq!(behaviour("motor"), Behaviour::Drifting);
    assert!(limits.tag("motor").unwrap().moving_range.is_some());
    // What drifts is still watched for steps.
    let mut jump = motor[3900..].to_vec();
    jump[7] += 5.0;
    let columns: [&[f64]; 3] = [&setpoint[3900..], &counter[3900..], &jump];
    let found = validator
        .judge(&batch(&tags, &times(4000, 100), &columns))
        .verdict;
    assert_eq!(found.findings[0].chart, Chart::MovingRange);
}

#[test]
fn nan_and_infinity_with_good_quality_are_refused_and_with_bad_quality_skipped() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let (mut validator, at) = learned(own(""));
        let before = validator.state();
        let mut values = noise(5, 10);
        values[3] = bad;
        let found = judge(&mut validator, at, &values);
        assert_eq!(
            first(&found),
            (VerdictClass::Invalid, Chart::Sensor, Rule::NotFinite, 3)
        );
        assert_eq!(validator.state(), before, "a refused batch feeds no chart");
        let mut marked = batch(&one_tag(), &times(at, 10), &[&values]);
        mark_bad(&mut marked, 0, &[3]);
        assert_eq!(validator.judge(&marked).verdict, Verdict::accepted());
    }
}

#[test]
fn missing_samples_are_not_read_as_zero_and_too_many_are_a_finding() {
    let (mut validator, at) = learned(own(""));
    let mut zeros = batch(&one_tag(), &times(at, 10), &[&[0.0; 10]]);
    zeros.columns[0].values = Values::F64([vec![0.0; 5], noise(6, 5)].concat());
    mark_bad(&mut zeros, 0, &[0, 1, 2, 3, 4]);
    assert_eq!(validator.judge(&zeros).verdict, Verdict::accepted());
    let mut mostly = batch(&one_tag(), &times(at + 10, 10), &[&[0.0; 10]]);
    mark_bad(&mut mostly, 0, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let found = validator.judge(&mostly).verdict;
    assert_eq!(
        first(&found),
        (VerdictClass::OutOfControl, Chart::Sensor, Rule::Missing, 0)
    );
    assert_eq!(found.findings[0].count, 10);
}

#[test]
fn values_outside_the_physical_range_are_refused_or_flagged_as_set() {
    let tags: Arc<[_]> = [crate::model::TagSpec {
        range: Some((0.0, 120.0)),
        ..tag("temperature", ValueKind::F64)
    }]
    .into();
    for (setting, class) in [
        ("", VerdictClass::Invalid),
        ("on_range = \"flag\"", VerdictClass::OutOfControl),
    ] {
        let mut validator =
            DeviceValidator::new(tags.clone(), &device(setting), &[], None).unwrap();
        let found = validator
            .judge(&batch(&tags, &times(0, 3), &[&[0.0, 120.0, 120.5]]))
            .verdict;
        assert_eq!(first(&found), (class, Chart::Sensor, Rule::OutOfRange, 2));
        let text = found.summary();
        assert!(
            text.contains("sensor out_of_range: sample 2 of temperature"),
            "{text}"
        );
        assert!(text.contains("120.5 against a limit of 120"), "{text}");
    }
}

#[test]
fn a_change_faster_than_possible_is_found_also_between_batches() {
    let (mut validator, at) = learned(own("max_rate = 100.0\ncharts = []"));
    let verdict = judge(&mut validator, at, &[50.0, 55.0, 70.0]);
    assert_eq!(
        first(&verdict),
        (
            VerdictClass::OutOfControl,
            Chart::Sensor,
            Rule::RateOfChange,
            2
        )
    );
    assert!((verdict.findings[0].statistic - 150.0).abs() < 1e-9);
    assert_eq!(judge(&mut validator, at + 3, &[70.0]), Verdict::accepted());
    assert_eq!(
        first(&judge(&mut validator, at + 4, &[20.0])).2,
        Rule::RateOfChange
    );
}

#[test]
fn a_stuck_sensor_is_found_across_batches_and_zero_switches_it_off() {
    let (mut validator, at) = learned(own("charts = []"));
    assert_eq!(judge(&mut validator, at, &[50.5; 12]), Verdict::accepted());
    let found = judge(&mut validator, at + 12, &[50.5; 12]);
    assert_eq!(
        first(&found),
        (VerdictClass::OutOfControl, Chart::Sensor, Rule::Stuck, 7)
    );
    let (mut off, at) = learned(own("charts = []\nstuck_after = 0"));
    assert_eq!(judge(&mut off, at, &[50.5; 500]), Verdict::accepted());
}

#[test]
fn a_clock_that_goes_back_is_refused_and_believed_again_after_a_while() {
    let (mut validator, at) = learned(own(""));
    let values = noise(7, 100);
    let mut back = times(at, 10);
    back[4] = back[3] - 1;
    let found = validator
        .judge(&batch(&one_tag(), &back, &[&values[..10]]))
        .verdict;
    assert_eq!(
        first(&found),
        (VerdictClass::Invalid, Chart::Sensor, Rule::ClockBack, 4)
    );
    let mut verdicts = Vec::new();
    for i in 0..5 {
        verdicts.push(judge(&mut validator, 100 + i * 10, &values[i * 10..][..10]).class);
    }
    let (no, yes) = (VerdictClass::Invalid, VerdictClass::Accepted);
    assert_eq!(verdicts, [no, no, no, yes, yes]);
    assert_eq!(judge(&mut validator, 0, &values[..10]).class, no);
    assert_eq!(judge(&mut validator, at, &values[..10]).class, yes);
}

#[test]
fn a_signal_can_be_made_a_refusal_and_then_feeds_no_chart() {
    let (mut validator, at) = learned(own("on_signal = \"refuse\""));
    let before = validator.state();
    let found = judge(&mut validator, at, &[50.0, 500.0]);
    assert_eq!(found.class, VerdictClass::Invalid);
    assert_eq!(validator.state(), before);
    assert_eq!(
        judge(&mut validator, at, &[50.0]).class,
        VerdictClass::Accepted
    );
}

#[test]
fn a_refused_batch_does_not_end_phase_one() {
    let mut validator = validator(&device("phase1_samples = 100"), own(""));
    let mut values = noise(8, 120);
    values[110] = f64::NAN;
    assert_eq!(
        judge(&mut validator, 0, &values).class,
        VerdictClass::Invalid
    );
    assert_eq!(validator.learning(), 1);
    assert!(validator.limits().tags.is_empty());
    values[110] = 50.0;
    let judged = validator.judge(&batch(&one_tag(), &times(0, 120), &[&values]));
    assert_eq!(judged.verdict.class, VerdictClass::Accepted);
    assert_eq!(judged.learned.unwrap(), **validator.limits());
}

#[test]
fn learned_limits_are_used_again_after_a_restart() {
    let (validator, at) = learned(own(""));
    let bytes = validator.limits().encode();
    let limits = Limits::decode(&bytes).unwrap();
    let device = ValidationConfig::default();
    let mut again = DeviceValidator::new(one_tag(), &device, &[], Some(limits)).unwrap();
    assert_eq!(again.learning(), 0);
    assert_eq!(again.limits(), validator.limits());
    assert_eq!(again.settings_document(), validator.settings_document());
    assert_eq!(first(&judge(&mut again, at, &[70.0])).1, Chart::Individuals);
}

#[test]
fn a_settings_document_names_the_files_it_was_made_from() {
    let (validator, _) = learned(own(""));
    let origin = Origin {
        kind: "profile".to_owned(),
        id: "pump".to_owned(),
        version: "1.0".to_owned(),
        sha256: sha256(&[b"a profile"]),
    };
    let document = validator
        .clone()
        .made_from(std::slice::from_ref(&origin))
        .settings_document();
    assert_eq!(origins(&document).unwrap(), [origin]);
    let read = DeviceValidator::limits_of_document(&document).unwrap();
    assert_eq!(read, **validator.limits());
    // A document of an earlier version of the program, which did not name them.
    let without = validator.settings_document();
    assert_eq!(origins(&without).unwrap(), []);
    let old = [&[1], &without[5..]].concat();
    assert_eq!(DeviceValidator::limits_of_document(&old).unwrap(), read);
    assert_eq!(origins(&old).unwrap(), []);
    for damaged in [&document[..document.len() - 1], &[3], &[]] {
        assert!(DeviceValidator::limits_of_document(damaged).is_err());
    }
}

#[test]
fn an_ewma_finds_a_small_shift_that_single_values_hide() {
    let (mut validator, at) = learned(own(""));
    let shifted: Vec<f64> = noise(9, 300).iter().map(|x| x + 2.7).collect();
    let found = judge(&mut validator, at, &shifted);
    assert_eq!(
        (found.chart_name(), found.rule_name()),
        ("ewma", "beyond_limit")
    );
    assert_eq!(found.findings.len(), 1, "{}", found.summary());
}

#[test]
fn a_batch_of_another_shape_is_malformed() {
    let (mut validator, at) = learned(own(""));
    let good = batch(&one_tag(), &times(at, 2), &[&[50.0, 51.0]]);
    let mut without = good.clone();
    without.columns.clear();
    let mut short = good.clone();
    short.timelines[0].pop();
    let mut elsewhere = good.clone();
    elsewhere.columns[0].timeline = 7;
    for broken in [without, short, elsewhere] {
        let before = validator.state();
        let found = validator.judge(&broken).verdict;
        assert_eq!(
            first(&found),
            (VerdictClass::Invalid, Chart::Sensor, Rule::Malformed, 0)
        );
        assert_eq!(validator.state(), before);
    }
    assert_eq!(validator.judge(&good).verdict, Verdict::accepted());
}

#[test]
fn findings_are_listed_to_a_bound_and_counted_beyond_it() {
    let names: Vec<_> = (0..100)
        .map(|i| tag(&format!("t{i}"), ValueKind::F64))
        .collect();
    let tags: Arc<[_]> = names.into();
    let mut validator =
        DeviceValidator::new(tags.clone(), &ValidationConfig::default(), &[], None).unwrap();
    let nan = [f64::NAN, f64::NAN];
    let columns: Vec<&[f64]> = vec![&nan; 100];
    let found = validator
        .judge(&batch(&tags, &times(0, 2), &columns))
        .verdict;
    assert_eq!((found.findings.len(), found.unlisted), (64, 36));
    assert_eq!(found.findings[0].count, 2);
    assert!(
        found.summary().ends_with("and 99 more findings"),
        "{}",
        found.summary()
    );
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    for (setting, word) in [
        ("center = 1.0", "center is set without sigma"),
        ("sigma = 1.0", "sigma is set without center"),
        ("lcl = 2.0\nucl = 1.0", "lcl 2 is not below ucl 1"),
    ] {
        let device = ValidationConfig::default();
        let error = DeviceValidator::new(one_tag(), &device, &[own(setting)], None).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn bad_numbers_in_a_configuration_are_refused_with_what_was_expected() {
    for (toml, word) in [
        ("ewma = { lambda = 1.5 }", "above 0 and at most 1"),
        ("sigmas = 0.0", "above 0"),
        ("subgroup = 1", "a subgroup size from 2 to 25"),
        ("nelson = [9]", "a Nelson rule from 1 to 8"),
        (
            "western_electric = [0]",
            "a Western Electric rule from 1 to 4",
        ),
        ("missing_share = 2.0", "a share from 0 to 1"),
        ("lambda = 0.2", "unknown field"),
        ("charts = [\"ewmaa\"]", "unknown variant"),
    ] {
        let error = toml::from_str::<ValidationConfig>(toml)
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{toml}: {error}");
    }
    let all = toml::to_string(&ValidationConfig::default()).unwrap();
    assert_eq!(device(&all), ValidationConfig::default());
}

//! The examples of OPC 10000-13, Annex A: its historians 1 to 3, from 12:00:00 to 12:01:40.
//!
//! The annex begins each history with an entry "point created" of status Bad_NoData. There is no such
//! entry here: data begin with the first sample, which gives the same results.

use super::*;

const SECOND: Nanos = 1_000_000_000;
const END: Nanos = 100 * SECOND;

const BAD: Quality = Quality::BAD;
const GOOD: Quality = Quality::GOOD;
const UNCERTAIN: Quality = Quality::UNCERTAIN;

pub(in super::super) type Raw = (i64, f64, Quality);

/// A.1.1: periodic data.
pub(in super::super) const HISTORIAN_1: [Raw; 9] = [
    (10, 10.0, GOOD),
    (20, 20.0, GOOD),
    (30, 30.0, GOOD),
    (40, 40.0, BAD),
    (50, 50.0, GOOD),
    (60, 60.0, GOOD),
    (70, 70.0, UNCERTAIN),
    (80, 80.0, GOOD),
    (90, 90.0, GOOD),
];
/// A.1.2: non-periodic data.
pub(in super::super) const HISTORIAN_2: [Raw; 12] = [
    (2, 10.0, GOOD),
    (25, 20.0, GOOD),
    (28, 25.0, GOOD),
    (39, 30.0, GOOD),
    (42, 0.0, BAD),
    (48, 40.0, GOOD),
    (52, 50.0, GOOD),
    (72, 60.0, GOOD),
    (77, 70.0, UNCERTAIN),
    (83, 70.0, GOOD),
    (86, 80.0, GOOD),
    (90, 90.0, GOOD),
];

pub(in super::super) const RULES_1: Rules = Rules {
    treat_uncertain_as_bad: false,
    percent_bad: 100,
    percent_good: 100,
    sloped_extrapolation: false,
};
pub(in super::super) const RULES_2: Rules = Rules {
    treat_uncertain_as_bad: true,
    ..RULES_1
};

fn samples(raw: &[Raw]) -> Vec<PastSample> {
    let sample = |(time, value, quality): &Raw| PastSample {
        time: time * SECOND,
        value: Value::F64(*value),
        quality: *quality,
    };
    raw.iter().map(sample).collect()
}

/// What an aggregate says of every interval of `length` seconds.
fn said(history: &[PastSample], aggregate: Aggregate, length: i64, rules: Rules) -> Vec<Said> {
    let mut said = Vec::new();
    let mut from = 0;
    while from < END {
        let to = (from + length * SECOND).min(END);
        let first = history.partition_point(|s| s.time < from);
        let last = history.partition_point(|s| s.time < to);
        let before: Vec<_> = history[..first].iter().rev().cloned().collect();
        let interval = Interval {
            from,
            to,
            stamp: from,
            within: &history[first..last],
            before: &before,
            after: &history[last..],
            // The annex does not set Partial for the last interval being shorter.
            cut: false,
        };
        said.push(interval.say(aggregate, rules));
        from += length * SECOND;
    }
    said
}

/// One line of the annex: seconds after 12:00, value to three decimals or "-", status.
fn line(said: &Said) -> String {
    let value = match &said.value {
        Some(value) => {
            let number = value.as_f64().unwrap();
            let text = format!("{number:.3}");
            let short = text.trim_end_matches('0').trim_end_matches('.');
            short.to_owned()
        }
        None => "-".to_owned(),
    };
    let name = match said.status & 0xFFFF_0000 {
        0 => "Good",
        0x4000_0000 => "Uncertain",
        0x40A4_0000 => "SubNormal",
        0x8000_0000 => "Bad",
        0x809B_0000 => "NoData",
        other => panic!("status {other:x}"),
    };
    let time = match said.time % SECOND {
        0 => (said.time / SECOND).to_string(),
        _ => format!("{:.3}", said.time as f64 / SECOND as f64),
    };
    let mut line = format!("{time} {value} {name}");
    for (bit, name) in [
        (CALCULATED, "Calculated"),
        (INTERPOLATED, "Interpolated"),
        (PARTIAL, "Partial"),
        (MULTIPLE, "MultipleValues"),
    ] {
        if said.status & bit != 0 {
            assert_ne!(said.status & DATA_VALUE, 0);
            line.push_str(&format!(" {name}"));
        }
    }
    line
}

pub(in super::super) fn check(
    history: &[Raw],
    aggregate: Aggregate,
    length: i64,
    rules: Rules,
    expected: &str,
) {
    let said = said(&samples(history), aggregate, length, rules);
    let lines: Vec<String> = said.iter().map(line).collect();
    let expected: Vec<String> = expected
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|l| !l.is_empty())
        .collect();
    assert_eq!(lines, expected, "{aggregate:?}");
}

/// The same for the first intervals, as many as are given.
pub(in super::super) fn check_first(
    history: &[Raw],
    aggregate: Aggregate,
    length: i64,
    rules: Rules,
    expected: &str,
) {
    let said = said(&samples(history), aggregate, length, rules);
    for (line_of, expected) in said.iter().map(line).zip(expected.trim().lines()) {
        let expected: Vec<_> = expected.split_whitespace().collect();
        assert_eq!(line_of, expected.join(" "), "{aggregate:?}");
    }
}

#[test]
fn interpolative_as_in_annex_a_2() {
    check(
        &HISTORIAN_1,
        Aggregate::Interpolative,
        5,
        RULES_1,
        "0 - NoData
         5 - NoData
         10 10 Good
         15 15 Good Interpolated
         20 20 Good
         25 25 Good Interpolated
         30 30 Good
         35 35 SubNormal Interpolated
         40 40 SubNormal Interpolated
         45 45 SubNormal Interpolated
         50 50 Good
         55 55 Good Interpolated
         60 60 Good
         65 65 SubNormal Interpolated
         70 70 Uncertain
         75 75 SubNormal Interpolated
         80 80 Good
         85 85 Good Interpolated
         90 90 Good
         95 90 SubNormal Interpolated",
    );
    check(
        &HISTORIAN_2,
        Aggregate::Interpolative,
        5,
        RULES_2,
        "0 - NoData
         5 11.304 Good Interpolated
         10 13.478 Good Interpolated
         15 15.652 Good Interpolated
         20 17.826 Good Interpolated
         25 20 Good
         30 25.909 Good Interpolated
         35 28.182 Good Interpolated
         40 31.111 SubNormal Interpolated
         45 36.667 SubNormal Interpolated
         50 45 Good Interpolated
         55 51.5 Good Interpolated
         60 54 Good Interpolated
         65 56.5 Good Interpolated
         70 59 Good Interpolated
         75 62.727 SubNormal Interpolated
         80 67.273 SubNormal Interpolated
         85 76.667 Good Interpolated
         90 90 Good
         95 90 SubNormal Interpolated",
    );
}

#[test]
fn average_as_in_annex_a_3() {
    check(
        &HISTORIAN_1,
        Aggregate::Average,
        5,
        RULES_1,
        "0 - NoData
         5 - NoData
         10 10 Good Calculated
         15 - NoData
         20 20 Good Calculated
         25 - NoData
         30 30 Good Calculated
         35 - NoData
         40 - NoData
         45 - NoData
         50 50 Good Calculated
         55 - NoData
         60 60 Good Calculated
         65 - NoData
         70 - NoData
         75 - NoData
         80 80 Good Calculated
         85 - NoData
         90 90 Good Calculated
         95 - NoData",
    );
    check(
        &HISTORIAN_2,
        Aggregate::Average,
        5,
        RULES_2,
        "0 10 Good Calculated
         5 - NoData
         10 - NoData
         15 - NoData
         20 - NoData
         25 22.5 Good Calculated
         30 - NoData
         35 30 Good Calculated
         40 - NoData
         45 40 Good Calculated
         50 50 Good Calculated
         55 - NoData
         60 - NoData
         65 - NoData
         70 60 Good Calculated
         75 - NoData
         80 70 Good Calculated
         85 80 Good Calculated
         90 90 Good Calculated
         95 - NoData",
    );
}

#[test]
fn time_average_as_in_annex_a_4() {
    check(
        &HISTORIAN_1,
        Aggregate::TimeAverage,
        5,
        RULES_1,
        "0 - NoData
         5 - NoData
         10 12.5 Good Calculated
         15 17.5 Good Calculated
         20 22.5 Good Calculated
         25 27.5 Good Calculated
         30 32.5 SubNormal Calculated
         35 37.5 SubNormal Calculated
         40 42.5 SubNormal Calculated
         45 47.5 SubNormal Calculated
         50 52.5 Good Calculated
         55 57.5 Good Calculated
         60 62.5 SubNormal Calculated
         65 67.5 SubNormal Calculated
         70 72.5 SubNormal Calculated
         75 77.5 SubNormal Calculated
         80 82.5 Good Calculated
         85 87.5 Good Calculated
         90 90 SubNormal Calculated
         95 90 SubNormal Calculated",
    );
    let said = said(&samples(&HISTORIAN_2), Aggregate::TimeAverage, 5, RULES_2);
    assert_eq!(line(&said[0]), "0 10.652 SubNormal Calculated Partial");
    assert_eq!(line(&said[1]), "5 12.391 Good Calculated");
}

#[test]
fn total_is_the_mean_times_the_seconds() {
    let of = |aggregate| said(&samples(&HISTORIAN_1), aggregate, 5, RULES_1);
    let (mean, total) = (of(Aggregate::TimeAverage), of(Aggregate::Total));
    for (mean, total) in mean.iter().zip(&total) {
        let number = |said: &Said| said.value.as_ref().and_then(Value::as_f64);
        assert_eq!(number(mean).map(|m| m * 5.0), number(total));
        assert_eq!(mean.status, total.status);
    }
}

#[test]
fn minimum_and_maximum_as_in_annex_a_8_and_a_9() {
    check(
        &HISTORIAN_2,
        Aggregate::Minimum,
        16,
        RULES_2,
        "0 10 Good Calculated Partial
         16 20 Good Calculated
         32 30 SubNormal Calculated
         48 40 Good
         64 60 SubNormal Calculated
         80 70 Good Calculated Partial
         96 - NoData",
    );
    check(
        &HISTORIAN_1,
        Aggregate::Maximum,
        16,
        RULES_1,
        "0 10 Good Calculated Partial
         16 30 Good Calculated
         32 - NoData
         48 60 Good Calculated
         64 - NoData
         80 90 Good Calculated Partial
         96 - NoData",
    );
    check(
        &HISTORIAN_2,
        Aggregate::Maximum,
        16,
        RULES_2,
        "0 10 Good Calculated Partial
         16 25 Good Calculated
         32 30 SubNormal Calculated
         48 50 Good Calculated
         64 60 SubNormal Calculated
         80 90 Good Calculated Partial
         96 - NoData",
    );
}

#[test]
fn actual_times_as_in_annex_a_10_and_a_11() {
    check(
        &HISTORIAN_1,
        Aggregate::MinimumActualTime,
        16,
        RULES_1,
        "10 10 Good Partial
         20 20 Good
         32 - NoData
         50 50 Good
         64 - NoData
         80 80 Good Partial
         96 - NoData",
    );
    check(
        &HISTORIAN_2,
        Aggregate::MinimumActualTime,
        16,
        RULES_2,
        "2 10 Good Partial
         25 20 Good
         39 30 SubNormal
         48 40 Good
         72 60 SubNormal
         83 70 Good Partial
         96 - NoData",
    );
    check(
        &HISTORIAN_1,
        Aggregate::MaximumActualTime,
        16,
        RULES_1,
        "10 10 Good Partial
         30 30 Good
         32 - NoData
         60 60 Good
         64 - NoData
         90 90 Good Partial
         96 - NoData",
    );
    check(
        &HISTORIAN_2,
        Aggregate::MaximumActualTime,
        16,
        RULES_2,
        "2 10 Good Partial
         28 25 Good
         39 30 SubNormal
         52 50 Good
         72 60 SubNormal
         90 90 Good Partial
         96 - NoData",
    );
}

#[test]
fn count_as_in_annex_a_19() {
    check(
        &HISTORIAN_1,
        Aggregate::Count,
        16,
        RULES_1,
        "0 1 Good Calculated Partial
         16 2 Good Calculated
         32 - Bad
         48 2 Good Calculated
         64 0 SubNormal Calculated
         80 2 Good Calculated Partial
         96 - NoData",
    );
    check(
        &HISTORIAN_2,
        Aggregate::Count,
        16,
        RULES_2,
        "0 1 Good Calculated Partial
         16 2 Good Calculated
         32 1 SubNormal Calculated
         48 2 Good Calculated
         64 1 SubNormal Calculated
         80 3 Good Calculated Partial
         96 - NoData",
    );
}

#[test]
fn variance_as_in_annex_a_36_and_its_root() {
    let tables = [
        (
            &HISTORIAN_1[..],
            RULES_1,
            "0 0 Good Calculated Partial
             20 50 Good Calculated
             40 0 SubNormal Calculated
             60 0 SubNormal Calculated
             80 50 Good Calculated Partial",
        ),
        (
            &HISTORIAN_2[..],
            RULES_2,
            "0 0 Good Calculated Partial
             20 25 Good Calculated
             40 50 SubNormal Calculated
             60 0 SubNormal Calculated
             80 100 Good Calculated Partial",
        ),
    ];
    for (history, rules, expected) in tables {
        check(history, Aggregate::VarianceSample, 20, rules, expected);
        let of = |aggregate| said(&samples(history), aggregate, 20, rules);
        let variance = of(Aggregate::VarianceSample);
        let deviation = of(Aggregate::StandardDeviationSample);
        for (variance, deviation) in variance.iter().zip(&deviation) {
            let number = |said: &Said| said.value.as_ref().and_then(Value::as_f64);
            assert_eq!(number(variance).map(f64::sqrt), number(deviation));
        }
    }
    // Over n instead of n - 1: 20, 25 and 30 vary by 50 / 3.
    let population = said(
        &samples(&HISTORIAN_2),
        Aggregate::VariancePopulation,
        20,
        RULES_2,
    );
    assert_eq!(line(&population[1]), "20 16.667 Good Calculated");
}

#[test]
fn start_end_range_and_delta_by_their_definitions() {
    let of = |aggregate| -> Vec<String> {
        let said = said(&samples(&HISTORIAN_1), aggregate, 16, RULES_1);
        said.iter().map(line).collect()
    };
    assert_eq!(
        of(Aggregate::Start),
        [
            "10 10 Good Partial",
            "20 20 Good",
            "40 - Bad",
            "50 50 Good",
            "70 70 Uncertain",
            "80 80 Good Partial",
            "96 - NoData"
        ]
    );
    assert_eq!(of(Aggregate::End)[1], "30 30 Good");
    assert_eq!(
        of(Aggregate::Range),
        [
            "0 0 Good Calculated Partial",
            "16 10 Good Calculated",
            "32 - NoData",
            "48 10 Good Calculated",
            "64 - NoData",
            "80 10 Good Calculated Partial",
            "96 - NoData"
        ]
    );
    let falling = [(1, 5.0, BAD), (2, 9.0, GOOD), (3, 4.0, GOOD)];
    let delta = said(&samples(&falling), Aggregate::Delta, 100, RULES_1);
    assert_eq!(line(&delta[0]), "0 -5 SubNormal Calculated Partial");
}

#[test]
fn half_and_half_is_good_where_half_is_enough() {
    // Historian 3's rules. Mantis issue 6227 of the OPC Foundation: where the two limits meet, the
    // good one decides.
    let rules = Rules {
        percent_bad: 50,
        percent_good: 50,
        ..RULES_2
    };
    let count = said(&samples(&HISTORIAN_2), Aggregate::Count, 16, rules);
    assert_eq!(line(&count[4]), "64 1 Good Calculated");
}

#[test]
fn several_samples_of_the_least_value_are_said_to_be_several() {
    let twice = [(1, 5.0, GOOD), (2, 5.0, GOOD), (3, 6.0, GOOD)];
    let least = said(&samples(&twice), Aggregate::Minimum, 100, RULES_1);
    assert_eq!(
        line(&least[0]),
        "0 5 Good Calculated Partial MultipleValues"
    );
}

#[test]
fn beyond_the_last_sample_the_line_goes_on_if_asked_to() {
    let rules = Rules {
        sloped_extrapolation: true,
        ..RULES_1
    };
    let beyond = said(&samples(&HISTORIAN_1), Aggregate::Interpolative, 5, rules);
    assert_eq!(line(&beyond[19]), "95 95 SubNormal Interpolated");
}

#[test]
fn switches_and_texts_are_held_not_drawn() {
    let held = |value: Value| PastSample {
        time: 10 * SECOND,
        value,
        quality: GOOD,
    };
    let next = |value: Value| PastSample {
        time: 20 * SECOND,
        ..held(value)
    };
    let at = |first, second| {
        let history = [held(first), next(second)];
        bound(15 * SECOND, &history[..1], &history[1..], RULES_1)
    };
    let switch = at(Value::Bool(true), Value::Bool(false));
    assert_eq!(switch.value, Some(Value::Bool(true)));
    assert_eq!(
        (switch.quality, switch.origin),
        (GOOD, Origin::Interpolated)
    );
    let text = at(Value::Text("a".into()), Value::Text("b".into()));
    assert_eq!(text.value, Some(Value::Text("a".into())));
    let whole = at(Value::I64(1), Value::I64(4));
    assert_eq!(whole.value, Some(Value::I64(3)));
}

//! The chart history: what a face draws.

use super::support::{batch, mark_bad, one_tag, own, times, validator};
use crate::validation::{ChartHistory, DeviceValidator, TagChart, ValidationConfig};
use std::sync::Arc;

fn push(history: &ChartHistory, validator: &mut DeviceValidator, at: usize, values: &[f64]) {
    let mut batch = batch(&one_tag(), &times(at, values.len()), &[values]);
    if values.len() > 4 {
        mark_bad(&mut batch, 0, &[4]);
    }
    let judged = validator.judge(&batch);
    let limits = judged.learned.map(Arc::new);
    history.push(Arc::new(batch), Arc::new(judged.verdict), limits);
}

fn chart(history: &ChartHistory, points: usize) -> TagChart {
    history.chart("press-1", "temperature", points).unwrap()
}

fn swing(i: usize) -> f64 {
    [1.0, 3.0, 2.0, 4.0, 1.5][i % 5]
}

#[test]
fn a_chart_has_limits_points_and_the_rule_that_fired() {
    let history = ChartHistory::default();
    history.register("press-1".into());
    let mut validator = validator(&ValidationConfig::default(), own("phase1_samples = 50"));
    let values: Vec<f64> = (0..40).map(swing).collect();
    push(&history, &mut validator, 0, &values);
    let learning = chart(&history, 100);
    assert_eq!(
        (learning.center, learning.lcl, learning.ucl),
        (None, None, None)
    );
    assert!(learning.basis.starts_with("Phase I"), "{}", learning.basis);
    push(&history, &mut validator, 40, &values);
    push(&history, &mut validator, 80, &[2.0, 50.0, 50.5, 3.0]);
    let chart = chart(&history, 7);
    let limits = validator
        .limits()
        .tag("temperature")
        .unwrap()
        .individuals
        .unwrap();
    assert_eq!((chart.lcl, chart.ucl), (Some(limits.lcl), Some(limits.ucl)));
    assert_eq!(chart.basis, "limits are learned from 50 samples");
    let seen: Vec<f64> = chart.points.iter().map(|p| p.value).collect();
    assert_eq!(seen, [2.0, 4.0, 1.5, 2.0, 50.0, 50.5, 3.0]);
    let fired: Vec<_> = chart
        .points
        .iter()
        .map(|p| p.signalled.as_deref())
        .collect();
    let beyond = Some("individuals beyond_limit");
    assert_eq!(fired[..6], [None, None, None, None, beyond, beyond]);
    let time = times(77, 7);
    assert!(chart.points.iter().map(|p| p.time).eq(time));
}

#[test]
fn what_is_no_number_is_not_told_to_be_beyond_a_limit() {
    let history = ChartHistory::default();
    history.register("press-1".into());
    let set = own("center = 2.0\nsigma = 1.0");
    let mut validator = validator(&ValidationConfig::default(), set);
    let first = Arc::new(batch(&one_tag(), &times(0, 1), &[&[2.0]]));
    let accepted = Arc::new(crate::validation::Verdict::accepted());
    history.push(first, accepted, Some(validator.limits().clone()));
    let no_number = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    push(&history, &mut validator, 1, &no_number);
    for point in chart(&history, 3).points {
        assert_eq!(point.signalled.as_deref(), Some("sensor not_finite"));
    }
}

#[test]
fn a_missing_sample_is_marked_and_is_no_signal() {
    let history = ChartHistory::default();
    history.register("press-1".into());
    let mut validator = validator(
        &ValidationConfig::default(),
        own("center = 100.0\nsigma = 1.0"),
    );
    history.push(
        Arc::new(batch(&one_tag(), &times(0, 1), &[&[100.0]])),
        Arc::new(crate::validation::Verdict::accepted()),
        Some(validator.limits().clone()),
    );
    push(
        &history,
        &mut validator,
        1,
        &[100.0, 100.1, 99.0, 100.2, 0.0, 100.0],
    );
    let chart = chart(&history, 2);
    assert_eq!(chart.basis, "limits are set");
    assert_eq!(
        (chart.points[0].bad, chart.points[0].signalled.as_deref()),
        (true, None)
    );
    assert!(!chart.points[1].bad);
}

#[test]
fn what_is_kept_is_bounded_and_the_unknown_is_not_kept() {
    let history = ChartHistory::default();
    let mut validator = validator(&ValidationConfig::default(), own(""));
    push(&history, &mut validator, 0, &[1.0]);
    assert_eq!(history.chart("press-1", "temperature", 10), None);
    history.register("press-1".into());
    assert_eq!(history.chart("press-1", "temperature", 10), None);
    let values: Vec<f64> = (0..5_000).map(swing).collect();
    for i in 0..10 {
        push(&history, &mut validator, 1 + i * 5_000, &values);
    }
    assert_eq!(chart(&history, 1_000_000).points.len(), 15_000);
    assert_eq!(chart(&history, 0).points.len(), 0);
    for i in 0..3000 {
        push(&history, &mut validator, 200_000 + i, &[2.0]);
    }
    assert_eq!(chart(&history, 1_000_000).points.len(), 1024);
    assert_eq!(history.chart("press-1", "speed", 10), None);
    assert_eq!(history.chart("press-2", "temperature", 10), None);
}

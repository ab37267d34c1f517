//! Textbook examples: the numbers are the published ones, and the charts must signal where the
//! books say.

use super::support::{batch, device, one_tag, own, times, validator};
use crate::validation::config::AfterSignal;
use crate::validation::constants::ChartConstants;
use crate::validation::cusum::{CusumChart, CusumState};
use crate::validation::ewma::EwmaChart;
use crate::validation::individuals::ControlLimits;
use crate::validation::{Chart, DeviceValidator, Rule, Verdict};

/// Montgomery, Introduction to Statistical Quality Control: inside diameters of piston rings in mm,
/// 25 subgroups of Phase I and 15 of Phase II.
const PISTON_RINGS: [[f64; 5]; 40] = [
    [74.03, 74.002, 74.019, 73.992, 74.008],
    [73.995, 73.992, 74.001, 74.011, 74.004],
    [73.988, 74.024, 74.021, 74.005, 74.002],
    [74.002, 73.996, 73.993, 74.015, 74.009],
    [73.992, 74.007, 74.015, 73.989, 74.014],
    [74.009, 73.994, 73.997, 73.985, 73.993],
    [73.995, 74.006, 73.994, 74.0, 74.005],
    [73.985, 74.003, 73.993, 74.015, 73.988],
    [74.008, 73.995, 74.009, 74.005, 74.004],
    [73.998, 74.0, 73.99, 74.007, 73.995],
    [73.994, 73.998, 73.994, 73.995, 73.99],
    [74.004, 74.0, 74.007, 74.0, 73.996],
    [73.983, 74.002, 73.998, 73.997, 74.012],
    [74.006, 73.967, 73.994, 74.0, 73.984],
    [74.012, 74.014, 73.998, 73.999, 74.007],
    [74.0, 73.984, 74.005, 73.998, 73.996],
    [73.994, 74.012, 73.986, 74.005, 74.007],
    [74.006, 74.01, 74.018, 74.003, 74.0],
    [73.984, 74.002, 74.003, 74.005, 73.997],
    [74.0, 74.01, 74.013, 74.02, 74.003],
    [73.988, 74.001, 74.009, 74.005, 73.996],
    [74.004, 73.999, 73.99, 74.006, 74.009],
    [74.01, 73.989, 73.99, 74.009, 74.014],
    [74.015, 74.008, 73.993, 74.0, 74.01],
    [73.982, 73.984, 73.995, 74.017, 74.013],
    [74.012, 74.015, 74.03, 73.986, 74.0],
    [73.995, 74.01, 73.99, 74.015, 74.001],
    [73.987, 73.999, 73.985, 74.0, 73.99],
    [74.008, 74.01, 74.003, 73.991, 74.006],
    [74.003, 74.0, 74.001, 73.986, 73.997],
    [73.994, 74.003, 74.015, 74.02, 74.004],
    [74.008, 74.002, 74.018, 73.995, 74.005],
    [74.001, 74.004, 73.99, 73.996, 73.998],
    [74.015, 74.0, 74.016, 74.025, 74.0],
    [74.03, 74.005, 74.0, 74.016, 74.012],
    [74.001, 73.99, 73.995, 74.01, 74.024],
    [74.015, 74.02, 74.024, 74.005, 74.019],
    [74.035, 74.01, 74.012, 74.015, 74.026],
    [74.017, 74.013, 74.036, 74.025, 74.026],
    [74.01, 74.005, 74.029, 74.0, 74.02],
];

/// Montgomery: viscosity of a batch of paint primer, Phase I.
const VISCOSITY: [f64; 20] = [
    34.05, 34.4, 33.59, 35.96, 34.7, 33.51, 33.79, 34.04, 34.52, 33.75, 33.27, 33.71, 34.03, 34.58,
    34.02, 33.97, 34.05, 34.04, 33.73, 34.05,
];

/// The same, Phase II.
const VISCOSITY_2: [f64; 15] = [
    34.39, 33.75, 33.4, 33.27, 34.65, 34.8, 34.55, 35.4, 34.75, 34.5, 34.7, 34.29, 34.61, 34.49,
    35.03,
];

/// NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2.4.
const NIST_EWMA: [f64; 20] = [
    52.0, 47.0, 53.0, 49.3, 50.1, 47.0, 51.0, 50.1, 51.2, 50.5, 49.6, 47.6, 49.9, 51.3, 47.8, 51.2,
    52.6, 52.4, 53.6, 52.1,
];

/// The EWMA of these, as printed.
const NIST_EWMA_PRINTED: [f64; 20] = [
    50.6, 49.52, 50.56, 50.18, 50.16, 49.21, 49.75, 49.85, 50.26, 50.33, 50.11, 49.36, 49.52,
    50.05, 49.38, 49.92, 50.73, 51.23, 51.94, 51.99,
];

/// NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2.3: means of subgroups.
const NIST_CUSUM: [f64; 20] = [
    324.925, 324.675, 324.725, 324.35, 325.35, 325.225, 324.125, 324.525, 325.225, 324.6, 324.625,
    325.15, 328.325, 327.25, 327.825, 328.5, 326.675, 327.775, 326.875, 328.35,
];

/// Upper sums of these, as printed.
const NIST_CUSUM_UPPER: [f64; 20] = [
    0.0, 0.0, 0.0, 0.0, 0.03, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.01, 4.94, 7.45, 10.63, 11.99,
    14.44, 16.0, 19.04,
];

/// Lower sums of these, as printed.
const NIST_CUSUM_LOWER: [f64; 20] = [
    0.0, 0.01, 0.0, 0.33, 0.0, 0.0, 0.56, 0.72, 0.17, 0.25, 0.31, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    0.0, 0.0, 0.0,
];

/// CUSUM of the means of piston rings, k = 0.5: upper sums of subgroups 33 to 40.
const RING_CUSUM: [f64; 8] = [
    0.11603752179316429,
    1.9066427421652232,
    4.017164892754431,
    4.162483043423452,
    7.187053566069542,
    10.89716036775748,
    15.475613122901244,
    17.631837692094756,
];

/// EWMA of the means of piston rings, λ = 0.2: subgroups 33 to 40.
const RING_EWMA: [f64; 8] = [
    74.00164066771327,
    74.00355253417062,
    74.0053620273365,
    74.0050896218692,
    74.00739169749536,
    74.0098333579963,
    74.01254668639704,
    74.01259734911764,
];

fn close(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "{got} is not {want}");
}

/// The piston rings, judged subgroup by subgroup by an X̄-S chart that learned from the first 25:
/// numbers (from 1) of the subgroups that signalled, by which rule.
fn piston_rings() -> (DeviceValidator, Vec<(usize, Rule)>) {
    let settings = device(
        "phase1_samples = 125\ncharts = [\"xbar_s\"]\nlimits = \"sigma\"\nsubgroup = 5\nstuck_after = 0",
    );
    let mut validator = validator(&settings, own(""));
    let mut signals = Vec::new();
    for (i, rings) in PISTON_RINGS.iter().enumerate() {
        let judged = validator.judge(&batch(&one_tag(), &times(i * 5, 5), &[rings]));
        assert_eq!(judged.learned.is_some(), i == 24);
        signals.extend(judged.verdict.findings.iter().map(|f| (i + 1, f.rule)));
    }
    (validator, signals)
}

#[test]
fn piston_rings_signal_on_the_xbar_s_chart_at_37_38_and_39() {
    let (validator, signals) = piston_rings();
    let mean = Rule::MeanBeyondLimit;
    assert_eq!(signals, [(37, mean), (38, mean), (39, mean)]);
    let limits = validator.limits().tag("temperature").unwrap();
    let (xbar, s) = (limits.xbar.unwrap(), limits.spread.unwrap());
    close(xbar.center, 74.00118, 5e-6);
    close(s.center, 0.009240037, 5e-10);
    close(s.lcl, 0.0, 0.0);
    close(s.ucl, 0.01930242, 5e-9);
    // A3·s̄, with A3 of the tables.
    close(xbar.ucl - xbar.center, 1.4272992929 * s.center, 1e-10);
}

#[test]
fn piston_ring_means_signal_on_ewma_and_cusum_from_37_on() {
    let phase1 = &PISTON_RINGS[..25];
    let center = phase1.iter().flatten().sum::<f64>() / 125.0;
    let range = |r: &[f64; 5]| {
        r.iter().fold(f64::MIN, |a, x| a.max(*x)) - r.iter().fold(f64::MAX, |a, x| a.min(*x))
    };
    let mean_range = phase1.iter().map(range).sum::<f64>() / 25.0;
    let single = mean_range / ChartConstants::of(5).unwrap().d2;
    // The book uses d2 = 2.326.
    close(single, 0.009785039, 4e-7);
    let sigma = single / 5f64.sqrt();
    let half = 3.0 * EwmaChart::statistic_sigma(0.2, sigma);
    let ewma = EwmaChart::new(0.2, sigma, ControlLimits::around(center, half));
    close(ewma.limits.lcl, 73.9968, 5e-6);
    close(ewma.limits.ucl, 74.00555, 5e-6);
    let cusum = CusumChart {
        center,
        sigma,
        k: 0.5,
        h: 5.0,
        after_signal: AfterSignal::Continue,
    };
    let (mut z, mut sums) = (center, CusumState::default());
    let (mut on_ewma, mut on_cusum) = (Vec::new(), Vec::new());
    for (i, rings) in PISTON_RINGS.iter().enumerate() {
        let mean = rings.iter().sum::<f64>() / 5.0;
        z = ewma.next(z, mean);
        if ewma.limits.exceeded(z) {
            on_ewma.push(i + 1);
        }
        if cusum.add(&mut sums, mean).is_some() {
            on_cusum.push(i + 1);
        }
        if i >= 32 {
            close(z, RING_EWMA[i - 32], 1e-9);
            close(sums.upper, RING_CUSUM[i - 32], 1e-6);
        }
    }
    assert_eq!(on_ewma, [37, 38, 39, 40]);
    assert_eq!(on_cusum, [37, 38, 39, 40]);
}

#[test]
fn viscosity_has_its_published_individuals_limits() {
    for (from, sigma, lcl, ucl) in [
        // The book uses d2 = 1.128; the exact one moves its limits by 6e-4.
        ("moving_range", 0.5076521, 32.56504, 35.61096),
        ("standard_deviation", 0.5769854, 32.35704, 35.81896),
    ] {
        let settings = device(&format!(
            "phase1_samples = 20\ncharts = [\"individuals\"]\nlimits = \"sigma\"\nsigma_from = \"{from}\""
        ));
        let mut validator = validator(&settings, own("stuck_after = 0"));
        let judged = validator.judge(&batch(&one_tag(), &times(0, 20), &[&VISCOSITY]));
        let limits = judged.learned.unwrap();
        let tag = limits.tag("temperature").unwrap();
        let individuals = tag.individuals.unwrap();
        close(individuals.center, 34.088, 1e-12);
        close(tag.sigma.unwrap(), sigma, 2e-4);
        close(individuals.lcl, lcl, 6e-4);
        close(individuals.ucl, ucl, 6e-4);
        let judged = validator.judge(&batch(&one_tag(), &times(20, 15), &[&VISCOSITY_2]));
        assert_eq!(judged.verdict, Verdict::accepted());
    }
}

#[test]
fn nist_ewma_example_has_its_printed_statistic_and_stays_in_control() {
    let sigma = 2.0539;
    let half = 3.0 * EwmaChart::statistic_sigma(0.3, sigma);
    let chart = EwmaChart::new(0.3, sigma, ControlLimits::around(50.0, half));
    close(chart.limits.ucl, 52.5884, 6e-4);
    close(chart.limits.lcl, 47.4115, 6e-4);
    let mut z = 50.0;
    for (x, printed) in NIST_EWMA.iter().zip(NIST_EWMA_PRINTED) {
        z = chart.next(z, *x);
        close(z, printed, 0.0051);
        assert!(!chart.limits.exceeded(z));
    }
}

#[test]
fn nist_cusum_example_signals_first_at_group_14() {
    let chart = CusumChart {
        center: 325.0,
        sigma: 1.0,
        k: 0.3175,
        h: 4.1959,
        after_signal: AfterSignal::Continue,
    };
    let mut sums = CusumState::default();
    let mut signals = Vec::new();
    for (i, x) in NIST_CUSUM.iter().enumerate() {
        if chart.add(&mut sums, *x).is_some() {
            signals.push(i + 1);
        }
        close(sums.upper, NIST_CUSUM_UPPER[i], 0.0051);
        close(sums.lower, NIST_CUSUM_LOWER[i], 0.0051);
    }
    assert_eq!(signals, [14, 15, 16, 17, 18, 19, 20]);
}

/// The same through a device with set limits, where a signal restarts the sums.
#[test]
fn nist_cusum_example_signals_at_group_14_in_a_device_with_set_limits() {
    let settings =
        device("charts = [\"cusum\"]\ncusum = { k = 0.3175, h = 4.1959 }\nstuck_after = 0");
    let own = own("center = 325.0\nsigma = 1.0");
    let mut validator = validator(&settings, own);
    let judged = validator.judge(&batch(&one_tag(), &times(0, 20), &[&NIST_CUSUM]));
    let finding = &judged.verdict.findings[0];
    assert_eq!((finding.chart, finding.sample), (Chart::Cusum, 13));
    close(finding.statistic, 4.94, 0.0051);
    close(finding.limit, 4.1959, 0.0);
}

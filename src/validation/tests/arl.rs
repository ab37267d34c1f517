//! Average run lengths, by simulation with a fixed seed, against published figures.
//!
//! Each figure is the mean of so many runs that its standard error is at most 0.5 %, and must be
//! within 1 % of the exact value, computed by Markov chain; that in turn rounds to what is printed.
//! Sources: Lucas and Crosier 1982 (CUSUM), Lucas and Saccucci 1990 (EWMA), Champ and Woodall 1987
//! (Western Electric); Shewhart charts have the closed form 1/p.

use super::support::{Normal, Random};
use crate::validation::config::AfterSignal;
use crate::validation::cusum::{CusumChart, CusumState};
use crate::validation::ewma::EwmaChart;
use crate::validation::individuals::ControlLimits;
use crate::validation::rules::{RuleState, RunRules};

/// Run lengths are about geometric, so this many runs have a standard error near 0.45 %.
const RUNS: u32 = 50_000;

/// Runs charts until they signal; `start` makes a fresh one, which says whether a sample signals.
fn average_run_length<C: FnMut(f64) -> bool>(
    normal: &Normal,
    seed: u64,
    shift: f64,
    runs: u32,
    mut start: impl FnMut() -> C,
) -> f64 {
    let mut random = Random(seed);
    let mut samples = 0u64;
    for _ in 0..runs {
        let mut chart = start();
        loop {
            samples += 1;
            if chart(normal.draw(&mut random) + shift) {
                break;
            }
        }
    }
    samples as f64 / f64::from(runs)
}

fn expect(what: &str, shift: f64, got: f64, want: f64) {
    let off = (got / want - 1.0) * 100.0;
    assert!(
        off.abs() < 1.0,
        "{what}, shift {shift}: ARL {got} is {off:+.2} % off {want}"
    );
}

#[test]
fn shewhart_chart_has_its_run_lengths() {
    let normal = Normal::new();
    let limits = ControlLimits::around(0.0, 3.0);
    let published = [
        (0.0, 370.398),
        (0.5, 155.224),
        (1.0, 43.8947),
        (2.0, 6.30296),
        (3.0, 2.0),
    ];
    for (shift, want) in published {
        let got = average_run_length(&normal, 1, shift, RUNS, || move |x| limits.exceeded(x));
        expect("individuals", shift, got, want);
    }
}

#[test]
fn cusum_chart_has_its_published_run_lengths() {
    let normal = Normal::new();
    let published = [
        (
            4.0,
            [
                (0.0, 167.684),
                (0.5, 26.6302),
                (1.0, 8.38313),
                (2.0, 3.34277),
                (4.0, 1.70846),
            ],
        ),
        (
            5.0,
            [
                (0.0, 465.444),
                (0.5, 37.9961),
                (1.0, 10.3760),
                (2.0, 4.00887),
                (4.0, 2.01257),
            ],
        ),
    ];
    for (h, figures) in published {
        let chart = CusumChart {
            center: 0.0,
            sigma: 1.0,
            k: 0.5,
            h,
            after_signal: AfterSignal::Restart,
        };
        for (shift, want) in figures {
            let got = average_run_length(&normal, 2, shift, RUNS, || {
                let mut state = CusumState::default();
                move |x| chart.add(&mut state, x).is_some()
            });
            expect(&format!("CUSUM h = {h}"), shift, got, want);
        }
    }
}

#[test]
fn ewma_chart_has_its_published_run_lengths() {
    let normal = Normal::new();
    let published = [
        (
            0.4,
            3.054,
            [
                (0.0, 499.951),
                (0.5, 71.2005),
                (1.0, 14.2628),
                (2.0, 3.52154),
            ],
        ),
        (
            0.2,
            2.962,
            [
                (0.0, 499.735),
                (0.5, 41.7644),
                (1.0, 10.5417),
                (2.0, 3.74344),
            ],
        ),
        (
            0.05,
            2.615,
            [
                (0.0, 499.933),
                (0.5, 28.7637),
                (1.0, 11.3828),
                (2.0, 5.22488),
            ],
        ),
    ];
    for (lambda, l, figures) in published {
        let half = l * EwmaChart::statistic_sigma(lambda, 1.0);
        let chart = EwmaChart::new(lambda, 1.0, ControlLimits::around(0.0, half));
        for (shift, want) in figures {
            // The longest runs cost the most; theirs is the standard error of 0.5 %.
            let runs = if shift == 0.0 { 40_000 } else { RUNS };
            let got = average_run_length(&normal, 3, shift, runs, || {
                let mut z = 0.0;
                move |x| {
                    z = chart.next(z, x);
                    chart.limits.exceeded(z)
                }
            });
            expect(&format!("EWMA λ = {lambda}"), shift, got, want);
        }
    }
}

#[test]
fn western_electric_rules_have_their_published_run_lengths() {
    let normal = Normal::new();
    let published = [
        (0b0001, 370.4),
        (0b0011, 225.44),
        (0b0101, 166.05),
        (0b1001, 152.73),
        (0b1111, 91.75),
    ];
    for (western_electric, want) in published {
        let rules = RunRules {
            center: 0.0,
            sigma: 1.0,
            western_electric,
            nelson: 0,
        };
        let got = average_run_length(&normal, 4, 0.0, RUNS, || {
            let mut state = RuleState::default();
            move |x| rules.add(&mut state, x).western_electric != 0
        });
        expect(
            &format!("Western Electric {western_electric:04b}"),
            0.0,
            got,
            want,
        );
    }
}

//! Run rules: Western Electric 1 to 4 (Western Electric 1956, Statistical Quality Control Handbook)
//! and Nelson 1 to 8 (Nelson 1984, Journal of Quality Technology 16).
//!
//! A rule signals on the sample that completes its pattern, and on every further sample that
//! completes it again. A sample exactly on the centre line is on neither side.

/// Which rules a sample completed: bit n−1 stands for rule n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleHits {
    /// Western Electric.
    pub western_electric: u8,
    /// Nelson.
    pub nelson: u8,
}

/// What the rules remember of the samples before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RuleState {
    /// The sample before, and whether there is one.
    pub last: Option<f64>,
    /// Samples in a row on one side of the centre; negative below it.
    pub side: i8,
    /// Steps in a row up; negative down.
    pub trend: i8,
    /// Steps in a row that each turned the direction of the one before.
    pub turns: u8,
    /// Samples in a row within one standard deviation.
    pub within: u8,
    /// Samples in a row beyond one standard deviation, on either side.
    pub outside: u8,
    /// Last three samples: beyond two standard deviations above (newest in bit 0).
    pub above_two: u8,
    /// The same, below.
    pub below_two: u8,
    /// Last five samples: beyond one standard deviation above (newest in bit 0).
    pub above_one: u8,
    /// The same, below.
    pub below_one: u8,
}

/// Counters stop here: no rule looks further back, and equal histories have equal states.
const LONGEST: u8 = 15;

/// The rules, and the zones they count in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunRules {
    /// Centre line.
    pub center: f64,
    /// Standard deviation: the width of a zone.
    pub sigma: f64,
    /// Western Electric rules that are on, as bits.
    pub western_electric: u8,
    /// Nelson rules that are on, as bits.
    pub nelson: u8,
}

impl RunRules {
    /// Takes sample `x` in and says which rules it completed.
    pub fn add(&self, state: &mut RuleState, x: f64) -> RuleHits {
        let z = (x - self.center) / self.sigma;
        state.count_sides(z);
        state.count_steps(x);
        state.count_zones(z);
        RuleHits {
            western_electric: state.western_electric(z) & self.western_electric,
            nelson: state.nelson(z) & self.nelson,
        }
    }
}

impl RuleState {
    fn count_sides(&mut self, z: f64) {
        self.side = continue_run(self.side, z > 0.0, z < 0.0);
    }

    fn count_steps(&mut self, x: f64) {
        let (up, down) = match self.last {
            Some(last) => (x > last, x < last),
            None => (false, false),
        };
        let turned = (up && self.trend < 0) || (down && self.trend > 0);
        self.turns = match (turned, up || down) {
            (true, _) => self.turns.saturating_add(1).min(LONGEST),
            (false, true) => 1,
            (false, false) => 0,
        };
        self.trend = continue_run(self.trend, up, down);
        self.last = Some(x);
    }

    fn count_zones(&mut self, z: f64) {
        let beyond_one = !(-1.0..=1.0).contains(&z);
        self.within = if beyond_one {
            0
        } else {
            self.within.saturating_add(1).min(LONGEST)
        };
        self.outside = if beyond_one {
            self.outside.saturating_add(1).min(LONGEST)
        } else {
            0
        };
        self.above_two = (self.above_two << 1 | u8::from(z > 2.0)) & 0b111;
        self.below_two = (self.below_two << 1 | u8::from(z < -2.0)) & 0b111;
        self.above_one = (self.above_one << 1 | u8::from(z > 1.0)) & 0b1_1111;
        self.below_one = (self.below_one << 1 | u8::from(z < -1.0)) & 0b1_1111;
    }

    fn western_electric(&self, z: f64) -> u8 {
        u8::from(!(-3.0..=3.0).contains(&z))
            | u8::from(self.two_of_three()) << 1
            | u8::from(self.four_of_five()) << 2
            | u8::from(self.side.unsigned_abs() >= 8) << 3
    }

    fn nelson(&self, z: f64) -> u8 {
        // Six points make five steps, fourteen make thirteen.
        u8::from(!(-3.0..=3.0).contains(&z))
            | u8::from(self.side.unsigned_abs() >= 9) << 1
            | u8::from(self.trend.unsigned_abs() >= 5) << 2
            | u8::from(self.turns >= 13) << 3
            | u8::from(self.two_of_three()) << 4
            | u8::from(self.four_of_five()) << 5
            | u8::from(self.within >= 15) << 6
            | u8::from(self.outside >= 8) << 7
    }

    fn two_of_three(&self) -> bool {
        completes(self.above_two, 2) || completes(self.below_two, 2)
    }

    fn four_of_five(&self) -> bool {
        completes(self.above_one, 4) || completes(self.below_one, 4)
    }
}

/// The newest sample is in the pattern, and so are enough of those before.
fn completes(history: u8, needed: u32) -> bool {
    history & 1 == 1 && history.count_ones() >= needed
}

fn continue_run(run: i8, up: bool, down: bool) -> i8 {
    let longest = LONGEST as i8;
    match (up, down) {
        (true, _) => run.max(0).saturating_add(1).min(longest),
        (_, true) => run.min(0).saturating_sub(1).max(-longest),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples (from 1) at which each rule signals, for a centre of 0 and a sigma of 1.
    fn signals(samples: &[f64], nelson: bool, rule: u8) -> Vec<usize> {
        let rules = RunRules {
            center: 0.0,
            sigma: 1.0,
            western_electric: 0xff,
            nelson: 0xff,
        };
        let mut state = RuleState::default();
        let bit = 1 << (rule - 1);
        let mut at = Vec::new();
        for (i, x) in samples.iter().enumerate() {
            let hits = rules.add(&mut state, *x);
            let hits = if nelson {
                hits.nelson
            } else {
                hits.western_electric
            };
            if hits & bit != 0 {
                at.push(i + 1);
            }
        }
        at
    }

    #[test]
    fn western_electric_rules_signal_on_the_sample_that_completes_them() {
        assert_eq!(signals(&[0.5, 3.1, -3.1, 3.0], false, 1), [2, 3]);
        assert_eq!(signals(&[2.1, 0.0, 2.1, 0.0, 0.0, 2.5], false, 2), [3]);
        assert!(signals(&[2.1, -2.1, 0.0, 2.1], false, 2).is_empty());
        assert_eq!(signals(&[1.1, 1.2, 0.2, 1.1, 1.3, 0.9], false, 3), [5]);
        let mut run = vec![0.4; 8];
        run.push(-0.1);
        assert_eq!(signals(&run, false, 4), [8]);
        assert!(signals(&[0.1, 0.1, 0.1, 0.1, 0.0, 0.1, 0.1, 0.1, 0.1], false, 4).is_empty());
    }

    #[test]
    fn nelson_rules_signal_on_the_sample_that_completes_them() {
        assert_eq!(signals(&[-3.2], true, 1), [1]);
        assert_eq!(signals(&[-0.4; 10], true, 2), [9, 10]);
        assert_eq!(signals(&[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5], true, 3), [6]);
        let swing: Vec<f64> = (0..15)
            .map(|i| if i % 2 == 0 { 0.3 } else { -0.3 })
            .collect();
        assert_eq!(signals(&swing, true, 4), [14, 15]);
        assert_eq!(signals(&[0.0, -2.1, -2.2], true, 5), [3]);
        assert_eq!(signals(&[-1.1, -1.1, -1.1, 0.0, -1.1], true, 6), [5]);
        assert_eq!(signals(&[0.9; 15], true, 7), [15]);
        let wide = [1.1, -1.2, 1.3, -1.1, 1.5, -1.2, 1.1, -1.4];
        assert_eq!(signals(&wide, true, 8), [8]);
    }

    #[test]
    fn a_rule_that_is_off_says_nothing() {
        let rules = RunRules {
            center: 0.0,
            sigma: 1.0,
            western_electric: 0b0001,
            nelson: 0,
        };
        let mut state = RuleState::default();
        for _ in 0..20 {
            assert_eq!(rules.add(&mut state, 2.5), RuleHits::default());
        }
        assert_eq!(rules.add(&mut state, 3.5).western_electric, 1);
    }
}

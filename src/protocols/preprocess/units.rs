//! Units that are converted by name. Factors are those of NIST SP 811, appendix B.8.

/// From, to, factor, offset: `to = from × factor + offset`.
const PAIRS: &[(&str, &str, f64, f64)] = &[
    ("°F", "°C", 5.0 / 9.0, -160.0 / 9.0),
    ("°C", "°F", 1.8, 32.0),
    ("K", "°C", 1.0, -273.15),
    ("°C", "K", 1.0, 273.15),
    ("bar", "kPa", 100.0, 0.0),
    ("kPa", "bar", 0.01, 0.0),
    ("mbar", "kPa", 0.1, 0.0),
    ("psi", "kPa", 6.894_757_293_168_361, 0.0),
    ("psi", "bar", 0.068_947_572_931_683_6, 0.0),
    ("Pa", "kPa", 0.001, 0.0),
    ("in", "mm", 25.4, 0.0),
    ("mm", "in", 1.0 / 25.4, 0.0),
    ("ft", "m", 0.3048, 0.0),
    ("mm", "m", 0.001, 0.0),
    ("lb", "kg", 0.45359237, 0.0),
    ("g", "kg", 0.001, 0.0),
    ("lbf", "N", 4.4482216152605, 0.0),
    ("lbf·ft", "N·m", 1.355_817_948_331_4, 0.0),
    ("gal", "l", 3.785411784, 0.0),
    ("hp", "kW", 0.745_699_871_582_270_2, 0.0),
    ("W", "kW", 0.001, 0.0),
    ("kWh", "MJ", 3.6, 0.0),
    ("rpm", "1/s", 1.0 / 60.0, 0.0),
    ("rad", "°", 180.0 / std::f64::consts::PI, 0.0),
    ("°", "rad", std::f64::consts::PI / 180.0, 0.0),
    ("ms", "s", 0.001, 0.0),
];

/// Factor and offset of a pair.
pub(super) fn pair(from: &str, to: &str) -> Option<(f64, f64)> {
    let known = PAIRS.iter().find(|(f, t, ..)| *f == from && *t == to);
    known.map(|(.., factor, offset)| (*factor, *offset))
}

/// All pairs, for people.
pub(super) fn known() -> String {
    let pairs = PAIRS.iter().map(|(from, to, ..)| format!("{from}→{to}"));
    pairs.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_points_are_met() {
        for (from, to, x, y) in [
            ("°F", "°C", 212.0, 100.0),
            ("°F", "°C", -40.0, -40.0),
            ("K", "°C", 273.15, 0.0),
            ("psi", "kPa", 14.695948775513, 101.325),
            ("bar", "kPa", 1.01325, 101.325),
            ("in", "mm", 1.0, 25.4),
            ("rpm", "1/s", 3000.0, 50.0),
            ("hp", "kW", 1.0, 0.7457),
        ] {
            let (factor, offset) = pair(from, to).unwrap();
            let got = x * factor + offset;
            assert!((got - y).abs() < 1e-4, "{from}→{to}: {x} gave {got}");
        }
        assert_eq!(pair("°C", "bar"), None);
    }

    #[test]
    fn there_and_back_is_the_same() {
        for (from, to, factor, offset) in PAIRS {
            let Some((back, shift)) = pair(to, from) else {
                continue;
            };
            let there = 12.5 * factor + offset;
            assert!((there * back + shift - 12.5).abs() < 1e-9, "{from}→{to}");
        }
    }
}

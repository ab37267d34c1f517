//! Constants of control charts for normal samples of n = 2 to 25.
//!
//! c4 follows from c4(2) = √(2/π) by c4(n)·c4(n+1) = √((n−1)/n), which is Γ's own recurrence; d2 and
//! d3, mean and standard deviation of the range of n standard normal values, have no closed form
//! past n = 5 and stand as a table (ASTM MNL 7 and Montgomery, appendix VI, print them to fewer
//! digits). Everything else is arithmetic on these three.

/// Mean of the range of n standard normal values, n = 2 to 25.
const D2: [f64; 24] = [
    std::f64::consts::FRAC_2_SQRT_PI,
    1.6925687506,
    2.0587507460,
    2.3259289473,
    2.5344127212,
    2.7043567512,
    2.8472006121,
    2.9700263244,
    3.0775054617,
    3.1728727038,
    3.2584552797,
    3.3359803541,
    3.4067631082,
    3.4718268899,
    3.5319827861,
    3.5878839618,
    3.6400637579,
    3.6889630232,
    3.7349501196,
    3.7783358298,
    3.8193846434,
    3.8583234233,
    3.8953481485,
    3.9306292195,
];

/// Standard deviation of the range of n standard normal values, n = 2 to 25.
const D3: [f64; 24] = [
    0.8525024664,
    0.8883680040,
    0.8798082028,
    0.8640819411,
    0.8480396861,
    0.8332053356,
    0.8198314898,
    0.8078342746,
    0.7970506735,
    0.7873146205,
    0.7784783412,
    0.7704162021,
    0.7630230956,
    0.7562114297,
    0.7499080894,
    0.7440517840,
    0.7385908534,
    0.7334814955,
    0.7286863457,
    0.7241733407,
    0.7199148084,
    0.7158867355,
    0.7120681751,
    0.7084407659,
];

/// d2 for n = 2, exactly 2/√π: what turns a mean moving range into a standard deviation.
pub fn d2_of_two() -> f64 {
    std::f64::consts::FRAC_2_SQRT_PI
}

/// D4 for n = 2: upper limit of a moving range in units of its mean.
pub fn upper_range_of_two() -> f64 {
    let d3 = (2.0 - 4.0 / std::f64::consts::PI).sqrt();
    1.0 + 3.0 * d3 / d2_of_two()
}

/// The constants for one subgroup size, under their usual names.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // their names are their documentation: every table of SPC uses them
pub struct ChartConstants {
    pub a: f64,
    pub a2: f64,
    pub a3: f64,
    pub c4: f64,
    pub b3: f64,
    pub b4: f64,
    pub b5: f64,
    pub b6: f64,
    pub d2: f64,
    pub d3: f64,
    pub range_d1: f64,
    pub range_d2: f64,
    pub range_d3: f64,
    pub range_d4: f64,
    pub e2: f64,
}

impl ChartConstants {
    /// The constants for subgroups of `n`; `None` unless n is 2 to 25.
    pub fn of(n: u32) -> Option<Self> {
        let index = usize::try_from(n).ok()?.checked_sub(2)?;
        let (d2, d3) = (*D2.get(index)?, *D3.get(index)?);
        let c4 = c4(n);
        let root = f64::from(n).sqrt();
        let spread = 3.0 * (1.0 - c4 * c4).sqrt();
        Some(Self {
            a: 3.0 / root,
            a2: 3.0 / (d2 * root),
            a3: 3.0 / (c4 * root),
            c4,
            b3: (1.0 - spread / c4).max(0.0),
            b4: 1.0 + spread / c4,
            b5: (c4 - spread).max(0.0),
            b6: c4 + spread,
            d2,
            d3,
            range_d1: (d2 - 3.0 * d3).max(0.0),
            range_d2: d2 + 3.0 * d3,
            range_d3: (1.0 - 3.0 * d3 / d2).max(0.0),
            range_d4: 1.0 + 3.0 * d3 / d2,
            e2: 3.0 / d2,
        })
    }
}

/// Mean of the standard deviation of n ≥ 2 standard normal values: what a sample's standard
/// deviation is divided by to estimate σ. Past 1,000 by its series, which is good to seven digits there.
pub fn c4(n: u32) -> f64 {
    if n > 1000 {
        let n = f64::from(n);
        return (4.0 * n - 4.0) / (4.0 * n - 3.0);
    }
    let mut c4 = (2.0 / std::f64::consts::PI).sqrt();
    for m in 2..n {
        let m = f64::from(m);
        c4 = ((m - 1.0) / m).sqrt() / c4;
    }
    c4
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../tests/golden/spc/constants.csv");

    #[test]
    fn constants_agree_with_the_published_tables_to_ten_digits() {
        let mut rows = 0;
        for line in GOLDEN.lines().skip(1) {
            let row: Vec<f64> = line.split(',').map(|x| x.parse().unwrap()).collect();
            let n = row[0] as u32;
            let c = ChartConstants::of(n).unwrap();
            let got = [
                c.a, c.a2, c.a3, c.c4, c.b3, c.b4, c.b5, c.b6, c.d2, c.d3, c.range_d1, c.range_d2,
                c.range_d3, c.range_d4, c.e2,
            ];
            for (column, (got, want)) in got.iter().zip(&row[1..]).enumerate() {
                // d2 and d3 are kept to ten digits themselves, so what is three times them may
                // differ in the last one.
                let close = (got - want).abs() <= 4e-10;
                assert!(close, "n = {n}, column {column}: {got} is not {want}");
            }
            rows += 1;
        }
        assert_eq!(rows, 24);
        assert_eq!(ChartConstants::of(1), None);
        assert_eq!(ChartConstants::of(26), None);
    }

    #[test]
    fn the_exact_constants_for_moving_ranges_agree_with_the_table() {
        let two = ChartConstants::of(2).unwrap();
        assert!((d2_of_two() - two.d2).abs() < 1e-10);
        assert!((upper_range_of_two() - two.range_d4).abs() < 2e-10);
    }

    #[test]
    fn c4_goes_over_into_its_series() {
        let exact = c4(1000);
        let series = 3996.0 / 3997.0;
        assert!((exact - series).abs() < 4e-8, "{exact} {series}");
        assert!(c4(1001) > exact && c4(1001) < 1.0);
    }

    /// The distribution function of the standard normal, by its series (Marsaglia 2004).
    fn normal_cdf(x: f64) -> f64 {
        if x.abs() > 8.0 {
            return if x > 0.0 { 1.0 } else { 0.0 };
        }
        let (mut sum, mut term, mut i) = (x, x, 1.0);
        while term.abs() > 1e-18 * sum.abs() {
            i += 2.0;
            term *= x * x / i;
            sum += term;
        }
        0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    /// d2 = ∫ 1 − Φⁿ − (1−Φ)ⁿ (Tippett 1925), which the table must agree with.
    #[test]
    fn d2_is_the_mean_range_by_tippetts_integral() {
        let step = 0.005;
        for n in [2u32, 3, 5, 10, 25] {
            let inside = |x: f64| {
                let p = normal_cdf(x);
                1.0 - p.powi(n as i32) - (1.0 - p).powi(n as i32)
            };
            let sum: f64 = (-1600..=1600).map(|i| inside(f64::from(i) * step)).sum();
            let want = ChartConstants::of(n).unwrap().d2;
            assert!(
                (sum * step - want).abs() < 1e-9,
                "n = {n}: {} is not {want}",
                sum * step
            );
        }
    }
}

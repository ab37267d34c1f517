//! Numbers that reject a bad value when a configuration is loaded, so that the error points at it.

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $accepts:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// For the defaults in this module, which are known to fit.
            #[allow(dead_code)]
            pub(super) const fn known(number: f64) -> Self {
                Self(number)
            }

            /// The number.
            pub fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = String;

            fn try_from(number: f64) -> Result<Self, String> {
                let accepts: fn(f64) -> bool = $accepts;
                if accepts(number) {
                    Ok(Self(number))
                } else {
                    Err(format!(concat!("expected ", $expected, ", got {}"), number))
                }
            }
        }

        impl From<$name> for f64 {
            fn from(number: $name) -> Self {
                number.0
            }
        }
    };
}

number!(
    /// A finite number above 0.
    Positive, "a finite number above 0", |x| x > 0.0 && x.is_finite()
);
number!(
    /// A finite number, 0 or more.
    NotNegative, "a finite number, 0 or more", |x| x >= 0.0 && x.is_finite()
);
number!(
    /// A finite number.
    Finite, "a finite number", f64::is_finite
);
number!(
    /// A share, 0 to 1.
    Share, "a share from 0 to 1", |x| (0.0..=1.0).contains(&x)
);
number!(
    /// The weight of the newest sample in an EWMA: above 0, at most 1.
    Lambda, "a number above 0 and at most 1", |x| x > 0.0 && x <= 1.0
);

macro_rules! whole {
    ($(#[$doc:meta])* $name:ident, $low:literal, $high:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "u32", into = "u32")]
        pub struct $name(u32);

        impl $name {
            /// For the defaults in this module, which are known to fit.
            #[allow(dead_code)]
            pub(super) const fn known(number: u32) -> Self {
                Self(number)
            }

            /// The number.
            pub fn get(self) -> u32 {
                self.0
            }
        }

        impl TryFrom<u32> for $name {
            type Error = String;

            fn try_from(number: u32) -> Result<Self, String> {
                if ($low..=$high).contains(&number) {
                    Ok(Self(number))
                } else {
                    let (low, high) = ($low, $high);
                    Err(format!(concat!("expected ", $what, " from {} to {}, got {}"), low, high, number))
                }
            }
        }

        impl From<$name> for u32 {
            fn from(number: $name) -> Self {
                number.0
            }
        }
    };
}

whole!(
    /// Samples in a subgroup of an X̄-S chart: 2 to 25.
    SubgroupSize, 2, 25, "a subgroup size"
);
whole!(
    /// Number of a Western Electric rule: 1 to 4.
    WesternElectricRule, 1, 4, "a Western Electric rule"
);
whole!(
    /// Number of a Nelson rule: 1 to 8.
    NelsonRule, 1, 8, "a Nelson rule"
);
whole!(
    /// Batches that a clock must run evenly before it is believed again: 1 to 100.
    RecoveryBatches, 1, 100, "a number of batches"
);

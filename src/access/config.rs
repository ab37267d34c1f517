//! Configuration of access.

use crate::model::Nanos;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long permits hold, and when a device is cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// For how many hours a permit holds; then admission is repeated.
    pub permit_hours: u32,
    /// A device is blacklisted after so many refused batches in a row; 0: never.
    pub cut_off_after: u32,
    /// A device that sends by itself so many times what its configuration asks it for is blacklisted, and
    /// so is an edge node that says so many times what it has to say; 0: never.
    pub flood_factor: u32,
    /// A user of whom so many requests come in a second, in one session, is blacklisted; 0: never.
    pub flood_requests: u32,
    /// Floods are counted over so many seconds.
    pub flood_seconds: u32,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            permit_hours: 24,
            cut_off_after: 100,
            flood_factor: 20,
            flood_requests: 10_000,
            flood_seconds: 10,
        }
    }
}

impl AccessConfig {
    /// For how long a permit holds.
    pub fn permits(&self) -> Duration {
        Duration::from_secs(3_600 * u64::from(self.permit_hours))
    }

    /// Over how long floods are counted.
    pub fn flood_window(&self) -> Nanos {
        Nanos::from(self.flood_seconds) * 1_000_000_000
    }

    /// How much somebody may send in a window who should send so much in a second at most, and `burst` at
    /// once; `None` when it does not matter.
    pub fn flood_of_data(&self, per_second: f64, burst: u64) -> Option<u64> {
        let most = per_second * f64::from(self.flood_seconds) * f64::from(self.flood_factor);
        (self.flood_factor > 0).then_some((most.ceil() as u64).max(burst))
    }

    /// How many requests may come in a session in a window; `None` when it does not matter.
    pub fn flood_of_requests(&self) -> Option<u64> {
        let most = u64::from(self.flood_requests) * u64::from(self.flood_seconds);
        (most > 0).then_some(most)
    }

    /// What is wrong with it: the key, and why.
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let hours = (1..=87_600).contains(&self.permit_hours);
        let seconds = (1..=3_600).contains(&self.flood_seconds);
        let hours =
            (!hours).then_some(("permit_hours", "give 1 to 87600 hours, which is ten years"));
        hours.or((!seconds).then_some(("flood_seconds", "give 1 to 3600 seconds")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_holds_for_a_while() {
        let of = |permit_hours| AccessConfig {
            permit_hours,
            ..AccessConfig::default()
        };
        assert_eq!(AccessConfig::default().fault(), None);
        assert_eq!(of(0).fault().map(|f| f.0), Some("permit_hours"));
        assert_eq!(of(87_601).fault().map(|f| f.0), Some("permit_hours"));
        assert_eq!(of(2).permits(), Duration::from_secs(7_200));
    }

    #[test]
    fn a_flood_is_many_times_what_should_come() {
        let config = AccessConfig::default();
        assert_eq!(config.flood_of_data(10.0, 100), Some(2_000));
        assert_eq!(config.flood_of_data(0.1, 100), Some(100));
        assert_eq!(config.flood_of_requests(), Some(100_000));
        let never = AccessConfig {
            flood_factor: 0,
            flood_requests: 0,
            ..config
        };
        assert_eq!(never.flood_of_data(10.0, 100), None);
        assert_eq!(never.flood_of_requests(), None);
        let instant = AccessConfig {
            flood_seconds: 0,
            ..AccessConfig::default()
        };
        assert_eq!(instant.fault().map(|f| f.0), Some("flood_seconds"));
    }
}

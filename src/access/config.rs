//! Configuration of access.

use super::usage::UsageLimits;
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
    /// Sessions at once of one user, over all faces together.
    pub sessions_per_user: u32,
    /// Requests a second of one user, over all faces together; twice as many at a time.
    pub requests_per_second: u32,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            permit_hours: 24,
            cut_off_after: 100,
            sessions_per_user: 128,
            requests_per_second: 1_000,
        }
    }
}

impl AccessConfig {
    /// For how long a permit holds.
    pub fn permits(&self) -> Duration {
        Duration::from_secs(3_600 * u64::from(self.permit_hours))
    }

    /// What is wrong with it: the key, and why.
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        if !(1..=87_600).contains(&self.permit_hours) {
            return Some(("permit_hours", "give 1 to 87600 hours, which is ten years"));
        }
        if !(1..=10_000).contains(&self.sessions_per_user) {
            return Some(("sessions_per_user", "give 1 to 10000"));
        }
        let requests = 1..=1_000_000;
        (!requests.contains(&self.requests_per_second))
            .then_some(("requests_per_second", "give 1 to 1000000"))
    }

    /// What one user may use.
    pub fn usage(&self) -> UsageLimits {
        UsageLimits {
            sessions: usize::try_from(self.sessions_per_user).unwrap_or(usize::MAX),
            requests_per_second: self.requests_per_second,
        }
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
}

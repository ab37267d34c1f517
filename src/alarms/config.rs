//! Configuration of the alarms.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When alarms end, and how many there may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmConfig {
    /// An alarm is over after so many batches in a row in which nothing was found: one good batch
    /// between two bad ones ends nothing, so an alarm does not chatter.
    pub clear_after: u32,
    /// Alarms that are kept at most; what is raised beyond them is counted, and shown in no list.
    pub most: usize,
    /// For how many minutes an alarm may be shelved at a time.
    pub max_shelved_minutes: u32,
}

impl Default for AlarmConfig {
    fn default() -> Self {
        Self {
            clear_after: 3,
            most: 1_000,
            max_shelved_minutes: 24 * 60,
        }
    }
}

impl AlarmConfig {
    /// The longest time an alarm may be shelved.
    pub fn max_shelved(&self) -> Duration {
        Duration::from_secs(60 * u64::from(self.max_shelved_minutes))
    }

    /// What is wrong with it: the key, and why.
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        if self.clear_after == 0 {
            let why = "an alarm would be over before it began; give at least 1";
            return Some(("clear_after", why));
        }
        if !(1..=10_000).contains(&self.most) {
            let why = "give 1 to 10000: each one takes about 30 KiB while SCADA looks";
            return Some(("most", why));
        }
        if !(1..=525_600).contains(&self.max_shelved_minutes) {
            let why = "give 1 to 525600 minutes, which is a year";
            return Some(("max_shelved_minutes", why));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_make_alarms_useless_is_refused() {
        let default = AlarmConfig::default();
        assert_eq!(default.fault(), None);
        let with = |change: fn(&mut AlarmConfig)| {
            let mut config = AlarmConfig::default();
            change(&mut config);
            config.fault().map(|(key, _)| key)
        };
        assert_eq!(with(|c| c.clear_after = 0), Some("clear_after"));
        assert_eq!(with(|c| c.most = 0), Some("most"));
        assert_eq!(with(|c| c.most = 10_001), Some("most"));
        assert_eq!(
            with(|c| c.max_shelved_minutes = 0),
            Some("max_shelved_minutes")
        );
    }
}

//! `[ledger.retention]`: how long what is recorded is kept, and how much of it.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Smallest bound on the data directory, in megabytes: below it little else than what always stays fits.
const LEAST_MB: u64 = 64;
const MOST_MB: u64 = 1_000_000_000;

/// `[ledger.retention]`: everything is kept where it is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Sealed batches older than this are retired; their records stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batches: Option<Age>,
    /// The bodies of blocks older than this are retired, with what they recorded; headers stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bodies: Option<Age>,
    /// The oldest are retired when the data directory is larger, in megabytes (10⁶ bytes), without the store's
    /// journal.
    #[serde(
        deserialize_with = "megabytes",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_mb: Option<u64>,
    /// What is retired is archived in this directory first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<PathBuf>,
    /// How often it is looked after.
    pub interval: Interval,
}

impl RetentionConfig {
    /// Whether it retires anything.
    pub fn retires(&self) -> bool {
        self.batches.is_some() || self.bodies.is_some() || self.max_mb.is_some()
    }

    pub(super) fn resolve(&mut self, base: &Path) {
        if let Some(archive) = &mut self.archive {
            *archive = base.join(&*archive);
        }
    }

    /// Why this is no use, if it is not: the key, and what is wrong.
    pub(super) fn fault(&self, data: &Path) -> Option<(&'static str, &'static str)> {
        if let (Some(batches), Some(bodies)) = (self.batches, self.bodies)
            && batches.0 > bodies.0
        {
            return Some(("batches", "a batch cannot be kept longer than its record"));
        }
        let inside = |archive: &PathBuf| archive.starts_with(data) || data.starts_with(archive);
        if self.archive.as_ref().is_some_and(inside) {
            return Some((
                "archive",
                "it needs a directory outside of the data directory",
            ));
        }
        if self.archive.is_some() && !self.retires() {
            return Some((
                "archive",
                "nothing is retired: `batches`, `bodies` or `max_mb` is missing",
            ));
        }
        None
    }
}

fn megabytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    super::value::within::<LEAST_MB, MOST_MB, D>(from).map(Some)
}

/// An age, written as a number with its unit: `12h`, `400d`, `10y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(pub Duration);

/// How often, written in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Interval(pub Age);

impl Default for Interval {
    fn default() -> Self {
        Self(Age(Duration::from_secs(DAY)))
    }
}

const DAY: u64 = 24 * 60 * 60;
/// A hundred years: more than a clock of nanoseconds has left.
const LONGEST: u64 = 100 * 365 * DAY;
/// The units, the longest first.
const UNITS: [(char, u64); 6] = [
    ('y', 365 * DAY),
    ('w', 7 * DAY),
    ('d', DAY),
    ('h', 60 * 60),
    ('m', 60),
    ('s', 1),
];

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let whole = UNITS.iter().find(|(_, unit)| seconds.is_multiple_of(*unit));
        let (name, unit) = whole.copied().unwrap_or(('s', 1));
        write!(f, "{}{name}", seconds / unit)
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let seconds = UNITS.iter().find_map(|(name, unit)| {
            let number: u64 = text.strip_suffix(*name)?.parse().ok()?;
            number.checked_mul(*unit)
        });
        let seconds = seconds.filter(|s| (1..=LONGEST).contains(s));
        let wrong = || {
            let what = "is not a length of time: expected a number with its unit, s, m, h, d, w or y, for \
                        example 400d";
            D::Error::custom(format!("`{text}` {what}"))
        };
        Ok(Self(Duration::from_secs(seconds.ok_or_else(wrong)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_and_written_with_their_unit() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1_800),
            ("12h", 43_200),
            ("2w", 1_209_600),
        ] {
            let age: Age = serde_json::from_value(text.into()).unwrap();
            assert_eq!(
                (age.0.as_secs(), age.to_string()),
                (seconds, text.to_owned())
            );
        }
        for (text, same) in [("400d", "400d"), ("7d", "1w"), ("3650d", "10y")] {
            let age: Age = serde_json::from_value(text.into()).unwrap();
            assert_eq!(age.to_string(), same);
        }
        for wrong in [
            "",
            "d",
            "0d",
            "-1d",
            "400",
            "1.5d",
            "400 d",
            "101y",
            "99999999999999999999y",
        ] {
            assert!(
                serde_json::from_value::<Age>(wrong.into()).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_cannot_work_is_named() {
        let age = |days| Some(Age(Duration::from_secs(days * DAY)));
        let of = |batches, bodies, archive: Option<&str>| RetentionConfig {
            batches,
            bodies,
            archive: archive.map(PathBuf::from),
            ..RetentionConfig::default()
        };
        let fault = |config: RetentionConfig| config.fault(Path::new("plant/data")).map(|f| f.0);
        assert_eq!(fault(of(age(2), age(1), None)), Some("batches"));
        assert_eq!(
            fault(of(age(1), age(1), Some("plant/data/archive"))),
            Some("archive")
        );
        assert_eq!(fault(of(age(1), age(1), Some("plant"))), Some("archive"));
        assert_eq!(
            fault(of(None, None, Some("plant/archive"))),
            Some("archive")
        );
        assert_eq!(fault(of(age(1), age(2), Some("plant/archive"))), None);
        assert_eq!(fault(RetentionConfig::default()), None);
    }
}

//! When a rule holds: the days of a week and the hours of a shift.

use crate::model::Nanos;
use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};

const MINUTE: i64 = 60_000_000_000;
const DAY: i64 = 24 * 60;
/// 1970-01-01 was a Thursday; weeks begin on Monday.
const THURSDAY: i64 = 3;

/// Hours that come again every week, in the site's time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Said", into = "Said")]
pub struct Window {
    /// Monday first; the day on which it begins counts.
    days: [bool; 7],
    /// Minutes after midnight.
    from: u16,
    to: u16,
    /// Minutes by which the site's clocks are before UTC.
    offset: i16,
}

/// What is wrong with a window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// A day is none.
    #[error("{0:?} is no day; days are mon, tue, wed, thu, fri, sat and sun")]
    Day(String),
    /// An hour is none.
    #[error("{0:?} is no time of day; write it as 06:00, up to 24:00")]
    Time(String),
    /// The offset is further than any on earth.
    #[error("the offset from UTC is {0} minutes; it can be -840 to 840")]
    Offset(i16),
}

/// As it is written in files.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default = "all_days")]
    days: Vec<String>,
    from: String,
    to: String,
    #[serde(default)]
    utc_offset_minutes: i16,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn all_days() -> Vec<String> {
    DAYS.map(str::to_owned).to_vec()
}

impl Window {
    /// From one time of the day to another, both in minutes after midnight, on those days. When it
    /// ends before it begins it goes over midnight; when both are the same it lasts a whole day.
    pub fn new(days: [bool; 7], from: u16, to: u16, offset: i16) -> Result<Self, WindowError> {
        for time in [from, to] {
            if i64::from(time) > DAY {
                return Err(WindowError::Time(clock(time)));
            }
        }
        if !(-840..=840).contains(&offset) {
            return Err(WindowError::Offset(offset));
        }
        Ok(Self {
            days,
            from,
            to,
            offset,
        })
    }

    /// Whether `time` is within it; its last minute is not.
    pub fn contains(&self, time: Nanos) -> bool {
        let minutes = time.div_euclid(MINUTE) + i64::from(self.offset);
        let (day, minute) = (minutes.div_euclid(DAY), minutes.rem_euclid(DAY));
        let on = |day: i64| {
            let weekday = (day + THURSDAY).rem_euclid(7);
            self.days.get(weekday as usize).copied().unwrap_or(false)
        };
        let (from, to) = (i64::from(self.from), i64::from(self.to));
        if from < to {
            on(day) && (from..to).contains(&minute)
        } else {
            (on(day) && minute >= from) || (on(day - 1) && minute < to)
        }
    }
}

fn clock(minutes: u16) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn minutes(text: &str) -> Result<u16, WindowError> {
    let wrong = || WindowError::Time(text.to_owned());
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| match text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u16>().map_err(|_| wrong()),
        false => Err(wrong()),
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let time = hours * 60 + minutes;
    if minutes > 59 || i64::from(time) > DAY {
        return Err(wrong());
    }
    Ok(time)
}

impl TryFrom<Said> for Window {
    type Error = WindowError;

    fn try_from(said: Said) -> Result<Self, WindowError> {
        let mut days = [false; 7];
        for day in said.days {
            let index = DAYS.iter().position(|d| *d == day);
            let slot = index.and_then(|i| days.get_mut(i));
            *slot.ok_or(WindowError::Day(day))? = true;
        }
        let (from, to) = (minutes(&said.from)?, minutes(&said.to)?);
        Self::new(days, from, to, said.utc_offset_minutes)
    }
}

impl From<Window> for Said {
    fn from(window: Window) -> Self {
        let days = DAYS.iter().zip(window.days);
        Self {
            days: days
                .filter(|(_, on)| *on)
                .map(|(day, _)| (*day).to_owned())
                .collect(),
            from: clock(window.from),
            to: clock(window.to),
            utc_offset_minutes: window.offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};

    fn at(text: &str) -> Nanos {
        let time: DateTime<Utc> = text.parse().unwrap();
        time.timestamp_nanos_opt().unwrap()
    }

    fn window(json: &str) -> Window {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_day_shift() {
        let shift = window(r#"{"days":["mon","fri"],"from":"06:00","to":"14:00"}"#);
        // 2026-11-16 is a Monday.
        assert!(shift.contains(at("2026-11-16T06:00:00Z")));
        assert!(shift.contains(at("2026-11-20T13:59:59Z")));
        assert!(!shift.contains(at("2026-11-16T14:00:00Z")));
        assert!(!shift.contains(at("2026-11-16T05:59:59Z")));
        assert!(!shift.contains(at("2026-11-17T08:00:00Z")));
        assert!(
            shift.contains(at("1969-12-29T08:00:00Z")),
            "a Monday before 1970"
        );
    }

    #[test]
    fn a_night_shift_belongs_to_the_day_it_begins() {
        let night = window(r#"{"days":["sun"],"from":"22:00","to":"06:00"}"#);
        assert!(night.contains(at("2026-11-15T22:00:00Z")));
        assert!(night.contains(at("2026-11-16T05:59:00Z")), "Monday morning");
        assert!(
            !night.contains(at("2026-11-15T05:00:00Z")),
            "Sunday morning"
        );
        assert!(!night.contains(at("2026-11-16T22:00:00Z")));
    }

    #[test]
    fn the_sites_time_counts() {
        let shanghai =
            window(r#"{"days":["mon"],"from":"00:00","to":"24:00","utc_offset_minutes":480}"#);
        assert!(shanghai.contains(at("2026-11-15T16:00:00Z")));
        assert!(!shanghai.contains(at("2026-11-16T16:00:00Z")));
    }

    #[test]
    fn what_is_no_window_is_said_and_what_is_comes_back() {
        for (json, part) in [
            (r#"{"from":"6:00","to":"14:00"}"#, "6:00"),
            (r#"{"from":"06:00","to":"24:01"}"#, "24:01"),
            (r#"{"from":"06:60","to":"14:00"}"#, "06:60"),
            (
                r#"{"days":["monday"],"from":"06:00","to":"14:00"}"#,
                "monday",
            ),
            (
                r#"{"from":"06:00","to":"14:00","utc_offset_minutes":900}"#,
                "900",
            ),
            (r#"{"from":"06:00","to":"14:00","zone":1}"#, "zone"),
        ] {
            let error = serde_json::from_str::<Window>(json)
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
        let text = r#"{"days":["sat","sun"],"from":"22:00","to":"06:00","utc_offset_minutes":60}"#;
        assert_eq!(serde_json::to_string(&window(text)).unwrap(), text);
    }
}

//! Dates as CSV files write them.

use crate::model::Nanos;
use chrono::{DateTime, NaiveDate, NaiveDateTime};

const WITH_TIME: [&str; 7] = [
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d %H:%M:%S%.f",
    "%d.%m.%Y %H:%M:%S%.f",
    "%d.%m.%Y %H:%M",
    "%Y%m%dT%H%M%S%.f",
];
const DAYS: [&str; 3] = ["%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y"];

/// A date, without a zone taken as UTC; `None` when it is none. Days before months are only
/// recognised with dots, for with slashes nobody can tell.
pub(super) fn parse_date(text: &str) -> Option<Nanos> {
    let text = text.trim();
    if text.len() < 8 {
        return None;
    }
    if let Ok(date) = DateTime::parse_from_rfc3339(text) {
        return date.timestamp_nanos_opt();
    }
    let with_time = WITH_TIME
        .iter()
        .find_map(|f| NaiveDateTime::parse_from_str(text, f).ok());
    let day = || {
        let day = DAYS
            .iter()
            .find_map(|f| NaiveDate::parse_from_str(text, f).ok());
        day.and_then(|d| d.and_hms_opt(0, 0, 0))
    };
    with_time.or_else(day)?.and_utc().timestamp_nanos_opt()
}

/// A date, or seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their
/// size.
pub(super) fn parse_time(text: &str) -> Option<Nanos> {
    parse_date(text).or_else(|| {
        let number: f64 = text.trim().replace(',', ".").parse().ok()?;
        let per_unit = match number.abs() {
            n if n < 1e11 => 1e9,
            n if n < 1e14 => 1e6,
            n if n < 1e17 => 1e3,
            _ => 1.0,
        };
        number.is_finite().then_some((number * per_unit) as Nanos)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_many_hands_are_read() {
        let want = 1_583_077_447_000_000_000;
        for text in [
            "2020-03-01 15:44:07",
            "2020-03-01T15:44:07Z",
            "2020-03-01T16:44:07.000+01:00",
            "2020/03/01 15:44:07",
            "01.03.2020 15:44:07",
            "20200301T154407",
        ] {
            assert_eq!(parse_date(text), Some(want), "{text}");
        }
        assert_eq!(parse_date("2020-03-01"), Some(1_583_020_800_000_000_000));
        for text in [
            "",
            "12",
            "1583077447",
            "3.14159265",
            "03/01/2020 15:44",
            "hello world",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
        for text in [
            "1583077447",
            "1583077447000",
            "1583077447000000",
            "1583077447000000000",
        ] {
            assert_eq!(parse_time(text), Some(want), "{text}");
        }
    }
}

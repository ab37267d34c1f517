//! Time as everything here keeps it: nanoseconds since 1970-01-01T00:00:00Z.

/// Nanoseconds since the Unix epoch, UTC.
pub type Nanos = i64;

/// The machine's clock. Called by actors, sources and the command line only: below them time is an
/// argument.
pub fn now() -> Nanos {
    chrono::Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX)
}

/// RFC 3339 with milliseconds, UTC.
pub fn rfc3339(time: Nanos) -> String {
    chrono::DateTime::from_timestamp_nanos(time)
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

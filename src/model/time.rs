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

/// Reads a time as people write it, `2026-05-04T12:00:00Z`, or nanoseconds since 1970.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_time(text: &str) -> Result<Nanos, String> {
    if let Ok(nanos) = text.parse() {
        return Ok(nanos);
    }
    let parsed = chrono::DateTime::parse_from_rfc3339(text)
        .map_err(|e| format!("{e}; write it as 2026-05-04T12:00:00Z"))?;
    let nanos = parsed.timestamp_nanos_opt();
    nanos.ok_or_else(|| "it is outside of the years 1678 to 2262".to_owned())
}

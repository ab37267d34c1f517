//! Live values and connections as people read them: what `read`, `watch` and `status` have in common.

use super::output::cell;
use crate::model::now;
use serde_json::Value as Json;

/// A tag and its newest value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) tag: String,
    pub(super) value: String,
    unit: String,
    quality: String,
    time: String,
    /// The value is there, and not bad.
    pub(super) fine: bool,
}

impl Row {
    /// A tag as the hub's interface shows it.
    pub(super) fn new(tag: &Json) -> Self {
        let name = |pointer| cell(tag, pointer);
        let time = match name("/sample/time") {
            time if time.is_empty() => "never".to_owned(),
            time => format!("{time} ({})", ago(&time)),
        };
        let quality = match (name("/sample/quality"), name("/sample/status")) {
            (quality, _) if quality.is_empty() => "no value yet".to_owned(),
            (quality, status) if status.is_empty() || status == quality => quality,
            (_, status) => status,
        };
        let severity = name("/sample/quality");
        Self {
            tag: name("/tag"),
            value: name("/sample/value"),
            unit: name("/unit"),
            quality,
            time,
            fine: !matches!(severity.as_str(), "" | "Bad"),
        }
    }

    /// Tag, value, unit, quality, time.
    pub(super) fn cells(&self) -> Vec<String> {
        [
            &self.tag,
            &self.value,
            &self.unit,
            &self.quality,
            &self.time,
        ]
        .map(Clone::clone)
        .to_vec()
    }
}

/// What is wrong with a connection, in two layers; `None` when nothing is.
pub(super) fn trouble(link: &Json) -> Option<String> {
    if cell(link, "/state") != "down" {
        return None;
    }
    let mut said = cell(link, "/reason");
    let exact = cell(link, "/error");
    if !exact.is_empty() {
        said.push_str(&format!(" ({exact})"));
    }
    match cell(link, "/last_success") {
        last if last.is_empty() => said.push_str("; never read since the hub started"),
        last => said.push_str(&format!("; last read {last} ({})", ago(&last))),
    }
    let next = cell(link, "/retry_at");
    said.push_str(&format!("; next attempt {}", ahead(&next)));
    Some(said)
}

fn seconds_since(time: &str) -> Option<f64> {
    let time = chrono::DateTime::parse_from_rfc3339(time).ok()?;
    Some((now() - time.timestamp_nanos_opt()?) as f64 / 1e9)
}

/// How long ago a moment is.
fn ago(time: &str) -> String {
    match seconds_since(time) {
        None => time.to_owned(),
        Some(s) if s < 60.0 => format!("{:.1} s ago", s.max(0.0)),
        Some(s) if s < 7200.0 => format!("{:.0} min ago", s / 60.0),
        Some(s) => format!("{:.0} h ago", s / 3600.0),
    }
}

/// When a moment comes.
fn ahead(time: &str) -> String {
    match seconds_since(time) {
        None => time.to_owned(),
        Some(s) if s >= 0.0 => "now".to_owned(),
        Some(s) => format!("in {:.1} s", -s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rfc3339;
    use serde_json::json;

    #[test]
    fn a_bad_or_missing_value_is_not_fine() {
        let row = |quality: &str| {
            let sample = json!({"value": 4.5, "quality": quality, "status": quality, "time": "t"});
            Row::new(&json!({"tag": "x", "unit": "bar", "sample": sample}))
        };
        assert!(row("Good").fine && row("Uncertain").fine);
        assert!(!row("Bad").fine);
        let missing = Row::new(&json!({"tag": "x", "sample": null}));
        assert!(!missing.fine);
        assert_eq!(missing.cells()[3], "no value yet");
    }

    #[test]
    fn trouble_has_two_layers_and_two_times() {
        assert_eq!(trouble(&json!({"state": "up"})), None);
        let link = json!({
            "state": "down", "reason": "nobody answers", "error": "timed out",
            "last_success": rfc3339(now() - 90_000_000_000), "retry_at": rfc3339(now()),
        });
        let said = trouble(&link).unwrap();
        assert!(
            said.starts_with("nobody answers (timed out); last read 20"),
            "{said}"
        );
        assert!(said.ends_with("(2 min ago); next attempt now"), "{said}");
    }
}

//! Serde's words for a mistake, put into the words of whoever writes the file.

use super::diagnostic::{Diagnostic, Severity};
use super::source::{Sources, Span};

/// A mistake as serde reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    UnknownKey {
        found: String,
        known: Vec<String>,
        /// Parameters of a profile that can stand there too.
        parameters: Vec<String>,
    },
    UnknownValue {
        found: String,
        known: Vec<String>,
    },
    Missing {
        key: String,
    },
    WrongType {
        found: String,
        expected: String,
    },
    OutOfRange {
        found: String,
        expected: String,
    },
    Other(String),
}

/// What can stand in a table besides the keys that serde knows.
#[derive(Default)]
pub(super) struct AlsoKnown<'a> {
    pub keys: &'a [&'a str],
    pub parameters: &'a [String],
}

impl Fault {
    pub fn new(message: &str) -> Self {
        let message = message.trim_end();
        let of = |prefix| message.strip_prefix(prefix);
        let known = || message.split_once("expected ").map_or("", |m| m.1);
        if let Some(rest) = of("unknown field ") {
            let found = backticked(rest).into_iter().next().unwrap_or_default();
            let known = backticked(known());
            Self::UnknownKey {
                found,
                known,
                parameters: Vec::new(),
            }
        } else if let Some(rest) = of("unknown variant ") {
            let found = backticked(rest).into_iter().next().unwrap_or_default();
            let known = backticked(known());
            Self::UnknownValue { found, known }
        } else if let Some(rest) = of("missing field ") {
            let key = backticked(rest).into_iter().next().unwrap_or_default();
            Self::Missing { key }
        } else if let Some((found, expected)) =
            of("invalid type: ").and_then(|m| m.rsplit_once(", expected "))
        {
            let (found, expected) = (in_words(found), expectation(expected));
            Self::WrongType { found, expected }
        } else if let Some((found, expected)) = of("invalid value: ")
            .or(of("invalid length "))
            .and_then(|m| m.rsplit_once(", expected "))
        {
            let (found, expected) = (in_words(found), expectation(expected));
            Self::OutOfRange { found, expected }
        } else if message == "wanted string or table" {
            let (found, expected) = ("something else".to_owned(), "text in quotes".to_owned());
            Self::WrongType { found, expected }
        } else if message.contains("invalid socket address syntax") {
            Self::Other("expected IP:port, for example 127.0.0.1:8080".to_owned())
        } else {
            Self::Other(message.to_owned())
        }
    }

    /// The key that was meant, where the mistake is a wrong one.
    pub fn meant(&self) -> Option<String> {
        match self {
            Self::UnknownKey {
                found,
                known,
                parameters,
            } => nearest(found, &[known.as_slice(), parameters].concat()),
            _ => None,
        }
    }

    /// Adds keys that are known too, where a key is not known: those that are dealt with before serde
    /// sees a table.
    pub fn also_known(mut self, more: &AlsoKnown<'_>) -> Self {
        if let Self::UnknownKey {
            known, parameters, ..
        } = &mut self
        {
            known.extend(more.keys.iter().map(|key| (*key).to_owned()));
            parameters.extend(more.parameters.iter().cloned());
        }
        self
    }

    /// The diagnostic; `key` is the entry it is about, where that is known.
    pub fn diagnostic(&self, source: &Sources<'_>, span: &Span, key: Option<&str>) -> Diagnostic {
        let error = |message: String, label: String| {
            source.diagnostic(Severity::Error, span, message, label)
        };
        let named = key.map_or_else(|| "this value".to_owned(), |k| format!("`{k}`"));
        match self {
            Self::UnknownKey {
                found,
                known,
                parameters,
            } => {
                let suggestion = self.meant();
                let label = match &suggestion {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "not known here".to_owned(),
                };
                let mut d = error(format!("unknown key `{found}`"), label);
                d.help.push(format!("keys known here: {}", list(known)));
                if !parameters.is_empty() {
                    let parameters = list(parameters);
                    d.help
                        .push(format!("parameters of the profile: {parameters}"));
                }
                d.suggestion = suggestion;
                d
            }
            Self::UnknownValue { found, known } => {
                let suggestion = nearest(found, known);
                let label = match &suggestion {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => format!("expected one of {}", list(known)),
                };
                let mut d = error(format!("unknown value \"{found}\" for {named}"), label);
                d.help.push(format!("values known here: {}", list(known)));
                d.suggestion = suggestion;
                d
            }
            Self::Missing { key } => {
                let mut d = error(
                    format!("the key `{key}` is missing"),
                    format!("`{key}` is needed here"),
                );
                d.suggestion = Some(key.clone());
                d.help.push(format!("add {}", example_of(key)));
                d
            }
            Self::WrongType { found, expected } => {
                let mut d = error(
                    format!("{named} has the wrong type"),
                    format!("expected {expected}, found {found}"),
                );
                let key = key.unwrap_or("…");
                match repaired(found, expected) {
                    Some(value) => {
                        d.help.push(format!("write `{key} = {value}`"));
                        d.suggestion = Some(value);
                    }
                    None => d
                        .help
                        .push(format!("write `{key} = {}`", example_value(expected))),
                }
                d
            }
            Self::OutOfRange { found, expected } => {
                let mut d = error(
                    format!("{named} is out of range"),
                    format!("expected {expected}, found {found}"),
                );
                d.help.push(match old_notation(key, found) {
                    Some(meant) => meant,
                    None => format!("write {expected}"),
                });
                d
            }
            Self::Other(reason) => {
                let message = match key {
                    Some(key) => format!("`{key}` cannot be used"),
                    None => "this cannot be used".to_owned(),
                };
                let mut d = error(message, reason.clone());
                d.help.push(remedy(key, reason));
                d
            }
        }
    }
}

/// The nearest of `known` to `found`, if one is near enough to have been meant.
pub(super) fn nearest(found: &str, known: &[String]) -> Option<String> {
    let lower = found.to_lowercase().replace('-', "_");
    let distance = |candidate: &String| {
        let candidate_lower = candidate.to_lowercase().replace('-', "_");
        strsim::damerau_levenshtein(&lower, &candidate_lower)
    };
    let (distance, best) = known.iter().map(|k| (distance(k), k)).min()?;
    let allowed = (found.chars().count().max(best.chars().count()) / 3).max(1);
    if distance <= allowed {
        return Some(best.clone());
    }
    // A longer or shorter word for the same: `period` for `period_ms`, `regs` for nothing.
    let related = |k: &&String| k.contains(&lower) || lower.contains(k.as_str());
    let mut related = known
        .iter()
        .filter(|k| k.len() > 2 && lower.len() > 2)
        .filter(related);
    match (related.next(), related.next()) {
        (Some(one), None) => Some(one.clone()),
        _ => None,
    }
}

/// An address in the notation of old manuals, where the first digit says the table and counting begins
/// at 1: what it is here.
fn old_notation(key: Option<&str>, found: &str) -> Option<String> {
    let number: u32 = found.strip_prefix("the number ")?.parse().ok()?;
    let (key, first) = match key? {
        key @ "holding_register" => (key, 400_001),
        key @ "input_register" => (key, 300_001),
        key @ "discrete_input" => (key, 100_001),
        _ => return None,
    };
    let address = number.checked_sub(first).filter(|a| *a <= 65_535)?;
    Some(format!(
        "{number} in the notation of manuals is `{key} = {address}`: addresses count from 0 here, without the digit of the table"
    ))
}

/// What to write instead of a value that a module refused.
fn remedy(key: Option<&str>, reason: &str) -> String {
    if let Some(bounds) = reason.split_once("is not between ").map(|(_, b)| b)
        && let Some((low, high)) = bounds.split_once(" and ")
    {
        return format!("write a whole number from {low} to {high}");
    }
    match key.map(|key| (key, known_example(key))) {
        Some((key, Some(example))) => format!("write it like `{key} = {example}`"),
        Some((key, None)) => {
            format!("correct `{key}` as is said above, or leave it out where it has a default")
        }
        None => "change it as is said above".to_owned(),
    }
}

/// A key that is missing, with a value that shows what it takes.
fn example_of(key: &str) -> String {
    match known_example(key) {
        Some(example) => format!("`{key} = {example}`, with your own value"),
        None => format!("`{key} = …`"),
    }
}

/// A value that shows what a key takes.
fn known_example(key: &str) -> Option<&'static str> {
    Some(match key {
        "id" => "\"plc-1\"",
        "chain" => "\"main\"",
        "group" => "\"cell-a\"",
        "hubs" => "[\"hub-1\", \"hub-2\"]",
        "profile" => "\"universal-robots\"",
        "name" => "\"temperature\"",
        "bind" => "\"127.0.0.1:8080\"",
        "address" => "\"192.0.2.7:502\"",
        "url" => "\"opc.tcp://192.0.2.8:4840\"",
        "node" => "\"ns=2;s=Robot1.Axis1\"",
        "range" => "[0.0, 120.0]",
        "modbus" => "{ holding_register = 10, type = \"f32\" }",
        "opcua" => "{ node = \"ns=2;s=Robot1.Axis1\" }",
        "with" => "{ address = \"192.0.2.10\" }",
        "password_file" => "\"keys/scada.pw\"",
        _ => return None,
    })
}

/// A value of the kind that was expected.
fn example_value(expected: &str) -> &'static str {
    if expected.contains("true") {
        "true"
    } else if expected.starts_with("a list") {
        "[…]"
    } else if expected.starts_with("a table") {
        "{ … }"
    } else if expected.contains("whole number") {
        "1"
    } else if expected.contains("number") {
        "1.0"
    } else if expected.contains("text") {
        "\"…\""
    } else {
        "…"
    }
}

fn list(known: &[String]) -> String {
    if known.is_empty() {
        return "none".to_owned();
    }
    let quoted = known.iter().map(|k| format!("`{k}`"));
    quoted.collect::<Vec<_>>().join(", ")
}

fn backticked(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// What serde found, in words.
fn in_words(found: &str) -> String {
    let number = |prefix| {
        found
            .strip_prefix(prefix)
            .map(|n: &str| n.trim_matches('`'))
    };
    if let Some(number) = number("integer ").or(number("floating point ")) {
        format!("the number {number}")
    } else if let Some(text) = found.strip_prefix("string ") {
        format!("the text {text}")
    } else if let Some(value) = found.strip_prefix("boolean ") {
        value.to_owned()
    } else {
        match found {
            "sequence" => "a list".to_owned(),
            "map" => "a table".to_owned(),
            other => other.to_owned(),
        }
    }
}

/// What serde expected, in words.
fn expectation(expected: &str) -> String {
    let words = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" | "u128" => "a whole number, 0 or more",
        "i8" => "a whole number from -128 to 127",
        "i16" => "a whole number from -32768 to 32767",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "i64" | "isize" | "i128" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" | "bool" => "`true` or `false`",
        "a string" | "string" | "string or table" | "path string" => "text in quotes",
        "a sequence" => "a list in brackets",
        "a map" => "a table of keys",
        other => {
            if let Some(n) = other.strip_prefix("a tuple of size ") {
                return format!("a list of {n} in brackets");
            }
            if other.starts_with("struct ") {
                return "a table of keys, in braces or under a header".to_owned();
            }
            other
        }
    };
    words.to_owned()
}

/// The found value, written the way it was expected; where that is obvious.
fn repaired(found: &str, expected: &str) -> Option<String> {
    if let Some(text) = found.strip_prefix("the text ") {
        let inner = text.trim_matches('"');
        let number = expected.contains("number") && inner.parse::<f64>().is_ok();
        let truth = expected.starts_with("`true`") && matches!(inner, "true" | "false");
        return (number || truth).then(|| inner.to_owned());
    }
    let number = found.strip_prefix("the number ")?;
    if expected.starts_with("text") {
        return Some(format!("\"{number}\""));
    }
    let whole = number.strip_suffix(".0")?;
    expected.contains("whole").then(|| whole.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|k| (*k).to_owned()).collect()
    }

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        let keys = known(&["address", "unit_id", "period_ms", "timeout_ms"]);
        for (found, meant) in [
            ("adress", Some("address")),
            ("unit-id", Some("unit_id")),
            ("UnitId", Some("unit_id")),
            ("period", Some("period_ms")),
            ("ms", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(found, &keys).as_deref(), meant, "{found}");
        }
    }

    #[test]
    fn serdes_words_are_understood() {
        assert_eq!(
            Fault::new("unknown field `a`, expected one of `b`, `c`"),
            Fault::UnknownKey {
                found: "a".into(),
                known: known(&["b", "c"]),
                parameters: vec![]
            }
        );
        assert_eq!(
            Fault::new("unknown field `a`, there are no fields"),
            Fault::UnknownKey {
                found: "a".into(),
                known: vec![],
                parameters: vec![]
            }
        );
        assert_eq!(
            Fault::new("invalid type: string \"a, expected b\", expected u16"),
            Fault::WrongType {
                found: "the text \"a, expected b\"".into(),
                expected: "a whole number from 0 to 65535".into()
            }
        );
        assert_eq!(
            Fault::new("missing field `id`"),
            Fault::Missing { key: "id".into() }
        );
    }

    #[test]
    fn obvious_repairs_are_offered() {
        assert_eq!(
            repaired("the text \"64\"", "a whole number"),
            Some("64".into())
        );
        assert_eq!(repaired("the text \"x\"", "a whole number"), None);
        assert_eq!(
            repaired("the number 5", "text in quotes"),
            Some("\"5\"".into())
        );
        assert_eq!(
            repaired("the number 5.0", "a whole number"),
            Some("5".into())
        );
    }
}

//! Query parameters, read strictly: a mistake is named, never guessed around.

use super::problem::Problem;
use actix_web::web;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Most entries one answer holds.
pub(super) const MAX_LIMIT: usize = 1000;

/// Entries of an answer when nothing is said.
pub(super) const DEFAULT_LIMIT: usize = 100;

/// The query parameters of one request.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads `query`; a parameter that is not one of `known`, or is there twice, is refused.
    pub(super) fn parse(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|e| Problem::parameter("query", format!("the query cannot be read: {e}")))?
            .into_inner();
        for (i, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(Problem::parameter(name, unknown(name, known)));
            }
            if pairs.iter().take(i).any(|earlier| earlier.0 == *name) {
                let detail = format!("the parameter `{name}` is there twice: give it once");
                return Err(Problem::parameter(name, detail));
            }
        }
        Ok(Self(pairs))
    }

    /// The text of parameter `name`.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|pair| pair.0 == name)
            .map(|pair| pair.1.as_str())
    }

    /// Parameter `name` as a number of `range`.
    pub(super) fn number<T>(
        &self,
        name: &str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, Problem>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (low, high) = (range.start(), range.end());
                let detail = format!(
                    "`{name}` is `{}`, which is not a whole number from {low} to {high}",
                    shortened(text)
                );
                Err(Problem::parameter(name, detail))
            }
        }
    }

    /// How many entries are wanted: `limit`, from 1 to [`MAX_LIMIT`].
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        self.limit_or(DEFAULT_LIMIT)
    }

    /// The same, with another number of entries when nothing is said.
    pub(super) fn limit_or(&self, default: usize) -> Result<usize, Problem> {
        Ok(self.number("limit", 1..=MAX_LIMIT)?.unwrap_or(default))
    }

    /// Parameter `name` as one of `words`, by position.
    pub(super) fn word(&self, name: &str, words: &[&str]) -> Result<Option<usize>, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match words.iter().position(|word| *word == text) {
            Some(at) => Ok(Some(at)),
            None => {
                let detail = format!(
                    "`{name}` is `{}`, which is none of {}",
                    shortened(text),
                    listed(words)
                );
                Err(Problem::parameter(name, detail))
            }
        }
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    let name = shortened(name);
    match known {
        [] => format!("there is no parameter `{name}` here: this address takes none"),
        _ => format!(
            "there is no parameter `{name}` here: this address takes {}",
            listed(known)
        ),
    }
}

fn listed(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// What a caller sent, cut to a length that an error message can bear.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_repeated_parameters_are_named() {
        let error = Params::parse("limt=5", &["limit", "before"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no parameter `limt` here: this address takes `limit`, `before`"
        );
        let error = Params::parse("limit=5&limit=6", &["limit"]).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }

    #[test]
    fn numbers_outside_the_range_are_refused() {
        for bad in ["0", "1001", "-1", "1e3", "", "ten"] {
            let query = format!("limit={bad}");
            let params = Params::parse(&query, &["limit"]).unwrap();
            let error = params.limit().unwrap_err().to_string();
            assert!(error.contains("from 1 to 1000"), "{bad}: {error}");
        }
        let params = Params::parse("limit=1000", &["limit"]).unwrap();
        assert_eq!(params.limit(), Ok(1000));
        assert_eq!(Params::parse("", &[]).unwrap().limit(), Ok(DEFAULT_LIMIT));
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        let query = format!("limit={}", "é".repeat(500));
        let params = Params::parse(&query, &["limit"]).unwrap();
        assert!(params.limit().unwrap_err().to_string().chars().count() < 160);
    }
}

//! Patterns of objects: `device:press-*/temp*`, `device:*/**`, `role:operator`.

use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};

/// Longest pattern, in bytes.
const MAX: usize = 256;

/// A pattern over the parts of an object's name, which a `/` divides. `*` stands for any characters
/// within a part, a part `**` for any number of parts, none included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Empty, or with an empty part.
    #[error("a pattern and each of its parts between / must have a character")]
    Empty,
    /// Longer than 256 bytes.
    #[error("a pattern has at most {MAX} bytes")]
    Long,
    /// `**` is only part of a part.
    #[error("** stands alone between /; within a part a single * is enough")]
    Stars,
}

impl Pattern {
    /// Checks and takes a pattern.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX {
            return Err(PatternError::Long);
        }
        for part in text.split('/') {
            if part.is_empty() {
                return Err(PatternError::Empty);
            }
            if part != "**" && part.contains("**") {
                return Err(PatternError::Stars);
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every object is meant.
    pub(super) fn is_all(&self) -> bool {
        self.0 == "**"
    }

    /// Whether `object` is one of those meant. Takes at most the product of both lengths.
    pub fn matches(&self, object: &str) -> bool {
        let pattern: Vec<&str> = self.0.split('/').collect();
        let object: Vec<&str> = object.split('/').collect();
        sequence(&pattern, &object, |p| *p == "**", |p, o| part(p, o))
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        Self::new(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

fn part(pattern: &str, text: &str) -> bool {
    sequence(
        pattern.as_bytes(),
        text.as_bytes(),
        |p| *p == b'*',
        |p, t| p == t,
    )
}

/// Matches a sequence in which some elements stand for any number of others. Only the newest of
/// these is ever tried again: whatever an older one could take, the newest can take as well.
fn sequence<P, T>(
    pattern: &[P],
    text: &[T],
    is_any: impl Fn(&P) -> bool,
    same: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    while let Some(next) = text.get(t) {
        match pattern.get(p) {
            Some(any) if is_any(any) => {
                again = Some((p + 1, t));
                p += 1;
            }
            Some(one) if same(one, next) => (p, t) = (p + 1, t + 1),
            _ => match &mut again {
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(is_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matches_and_what_does_not() {
        let table = [
            ("device:press-1", "device:press-1", true),
            ("device:press-1", "device:press-12", false),
            ("device:press-*", "device:press-", true),
            ("device:press-*", "device:press-1/temp", false),
            ("device:press-*/**", "device:press-1", true),
            ("device:press-*/**", "device:press-1/a/b", true),
            ("**", "anything/at/all", true),
            ("**/temp*", "device:p/x/temperature", true),
            ("**/temp*", "device:p/x/pressure", false),
            ("device:*/t*p*e", "device:a/temperature", true),
            ("device:*/t*p*e", "device:a/temperatures", false),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/b/c", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("*", "", true),
            ("Äpfel-*", "Äpfel-rot", true),
        ];
        for (pattern, object, wanted) in table {
            let matches = Pattern::new(pattern).unwrap().matches(object);
            assert_eq!(matches, wanted, "{pattern} on {object}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        assert_eq!(Pattern::new(""), Err(PatternError::Empty));
        assert_eq!(Pattern::new("a//b"), Err(PatternError::Empty));
        assert_eq!(Pattern::new("a/b**"), Err(PatternError::Stars));
        assert_eq!(Pattern::new(&"x".repeat(257)), Err(PatternError::Long));
        assert!(serde_json::from_str::<Pattern>("\"a/***\"").is_err());
    }

    #[test]
    fn many_stars_take_no_longer_than_few() {
        let pattern = Pattern::new(&"*a".repeat(120)).unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(20_000))));
    }
}

//! What a parameter can be, and the arithmetic that a profile may do with it: `{base + 4}`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest text between braces, in bytes: it bounds the depth of parentheses too.
pub const MAX_EXPRESSION: usize = 200;

/// The value of a parameter or of a loop's variable.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged, expecting = "a number, text, `true` or `false`")]
pub enum Argument {
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Number(f64),
    /// Text.
    Text(String),
    /// `true` or `false`.
    Bool(bool),
}

impl Argument {
    /// What it is called in a profile.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "integer",
            Self::Number(_) => "number",
            Self::Text(_) => "text",
            Self::Bool(_) => "bool",
        }
    }

    /// As a file would have it.
    pub fn as_toml(&self) -> String {
        match self {
            Self::Text(text) => toml::Value::String(text.clone()).to_string(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => n.fmt(f),
            // With a point, so that it stays a number with a fraction.
            Self::Number(n) => write!(f, "{n:?}"),
            Self::Text(t) => t.fmt(f),
            Self::Bool(b) => b.fmt(f),
        }
    }
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq)]
pub enum NoValue {
    /// No such parameter.
    Unknown(String),
    /// Anything else, in plain words.
    Wrong(String),
}

/// Where names get their values.
pub trait Names {
    /// The value of `name`.
    fn value(&self, name: &str) -> Result<Argument, NoValue>;
}

/// The value of an expression: numbers, names, `+ - * / %` and parentheses; or one name alone, which
/// may be text.
pub fn evaluate(expression: &str, names: &impl Names) -> Result<Argument, NoValue> {
    if expression.len() > MAX_EXPRESSION {
        let wrong = format!("an expression has at most {MAX_EXPRESSION} characters");
        return Err(NoValue::Wrong(wrong));
    }
    let mut parser = Parser {
        rest: expression.trim(),
        names,
    };
    if parser.rest.is_empty() {
        let wrong = "there is nothing between the braces: write the name of a parameter";
        return Err(NoValue::Wrong(wrong.into()));
    }
    let value = parser.sum()?;
    match parser.rest.chars().next() {
        None => Ok(value),
        Some(c) => Err(NoValue::Wrong(format!(
            "{c:?} is not understood here: an expression has names, numbers, + - * / % and parentheses"
        ))),
    }
}

struct Parser<'a, N> {
    rest: &'a str,
    names: &'a N,
}

impl<N: Names> Parser<'_, N> {
    fn next_is(&mut self, wanted: &[char]) -> Option<char> {
        let rest = self.rest.trim_start();
        let found = rest.chars().next().filter(|c| wanted.contains(c))?;
        self.rest = rest.get(found.len_utf8()..).unwrap_or_default();
        Some(found)
    }

    fn sum(&mut self) -> Result<Argument, NoValue> {
        let mut value = self.product()?;
        while let Some(sign) = self.next_is(&['+', '-']) {
            value = apply(sign, value, self.product()?)?;
        }
        self.rest = self.rest.trim_start();
        Ok(value)
    }

    fn product(&mut self) -> Result<Argument, NoValue> {
        let mut value = self.factor()?;
        while let Some(sign) = self.next_is(&['*', '/', '%']) {
            value = apply(sign, value, self.factor()?)?;
        }
        Ok(value)
    }

    fn factor(&mut self) -> Result<Argument, NoValue> {
        if self.next_is(&['(']).is_some() {
            let value = self.sum()?;
            return match self.next_is(&[')']) {
                Some(_) => Ok(value),
                None => Err(NoValue::Wrong("a `)` is missing".into())),
            };
        }
        if self.next_is(&['-']).is_some() {
            return apply('-', Argument::Integer(0), self.factor()?);
        }
        self.rest = self.rest.trim_start();
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let number = self.rest.starts_with(|c: char| c.is_ascii_digit());
        let end = self
            .rest
            .find(|c| !(word(c) || number && c == '.'))
            .unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        if token.is_empty() {
            let what = rest.chars().next();
            let what = what.map_or("nothing".to_owned(), |c| format!("{c:?}"));
            let wrong = format!("a name or a number was expected, and there is {what}");
            return Err(NoValue::Wrong(wrong));
        }
        self.rest = rest;
        if !number {
            return self.names.value(token);
        }
        if let Ok(n) = token.parse() {
            return Ok(Argument::Integer(n));
        }
        let parsed = token.parse().map(Argument::Number);
        parsed.map_err(|_| NoValue::Wrong(format!("`{token}` is neither a number nor a name")))
    }
}

fn apply(sign: char, left: Argument, right: Argument) -> Result<Argument, NoValue> {
    use Argument::{Integer, Number};
    let too_large = || NoValue::Wrong("the number becomes too large".into());
    let by_zero = || NoValue::Wrong("this divides by 0".into());
    if let (Integer(a), Integer(b)) = (&left, &right) {
        let (a, b) = (*a, *b);
        let whole = match sign {
            '+' => a.checked_add(b),
            '-' => a.checked_sub(b),
            '*' => a.checked_mul(b),
            _ if b == 0 => return Err(by_zero()),
            '%' => a.checked_rem_euclid(b),
            _ if a.checked_rem(b) == Some(0) => a.checked_div(b),
            _ => return Ok(Number(a as f64 / b as f64)),
        };
        return whole.map(Integer).ok_or_else(too_large);
    }
    let number = |argument: &Argument| match argument {
        Integer(n) => Ok(*n as f64),
        Number(n) => Ok(*n),
        other => Err(NoValue::Wrong(format!(
            "`{other}` is {}: only numbers can be calculated with",
            other.kind()
        ))),
    };
    let (a, b) = (number(&left)?, number(&right)?);
    let value = match sign {
        '+' => a + b,
        '-' => a - b,
        '*' => a * b,
        _ if b == 0.0 => return Err(by_zero()),
        '%' => a.rem_euclid(b),
        _ => a / b,
    };
    if value.is_finite() {
        Ok(Number(value))
    } else {
        Err(too_large())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Known;

    impl Names for Known {
        fn value(&self, name: &str) -> Result<Argument, NoValue> {
            Ok(match name {
                "base" => Argument::Integer(100),
                "scale" => Argument::Number(0.5),
                "db" => Argument::Text("Line".into()),
                other => return Err(NoValue::Unknown(other.into())),
            })
        }
    }

    #[test]
    fn expressions_are_what_they_are_in_any_other_language() {
        for (text, value) in [
            ("base", "100"),
            ("base + 4", "104"),
            (" ( base + 4 ) * 2 - 1", "207"),
            ("base / 8", "12.5"),
            ("base / 4", "25"),
            ("-base % 7", "5"),
            ("scale * 3", "1.5"),
            ("2 - 3 - 4", "-5"),
            ("0.5 + 1", "1.5"),
            ("db", "Line"),
        ] {
            let found = evaluate(text, &Known).map(|v| v.to_string());
            assert_eq!(found.as_deref(), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_says_why() {
        for (text, said) in [
            ("bse", "Unknown(\"bse\")"),
            ("", "nothing between the braces"),
            ("base +", "a name or a number"),
            ("(base", "`)` is missing"),
            ("base 4", "is not understood"),
            ("db + 1", "only numbers"),
            ("base / 0", "divides by 0"),
            ("9223372036854775807 + 1", "too large"),
            ("1.2.3", "neither a number"),
            ("[", "a name or a number"),
        ] {
            let error = format!("{:?}", evaluate(text, &Known).unwrap_err());
            assert!(error.contains(said), "{text}: {error}");
        }
        let deep = "(".repeat(MAX_EXPRESSION + 1);
        assert!(matches!(evaluate(&deep, &Known), Err(NoValue::Wrong(_))));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[-+*/%() a-z0-9.{}°]{0,40}") {
            let _ = evaluate(&text, &Known);
        }
    }
}

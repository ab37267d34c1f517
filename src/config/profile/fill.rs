//! Puts values in the place of `{…}` in the texts of a profile.

use super::argument::{Argument, Names, NoValue, evaluate};
use crate::config::explain::nearest;
use crate::config::mistake::Mistake;
use crate::config::source::{Sources, Span};
use crate::config::tree::{Entry, Node, Value};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// The values of a profile's parameters in one use of it.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// Those that were given or have a default.
    pub known: BTreeMap<String, Argument>,
    /// Those that were needed and have neither: an example stands in for them.
    pub missing: BTreeMap<String, Argument>,
    /// Variables of a group's loop; they hide parameters.
    pub local: Vec<(String, Argument)>,
    /// Those of `missing` that were asked for.
    pub needed: RefCell<BTreeSet<String>>,
    /// Where those stand that the device gives.
    pub given: BTreeMap<String, Span>,
    /// The first of these that was asked for since this was cleared.
    from: RefCell<Option<Span>>,
}

impl Names for Values {
    fn value(&self, name: &str) -> Result<Argument, NoValue> {
        if let Some((_, value)) = self.local.iter().find(|(local, _)| local == name) {
            return Ok(value.clone());
        }
        if let Some(example) = self.missing.get(name) {
            self.needed.borrow_mut().insert(name.to_owned());
            return Ok(example.clone());
        }
        if let Some(span) = self.given.get(name) {
            self.from.borrow_mut().get_or_insert_with(|| span.clone());
        }
        let known = self.known.get(name).cloned();
        known.ok_or_else(|| NoValue::Unknown(name.to_owned()))
    }
}

impl Values {
    fn names(&self) -> Vec<String> {
        let locals = self.local.iter().map(|(name, _)| name);
        let all = locals.chain(self.known.keys()).chain(self.missing.keys());
        all.cloned().collect()
    }
}

/// What goes wrong while a profile is filled in.
pub struct Filling<'a, 'f> {
    /// The files.
    pub sources: &'a Sources<'f>,
    /// Mistakes found.
    pub mistakes: &'a mut Vec<Mistake>,
}

impl Filling<'_, '_> {
    /// A copy of a value, filled in. What cannot be is left as it is, and noted. A value that is made
    /// from what a device says stands where the device says it: that is what must be changed when it
    /// is wrong.
    pub fn node(&mut self, node: &Node<'static>, values: &Values) -> Node<'static> {
        let mut span = node.span.clone();
        let value = match &node.value {
            Value::Text(text) if text.contains(['{', '}']) => {
                values.from.replace(None);
                let filled = self.text(text, &node.span, values);
                span = values.from.take().unwrap_or(span);
                match filled {
                    Some(Argument::Text(text)) => Value::Text(Cow::Owned(text)),
                    Some(Argument::Integer(number)) => Value::Integer(number.into()),
                    Some(Argument::Number(number)) => Value::Float(number),
                    Some(Argument::Bool(value)) => Value::Bool(value),
                    None => node.value.clone(),
                }
            }
            Value::List(list) => Value::List(list.iter().map(|v| self.node(v, values)).collect()),
            Value::Table(entries) => Value::Table(
                entries
                    .iter()
                    .map(|entry| Entry {
                        key: entry.key.clone(),
                        at: entry.at.clone(),
                        node: self.node(&entry.node, values),
                    })
                    .collect(),
            ),
            other => other.clone(),
        };
        Node { span, value }
    }

    /// What a text with braces stands for; text that is one expression has the expression's type.
    pub fn text(&mut self, text: &str, span: &Span, values: &Values) -> Option<Argument> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        loop {
            let Some(at) = rest.find(['{', '}']) else {
                out.push_str(rest);
                return Some(Argument::Text(out));
            };
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            if from.starts_with("{{") || from.starts_with("}}") {
                out.push_str(from.get(..1).unwrap_or_default());
                rest = from.get(2..).unwrap_or_default();
                continue;
            }
            let Some(end) = from.find('}').filter(|_| from.starts_with('{')) else {
                let mut wrong = Mistake::new(
                    span.clone(),
                    "a brace has no partner",
                    "`{…}` encloses the name of a parameter",
                );
                wrong = wrong.help("for a brace as such write it twice: `{{` or `}}`");
                self.mistakes.push(wrong);
                return None;
            };
            let expression = from.get(1..end).unwrap_or_default();
            let value = match evaluate(expression, values) {
                Ok(value) => value,
                Err(error) => {
                    self.no_value(error, span, expression, values);
                    return None;
                }
            };
            rest = from.get(end + 1..).unwrap_or_default();
            if out.is_empty() && rest.is_empty() {
                return Some(value);
            }
            out.push_str(&value.to_string());
        }
    }

    /// Notes why an expression has no value.
    pub fn no_value(&mut self, error: NoValue, span: &Span, expression: &str, values: &Values) {
        let at = self.sources.narrow(span, expression);
        let mistake = match error {
            NoValue::Unknown(name) => {
                let known = values.names();
                let meant = nearest(&name, &known);
                let label = match &meant {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "it is not among `[parameters]`".to_owned(),
                };
                let help = match known.as_slice() {
                    [] => format!(
                        "declare it: `[parameters]` and below it `{name} = {{ default = 0, help = \"…\" }}`"
                    ),
                    known => format!("parameters known here: `{}`", known.join("`, `")),
                };
                let at = self.sources.narrow(&at, &name);
                let mut mistake =
                    Mistake::new(at, format!("there is no parameter `{name}`"), label).help(help);
                mistake.suggestion = meant;
                mistake
            }
            NoValue::Wrong(reason) => {
                Mistake::new(at, format!("`{{{expression}}}` has no value"), reason)
                    .help("an expression is like `{base + 4}` or `{db}`")
            }
        };
        // The same place is filled in for every turn of a loop.
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }
}

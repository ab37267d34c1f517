//! A file as a tree, each part with its place. Trees of several files can be put together, and what is
//! wrong can be taken out so that the rest can be read too.

use super::source::Span;
use std::borrow::Cow;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'a> {
    pub span: Span,
    pub value: Value<'a>,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Text(Cow<'a, str>),
    Integer(i128),
    Float(f64),
    Bool(bool),
    Date(String),
    List(Vec<Node<'a>>),
    Table(Vec<Entry<'a>>),
}

/// A key of a table, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<'a> {
    pub key: Cow<'a, str>,
    pub at: Span,
    pub node: Node<'a>,
}

impl Value<'_> {
    /// Its kind, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Bool(_) => "`true` or `false`",
            Self::Date(_) => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl<'a> Node<'a> {
    pub fn text(span: Span, text: impl Into<Cow<'a, str>>) -> Self {
        let value = Value::Text(text.into());
        Self { span, value }
    }

    pub fn table(span: Span, entries: Vec<Entry<'a>>) -> Self {
        let value = Value::Table(entries);
        Self { span, value }
    }

    pub fn list(span: Span, list: Vec<Node<'a>>) -> Self {
        let value = Value::List(list);
        Self { span, value }
    }

    /// The tree of a parsed file.
    pub fn file(root: Spanned<DeTable<'a>>) -> Self {
        let span = root.span();
        Self::table(span, entries(root.into_inner()))
    }

    fn parsed(value: Spanned<DeValue<'a>>) -> Self {
        let span = value.span();
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text),
            DeValue::Integer(number) => {
                let parsed = i128::from_str_radix(number.as_str(), number.radix());
                // Larger than anything can be: whoever reads it says what would fit.
                Value::Integer(parsed.unwrap_or(i128::MAX))
            }
            // Rust reads all that TOML writes; digits have no underscores any more.
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Value::Bool(value),
            DeValue::Datetime(date) => Value::Date(date.to_string()),
            DeValue::Array(list) => Value::List(list.into_iter().map(Self::parsed).collect()),
            DeValue::Table(table) => Value::Table(entries(table)),
        };
        Self { span, value }
    }

    /// The same, with nothing borrowed.
    pub fn into_owned(self) -> Node<'static> {
        let value = match self.value {
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Integer(n) => Value::Integer(n),
            Value::Float(n) => Value::Float(n),
            Value::Bool(b) => Value::Bool(b),
            Value::Date(d) => Value::Date(d),
            Value::List(list) => Value::List(list.into_iter().map(Node::into_owned).collect()),
            Value::Table(entries) => Value::Table(
                entries
                    .into_iter()
                    .map(|entry| Entry {
                        key: Cow::Owned(entry.key.into_owned()),
                        at: entry.at,
                        node: entry.node.into_owned(),
                    })
                    .collect(),
            ),
        };
        Node {
            span: self.span,
            value,
        }
    }

    /// Moves all places to a file that begins at `base`.
    pub fn shift(&mut self, base: usize) {
        self.span = shifted(self.span.clone(), base);
        match &mut self.value {
            Value::List(list) => list.iter_mut().for_each(|node| node.shift(base)),
            Value::Table(entries) => entries.iter_mut().for_each(|entry| {
                entry.at = shifted(entry.at.clone(), base);
                entry.node.shift(base);
            }),
            _ => {}
        }
    }

    /// Its entries, where it is a table.
    pub fn entries(&self) -> &[Entry<'a>] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The entry of `key`.
    pub fn entry(&self, key: &str) -> Option<&Entry<'a>> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The value of `key`, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node<'a>> {
        let Value::Table(entries) = &mut self.value else {
            return None;
        };
        let entry = entries.iter_mut().find(|entry| entry.key == key)?;
        Some(&mut entry.node)
    }

    /// Takes the entry of `key` out.
    pub fn take(&mut self, key: &str) -> Option<Entry<'a>> {
        let Value::Table(entries) = &mut self.value else {
            return None;
        };
        let at = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(at))
    }

    /// Puts an entry in that is not there.
    pub fn put(&mut self, entry: Entry<'a>) {
        if let Value::Table(entries) = &mut self.value {
            entries.push(entry);
        }
    }

    /// Its text, where it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Its elements, where it is a list.
    pub fn elements(&self) -> &[Node<'a>] {
        match &self.value {
            Value::List(list) => list,
            _ => &[],
        }
    }
}

fn entries(table: DeTable<'_>) -> Vec<Entry<'_>> {
    let entries = table.into_iter();
    entries
        .map(|(key, value)| Entry {
            at: key.span(),
            key: key.into_inner(),
            node: Node::parsed(value),
        })
        .collect()
}

fn shifted(span: Span, base: usize) -> Span {
    span.start + base..span.end + base
}

/// Spans of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    pub key: Span,
    pub value: Span,
}

/// The entry at the end of a path of keys below `table`.
pub fn find(table: &Node<'_>, path: &[&str]) -> Option<Spot> {
    let (last, above) = path.split_last()?;
    let owner = above.iter().try_fold(table, |node, key| node.get(key))?;
    let entry = owner.entry(last)?;
    Some(Spot {
        key: entry.at.clone(),
        value: entry.node.span.clone(),
    })
}

/// What was taken out of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Span of the table it was taken from.
    pub table: Span,
    /// Its key there; for an array's element, the array's.
    pub key: String,
}

/// Takes out the innermost entry that an error at `span` is about: the one whose key is there, or
/// whose value is, or that encloses it.
pub fn remove(root: &mut Node<'_>, span: &Span) -> Option<Removed> {
    let at = root.span.clone();
    match &mut root.value {
        Value::Table(entries) => remove_from(entries, &at, span),
        _ => None,
    }
}

fn remove_from(entries: &mut Vec<Entry<'_>>, at: &Span, span: &Span) -> Option<Removed> {
    let mut hit = None;
    for (index, entry) in entries.iter_mut().enumerate() {
        if entry.at == *span {
            hit = Some(index);
            break;
        }
        if let Some(removed) = remove_below(&mut entry.node, &entry.key, at, span) {
            return Some(removed);
        }
        if covers(&entry.node.span, span) {
            hit = Some(index);
            break;
        }
    }
    let entry = entries.remove(hit?);
    Some(Removed {
        table: at.clone(),
        key: entry.key.into_owned(),
    })
}

/// Looks inside a value. Tables come first: a table's span may be its header only, so that what is
/// in it has to be searched whatever the span says.
fn remove_below(node: &mut Node<'_>, key: &str, owner: &Span, span: &Span) -> Option<Removed> {
    let at = node.span.clone();
    match &mut node.value {
        Value::Table(entries) => remove_from(entries, &at, span),
        Value::List(list) => {
            for element in list.iter_mut() {
                if let Some(removed) = remove_below(element, key, owner, span) {
                    return Some(removed);
                }
            }
            let tables = list.iter().any(|e| matches!(e.value, Value::Table(_)));
            let index = list.iter().position(|e| covers(&e.span, span))?;
            if !tables {
                // A list with one wrong element is wrong as a whole.
                return None;
            }
            list.remove(index);
            Some(Removed {
                table: owner.clone(),
                key: key.to_owned(),
            })
        }
        _ => None,
    }
}

fn covers(outer: &Span, inner: &Span) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[hub]
id = "a"
[[device]]
id = "x"
modbus = { address = "b", unit_id = 1 }
[[device.tag]]
name = "t"
range = [1, "c"]
[[device]]
id = "y"
"#;

    fn tree() -> Node<'static> {
        Node::file(DeTable::parse(TEXT).unwrap())
    }

    fn text(span: Span) -> &'static str {
        &TEXT[span]
    }

    #[test]
    fn finds_keys_and_values() {
        let root = tree();
        let devices = root.get("device").unwrap().elements();
        let spot = find(&devices[1], &["id"]).unwrap();
        assert_eq!((text(spot.key), text(spot.value)), ("id", "\"y\""));
        let unit = find(&devices[0], &["modbus", "unit_id"]).unwrap();
        assert_eq!(text(unit.value), "1");
        assert_eq!(find(&devices[0], &["modbus", "x"]), None);
        assert_eq!(text(devices[0].span.clone()), "[[device]]");
    }

    #[test]
    fn takes_out_no_more_than_what_is_wrong() {
        let at = |needle: &str| {
            let start = TEXT.find(needle).unwrap();
            start..start + needle.len()
        };
        let mut root = tree();
        assert_eq!(remove(&mut root, &at("\"b\"")).unwrap().key, "address");
        assert_eq!(remove(&mut root, &at("\"c\"")).unwrap().key, "range");
        assert_eq!(remove(&mut root, &at("unit_id")).unwrap().key, "unit_id");
        assert_eq!(root.get("device").unwrap().elements().len(), 2);
        let removed = remove(&mut root, &at("[[device]]")).unwrap();
        assert_eq!(removed.key, "device");
        let devices = root.get("device").unwrap().elements();
        assert_eq!(devices[0].get("id").unwrap().as_text(), Some("y"));
        assert_eq!(remove(&mut root, &at("[[device.tag]]")), None);
    }
}

//! The parsed file before it becomes a configuration: finding places in it, and taking out what is
//! wrong so that the rest can be read too.

use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// One step down the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Into a table.
    Key(&'a str),
    /// Into an array.
    Index(usize),
}

/// Byte ranges of an entry; of an array's element both are the element's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub key: Range<usize>,
    pub value: Range<usize>,
}

/// The entry at `path`.
pub(super) fn find(root: &Spanned<DeTable<'_>>, path: &[Step<'_>]) -> Option<Spot> {
    let (first, rest) = path.split_first()?;
    let Step::Key(name) = first else {
        return None;
    };
    let (mut key, mut node) = entry(root.get_ref(), name)?;
    for step in rest {
        (key, node) = match (step, node.get_ref()) {
            (Step::Key(name), DeValue::Table(table)) => entry(table, name)?,
            (Step::Index(index), DeValue::Array(array)) => {
                let element = array.get(*index)?;
                (element.span(), element)
            }
            _ => return None,
        };
    }
    Some(Spot {
        key,
        value: node.span(),
    })
}

fn entry<'t, 'i>(
    table: &'t DeTable<'i>,
    name: &str,
) -> Option<(Range<usize>, &'t Spanned<DeValue<'i>>)> {
    let (key, value) = table.iter().find(|(k, _)| k.get_ref() == name)?;
    Some((key.span(), value))
}

/// What was taken out of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Removed {
    /// Span of the table it was taken from.
    pub table: Range<usize>,
    /// Its key there; for an array's element, the array's.
    pub key: String,
}

/// Takes out the innermost entry that an error at `span` is about: the one whose key is there, or
/// whose value is, or that encloses it.
pub(super) fn remove(root: &mut Spanned<DeTable<'_>>, span: &Range<usize>) -> Option<Removed> {
    let at = root.span();
    remove_from(root.get_mut(), &at, span)
}

fn remove_from(table: &mut DeTable<'_>, at: &Range<usize>, span: &Range<usize>) -> Option<Removed> {
    let mut hit = None;
    for (key, value) in table.iter_mut() {
        let name = key.get_ref().to_string();
        if key.span() == *span {
            hit = Some(name);
            break;
        }
        if let Some(removed) = remove_below(value, &name, at, span) {
            return Some(removed);
        }
        if covers(&value.span(), span) {
            hit = Some(name);
            break;
        }
    }
    let name = hit?;
    table.remove(name.as_str());
    Some(Removed {
        table: at.clone(),
        key: name,
    })
}

/// Looks inside a value. Tables come first: a table's span may be its header only, so that what is
/// in it has to be searched whatever the span says.
fn remove_below(
    value: &mut Spanned<DeValue<'_>>,
    key: &str,
    owner: &Range<usize>,
    span: &Range<usize>,
) -> Option<Removed> {
    let at = value.span();
    match value.get_mut() {
        DeValue::Table(table) => remove_from(table, &at, span),
        DeValue::Array(array) => {
            for element in array.iter_mut() {
                if let Some(removed) = remove_below(element, key, owner, span) {
                    return Some(removed);
                }
            }
            let tables = array.iter().any(|e| e.get_ref().is_table());
            let index = array.iter().position(|e| covers(&e.span(), span))?;
            if !tables {
                // A list with one wrong element is wrong as a whole.
                return None;
            }
            let kept = array.iter().enumerate().filter(|(i, _)| *i != index);
            *array = kept.map(|(_, e)| e.clone()).collect::<DeArray<'_>>();
            Some(Removed {
                table: owner.clone(),
                key: key.to_owned(),
            })
        }
        _ => None,
    }
}

fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
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

    fn tree() -> Spanned<DeTable<'static>> {
        DeTable::parse(TEXT).unwrap()
    }

    fn text(span: Range<usize>) -> &'static str {
        &TEXT[span]
    }

    #[test]
    fn finds_keys_and_values() {
        let root = tree();
        use Step::{Index, Key};
        let spot = find(&root, &[Key("device"), Index(1), Key("id")]).unwrap();
        assert_eq!((text(spot.key), text(spot.value)), ("id", "\"y\""));
        let path = [Key("device"), Index(0), Key("modbus"), Key("unit_id")];
        assert_eq!(text(find(&root, &path).unwrap().value), "1");
        assert_eq!(find(&root, &[Key("device"), Index(2)]), None);
        let device = find(&root, &[Key("device"), Index(0)]).unwrap();
        assert_eq!(text(device.value), "[[device]]");
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
        let all = root.get_ref().to_owned();
        let devices = all.iter().find(|(k, _)| k.get_ref() == "device").unwrap().1;
        assert_eq!(devices.get_ref().as_array().unwrap().len(), 2);
        let removed = remove(&mut root, &at("[[device]]")).unwrap();
        assert_eq!(removed.key, "device");
        let path = [Step::Key("device"), Step::Index(0), Step::Key("id")];
        assert_eq!(text(find(&root, &path).unwrap().value), "\"y\"");
        assert_eq!(remove(&mut root, &at("[[device.tag]]")), None);
    }
}

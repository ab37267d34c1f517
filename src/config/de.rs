//! Serde's side of a tree: values are read where they stand, and an error knows its place.

use super::source::Span;
use super::tree::{Entry, Node, Value};
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use std::fmt;
use std::slice;

/// Why a tree is not what was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeError {
    pub message: String,
    pub span: Option<Span>,
}

impl TreeError {
    fn at(mut self, span: &Span) -> Self {
        self.span.get_or_insert_with(|| span.clone());
        self
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TreeError {}

impl de::Error for TreeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            message: message.to_string(),
            span: None,
        }
    }
}

impl<'de> de::Deserializer<'de> for &'de Node<'_> {
    type Error = TreeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        let read = match &self.value {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_i64(number),
                (_, Ok(number)) => visitor.visit_u64(number),
                _ => {
                    let found = Unexpected::Other("a number that is too large");
                    Err(de::Error::invalid_value(found, &visitor))
                }
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Date(_) => Err(de::Error::invalid_type(
                Unexpected::Other("a date"),
                &visitor,
            )),
            Value::List(list) => visitor.visit_seq(Elements(list.iter())),
            Value::Table(entries) => visitor.visit_map(Entries {
                rest: entries.iter(),
                value: None,
            }),
        };
        read.map_err(|error: TreeError| error.at(&self.span))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        let read = visitor.visit_some(self);
        read.map_err(|error: TreeError| error.at(&self.span))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TreeError> {
        let read = visitor.visit_newtype_struct(self);
        read.map_err(|error: TreeError| error.at(&self.span))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TreeError> {
        let read = match &self.value {
            Value::Text(text) => {
                let text: StrDeserializer<'_, TreeError> = text.as_ref().into_deserializer();
                visitor.visit_enum(text)
            }
            Value::Table(entries) => match entries.as_slice() {
                [entry] => visitor.visit_enum(Variant(entry)),
                _ => Err(de::Error::custom("expected a table with exactly one key")),
            },
            _ => Err(de::Error::custom("wanted string or table")),
        };
        read.map_err(|error: TreeError| error.at(&self.span))
    }

    serde::forward_to_deserialize_any! {
        bool u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 char str string seq struct
        bytes byte_buf map unit ignored_any unit_struct tuple_struct tuple identifier
    }
}

struct Elements<'de, 'a>(slice::Iter<'de, Node<'a>>);

impl<'de> SeqAccess<'de> for Elements<'de, '_> {
    type Error = TreeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TreeError> {
        let next = self.0.next();
        next.map(|node| seed.deserialize(node)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'de, 'a> {
    rest: slice::Iter<'de, Entry<'a>>,
    value: Option<&'de Entry<'a>>,
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = TreeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TreeError> {
        self.value = self.rest.next();
        let Some(entry) = self.value else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, TreeError> = entry.key.as_ref().into_deserializer();
        let key = seed.deserialize(key);
        key.map(Some).map_err(|error| error.at(&entry.at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TreeError> {
        match self.value.take() {
            Some(entry) => {
                let value = seed.deserialize(&entry.node);
                value.map_err(|error| error.at(&entry.node.span))
            }
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A variant with a value: `{ name = value }`.
struct Variant<'de, 'a>(&'de Entry<'a>);

impl<'de> EnumAccess<'de> for Variant<'de, '_> {
    type Error = TreeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), TreeError> {
        let key: StrDeserializer<'_, TreeError> = self.0.key.as_ref().into_deserializer();
        let variant = seed.deserialize(key);
        Ok((variant.map_err(|error| error.at(&self.0.at))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de, '_> {
    type Error = TreeError;

    fn unit_variant(self) -> Result<(), TreeError> {
        let error: TreeError = de::Error::custom("this name takes no value");
        Err(error.at(&self.0.node.span))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, TreeError> {
        seed.deserialize(&self.0.node)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, TreeError> {
        de::Deserializer::deserialize_any(&self.0.node, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TreeError> {
        de::Deserializer::deserialize_any(&self.0.node, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;
    use toml::de::DeTable;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Shape {
        Point,
        Circle { radius: f64 },
        Named(String),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct All {
        byte: Option<u8>,
        large: u64,
        small: i64,
        number: f64,
        infinite: f64,
        text: String,
        truth: bool,
        list: Vec<i32>,
        pair: (u8, String),
        shapes: Vec<Shape>,
        any: toml::Value,
        map: BTreeMap<String, u16>,
    }

    const TEXT: &str = r#"
large = 9223372036854775808
small = -16
number = 1_000.5
infinite = -inf
text = "a\tb"
truth = true
list = [1, 2]
pair = [1, "x"]
shapes = ["point", { circle = { radius = 1.5 } }, { named = "n" }]
any = { a = [1, "b", 2.5] }
[map]
x = 1
"#;

    #[test]
    fn a_tree_is_read_as_the_text_would_be() {
        let root = Node::file(DeTable::parse(TEXT).unwrap());
        let read = All::deserialize(&root).unwrap();
        assert_eq!(read, toml::from_str(TEXT).unwrap());
        assert_eq!(All::deserialize(&root.into_owned()).unwrap(), read);
    }

    #[test]
    fn an_error_knows_its_place() {
        for (from, to, place) in [
            ("[1, 2]", "[1, \"x\"]", "\"x\""),
            ("x = 1", "x = 99999", "99999"),
            ("radius = 1.5", "radius = [1]", "[1]"),
            ("\"point\"", "\"piont\"", "\"piont\""),
            ("truth = true", "truth = 1979-05-27", "1979-05-27"),
            ("large = 9223372036854775808", "large = 1e300", "1e300"),
        ] {
            let text = TEXT.replace(from, to);
            let root = Node::file(DeTable::parse(&text).unwrap());
            let error = All::deserialize(&root).unwrap_err();
            assert_eq!(&text[error.span.clone().unwrap()], place, "{error}");
        }
    }
}

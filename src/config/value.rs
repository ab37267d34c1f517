//! Values that are checked while they are read, so that a mistake is reported at its place.

use crate::model::DeviceId;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::net::SocketAddr;

/// Longest id, in characters.
pub const MAX_ID: usize = 64;
/// Longest name of a tag, in bytes.
pub const MAX_TAG_NAME: usize = 128;

/// Reads a whole number from `LOW` to `HIGH`.
pub(super) fn within<'de, const LOW: u64, const HIGH: u64, D>(from: D) -> Result<u64, D::Error>
where
    D: Deserializer<'de>,
{
    from.deserialize_u64(Within::<LOW, HIGH>)
}

/// Like [`within`], for what is counted in memory.
pub(super) fn count<'de, const LOW: u64, const HIGH: u64, D>(from: D) -> Result<usize, D::Error>
where
    D: Deserializer<'de>,
{
    let number = within::<LOW, HIGH, D>(from)?;
    usize::try_from(number).map_err(|_| D::Error::custom("too large for this machine"))
}

struct Within<const LOW: u64, const HIGH: u64>;

impl<const LOW: u64, const HIGH: u64> Visitor<'_> for Within<LOW, HIGH> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {LOW} to {HIGH}")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        if (LOW..=HIGH).contains(&number) {
            Ok(number)
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(number), &self))
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }
}

/// Reads an id: lower-case letters, digits, `-`, `_` and `.`, first a letter or digit.
pub(super) fn id<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let id = String::deserialize(from)?;
    match id_fault(&id) {
        None => Ok(id),
        Some(fault) => Err(D::Error::custom(format!("`{id}` is not an id: {fault}"))),
    }
}

/// Reads the name of somebody who logs in.
pub(super) fn user<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    match crate::access::user_name(&name) {
        Ok(_) => Ok(name),
        Err(error) => Err(D::Error::custom(error)),
    }
}

pub(super) fn device_id<'de, D: Deserializer<'de>>(from: D) -> Result<DeviceId, D::Error> {
    id(from).map(DeviceId::from)
}

pub(super) fn optional_id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    id(from).map(Some)
}

/// Why `id` cannot be an id; `None` when it can.
pub fn id_fault(id: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if id.is_empty() {
        return Some("it is empty".to_owned());
    }
    if id.chars().count() > MAX_ID {
        return Some(format!("it is longer than {MAX_ID} characters"));
    }
    if !id.chars().next().is_some_and(plain) {
        return Some("it must begin with a lower-case letter or a digit".to_owned());
    }
    let wrong = id
        .chars()
        .find(|c| !plain(*c) && !matches!(c, '-' | '_' | '.'))?;
    Some(format!(
        "{wrong:?} is not allowed; use lower-case letters, digits, `-`, `_` and `.`"
    ))
}

/// Reads the name of a tag: any letters, but nothing that a path or a log line would break at.
pub(super) fn tag_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    let fault = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > MAX_TAG_NAME {
        format!("it is longer than {MAX_TAG_NAME} bytes")
    } else if name.trim() != name {
        "it begins or ends with a space".to_owned()
    } else if let Some(c) = name.chars().find(|c| c.is_control() || *c == '/') {
        format!("{c:?} is not allowed in it")
    } else {
        return Ok(name);
    };
    Err(D::Error::custom(format!(
        "`{name}` is not a tag name: {fault}"
    )))
}

/// Reads an address to listen on, `IP:port`.
pub(super) fn bind<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| {
        let message = format!(
            "`{text}` is not an address to listen on: expected IP:port, for example 127.0.0.1:8080"
        );
        D::Error::custom(message)
    })
}

/// Physical range of a sensor: low and high, both finite, low below high.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PhysicalRange(f64, f64);

impl PhysicalRange {
    /// A range, if `low` is below `high` and both are finite.
    pub fn new(low: f64, high: f64) -> Option<Self> {
        (low.is_finite() && high.is_finite() && low < high).then_some(Self(low, high))
    }

    /// Low and high.
    pub fn bounds(self) -> (f64, f64) {
        (self.0, self.1)
    }
}

impl<'de> Deserialize<'de> for PhysicalRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (low, high) = <(f64, f64)>::deserialize(from)?;
        Self::new(low, high).ok_or_else(|| {
            let message = format!(
                "the range [{low}, {high}] is empty: its low end must be below its high end, both finite"
            );
            D::Error::custom(message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_urls_paths_and_node_ids_all_take() {
        for good in ["plc-1", "a", "0", "line_2.cell-b"] {
            assert_eq!(id_fault(good), None, "{good}");
        }
        let long = "x".repeat(MAX_ID + 1);
        for bad in ["", "PLC", "-a", ".hidden", "a b", "a/b", "ä", &long] {
            assert!(id_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn ranges_have_an_inside() {
        assert!(PhysicalRange::new(0.0, 1.0).is_some());
        for (low, high) in [
            (1.0, 1.0),
            (2.0, 1.0),
            (f64::NAN, 1.0),
            (0.0, f64::INFINITY),
        ] {
            assert!(PhysicalRange::new(low, high).is_none(), "{low} {high}");
        }
    }
}

//! What a device allows in a request.

use super::point::Table;
use serde::{Deserialize, Serialize};

/// What one reading request may span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits<'a> {
    /// Most registers.
    pub registers: u32,
    /// Most coils or discrete inputs.
    pub coils: u32,
    /// Most cells between two points that no point asks for.
    pub gap: u32,
    /// Cells that are in no request.
    pub no_read: &'a NoRead,
}

impl Limits<'_> {
    pub(super) fn cells(&self, table: Table) -> u32 {
        if table.is_bits() {
            self.coils
        } else {
            self.registers
        }
    }

    /// Whether the cells from `from` up to `to` (not included) may be read for nobody.
    pub(super) fn may_skip(&self, table: Table, from: u32, to: u32) -> bool {
        to.saturating_sub(from) <= self.gap && !self.no_read.touches(table, from, to)
    }
}

/// Ranges of a device that must not be read, by table: `no_read = { holding_register = [[100, 120]] }`,
/// first and last address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoRead {
    /// Of the coils.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub coil: Vec<AddressRange>,
    /// Of the discrete inputs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discrete_input: Vec<AddressRange>,
    /// Of the holding registers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holding_register: Vec<AddressRange>,
    /// Of the input registers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub input_register: Vec<AddressRange>,
}

impl NoRead {
    fn of(&self, table: Table) -> &[AddressRange] {
        match table {
            Table::Coil => &self.coil,
            Table::DiscreteInput => &self.discrete_input,
            Table::HoldingRegister => &self.holding_register,
            Table::InputRegister => &self.input_register,
        }
    }

    /// Whether one of the cells from `from` up to `to` (not included) must not be read.
    pub(super) fn touches(&self, table: Table, from: u32, to: u32) -> bool {
        let ranges = self.of(table).iter();
        ranges
            .filter(|_| from < to)
            .any(|r| u32::from(r.first) < to && u32::from(r.last) >= from)
    }
}

/// Addresses in a row, the last one included: `[100, 120]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u16, u16)", into = "(u16, u16)")]
pub struct AddressRange {
    first: u16,
    last: u16,
}

impl TryFrom<(u16, u16)> for AddressRange {
    type Error = String;

    fn try_from((first, last): (u16, u16)) -> Result<Self, String> {
        if first > last {
            return Err(format!(
                "in [{first}, {last}] the first address is after the last; write [{last}, {first}]"
            ));
        }
        Ok(Self { first, last })
    }
}

impl From<AddressRange> for (u16, u16) {
    fn from(range: AddressRange) -> Self {
        (range.first, range.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_ends() {
        let no_read: NoRead = toml::from_str("holding_register = [[100, 120], [7, 7]]").unwrap();
        let touches = |from, to| no_read.touches(Table::HoldingRegister, from, to);
        for (from, to, expected) in [
            (90, 100, false),
            (90, 101, true),
            (110, 111, true),
            (120, 121, true),
            (121, 130, false),
            (7, 8, true),
            (8, 90, false),
            (7, 7, false),
        ] {
            assert_eq!(touches(from, to), expected, "{from} to {to}");
        }
        assert!(!no_read.touches(Table::Coil, 0, 65536));
    }
}

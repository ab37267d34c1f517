//! Where a tag is in a Modbus device and how its registers are read: the `modbus = { … }` of a
//! `[[device.tag]]`.

use super::config::{MAX_COILS, MAX_REGISTERS};
use crate::model::ValueKind;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The four tables of the Modbus data model (Modbus Application Protocol V1.1b3, 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Single bits, read and written.
    Coil,
    /// Single bits, read only.
    DiscreteInput,
    /// 16-bit words, read and written.
    HoldingRegister,
    /// 16-bit words, read only.
    InputRegister,
}

impl Table {
    /// Whether its cells are single bits.
    pub fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::DiscreteInput)
    }

    /// Most cells that the standard allows in one request.
    pub fn max_cells(self) -> u32 {
        if self.is_bits() {
            MAX_COILS
        } else {
            MAX_REGISTERS
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coil => "coil",
            Self::DiscreteInput => "discrete input",
            Self::HoldingRegister => "holding register",
            Self::InputRegister => "input register",
        })
    }
}

/// How the cells of a point make a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// A coil or input; of a register: whether it is not 0.
    Bool,
    /// One bit of a register; 0 is the least significant.
    Bit(u8),
    /// Unsigned, one register.
    U16,
    /// Two's complement, one register.
    I16,
    /// Unsigned, two registers.
    U32,
    /// Two's complement, two registers.
    I32,
    /// Unsigned, three registers.
    U48,
    /// Two's complement, three registers.
    I48,
    /// Unsigned, four registers.
    U64,
    /// Two's complement, four registers.
    I64,
    /// IEEE 754 single precision, two registers.
    F32,
    /// IEEE 754 double precision, four registers.
    F64,
    /// Binary-coded decimal, four digits in one register.
    Bcd16,
    /// Binary-coded decimal, eight digits in two registers.
    Bcd32,
    /// UTF-8, two bytes a register, high byte first, up to the first NUL; this many bytes. Of an odd
    /// number the last register's high byte only.
    Text(u16),
    /// Bytes as they are, two a register, high byte first; this many bytes.
    Bytes(u16),
}

impl DataType {
    /// How many cells of its table a value takes.
    pub fn width(self) -> u16 {
        match self {
            Self::Bool | Self::Bit(_) | Self::U16 | Self::I16 | Self::Bcd16 => 1,
            Self::U32 | Self::I32 | Self::F32 | Self::Bcd32 => 2,
            Self::U48 | Self::I48 => 3,
            Self::U64 | Self::I64 | Self::F64 => 4,
            Self::Text(bytes) | Self::Bytes(bytes) => bytes.div_ceil(2),
        }
    }

    fn is_number(self) -> bool {
        !matches!(
            self,
            Self::Bool | Self::Bit(_) | Self::Text(_) | Self::Bytes(_)
        )
    }
}

/// Which word of a value that takes several registers has the lowest address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WordOrder {
    /// The high word, as most devices do.
    #[default]
    Big,
    /// The low word.
    Little,
}

/// Where a tag is in a device, and how it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PointText", into = "PointText")]
pub struct ModbusPoint {
    /// The table.
    pub table: Table,
    /// The protocol address of its first cell, counted from 0.
    pub address: u16,
    /// How its cells make a value.
    pub data: DataType,
    /// Which word comes first.
    pub word_order: WordOrder,
    /// Whether the two bytes of every register are exchanged.
    pub swap_bytes: bool,
    /// The number read is multiplied by this …
    pub scale: f64,
    /// … and then this is added.
    pub offset: f64,
    /// How many values of this kind follow one another; `None` where it is a single value.
    pub elements: Option<u16>,
}

/// Most elements of an array.
pub const MAX_ELEMENTS: u16 = 2000;

impl ModbusPoint {
    /// An unscaled point with the high word first. Fails when the table cannot hold the type.
    pub fn new(table: Table, address: u16, data: DataType) -> Result<Self, PointError> {
        Self {
            table,
            address,
            data,
            word_order: WordOrder::Big,
            swap_bytes: false,
            scale: 1.0,
            offset: 0.0,
            elements: None,
        }
        .checked()
    }

    /// The elements of an array, each as a point of its own; of a single value that value. The bits of
    /// a register go on with bit 0 of the next one.
    pub fn expanded(&self) -> impl Iterator<Item = Self> + '_ {
        (0..self.elements.unwrap_or(1)).map(|index| self.element(index))
    }

    fn element(&self, index: u16) -> Self {
        let (cells, data) = match self.data {
            DataType::Bit(first) => {
                let bit = u16::from(first) + index;
                (bit / 16, DataType::Bit((bit % 16) as u8))
            }
            data => (index * self.width(), data),
        };
        Self {
            address: self.address.saturating_add(cells),
            data,
            elements: None,
            ..self.clone()
        }
    }

    /// The address after its last cell, or after its last element's.
    fn end(&self) -> u32 {
        let cells = match (self.data, self.elements) {
            (_, None) => u32::from(self.width()),
            (DataType::Bit(first), Some(n)) => (u32::from(first) + u32::from(n)).div_ceil(16),
            (_, Some(n)) => u32::from(n) * u32::from(self.width()),
        };
        u32::from(self.address) + cells
    }

    /// Whether the number read is scaled or shifted.
    pub fn is_scaled(&self) -> bool {
        self.scale != 1.0 || self.offset != 0.0
    }

    /// Type of the tag's values.
    pub fn value_kind(&self) -> ValueKind {
        match self.data {
            DataType::Bool | DataType::Bit(_) => ValueKind::Bool,
            DataType::Text(_) => ValueKind::Text,
            DataType::Bytes(_) => ValueKind::Bytes,
            _ if self.is_scaled() => ValueKind::F64,
            DataType::F32 | DataType::F64 => ValueKind::F64,
            DataType::I16 | DataType::I32 | DataType::I48 | DataType::I64 => ValueKind::I64,
            DataType::U16 | DataType::U32 | DataType::U48 | DataType::U64 => ValueKind::U64,
            DataType::Bcd16 | DataType::Bcd32 => ValueKind::U64,
        }
    }

    /// How many cells of its table it takes.
    pub fn width(&self) -> u16 {
        self.data.width()
    }

    fn checked(self) -> Result<Self, PointError> {
        let width = u32::from(self.width());
        if self.table.is_bits() && self.data != DataType::Bool {
            return Err(PointError::BitTable(self.table));
        }
        if matches!(self.data, DataType::Bit(16..)) {
            return Err(PointError::Bit);
        }
        if width == 0 || width > self.table.max_cells() {
            return Err(PointError::Registers(width));
        }
        if self
            .elements
            .is_some_and(|n| !(1..=MAX_ELEMENTS).contains(&n))
        {
            return Err(PointError::Elements);
        }
        let end = self.end();
        if end > 0x1_0000 {
            return Err(PointError::PastTheEnd {
                address: self.address,
                width: end - u32::from(self.address),
            });
        }
        if !self.scale.is_finite() || !self.offset.is_finite() || self.scale == 0.0 {
            return Err(PointError::Scale);
        }
        if self.is_scaled() && !self.data.is_number() {
            return Err(PointError::ScaledType);
        }
        Ok(self)
    }
}

/// A point that no device can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// None or several of the tables.
    #[error(
        "a point needs exactly one of `coil`, `discrete_input`, `holding_register` and `input_register`"
    )]
    Table,
    /// A bit cannot hold a number.
    #[error(
        "a {0} is a single bit: leave `type`, `bit` and `word_order` out, or set type = \"bool\""
    )]
    BitTable(Table),
    /// No such bit.
    #[error("a register has the bits 0 to 15")]
    Bit,
    /// `bit` beside a type that is not bool.
    #[error("`bit` picks a switch out of a register: leave `type` out, or set type = \"bool\"")]
    BitType,
    /// A length where the type says how long, or the other way round.
    #[error(
        "type = \"text\" and type = \"bytes\", and only these, need one of `registers` (1 to 125) and `length` (bytes, 1 to 250)"
    )]
    RegistersMismatch,
    /// Too many elements, or none.
    #[error("an array has 1 to {MAX_ELEMENTS} `elements`")]
    Elements,
    /// Too long or empty.
    #[error("a value cannot take {0} registers: one request reads 1 to 125")]
    Registers(u32),
    /// Past the end of the table.
    #[error("{width} cells from address {address} go past the last address, 65535")]
    PastTheEnd {
        /// First cell.
        address: u16,
        /// Number of cells.
        width: u32,
    },
    /// A scale that gives no number.
    #[error("`scale` must be a finite number other than 0, and `offset` a finite number")]
    Scale,
    /// Scaled text.
    #[error("`scale` and `offset` go with numbers only")]
    ScaledType,
}

/// The type names of the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TypeName {
    Bool,
    U16,
    I16,
    U32,
    I32,
    U48,
    I48,
    U64,
    I64,
    F32,
    F64,
    Bcd16,
    Bcd32,
    Text,
    Bytes,
}

/// A point as it is written in the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PointText {
    #[serde(skip_serializing_if = "Option::is_none")]
    coil: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    discrete_input: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holding_register: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_register: Option<u16>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    data: Option<TypeName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bit: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registers: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    word_order: Option<WordOrder>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    swap_bytes: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elements: Option<u16>,
}

impl TryFrom<PointText> for ModbusPoint {
    type Error = PointError;

    fn try_from(text: PointText) -> Result<Self, PointError> {
        let tables = [
            (Table::Coil, text.coil),
            (Table::DiscreteInput, text.discrete_input),
            (Table::HoldingRegister, text.holding_register),
            (Table::InputRegister, text.input_register),
        ];
        let mut named = tables.into_iter().filter_map(|(t, a)| Some((t, a?)));
        let ((table, address), None) = (named.next().ok_or(PointError::Table)?, named.next())
        else {
            return Err(PointError::Table);
        };
        if table.is_bits() && (text.bit.is_some() || text.word_order.is_some() || text.swap_bytes) {
            return Err(PointError::BitTable(table));
        }
        let name = text.data.unwrap_or(match text.bit {
            Some(_) => TypeName::Bool,
            None if table.is_bits() => TypeName::Bool,
            None => TypeName::U16,
        });
        let length = match (text.registers, text.length) {
            (Some(registers), None) => Some(
                registers
                    .checked_mul(2)
                    .ok_or(PointError::Registers(registers.into()))?,
            ),
            (None, length) => length,
            (Some(_), Some(_)) => return Err(PointError::RegistersMismatch),
        };
        let data = match (name, text.bit, length) {
            (TypeName::Text, None, Some(bytes)) => DataType::Text(bytes),
            (TypeName::Bytes, None, Some(bytes)) => DataType::Bytes(bytes),
            (TypeName::Text | TypeName::Bytes, None, None) | (_, _, Some(_)) => {
                return Err(PointError::RegistersMismatch);
            }
            (TypeName::Bool, Some(bit), None) => DataType::Bit(bit),
            (_, Some(_), None) => return Err(PointError::BitType),
            (TypeName::Bool, None, None) => DataType::Bool,
            (TypeName::U16, None, None) => DataType::U16,
            (TypeName::I16, None, None) => DataType::I16,
            (TypeName::U32, None, None) => DataType::U32,
            (TypeName::I32, None, None) => DataType::I32,
            (TypeName::U48, None, None) => DataType::U48,
            (TypeName::I48, None, None) => DataType::I48,
            (TypeName::U64, None, None) => DataType::U64,
            (TypeName::I64, None, None) => DataType::I64,
            (TypeName::F32, None, None) => DataType::F32,
            (TypeName::F64, None, None) => DataType::F64,
            (TypeName::Bcd16, None, None) => DataType::Bcd16,
            (TypeName::Bcd32, None, None) => DataType::Bcd32,
        };
        Self {
            table,
            address,
            data,
            word_order: text.word_order.unwrap_or_default(),
            swap_bytes: text.swap_bytes,
            scale: text.scale.unwrap_or(1.0),
            offset: text.offset.unwrap_or(0.0),
            elements: text.elements,
        }
        .checked()
    }
}

impl From<ModbusPoint> for PointText {
    fn from(point: ModbusPoint) -> Self {
        let mut text = Self {
            swap_bytes: point.swap_bytes,
            word_order: (point.word_order != WordOrder::Big).then_some(point.word_order),
            scale: (point.scale != 1.0).then_some(point.scale),
            offset: (point.offset != 0.0).then_some(point.offset),
            elements: point.elements,
            ..Self::default()
        };
        match point.table {
            Table::Coil => text.coil = Some(point.address),
            Table::DiscreteInput => text.discrete_input = Some(point.address),
            Table::HoldingRegister => text.holding_register = Some(point.address),
            Table::InputRegister => text.input_register = Some(point.address),
        }
        text.data = match point.data {
            DataType::Bool if point.table.is_bits() => None,
            DataType::Bool => Some(TypeName::Bool),
            DataType::Bit(bit) => {
                text.bit = Some(bit);
                None
            }
            DataType::U16 => Some(TypeName::U16),
            DataType::I16 => Some(TypeName::I16),
            DataType::U32 => Some(TypeName::U32),
            DataType::I32 => Some(TypeName::I32),
            DataType::U48 => Some(TypeName::U48),
            DataType::I48 => Some(TypeName::I48),
            DataType::U64 => Some(TypeName::U64),
            DataType::I64 => Some(TypeName::I64),
            DataType::Bcd16 => Some(TypeName::Bcd16),
            DataType::Bcd32 => Some(TypeName::Bcd32),
            DataType::F32 => Some(TypeName::F32),
            DataType::F64 => Some(TypeName::F64),
            DataType::Text(bytes) => {
                text.length = Some(bytes);
                Some(TypeName::Text)
            }
            DataType::Bytes(bytes) => {
                text.length = Some(bytes);
                Some(TypeName::Bytes)
            }
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ModbusPoint, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn points_are_read_and_written_back() {
        for (text, kind, width) in [
            ("coil = 3", ValueKind::Bool, 1),
            ("discrete_input = 0", ValueKind::Bool, 1),
            ("holding_register = 10\ntype = 'f32'", ValueKind::F64, 2),
            ("input_register = 7", ValueKind::U64, 1),
            ("input_register = 7\nbit = 15", ValueKind::Bool, 1),
            ("holding_register = 7\ntype = 'i16'", ValueKind::I64, 1),
            (
                "holding_register = 7\ntype = 'i16'\nscale = 0.1",
                ValueKind::F64,
                1,
            ),
            (
                "holding_register = 7\ntype = 'u64'\nword_order = 'little'",
                ValueKind::U64,
                4,
            ),
            (
                "holding_register = 7\ntype = 'text'\nregisters = 8",
                ValueKind::Text,
                8,
            ),
            (
                "holding_register = 7\ntype = 'bytes'\nregisters = 125",
                ValueKind::Bytes,
                125,
            ),
            ("holding_register = 7\ntype = 'i48'", ValueKind::I64, 3),
            ("holding_register = 7\ntype = 'bcd32'", ValueKind::U64, 2),
            (
                "holding_register = 7\ntype = 'text'\nlength = 7",
                ValueKind::Text,
                4,
            ),
            (
                "input_register = 7\ntype = 'f32'\nelements = 20",
                ValueKind::F64,
                2,
            ),
            (
                "holding_register = 65534\ntype = 'f32'\nswap_bytes = true",
                ValueKind::F64,
                2,
            ),
        ] {
            let point = read(text).unwrap();
            assert_eq!((point.value_kind(), point.width()), (kind, width), "{text}");
            let again = read(&toml::to_string(&point).unwrap()).unwrap();
            assert_eq!(again, point, "{text}");
        }
    }

    #[test]
    fn arrays_are_points_in_a_row() {
        let addresses = |text: &str| -> Vec<(u16, DataType)> {
            let point = read(text).unwrap();
            point.expanded().map(|p| (p.address, p.data)).collect()
        };
        assert_eq!(
            addresses("holding_register = 10\ntype = 'f32'\nelements = 3"),
            [10, 12, 14].map(|a| (a, DataType::F32))
        );
        assert_eq!(
            addresses("holding_register = 10\nbit = 15\nelements = 2"),
            [(10, DataType::Bit(15)), (11, DataType::Bit(0))]
        );
        assert_eq!(
            addresses("coil = 5\nelements = 2"),
            [(5, DataType::Bool), (6, DataType::Bool)]
        );
        assert_eq!(addresses("holding_register = 3"), [(3, DataType::U16)]);
    }

    #[test]
    fn impossible_points_are_refused_and_the_message_says_why() {
        for (text, said) in [
            ("type = 'u16'", "exactly one of"),
            ("coil = 1\nholding_register = 1", "exactly one of"),
            ("coil = 1\ntype = 'u16'", "single bit"),
            ("coil = 1\nbit = 2", "single bit"),
            ("holding_register = 1\nbit = 16", "0 to 15"),
            ("holding_register = 1\ntype = 'u32'\nbit = 1", "`bit` picks"),
            ("holding_register = 1\ntype = 'text'", "`registers`"),
            (
                "holding_register = 1\ntype = 'u16'\nregisters = 2",
                "`registers`",
            ),
            (
                "holding_register = 1\ntype = 'text'\nregisters = 126",
                "126 registers",
            ),
            (
                "holding_register = 1\ntype = 'text'\nregisters = 0",
                "0 registers",
            ),
            (
                "holding_register = 1\ntype = 'text'\nregisters = 2\nlength = 4",
                "`length`",
            ),
            ("holding_register = 1\nelements = 0", "1 to 2000"),
            ("holding_register = 65530\nelements = 7", "past the last"),
            ("holding_register = 65535\ntype = 'u32'", "past the last"),
            ("holding_register = 65536", "65536"),
            ("holding_register = 1\nscale = nan", "finite"),
            ("holding_register = 1\nscale = 0.0", "finite"),
            ("coil = 1\nscale = 2.0", "numbers only"),
            ("holding_register = 1\ntype = 'float'", "f32"),
            ("holding_register = 1\naddress = 2", "unknown field"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}

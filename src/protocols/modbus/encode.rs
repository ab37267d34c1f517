//! A value into registers or a coil: the inverse of `decode`. Pure. What the cells cannot hold exactly
//! is refused.

use super::point::{DataType, ModbusPoint, WordOrder};
use crate::model::Value;

/// What becomes of one register or coil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// Its new bits; a coil's is 0 or 1.
    pub value: u16,
    /// Which of them are written; the others belong to something else.
    pub mask: u16,
}

impl Cell {
    fn whole(value: u16) -> Self {
        let mask = u16::MAX;
        Self { value, mask }
    }

    /// Whether all of it is written.
    pub(super) fn is_whole(self) -> bool {
        self.mask == u16::MAX
    }

    /// This and then `later`.
    pub(super) fn then(self, later: Self) -> Self {
        Self {
            value: self.value & !later.mask | later.value & later.mask,
            mask: self.mask | later.mask,
        }
    }

    /// Whether `seen` shows what was written.
    pub(super) fn is_in(self, seen: u16) -> bool {
        (self.value ^ seen) & self.mask == 0
    }
}

/// A number that a register is to hold, as it was given.
#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Real(f64),
}

/// The cells of `point` that hold `value`; the error says why none do.
pub(super) fn encode(point: &ModbusPoint, value: &Value) -> Result<Vec<Cell>, String> {
    let words = match point.data {
        DataType::Bool => return Ok(vec![Cell::whole(switch(value)?.into())]),
        DataType::Bit(bit) => {
            let mask = swapped(point, 1 << bit);
            let value = if switch(value)? { mask } else { 0 };
            return Ok(vec![Cell { value, mask }]);
        }
        DataType::Text(length) => return string(point, text(value, length)?, length),
        DataType::Bytes(length) => return string(point, bytes(value, length)?, length),
        DataType::U16 => words::<1>(point, whole(point, value, 0, u16::MAX.into())? as u64),
        DataType::U32 => words::<2>(point, whole(point, value, 0, u32::MAX.into())? as u64),
        DataType::U48 => words::<3>(point, whole(point, value, 0, (1 << 48) - 1)? as u64),
        DataType::U64 => words::<4>(point, whole(point, value, 0, u64::MAX.into())? as u64),
        DataType::I16 => words::<1>(point, signed::<16>(point, value)?),
        DataType::I32 => words::<2>(point, signed::<32>(point, value)?),
        DataType::I48 => words::<3>(point, signed::<48>(point, value)?),
        DataType::I64 => words::<4>(point, signed::<64>(point, value)?),
        DataType::Bcd16 => words::<1>(point, bcd(whole(point, value, 0, 9999)?)),
        DataType::Bcd32 => words::<2>(point, bcd(whole(point, value, 0, 99_999_999)?)),
        DataType::F32 => words::<2>(point, single(point, value)?.to_bits().into()),
        DataType::F64 => words::<4>(point, real(point, value)?.to_bits()),
    };
    Ok(words.into_iter().map(Cell::whole).collect())
}

fn switch(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(on) => Ok(*on),
        other => Err(format!("{other} is neither true nor false")),
    }
}

fn number(value: &Value) -> Result<Number, String> {
    match value {
        Value::I64(x) => Ok(Number::Whole((*x).into())),
        Value::U64(x) => Ok(Number::Whole((*x).into())),
        Value::F64(x) if x.is_finite() => Ok(Number::Real(*x)),
        other => Err(format!("{other} is no number")),
    }
}

/// The whole number that the registers hold when the tag is to show `value`.
fn whole(point: &ModbusPoint, value: &Value, low: i128, high: i128) -> Result<i128, String> {
    let raw = match number(value)? {
        Number::Whole(x) if !point.is_scaled() => x,
        Number::Real(x) if !point.is_scaled() => {
            if x.fract() != 0.0 {
                return Err(format!("{x} is no whole number"));
            }
            x as i128
        }
        Number::Whole(x) => on_a_step(point, x as f64)?,
        Number::Real(x) => on_a_step(point, x)?,
    };
    if (low..=high).contains(&raw) {
        return Ok(raw);
    }
    let (mut from, mut to) = (shown(point, low), shown(point, high));
    if point.scale < 0.0 {
        std::mem::swap(&mut from, &mut to);
    }
    Err(format!("{value} is not between {from} and {to}"))
}

/// What the tag shows when the registers hold `raw`.
fn shown(point: &ModbusPoint, raw: i128) -> String {
    match point.is_scaled() {
        true => (raw as f64 * point.scale + point.offset).to_string(),
        false => raw.to_string(),
    }
}

/// The step of a scaled tag that shows `x`, which must be one, but for what a decimal fraction loses
/// in binary.
fn on_a_step(point: &ModbusPoint, x: f64) -> Result<i128, String> {
    let step = |raw: f64| raw * point.scale + point.offset;
    let raw = (x - point.offset) / point.scale;
    let nearest = raw.round();
    let tolerance = point.scale.abs() * 1e-6 + 4.0 * f64::EPSILON * (x.abs() + point.offset.abs());
    if (step(nearest) - x).abs() <= tolerance {
        // Saturates; what is out of range is refused by the caller.
        return Ok(nearest as i128);
    }
    Err(format!(
        "{x} lies between two steps of the tag, {} and {}",
        step(raw.floor()),
        step(raw.ceil())
    ))
}

fn signed<const BITS: u32>(point: &ModbusPoint, value: &Value) -> Result<u64, String> {
    let half = 1i128 << (BITS - 1);
    let raw = whole(point, value, -half, half - 1)?;
    // Two's complement; the words above the value are not taken.
    Ok(raw as i64 as u64)
}

/// What a register with a fraction holds when the tag is to show `value`.
fn real(point: &ModbusPoint, value: &Value) -> Result<f64, String> {
    let x = match number(value)? {
        Number::Real(x) => x,
        Number::Whole(x) if (x as f64) as i128 == x => x as f64,
        Number::Whole(x) => return Err(format!("{x} has more digits than the tag can hold")),
    };
    let raw = match point.is_scaled() {
        true => (x - point.offset) / point.scale,
        false => x,
    };
    match raw.is_finite() {
        true => Ok(raw),
        false => Err(format!("{x} is beyond what the tag can hold")),
    }
}

/// Of single precision the nearest is taken, as for every decimal fraction; but a whole number has to
/// stay what it is.
fn single(point: &ModbusPoint, value: &Value) -> Result<f32, String> {
    let raw = real(point, value)?;
    let single = raw as f32;
    if !single.is_finite() || (single == 0.0 && raw != 0.0) {
        return Err(format!("{value} is beyond what single precision can hold"));
    }
    if !point.is_scaled() && raw.fract() == 0.0 && f64::from(single) != raw {
        return Err(format!(
            "{value} has more digits than single precision can hold; the nearest is {single}"
        ));
    }
    Ok(single)
}

/// Decimal digits as nibbles.
fn bcd(mut number: i128) -> u64 {
    let mut raw = 0;
    for digit in 0..8 {
        raw |= ((number % 10) as u64) << (4 * digit);
        number /= 10;
    }
    raw
}

fn swapped(point: &ModbusPoint, word: u16) -> u16 {
    match point.swap_bytes {
        true => word.swap_bytes(),
        false => word,
    }
}

/// The low `N` words of `raw` as the device has them.
fn words<const N: usize>(point: &ModbusPoint, raw: u64) -> Vec<u16> {
    let word = |index: usize| {
        let from_low = match point.word_order {
            WordOrder::Big => N - 1 - index,
            WordOrder::Little => index,
        };
        swapped(point, (raw >> (16 * from_low)) as u16)
    };
    (0..N).map(word).collect()
}

/// A text that will be read as the same text: what fills its registers up is cut off again.
fn text(value: &Value, length: u16) -> Result<Vec<u8>, String> {
    let Value::Text(text) = value else {
        return Err(format!("{value} is no text"));
    };
    if text.len() > usize::from(length) {
        return Err(format!(
            "the text takes {} bytes, but the tag has {length}",
            text.len()
        ));
    }
    if text.contains('\0') || text.trim_end() != text {
        return Err("a text with a NUL in it, or with blanks at its end, would be cut".to_owned());
    }
    let mut bytes = text.clone().into_bytes();
    bytes.resize(length.into(), 0);
    Ok(bytes)
}

fn bytes(value: &Value, length: u16) -> Result<Vec<u8>, String> {
    match value {
        Value::Bytes(bytes) if bytes.len() == usize::from(length) => Ok(bytes.clone()),
        Value::Bytes(bytes) => Err(format!(
            "there are {} bytes, but the tag has {length}",
            bytes.len()
        )),
        other => Err(format!("{other} is no byte string")),
    }
}

fn string(point: &ModbusPoint, bytes: Vec<u8>, length: u16) -> Result<Vec<Cell>, String> {
    debug_assert_eq!(bytes.len(), usize::from(length));
    let cell = |pair: &[u8]| match pair {
        [high, low] => Cell::whole(swapped(point, u16::from_be_bytes([*high, *low]))),
        [high] => Cell {
            value: swapped(point, u16::from_be_bytes([*high, 0])),
            mask: swapped(point, 0xff00),
        },
        _ => Cell { value: 0, mask: 0 },
    };
    Ok(bytes.chunks(2).map(cell).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Value::{Bool, Bytes, F64, I64, Text, U64};
    use proptest::prelude::*;

    fn point(text: &str) -> ModbusPoint {
        toml::from_str(&format!("holding_register = 0\n{text}")).unwrap()
    }

    fn whole_words(point_text: &str, value: Value) -> Result<Vec<u16>, String> {
        let cells = encode(&point(point_text), &value)?;
        assert!(cells.iter().all(|c| c.is_whole()), "{point_text}");
        Ok(cells.iter().map(|c| c.value).collect())
    }

    #[test]
    fn values_become_what_the_device_has() {
        for (text, value, words) in [
            ("type = 'u16'", U64(65535), &[0xffff][..]),
            ("type = 'u16'", F64(7.0), &[7]),
            ("type = 'i16'", I64(-2), &[0xfffe]),
            ("type = 'u32'", U64(0x1234_5678), &[0x1234, 0x5678]),
            (
                "type = 'u32'\nword_order = 'little'",
                U64(0x1234_5678),
                &[0x5678, 0x1234],
            ),
            (
                "type = 'u32'\nswap_bytes = true",
                U64(0x1234_5678),
                &[0x3412, 0x7856],
            ),
            (
                "type = 'u32'\nswap_bytes = true\nword_order = 'little'",
                U64(0x1234_5678),
                &[0x7856, 0x3412],
            ),
            ("type = 'i48'", I64(-2), &[0xffff, 0xffff, 0xfffe]),
            ("type = 'u64'", U64(u64::MAX), &[0xffff; 4]),
            ("type = 'f32'", F64(21.5), &[0x41ac, 0]),
            (
                "type = 'f64'",
                F64(std::f64::consts::PI),
                &[0x4009, 0x21fb, 0x5444, 0x2d18],
            ),
            ("type = 'i16'\nscale = 0.1", F64(-4.2), &[0xffd6]),
            ("type = 'u16'\nscale = 0.1", F64(0.3), &[3]),
            (
                "type = 'u16'\nscale = 0.5\noffset = -10.0",
                F64(40.0),
                &[100],
            ),
            ("type = 'bcd16'", U64(1234), &[0x1234]),
            ("type = 'bcd32'", U64(12_345_678), &[0x1234, 0x5678]),
            (
                "type = 'text'\nregisters = 2",
                Text("Abc".into()),
                &[0x4162, 0x6300],
            ),
            (
                "type = 'bytes'\nregisters = 1\nswap_bytes = true",
                Bytes(vec![1, 2]),
                &[0x0201],
            ),
            ("type = 'bool'", Bool(true), &[1]),
        ] {
            assert_eq!(whole_words(text, value), Ok(words.to_vec()), "{text}");
        }
    }

    #[test]
    fn parts_of_registers_leave_the_rest_alone() {
        let bit = encode(&point("bit = 3"), &Bool(true)).unwrap();
        assert_eq!(bit, [Cell { value: 8, mask: 8 }]);
        let bit = encode(&point("bit = 3\nswap_bytes = true"), &Bool(false)).unwrap();
        assert_eq!(
            bit,
            [Cell {
                value: 0,
                mask: 0x0800
            }]
        );
        let odd = encode(&point("type = 'text'\nlength = 3"), &Text("Abc".into())).unwrap();
        let half = Cell {
            value: 0x6300,
            mask: 0xff00,
        };
        assert_eq!(odd, [Cell::whole(0x4162), half]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_message_says_why() {
        for (text, value, said) in [
            ("type = 'u16'", U64(65536), "not between 0 and 65535"),
            ("type = 'u16'", I64(-1), "not between 0 and 65535"),
            ("type = 'u16'", F64(1.5), "no whole number"),
            ("type = 'u16'", F64(f64::NAN), "no number"),
            ("type = 'u16'", Text("1".into()), "no number"),
            ("type = 'u16'", Bool(true), "no number"),
            ("type = 'i16'", I64(32768), "not between -32768 and 32767"),
            ("type = 'u48'", U64(1 << 48), "not between"),
            (
                "type = 'u16'\nscale = 0.1",
                F64(0.25),
                "between two steps of the tag, 0.2 and 0.3",
            ),
            (
                "type = 'i16'\nscale = -0.5",
                F64(20_000.0),
                "not between -16383.5 and 16384",
            ),
            ("type = 'f32'", F64(1e39), "beyond"),
            ("type = 'f32'", F64(1e-60), "beyond"),
            ("type = 'f32'", U64(16_777_217), "more digits"),
            ("type = 'f64'", U64(u64::MAX - 1), "more digits"),
            ("type = 'bcd16'", U64(10_000), "not between 0 and 9999"),
            (
                "type = 'text'\nregisters = 1",
                Text("abc".into()),
                "takes 3 bytes",
            ),
            ("type = 'text'\nregisters = 2", Text("a ".into()), "be cut"),
            (
                "type = 'bytes'\nregisters = 2",
                Bytes(vec![1]),
                "there are 1 bytes",
            ),
            ("bit = 1", U64(1), "neither true nor false"),
        ] {
            let error = encode(&point(text), &value).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_raw_number_of_a_scaled_tag_can_be_written(
            raw in any::<i16>(), scale in prop_oneof![Just(0.1), Just(0.01), Just(-0.001), 1e-6f64..1e3],
            offset in -1e4f64..1e4,
        ) {
            let mut point = point("type = 'i16'");
            (point.scale, point.offset) = (scale, offset);
            let shown = f64::from(raw) * scale + offset;
            let cells = encode(&point, &F64(shown)).unwrap();
            prop_assert_eq!(cells, [Cell::whole(raw as u16)]);
        }
    }
}

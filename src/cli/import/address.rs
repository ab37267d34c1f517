//! Addresses of Kepware's Modbus drivers: a digit for the table, the number of the cell, and what is
//! read there. Source: Kepware, Modbus Ethernet Driver manual, "Modbus Addressing".

/// Where a tag is, and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Address {
    /// The table's key in a configuration.
    pub table: &'static str,
    /// The cell, counted from 0.
    pub cell: u16,
    pub suffix: Suffix,
}

/// What stands behind the number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Suffix {
    None,
    /// `.5`: a bit of a register, 0 the least significant.
    Bit(u8),
    /// `.20H` or `.20L`: text of so many bytes, the high or the low byte of a register first.
    Text {
        bytes: u16,
        high_first: bool,
    },
    /// `[10]`: so many elements; `[2][5]` is ten, row by row.
    Array(u16),
}

/// Reads an address; the error is what is wrong with it, in plain words. `first` is the number of the
/// first cell: 1, unless the device is set to count otherwise.
pub(super) fn address(text: &str, first: u32) -> Result<Address, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = text.split_at(digits);
    let none = || format!("`{text}` is no Modbus address like 400001 or 40001");
    if !matches!(digits, 5 | 6) {
        return Err(none());
    }
    let (table, cell) = number.split_at(1);
    let table = match table {
        "0" => "coil",
        "1" => "discrete_input",
        "3" => "input_register",
        "4" => "holding_register",
        _ => return Err(none()),
    };
    let cell: u32 = cell.parse().map_err(|_| none())?;
    let cell = cell.checked_sub(first).and_then(|c| u16::try_from(c).ok());
    let cell =
        cell.ok_or_else(|| format!("`{text}`: there is no such cell, they go from {first}"))?;
    let suffix = suffix(rest.trim()).ok_or_else(|| {
        format!("`{text}`: what follows the number is neither a bit, a length of text nor an array")
    })?;
    let bits = matches!(table, "coil" | "discrete_input");
    if bits && !matches!(suffix, Suffix::None | Suffix::Array(_)) {
        return Err(format!("`{text}`: a {table} has neither bits nor text"));
    }
    Ok(Address {
        table,
        cell,
        suffix,
    })
}

fn suffix(rest: &str) -> Option<Suffix> {
    if rest.is_empty() {
        return Some(Suffix::None);
    }
    if let Some(rest) = rest.strip_prefix('.') {
        let order = rest.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number: u16 = order.parse().ok()?;
        return match &rest[order.len()..] {
            "" => u8::try_from(number)
                .ok()
                .filter(|bit| *bit < 16)
                .map(Suffix::Bit),
            order @ ("H" | "L" | "h" | "l") => Some(Suffix::Text {
                bytes: number,
                high_first: order.eq_ignore_ascii_case("h"),
            }),
            _ => None,
        };
    }
    let inner = rest.strip_prefix('[')?.strip_suffix(']')?;
    let mut all: u16 = 1;
    for side in inner.split("][") {
        all = all.checked_mul(side.trim().parse().ok()?)?;
    }
    (all > 0).then_some(Suffix::Array(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, table, cell, suffix) in [
            ("400001", "holding_register", 0, Suffix::None),
            ("40100", "holding_register", 99, Suffix::None),
            ("465536", "holding_register", 65535, Suffix::None),
            ("300010.15", "input_register", 9, Suffix::Bit(15)),
            ("000016", "coil", 15, Suffix::None),
            ("100001[8]", "discrete_input", 0, Suffix::Array(8)),
            ("400001 [2][5]", "holding_register", 0, Suffix::Array(10)),
        ] {
            let found = address(text, 1).unwrap();
            assert_eq!(
                (found.table, found.cell, found.suffix),
                (table, cell, suffix),
                "{text}"
            );
        }
        let text = address("400101.20L", 1).unwrap().suffix;
        let wanted = Suffix::Text {
            bytes: 20,
            high_first: false,
        };
        assert_eq!(text, wanted);
        assert_eq!(address("400010", 0).unwrap().cell, 10);
    }

    #[test]
    fn what_is_none_says_why() {
        for text in [
            "",
            "D10",
            "4001",
            "500001",
            "400000",
            "400001.16",
            "400001.x",
            "4000001",
            "000001.2",
            "400001[0]",
            "400001[a]",
            "400001.20X",
            "465537",
            "4é0001",
        ] {
            assert!(address(text, 1).is_err(), "{text}");
        }
    }
}

//! What a scan found, as a configuration that `check` accepts and a person finishes.

use super::modbus::{Unit, type_name};
use crate::protocols::modbus::{DataType, Table, WordOrder};

/// Most tags of one device; a scan of a device that answers everywhere would fill a book.
const MOST_TAGS: usize = 1000;

/// A configuration with a device for each unit.
pub(super) fn profile(reached: &toml::Table, found: &[Unit]) -> String {
    let mut out = String::from(
        "# Found by `weighbridge scan modbus`. The types are guesses: compare them with the device's manual,\n\
         # give the tags names and units, and take away what nobody needs. Registers that held 0 are left out.\n\
         # Move the [[device]] into your own configuration, or run this one after `weighbridge init`.\n\
         \n[hub]\nid = \"hub-1\"\n",
    );
    for unit in found {
        let keys = reached
            .iter()
            .map(|(key, value)| format!("{key} = {value}"));
        let keys: Vec<String> = keys.collect();
        let who = unit.identification.as_ref().map(ToString::to_string);
        out += "\n[[device]]\n";
        out += &format!("id = \"unit-{}\"", unit.id);
        out += &who.map_or_else(|| "\n".to_owned(), |who| format!("  # {who}\n"));
        out += &format!(
            "modbus = {{ {}, unit_id = {} }}\n",
            keys.join(", "),
            unit.id
        );
        let tags = tags(unit);
        let left_out = tags.len().saturating_sub(MOST_TAGS);
        out.extend(tags.into_iter().take(MOST_TAGS));
        if left_out > 0 {
            out += &format!("\n# {left_out} more are left out.\n");
        }
    }
    out
}

fn tags(unit: &Unit) -> Vec<String> {
    let tag = |table: Table, address: u16, more: &str, shown: &str| {
        let (short, key) = match table {
            Table::Coil => ("coil", "coil"),
            Table::DiscreteInput => ("input", "discrete_input"),
            Table::HoldingRegister => ("holding", "holding_register"),
            Table::InputRegister => ("register", "input_register"),
        };
        format!(
            "\n[[device.tag]]\nname = \"{short}_{address}\"\nmodbus = {{ {key} = {address}{more} }}{shown}\n"
        )
    };
    let registers = unit.guesses.iter().map(|(table, guess)| {
        let mut more = format!(", type = \"{}\"", type_name(guess.data));
        if let DataType::Text(length) = guess.data {
            more += &format!(", length = {length}");
        }
        if guess.word_order == WordOrder::Little {
            more += ", word_order = \"little\"";
        }
        let shown = format!("  # {}: {}", guess.shown.replace('\n', " "), guess.why);
        tag(*table, guess.address, &more, &shown)
    });
    let bits = unit.tables.iter().filter(|(table, _)| table.is_bits());
    let bits = bits.flat_map(|(table, found)| {
        let ranges = found.ranges.iter().flat_map(|range| range.clone());
        let cells = ranges.filter_map(|cell| u16::try_from(cell).ok());
        cells.map(|cell| tag(*table, cell, "", ""))
    });
    registers.chain(bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::protocols::modbus::{Guess, Identification, ReadableRanges};

    #[test]
    fn what_a_scan_writes_is_a_configuration() {
        let unit = |id| Unit {
            id,
            identification: Some(Identification {
                objects: vec![(0, "Weighs & \"Co\"".into())],
            }),
            tables: vec![(
                Table::Coil,
                ReadableRanges {
                    ranges: std::iter::once(3..5).collect(),
                    complete: true,
                    exists: true,
                    requests: 1,
                },
            )],
            guesses: [
                DataType::F32,
                DataType::Text(8),
                DataType::I16,
                DataType::U32,
            ]
            .into_iter()
            .zip([0, 2, 6, 7])
            .map(|(data, address)| {
                let guess = Guess {
                    address,
                    data,
                    word_order: WordOrder::Little,
                    shown: "a \"b\"".into(),
                    why: "because",
                };
                (Table::HoldingRegister, guess)
            })
            .collect(),
        };
        let tls = "tls = { ca = 'a', certificate = 'b', key = 'c' }";
        let reached = toml::from_str(&format!("address = '192.0.2.7:802'\n{tls}")).unwrap();
        let text = profile(&reached, &[unit(1), unit(2)]);
        let loaded = config::parse(&text, "profile.toml");
        let loaded = loaded.unwrap_or_else(|found| panic!("{text}\n{found:?}"));
        assert_eq!(loaded.warnings, []);
        let devices = &loaded.config.devices;
        assert_eq!(devices.len(), 2);
        assert_eq!(devices[0].tags.len(), 6);
    }
}

//! What a scan of a Modbus device found, as a profile that `profile test` and `check` accept and a person
//! finishes.

use super::modbus::{Unit, type_name};
use super::target::{MOST_IN_CASE, comment, quoted};
use crate::protocols::modbus::{DataType, Guess, Table, WordOrder};
use toml::Value as Toml;

/// Most tags of one device; a scan of a device that answers everywhere would fill a book.
const MOST_TAGS: usize = 1000;

/// How a device is reached that is not the same for all of its kind: the key, and what it is.
const PARAMETERS: [(&str, &str); 2] = [
    (
        "address",
        "host:port; another device of the kind has another",
    ),
    ("serial", "the serial port"),
];

/// The profile `id` of one unit.
pub(super) fn profile(id: &str, reached: &toml::Table, unit: &Unit) -> String {
    let who = unit.identification.as_ref().map(ToString::to_string);
    let who = who.unwrap_or_else(|| format!("unit {} that does not say who it is", unit.id));
    let mut out = format!(
        "# Found by `weighbridge scan modbus`. The types are guesses: compare them with the device's manual, say its\n\
         # title in `source`, give the tags names and units, and take away what nobody needs. Registers that held 0\n\
         # are left out.\n\
         \n[profile]\nid = {}\nname = {}\nversion = \"1\"\nsource = \"what it answered; not compared with a manual yet\"\n\
         \n[parameters]\n",
        quoted(id),
        quoted(&comment(&who)),
    );
    let mut keys = Vec::new();
    for (key, value) in reached {
        match PARAMETERS.iter().find(|(name, _)| name == key) {
            Some((name, help)) => {
                out += &format!("{name} = {{ default = {value}, help = \"{help}\" }}\n");
                keys.push(format!("{name} = \"{{{name}}}\""));
            }
            // Whose files these are is the site's affair.
            None if key == "tls" => {}
            None => keys.push(format!("{key} = {value}")),
        }
    }
    out += &format!(
        "unit_id = {{ default = {}, range = [0, 255], help = \"its unit id\" }}\n\
         \n[modbus]\n{}\nunit_id = \"{{unit_id}}\"\n",
        unit.id,
        keys.join("\n")
    );
    let tags = tags(unit);
    let left_out = tags.len().saturating_sub(MOST_TAGS);
    out.extend(tags.into_iter().take(MOST_TAGS));
    if left_out > 0 {
        out += &format!("\n# {left_out} more are left out.\n");
    }
    out + &case(unit)
}

/// What a device says besides its profile.
pub(super) fn device(reached: &toml::Table, unit: &Unit) -> toml::Table {
    let mut keys = toml::Table::new();
    for (name, _) in PARAMETERS {
        keys.extend(reached.get(name).map(|v| (name.to_owned(), v.clone())));
    }
    keys.insert("unit_id".to_owned(), i64::from(unit.id).into());
    if let Some(tls) = reached.get("tls") {
        let modbus = toml::Table::from_iter([("tls".to_owned(), tls.clone())]);
        let device = toml::Table::from_iter([("modbus".to_owned(), Toml::Table(modbus))]);
        keys.insert("device".to_owned(), Toml::Table(device));
    }
    keys
}

/// What a tag of a table's cell is called.
fn name(table: Table, address: u16) -> String {
    let short = match table {
        Table::Coil => "coil",
        Table::DiscreteInput => "input",
        Table::HoldingRegister => "holding",
        Table::InputRegister => "register",
    };
    format!("{short}_{address}")
}

/// What stood in the registers, and what it means if the guesses are right, as a golden case.
fn case(unit: &Unit) -> String {
    let number = |guess: &Guess| match guess.data {
        // As the tag has it: the nearest number of 32 bits, widened.
        DataType::F32 => guess
            .shown
            .parse::<f32>()
            .ok()
            .map(|x| Toml::Float(x.into())),
        DataType::Text(_) => None,
        _ => guess.shown.parse().ok().map(Toml::Integer),
    };
    let known = unit.guesses.iter().filter_map(|(table, guess)| {
        let words = unit.registers.iter().find_map(|(of, first, words)| {
            let from = usize::from(guess.address.checked_sub(*first)?);
            let words = words.get(from..from + usize::from(guess.data.width()))?;
            (of == table).then_some(words)
        })?;
        Some((*table, guess.address, words, number(guess)?))
    });
    let known: Vec<_> = known.take(MOST_IN_CASE).collect();
    if known.is_empty() {
        return String::new();
    }
    let mut out = "\n[[case]]\nname = \"as it was when it was scanned\"\n".to_owned();
    for (of, key) in [
        (Table::HoldingRegister, "holding"),
        (Table::InputRegister, "input"),
    ] {
        let cells = known.iter().filter(|(table, ..)| *table == of);
        let cells: Vec<_> = cells
            .map(|(_, address, words, _)| format!("\"{address}\" = {words:?}\n"))
            .collect();
        if !cells.is_empty() {
            out += &format!("\n[case.registers.{key}]\n{}", cells.concat());
        }
    }
    out += "\n[case.expect]\n";
    let expected = known.iter();
    out.extend(
        expected
            .map(|(table, address, _, value)| format!("{} = {value}\n", name(*table, *address))),
    );
    out
}

fn tags(unit: &Unit) -> Vec<String> {
    let tag = |table: Table, address: u16, more: &str, shown: &str| {
        let key = match table {
            Table::Coil => "coil",
            Table::DiscreteInput => "discrete_input",
            Table::HoldingRegister => "holding_register",
            Table::InputRegister => "input_register",
        };
        let name = name(table, address);
        format!("\n[[tag]]\nname = \"{name}\"\nmodbus = {{ {key} = {address}{more} }}{shown}\n")
    };
    let registers = unit.guesses.iter().map(|(table, guess)| {
        let mut more = format!(", type = \"{}\"", type_name(guess.data));
        if let DataType::Text(length) = guess.data {
            more += &format!(", length = {length}");
        }
        if guess.word_order == WordOrder::Little {
            more += ", word_order = \"little\"";
        }
        let shown = format!("  # {}: {}", comment(&guess.shown), guess.why);
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
    use crate::config::profile::Profile;
    use crate::protocols::modbus::{Guess, Identification, ReadableRanges};

    #[test]
    fn what_a_scan_writes_is_a_profile_and_a_device_of_few_lines_uses_it() {
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
            .zip([0u16, 2, 6, 7])
            .map(|(data, address)| {
                let guess = Guess {
                    address,
                    data,
                    word_order: WordOrder::Little,
                    shown: if address == 6 { "-2" } else { "a \"b\"" }.into(),
                    why: "because",
                };
                (Table::HoldingRegister, guess)
            })
            .collect(),
            registers: vec![(
                Table::HoldingRegister,
                0,
                vec![0, 0, 0, 0, 0, 0, 65534, 0, 0],
            )],
        };
        let tls = "tls = { ca = 'a', certificate = 'b', key = 'c' }";
        let secure = format!("address = '192.0.2.7:802'\n{tls}");
        let serial = "serial = '/dev/ttyS1'\nbaud = 9600\nparity = 'none'";
        for reached in [secure.as_str(), serial] {
            let reached = toml::from_str(reached).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("plugins/profiles/meter.toml");
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            let text = profile("meter", &reached, &unit(3));
            std::fs::write(&file, &text).unwrap();
            let read = Profile::load(&file).unwrap_or_else(|found| panic!("{text}\n{found:?}"));
            assert_eq!(read.warnings, []);
            assert_eq!(read.device.tags.len(), 6);
            assert_eq!(read.cases[0].expect.len(), 1, "{text}");
            let hub = dir.path().join("hub.toml");
            let device = device(&reached, &unit(3)).to_string();
            let head = "[hub]\nid = \"hub-1\"\n[[device]]\nid = \"m-1\"\nprofile = \"meter\"\n";
            std::fs::write(&hub, format!("{head}{device}")).unwrap();
            let loaded = config::load(&hub).unwrap_or_else(|found| panic!("{device}\n{found:?}"));
            let modbus = toml::Value::try_from(&loaded.config.devices[0].modbus).unwrap();
            assert_eq!(modbus["unit_id"].as_integer(), Some(3));
            for (key, value) in &reached {
                let read = modbus
                    .get(key)
                    .unwrap_or_else(|| panic!("{key} in {modbus}"));
                assert!(read.is_table() || read == value, "{modbus}");
            }
        }
    }
}

//! A thousand random register maps, read from a device over a socket: never more than 1.05 times the
//! fewest requests that are possible, and every value as an independent decoder finds it.

use crate::modbus_device::{COILS, DISCRETE, Frames, HOLDING, INPUT, Memory, Shared, listen};
use crate::support::Random;
use weighbridge::model::{BatchBuilder, TagSpec, Value};
use weighbridge::protocols::Source;
use weighbridge::protocols::modbus::{ModbusConfig, ModbusPoint, ModbusSource};

const MAPS: usize = 1000;

/// A tag, as it is written in the file and as this test understands it.
struct Tag {
    table: u8,
    address: u16,
    width: u16,
    kind: &'static str,
    little: bool,
    swapped: bool,
    bit: u16,
    length: u16,
    scaled: bool,
}

impl Tag {
    fn random(random: &mut Random, near: u16) -> Self {
        let table = [COILS, DISCRETE, HOLDING, HOLDING, INPUT][random.below(5) as usize];
        let kinds = [
            "u16", "i16", "u32", "i32", "u48", "i48", "u64", "i64", "f32", "f64", "bcd16", "bcd32",
            "bit", "bool", "text", "bytes",
        ];
        let kind = match table {
            COILS | DISCRETE => "bool",
            _ => kinds[random.below(kinds.len() as u64) as usize],
        };
        let length = 1 + random.below(16) as u16;
        let width = match kind {
            "u32" | "i32" | "f32" | "bcd32" => 2,
            "u48" | "i48" => 3,
            "u64" | "i64" | "f64" => 4,
            "text" | "bytes" => length.div_ceil(2),
            _ => 1,
        };
        let number = !matches!(kind, "bit" | "bool" | "text" | "bytes");
        Self {
            table,
            address: near + random.below(60) as u16,
            width,
            kind,
            little: number && random.below(2) == 0,
            swapped: table > DISCRETE && random.below(2) == 0,
            bit: random.below(16) as u16,
            length,
            scaled: number && random.below(4) == 0,
        }
    }

    fn text(&self) -> String {
        let table = [
            "coil",
            "discrete_input",
            "holding_register",
            "input_register",
        ][usize::from(self.table) - 1];
        let mut text = format!("{table} = {}\n", self.address);
        text += &match self.kind {
            "bit" => format!("bit = {}\n", self.bit),
            "text" | "bytes" => format!("type = \"{}\"\nlength = {}\n", self.kind, self.length),
            kind => format!("type = \"{kind}\"\n"),
        };
        if self.little {
            text += "word_order = \"little\"\n";
        }
        if self.swapped {
            text += "swap_bytes = true\n";
        }
        if self.scaled {
            text += "scale = 0.25\noffset = -3.0\n";
        }
        text
    }

    /// Its bytes, the most significant first.
    fn bytes(&self, memory: &Memory) -> Vec<u8> {
        let mut words: Vec<[u8; 2]> = (0..self.width)
            .map(|i| memory.cell(self.table, self.address + i).to_be_bytes())
            .collect();
        if self.swapped {
            words.iter_mut().for_each(|w| w.reverse());
        }
        if self.little {
            words.reverse();
        }
        words.concat()
    }

    /// What it shows; `None` when its registers hold no value of its type.
    fn value(&self, memory: &Memory) -> Option<Value> {
        let bytes = self.bytes(memory);
        let scale = |x: f64| Value::F64(x * 0.25 - 3.0);
        let mut wide = [0; 8];
        if bytes.len() <= 8 {
            wide[8 - bytes.len()..].copy_from_slice(&bytes);
        }
        let unsigned = u64::from_be_bytes(wide);
        if bytes.len() <= 8 && bytes[0] & 0x80 != 0 {
            wide[..8 - bytes.len()].fill(0xff);
        }
        let signed = i64::from_be_bytes(wide);
        Some(match self.kind {
            "bool" => Value::Bool(unsigned != 0),
            "bit" => Value::Bool(unsigned >> self.bit & 1 == 1),
            "text" => {
                let cut = &bytes[..usize::from(self.length)];
                let end = cut.iter().position(|b| *b == 0).unwrap_or(cut.len());
                let text = std::str::from_utf8(&cut[..end]).ok()?;
                Value::Text(text.trim_end().to_owned())
            }
            "bytes" => Value::Bytes(bytes[..usize::from(self.length)].to_vec()),
            "f32" | "f64" => {
                let x = match self.kind {
                    "f32" => f64::from(f32::from_be_bytes(bytes.try_into().unwrap())),
                    _ => f64::from_be_bytes(bytes.try_into().unwrap()),
                };
                if self.scaled { scale(x) } else { Value::F64(x) }
            }
            kind if kind.starts_with("bcd") => {
                let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                let number: u64 = digits.parse().ok()?;
                if self.scaled {
                    scale(number as f64)
                } else {
                    Value::U64(number)
                }
            }
            kind if kind.starts_with('i') => {
                if self.scaled {
                    scale(signed as f64)
                } else {
                    Value::I64(signed)
                }
            }
            _ if self.scaled => scale(unsigned as f64),
            _ => Value::U64(unsigned),
        })
    }

    /// Gives its registers what its type can hold, most of the time.
    fn fill(&self, memory: &mut Memory, random: &mut Random) {
        for i in 0..self.width {
            let word = match self.kind {
                "text" => (0x41 + random.below(26)) << 8 | (0x61 + random.below(26)),
                "bcd16" | "bcd32" => (0..4).fold(0, |w, _| w << 4 | random.below(10)),
                _ => random.below(0x1_0000),
            };
            memory
                .cells
                .insert((self.table, self.address + i), word as u16);
        }
    }
}

struct Map {
    tags: Vec<Tag>,
    registers: u32,
    coils: u32,
    gap: u32,
    no_read: Vec<(u8, u32, u32)>,
}

impl Map {
    fn random(random: &mut Random) -> Self {
        let clusters: Vec<u16> = (0..1 + random.below(4))
            .map(|_| random.below(65_000) as u16)
            .collect();
        let count = 1 + random.below(80);
        let mut tags: Vec<Tag> = (0..count)
            .map(|_| {
                let near = clusters[random.below(clusters.len() as u64) as usize];
                Tag::random(random, near)
            })
            .collect();
        let mut no_read = Vec::new();
        for _ in 0..random.below(4) {
            let table = 1 + random.below(4) as u8;
            let near = clusters[random.below(clusters.len() as u64) as usize];
            let first = u32::from(near) + random.below(60) as u32;
            no_read.push((table, first, first + random.below(3) as u32));
        }
        tags.retain(|tag| {
            let first = u32::from(tag.address);
            let cells = first..first + u32::from(tag.width);
            !no_read.iter().any(|(table, from, to)| {
                *table == tag.table && cells.clone().any(|cell| (*from..=*to).contains(&cell))
            })
        });
        Self {
            tags,
            registers: 8 + random.below(118) as u32,
            coils: 8 + random.below(1993) as u32,
            gap: random.below(40) as u32,
            no_read,
        }
    }

    fn config(&self, address: std::net::SocketAddr) -> ModbusConfig {
        let mut no_read = String::new();
        let names = [
            "coil",
            "discrete_input",
            "holding_register",
            "input_register",
        ];
        for (table, name) in (1..=4).zip(names) {
            let ranges = self.no_read.iter().filter(|r| r.0 == table);
            let ranges: Vec<String> = ranges.map(|r| format!("[{}, {}]", r.1, r.2)).collect();
            no_read += &format!("no_read.{name} = [{}]\n", ranges.join(", "));
        }
        toml::from_str(&format!(
            "address = \"{address}\"\nperiod_ms = 0\nmax_registers = {}\nmax_coils = {}\n\
             max_gap = {}\n{no_read}",
            self.registers, self.coils, self.gap
        ))
        .unwrap()
    }

    /// The fewest requests, by dynamic programming over the tags of each table in order of address.
    fn optimum(&self) -> usize {
        (1..=4).map(|table| self.optimum_of(table)).sum()
    }

    fn optimum_of(&self, table: u8) -> usize {
        let mut cells: Vec<(u32, u32)> = self
            .tags
            .iter()
            .filter(|tag| tag.table == table)
            .map(|tag| {
                (
                    tag.address.into(),
                    u32::from(tag.address) + u32::from(tag.width),
                )
            })
            .collect();
        cells.sort_unstable();
        let limit = if table <= DISCRETE {
            self.coils
        } else {
            self.registers
        };
        let mut best = vec![usize::MAX; cells.len() + 1];
        best[0] = 0;
        for from in 0..cells.len() {
            let mut end = cells[from].1;
            for to in from..cells.len() {
                let (first, last) = cells[to];
                let hole = end..first;
                let forbidden = |cell| {
                    let ranges = self.no_read.iter();
                    ranges
                        .filter(|r| r.0 == table)
                        .any(|r| (r.1..=r.2).contains(&cell))
                };
                if hole.len() as u32 > self.gap || hole.into_iter().any(forbidden) {
                    break;
                }
                end = end.max(last);
                if end - cells[from].0 > limit {
                    break;
                }
                best[to + 1] = best[to + 1].min(best[from] + 1);
            }
        }
        best[cells.len()]
    }
}

async fn read(map: &Map, memory: &Shared, address: std::net::SocketAddr) -> BatchBuilder {
    let points = map.tags.iter().enumerate().map(|(i, tag)| {
        let point: ModbusPoint = toml::from_str(&tag.text()).unwrap();
        let spec = TagSpec {
            name: format!("t{i}").into(),
            kind: point.value_kind(),
            unit: String::new(),
            description: String::new(),
            range: None,
            writable: false,
        };
        (spec, point)
    });
    let mut source =
        ModbusSource::new("plc".into(), map.config(address), points.collect()).unwrap();
    source.connect().await.unwrap();
    memory.lock().asked.clear();
    let mut out = BatchBuilder::scanning("plc".into(), source.tags());
    source.read(&mut out).await.unwrap();
    source.close().await;
    out
}

#[tokio::test]
async fn a_thousand_register_maps_in_the_fewest_requests_and_exactly() {
    let mut random = Random::from_env();
    let memory = Memory::shared();
    let address = listen(memory.clone(), Frames::Mbap).await;
    let (mut requests, mut optima, mut values) = (0, 0, 0);
    for number in 0..MAPS {
        let map = Map::random(&mut random);
        if map.tags.is_empty() {
            continue;
        }
        memory.lock().cells.clear();
        for tag in &map.tags {
            tag.fill(&mut memory.lock(), &mut random);
        }
        let batch = read(&map, &memory, address).await.take(1, 1).unwrap();
        let memory = memory.lock();
        let seed = random.seed;
        let (made, optimum) = (memory.asked.len(), map.optimum());
        assert!(
            made as f64 <= 1.05 * optimum as f64,
            "seed {seed}, map {number}: {made} requests, {optimum} would do"
        );
        for asked in &memory.asked {
            let first = u32::from(asked.address);
            let cells = first..first + u32::from(asked.count);
            let forbidden = map.no_read.iter().any(|(table, from, to)| {
                *table == asked.function && cells.clone().any(|c| (*from..=*to).contains(&c))
            });
            assert!(!forbidden, "seed {seed}, map {number}: {asked:?}");
        }
        for (tag, column) in map.tags.iter().zip(&batch.columns) {
            let quality = column.quality.get(0);
            match tag.value(&memory) {
                None => assert!(
                    quality.is_bad(),
                    "seed {seed}, map {number}: {}",
                    tag.text()
                ),
                Some(expected) => {
                    let same = match (column.values.get(0), &expected) {
                        // NaN is what it is.
                        (Some(Value::F64(a)), Value::F64(b)) => {
                            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
                        }
                        (found, expected) => found.as_ref() == Some(expected),
                    };
                    let found = column.values.get(0);
                    assert!(
                        same && !quality.is_bad(),
                        "seed {seed}, map {number}: {} is {found:?}, not {expected}",
                        tag.text()
                    );
                }
            }
            values += 1;
        }
        requests += made;
        optima += optimum;
    }
    eprintln!("{requests} requests, {optima} at best, {values} values");
}

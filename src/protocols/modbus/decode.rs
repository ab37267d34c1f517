//! Registers and bits into columns. Pure, and fast: a plan is made once, and a scan then runs through
//! it without looking anything up.

use super::plan::ReadRequest;
use super::point::{DataType, ModbusPoint, WordOrder};
use crate::model::{BatchBuilder, Quality, Value};

/// `Bad_DecodingError` of OPC UA Part 4, 7.39: the bytes are not what their type says.
const BAD_DECODING: Quality = Quality(0x8007_0000);

/// What a device answered to a read request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Coils or discrete inputs.
    Bits(Vec<bool>),
    /// Registers.
    Words(Vec<u16>),
}

/// How the cells of one point make a value; points of one codec in a row are decoded in one loop.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Codec {
    data: DataType,
    word_order: WordOrder,
    swap_bytes: bool,
    scaling: Option<(f64, f64)>,
}

impl Codec {
    fn new(point: &ModbusPoint) -> Self {
        Self {
            data: point.data,
            word_order: point.word_order,
            swap_bytes: point.swap_bytes,
            scaling: point.is_scaled().then_some((point.scale, point.offset)),
        }
    }

    /// The bits of the value that takes `N` words, the most significant word first.
    fn raw<const N: usize>(&self, words: &[u16]) -> u64 {
        let word = |index: usize| {
            let index = match self.word_order {
                WordOrder::Big => index,
                WordOrder::Little => N - 1 - index,
            };
            let word = words.get(index).copied().unwrap_or_default();
            if self.swap_bytes {
                word.swap_bytes()
            } else {
                word
            }
        };
        (0..N).fold(0, |raw, index| raw << 16 | u64::from(word(index)))
    }

    /// Every word of a text or of bytes, high byte first.
    fn bytes(&self, words: &[u16]) -> Vec<u8> {
        let bytes = words.iter().map(|word| match self.swap_bytes {
            false => word.to_be_bytes(),
            true => word.to_le_bytes(),
        });
        bytes.flatten().collect()
    }
}

/// Points of one codec whose cells and columns both follow one another.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    /// Where its cells begin in the reply.
    offset: usize,
    /// Its first column.
    column: usize,
    /// Number of points.
    points: usize,
    codec: Codec,
}

/// Turns the reply to one request into samples.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decoder {
    runs: Vec<Run>,
}

impl Decoder {
    /// The decoder of `request`'s reply. Spans whose point is not in `points` are left out.
    pub(super) fn new(request: &ReadRequest, points: &[ModbusPoint]) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for span in &request.spans {
            let Some(point) = points.get(span.point) else {
                continue;
            };
            let codec = Codec::new(point);
            let offset = usize::from(span.address - request.address);
            let width = usize::from(span.width);
            match runs.last_mut() {
                Some(run)
                    if run.codec == codec
                        && run.column + run.points == span.point
                        && run.offset + run.points * width == offset =>
                {
                    run.points += 1;
                }
                _ => runs.push(Run {
                    offset,
                    column: span.point,
                    points: 1,
                    codec,
                }),
            }
        }
        Self { runs }
    }

    /// Gives the running scan of `out` the values in `reply`. A point whose cells are not in it gets
    /// Bad_NoData.
    pub(super) fn decode(&self, reply: &Reply, out: &mut BatchBuilder) {
        for run in &self.runs {
            let cells = run.points * usize::from(run.codec.data.width());
            let range = run.offset..run.offset + cells;
            let complete = match reply {
                Reply::Bits(bits) => bits.get(range).map(|bits| {
                    out.scan_bools(run.column, bits.iter().copied());
                }),
                Reply::Words(words) => words.get(range).map(|words| run.words(words, out)),
            };
            if complete.is_none() {
                self.missing_run(run, Quality::BAD_NO_DATA, out);
            }
        }
    }

    /// Gives every point no value in the running scan of `out`, and says why by `quality`.
    pub(super) fn missing(&self, quality: Quality, out: &mut BatchBuilder) {
        for run in &self.runs {
            self.missing_run(run, quality, out);
        }
    }

    fn missing_run(&self, run: &Run, quality: Quality, out: &mut BatchBuilder) {
        for column in run.column..run.column + run.points {
            out.scan_missing(column, quality);
        }
    }
}

impl Run {
    /// Decodes exactly the run's words.
    fn words(&self, words: &[u16], out: &mut BatchBuilder) {
        let codec = &self.codec;
        let plain = !codec.swap_bytes && codec.word_order == WordOrder::Big;
        let column = self.column;
        match codec.data {
            // The two that devices are full of, in their usual order, have loops of their own.
            DataType::U16 if plain && codec.scaling.is_none() => {
                out.scan_u64s(column, words.iter().map(|w| u64::from(*w)));
            }
            DataType::F32 if plain && codec.scaling.is_none() => {
                let pair = |w: &[u16]| match w {
                    [high, low] => u32::from(*high) << 16 | u32::from(*low),
                    _ => 0,
                };
                let values = words.chunks_exact(2).map(|w| f32::from_bits(pair(w)));
                out.scan_f64s(column, values.map(f64::from));
            }
            DataType::Bool => out.scan_bools(column, words.iter().map(|w| *w != 0)),
            DataType::Bit(bit) => {
                let word = |w: &u16| codec.raw::<1>(&[*w]);
                out.scan_bools(column, words.iter().map(|w| word(w) >> bit & 1 == 1));
            }
            DataType::U16 => self.unsigned::<1>(words, out),
            DataType::U32 => self.unsigned::<2>(words, out),
            DataType::U48 => self.unsigned::<3>(words, out),
            DataType::U64 => self.unsigned::<4>(words, out),
            DataType::Bcd16 => self.decimal::<1>(words, out),
            DataType::Bcd32 => self.decimal::<2>(words, out),
            DataType::I16 => self.signed::<1>(words, out),
            DataType::I32 => self.signed::<2>(words, out),
            DataType::I48 => self.signed::<3>(words, out),
            DataType::I64 => self.signed::<4>(words, out),
            DataType::F32 => self.float::<2>(words, out, |raw| f32::from_bits(raw as u32).into()),
            DataType::F64 => self.float::<4>(words, out, f64::from_bits),
            DataType::Text(length) => {
                for (i, bytes) in self.strings(words, length).enumerate() {
                    match text(bytes) {
                        Some(text) => out.scan(column + i, Value::Text(text), Quality::GOOD),
                        None => out.scan_missing(column + i, BAD_DECODING),
                    }
                }
            }
            DataType::Bytes(length) => {
                for (i, bytes) in self.strings(words, length).enumerate() {
                    out.scan(column + i, Value::Bytes(bytes), Quality::GOOD);
                }
            }
        }
    }

    /// Strings of `length` bytes; of an odd length the last byte of each belongs to something else.
    fn strings<'w>(&self, words: &'w [u16], length: u16) -> impl Iterator<Item = Vec<u8>> + 'w {
        let codec = self.codec;
        let registers = usize::from(codec.data.width().max(1));
        words.chunks_exact(registers).map(move |words| {
            let mut bytes = codec.bytes(words);
            bytes.truncate(length.into());
            bytes
        })
    }

    fn decimal<const N: usize>(&self, words: &[u16], out: &mut BatchBuilder) {
        for (i, words) in words.chunks_exact(N).enumerate() {
            let column = self.column + i;
            match (from_bcd(self.codec.raw::<N>(words)), self.codec.scaling) {
                (None, _) => out.scan_missing(column, BAD_DECODING),
                (Some(x), None) => out.scan_u64s(column, [x]),
                (Some(x), Some((scale, offset))) => {
                    out.scan_f64(column, x as f64 * scale + offset);
                }
            }
        }
    }

    fn unsigned<const N: usize>(&self, words: &[u16], out: &mut BatchBuilder) {
        let raw = words.chunks_exact(N).map(|w| self.codec.raw::<N>(w));
        match self.codec.scaling {
            None => out.scan_u64s(self.column, raw),
            Some((scale, offset)) => {
                out.scan_f64s(self.column, raw.map(|x| x as f64 * scale + offset));
            }
        }
    }

    fn signed<const N: usize>(&self, words: &[u16], out: &mut BatchBuilder) {
        let unused = 64 - 16 * N as u32;
        let raw = words.chunks_exact(N).map(|w| self.codec.raw::<N>(w));
        // Shifting up and back down copies the sign into the bits above the value.
        let signed = raw.map(|raw| (raw << unused) as i64 >> unused);
        match self.codec.scaling {
            None => out.scan_i64s(self.column, signed),
            Some((scale, offset)) => {
                out.scan_f64s(self.column, signed.map(|x| x as f64 * scale + offset));
            }
        }
    }

    fn float<const N: usize>(
        &self,
        words: &[u16],
        out: &mut BatchBuilder,
        from_bits: impl Fn(u64) -> f64,
    ) {
        let values = words
            .chunks_exact(N)
            .map(|w| from_bits(self.codec.raw::<N>(w)));
        match self.codec.scaling {
            None => out.scan_f64s(self.column, values),
            Some((scale, offset)) => {
                out.scan_f64s(self.column, values.map(|x| x * scale + offset));
            }
        }
    }
}

/// The number whose decimal digits are the nibbles of `raw`; `None` when one of them is none.
fn from_bcd(raw: u64) -> Option<u64> {
    (0..16).rev().try_fold(0u64, |number, digit| {
        let nibble = raw >> (4 * digit) & 0xf;
        (nibble <= 9).then(|| number * 10 + nibble)
    })
}

/// The text up to the first NUL, without the blanks that fill its registers; `None` when it is not
/// UTF-8.
fn text(mut bytes: Vec<u8>) -> Option<String> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim_end().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::config::ModbusConfig;
    use super::super::plan::{Span, plan};
    use super::super::point::Table;
    use super::*;
    use crate::model::{TagSpec, Values};
    use proptest::prelude::*;

    fn builder(points: &[ModbusPoint]) -> BatchBuilder {
        let tag = |(i, point): (usize, &ModbusPoint)| TagSpec {
            name: format!("t{i}").into(),
            kind: point.value_kind(),
            unit: String::new(),
            description: String::new(),
            range: None,
            writable: false,
        };
        BatchBuilder::scanning("d".into(), points.iter().enumerate().map(tag).collect())
    }

    fn decoders(points: &[ModbusPoint]) -> Vec<(ReadRequest, Decoder)> {
        let spans = points
            .iter()
            .enumerate()
            .map(|(i, p)| Span::new(i, p))
            .collect();
        let decoded = |request| {
            let decoder = Decoder::new(&request, points);
            (request, decoder)
        };
        let config: ModbusConfig = toml::from_str("address = 'plc:502'").unwrap();
        plan(spans, config.limits())
            .into_iter()
            .map(decoded)
            .collect()
    }

    /// Decodes one point whose cells are exactly `words`.
    fn one(point: &str, words: &[u16]) -> (Value, Quality) {
        let points = [toml::from_str::<ModbusPoint>(point).unwrap()];
        let mut out = builder(&points);
        out.begin_scan(1);
        decoders(&points)[0]
            .1
            .decode(&Reply::Words(words.to_vec()), &mut out);
        let batch = out.take(1, 1).unwrap();
        let column = &batch.columns[0];
        (column.values.get(0).unwrap(), column.quality.get(0))
    }

    #[test]
    fn every_type_in_every_order() {
        let at = "holding_register = 100\n";
        let sample = 123.456_f32;
        for (point, words, value) in [
            ("type = 'u16'", &[0xfffe][..], Value::U64(0xfffe)),
            (
                "type = 'u16'\nswap_bytes = true",
                &[0x1234],
                Value::U64(0x3412),
            ),
            (
                "type = 'u16'\nword_order = 'little'",
                &[0x1234],
                Value::U64(0x1234),
            ),
            ("type = 'i16'", &[0xfffe], Value::I64(-2)),
            ("type = 'i16'", &[0x7fff], Value::I64(32767)),
            ("type = 'u32'", &[0x1234, 0x5678], Value::U64(0x1234_5678)),
            (
                "type = 'u32'\nword_order = 'little'",
                &[0x1234, 0x5678],
                Value::U64(0x5678_1234),
            ),
            (
                "type = 'u32'\nswap_bytes = true",
                &[0x1234, 0x5678],
                Value::U64(0x3412_7856),
            ),
            (
                "type = 'u32'\nswap_bytes = true\nword_order = 'little'",
                &[0x1234, 0x5678],
                Value::U64(0x7856_3412),
            ),
            ("type = 'i32'", &[0xffff, 0xfff6], Value::I64(-10)),
            (
                "type = 'u64'",
                &[1, 2, 3, 4],
                Value::U64(0x0001_0002_0003_0004),
            ),
            (
                "type = 'u64'\nword_order = 'little'",
                &[1, 2, 3, 4],
                Value::U64(0x0004_0003_0002_0001),
            ),
            (
                "type = 'i64'",
                &[0xffff, 0xffff, 0xffff, 0xffff],
                Value::I64(-1),
            ),
            ("type = 'f32'", &[0x42f6, 0xe979], Value::F64(sample.into())),
            (
                "type = 'f32'\nword_order = 'little'",
                &[0xe979, 0x42f6],
                Value::F64(sample.into()),
            ),
            (
                "type = 'f32'\nswap_bytes = true",
                &[0xf642, 0x79e9],
                Value::F64(sample.into()),
            ),
            (
                "type = 'f64'",
                &[0x4009, 0x21fb, 0x5444, 0x2d18],
                Value::F64(std::f64::consts::PI),
            ),
            (
                "type = 'u16'\nscale = 0.5\noffset = -10.0",
                &[100],
                Value::F64(40.0),
            ),
            ("type = 'i16'\nscale = 0.5", &[0xffff], Value::F64(-0.5)),
            ("type = 'f32'\noffset = 1.0", &[0x3f80, 0], Value::F64(2.0)),
            ("type = 'bool'", &[0], Value::Bool(false)),
            ("type = 'bool'", &[0xff00], Value::Bool(true)),
            ("bit = 0", &[0x0001], Value::Bool(true)),
            ("bit = 15", &[0x8000], Value::Bool(true)),
            ("bit = 8\nswap_bytes = true", &[0x0001], Value::Bool(true)),
            (
                "type = 'text'\nregisters = 3",
                &[0x4162, 0x6300, 0x6464],
                Value::Text("Abc".into()),
            ),
            (
                "type = 'text'\nregisters = 2",
                &[0x4120, 0x2020],
                Value::Text("A".into()),
            ),
            (
                "type = 'text'\nregisters = 1\nswap_bytes = true",
                &[0x6261],
                Value::Text("ab".into()),
            ),
            ("type = 'u48'", &[1, 2, 3], Value::U64(0x0001_0002_0003)),
            ("type = 'i48'", &[0xffff, 0xffff, 0xfffe], Value::I64(-2)),
            ("type = 'bcd16'", &[0x1234], Value::U64(1234)),
            (
                "type = 'bcd32'\nscale = 0.5",
                &[0x1234, 0x5679],
                Value::F64(6_172_839.5),
            ),
            (
                "type = 'text'\nlength = 3",
                &[0x4162, 0x6364],
                Value::Text("Abc".into()),
            ),
            (
                "type = 'bytes'\nlength = 3\nswap_bytes = true",
                &[0x0201, 0xff03],
                Value::Bytes(vec![1, 2, 3]),
            ),
            (
                "type = 'bytes'\nregisters = 2",
                &[0xff00, 0x0102],
                Value::Bytes(vec![255, 0, 1, 2]),
            ),
        ] {
            assert_eq!(
                one(&format!("{at}{point}"), words),
                (value, Quality::GOOD),
                "{point}"
            );
        }
    }

    #[test]
    fn not_a_number_arrives_as_it_is_for_validation_to_judge() {
        let (value, quality) = one("input_register = 0\ntype = 'f32'", &[0x7fc0, 0]);
        assert!(matches!(value, Value::F64(x) if x.is_nan()));
        assert_eq!(quality, Quality::GOOD);
    }

    #[test]
    fn a_text_that_is_none_is_bad() {
        let (_, quality) = one(
            "holding_register = 0\ntype = 'text'\nregisters = 1",
            &[0xfffe],
        );
        assert_eq!(quality, BAD_DECODING);
        let (_, quality) = one("holding_register = 0\ntype = 'bcd16'", &[0x12a4]);
        assert_eq!(quality, BAD_DECODING);
    }

    #[test]
    fn points_in_a_row_make_one_run() {
        let point = |i: u16| ModbusPoint::new(Table::HoldingRegister, i, DataType::U16).unwrap();
        let mut points: Vec<_> = (0..100).map(point).collect();
        points.extend((0..10).map(|i| {
            ModbusPoint::new(Table::HoldingRegister, 100 + 2 * i, DataType::F32).unwrap()
        }));
        let decoders = decoders(&points);
        assert_eq!(decoders.len(), 1);
        let counts: Vec<usize> = decoders[0].1.runs.iter().map(|r| r.points).collect();
        assert_eq!(counts, [100, 10]);
    }

    #[test]
    fn coils_are_bools() {
        let coil = |i: u16| ModbusPoint::new(Table::Coil, i, DataType::Bool).unwrap();
        let points = [coil(4), coil(3), coil(6)];
        let mut out = builder(&points);
        out.begin_scan(1);
        let reply = |count: u16| Reply::Bits((0..count).map(|i| i == 0).collect());
        for (request, decoder) in decoders(&points) {
            decoder.decode(&reply(request.count), &mut out);
        }
        let batch = out.take(1, 1).unwrap();
        let values: Vec<_> = batch.columns.iter().map(|c| c.values.clone()).collect();
        assert_eq!(values, [false, true, true].map(|b| Values::Bool(vec![b])));
    }

    fn any_point() -> impl Strategy<Value = ModbusPoint> {
        let data = prop_oneof![
            Just(DataType::Bool),
            (0u8..16).prop_map(DataType::Bit),
            Just(DataType::U16),
            Just(DataType::I16),
            Just(DataType::U32),
            Just(DataType::I32),
            Just(DataType::U48),
            Just(DataType::I48),
            Just(DataType::U64),
            Just(DataType::I64),
            Just(DataType::Bcd16),
            Just(DataType::Bcd32),
            Just(DataType::F32),
            Just(DataType::F64),
            (1u16..9).prop_map(DataType::Text),
            (1u16..9).prop_map(DataType::Bytes),
        ];
        (data, 0u16..60, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(data, address, little, swap_bytes, scaled)| {
                let mut point = ModbusPoint::new(Table::InputRegister, address, data).unwrap();
                point.swap_bytes = swap_bytes;
                if little {
                    point.word_order = WordOrder::Little;
                }
                if scaled && !matches!(data, DataType::Text(_) | DataType::Bytes(_)) {
                    point.scale = 0.25;
                    point.offset = 3.0;
                }
                point
            },
        )
    }

    proptest! {
        /// Whatever a device sends, and however little of it, every tag has one sample a scan.
        #[test]
        fn any_reply_gives_every_point_one_sample(
            points in prop::collection::vec(any_point(), 1..20),
            words in prop::collection::vec(any::<u16>(), 0..130),
            bits in any::<bool>(),
        ) {
            let mut out = builder(&points);
            out.begin_scan(1);
            for (request, decoder) in decoders(&points) {
                let reply = match bits {
                    true => Reply::Bits(words.iter().map(|w| *w > 9).collect()),
                    false => Reply::Words(words.iter().copied().take(request.count.into()).collect()),
                };
                decoder.decode(&reply, &mut out);
            }
            prop_assert_eq!(out.samples(), points.len());
            prop_assert_eq!(out.take(1, 1).unwrap().samples(), points.len());
        }
    }
}

//! A CSV file as it comes from a historian, a spreadsheet or a data logger: any of four delimiters,
//! decimal point or comma, any line end, rows that are too short or partly empty.

use anyhow::{Context, Result};
use csv::{Position, Reader, ReaderBuilder, StringRecord, Trim};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Lines that are looked at to find out how a file is written.
const LINES_LOOKED_AT: usize = 20;

const DELIMITERS: [u8; 4] = [b';', b'\t', b',', b'|'];

/// How a file writes columns and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Notation {
    pub delimiter: u8,
    pub decimal_comma: bool,
}

/// What stands in a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell {
    Number(f64),
    /// Empty, or one of the words people write for "no value".
    Missing,
    /// Neither.
    Text,
}

impl Notation {
    /// Finds out from the first lines; what is given is not guessed.
    pub fn detect(path: &Path, delimiter: Option<u8>, decimal: Option<char>) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let lines = first_lines(file).with_context(|| format!("cannot read {}", path.display()))?;
        let header = lines.first().map_or("", String::as_str);
        let delimiter = delimiter.unwrap_or_else(|| most_frequent_delimiter(header));
        let decimal_comma = match decimal {
            Some(mark) => mark == ',',
            None => delimiter != b',' && has_decimal_commas(&lines, delimiter),
        };
        Ok(Self {
            delimiter,
            decimal_comma,
        })
    }

    /// A reader that stands behind the header row, and the header.
    pub fn open(&self, path: &Path) -> Result<(Reader<File>, Vec<String>)> {
        let mut reader = ReaderBuilder::new()
            .delimiter(self.delimiter)
            .flexible(true)
            .trim(Trim::All)
            .from_path(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let header = reader
            .headers()
            .with_context(|| format!("cannot read the header of {}", path.display()))?;
        let names = header
            .iter()
            .map(|name| name.trim_matches('\u{feff}').trim());
        let names = unique(names);
        Ok((reader, names))
    }

    /// What cell `index` of a row holds.
    pub fn cell(&self, row: &StringRecord, index: usize) -> Cell {
        let text = row.get(index).unwrap_or("").trim();
        if is_missing(text) {
            return Cell::Missing;
        }
        let number = if self.decimal_comma && text.contains(',') {
            text.replace(',', ".").parse()
        } else {
            text.parse()
        };
        number.map_or(Cell::Text, Cell::Number)
    }
}

/// Reads the next row; false at the end. Bytes that are no UTF-8 do not end a replay.
pub(super) fn read_row(reader: &mut Reader<File>, row: &mut StringRecord) -> Result<bool> {
    let mut bytes = csv::ByteRecord::new();
    let at = reader.position().clone();
    let more = reader
        .read_byte_record(&mut bytes)
        .with_context(|| format!("cannot read the CSV at line {}", line(&at)))?;
    *row = StringRecord::from_byte_record_lossy(bytes);
    row.trim();
    Ok(more)
}

fn line(position: &Position) -> u64 {
    position.line()
}

fn first_lines(file: File) -> std::io::Result<Vec<String>> {
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    // One buffer is enough to see how a file is written, however long its lines are.
    let text = String::from_utf8_lossy(reader.fill_buf()?).into_owned();
    let lines = text.split(['\n', '\r']).filter(|l| !l.trim().is_empty());
    Ok(lines.take(LINES_LOOKED_AT).map(str::to_string).collect())
}

fn most_frequent_delimiter(header: &str) -> u8 {
    let count = |d: u8| {
        let mut quoted = false;
        let outside = header.bytes().filter(|b| {
            quoted ^= *b == b'"';
            *b == d && !quoted
        });
        outside.count()
    };
    // The first of equals: a semicolon before a comma.
    let best = DELIMITERS.iter().rev().max_by_key(|d| count(**d));
    best.copied().filter(|d| count(*d) > 0).unwrap_or(b',')
}

fn has_decimal_commas(lines: &[String], delimiter: u8) -> bool {
    let cells = lines
        .iter()
        .skip(1)
        .flat_map(|l| l.split(char::from(delimiter)));
    let (mut commas, mut points) = (0, 0);
    for cell in cells.map(str::trim) {
        if cell.matches(',').count() == 1 && cell.replace(',', ".").parse::<f64>().is_ok() {
            commas += 1;
        } else if cell.contains('.') && cell.parse::<f64>().is_ok() {
            points += 1;
        }
    }
    commas > points
}

fn is_missing(text: &str) -> bool {
    const WORDS: [&str; 6] = ["na", "n/a", "null", "none", "-", "?"];
    text.is_empty() || WORDS.iter().any(|w| text.eq_ignore_ascii_case(w))
}

/// Names of columns; a name that was there before gets a number.
fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for (i, name) in names.enumerate() {
        let base = match name {
            "" => format!("column {}", i + 1),
            name => name.to_string(),
        };
        let mut name = base.clone();
        let mut n = 2;
        while out.contains(&name) {
            name = format!("{base} {n}");
            n += 1;
        }
        out.push(name);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiter_and_decimal_mark_are_found() {
        for (text, delimiter, decimal_comma) in [
            ("a;b\n1,5;2,25\n", b';', true),
            ("a;b\n1.5;2.25\n", b';', false),
            ("a,b\n1.5,2\n", b',', false),
            ("a\tb\n1,5\t2\n", b'\t', true),
            ("\"a,b,c\";d\n1;2\n", b';', false),
            ("alone\n1.5\n", b',', false),
            ("", b',', false),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let want = Notation {
                delimiter,
                decimal_comma,
            };
            assert_eq!(
                Notation::detect(file.path(), None, None).unwrap(),
                want,
                "{text:?}"
            );
        }
    }

    #[test]
    fn cells_are_numbers_missing_or_text() {
        let comma = Notation {
            delimiter: b';',
            decimal_comma: true,
        };
        let row = StringRecord::from(vec!["-7,39E-30", "", "n/a", "NaN", "True", "2.5", "1,2,3"]);
        let cells: Vec<Cell> = (0..8).map(|i| comma.cell(&row, i)).collect();
        assert_eq!(cells[0], Cell::Number(-7.39e-30));
        assert_eq!(
            (cells[1], cells[2], cells[7]),
            (Cell::Missing, Cell::Missing, Cell::Missing)
        );
        assert!(matches!(cells[3], Cell::Number(x) if x.is_nan()));
        assert_eq!((cells[4], cells[6]), (Cell::Text, Cell::Text));
        assert_eq!(cells[5], Cell::Number(2.5));
    }

    #[test]
    fn columns_of_one_name_are_told_apart() {
        assert_eq!(
            unique(["a", "", "a", "a"].into_iter()),
            ["a", "column 2", "a 2", "a 3"]
        );
    }
}

//! `weighbridge scan modbus`: which units answer, who they are, what can be read of them, and what it
//! might mean.

use super::modbus_profile::{device, profile};
use super::target::Target;
use crate::cli::output::{self, Align, Style};
use crate::protocols::modbus::{
    DataType, Guess, Identification, ModbusConfig, ReadableRanges, Survey, Table, WordOrder,
    guesses,
};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value as Json, json};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Time between two readings of a register, whose difference is a hint at its type.
const BETWEEN_READINGS: Duration = Duration::from_millis(700);
/// Most registers of one unit that are read for guesses.
const MOST_READ: usize = 5000;
/// Most guesses that are printed of one unit; JSON and the profile have all.
const MOST_SHOWN: usize = 40;
const TABLES: [Table; 4] = [
    Table::Coil,
    Table::DiscreteInput,
    Table::HoldingRegister,
    Table::InputRegister,
];

/// What `weighbridge scan modbus` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge scan modbus 192.0.2.7
  weighbridge scan modbus 192.0.2.7:502 --units 1-20 -o plugins/profiles/meter.toml
  weighbridge scan modbus 192.0.2.7 --range 0-2000 --requests 2000 --json
  weighbridge scan modbus --serial /dev/ttyUSB0 --baud 9600 --parity none --units 1-247

It only reads, one request at a time. Some devices do something when a register is read: look into the
manual before you scan a machine that is running.

Exit codes: 0 at least one unit answered, 1 none did.")]
pub(in crate::cli) struct ModbusArgs {
    /// Where it listens [default port: 502, with TLS 802]
    #[arg(
        value_name = "HOST[:PORT]",
        required_unless_present = "serial",
        conflicts_with = "serial"
    )]
    host: Option<String>,
    /// A serial port instead
    #[arg(long, value_name = "PORT")]
    serial: Option<String>,
    /// Bits a second of the serial port
    #[arg(long, value_name = "N", requires = "serial")]
    baud: Option<u32>,
    /// Parity of the serial port: none, even, odd
    #[arg(long, value_name = "PARITY", requires = "serial")]
    parity: Option<String>,
    /// Stop bits of the serial port
    #[arg(long, value_name = "N", requires = "serial")]
    stop_bits: Option<u8>,
    /// RTU frames through a TCP port
    #[arg(long, conflicts_with = "serial")]
    rtu: bool,
    /// TLS: certificates of the authorities that vouch for the device
    #[arg(long, value_name = "FILE", requires_all = ["tls_certificate", "tls_key"], conflicts_with_all = ["serial", "rtu"])]
    tls_ca: Option<PathBuf>,
    /// Our certificate
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    tls_certificate: Option<PathBuf>,
    /// Its private key, mode 0600
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    tls_key: Option<PathBuf>,
    /// The name in the device's certificate [default: HOST]
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    server_name: Option<String>,
    /// The units to look for
    #[arg(long, value_name = "N[-N],…", default_value = "1-10", value_parser = units)]
    units: Units,
    /// Search these addresses, all of them, instead of where devices usually have something
    #[arg(long, value_name = "FIRST-LAST", value_parser = addresses)]
    range: Option<Range<u32>>,
    /// Most requests for each table of each unit
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    requests: u32,
    /// Milliseconds to wait for each answer
    #[arg(long, value_name = "MS", default_value_t = 500)]
    timeout_ms: u32,
    /// Milliseconds of silence before each request
    #[arg(long, value_name = "MS", default_value_t = 5)]
    delay_ms: u32,
    /// Write what was found as a device profile: ID.toml, best in plugins/profiles; of several units each
    /// gets its own, ID-unit-N.toml
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Unit ids.
type Units = std::sync::Arc<[u8]>;

fn units(text: &str) -> Result<Units, String> {
    let wrong = || format!("{text:?} is no list of units, as in 1-10,20; units are 0 to 255");
    let mut units = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u8 = first.trim().parse().map_err(|_| wrong())?;
        let last: u8 = last.trim().parse().map_err(|_| wrong())?;
        if first > last {
            return Err(wrong());
        }
        units.extend(first..=last);
    }
    Ok(units.into())
}

fn addresses(text: &str) -> Result<Range<u32>, String> {
    let ends = text.split_once('-').unwrap_or((text, text));
    match (ends.0.trim().parse::<u16>(), ends.1.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first.into()..u32::from(last) + 1),
        _ => Err(format!(
            "{text:?} is no range of addresses, as in 0-999; addresses are 0 to 65535"
        )),
    }
}

impl ModbusArgs {
    /// The keys of a device's `modbus = { … }` that say how it is reached.
    pub(super) fn reached(&self) -> toml::Table {
        let mut keys = toml::Table::new();
        let mut set = |key: &str, value: Option<toml::Value>| {
            keys.extend(value.map(|value| (key.to_owned(), value)));
        };
        set("address", self.address().map(toml::Value::String));
        set("framing", self.rtu.then(|| "rtu".into()));
        set("tls", self.tls());
        set("serial", self.serial.clone().map(Into::into));
        set("baud", self.baud.map(Into::into));
        set("parity", self.parity.clone().map(Into::into));
        set("stop_bits", self.stop_bits.map(|b| i64::from(b).into()));
        keys
    }

    fn tls(&self) -> Option<toml::Value> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        let keys = [
            ("ca", path(&self.tls_ca)),
            ("certificate", path(&self.tls_certificate)),
            ("key", path(&self.tls_key)),
            ("server_name", self.server_name.clone()),
        ];
        let given = keys
            .into_iter()
            .filter_map(|(key, text)| Some((key.to_owned(), text?.into())));
        let table: toml::Table = given.collect();
        (!table.is_empty()).then_some(toml::Value::Table(table))
    }

    fn address(&self) -> Option<String> {
        let host = self.host.as_deref()?;
        let port = if self.tls_ca.is_some() { 802 } else { 502 };
        let bare_v6 = host.matches(':').count() > 1 && !host.starts_with('[');
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Some(match (bare_v6, has_port) {
            (true, _) => format!("[{host}]:{port}"),
            (false, true) => host.to_owned(),
            (false, false) => format!("{host}:{port}"),
        })
    }

    fn config(&self) -> anyhow::Result<ModbusConfig> {
        let mut keys = self.reached();
        keys.insert("timeout_ms".to_owned(), self.timeout_ms.into());
        keys.insert("delay_ms".to_owned(), self.delay_ms.into());
        Ok(keys.try_into()?)
    }
}

/// What was found of one unit.
pub(super) struct Unit {
    pub id: u8,
    pub identification: Option<Identification>,
    pub tables: Vec<(Table, ReadableRanges)>,
    /// Of registers.
    pub guesses: Vec<(Table, Guess)>,
    /// What stood in registers from an address on, when they were read last.
    pub registers: Vec<(Table, u16, Vec<u16>)>,
}

pub(super) fn run(args: ModbusArgs) -> anyhow::Result<ExitCode> {
    let target = args.output.as_deref().map(Target::new).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime of the scan cannot start")?;
    let found = runtime.block_on(scan(&args))?;
    let written = match target {
        Some(target) => write(&target, &args.reached(), &found)?,
        None => Vec::new(),
    };
    let style = Style::stdout();
    match args.json {
        true => output::print_json(&report(&args, &found))?,
        false => output::print(&(text(&args, &found, style) + &next(&written, style)))?,
    }
    Ok(match found.is_empty() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Writes a profile of each unit; with each what its device says.
fn write(
    target: &Target,
    reached: &toml::Table,
    found: &[Unit],
) -> anyhow::Result<Vec<(Target, toml::Table)>> {
    let mut written = Vec::new();
    for unit in found {
        let target = match found {
            [_] => target.clone(),
            _ => target.unit(unit.id)?,
        };
        target.write(&profile(&target.id, reached, unit))?;
        written.push((target, device(reached, unit)));
    }
    Ok(written)
}

/// What was written, and what to do next.
fn next(written: &[(Target, toml::Table)], style: Style) -> String {
    let done = style.green("✓");
    let files = written.iter().map(|(target, _)| {
        format!(
            "{done} {}: types are guesses, compare them with the device's manual\n",
            target.shown()
        )
    });
    let mut out: String = files.collect();
    if let Some((target, keys)) = written.first() {
        out += &format!("\n{}", target.next(keys));
    }
    out
}

async fn scan(args: &ModbusArgs) -> anyhow::Result<Vec<Unit>> {
    let survey = Survey::new(args.config()?);
    survey.connect().await?;
    let bar = ProgressBar::new_spinner();
    if let Ok(template) = ProgressStyle::with_template("{spinner} {msg}, {pos} requests, {elapsed}")
    {
        bar.set_style(template);
    }
    let mut found = Vec::new();
    for &id in args.units.iter() {
        bar.set_message(format!("unit {id}"));
        bar.tick();
        let Some(identification) = survey.unit(id).await? else {
            continue;
        };
        let mut unit = Unit {
            id,
            identification,
            tables: Vec::new(),
            guesses: Vec::new(),
            registers: Vec::new(),
        };
        for table in TABLES {
            bar.set_message(format!("unit {id}, {table}s"));
            let budget = args.requests as usize;
            let within = args.range.clone();
            let ranges = survey
                .ranges(id, table, budget, within, || bar.inc(1))
                .await;
            match ranges {
                Ok(ranges) => unit.tables.push((table, ranges)),
                // It answered before: a table that silences a device is left out, the others go on.
                Err(error) => bar.suspend(|| eprintln!("unit {id}, {table}s: {error}")),
            }
        }
        bar.set_message(format!("unit {id}, values"));
        guess(&survey, &mut unit).await;
        found.push(unit);
    }
    bar.finish_and_clear();
    Ok(found)
}

/// Reads the registers twice, and guesses.
async fn guess(survey: &Survey, unit: &mut Unit) {
    let registers = unit.tables.iter().filter(|(table, _)| !table.is_bits());
    let mut left = MOST_READ;
    let mut ranges = Vec::new();
    for (table, found) in registers {
        for range in &found.ranges {
            let taken = range.len().min(left) as u32;
            left -= taken as usize;
            ranges.push((*table, range.start..range.start + taken));
        }
    }
    let mut readings = Vec::new();
    for round in 0..2 {
        if round == 1 {
            tokio::time::sleep(BETWEEN_READINGS).await;
        }
        for (table, range) in &ranges {
            // What cannot be read any more is left out of the guesses.
            let read = survey.read(unit.id, *table, range.clone()).await;
            readings.push(read.unwrap_or_default());
        }
    }
    let (before, after) = readings.split_at(ranges.len());
    for ((table, range), (before, after)) in ranges.iter().zip(before.iter().zip(after)) {
        if let Ok(first) = u16::try_from(range.start) {
            let found = guesses(first, before, after).into_iter();
            unit.guesses.extend(found.map(|guess| (*table, guess)));
            unit.registers.push((*table, first, after.clone()));
        }
    }
}

/// What the configuration calls a type.
pub(super) fn type_name(data: DataType) -> &'static str {
    match data {
        DataType::F32 => "f32",
        DataType::I16 => "i16",
        DataType::I32 => "i32",
        DataType::U32 => "u32",
        DataType::Text(_) => "text",
        _ => "u16",
    }
}

fn report(args: &ModbusArgs, found: &[Unit]) -> Json {
    let units = found.iter().map(|unit| {
        let tables = unit.tables.iter().map(|(table, found)| {
            let ranges = found.ranges.iter().map(|r| json!([r.start, r.end - 1]));
            json!({
                "table": table.to_string(),
                "exists": found.exists,
                "ranges": ranges.collect::<Vec<_>>(),
                "complete": found.complete,
                "requests": found.requests,
            })
        });
        let guesses = unit.guesses.iter().map(|(table, guess)| {
            json!({
                "table": table.to_string(),
                "address": guess.address,
                "type": type_name(guess.data),
                "registers": guess.data.width(),
                "word_order": order_name(guess.word_order),
                "value": guess.shown,
                "why": guess.why,
            })
        });
        let objects = unit.identification.as_ref().map(|identification| {
            let objects = identification.objects.iter();
            objects
                .map(
                    |(id, text)| json!({"id": id, "name": Identification::name(*id), "text": text}),
                )
                .collect::<Vec<_>>()
        });
        json!({
            "unit": unit.id,
            "identification": objects,
            "tables": tables.collect::<Vec<_>>(),
            "guesses": guesses.collect::<Vec<_>>(),
        })
    });
    let units: Vec<Json> = units.collect();
    json!({ "reached": args.reached(), "units": units })
}

fn order_name(order: WordOrder) -> &'static str {
    match order {
        WordOrder::Big => "big",
        WordOrder::Little => "little",
    }
}

fn text(args: &ModbusArgs, found: &[Unit], style: Style) -> String {
    if found.is_empty() {
        let units = args.units.len();
        return format!(
            "The address takes connections, but none of {units} units answered; try others with --units, \
             or a longer --timeout-ms.\n"
        );
    }
    let mut out = String::new();
    for unit in found {
        let who = match &unit.identification {
            Some(identification) => identification.to_string(),
            None => "does not say who it is".to_owned(),
        };
        out += &format!("{}: {who}\n", style.bold(&format!("unit {}", unit.id)));
        for (table, found) in &unit.tables {
            out += &format!("  {:<19}{}\n", format!("{table}s"), ranges_text(found));
        }
        if unit.guesses.is_empty() {
            continue;
        }
        let headings = [
            ("  register", Align::Left),
            ("address", Align::Right),
            ("type", Align::Left),
            ("value", Align::Right),
            ("because", Align::Left),
        ];
        let rows = unit.guesses.iter().take(MOST_SHOWN).map(|(table, guess)| {
            let kind = match guess.word_order {
                WordOrder::Little => format!("{}, low word first", type_name(guess.data)),
                WordOrder::Big => type_name(guess.data).to_owned(),
            };
            let place = format!("  {}", table.to_string().trim_end_matches(" register"));
            let address = guess.address.to_string();
            vec![
                place,
                address,
                kind,
                guess.shown.clone(),
                guess.why.to_owned(),
            ]
        });
        out += &output::table(style, &headings, &rows.collect::<Vec<_>>());
        let more = unit.guesses.len().saturating_sub(MOST_SHOWN);
        if more > 0 {
            out += &format!("  … and {more} more: --json and -o FILE have all of them\n");
        }
    }
    out
}

fn ranges_text(found: &ReadableRanges) -> String {
    if !found.exists {
        return "the device has no such table".to_owned();
    }
    let range = |r: &Range<u32>| match r.len() {
        1 => r.start.to_string(),
        _ => format!("{}-{}", r.start, r.end - 1),
    };
    let mut text: Vec<String> = found.ranges.iter().map(range).collect();
    if text.is_empty() {
        text.push("none found".to_owned());
    }
    let more = match found.complete {
        true => "",
        false => "; there may be more, see --requests and --range",
    };
    format!("{}{more}", text.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_addresses_are_read() {
        assert_eq!(units("1-3, 20").unwrap()[..], [1, 2, 3, 20]);
        assert_eq!(addresses("5-9").unwrap(), 5..10);
        assert_eq!(addresses("65535").unwrap(), 65_535..65_536);
        for wrong in ["", "3-1", "256", "a"] {
            assert!(units(wrong).is_err(), "{wrong}");
        }
        assert!(addresses("9-5").is_err());
    }

    #[test]
    fn what_the_command_line_says_is_how_the_device_is_reached() {
        use clap::Parser;

        #[derive(Parser)]
        struct Alone {
            #[command(flatten)]
            args: ModbusArgs,
        }
        for (line, reached) in [
            ("x 192.0.2.7", "address = \"192.0.2.7:502\"\n"),
            (
                "x plc:1502 --rtu",
                "address = \"plc:1502\"\nframing = \"rtu\"\n",
            ),
            ("x 2001:db8::7", "address = \"[2001:db8::7]:502\"\n"),
            (
                "x --serial /dev/ttyS1 --baud 9600 --parity none",
                "baud = 9600\nparity = \"none\"\nserial = \"/dev/ttyS1\"\n",
            ),
            (
                "x plc --tls-ca a --tls-certificate b --tls-key c",
                "address = \"plc:802\"\n\n[tls]\nca = \"a\"\ncertificate = \"b\"\nkey = \"c\"\n",
            ),
        ] {
            let args = Alone::try_parse_from(line.split(' ')).unwrap().args;
            assert_eq!(toml::to_string(&args.reached()).unwrap(), reached, "{line}");
            args.config().unwrap();
        }
    }

    #[test]
    fn ranges_are_said_as_people_say_them() {
        let found = ReadableRanges {
            ranges: vec![0..47, 100..101],
            complete: false,
            exists: true,
            requests: 3,
        };
        let said = ranges_text(&found);
        assert!(said.starts_with("0-46, 100; there may be more"), "{said}");
    }
}

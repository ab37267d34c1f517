//! `weighbridge replay`: a validator tried on history before it is trusted.
//!
//! Every row is judged as a device's batch would be, in order. A row's label uses that row and those
//! before it, never a later one: columns are typed and limits learned in Phase I, whose rows are all
//! labelled 0. Neither the row number nor the time is a signal; a time is only checked for going back.

mod dates;
mod profile;
mod summary;
mod table;

use crate::model::{BatchBuilder, Nanos, Quality, TagSpec, VerdictClass};
use crate::validation::{DeviceValidator, Judgement, Verdict};
use anyhow::{Context, Result, bail};
use csv::{StringRecord, Writer};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use profile::{Columns, Profile, Wanted, is_among};
use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use summary::{Summary, TagSummary};
use table::{Cell, Notation, read_row};

/// Rows of Phase I unless a profile or the caller says otherwise.
const PHASE1_ROWS: u32 = 400;

/// Rows that are looked at, at most, to see which columns are numbers.
const ROWS_LOOKED_AT: usize = 1000;

/// Try a validator on history
///
/// Reads a CSV file row by row, as if it came from a machine, and writes one row for every row:
/// row,label,verdict,reason. Label 1 means not accepted. Without a profile every numeric column is a
/// tag with the default charts, and a date column is the time.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weighbridge replay --csv pump.csv -o labels.csv
  weighbridge replay --csv pump.csv --ignore anomaly --ignore changepoint --phase1-rows 400 \\
      -o labels.csv
  weighbridge replay --csv robot.csv --delimiter ';' --decimal , --profile ur3.toml -o labels.csv")]
pub struct ReplayArgs {
    /// The history
    #[arg(long, value_name = "F")]
    pub csv: PathBuf,
    /// A TOML file with [validation] and [[tag]] tables; its tags are then the only ones
    #[arg(long, value_name = "P")]
    pub profile: Option<PathBuf>,
    /// The column with the time [default: the first one with dates]
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,
    /// A column that is no tag, for example a label; may be repeated
    #[arg(long, value_name = "COLUMN")]
    pub ignore: Vec<String>,
    /// Rows that limits are learned from [default: 400, or the profile's phase1_samples]
    #[arg(long, value_name = "N")]
    pub phase1_rows: Option<u32>,
    /// Judge every N rows; between two judgements the last one stands
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
    /// What separates columns: ; , | or tab [default: found out]
    #[arg(long, value_name = "C", value_parser = parse_delimiter)]
    pub delimiter: Option<u8>,
    /// Decimal mark: . or , [default: found out]
    #[arg(long, value_name = "C", value_parser = parse_decimal)]
    pub decimal: Option<char>,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the labels go
    #[arg(short, long, value_name = "OUT.csv")]
    pub output: PathBuf,
}

fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text {
        "tab" | "\\t" | "\t" => Ok(b'\t'),
        _ => match text.as_bytes() {
            [one] if one.is_ascii_punctuation() || *one == b' ' => Ok(*one),
            _ => Err("expected one character such as ; or , or the word tab".into()),
        },
    }
}

fn parse_decimal(text: &str) -> Result<char, String> {
    match text {
        "." => Ok('.'),
        "," => Ok(','),
        _ => Err("expected . or ,".into()),
    }
}

/// Runs `weighbridge replay`.
pub fn run(args: ReplayArgs) -> Result<ExitCode> {
    let summary = replay(&args)?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print!("{summary}");
    }
    Ok(ExitCode::SUCCESS)
}

fn replay(args: &ReplayArgs) -> Result<Summary> {
    refuse_overwriting(&args.csv, &args.output)?;
    let profile = args.profile.as_deref().map(Profile::read).transpose()?;
    let notation = Notation::detect(&args.csv, args.delimiter, args.decimal)?;
    if notation.decimal_comma && notation.delimiter == b',' {
        bail!(
            "the comma cannot both separate columns and be the decimal mark; give --delimiter or --decimal"
        );
    }
    let (mut reader, names) = notation.open(&args.csv)?;
    for name in args.ignore.iter().filter(|n| !is_among(n.trim(), &names)) {
        eprintln!("note: the CSV has no column {name:?} to ignore");
    }
    let mut device = profile.as_ref().and_then(|p| p.validation.clone());
    let set = device.as_ref().map(|d| d.phase1_samples);
    let phase1_rows = args.phase1_rows.or(set).unwrap_or(PHASE1_ROWS);
    let device = device.get_or_insert_default();
    device.phase1_samples = phase1_rows;

    let looked_at = (phase1_rows as usize).clamp(1, ROWS_LOOKED_AT);
    let mut first_rows = Vec::new();
    let mut row = StringRecord::new();
    while first_rows.len() < looked_at && read_row(&mut reader, &mut row)? {
        first_rows.push(std::mem::take(&mut row));
    }
    let wanted = Wanted {
        time: args.time.as_deref(),
        ignore: &args.ignore,
        profile: profile.as_ref(),
    };
    let mut columns = Columns::choose(&names, &first_rows, notation, &wanted)?;
    for settings in &mut columns.settings {
        // Phase I is counted in rows here, for all tags alike.
        settings.phase1_samples = None;
    }
    let tags: Arc<[TagSpec]> = columns.tags.iter().map(|(_, tag)| tag.clone()).collect();
    let validator = DeviceValidator::new(tags.clone(), device, &columns.settings, None)?;
    let mut labeller = Labeller::new(args, notation, columns, validator, phase1_rows)?;

    let progress = Progress::new(&args.csv);
    for row in &first_rows {
        labeller.row(row)?;
    }
    while read_row(&mut reader, &mut row)? {
        labeller.row(&row)?;
        progress.at(labeller.summary.rows, reader.position().byte());
    }
    progress.finish();
    labeller.finish()
}

/// Rows in, labels out.
struct Labeller {
    notation: Notation,
    columns: Columns,
    validator: DeviceValidator,
    builder: BatchBuilder,
    output: Writer<File>,
    phase1_rows: u64,
    batch: u64,
    /// Rows since the last judgement.
    waiting: u64,
    clock: Nanos,
    /// Class and reason of the last judgement.
    standing: (VerdictClass, String),
    summary: Summary,
}

impl Labeller {
    fn new(
        args: &ReplayArgs,
        notation: Notation,
        columns: Columns,
        validator: DeviceValidator,
        phase1_rows: u32,
    ) -> Result<Self> {
        let cannot = || format!("cannot write {}", args.output.display());
        let mut output = Writer::from_path(&args.output).with_context(cannot)?;
        output
            .write_record(["row", "label", "verdict", "reason"])
            .with_context(cannot)?;
        let summary = Summary {
            batch: u64::from(args.batch),
            time: columns.time.as_ref().map(|(_, name)| name.clone()),
            ignored: columns.ignored.clone(),
            tags: columns.tags.iter().map(tag_summary).collect(),
            ..Summary::default()
        };
        Ok(Self {
            notation,
            builder: BatchBuilder::scanning("replay".into(), validator.tags().clone()),
            columns,
            validator,
            output,
            phase1_rows: u64::from(phase1_rows),
            batch: u64::from(args.batch),
            waiting: 0,
            clock: 0,
            standing: (VerdictClass::Accepted, String::new()),
            summary,
        })
    }

    fn row(&mut self, row: &StringRecord) -> Result<()> {
        let number = self.summary.rows;
        self.scan(row, number);
        if number < self.phase1_rows {
            self.learn(number)
        } else {
            self.judge(number)
        }
    }

    /// Puts a row into the running batch.
    fn scan(&mut self, row: &StringRecord, number: u64) {
        self.clock = match &self.columns.time {
            None => Nanos::try_from(number)
                .unwrap_or(0)
                .saturating_mul(1_000_000_000),
            Some((column, _)) => match row.get(*column).and_then(dates::parse_time) {
                Some(time) => time,
                None => {
                    self.summary.rows_without_time += 1;
                    self.clock
                }
            },
        };
        self.builder.begin_scan(self.clock);
        for (tag, (column, _)) in self.columns.tags.iter().enumerate() {
            match self.notation.cell(row, *column) {
                Cell::Number(number) => self.builder.scan_f64(tag, number),
                Cell::Missing | Cell::Text => {
                    self.summary.cells_without_value += 1;
                    self.builder.scan_missing(tag, Quality::BAD_NO_DATA);
                }
            }
        }
    }

    /// A row of Phase I: it teaches, and is accepted whatever it is. Each is a batch of its own, so
    /// that an impossible one is left out alone.
    fn learn(&mut self, number: u64) -> Result<()> {
        let reason = match self.judge_batch() {
            Some(verdict) if verdict.class == VerdictClass::Invalid => {
                format!("Phase I, not learned from: {}", sentence(&verdict, number))
            }
            _ => "Phase I".to_string(),
        };
        self.summary.phase1_rows += 1;
        self.write(number, VerdictClass::Accepted, &reason)?;
        if number + 1 == self.phase1_rows {
            self.validator.finish_phase1();
        }
        Ok(())
    }

    fn judge(&mut self, number: u64) -> Result<()> {
        self.waiting += 1;
        if self.waiting == self.batch {
            self.waiting = 0;
            if let Some(verdict) = self.judge_batch() {
                self.summary.count_findings(&verdict);
                let first_row = number + 1 - self.batch;
                self.standing = (verdict.class, sentence(&verdict, first_row));
            }
        }
        let (class, reason) = self.standing.clone();
        self.write(number, class, &reason)
    }

    fn judge_batch(&mut self) -> Option<Verdict> {
        let batch = self.builder.take(1, 1)?;
        let Judgement { verdict, .. } = self.validator.judge(&batch);
        Some(verdict)
    }

    fn write(&mut self, row: u64, class: VerdictClass, reason: &str) -> Result<()> {
        self.summary.count_row(class);
        let label = if class == VerdictClass::Accepted {
            "0"
        } else {
            "1"
        };
        let row = row.to_string();
        self.output
            .write_record([row.as_str(), label, class.name(), reason])
            .context("cannot write the labels")
    }

    fn finish(mut self) -> Result<Summary> {
        self.output.flush().context("cannot write the labels")?;
        self.summary.set_limits(self.validator.limits());
        Ok(self.summary)
    }
}

fn tag_summary((_, tag): &(usize, TagSpec)) -> TagSummary {
    TagSummary {
        name: tag.name.to_string(),
        ..TagSummary::default()
    }
}

/// The first finding of a batch that began at `first_row`, with its row and column; empty when there
/// is none.
fn sentence(verdict: &Verdict, first_row: u64) -> String {
    let Some(finding) = verdict.findings.first() else {
        return String::new();
    };
    let place = format!(
        "row {} of {}",
        first_row + u64::from(finding.sample),
        finding.name
    );
    let others = verdict.findings.len() - 1 + verdict.unlisted as usize;
    match others {
        0 => finding.sentence(&place),
        n => format!("{}; and {n} more", finding.sentence(&place)),
    }
}

/// A bar on a terminal, once a replay takes longer than a second.
struct Progress {
    bar: ProgressBar,
    began: Instant,
    shown: std::cell::Cell<bool>,
}

impl Progress {
    fn new(csv: &std::path::Path) -> Self {
        let bytes = std::fs::metadata(csv).map_or(0, |m| m.len());
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::hidden());
        if let Ok(style) =
            ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}  {eta} left")
        {
            bar.set_style(style);
        }
        Self {
            bar,
            began: Instant::now(),
            shown: std::cell::Cell::new(!std::io::stderr().is_terminal()),
        }
    }

    fn at(&self, rows: u64, byte: u64) {
        if !rows.is_multiple_of(1024) {
            return;
        }
        if !self.shown.get() && self.began.elapsed() > Duration::from_secs(1) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.shown.set(true);
        }
        self.bar.set_position(byte);
        self.bar.set_message(format!("{rows} rows"));
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests;

/// The labels must not take the place of the data.
fn refuse_overwriting(input: &Path, output: &Path) -> Result<()> {
    let same = match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(output)) => input == output,
        // An output that is not there yet cannot be the input.
        _ => false,
    };
    if same {
        anyhow::bail!(
            "{} is the input; give another file for the labels",
            output.display()
        );
    }
    Ok(())
}

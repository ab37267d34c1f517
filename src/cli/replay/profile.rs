//! Which columns are tags, which one is the time, and how they are judged: from a profile, or by
//! looking at the rows of Phase I.

use super::dates::parse_date;
use super::table::{Cell, Notation};
use crate::cli::output::Style;
use crate::config::{self, TagConfig};
use crate::model::{TagSpec, ValueKind};
use crate::validation::{TagValidation, ValidationConfig};
use anyhow::{Result, anyhow, bail};
use csv::StringRecord;
use std::path::Path;

/// Share of a column's filled cells that must be numbers (or dates) for it to be one.
const ENOUGH: f64 = 0.9;

/// A profile, as far as history is concerned: tags are columns, wherever they are in a machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Profile {
    /// Settings for all tags.
    pub validation: Option<ValidationConfig>,
    /// The tags; the columns that are none of them are ignored.
    pub tags: Vec<TagConfig>,
}

impl Profile {
    pub fn read(path: &Path) -> Result<Self> {
        let read = config::profile::Profile::load(path).map_err(|found| {
            let colour = Style::stderr().colour;
            let found: String = found.iter().map(|d| d.render(colour)).collect();
            anyhow!("profile {} is not valid\n{found}", path.display())
        })?;
        Ok(Self {
            // At its defaults it says nothing.
            validation: Some(read.device.validation).filter(|v| *v != Default::default()),
            tags: read.device.tags,
        })
    }
}

/// The columns of a file and what they are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Columns {
    /// Column and name of the time, if there is one.
    pub time: Option<(usize, String)>,
    /// Column of each tag.
    pub tags: Vec<(usize, TagSpec)>,
    /// Settings of each tag.
    pub settings: Vec<TagValidation>,
    /// Columns that are neither.
    pub ignored: Vec<String>,
}

/// What the caller says of the columns.
pub(super) struct Wanted<'a> {
    pub time: Option<&'a str>,
    pub ignore: &'a [String],
    pub profile: Option<&'a Profile>,
}

impl Columns {
    /// Decides by name where a name is given, else by what stands in the `rows` of Phase I; later
    /// rows are not looked at, so that no label depends on rows after its own.
    pub fn choose(
        names: &[String],
        rows: &[StringRecord],
        notation: Notation,
        wanted: &Wanted<'_>,
    ) -> Result<Self> {
        let ignored = |i: usize| names.get(i).is_some_and(|n| is_among(n, wanted.ignore));
        let time = match wanted.time {
            Some(name) => Some(find(names, name, "time")?),
            None => (0..names.len()).find(|i| !ignored(*i) && is_date(rows, *i)),
        };
        let mut tags = Vec::new();
        let mut settings = Vec::new();
        match wanted.profile.filter(|p| !p.tags.is_empty()) {
            Some(profile) => {
                for tag in &profile.tags {
                    tags.push((find(names, &tag.name, "tag")?, spec(tag)));
                    settings.push(tag.validation.clone());
                }
            }
            None => {
                for (i, name) in names.iter().enumerate() {
                    if Some(i) != time && !ignored(i) && is_numeric(rows, i, notation) {
                        tags.push((i, named(name)));
                        settings.push(TagValidation::default());
                    }
                }
            }
        }
        if tags.is_empty() {
            bail!(
                "no column of the CSV has numbers (columns: {}); if they are there, give --delimiter and --decimal",
                names.join(", ")
            );
        }
        let is_used = |i: &usize| Some(*i) == time || tags.iter().any(|(c, _)| c == i);
        let unused = (0..names.len()).filter(|i| !is_used(i));
        let ignored = unused.filter_map(|i| names.get(i).cloned()).collect();
        Ok(Self {
            time: time.and_then(|i| Some((i, names.get(i)?.clone()))),
            tags,
            settings,
            ignored,
        })
    }
}

fn spec(tag: &TagConfig) -> TagSpec {
    TagSpec {
        unit: tag.unit.clone(),
        range: tag.range.map(|range| range.bounds()),
        ..named(&tag.name)
    }
}

fn named(name: &str) -> TagSpec {
    TagSpec {
        writable: false,
        name: name.into(),
        kind: ValueKind::F64,
        unit: String::new(),
        description: String::new(),
        range: None,
    }
}

pub(super) fn is_among(name: &str, list: &[String]) -> bool {
    list.iter().any(|x| x.trim() == name)
}

fn find(names: &[String], wanted: &str, what: &str) -> Result<usize> {
    if let Some(i) = names.iter().position(|n| n == wanted.trim()) {
        return Ok(i);
    }
    let near = names
        .iter()
        .min_by_key(|n| strsim::damerau_levenshtein(n, wanted))
        .map_or_else(String::new, |n| format!("; the nearest name is {n:?}"));
    bail!("the CSV has no column {wanted:?}, which is to be a {what}{near}")
}

fn is_date(rows: &[StringRecord], column: usize) -> bool {
    let cells = rows.iter().filter_map(|r| r.get(column));
    enough(
        cells
            .filter(|c| !c.trim().is_empty())
            .map(|c| parse_date(c).is_some()),
    )
}

fn is_numeric(rows: &[StringRecord], column: usize, notation: Notation) -> bool {
    let cells = rows.iter().map(|r| notation.cell(r, column));
    enough(
        cells
            .filter(|c| *c != Cell::Missing)
            .map(|c| matches!(c, Cell::Number(_))),
    )
}

fn enough(fits: impl Iterator<Item = bool>) -> bool {
    let (mut all, mut fitting) = (0u32, 0u32);
    for fit in fits {
        all += 1;
        fitting += u32::from(fit);
    }
    all > 0 && f64::from(fitting) >= ENOUGH * f64::from(all)
}

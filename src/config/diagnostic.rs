//! What is wrong with a configuration, as rustc would say it: file, line, column, the line itself
//! with the place underlined, what was expected, and what to do.

use serde::Serialize;
use std::fmt::{self, Write as _};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The hub does not start with it.
    Error,
    /// The hub starts, but this is likely not what was meant.
    Warning,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters are meant, at least 1; it ends with the line.
    pub width: usize,
    /// The line, without its end.
    pub source: String,
}

/// Another place that belongs to a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// Name of the file.
    pub file: String,
    /// Where in it.
    pub place: Place,
    /// What is there.
    pub label: String,
}

/// One mistake, or one thing that looks like one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Name of the file as it was given.
    pub file: String,
    /// Where; `None` when the file as a whole is meant.
    pub place: Option<Place>,
    /// What was expected at that place; may be empty.
    pub label: String,
    /// Other places that belong to it.
    pub related: Vec<Related>,
    /// The valid key or value that was likely meant.
    pub suggestion: Option<String>,
    /// What to do.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// A diagnostic that has no place yet.
    pub fn new(severity: Severity, file: &str, message: impl Into<String>) -> Self {
        Self {
            severity,
            message: message.into(),
            file: file.to_owned(),
            place: None,
            label: String::new(),
            related: Vec::new(),
            suggestion: None,
            help: Vec::new(),
        }
    }

    /// Line and column; what has none comes first.
    pub fn position(&self) -> Option<(usize, usize)> {
        self.place.as_ref().map(|p| (p.line, p.column))
    }

    /// The text for people; with `colour` for a terminal that shows colours.
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut out, Paint { colour });
        out
    }

    fn write(&self, out: &mut String, paint: Paint) -> fmt::Result {
        let (name, style) = match self.severity {
            Severity::Error => ("error", RED),
            Severity::Warning => ("warning", YELLOW),
        };
        let head = paint.with(style, name);
        writeln!(out, "{head}: {}", paint.with(BOLD, &self.message))?;
        let lines = self.related.iter().map(|r| r.place.line);
        let widest = lines.chain(self.place.iter().map(|p| p.line)).max();
        let gutter = widest.unwrap_or(0).to_string().len();
        let (arrow, bar, equals) = (
            paint.with(BLUE, "-->"),
            paint.with(BLUE, "|"),
            paint.with(BLUE, "="),
        );
        match &self.place {
            None => writeln!(out, "{:gutter$}{arrow} {}", "", self.file)?,
            Some(place) => {
                let (line, column) = (place.line, place.column);
                writeln!(out, "{:gutter$}{arrow} {}:{line}:{column}", "", self.file)?;
                write_place(out, paint, gutter, place, &self.label, style, '^')?;
            }
        }
        for related in &self.related {
            let (line, column) = (related.place.line, related.place.column);
            let colons = paint.with(BLUE, ":::");
            writeln!(
                out,
                "{:gutter$}{colons} {}:{line}:{column}",
                "", related.file
            )?;
            write_place(
                out,
                paint,
                gutter,
                &related.place,
                &related.label,
                BLUE,
                '-',
            )?;
        }
        if self.place.is_some() && !self.help.is_empty() {
            writeln!(out, "{:gutter$} {bar}", "")?;
        }
        for help in &self.help {
            let word = paint.with(BOLD, "help");
            writeln!(out, "{:gutter$} {equals} {word}: {help}", "")?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

fn write_place(
    out: &mut String,
    paint: Paint,
    gutter: usize,
    place: &Place,
    label: &str,
    style: &'static str,
    mark: char,
) -> fmt::Result {
    let bar = paint.with(BLUE, "|");
    let number = paint.with(BLUE, &format!("{:gutter$}", place.line));
    // A tab is as wide as the terminal likes; spaces keep the underlining in place.
    let source = place.source.replace('\t', "    ");
    let before = place.source.chars().take(place.column.saturating_sub(1));
    let indent: usize = before.map(|c| if c == '\t' { 4 } else { 1 }).sum();
    let marks: String = std::iter::repeat_n(mark, place.width.max(1)).collect();
    let marks = paint.with(style, format!("{marks} {label}").trim_end());
    writeln!(out, "{:gutter$} {bar}", "")?;
    writeln!(out, "{number} {bar} {source}")?;
    writeln!(out, "{:gutter$} {bar} {:indent$}{marks}", "", "")
}

const RED: &str = "1;31";
const YELLOW: &str = "1;33";
const BLUE: &str = "1;34";
const BOLD: &str = "1";

#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn with(self, style: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Sources;

    #[test]
    fn columns_are_characters_and_tabs_do_not_shift_the_caret() {
        let text = "# °C\n\tname = \"Größe\" # x\nlast";
        let source = Sources::new("f.toml", text);
        let at = text.find('#').unwrap();
        assert_eq!(source.place(&(at..at + 1)).line, 1);
        let at = text.find("\"Gr").unwrap();
        let place = source.place(&(at..at + "\"Größe\"".len()));
        assert_eq!((place.line, place.column, place.width), (2, 9, 7));
        let mut d = Diagnostic::new(Severity::Error, "f.toml", "no");
        d.place = Some(place);
        d.label = "here".into();
        let text = d.render(false);
        let caret = text.lines().find(|l| l.contains('^')).unwrap();
        let line = text.lines().find(|l| l.contains("Größe")).unwrap();
        let at = |l: &str, c: char| l.chars().position(|x| x == c).unwrap();
        assert_eq!(at(caret, '^'), at(line, '"'));
    }

    #[test]
    fn a_span_past_the_end_or_inside_a_character_is_survived() {
        let source = Sources::new("f", "a = \"°");
        for start in 0..12 {
            for end in start..14 {
                let place = source.place(&(start..end));
                assert_eq!(place.line, 1);
                assert!(place.width >= 1);
            }
        }
    }

    #[test]
    fn colours_only_when_asked_for() {
        let d = Diagnostic::new(Severity::Warning, "f", "m");
        assert!(!d.render(false).contains('\x1b'));
        assert!(d.render(true).contains('\x1b'));
    }
}

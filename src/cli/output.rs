//! What is printed, and how: colours only on a terminal that wants them, tables for people, JSON for
//! programs, and a closed pipe is no error.

use serde_json::Value as Json;
use std::io::{IsTerminal, Write};

/// Colours of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) colour: bool,
}

impl Style {
    /// For standard output.
    pub(super) fn stdout() -> Self {
        Self::new(std::io::stdout().is_terminal())
    }

    /// For standard error.
    pub(super) fn stderr() -> Self {
        Self::new(std::io::stderr().is_terminal())
    }

    fn new(terminal: bool) -> Self {
        // https://no-color.org: any value but the empty one.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        Self {
            colour: terminal && !refused && !dumb,
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Prints to standard output. Whoever closes the pipe early (`| head`) has read enough.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints one JSON value and a line end; indented on a terminal, on one line for programs.
pub(super) fn print_json(json: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = if std::io::stdout().is_terminal() {
        serde_json::to_string_pretty(json)?
    } else {
        serde_json::to_string(json)?
    };
    text.push('\n');
    print(&text)
}

/// Which end of its column a cell is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A table for people: a line of headings, then the rows, columns as wide as they must be.
pub(super) fn table(style: Style, headings: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let heading = headings.get(column).map_or(0, |h| h.0.chars().count());
        cells
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
            .max(heading)
    };
    let widths: Vec<_> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, ((_, align), width)) in cells.zip(headings.iter().zip(&widths)) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            match align {
                Align::Left => line.push_str(&format!("{cell:width$}")),
                Align::Right => line.push_str(&format!("{cell:>width$}")),
            }
        }
        line.trim_end().to_owned()
    };
    let mut out = style.bold(&line(&mut headings.iter().map(|h| h.0)));
    out.push('\n');
    for row in rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
        out.push('\n');
    }
    out
}

/// A field of a JSON object as a cell: texts as they are, nothing for `null`.
pub(super) fn cell(json: &Json, pointer: &str) -> String {
    match json.pointer(pointer) {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(Json::Array(items)) => {
            let texts = items.iter().map(|i| cell(i, ""));
            texts.collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// The beginning of a hash, for people.
pub(super) fn short(hash: &str) -> String {
    hash.chars().take(16).collect()
}

/// A number of bytes for people.
pub(super) fn bytes(count: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut count = count.max(0.0);
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or("B");
    for next in units {
        if count < 1024.0 {
            break;
        }
        count /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{count:.0} B")
    } else {
        format!("{count:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let headings = [("n", Align::Right), ("name", Align::Left)];
        let rows = [
            vec!["7".to_owned(), "Größe".to_owned()],
            vec!["100".to_owned(), "x".to_owned()],
        ];
        let text = table(Style { colour: false }, &headings, &rows);
        assert_eq!(text, "  n  name\n  7  Größe\n100  x\n");
    }

    #[test]
    fn cells_of_every_kind() {
        let json = json!({"a": null, "b": "t", "c": 5, "d": ["x", "y"], "e": {"f": true}});
        let cells = ["/a", "/b", "/c", "/d", "/e/f", "/none"].map(|p| cell(&json, p));
        assert_eq!(cells, ["", "t", "5", "x, y", "true", ""]);
    }

    #[test]
    fn bytes_for_people() {
        let texts = [0.0, 1023.0, 1536.0, 5e9].map(bytes);
        assert_eq!(texts, ["0 B", "1023 B", "1.5 KiB", "4.7 GiB"]);
    }
}

//! The files that were read, and where in them a byte is.
//!
//! They lie end to end in one row of numbers, so that a span in a tree that was put together from
//! several files still says which file it is from.

use super::diagnostic::{Diagnostic, Place, Related, Severity};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::Range;

/// A span: bytes, counted through all files.
pub(super) type Span = Range<usize>;

pub(super) struct Sources<'a> {
    files: Vec<File<'a>>,
}

struct File<'a> {
    name: String,
    text: Cow<'a, str>,
    base: usize,
    /// Where its lines begin.
    lines: OnceCell<Vec<usize>>,
}

impl<'a> File<'a> {
    fn end(&self) -> usize {
        self.base + self.text.len()
    }

    /// The nearest boundary between characters at or before `at`, from the file's beginning.
    fn boundary(&self, at: usize) -> usize {
        let at = at.saturating_sub(self.base).min(self.text.len());
        let mut before = (0..=at).rev();
        before.find(|i| self.text.is_char_boundary(*i)).unwrap_or(0)
    }

    fn place(&self, span: &Span) -> Place {
        let start = self.boundary(span.start);
        let end = self.boundary(span.end).max(start);
        let lines = self.lines.get_or_init(|| {
            let ends = self.text.match_indices('\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(ends).collect()
        });
        let line = lines.partition_point(|begin| *begin <= start).max(1);
        let line_start = lines.get(line - 1).copied().unwrap_or(0);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let source = rest.lines().next().unwrap_or_default();
        let line_end = line_start + source.len();
        let count = |range: Span| self.text.get(range).map_or(0, |t| t.chars().count());
        Place {
            line,
            column: count(line_start..start) + 1,
            width: count(start..end.min(line_end).max(start)).max(1),
            source: source.to_owned(),
        }
    }
}

impl<'a> Sources<'a> {
    /// The file that reading begins with.
    pub fn new(name: &str, text: &'a str) -> Self {
        let mut this = Self { files: Vec::new() };
        this.add(name, Cow::Borrowed(text));
        this
    }

    /// One more file; where it begins.
    pub fn add(&mut self, name: &str, text: Cow<'a, str>) -> usize {
        // A byte in between, so that the end of one file is not the beginning of the next.
        let base = self.files.last().map_or(0, |file| file.end() + 1);
        self.files.push(File {
            name: name.to_owned(),
            text,
            base,
            lines: OnceCell::new(),
        });
        base
    }

    fn file(&self, at: usize) -> &File<'a> {
        let after = self.files.partition_point(|file| file.base <= at);
        &self.files[after.saturating_sub(1)]
    }

    /// Name of the file that reading began with.
    pub fn first_name(&self) -> &str {
        &self.files[0].name
    }

    /// Whether a span is in the file that reading began with.
    pub fn in_first(&self, span: &Span) -> bool {
        span.start <= self.files[0].end()
    }

    /// What stands there.
    pub fn text(&self, span: &Span) -> &str {
        let file = self.file(span.start);
        let local = span.start - file.base..span.end.saturating_sub(file.base);
        file.text.get(local).unwrap_or_default()
    }

    /// The part of `span` that reads `text`, where there is one.
    pub fn narrow(&self, span: &Span, text: &str) -> Span {
        match self.text(span).find(text) {
            Some(at) => span.start + at..span.start + at + text.len(),
            None => span.clone(),
        }
    }

    /// Where a header stands with single brackets that stands at `span` with double ones, and the
    /// header.
    pub fn single_header(&self, span: &Span) -> Option<(Span, String)> {
        let file = self.file(span.start);
        let at = file.boundary(span.start);
        let before = file.text.get(..at)?;
        let begin = before.rfind('\n').map_or(0, |i| i + 1);
        let line = file.text.get(begin..)?.lines().next()?.trim();
        let header = line.strip_prefix("[[")?.split("]]").next()?.trim();
        let single = format!("[{header}]");
        let mut offset = 0;
        for line in before.split_inclusive('\n') {
            let indent = line.len() - line.trim_start().len();
            if line.trim_start().starts_with(&single) {
                let start = file.base + offset + indent;
                return Some((start..start + single.len(), header.to_owned()));
            }
            offset += line.len();
        }
        None
    }

    /// The last bracket of the line before that is not closed, where `span` begins a line: a parser
    /// notices what is missing only at what comes instead.
    pub fn unclosed_before(&self, span: &Span) -> Option<(Span, char)> {
        let file = self.file(span.start);
        let before = file.text.get(..file.boundary(span.start))?;
        let (above, own) = before.rsplit_once('\n')?;
        let above = above.trim_end();
        if !own.trim().is_empty() {
            return None;
        }
        let begin = above.rfind('\n').map_or(0, |i| i + 1);
        let line = above.get(begin..)?;
        // A header is closed by its line.
        let value = line.find('=')?;
        let (mut open, mut quote) = (Vec::new(), None);
        for (at, c) in line.char_indices().skip_while(|(at, _)| *at < value) {
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(c),
                (None, '#') => break,
                (None, '[' | '{') => open.push((at, c)),
                (None, ']' | '}') => drop(open.pop()),
                (None, _) => {}
            }
        }
        let (at, bracket) = open.pop()?;
        let start = file.base + begin + at;
        Some((start..start + 1, bracket))
    }

    /// The place of a span; of its first line, where it spans several.
    #[cfg(test)]
    pub fn place(&self, span: &Span) -> Place {
        self.file(span.start).place(span)
    }

    /// Another place that belongs to a diagnostic.
    pub fn related(&self, span: &Span, label: impl Into<String>) -> Related {
        let file = self.file(span.start);
        Related {
            file: file.name.clone(),
            place: file.place(span),
            label: label.into(),
        }
    }

    /// A diagnostic about a span.
    pub fn diagnostic(
        &self,
        severity: Severity,
        span: &Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Diagnostic {
        let file = self.file(span.start);
        let mut diagnostic = Diagnostic::new(severity, &file.name, message);
        diagnostic.place = Some(file.place(span));
        diagnostic.label = label.into();
        diagnostic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_says_which_file_it_is_from() {
        let mut sources = Sources::new("a.toml", "x = 1\n");
        let base = sources.add("b.toml", "y = 2\nz = \"{q}\"\n".into());
        let other = sources.add("c.toml", Cow::Borrowed(""));
        let z = base + 6..base + 7;
        assert_eq!(sources.text(&z), "z");
        assert!(!sources.in_first(&z) && sources.in_first(&(0..1)));
        let d = sources.diagnostic(Severity::Error, &z, "m", "l");
        assert_eq!((d.file.as_str(), d.position()), ("b.toml", Some((2, 1))));
        let at_end = sources.related(&(other..other), "");
        assert_eq!(at_end.file, "c.toml");
        let value = base + 10..base + 15;
        assert_eq!(sources.text(&sources.narrow(&value, "q")), "q");
    }
}

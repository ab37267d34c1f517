//! From text to a configuration, with all that is wrong on the way.

use super::diagnostic::{Diagnostic, Severity, SourceText};
use super::explain::Fault;
use super::tree::{self, Removed};
use super::{HubConfig, Loaded, check};
use serde::Deserialize;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

/// After so many mistakes the rest is not looked for.
const MAX_MISTAKES: usize = 100;

pub(super) fn read(text: &str, name: &str) -> Result<Loaded, Vec<Diagnostic>> {
    let source = SourceText { name, text };
    let (mut root, errors) = DeTable::parse_recoverable(text);
    let mut reading = Reading::default();
    let config = reading.deserialize(&mut root);
    if let Some(error) = errors.first() {
        return Err(not_toml(&source, error, &reading.mistakes));
    }
    let mut found: Vec<_> = reading
        .mistakes
        .iter()
        .map(|m| m.diagnostic(&source))
        .collect();
    if let Some(config) = &config {
        let looked_at = check::Input {
            source: &source,
            root: &root,
            removed: &reading.removed,
        };
        found.extend(check::check(config, &looked_at));
    }
    found.sort_by_key(Diagnostic::position);
    match config {
        Some(config) if found.iter().all(|d| d.severity == Severity::Warning) => Ok(Loaded {
            config,
            warnings: found,
        }),
        _ => Err(found),
    }
}

/// One mistake, and where it is.
struct Mistake {
    fault: Fault,
    span: Range<usize>,
    /// The entry it is about, where that is known.
    key: Option<String>,
}

impl Mistake {
    fn diagnostic(&self, source: &SourceText<'_>) -> Diagnostic {
        self.fault
            .diagnostic(source, &self.span, self.key.as_deref())
    }
}

#[derive(Default)]
struct Reading {
    mistakes: Vec<Mistake>,
    removed: Vec<Removed>,
}

impl Reading {
    /// Deserializes; each mistake is noted, taken out of `root`, and the rest tried again.
    fn deserialize(&mut self, root: &mut Spanned<DeTable<'_>>) -> Option<HubConfig> {
        // Bounded: every round either ends or makes the tree smaller.
        while self.mistakes.len() < MAX_MISTAKES {
            let error = match HubConfig::deserialize(Deserializer::from(root.clone())) {
                Ok(config) => return Some(config),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(0..0);
            let fault = Fault::new(error.message());
            let taken = tree::remove(root, &span);
            let meant = fault.meant();
            if !follows_from(&fault, &span, &self.removed) {
                let key = taken.as_ref().map(|t| t.key.clone());
                self.mistakes.push(Mistake { fault, span, key });
            }
            let mut taken = taken?;
            if let Some(meant) = meant {
                taken.key = meant;
            }
            self.removed.push(taken);
        }
        None
    }
}

/// Whether it is a mistake only because something wrong was taken out before: a key is missing, or
/// a table no longer makes sense as a whole.
fn follows_from(fault: &Fault, span: &Range<usize>, removed: &[Removed]) -> bool {
    let mut here = removed.iter().filter(|r| r.table == *span);
    match fault {
        Fault::Missing { key } => here.any(|r| r.key == *key),
        Fault::Other(_) => here.next().is_some(),
        _ => false,
    }
}

/// The first error of syntax: those after it are mostly its consequences. With it come misspelt keys
/// that stand before it, since `[[device.tga]]` makes a later `[[device.tag]]` a contradiction.
fn not_toml(
    source: &SourceText<'_>,
    error: &toml::de::Error,
    mistakes: &[Mistake],
) -> Vec<Diagnostic> {
    let span = error.span().unwrap_or(0..0);
    let before = mistakes
        .iter()
        .filter(|m| m.span.end <= span.start && m.fault.meant().is_some());
    let mut found: Vec<_> = before.map(|m| m.diagnostic(source)).collect();
    found.sort_by_key(Diagnostic::position);
    found.push(if error.message() == "duplicate key" {
        let key = source.text.get(span.clone()).unwrap_or_default();
        let message = format!("`{key}` is there twice");
        let mut d = source.diagnostic(Severity::Error, &span, message, "again here");
        d.help.push(
            "a list has double brackets at every entry: `[[device]]`, `[[device.tag]]`".into(),
        );
        d
    } else {
        let mut d = source.diagnostic(Severity::Error, &span, "this is not TOML", error.message());
        d.help
            .push("a line is `key = value`, `[section]`, `[[device]]` or `# a comment`".into());
        d
    });
    found
}

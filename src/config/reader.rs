//! From text to a configuration, with all that is wrong on the way.

use super::diagnostic::{Diagnostic, Severity, SourceText};
use super::explain::Fault;
use super::tree::{self, Removed};
use super::{HubConfig, Loaded, check};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

/// After so many mistakes the rest is not looked for.
const MAX_MISTAKES: usize = 100;

pub(super) fn read(text: &str, name: &str) -> Result<Loaded, Vec<Diagnostic>> {
    let source = SourceText { name, text };
    let mut root = DeTable::parse(text).map_err(|e| vec![syntax(&source, &e)])?;
    let mut found = Vec::new();
    let mut removed = Vec::new();
    let config = deserialize(&source, &mut root, &mut found, &mut removed);
    if let Some(config) = &config {
        let looked_at = check::Input {
            source: &source,
            root: &root,
            removed: &removed,
        };
        found.extend(check::check(config, &looked_at));
    }
    found.sort_by_key(|d| d.place.as_ref().map(|p| (p.line, p.column)));
    match config {
        Some(config) if found.iter().all(|d| d.severity == Severity::Warning) => Ok(Loaded {
            config,
            warnings: found,
        }),
        _ => Err(found),
    }
}

/// Deserializes; each mistake is noted, taken out of `root`, and the rest tried again.
fn deserialize(
    source: &SourceText<'_>,
    root: &mut Spanned<DeTable<'_>>,
    found: &mut Vec<Diagnostic>,
    removed: &mut Vec<Removed>,
) -> Option<HubConfig> {
    // Bounded: every round either ends or makes the tree smaller.
    while found.len() < MAX_MISTAKES {
        let error = match HubConfig::deserialize(Deserializer::from(root.clone())) {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let fault = Fault::new(error.message());
        let taken = tree::remove(root, &span);
        let key = taken.as_ref().map(|t| t.key.as_str());
        if !follows_from(&fault, &span, removed) {
            found.push(fault.diagnostic(source, &span, key));
        }
        let mut taken = taken?;
        if let Some(meant) = fault.meant() {
            taken.key = meant;
        }
        removed.push(taken);
    }
    None
}

/// Whether it is a mistake only because something wrong was taken out before: a key is missing, or
/// a table no longer makes sense as a whole.
fn follows_from(fault: &Fault, span: &std::ops::Range<usize>, removed: &[Removed]) -> bool {
    let mut here = removed.iter().filter(|r| r.table == *span);
    match fault {
        Fault::Missing { key } => here.any(|r| r.key == *key),
        Fault::Other(_) => here.next().is_some(),
        _ => false,
    }
}

fn syntax(source: &SourceText<'_>, error: &toml::de::Error) -> Diagnostic {
    let span = error.span().unwrap_or(0..0);
    let mut d = source.diagnostic(Severity::Error, &span, "this is not TOML", error.message());
    d.help
        .push("a line is `key = value`, `[section]`, `[[device]]` or `# a comment`".to_owned());
    d
}

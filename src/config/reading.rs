//! Turns a table into what it describes; every mistake is noted, taken out, and the rest tried again.

use super::explain::{AlsoKnown, Fault};
use super::mistake::Mistake;
use super::source::Span;
use super::tree::{self, Node, Removed, Value};
use serde::de::DeserializeOwned;

/// After so many mistakes the rest is not looked for.
pub const MAX_MISTAKES: usize = 100;

/// What was found while reading.
#[derive(Default)]
pub struct Reading {
    pub mistakes: Vec<Mistake>,
    pub removed: Vec<Removed>,
}

impl Reading {
    /// Whether there are so many mistakes that looking for more helps nobody.
    pub fn is_full(&self) -> bool {
        self.mistakes.len() >= MAX_MISTAKES
    }

    /// Reads one table. `more` are keys that are known besides those of `T`.
    pub fn table<T: DeserializeOwned>(
        &mut self,
        table: &mut Node<'_>,
        more: &AlsoKnown<'_>,
    ) -> Option<T> {
        // Bounded: every round either ends or makes the table smaller.
        loop {
            let error = match T::deserialize(&*table) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            if self.is_full() {
                return None;
            }
            let span = error.span.unwrap_or_else(|| table.span.clone());
            let mut fault = Fault::new(&error.message);
            if table.entries().iter().any(|entry| entry.at == span) {
                fault = fault.also_known(more);
            }
            let taken = tree::remove(table, &span);
            let meant = fault.meant();
            if !follows_from(&fault, &span, &self.removed) {
                let key = taken.as_ref().map(|t| t.key.clone());
                self.mistakes.push(Mistake::fault(span, fault, key));
            }
            let mut taken = taken?;
            if let Some(meant) = meant {
                taken.key = meant;
            }
            self.removed.push(taken);
        }
    }

    /// Takes the list of tables at `key` out of `table`. A single table (`[device]` for `[[device]]`)
    /// is a mistake, and taken for a list of one; anything else that is no table is left out.
    pub fn tables<'i>(&mut self, table: &mut Node<'i>, key: &str, header: &str) -> Vec<Node<'i>> {
        let owner = table.span.clone();
        let Some(node) = table.take(key).map(|entry| entry.node) else {
            return Vec::new();
        };
        match node.value {
            Value::Table(_) => {
                let message = format!("`{key}` is a list, and here is a single table");
                let label = format!("expected `{header}`");
                self.no_list(&owner, key, header, &node.span, (message, label));
                vec![node]
            }
            Value::List(list) => {
                let (tables, wrong): (Vec<_>, Vec<_>) = list
                    .into_iter()
                    .partition(|element| matches!(element.value, Value::Table(_)));
                for element in wrong {
                    let message = format!("`{key}` has an entry that is no table");
                    let label = format!("expected a table of keys, found {}", element.value.kind());
                    self.no_list(&owner, key, header, &element.span, (message, label));
                }
                tables
            }
            other => {
                let message = format!("`{key}` has the wrong type");
                let label = format!("expected a list of tables, found {}", other.kind());
                self.no_list(&owner, key, header, &node.span, (message, label));
                Vec::new()
            }
        }
    }

    fn no_list(
        &mut self,
        owner: &Span,
        key: &str,
        header: &str,
        span: &Span,
        (message, label): (String, String),
    ) {
        self.removed.push(Removed {
            table: owner.clone(),
            key: key.to_owned(),
        });
        let mistake = Mistake::new(span.clone(), message, label).help(format!(
            "write `{header}` above every entry, with double brackets"
        ));
        self.mistakes.push(mistake.suggest(Some(header.to_owned())));
    }
}

/// Whether it is a mistake only because something wrong was taken out before: a key is missing, or
/// a table no longer makes sense as a whole.
fn follows_from(fault: &Fault, span: &Span, removed: &[Removed]) -> bool {
    let mut here = removed.iter().filter(|r| r.table == *span);
    match fault {
        Fault::Missing { key } => here.any(|r| r.key == *key),
        Fault::Other(_) => here.next().is_some(),
        _ => false,
    }
}

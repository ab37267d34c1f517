//! From text to a configuration, with all that is wrong on the way.

use super::check::{self, Place};
use super::diagnostic::{Diagnostic, Severity};
use super::explain::{AlsoKnown, nearest};
use super::mistake::Mistake;
use super::profile::assemble::{self, Chain, Use};
use super::profile::library::{Found, Library};
use super::profile::shelf::Shelf;
use super::reading::{MAX_MISTAKES, Reading};
use super::source::{Sources, Span};
use super::tree::{Entry, Node, Removed, Value};
use super::{DeviceConfig, HubConfig, Loaded, TagConfig};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use toml::de::DeTable;

/// Keys that the file has and [`HubConfig`] has not.
const OF_THE_FILE: AlsoKnown<'_> = AlsoKnown {
    keys: &["devices"],
    parameters: &[],
};

/// Reads a file that lies in `folder`, where that is known.
pub(super) fn read(
    text: &str,
    name: &str,
    folder: Option<&Path>,
) -> Result<Loaded, Vec<Diagnostic>> {
    let mut sources = Sources::new(name, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut root = Node::file(root);
    let mut reading = Reading::default();
    let nodes = reading.tables(&mut root, "device", "[[device]]");
    let rows = reading.tables(&mut root, "devices", "[[devices]]");
    let config = reading.table::<HubConfig>(&mut root, &OF_THE_FILE);
    let shelf = match (folder, &config) {
        (Some(folder), Some(config)) => Shelf::folder(folder.join(&config.hub.profiles)),
        _ => Shelf::built_in(),
    };
    let mut reader = Reader {
        sources: &mut sources,
        library: Library::new(shelf),
        reading,
        found: Vec::new(),
    };
    let listed = nodes.len() + rows.len();
    let mut devices = Vec::with_capacity(nodes.len());
    for table in nodes {
        reader.device(table, &mut devices);
    }
    for table in rows {
        reader.rows(table, &mut devices);
    }
    let Reader {
        mut reading,
        mut found,
        ..
    } = reader;
    if devices.is_empty() && listed > 0 {
        reading.removed.push(Removed {
            table: root.span.clone(),
            key: "device".to_owned(),
        });
    }
    if let Some(error) = errors.first() {
        return Err(not_toml(&sources, error, &reading.mistakes));
    }
    let wanted = MAX_MISTAKES.saturating_sub(found.len());
    let mistakes = reading.mistakes.iter().take(wanted);
    found.extend(mistakes.map(|m| m.diagnostic(&sources)));
    let config = config.map(|mut config| {
        let place = Place {
            sources: &sources,
            table: &root,
            removed: &reading.removed,
            used: None,
        };
        check::check(&config, &place, &devices, &mut found);
        config.devices = devices.into_iter().map(|device| device.config).collect();
        config
    });
    let found = tidy(found, &sources);
    match config {
        Some(config) if found.iter().all(|d| d.severity == Severity::Warning) => Ok(Loaded {
            config,
            warnings: found,
        }),
        _ => Err(found),
    }
}

/// A device that was read, and the table that it was read from.
pub(super) struct ReadDevice<'a> {
    pub config: DeviceConfig,
    pub table: Node<'a>,
    pub tags: Vec<Node<'a>>,
    pub removed: Vec<Removed>,
    /// Where its profile is named.
    pub used: Option<Span>,
}

struct Reader<'r, 'a> {
    sources: &'r mut Sources<'a>,
    library: Library,
    reading: Reading,
    found: Vec<Diagnostic>,
}

impl<'a> Reader<'_, 'a> {
    /// Reads a `[[device]]`.
    fn device(&mut self, mut table: Node<'a>, into: &mut Vec<ReadDevice<'a>>) {
        if self.reading.is_full() {
            return;
        }
        let named = table.get("profile");
        let named = named.and_then(|node| Some((node.as_text()?.to_owned(), node.span.clone())));
        let Some((id, at)) = named else {
            self.without_profile(&mut table);
            self.plain(table, None, &[], into);
            return;
        };
        let Some(chain) = self.chain(&id, &at) else {
            return;
        };
        let used = assemble::usage(&mut table, &chain, &mut self.reading.mistakes);
        self.assembled(table, &chain, used, into);
    }

    /// Takes out what means something with a profile only.
    fn without_profile(&mut self, table: &mut Node<'a>) {
        let wanted = ["profile".to_owned()];
        let meant = |entry: &Entry<'_>| nearest(&entry.key, &wanted).is_some();
        let misspelt = table.entries().iter().any(meant);
        for key in assemble::KEYS {
            if let Some(entry) = table.take(key)
                && !misspelt
            {
                let message = format!("`{key}` changes a profile, and this device has none");
                let mistake = Mistake::new(entry.at, message, "goes with `profile`");
                let help = format!("add `profile = \"…\"`, or take `{key}` out");
                let meant = Some("profile".to_owned());
                self.reading
                    .mistakes
                    .push(mistake.help(help).suggest(meant));
            }
        }
    }

    /// Reads `[[devices]]`: machines that differ in little.
    fn rows(&mut self, mut table: Node<'a>, into: &mut Vec<ReadDevice<'a>>) {
        const HELP: &str = "write `each = [` and for each device a line `{ id = \"robot-1\", address = \"192.0.2.10\" },`";
        if self.reading.is_full() {
            return;
        }
        let rows = self.reading.tables(&mut table, "each", "each = [ { … } ]");
        let removed = &self.reading.removed;
        let wanted = ["each".to_owned()];
        let misspelt = table.entries().iter();
        let mut misspelt = misspelt.filter(|e| nearest(&e.key, &wanted).is_some());
        if let Some(entry) = misspelt.next().filter(|_| rows.is_empty()) {
            let message = format!("unknown key `{}`", entry.key);
            let mistake = Mistake::new(entry.at.clone(), message, "did you mean `each`?");
            let meant = Some("each".to_owned());
            self.reading
                .mistakes
                .push(mistake.help(HELP).suggest(meant));
        } else if rows.is_empty() && !removed.iter().any(|r| r.table == table.span) {
            let label = "`each` is needed here";
            let mistake = Mistake::new(table.span.clone(), "`[[devices]]` lists no device", label);
            let meant = Some("each".to_owned());
            self.reading
                .mistakes
                .push(mistake.help(HELP).suggest(meant));
        }
        for row in rows {
            let mut device = table.clone();
            device.span = row.span;
            let Value::Table(entries) = row.value else {
                continue;
            };
            for entry in entries {
                // What a row says counts, also for what all of them share.
                device.take(&entry.key);
                if let Some(Value::Table(shared)) =
                    device.get_mut("with").map(|with| &mut with.value)
                {
                    shared.retain(|other| other.key != entry.key);
                }
                device.put(entry);
            }
            self.device(device, into);
        }
    }

    /// The profile `id` with all it extends, if there is nothing wrong with it.
    fn chain(&mut self, id: &str, at: &Span) -> Option<Rc<Chain>> {
        let found = self
            .library
            .find(id, Some(at), self.sources, &mut self.reading);
        match found {
            Found::Known(chain) => Some(chain),
            Found::Broken => None,
            Found::New(chain) => {
                let before = self.found.len();
                verify(&chain, Some(at), self.sources, &mut self.found);
                let mut new = self.found.iter().skip(before);
                if new.any(|d| d.severity == Severity::Error) {
                    self.library.mark_broken(id);
                    return None;
                }
                // Warnings about a profile are for whoever writes it.
                self.found.truncate(before);
                Some(chain)
            }
        }
    }

    fn assembled(
        &mut self,
        mut table: Node<'a>,
        chain: &Chain,
        used: Use<'a>,
        into: &mut Vec<ReadDevice<'a>>,
    ) {
        let before = self.reading.mistakes.len();
        let mut values = chain.values(&used.given, &mut self.reading.mistakes);
        let mut mistakes = std::mem::take(&mut self.reading.mistakes);
        let mut filling = assemble::filling(self.sources, &mut mistakes);
        let removals = (&used.removals, &used.at);
        assemble::assemble(&mut table, chain, &mut values, removals, &mut filling);
        chain.report_missing(&values, &used.at, &mut mistakes);
        self.reading.mistakes = mistakes;
        let filled = self.reading.mistakes.len();
        let parameters = chain.names();
        let others = into.len();
        self.plain(table, Some(used.at.clone()), &parameters, into);
        for read in into.iter_mut().skip(others) {
            read.config.origins = chain.origins();
        }
        drop_consequences(&mut self.reading.mistakes, before, filled);
        once_for_each_argument(&used, before, &mut self.reading.mistakes);
        for mistake in self.reading.mistakes.iter_mut().skip(before) {
            if !self.sources.in_first(&mistake.span) {
                mistake.required_by(&used.at);
            }
        }
    }

    /// Reads a table that says all itself.
    fn plain(
        &mut self,
        table: Node<'a>,
        used: Option<Span>,
        parameters: &[String],
        into: &mut Vec<ReadDevice<'a>>,
    ) {
        into.extend(read_device(table, used, parameters, &mut self.reading));
    }
}

/// A text that could not be filled in is wrong as a value too, and that says nothing new.
fn drop_consequences(mistakes: &mut Vec<Mistake>, before: usize, filled: usize) {
    let causes: Vec<Span> = mistakes
        .get(before..filled)
        .unwrap_or_default()
        .iter()
        .map(|cause| cause.span.clone())
        .collect();
    let mut at = 0;
    mistakes.retain(|mistake| {
        at += 1;
        let span = &mistake.span;
        let holds = |cause: &Span| span.start <= cause.start && cause.end <= span.end;
        at <= filled || !causes.iter().any(holds)
    });
}

/// An argument that many tags are made from, and that is wrong in all of them, is said once.
fn once_for_each_argument(used: &Use<'_>, before: usize, mistakes: &mut Vec<Mistake>) {
    let mut said: Vec<Span> = Vec::new();
    let mut at = 0;
    mistakes.retain(|mistake| {
        at += 1;
        let given = used.given.iter().any(|e| e.node.span == mistake.span);
        if at <= before || !given {
            return true;
        }
        let first = !said.contains(&mistake.span);
        said.push(mistake.span.clone());
        first
    });
}

/// Reads a device and its tags, each by itself: what is wrong with one costs the others nothing.
fn read_device<'a>(
    mut table: Node<'a>,
    used: Option<Span>,
    parameters: &[String],
    all: &mut Reading,
) -> Option<ReadDevice<'a>> {
    let mut reading = Reading {
        mistakes: std::mem::take(&mut all.mistakes),
        removed: Vec::new(),
    };
    let nodes = reading.tables(&mut table, "tag", "[[device.tag]]");
    let known = AlsoKnown {
        keys: &assemble::KEYS,
        parameters,
    };
    let config = reading.table::<DeviceConfig>(&mut table, &known);
    let mut tags = Vec::with_capacity(nodes.len());
    let mut kept = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        match reading.table::<TagConfig>(&mut node, &AlsoKnown::default()) {
            Some(tag) => {
                tags.push(tag);
                kept.push(node);
            }
            None => reading.removed.push(Removed {
                table: table.span.clone(),
                key: "tag".to_owned(),
            }),
        }
    }
    all.mistakes = reading.mistakes;
    let mut config = config?;
    config.tags = tags;
    Some(ReadDevice {
        config,
        table,
        tags: kept,
        removed: reading.removed,
        used,
    })
}

/// Looks at the device that a profile describes, with examples for what a device would say.
pub(super) fn verify(
    chain: &Chain,
    at: Option<&Span>,
    sources: &Sources<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<DeviceConfig> {
    let (mut reading, device) = probe(chain, &[], sources)?;
    if let Some(at) = at {
        for mistake in &mut reading.mistakes {
            mistake.required_by(at);
        }
    }
    found.extend(reading.mistakes.iter().map(|m| m.diagnostic(sources)));
    let device = device?;
    let place = Place {
        sources,
        table: &device.table,
        removed: &device.removed,
        used: at,
    };
    check::device(&device, &place, true, found);
    Some(device.config)
}

/// The device that a profile describes, with these parameters, and examples for those that are
/// missing.
pub(super) fn probe<'a>(
    chain: &Chain,
    given: &[Entry<'a>],
    sources: &Sources<'_>,
) -> Option<(Reading, Option<ReadDevice<'a>>)> {
    let mut reading = Reading::default();
    let span = chain.templates.last()?.head.span.clone();
    let id = Entry {
        key: "id".into(),
        at: span.clone(),
        node: Node::text(span.clone(), chain.id().to_owned()),
    };
    let mut table = Node::table(span.clone(), vec![id]);
    let mut values = chain.values(given, &mut reading.mistakes);
    let mut filling = assemble::filling(sources, &mut reading.mistakes);
    assemble::assemble(
        &mut table,
        chain,
        &mut values,
        (&Vec::new(), &span),
        &mut filling,
    );
    stand_in(&mut table, &span);
    let filled = reading.mistakes.len();
    let device = read_device(table, None, &[], &mut reading);
    drop_consequences(&mut reading.mistakes, 0, filled);
    Some((reading, device))
}

/// A connection, where the profile leaves it to the device.
fn stand_in(table: &mut Node<'_>, span: &Span) {
    for (protocol, ways, value) in [
        ("modbus", ["address", "serial"].as_slice(), "192.0.2.1:502"),
        ("opcua", &["url"], "opc.tcp://192.0.2.1:4840"),
    ] {
        let Some(key) = ways.first() else { continue };
        let tags = table.get("tag").map_or(&[][..], Node::elements);
        let spoken = tags.iter().any(|tag| tag.get(protocol).is_some());
        let entry = |key: &'static str, node| Entry {
            key: key.into(),
            at: span.clone(),
            node,
        };
        if table.get(protocol).is_none() && spoken {
            table.put(entry(protocol, Node::table(span.clone(), Vec::new())));
        }
        if let Some(connection) = table.get_mut(protocol)
            && ways.iter().all(|way| connection.get(way).is_none())
        {
            connection.put(entry(key, Node::text(span.clone(), value)));
        }
    }
}

/// In the order of the files; a mistake of a profile is said once, however many devices have it.
pub(super) fn tidy(found: Vec<Diagnostic>, sources: &Sources<'_>) -> Vec<Diagnostic> {
    let mut seen: HashMap<_, (usize, usize)> = HashMap::new();
    let mut kept: Vec<Diagnostic> = Vec::with_capacity(found.len());
    for d in found {
        let place = d.position().filter(|_| d.file != sources.first_name());
        if let Some(place) = place {
            let key = (d.file.clone(), place, d.label.clone());
            let (_, more) = seen
                .entry(key)
                .and_modify(|(_, more)| *more += 1)
                .or_insert((kept.len(), 0));
            if *more > 0 {
                continue;
            }
        }
        kept.push(d);
    }
    for (at, more) in seen.into_values().filter(|(_, more)| *more > 0) {
        if let Some(d) = kept.get_mut(at) {
            let s = if more == 1 { "" } else { "s" };
            d.help
                .push(format!("this is said once; it is so {more} more time{s}"));
        }
    }
    // The files of profiles come after the one that uses them.
    kept.sort_by(|a, b| {
        let key = |d: &Diagnostic| (d.file != sources.first_name(), d.file.clone());
        (key(a), a.position()).cmp(&(key(b), b.position()))
    });
    kept
}

/// The first error of syntax: those after it are mostly its consequences. With it come misspelt keys
/// that stand before it, since `[[device.tga]]` makes a later `[[device.tag]]` a contradiction.
fn not_toml(
    sources: &Sources<'_>,
    error: &toml::de::Error,
    mistakes: &[Mistake],
) -> Vec<Diagnostic> {
    let span = error.span().unwrap_or(0..0);
    let before = mistakes
        .iter()
        .filter(|m| m.span.end <= span.start && m.is_misspelt_key());
    let mut found: Vec<_> = before.map(|m| m.diagnostic(sources)).collect();
    found.sort_by_key(Diagnostic::position);
    found.push(Mistake::not_toml(span, error).diagnostic(sources));
    found
}

//! Puts a device together from the profiles it descends from, its own section, and its parameters.

use super::argument::{Argument, NoValue, evaluate};
use super::fill::{Filling, Values};
use super::template::{Block, Over, Parameter, Template, argument};
use crate::config::device::Origins;
use crate::config::explain::nearest;
use crate::config::mistake::Mistake;
use crate::config::source::{Sources, Span};
use crate::config::tree::{self, Entry, Node, Value};
use std::collections::HashMap;
use std::rc::Rc;
use weighbridge_verifier::settings::Origin;

/// Most tags that the profiles of one device may make.
const MAX_TAGS: usize = 20_000;
/// Most turns of one group.
const MAX_TURNS: i64 = 10_000;

/// A profile with all that it extends.
pub struct Chain {
    /// From the first ancestor to the profile itself.
    pub templates: Vec<Rc<Template>>,
    /// Their parameters, each as the youngest has it, in the order in which they were declared.
    pub parameters: Vec<(String, Parameter)>,
}

impl Chain {
    /// The profile's id.
    pub fn id(&self) -> &str {
        let last = self.templates.last();
        last.map_or("", |template| &template.header.id)
    }

    /// Its files, the first ancestor first.
    pub fn origins(&self) -> Origins {
        let origin = |template: &Rc<Template>| Origin {
            kind: "profile".to_owned(),
            id: template.header.id.clone(),
            version: template.header.version.clone(),
            sha256: template.sha256,
        };
        Origins(self.templates.iter().map(origin).collect())
    }

    /// Names of its parameters.
    pub fn names(&self) -> Vec<String> {
        self.parameters
            .iter()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The values of the parameters where `given` are given. Where one is missing or does not fit, an
    /// example stands in for it, so that the rest can be looked at.
    pub fn values(&self, given: &[Entry<'_>], mistakes: &mut Vec<Mistake>) -> Values {
        let mut values = Values::default();
        for entry in given {
            let found = self.parameters.iter().find(|(name, _)| *name == entry.key);
            let Some((name, parameter)) = found else {
                mistakes.push(self.unknown(entry));
                continue;
            };
            let fitting = match argument(&entry.node) {
                Some(argument) => parameter.fit(argument),
                None => Err(format!(
                    "expected {}, found {}",
                    parameter.kind.name(),
                    entry.node.value.kind()
                )),
            };
            match fitting {
                Ok(argument) => {
                    values.known.insert(name.clone(), argument);
                    values.given.insert(name.clone(), entry.node.span.clone());
                }
                Err(reason) => {
                    let message = format!("`{name}` does not fit the profile `{}`", self.id());
                    let mistake = Mistake::new(entry.node.span.clone(), message, reason);
                    let shown = parameter.example.as_ref().or(parameter.default.as_ref());
                    let shown = shown.map_or_else(String::new, Argument::as_toml);
                    let help = format!("write for example `{name} = {shown}`: {}", parameter.help);
                    mistakes.push(mistake.help(help.trim_end_matches(": ")));
                }
            }
        }
        for (name, parameter) in &self.parameters {
            if values.known.contains_key(name) {
                continue;
            }
            let was_wrong = given.iter().any(|entry| entry.key == *name);
            match (&parameter.default, &parameter.example) {
                (Some(default), _) => drop(values.known.insert(name.clone(), default.clone())),
                (None, Some(example)) if was_wrong => {
                    values.known.insert(name.clone(), example.clone());
                }
                (None, Some(example)) => {
                    values.missing.insert(name.clone(), example.clone());
                }
                (None, None) => {}
            }
        }
        values
    }

    fn unknown(&self, entry: &Entry<'_>) -> Mistake {
        let known = self.names();
        let meant = nearest(&entry.key, &known);
        let label = match &meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "not known here".to_owned(),
        };
        let message = format!(
            "the profile `{}` has no parameter `{}`",
            self.id(),
            entry.key
        );
        let help = match known.as_slice() {
            [] => "it has no parameters: take this out".to_owned(),
            known => format!("its parameters: `{}`", known.join("`, `")),
        };
        Mistake::new(entry.at.clone(), message, label)
            .help(help)
            .suggest(meant)
    }

    /// Says of each parameter that was needed and not given that it is missing.
    pub fn report_missing(&self, values: &Values, at: &Span, mistakes: &mut Vec<Mistake>) {
        for name in values.needed.borrow().iter() {
            let parameter = self.parameters.iter().find(|(known, _)| known == name);
            let Some((_, parameter)) = parameter else {
                continue;
            };
            let example = parameter.example.as_ref().map(Argument::as_toml);
            let help = format!(
                "add `{name} = {}`, with your own value: {}",
                example.unwrap_or_default(),
                parameter.help
            );
            let message = format!("the profile `{}` needs `{name}`", self.id());
            let mistake = Mistake::new(at.clone(), message, format!("`{name}` is not given"))
                .help(help.trim_end_matches(": "))
                .suggest(Some(name.clone()));
            mistakes.push(mistake);
        }
    }
}

/// Names of tags that are to be left out, with where they stand.
pub type Removals = Vec<(String, Span)>;

/// Makes `device` whole: what it does not say itself it has from `chain`.
pub fn assemble(
    device: &mut Node<'_>,
    chain: &Chain,
    values: &mut Values,
    (removals, at): (&Removals, &Span),
    filling: &mut Filling<'_, '_>,
) {
    let mut body = Node::table(at.clone(), Vec::new());
    for template in &chain.templates {
        let mut younger = template.body.clone();
        lay_over(&mut younger, body, 1);
        body = younger;
    }
    lay_filled(device, &body, 1, values, filling);
    let mut tags = Vec::new();
    for template in &chain.templates {
        let head = &template.head;
        let listed = head.get("remove").map_or(&[][..], Node::elements);
        let removed: Removals = listed
            .iter()
            .filter_map(|node| Some((node.as_text()?.to_owned(), node.span.clone())))
            .collect();
        remove_tags(&mut tags, &removed, filling.mistakes);
        let mut own = Vec::new();
        for block in &template.blocks {
            turns(block, values, filling, &mut own);
        }
        put_tags(&mut tags, own);
        if tags.len() > MAX_TAGS {
            let message = format!("the profile `{}` makes too many tags", chain.id());
            let label = format!("{} tags; at most {MAX_TAGS}", tags.len());
            let mistake = Mistake::new(at.clone(), message, label)
                .help("repeat its groups less often, or divide the device into several");
            filling.mistakes.push(mistake);
            tags.clear();
        }
    }
    remove_tags(&mut tags, removals, filling.mistakes);
    let own = device.take("tag");
    let own_at = own.as_ref().map(|entry| entry.at.clone());
    let mut tags: Vec<Node<'_>> = tags;
    match own.map(|entry| entry.node) {
        Some(Node {
            value: Value::List(list),
            ..
        }) => put_tags(&mut tags, list),
        // A single table, or no table at all: that is said when the tags are read.
        Some(other) => {
            device.put(Entry {
                key: "tag".into(),
                at: own_at.unwrap_or_default(),
                node: other,
            });
            return;
        }
        None => {}
    }
    if !tags.is_empty() {
        device.put(Entry {
            key: "tag".into(),
            at: own_at.unwrap_or_else(|| at.clone()),
            node: Node::list(at.clone(), tags),
        });
    }
}

/// Adds to `own` what only `under` has; tables that both have are joined `depth` levels down.
fn lay_over<'a>(own: &mut Node<'a>, under: Node<'a>, depth: usize) {
    let Value::Table(entries) = under.value else {
        return;
    };
    for entry in entries {
        match own.get_mut(&entry.key) {
            None => own.put(entry),
            Some(mine) if depth > 0 => lay_over(mine, entry.node, depth - 1),
            Some(_) => {}
        }
    }
}

/// The same, and what is added is filled in: a parameter that only an overridden value needs is not
/// needed.
fn lay_filled(
    own: &mut Node<'_>,
    under: &Node<'static>,
    depth: usize,
    values: &Values,
    filling: &mut Filling<'_, '_>,
) {
    for entry in under.entries() {
        match own.get_mut(&entry.key) {
            None => own.put(Entry {
                key: entry.key.clone(),
                at: entry.at.clone(),
                node: filling.node(&entry.node, values),
            }),
            Some(mine) if depth > 0 => {
                lay_filled(mine, &entry.node, depth - 1, values, filling);
            }
            Some(_) => {}
        }
    }
}

/// The name of a tag; empty where it has none, which is said when it is read.
fn name_of<'n>(tag: &'n Node<'_>) -> &'n str {
    tag.get("name").and_then(Node::as_text).unwrap_or_default()
}

/// Puts tags beside those that are inherited: one of the same name changes that one. Its address is
/// replaced as a whole, its validation key by key.
fn put_tags<'a>(tags: &mut Vec<Node<'a>>, own: Vec<Node<'a>>) {
    // Two of one level that have the same name are a mistake, which is said when they are read.
    let inherited = tags.iter().enumerate();
    let mut inherited: HashMap<String, usize> = inherited
        .map(|(at, tag)| (name_of(tag).to_owned(), at))
        .collect();
    for mut tag in own {
        let at = inherited.remove(name_of(&tag));
        let Some(old) = at.and_then(|at| tags.get_mut(at)) else {
            tags.push(tag);
            continue;
        };
        let mut under = std::mem::replace(old, Node::table(0..0, Vec::new()));
        let judged = under.take("validation");
        lay_over(&mut tag, under, 0);
        if let Some(judged) = judged {
            match tag.get_mut("validation") {
                Some(mine) => lay_over(mine, judged.node, 0),
                None => tag.put(judged),
            }
        }
        *old = tag;
    }
}

fn remove_tags(tags: &mut Vec<Node<'_>>, removals: &Removals, mistakes: &mut Vec<Mistake>) {
    for (pattern, span) in removals {
        let before = tags.len();
        let names: Vec<_> = tags.iter().map(|tag| name_of(tag).to_owned()).collect();
        tags.retain(|tag| !matches(pattern, name_of(tag)));
        if tags.len() == before {
            let meant = nearest(pattern, &names);
            let label = match &meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "no tag of the profile has such a name".to_owned(),
            };
            let message = format!("there is no tag `{pattern}` to remove");
            let shown: Vec<_> = names.iter().take(20).map(|n| format!("`{n}`")).collect();
            let more = match names.len().saturating_sub(20) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let help = format!(
                "its tags: {}{more}; `*` stands for anything",
                shown.join(", ")
            );
            let mistake = Mistake::new(span.clone(), message, label)
                .help(help)
                .suggest(meant);
            mistakes.push(mistake);
        }
    }
}

/// Whether a name fits a pattern, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The tags of a block, once for each turn of its loop.
fn turns(
    block: &Block,
    values: &mut Values,
    filling: &mut Filling<'_, '_>,
    into: &mut Vec<Node<'static>>,
) {
    let Some(repeated) = &block.repeated else {
        into.extend(block.tags.iter().map(|tag| filling.node(tag, values)));
        return;
    };
    let turns = match &repeated.over {
        Over::List(list) => list.clone(),
        Over::Range(first, last) => match range((first, last), values, &repeated.span, filling) {
            Some(turns) => turns,
            None => return,
        },
    };
    for (index, turn) in turns.into_iter().enumerate() {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        values.local = vec![
            (repeated.variable.clone(), turn),
            ("index".to_owned(), Argument::Integer(index)),
        ];
        into.extend(block.tags.iter().map(|tag| filling.node(tag, values)));
    }
    values.local.clear();
}

fn range(
    (first, last): (&str, &str),
    values: &Values,
    span: &Span,
    filling: &mut Filling<'_, '_>,
) -> Option<Vec<Argument>> {
    let mut end = |expression: &str| match evaluate(expression, values) {
        Ok(Argument::Integer(number)) => Some(number),
        Ok(other) => {
            let wrong = format!("`{other}` is no whole number");
            filling.no_value(NoValue::Wrong(wrong), span, expression, values);
            None
        }
        Err(error) => {
            filling.no_value(error, span, expression, values);
            None
        }
    };
    let (first, last) = (end(first)?, end(last)?);
    if last
        .checked_sub(first)
        .is_none_or(|turns| turns >= MAX_TURNS)
    {
        let message = "this group is repeated too often";
        let label = format!("{first} to {last}; at most {MAX_TURNS} times");
        let mistake = Mistake::new(span.clone(), message, label);
        filling.mistakes.push(mistake.help("write a smaller range"));
        return None;
    }
    Some((first..=last).map(Argument::Integer).collect())
}

/// What a device says of the use of a profile, taken out of its table.
pub struct Use<'a> {
    /// Where the profile is named.
    pub at: Span,
    /// Parameters.
    pub given: Vec<Entry<'a>>,
    /// Tags that are left out.
    pub removals: Removals,
}

/// Keys of a device that are dealt with here, and that nobody sees later.
pub const KEYS: [&str; 2] = ["with", "remove"];

/// Takes `with` and `remove` out of a device, and the parameters that stand beside them.
pub fn usage<'a>(device: &mut Node<'a>, chain: &Chain, mistakes: &mut Vec<Mistake>) -> Use<'a> {
    let at = tree::find(device, &["profile"]).map_or(device.span.clone(), |spot| spot.value);
    let mut given = Vec::new();
    for (name, _) in &chain.parameters {
        given.extend(device.take(name));
    }
    if let Some(entry) = device.take("with") {
        match entry.node.value {
            Value::Table(entries) => {
                for entry in entries {
                    if let Some(twice) = given.iter().find(|other| other.key == entry.key) {
                        let message = format!("`{}` is given twice", entry.key);
                        let mistake = Mistake::new(entry.at.clone(), message, "again here")
                            .related(twice.at.clone(), "first here")
                            .help("take one of the two out");
                        mistakes.push(mistake);
                    } else {
                        given.push(entry);
                    }
                }
            }
            other => {
                let label = format!("expected a table of parameters, found {}", other.kind());
                let mistake = Mistake::new(entry.node.span, "`with` has the wrong type", label);
                mistakes.push(mistake.help("write `with = { base = 100 }`"));
            }
        }
    }
    let mut removals = Vec::new();
    if let Some(entry) = device.take("remove") {
        let span = entry.node.span.clone();
        let texts = entry.node.elements().iter();
        let texts = texts.map(|node| Some((node.as_text()?.to_owned(), node.span.clone())));
        let texts: Option<Removals> = texts.collect();
        match texts.filter(|_| matches!(entry.node.value, Value::List(_))) {
            Some(listed) => removals = listed,
            None => {
                let label = "expected a list of names of tags";
                let mistake = Mistake::new(span, "`remove` has the wrong type", label);
                mistakes.push(mistake.help("write `remove = [\"axis_6_*\"]`"));
            }
        }
    }
    Use {
        at,
        given,
        removals,
    }
}

/// Prepares filling in.
pub fn filling<'a, 'f>(
    sources: &'a Sources<'f>,
    mistakes: &'a mut Vec<Mistake>,
) -> Filling<'a, 'f> {
    Filling { sources, mistakes }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*", "", true),
            ("aa*aa", "aaa", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}

//! One profile's file, taken apart: what it says of itself, its parameters, and the device that it
//! describes, not yet filled in.

use super::argument::Argument;
use crate::config::explain::AlsoKnown;
use crate::config::mistake::Mistake;
use crate::config::reading::Reading;
use crate::config::source::{Sources, Span};
use crate::config::tree::{self, Node, Value};
use crate::config::value;
use serde::Deserialize;
use toml::de::DeTable;
use weighbridge_verifier::{Hash, sha256};

/// What a profile says of itself: `[profile]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Its name in configurations; its file is called so too.
    #[serde(deserialize_with = "value::id")]
    pub id: String,
    /// What kind of machine it is about.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The public document that addresses, types and ranges were taken from.
    pub source: String,
    /// What else is to be known, for people.
    #[serde(default)]
    pub description: String,
    /// The profile that this one changes.
    #[serde(default)]
    pub extends: Option<String>,
    /// Tags of that one that this one does not have; `*` stands for anything. Read from the tree, for
    /// the places.
    #[serde(default)]
    #[allow(dead_code)]
    remove: Vec<String>,
}

/// What kind of value a parameter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Text.
    Text,
    /// `true` or `false`.
    Bool,
}

impl ParameterType {
    /// Its name in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Text => "text",
            Self::Bool => "bool",
        }
    }

    fn of(argument: &Argument) -> Self {
        match argument {
            Argument::Integer(_) => Self::Integer,
            Argument::Number(_) => Self::Number,
            Argument::Text(_) => Self::Text,
            Argument::Bool(_) => Self::Bool,
        }
    }
}

/// A parameter as the file has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParameterText {
    #[serde(rename = "type")]
    kind: Option<ParameterType>,
    default: Option<Argument>,
    example: Option<Argument>,
    range: Option<value::PhysicalRange>,
    choices: Option<Vec<Argument>>,
    help: Option<String>,
}

/// A parameter of a profile: what a device that uses it may or must say.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// What kind of value it has.
    pub kind: ParameterType,
    /// Its value where none is given; a device must give one when there is no default.
    pub default: Option<Argument>,
    /// A value that shows what is meant.
    pub example: Option<Argument>,
    /// Smallest and largest number.
    pub range: Option<(f64, f64)>,
    /// The only values it can have, where there are only some.
    pub choices: Vec<Argument>,
    /// What it is.
    pub help: String,
}

impl Parameter {
    /// `argument` as this parameter takes it, or what it takes instead.
    pub fn fit(&self, argument: Argument) -> Result<Argument, String> {
        let argument = match (self.kind, argument) {
            (ParameterType::Number, Argument::Integer(n)) => Argument::Number(n as f64),
            (_, other) => other,
        };
        if ParameterType::of(&argument) != self.kind {
            let expected = match self.kind {
                ParameterType::Integer => "a whole number",
                ParameterType::Number => "a number",
                ParameterType::Text => "text in quotes",
                ParameterType::Bool => "`true` or `false`",
            };
            return Err(format!("expected {expected}, found {}", argument.as_toml()));
        }
        let number = match &argument {
            Argument::Integer(n) => Some(*n as f64),
            Argument::Number(n) => Some(*n),
            _ => None,
        };
        if let (Some((low, high)), Some(number)) = (self.range, number)
            && !(low..=high).contains(&number)
        {
            return Err(format!(
                "expected {low} to {high}, found {}",
                argument.as_toml()
            ));
        }
        if !self.choices.is_empty() && !self.choices.contains(&argument) {
            let choices = self.choices.iter().map(Argument::as_toml);
            let choices: Vec<_> = choices.collect();
            return Err(format!(
                "expected one of {}, found {}",
                choices.join(", "),
                argument.as_toml()
            ));
        }
        Ok(argument)
    }
}

/// What a group's tags are repeated over.
pub enum Over {
    /// First and last, both included, as expressions.
    Range(String, String),
    /// Values one by one.
    List(Vec<Argument>),
}

/// The loop of a group.
pub struct Loop {
    /// Name of its variable.
    pub variable: String,
    /// What it runs over.
    pub over: Over,
    /// Where that stands.
    pub span: Span,
}

/// Tags that stand together: one, or those of a group.
pub struct Block {
    /// How they are repeated.
    pub repeated: Option<Loop>,
    /// The tags.
    pub tags: Vec<Node<'static>>,
}

/// One profile.
pub struct Template {
    /// What it says of itself.
    pub header: Header,
    /// Its `[profile]`, for places.
    pub head: Node<'static>,
    /// Its own parameters, each with its table.
    parameters: Vec<(String, Node<'static>, ParameterText)>,
    /// SHA-256 of the file.
    pub sha256: Hash,
    /// What stands in a `[[device]]`, without its tags.
    pub body: Node<'static>,
    /// Its tags in the order of the file.
    pub blocks: Vec<Block>,
    /// Its golden cases.
    pub cases: Vec<Node<'static>>,
}

/// Keys that a profile leaves to whoever uses it.
const OF_THE_USER: [&str; 6] = ["id", "profile", "with", "remove", "device", "devices"];

impl Template {
    /// Takes a file apart. `None` when it has mistakes; they are in `reading`.
    pub fn read(
        id: &str,
        (name, text): (&str, String),
        sources: &mut Sources<'_>,
        reading: &mut Reading,
    ) -> Option<Self> {
        let before = reading.mistakes.len();
        let (root, errors) = DeTable::parse_recoverable(&text);
        // `text` goes to the sources, so nothing may be borrowed from it.
        let mut root = Node::file(root).into_owned();
        let error = errors.first().cloned();
        let sha256 = sha256(&[text.as_bytes()]);
        let base = sources.add(name, text.into());
        root.shift(base);
        if let Some(error) = error {
            let span = error.span().unwrap_or(0..0);
            let span = span.start + base..span.end + base;
            reading.mistakes.push(Mistake::not_toml(span, &error));
            return None;
        }
        let (head, header) = head(&mut root, id, base, reading);
        let parameters = parameters(&mut root, reading);
        let tags = reading.tables(&mut root, "tag", "[[tag]]");
        let groups = reading.tables(&mut root, "group", "[[group]]");
        let cases = reading.tables(&mut root, "case", "[[case]]");
        let mut blocks: Vec<_> = tags.into_iter().map(Block::single).collect();
        blocks.extend(groups.into_iter().filter_map(|group| block(group, reading)));
        // As they stand in the file, tags and groups mixed.
        blocks.sort_by_key(|block| block.tags.first().map(|tag| tag.span.start));
        for key in OF_THE_USER {
            if let Some(entry) = root.take(key) {
                let message = format!("`{key}` cannot be in a profile");
                let mistake = Mistake::new(entry.at, message, "the user of the profile says that")
                    .help("take it out; a profile describes a kind of device");
                reading.mistakes.push(mistake);
            }
        }
        let right = reading.mistakes.len() == before;
        Some(Self {
            header: header.filter(|_| right)?,
            head: head?,
            parameters,
            sha256,
            body: root,
            blocks,
            cases,
        })
    }

    /// Its own parameters on top of those of the profile that it extends.
    pub fn parameters(
        &self,
        mut inherited: Vec<(String, Parameter)>,
        mistakes: &mut Vec<Mistake>,
    ) -> Vec<(String, Parameter)> {
        for (name, table, text) in &self.parameters {
            let at = inherited.iter().position(|(known, _)| known == name);
            let old = at.and_then(|at| inherited.get(at)).map(|(_, old)| old);
            match text.over(old) {
                Ok(parameter) => match at.and_then(|at| inherited.get_mut(at)) {
                    Some(place) => place.1 = parameter,
                    None => inherited.push((name.clone(), parameter)),
                },
                Err((key, reason, help)) => {
                    let at = tree::find(table, &[key]).map_or(table.span.clone(), |s| s.value);
                    let message = format!("the parameter `{name}` cannot be used");
                    mistakes.push(Mistake::new(at, message, reason).help(help));
                }
            }
        }
        inherited
    }
}

impl ParameterText {
    /// The parameter that this text makes of an inherited one, or of none. The error is the key, why,
    /// and what to do.
    fn over(&self, old: Option<&Parameter>) -> Result<Parameter, (&'static str, String, String)> {
        let shown = self.default.as_ref().or(self.example.as_ref());
        let kind = self.kind.or(old.map(|old| old.kind));
        let Some(kind) = kind.or(shown.map(ParameterType::of)) else {
            return Err((
                "type",
                "neither `type` nor `default` nor `example` says what it is".into(),
                "write `type = \"integer\"`, \"number\", \"text\" or \"bool\"".into(),
            ));
        };
        let mut parameter = Parameter {
            kind,
            default: None,
            example: None,
            range: self.range.map(|range| range.bounds()),
            choices: self.choices.clone().unwrap_or_default(),
            help: self.help.clone().unwrap_or_default(),
        };
        if let Some(old) = old {
            parameter.range = parameter.range.or(old.range);
            if self.choices.is_none() {
                parameter.choices.clone_from(&old.choices);
            }
            if self.help.is_none() {
                parameter.help.clone_from(&old.help);
            }
        }
        let old_value =
            |of: fn(&Parameter) -> &Option<Argument>| old.and_then(|old| of(old).clone());
        let fit = |key, own: &Option<Argument>, old: Option<Argument>| {
            let Some(argument) = own.clone().or(old) else {
                return Ok(None);
            };
            let help = format!("write a `{key}` that its `type`, `range` and `choices` allow");
            let fitting = parameter.fit(argument);
            fitting.map(Some).map_err(|reason| (key, reason, help))
        };
        let default = fit("default", &self.default, old_value(|old| &old.default))?;
        let example = fit("example", &self.example, old_value(|old| &old.example))?;
        if default.is_none() && example.is_none() {
            return Err((
                "default",
                "it has neither a `default` nor an `example`".into(),
                "give it a `default`, or where every device has its own an `example`".into(),
            ));
        }
        parameter.default = default;
        parameter.example = example;
        Ok(parameter)
    }
}

impl Block {
    fn single(tag: Node<'static>) -> Self {
        Self {
            repeated: None,
            tags: vec![tag],
        }
    }
}

/// `[profile]`: as it stands, and what it says.
fn head(
    root: &mut Node<'static>,
    id: &str,
    base: usize,
    reading: &mut Reading,
) -> (Option<Node<'static>>, Option<Header>) {
    let Some(entry) = root.take("profile") else {
        let mistake = Mistake::new(
            base..base,
            "the section `[profile]` is missing",
            "a profile begins with it",
        );
        let help = format!(
            "write `[profile]` and below it `id = \"{id}\"`, `name`, `version` and `source`"
        );
        let meant = Some("[profile]".to_owned());
        reading.mistakes.push(mistake.help(help).suggest(meant));
        return (None, None);
    };
    let mut table = entry.node;
    let header: Option<Header> = reading.table(&mut table, &AlsoKnown::default());
    if let Some(header) = header.as_ref().filter(|header| header.id != id) {
        let at = tree::find(&table, &["id"]).map_or(table.span.clone(), |spot| spot.value);
        let message = format!("the profile `{}` is in a file for `{id}`", header.id);
        let mistake = Mistake::new(at, message, "must be the file's name without `.toml`")
            .help(format!("write `id = \"{id}\"`, or rename the file"))
            .suggest(Some(id.to_owned()));
        reading.mistakes.push(mistake);
    }
    (Some(table), header)
}

/// `[parameters]`, in the order of the file.
fn parameters(
    root: &mut Node<'static>,
    reading: &mut Reading,
) -> Vec<(String, Node<'static>, ParameterText)> {
    let Some(entry) = root.take("parameters") else {
        return Vec::new();
    };
    let Value::Table(entries) = entry.node.value else {
        let label = format!("expected a section, found {}", entry.node.value.kind());
        let mistake = Mistake::new(entry.node.span, "`parameters` has the wrong type", label);
        let help = "write `[parameters]` and below it `base = { default = 0, help = \"…\" }`";
        reading.mistakes.push(mistake.help(help));
        return Vec::new();
    };
    let mut parameters = Vec::new();
    for entry in entries {
        let name = entry.key.into_owned();
        let mut table = entry.node;
        let fits = |c: char| c.is_alphanumeric() || c == '_';
        if !name.chars().all(fits) || name.starts_with(|c: char| c.is_ascii_digit()) {
            let message = format!("`{name}` is not the name of a parameter");
            let label = "only letters, digits and `_`, first a letter";
            let help = format!("write `{}`", name.replace(|c| !fits(c), "_"));
            let mistake = Mistake::new(entry.at, message, label).help(help);
            reading.mistakes.push(mistake);
            continue;
        }
        if !matches!(table.value, Value::Table(_)) {
            let message = format!("the parameter `{name}` has the wrong type");
            let label = format!("expected a table of keys, found {}", table.value.kind());
            let help = format!("write `{name} = {{ default = …, help = \"…\" }}`");
            let mistake = Mistake::new(table.span, message, label).help(help);
            reading.mistakes.push(mistake);
            continue;
        }
        let whole = table.clone();
        if let Some(text) = reading.table(&mut table, &AlsoKnown::default()) {
            parameters.push((name, whole, text));
        }
    }
    parameters.sort_by_key(|(_, table, _)| table.span.start);
    parameters
}

/// `[[group]]`: `for = { axis = "1..6" }`, and tags.
fn block(mut group: Node<'static>, reading: &mut Reading) -> Option<Block> {
    let tags = reading.tables(&mut group, "tag", "[[group.tag]]");
    let repeated = group.take("for");
    for entry in group.entries() {
        let found = entry.key.to_string();
        let fault = super::unknown_key(&found, &["for", "tag"]);
        reading
            .mistakes
            .push(Mistake::fault(entry.at.clone(), fault, Some(found)));
    }
    let misspelt = !group.entries().is_empty();
    const HELP: &str =
        "write `for = { axis = \"1..6\" }`, or `for = { axis = [\"base\", \"elbow\"] }`";
    let Some(repeated) = repeated else {
        if !misspelt {
            let mistake = Mistake::new(
                group.span.clone(),
                "a group says what it is repeated over",
                "`for` is needed here",
            );
            let meant = Some("for".to_owned());
            reading.mistakes.push(mistake.help(HELP).suggest(meant));
        }
        return None;
    };
    if tags.is_empty() && !misspelt {
        let mistake = Mistake::new(
            group.span.clone(),
            "this group has no tags",
            "no `[[group.tag]]` under it",
        );
        reading
            .mistakes
            .push(mistake.help("add a `[[group.tag]]` for each variable"));
    }
    let span = repeated.node.span.clone();
    let mut wrong = |span: Span, label: String| {
        let mistake = Mistake::new(span, "this group cannot be repeated", label);
        reading.mistakes.push(mistake.help(HELP));
    };
    let [variable] = repeated.node.entries() else {
        wrong(span, "expected one variable and what it runs over".into());
        return None;
    };
    let span = variable.node.span.clone();
    let over = match &variable.node.value {
        Value::Text(text) => match text.split_once("..") {
            Some((first, last)) => Over::Range(bare(first), bare(last)),
            None => {
                wrong(span, "expected first and last, as in \"1..6\"".into());
                return None;
            }
        },
        Value::List(list) if !list.is_empty() => {
            let arguments: Option<Vec<_>> = list.iter().map(argument).collect();
            match arguments {
                Some(list) => Over::List(list),
                None => {
                    wrong(span, "expected a list of texts or numbers".into());
                    return None;
                }
            }
        }
        other => {
            wrong(
                span,
                format!("expected \"1..6\" or a list, found {}", other.kind()),
            );
            return None;
        }
    };
    Some(Block {
        repeated: Some(Loop {
            variable: variable.key.to_string(),
            over,
            span,
        }),
        tags,
    })
}

/// An end of a range, with or without braces.
fn bare(end: &str) -> String {
    end.trim().trim_matches(['{', '}']).trim().to_owned()
}

/// A value as an argument, where it can be one.
pub fn argument(node: &Node<'_>) -> Option<Argument> {
    Some(match &node.value {
        Value::Text(text) => Argument::Text(text.to_string()),
        Value::Integer(number) => Argument::Integer(i64::try_from(*number).ok()?),
        Value::Float(number) if number.is_finite() => Argument::Number(*number),
        Value::Bool(value) => Argument::Bool(*value),
        _ => return None,
    })
}

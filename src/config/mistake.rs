//! One mistake in a file, before it is written for people.

use super::diagnostic::{Diagnostic, Severity};
use super::explain::Fault;
use super::source::{Sources, Span};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    pub span: Span,
    what: What,
    /// The valid key or value that was likely meant.
    pub suggestion: Option<String>,
    help: Vec<String>,
    related: Vec<(Span, String)>,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    /// As serde says it, about this entry, where it is known.
    Fault(Fault, Option<String>),
    /// Message and label.
    Said(String, String),
    /// The file is not TOML; in the parser's words.
    NotToml(String),
}

impl Mistake {
    pub fn new(span: Span, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self::of(span, What::Said(message.into(), label.into()))
    }

    pub fn fault(span: Span, fault: Fault, key: Option<String>) -> Self {
        Self::of(span, What::Fault(fault, key))
    }

    pub fn not_toml(span: Span, error: &toml::de::Error) -> Self {
        Self::of(span, What::NotToml(error.message().to_owned()))
    }

    fn of(span: Span, what: What) -> Self {
        Self {
            span,
            what,
            suggestion: None,
            help: Vec::new(),
            related: Vec::new(),
        }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    pub fn suggest(mut self, meant: Option<String>) -> Self {
        self.suggestion = meant;
        self
    }

    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// What it is in is needed because of what stands at `at`.
    pub fn required_by(&mut self, at: &Span) {
        if self.span != *at {
            self.related
                .push((at.clone(), "required by this".to_owned()));
        }
    }

    /// Whether it is a key that is misspelt for another.
    pub fn is_misspelt_key(&self) -> bool {
        matches!(&self.what, What::Fault(fault, _) if fault.meant().is_some())
    }

    pub fn diagnostic(&self, sources: &Sources<'_>) -> Diagnostic {
        let mut d = match &self.what {
            What::Fault(fault, key) => fault.diagnostic(sources, &self.span, key.as_deref()),
            What::Said(message, label) => {
                sources.diagnostic(Severity::Error, &self.span, message, label)
            }
            What::NotToml(reason) => not_toml(sources, &self.span, reason),
        };
        if self.suggestion.is_some() {
            d.suggestion.clone_from(&self.suggestion);
        }
        d.help.extend(self.help.iter().cloned());
        let related = self.related.iter();
        d.related
            .extend(related.map(|(span, label)| sources.related(span, label)));
        d
    }
}

fn not_toml(sources: &Sources<'_>, span: &Span, reason: &str) -> Diagnostic {
    if reason == "duplicate key" {
        if let Some((single, header)) = sources.single_header(span) {
            let message = format!("`[{header}]` is a list, and here is a single table");
            let label = format!("expected `[[{header}]]`");
            let mut d = sources.diagnostic(Severity::Error, &single, message, label);
            d.related
                .push(sources.related(span, "because there is another"));
            d.suggestion = Some(format!("[[{header}]]"));
            d.help.push(format!(
                "write `[[{header}]]` above every entry, with double brackets"
            ));
            return d;
        }
        let message = format!("`{}` is there twice", sources.text(span));
        let mut d = sources.diagnostic(Severity::Error, span, message, "again here");
        d.help.push(
            "a list has double brackets at every entry: `[[device]]`, `[[device.tag]]`".into(),
        );
        d
    } else if let Some((opening, bracket)) = sources.unclosed_before(span) {
        let message = "this is not TOML";
        let label = format!("this `{bracket}` is not closed");
        let mut d = sources.diagnostic(Severity::Error, &opening, message, label);
        d.related
            .push(sources.related(span, format!("noticed here: {reason}")));
        let close = if bracket == '[' { ']' } else { '}' };
        d.help.push(format!("close it with `{close}`"));
        d
    } else {
        let mut d = sources.diagnostic(Severity::Error, span, "this is not TOML", reason);
        d.help
            .push("a line is `key = value`, `[section]`, `[[device]]` or `# a comment`".into());
        d
    }
}

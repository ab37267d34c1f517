//! The profiles that one configuration uses, each read once.

use super::assemble::Chain;
use super::shelf::Shelf;
use super::template::Template;
use crate::config::explain::nearest;
use crate::config::mistake::Mistake;
use crate::config::reading::Reading;
use crate::config::source::{Sources, Span};
use crate::config::tree;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Most profiles that extend one another.
const MAX_DEPTH: usize = 8;

/// Profiles that were read.
pub struct Library {
    shelf: Shelf,
    /// `None` for those with mistakes.
    chains: BTreeMap<String, Option<Rc<Chain>>>,
}

/// What came of looking for a profile.
pub enum Found {
    /// It was read just now, and nobody has looked at the device that it describes.
    New(Rc<Chain>),
    /// It is known.
    Known(Rc<Chain>),
    /// It has mistakes, which were said.
    Broken,
}

impl Library {
    /// Nothing read yet.
    pub fn new(shelf: Shelf) -> Self {
        Self {
            shelf,
            chains: BTreeMap::new(),
        }
    }

    /// The profile `id`, named at `at`, if it is named in a file.
    pub fn find(
        &mut self,
        id: &str,
        at: Option<&Span>,
        sources: &mut Sources<'_>,
        reading: &mut Reading,
    ) -> Found {
        if let Some(known) = self.chains.get(id) {
            return known.clone().map_or(Found::Broken, Found::Known);
        }
        let before = reading.mistakes.len();
        let mut templates = Vec::new();
        let named = at.cloned().unwrap_or(0..0);
        let whole = self.climb(id, &named, &mut templates, sources, reading);
        let chain = whole.then(|| chained(templates, reading)).flatten();
        if let Some(at) = at {
            for mistake in reading.mistakes.iter_mut().skip(before) {
                mistake.required_by(at);
            }
        }
        self.chains.insert(id.to_owned(), chain.clone());
        chain.map_or(Found::Broken, Found::New)
    }

    /// From now on it counts as broken: the device that it describes has mistakes.
    pub fn mark_broken(&mut self, id: &str) {
        self.chains.insert(id.to_owned(), None);
    }

    /// Reads a profile and those that it extends, youngest first; whether all are there and right.
    fn climb(
        &self,
        id: &str,
        at: &Span,
        templates: &mut Vec<Rc<Template>>,
        sources: &mut Sources<'_>,
        reading: &mut Reading,
    ) -> bool {
        let (name, text) = match self.shelf.text(id) {
            Ok(Some(found)) => found,
            Ok(None) => {
                reading.mistakes.push(self.unknown(id, at));
                return false;
            }
            Err(reason) => {
                let message = format!("the profile `{id}` cannot be read");
                let mistake = Mistake::new(at.clone(), message, reason);
                let help = "make its file readable, or name another profile";
                reading.mistakes.push(mistake.help(help));
                return false;
            }
        };
        let Some(template) = Template::read(id, (&name, text), sources, reading) else {
            return false;
        };
        templates.push(Rc::new(template));
        self.ancestors(templates, sources, reading)
    }

    fn ancestors(
        &self,
        templates: &mut Vec<Rc<Template>>,
        sources: &mut Sources<'_>,
        reading: &mut Reading,
    ) -> bool {
        let Some(youngest) = templates.last().cloned() else {
            return false;
        };
        let Some(parent) = &youngest.header.extends else {
            return true;
        };
        let spot = tree::find(&youngest.head, &["extends"]);
        let at = spot.map_or(youngest.head.span.clone(), |spot| spot.value);
        let circle = templates.iter().any(|t| t.header.id == *parent);
        if circle || templates.len() >= MAX_DEPTH {
            let label = match circle {
                true => "it extends itself".to_owned(),
                false => format!("more than {MAX_DEPTH} profiles extend one another"),
            };
            let message = format!("the profile `{parent}` cannot be extended here");
            let mistake = Mistake::new(at, message, label);
            let help = "take `extends` out, or name a profile that does not descend from this one";
            reading.mistakes.push(mistake.help(help));
            return false;
        }
        self.climb(parent, &at, templates, sources, reading)
    }

    fn unknown(&self, id: &str, at: &Span) -> Mistake {
        let names = self.shelf.names();
        let meant = nearest(id, &names);
        let label = match &meant {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => "no profile has this name".to_owned(),
        };
        let place = match self.shelf.path() {
            Some(folder) => format!("{} and built in", folder.display()),
            None => "built in".to_owned(),
        };
        Mistake::new(at.clone(), format!("there is no profile `{id}`"), label)
            .help(format!("profiles ({place}): `{}`", names.join("`, `")))
            .suggest(meant)
    }
}

/// The chain of templates, youngest first.
fn chained(mut templates: Vec<Rc<Template>>, reading: &mut Reading) -> Option<Rc<Chain>> {
    templates.reverse();
    let before = reading.mistakes.len();
    let mut parameters = Vec::new();
    for template in &templates {
        parameters = template.parameters(parameters, &mut reading.mistakes);
    }
    (reading.mistakes.len() == before).then(|| {
        Rc::new(Chain {
            templates,
            parameters,
        })
    })
}

//! Device profiles: what is the same in all machines of a kind, written once.
//!
//! A profile is pure data: tags with addresses, units, ranges and validation, and how the machine is
//! asked. It has parameters, which stand in braces in its texts (`"{base + 4}"`), may extend another
//! profile, and may repeat a group of tags. A device that names a profile is put together from both
//! before it is read, so that every key of a device works in a profile, and a mistake is reported
//! where it stands: in the profile, with the place that requires it.

mod argument;
pub(super) mod assemble;
mod case;
mod fill;
pub(super) mod library;
pub(super) mod shelf;
pub(super) mod template;

pub use argument::Argument;
pub use shelf::Shelf;
pub use template::{Parameter, ParameterType};

pub use case::{Case, CycleCase, Registers};

use super::diagnostic::Diagnostic;
use super::explain::Fault;
use super::reading::Reading;
use super::source::Sources;
use super::{DeviceConfig, Severity, reader};
use library::{Found, Library};
use std::path::Path;

/// One profile, looked at by itself.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its id.
    pub id: String,
    /// What kind of machine it is about.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The public document that its addresses come from.
    pub source: String,
    /// What else is to be known.
    pub description: String,
    /// The profiles that it extends, nearest first.
    pub extends: Vec<String>,
    /// Its parameters, inherited ones first.
    pub parameters: Vec<(String, Parameter)>,
    /// The device that it describes, with defaults and examples for parameters. Its address is an
    /// example too, where the profile leaves that to the device.
    pub device: DeviceConfig,
    /// Its golden cases.
    pub cases: Vec<Case>,
    /// What looks like a mistake in it, but is none for certain.
    pub warnings: Vec<Diagnostic>,
}

impl Profile {
    /// Reads the profile in a file; those that it extends are beside it, or built in.
    ///
    /// The error is everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Vec<Diagnostic>> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let name = path.display().to_string();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let toml = path.extension().is_some_and(|e| e == "toml");
        match stem.filter(|stem| toml && super::id_fault(stem).is_none() && path.is_file()) {
            Some(id) => Self::find(id, &Shelf::folder(folder)),
            None => {
                let reason = match path.is_file() {
                    true => "the file's name is not that of a profile",
                    false => "the file is not there",
                };
                let mut d = Diagnostic::new(Severity::Error, &name, reason);
                d.help
                    .push("a profile lies in ID.toml, with the id that it has inside".to_owned());
                Err(vec![d])
            }
        }
    }

    /// Reads the profile `id`.
    pub fn find(id: &str, shelf: &Shelf) -> Result<Self, Vec<Diagnostic>> {
        let name = match shelf.text(id) {
            Ok(Some((name, _))) => name,
            _ => format!("profile {id}"),
        };
        let mut sources = Sources::new(&name, "");
        let mut reading = Reading::default();
        let mut library = Library::new(shelf.clone());
        let chain = match library.find(id, None, &mut sources, &mut reading) {
            Found::New(chain) | Found::Known(chain) => Some(chain),
            Found::Broken => None,
        };
        let mut found: Vec<_> = reading
            .mistakes
            .iter()
            .map(|m| m.diagnostic(&sources))
            .collect();
        if !matches!(shelf.text(id), Ok(Some(_))) {
            // It was named on a command line, or in a call: there is no place in a file.
            found.iter_mut().for_each(|d| d.place = None);
        }
        let mut cases = Vec::new();
        let device = chain.as_ref().and_then(|chain| {
            let device = reader::verify(chain, None, &sources, &mut found);
            if found.is_empty() {
                cases = case::cases(chain, &sources, &mut found);
            }
            device
        });
        let found = reader::tidy(found, &sources);
        let (Some(chain), Some(device)) = (chain, device) else {
            return Err(found);
        };
        if found.iter().any(|d| d.severity == Severity::Error) {
            return Err(found);
        }
        let mut templates = chain.templates.iter().rev();
        let Some(own) = templates.next() else {
            return Err(found);
        };
        let header = own.header.clone();
        Ok(Self {
            id: header.id,
            name: header.name,
            version: header.version,
            source: header.source,
            description: header.description,
            extends: templates.map(|t| t.header.id.clone()).collect(),
            parameters: chain.parameters.clone(),
            device,
            cases,
            warnings: found,
        })
    }
}

/// Whether a text is a profile and not the configuration of a hub.
pub fn is_profile(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let headers = |line: &str| line.split(['#', ' ']).next().unwrap_or_default().to_owned();
    lines.any(|line| headers(line) == "[profile]")
}

/// A key that is none of `known`.
fn unknown_key(found: &str, known: &[&str]) -> Fault {
    Fault::UnknownKey {
        found: found.to_owned(),
        known: known.iter().map(|key| (*key).to_owned()).collect(),
        parameters: Vec::new(),
    }
}

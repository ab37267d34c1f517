//! Where a scan writes the profile it made, and what to do with it next. A profile, so that the second
//! machine of the kind is three lines of configuration.

use crate::config::id_fault;
use anyhow::{Context, bail};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Most values of a golden case that a scan writes: enough to see what a tag means.
pub(super) const MOST_IN_CASE: usize = 100;

/// The file of a profile that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    path: PathBuf,
    /// The profile's id: the file's name.
    pub(super) id: String,
}

impl Target {
    /// The file named on the command line; the error, before anything is scanned, is that it cannot
    /// become a profile, or is there already and perhaps finished by hand.
    pub(super) fn new(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let (Some(id), true) = (stem, path.extension().is_some_and(|e| e == "toml")) else {
            bail!(
                "{shown} is no name of a profile: a profile lies in ID.toml, as plugins/profiles/press.toml"
            );
        };
        if let Some(fault) = id_fault(id) {
            bail!(
                "{shown}: a profile is called as its file, and `{id}` is not an id: {fault}; name the file \
                 otherwise"
            );
        }
        let target = Self {
            path: path.to_owned(),
            id: id.to_owned(),
        };
        target.free()?;
        Ok(target)
    }

    /// The file beside it for one of several units.
    pub(super) fn unit(&self, unit: u8) -> anyhow::Result<Self> {
        let id = format!("{}-unit-{unit}", self.id);
        Self::new(&self.path.with_file_name(format!("{id}.toml")))
    }

    fn free(&self) -> anyhow::Result<()> {
        if self.path.exists() {
            bail!(
                "{0} is there already, and what people wrote into it would be lost; name another file, or \
                 move that one away",
                self.path.display()
            );
        }
        Ok(())
    }

    /// Writes the profile, and the folder it is in.
    pub(super) fn write(&self, profile: &str) -> anyhow::Result<()> {
        let write = || -> std::io::Result<()> {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&self.path)?;
            file.write_all(profile.as_bytes())
        };
        write().with_context(|| format!("{} cannot be written", self.path.display()))
    }

    /// What to do next; `keys` are those of the device besides `id` and `profile`.
    pub(super) fn next(&self, keys: &toml::Table) -> String {
        let (path, id) = (self.path.display(), &self.id);
        let folder = self.path.parent().filter(|f| !f.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).display();
        format!(
            "Next:\n  give the tags names, units and ranges, and take away what nobody needs: {path}\n  \
             weighbridge profile test {path}\n  put a device into your configuration, one for each such \
             machine:\n\n[[device]]\nid = \"{id}-1\"\nprofile = \"{id}\"\n{keys}\n  \
             (profiles are looked for in plugins/profiles beside the configuration; another folder is \
             `profiles = \"DIR\"` in [hub]; this one is in {folder})\n  weighbridge check hub.toml\n"
        )
    }

    /// The file, as people are told.
    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

/// Text as TOML has it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Text of a tag as a profile has it: braces are doubled, as they enclose parameters there.
pub(super) fn plain(text: &str) -> String {
    quoted(&text.replace('{', "{{").replace('}', "}}"))
}

/// Text for a comment: one line.
pub(super) fn comment(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_become_a_profile_is_a_target() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (name, reason) in [
            ("press", "ID.toml"),
            ("press.json", "ID.toml"),
            ("Press.toml", "not an id"),
        ] {
            let error = Target::new(&path(name)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let target = Target::new(&path("new/press.toml")).unwrap();
        target.write("# mine").unwrap();
        assert!(target.write("").is_err(), "nothing is overwritten");
        let error = Target::new(&path("new/press.toml")).unwrap_err();
        assert!(error.to_string().contains("there already"), "{error}");
        let unit = target.unit(3).unwrap();
        assert_eq!(unit.id, "press-unit-3");
        assert!(unit.shown().ends_with("new/press-unit-3.toml"));
    }
}

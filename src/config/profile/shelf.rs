//! Where profiles are found: a folder beside the configuration, and those that are built in.

use crate::config::{id_fault, read_text};
use std::path::{Path, PathBuf};

/// Name and text of each.
macro_rules! built_in {
    ($($id:literal),*) => {
        &[$(($id, include_str!(concat!("../../../plugins/profiles/", $id, ".toml")))),*]
    };
}

/// Profiles that are part of the program.
const BUILT_IN: &[(&str, &str)] = built_in!(
    "abb-robotics",
    "analog-4-20ma",
    "eastron-sdm630",
    "kuka-robotics",
    "opcua-robotics",
    "schneider-m2xx",
    "siemens-s7-1200",
    "siemens-s7-1500",
    "universal-robots",
    "universal-robots-cycle",
    "universal-robots-rtde",
    "water-pump"
);

/// Where profiles are looked for. One in the folder comes before a built-in one of the same name.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    folder: Option<PathBuf>,
}

impl Shelf {
    /// Only those that are built in.
    pub fn built_in() -> Self {
        Self::default()
    }

    /// Those in `folder`, and those that are built in.
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: Some(folder.into()),
        }
    }

    /// The folder, where there is one.
    pub fn path(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Ids of all profiles, sorted.
    pub fn names(&self) -> Vec<String> {
        let files = self.folder.as_deref().and_then(|f| f.read_dir().ok());
        let files = files.into_iter().flatten().flatten();
        let mut names: Vec<String> = files
            .filter_map(|file| {
                let path = file.path();
                let toml = path.extension().is_some_and(|e| e == "toml");
                let stem = path.file_stem()?.to_str()?.to_owned();
                (toml && id_fault(&stem).is_none()).then_some(stem)
            })
            .collect();
        names.extend(BUILT_IN.iter().map(|(name, _)| (*name).to_owned()));
        names.sort();
        names.dedup();
        names
    }

    /// Whether `id` would be the built-in one.
    pub fn is_built_in(&self, id: &str) -> bool {
        self.file(id).is_none() && BUILT_IN.iter().any(|(name, _)| *name == id)
    }

    fn file(&self, id: &str) -> Option<PathBuf> {
        if id_fault(id).is_some() {
            return None;
        }
        let path = self.folder.as_ref()?.join(format!("{id}.toml"));
        path.is_file().then_some(path)
    }

    /// Name and text of the profile `id`; `None` when there is none. The error is why its file cannot
    /// be read.
    pub fn text(&self, id: &str) -> Result<Option<(String, String)>, String> {
        if let Some(path) = self.file(id) {
            let text = read_text(&path)?;
            return Ok(Some((path.display().to_string(), text)));
        }
        let built_in = BUILT_IN.iter().find(|(name, _)| *name == id);
        Ok(built_in.map(|(_, text)| (format!("built in: {id}.toml"), (*text).to_owned())))
    }
}

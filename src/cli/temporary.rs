//! A directory of this process's own, removed at the end.

use std::path::{Path, PathBuf};

pub(super) struct TemporaryDir(PathBuf);

impl TemporaryDir {
    /// A new empty directory, readable by its owner only; `what` is in its name.
    pub(super) fn new(what: &str) -> anyhow::Result<Self> {
        let name = format!(
            "weighbridge-{what}-{}-{}",
            std::process::id(),
            crate::model::now()
        );
        let path = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// The directory that was `given`, or a new one that is removed when the second value is dropped.
pub(super) fn given_or_temporary(
    given: Option<&Path>,
    what: &str,
) -> anyhow::Result<(PathBuf, Option<TemporaryDir>)> {
    if let Some(given) = given {
        return Ok((given.to_owned(), None));
    }
    let temporary = TemporaryDir::new(what)?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} could not be removed: {error}", self.0.display());
        }
    }
}

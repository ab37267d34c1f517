//! Whether files have changed, as far as the file system tells.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What tells one state of a file from another.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Looks at files again and again: whoever replaces several of them does it one after the other, so they
/// count as changed when they have stayed as they are from one look to the next.
#[derive(Debug)]
pub struct ChangedFiles {
    files: Vec<PathBuf>,
    taken: Vec<Stamp>,
    seen: Vec<Stamp>,
}

impl ChangedFiles {
    /// As they are now, they are known.
    pub fn new(files: Vec<PathBuf>) -> Self {
        let taken = stamps(&files);
        let seen = taken.clone();
        Self { files, taken, seen }
    }

    /// Whether they are others than those that were taken last, and quiet; from then on they are those that
    /// were taken. Blocking, but for a moment only.
    pub fn look(&mut self) -> bool {
        let now = stamps(&self.files);
        let quiet = now == self.seen;
        self.seen = now;
        if !quiet || self.seen == self.taken {
            return false;
        }
        self.taken.clone_from(&self.seen);
        true
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Stamp {
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.len(), number(&found)))
}

/// A file that was put in another's place has another number.
#[cfg(unix)]
fn number(found: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(found)
}

#[cfg(not(unix))]
fn number(_: &Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_changed_when_they_are_others_and_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| dir.path().join(name));
        std::fs::write(&files[0], "1").unwrap();
        let mut changed = ChangedFiles::new(files.to_vec());
        assert!(!changed.look());
        let replace = |file: &Path, text: &str| {
            let new = dir.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, file).unwrap();
        };
        // One, then the other: neither look finds them quiet.
        replace(&files[0], "2");
        assert!(!changed.look());
        replace(&files[1], "2");
        assert!(!changed.look());
        assert!(changed.look());
        assert!(!changed.look(), "they were taken");
        // Away, and back as it was, is no change.
        std::fs::rename(&files[1], dir.path().join("aside")).unwrap();
        assert!(!changed.look());
        std::fs::rename(dir.path().join("aside"), &files[1]).unwrap();
        assert!(!changed.look());
        assert!(!changed.look());
    }
}

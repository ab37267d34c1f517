//! A directory of cosigned notes: one file a size, named by it.

use super::super::verify_note::read_note;
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use weighbridge_verifier::checkpoint::Checkpoint;
use weighbridge_verifier::note::Note;

/// What files of notes end in.
const SUFFIX: &str = ".note";

/// Where notes are kept.
pub(super) struct Kept(PathBuf);

impl Kept {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// The one of the largest tree.
    pub(super) fn newest(&self) -> anyhow::Result<Option<(PathBuf, Checkpoint)>> {
        let entries = match fs::read_dir(&self.0) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            entries => entries.with_context(|| format!("{} cannot be read", self.0.display()))?,
        };
        let mut newest: Option<(u64, PathBuf)> = None;
        for entry in entries {
            let path = entry?.path();
            let size = size_of(&path);
            if size > newest.as_ref().map(|(size, _)| *size) {
                newest = size.map(|size| (size, path));
            }
        }
        let Some((size, path)) = newest else {
            return Ok(None);
        };
        let (_, checkpoint) = read_note(&path)?;
        ensure!(
            checkpoint.size == size,
            "{} holds a checkpoint of another size",
            path.display()
        );
        Ok(Some((path, checkpoint)))
    }

    /// Keeps `note`, together with the signatures of an earlier copy; its file. A crash leaves either
    /// the earlier file or this one.
    pub(super) fn keep(&self, checkpoint: &Checkpoint, note: &mut Note) -> anyhow::Result<PathBuf> {
        let path = self.0.join(format!("{:020}{SUFFIX}", checkpoint.size));
        if path.exists() {
            let (earlier, _) = read_note(&path)?;
            ensure!(
                earlier.text == note.text,
                "{} holds another checkpoint of this size",
                path.display()
            );
            let new = &note.signatures;
            let known = |s: &&_| !new.iter().any(|n| same_key(n, s));
            let add: Vec<_> = earlier.signatures.iter().filter(known).cloned().collect();
            note.signatures.extend(add);
        }
        let write = || {
            fs::create_dir_all(&self.0)?;
            let beside = path.with_extension("new");
            let mut file = fs::File::create(&beside)?;
            std::io::Write::write_all(&mut file, note.to_string().as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }
}

fn same_key(
    a: &weighbridge_verifier::note::NoteSignature,
    b: &weighbridge_verifier::note::NoteSignature,
) -> bool {
    (&a.name, a.key_id) == (&b.name, b.key_id)
}

fn size_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    let digits = name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weighbridge_verifier::Hash;
    use weighbridge_verifier::note::NoteSignature;

    fn note(size: u64, by: &[&str]) -> (Checkpoint, Note) {
        let checkpoint = Checkpoint {
            origin: "log".to_owned(),
            size,
            root: Hash([size as u8; 32]),
            extensions: Vec::new(),
        };
        let line = |name: &&str| NoteSignature {
            name: (*name).to_owned(),
            key_id: [1; 4],
            signature: vec![2; 64],
        };
        let text = checkpoint.to_string();
        let signatures = by.iter().map(line).collect();
        (checkpoint, Note { text, signatures })
    }

    #[test]
    fn the_newest_is_found_and_signatures_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::new(dir.path().join("notes"));
        assert_eq!(kept.newest().unwrap(), None);
        for size in [9, 100, 20] {
            let (checkpoint, mut note) = note(size, &["log", "w1"]);
            kept.keep(&checkpoint, &mut note).unwrap();
        }
        fs::write(dir.path().join("notes/readme.txt"), "x").unwrap();
        let (path, newest) = kept.newest().unwrap().unwrap();
        assert_eq!(newest.size, 100);
        let (checkpoint, mut again) = note(100, &["log", "w2"]);
        kept.keep(&checkpoint, &mut again).unwrap();
        let (read, _) = read_note(&path).unwrap();
        let names: Vec<_> = read.signatures.iter().map(|s| &*s.name).collect();
        assert_eq!(names, ["log", "w2", "w1"]);
        let (mut checkpoint, mut other) = note(100, &["log"]);
        checkpoint.root = Hash::ZERO;
        other.text = checkpoint.to_string();
        assert!(kept.keep(&checkpoint, &mut other).is_err());
    }
}

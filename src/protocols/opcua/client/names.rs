//! The namespaces of a server, and what their indices meant when it was first seen.
//!
//! A server may number its namespaces anew whenever it starts (OPC 10000-3, 8.2.2). An address by
//! index is kept pointing at the namespace that had this index at the first connection. That is kept
//! in a file, because the server may be renumbered while the hub is down. It is no record: it says
//! nothing of what was measured, and edge nodes, which have no ledger, need it as well.

use super::node::Namespace;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The last index whose meaning the standard fixes: 0 is OPC UA's own, 1 the server's.
const FIXED: u16 = 1;
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What the indices of a device's addresses meant at first; it outlives connections, and with a file
/// the process.
#[derive(Default)]
pub(super) struct FirstNames {
    known: Mutex<Known>,
    url: String,
    file: Option<PathBuf>,
}

#[derive(Default)]
struct Known {
    first: BTreeMap<u16, String>,
    /// Whether the file was read.
    loaded: bool,
    /// Whether the file does not have all of it.
    news: bool,
}

/// The file: what was learned of the server at this address.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Learned {
    url: String,
    /// Index to URI.
    namespaces: BTreeMap<u16, String>,
}

impl FirstNames {
    /// For the server at `url`, kept in `file`.
    pub(super) fn new(url: &str, file: Option<PathBuf>) -> Self {
        Self {
            known: Mutex::default(),
            url: url.to_owned(),
            file,
        }
    }

    /// Takes over what the file says, once; nothing when it tells of another address. Blocking.
    ///
    /// # Errors
    /// When it cannot be read: to learn anew could be to read another variable.
    pub(super) fn load(&self) -> Result<(), String> {
        let mut known = self.known.lock();
        let Some(file) = self.file.as_deref().filter(|_| !known.loaded) else {
            return Ok(());
        };
        let learned = read(file).map_err(|error| {
            let file = file.display();
            format!(
                "{file}, which keeps what the namespace indices mean, cannot be read ({error}): mend it, \
                 or remove it to have them mean what they mean now"
            )
        })?;
        if let Some(learned) = learned.filter(|learned| learned.url == self.url) {
            known.first = learned.namespaces;
        }
        known.loaded = true;
        Ok(())
    }

    /// Keeps in the file what was learned since it was written. Blocking.
    pub(super) fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let namespaces = {
            let mut known = self.known.lock();
            if !std::mem::take(&mut known.news) {
                return Ok(());
            }
            known.first.clone()
        };
        let learned = Learned {
            url: self.url.clone(),
            namespaces,
        };
        let written = write(file, &learned);
        self.known.lock().news |= written.is_err();
        written
    }

    /// Indices that mean a namespace with another number now: the index, its meaning, its number.
    pub(super) fn moved(&self, now: &[String]) -> Vec<(u16, String, Option<usize>)> {
        let known = self.known.lock();
        let place = |(index, uri): (&u16, &String)| {
            let at = now.iter().position(|name| name == uri);
            (*index, uri.clone(), at)
        };
        let all = known.first.iter().map(place);
        all.filter(|(index, _, at)| *at != Some(usize::from(*index)))
            .collect()
    }

    /// The namespace's index among those that the server has `now`. Without a list of them an index
    /// is taken as it is.
    pub(super) fn index(&self, namespace: &Namespace, now: &[String]) -> Option<u16> {
        let find = |uri: &str| {
            let at = now.iter().position(|name| name == uri)?;
            u16::try_from(at).ok()
        };
        match namespace {
            Namespace::Uri(uri) => find(uri),
            Namespace::Index(index) if *index <= FIXED || now.is_empty() => Some(*index),
            Namespace::Index(index) => {
                let mut known = self.known.lock();
                let uri = match known.first.get(index) {
                    Some(uri) => uri.clone(),
                    None => {
                        let uri = now.get(usize::from(*index))?.clone();
                        known.first.insert(*index, uri.clone());
                        known.news = true;
                        uri
                    }
                };
                find(&uri)
            }
        }
    }
}

fn read(file: &Path) -> io::Result<Option<Learned>> {
    let length = match fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    if length > MAX_FILE {
        return Err(io::Error::other("it is too long"));
    }
    Ok(Some(serde_json::from_slice(&fs::read(file)?)?))
}

/// Writes the file as a whole or not at all, and durably.
fn write(file: &Path, learned: &Learned) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let temporary = file.with_extension("tmp");
    let mut out = File::create(&temporary)?;
    out.write_all(&serde_json::to_vec_pretty(learned)?)?;
    out.sync_all()?;
    fs::rename(&temporary, file)?;
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(uris: &[&str]) -> Vec<String> {
        uris.iter().map(|uri| (*uri).to_owned()).collect()
    }

    #[test]
    fn an_index_keeps_the_meaning_it_had_at_first() {
        let first = FirstNames::default();
        let at_first = names(&["ua", "server-1", "maker", "robot"]);
        let later = names(&["ua", "server-2", "robot", "new", "maker"]);
        let index = |n, now: &[String]| first.index(&Namespace::Index(n), now);
        assert_eq!(index(2, &at_first), Some(2));
        assert_eq!(index(2, &later), Some(4));
        assert_eq!(
            index(1, &later),
            Some(1),
            "the server may have another name"
        );
        assert_eq!(index(3, &later), Some(3), "first asked for now");
        assert_eq!(index(3, &at_first), None, "that namespace is gone");
        assert_eq!(index(9, &later), None);
        assert_eq!(index(9, &[]), Some(9), "the server tells no names");
        let robot = Namespace::Uri("robot".into());
        assert_eq!(first.index(&robot, &later), Some(2));
        assert_eq!(first.index(&robot, &names(&["ua"])), None);
    }

    #[test]
    fn what_was_learned_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let file = Some(dir.path().join("learned/robot.json"));
        let at_first = names(&["ua", "server", "robot"]);
        let later = names(&["ua", "server", "other", "robot"]);
        let robot = Namespace::Index(2);
        let load = |url: &str| {
            let names = FirstNames::new(url, file.clone());
            names.load().map(|()| names)
        };
        let first = load("opc.tcp://a").unwrap();
        assert_eq!(first.index(&robot, &at_first), Some(2));
        first.save().unwrap();

        let second = load("opc.tcp://a").unwrap();
        assert!(second.moved(&at_first).is_empty());
        assert_eq!(second.moved(&later), [(2, "robot".to_owned(), Some(3))]);
        assert_eq!(second.index(&robot, &later), Some(3));
        // Another address is another server.
        let other = load("opc.tcp://b").unwrap();
        assert_eq!(other.index(&robot, &later), Some(2));
        fs::write(file.as_ref().unwrap(), "{").unwrap();
        assert!(load("opc.tcp://a").is_err());
    }
}

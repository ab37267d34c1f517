//! The namespaces of a server, and what their indices meant when it was first seen.
//!
//! A server may number its namespaces anew whenever it starts (OPC 10000-3, 8.2.2). An address by
//! index is kept pointing at the namespace that had this index at the first connection.

use super::node::Namespace;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// The last index whose meaning the standard fixes: 0 is OPC UA's own, 1 the server's.
const FIXED: u16 = 1;

/// What the indices of a device's addresses meant at first; it outlives connections.
#[derive(Default)]
pub(super) struct FirstNames(Mutex<BTreeMap<u16, String>>);

impl FirstNames {
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
                let mut first = self.0.lock();
                let uri = match first.get(index) {
                    Some(uri) => uri.clone(),
                    None => {
                        let uri = now.get(usize::from(*index))?.clone();
                        first.insert(*index, uri.clone());
                        uri
                    }
                };
                find(&uri)
            }
        }
    }
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
}

//! The bytes of values that are not decided yet: in memory once, found by id.
//!
//! The engine's log writes them down with the value that it logs ([`super::codec`]), in the same
//! synced write as the vote that rests on them. So a site that loses power as a whole, right after its
//! hubs voted, still has what they voted for.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use weighbridge_verifier::Hash;

/// Most values of one height. The first ones stay: a hub may have voted for them.
const MAX_PER_HEIGHT: usize = 64;

/// A value that waits for its decision.
#[derive(Clone, Debug)]
struct Waiting {
    height: u64,
    bytes: Bytes,
}

/// The values of one chain that are not decided yet.
#[derive(Debug, Default)]
pub struct Values(Mutex<BTreeMap<Hash, Waiting>>);

impl Values {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Hash, Waiting>> {
        // Nothing in here panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a value; `false` when its height has too many already.
    pub fn keep(&self, id: Hash, height: u64, bytes: Bytes) -> bool {
        let mut values = self.lock();
        if values.contains_key(&id) {
            return true;
        }
        let of_height = values.values().filter(|v| v.height == height).count();
        let room = of_height < MAX_PER_HEIGHT;
        if room {
            values.insert(id, Waiting { height, bytes });
        }
        room
    }

    /// The bytes of a value.
    pub fn get(&self, id: &Hash) -> Option<Bytes> {
        self.lock().get(id).map(|waiting| waiting.bytes.clone())
    }

    /// Lets go of everything up to a height.
    pub fn decided(&self, height: u64) {
        self.lock().retain(|_, waiting| waiting.height > height);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> Hash {
        let mut hash = Hash::ZERO;
        hash.0[..8].copy_from_slice(&(n as u64).to_le_bytes());
        hash
    }

    #[test]
    fn a_height_has_room_for_so_many_values_and_keeps_the_first() {
        let values = Values::default();
        for n in 0..MAX_PER_HEIGHT {
            assert!(values.keep(id(n), 1, Bytes::new()));
        }
        assert!(!values.keep(id(1000), 1, Bytes::new()));
        assert!(values.keep(id(0), 1, Bytes::new()));
        assert!(values.keep(id(2000), 2, Bytes::from_static(b"two")));
        values.decided(1);
        assert_eq!(values.get(&id(0)), None);
        assert_eq!(values.get(&id(2000)).unwrap(), "two");
    }
}

//! Wrapping a hub's keys anew to the sealing key that it has by now.
//!
//! Every wrap to the hub that its key in use does not open is opened by one from before and made anew in its slot, a
//! bounded number at a time. Each of them can be opened by a kept key at every moment: the store has the new wrap
//! durably before it overwrites the old one. What was destroyed stays destroyed. It can be done again at any time,
//! from the beginning or from anywhere, and goes on where it was interrupted.

use super::key_wrap::{KeyWrap, read_wrap_key};
use super::store::{Put, Space, Store, StoreError};
use crate::crypto::{EpochKey, OpenError, SealingRing, Signer, WrappedKey};

/// Wraps looked at in one step, and written in one commit.
const TOGETHER: usize = 32;

/// The keys of one hub, in their slots.
pub struct Rewrap<'a> {
    /// Where they are.
    pub store: &'a dyn Store,
    /// The hub's sealing keys.
    pub keys: &'a SealingRing,
    /// The hub, which signs its wraps, and whose name they have.
    pub signer: &'a dyn Signer,
    /// The chain.
    pub chain: &'a str,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// Wraps to the hub that were looked at.
    pub seen: u64,
    /// Those that were made anew.
    pub made: u64,
    /// Those that no key opens: they were changed, or of another key than any that is kept.
    pub unopened: u64,
}

impl Rewrap<'_> {
    /// Looks at some wraps from `from` on, and adds to `done`; from where to go on, `None` at the end. Whoever calls
    /// it keeps keys from being destroyed meanwhile.
    ///
    /// # Errors
    /// When the store fails. What was done of it stays.
    pub fn step(&self, from: &[u8], done: &mut Rewrapped) -> Result<Option<Vec<u8>>, StoreError> {
        let (mut puts, mut looked, mut next) = (Vec::new(), 0, None);
        for entry in self.store.scan(Space::Keys, from) {
            let (at, value) = entry?;
            if looked == TOGETHER {
                next = Some(at);
                break;
            }
            let own = |(_, _, name): &(String, u64, String)| name == self.signer.id();
            let Some((device, epoch, _)) = read_wrap_key(&at).filter(own) else {
                continue;
            };
            if value.is_empty() {
                continue;
            }
            looked += 1;
            done.seen += 1;
            match self.anew((&device, epoch), &value) {
                Ok(None) => {}
                Ok(Some(wrap)) => puts.push(Put {
                    space: Space::Keys,
                    key: at,
                    value: wrap.to_bytes(),
                }),
                Err(error) => {
                    tracing::error!(device, epoch, %error, "no key of the hub opens the wrap of this key");
                    done.unopened += 1;
                }
            }
        }
        if !puts.is_empty() {
            self.store.commit(&puts)?;
            done.made += puts.len() as u64;
        }
        if next.is_none() {
            // What was cut short before lies in sectors that are of no slot.
            self.store.remove(Space::Keys, &[])?;
        }
        Ok(next)
    }

    /// All of them.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn all(&self) -> Result<Rewrapped, StoreError> {
        let mut done = Rewrapped::default();
        let mut from = Some(Vec::new());
        while let Some(at) = from {
            from = self.step(&at, &mut done)?;
        }
        Ok(done)
    }

    /// The same key wrapped to the key in use; `None` where it is already.
    fn anew(&self, of: (&str, u64), wrap: &[u8]) -> Result<Option<KeyWrap>, OpenError> {
        let wrap = KeyWrap::from_bytes(wrap).map_err(|_| OpenError::Form)?;
        let (enc, ciphertext) = (wrap.enc, wrap.ciphertext);
        let wrapped = WrappedKey { enc, ciphertext };
        let current = self.keys.current();
        if current.unwrap(of.0, of.1, &wrapped).is_ok() {
            return Ok(None);
        }
        let key: EpochKey = self.keys.unwrap(of.0, of.1, &wrapped)?;
        let new = current.public().wrap(&key)?;
        let new = (new.enc, new.ciphertext);
        let name = self.signer.id();
        let wrap = KeyWrap::sign(self.chain, of.0, of.1, name, new, self.signer);
        Ok(Some(wrap))
    }
}

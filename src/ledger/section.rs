//! A part of the state that knows its own hash.
//!
//! Most blocks change the devices' counters and nothing else, so the other parts need neither be
//! copied nor hashed again.

use borsh::BorshSerialize;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use weighbridge_verifier::{Hash, Suite, encode};

const SECTION_DOMAIN: &[u8] = b"weighbridge/state-section/v1\0";

/// A value with its hash, cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Section<T> {
    value: Arc<T>,
    hash: OnceLock<Hash>,
}

impl<T: Clone + BorshSerialize> Section<T> {
    /// A section holding `value`.
    pub(super) fn new(value: T) -> Self {
        Self {
            value: Arc::new(value),
            hash: OnceLock::new(),
        }
    }

    /// The value, to be changed.
    pub(super) fn change(&mut self) -> &mut T {
        self.hash = OnceLock::new();
        Arc::make_mut(&mut self.value)
    }

    /// Hash of the value's canonical bytes; a chain has one suite, so it is always asked for the same.
    pub(super) fn hash(&self, suite: Suite) -> Hash {
        let compute = || suite.hash(&[SECTION_DOMAIN, &encode(&*self.value)]);
        *self.hash.get_or_init(compute)
    }
}

impl<T> Deref for Section<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Section<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

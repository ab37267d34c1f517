//! The key of an edge node, which may be replaced while it is in use.
//!
//! Another key counts when a hub lets the edge node in with it: that hub has it on record, so what is signed
//! by it is taken. Until then everything is signed by the one before, and no connection ends.

use super::EdgeError;
use crate::crypto::{Identity, Signer};
use std::sync::Arc;
use tokio::sync::watch;
use weighbridge_verifier::{Hash, PublicKey, Signature};

/// The key in use, and the one that is to take its place.
pub(super) struct EdgeKey {
    id: String,
    current: watch::Sender<Arc<Identity>>,
    next: watch::Sender<Option<Arc<Identity>>>,
}

impl EdgeKey {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            id: identity.id().to_owned(),
            current: watch::Sender::new(Arc::new(identity)),
            next: watch::Sender::default(),
        }
    }

    /// The key in use.
    pub(super) fn current(&self) -> Arc<Identity> {
        self.current.borrow().clone()
    }

    /// The key in use, to be watched.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Identity>> {
        self.current.subscribe()
    }

    /// The key that is to take its place.
    pub(super) fn next(&self) -> Option<Arc<Identity>> {
        self.next.borrow().clone()
    }

    /// Returns when there is a key that is to take the place of the one in use.
    pub(super) async fn offered(&self) -> Arc<Identity> {
        let mut next = self.next.subscribe();
        let offered = next.wait_for(Option::is_some).await;
        match offered.ok().and_then(|next| next.clone()) {
            Some(next) => next,
            // The sender is in `self`, so this is not reached.
            None => std::future::pending().await,
        }
    }

    /// From now on `identity` is to take the place of the key in use; the key in use ends that.
    pub(super) fn offer(&self, identity: Identity) -> Result<(), EdgeError> {
        let own = self.current();
        if identity.id() != self.id || identity.suite() != own.suite() {
            return Err(EdgeError::Successor);
        }
        let other = identity.public_key() != own.public_key();
        let next = other.then(|| Arc::new(identity));
        self.next.send_replace(next);
        Ok(())
    }

    /// A hub has let the edge node in with `next`: from here on it is the one in use.
    pub(super) fn succeed_with(&self, next: &Arc<Identity>) {
        self.current.send_replace(next.clone());
        self.next.send_if_modified(|waiting| {
            let taken = waiting.take_if(|w| w.public_key() == next.public_key());
            taken.is_some()
        });
    }
}

impl Signer for EdgeKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn public_key(&self) -> PublicKey {
        self.current.borrow().public_key()
    }

    fn sign(&self, message: &Hash) -> Signature {
        self.current().sign(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weighbridge_verifier::Suite;

    #[test]
    fn another_key_waits_until_it_is_let_in_and_is_none_of_somebody_else() {
        for suite in Suite::ALL {
            let of = |byte| Identity::from_byte_of(suite, "edge-1", byte);
            let key = EdgeKey::new(of(1));
            key.offer(of(2)).unwrap();
            assert_eq!(key.public_key(), of(1).public_key());
            let next = key.next().unwrap();
            // Another one comes before the first was let in, which it is then all the same.
            key.offer(of(3)).unwrap();
            key.succeed_with(&next);
            assert_eq!(key.public_key(), of(2).public_key());
            assert_eq!(key.next().unwrap().public_key(), of(3).public_key());
            // Whoever takes it back names the one in use.
            key.offer(of(2)).unwrap();
            assert!(key.next().is_none());
            let stranger = Identity::from_byte_of(suite, "edge-2", 4);
            assert!(matches!(key.offer(stranger), Err(EdgeError::Successor)));
            let other = Suite::ALL.into_iter().find(|s| *s != suite).unwrap();
            let other = Identity::from_byte_of(other, "edge-1", 4);
            assert!(matches!(key.offer(other), Err(EdgeError::Successor)));
            assert!(key.next().is_none());
        }
    }
}

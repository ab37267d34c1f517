//! A key that gives way to another one while it is in use: of a device that signs for itself.

use super::identity::Identity;
use super::signer::Signer;
use parking_lot::RwLock;
use std::sync::Arc;
use weighbridge_verifier::{Hash, PublicKey, Signature};

/// A key, and the one that is to take its place. Whoever holds it keeps both somewhere durable: the next one
/// before it is shown to a hub, the one before until the hub has recorded that.
pub struct ReplaceableKey {
    id: String,
    keys: RwLock<(Arc<Identity>, Option<Arc<Identity>>)>,
}

/// Another key that cannot take the place of the one in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the new key is of another suite than the one in use, or somebody else's")]
pub struct NoSuccessor;

impl ReplaceableKey {
    /// With no other to come.
    pub fn new(identity: Identity) -> Self {
        Self {
            id: identity.id().to_owned(),
            keys: RwLock::new((Arc::new(identity), None)),
        }
    }

    /// The key in use.
    pub fn current(&self) -> Arc<Identity> {
        self.keys.read().0.clone()
    }

    /// From now on `identity` is to take the place of the key in use; it does when the hub has recorded that.
    ///
    /// # Errors
    /// When it is of another suite, or somebody else's.
    pub fn offer(&self, identity: Identity) -> Result<(), NoSuccessor> {
        let mut keys = self.keys.write();
        if identity.id() != self.id || identity.suite() != keys.0.suite() {
            return Err(NoSuccessor);
        }
        keys.1 = Some(Arc::new(identity));
        Ok(())
    }
}

impl Signer for ReplaceableKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn public_key(&self) -> PublicKey {
        self.keys.read().0.public_key()
    }

    fn sign(&self, message: &Hash) -> Signature {
        self.current().sign(message)
    }

    fn successor(&self) -> Option<PublicKey> {
        self.keys.read().1.as_ref().map(|next| next.public_key())
    }

    fn succeed(&self, key: &PublicKey) -> bool {
        let mut keys = self.keys.write();
        match keys.1.take_if(|next| next.public_key() == *key) {
            Some(next) => keys.0 = next,
            None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weighbridge_verifier::Suite;

    #[test]
    fn the_next_key_takes_its_place_when_it_is_named_and_no_other_does() {
        for suite in Suite::ALL {
            let of = |byte| Identity::from_byte_of(suite, "press-1", byte);
            let key = ReplaceableKey::new(of(1));
            assert!(!key.succeed(&of(2).public_key()));
            key.offer(of(2)).unwrap();
            assert_eq!(key.successor(), Some(of(2).public_key()));
            assert_eq!(key.public_key(), of(1).public_key());
            assert!(!key.succeed(&of(1).public_key()));
            assert!(key.succeed(&of(2).public_key()));
            assert_eq!(
                (key.public_key(), key.successor()),
                (of(2).public_key(), None)
            );
            let stranger = Identity::from_byte_of(suite, "press-2", 3);
            assert_eq!(key.offer(stranger), Err(NoSuccessor));
        }
    }
}

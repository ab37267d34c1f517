//! By which keys hubs sign, now and before: what a wrap that another hub made is judged by.

use super::key_wrap::KeyWrap;
use super::state::State;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use weighbridge_verifier::signature::DirectCheck;
use weighbridge_verifier::{IdentityKind, PublicKey};

/// Why a wrap is not taken for what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// It is of another chain.
    #[error("it belongs to the chain `{0}`")]
    Chain(String),
    /// Nobody of this name is a hub of the chain.
    #[error("`{0}` is not an enrolled hub")]
    Unknown(String),
    /// No key that the hub has or had signed it.
    #[error("it is not signed by any key of `{0}`")]
    Signature(String),
}

/// The keys of a chain's hubs, of each the one in use first. Cheap to clone: all clones are the same.
#[derive(Clone, Default)]
pub struct Signers(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    chain: String,
    hubs: BTreeMap<String, Vec<PublicKey>>,
}

impl Signers {
    /// Those that `state` has.
    pub fn of(state: &State) -> Self {
        let signers = Self::default();
        signers.follow(state);
        signers
    }

    /// Goes over to those that `state` has. A hub that was put out stays: what it had signed is there.
    pub fn follow(&self, state: &State) {
        let hubs = state.identities().iter();
        let hubs = hubs.filter(|(_, identity)| identity.kind == IdentityKind::Hub);
        let hubs = hubs.map(|(id, identity)| {
            let former = state.former_keys(id).iter().rev().copied();
            (id.clone(), identity.key.into_iter().chain(former).collect())
        });
        *self.0.write() = Known {
            chain: state.chain().to_owned(),
            hubs: hubs.collect(),
        };
    }

    /// Whether the hub that `wrap` names has signed it.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn check(&self, wrap: &KeyWrap) -> Result<(), SignerError> {
        let known = self.0.read();
        if wrap.chain != known.chain {
            return Err(SignerError::Chain(wrap.chain.clone()));
        }
        let keys = known.hubs.get(&wrap.hub);
        let keys = keys.ok_or_else(|| SignerError::Unknown(wrap.hub.clone()))?;
        let signed = keys
            .iter()
            .any(|key| wrap.verify(key, &DirectCheck).is_ok());
        match signed {
            true => Ok(()),
            false => Err(SignerError::Signature(wrap.hub.clone())),
        }
    }
}

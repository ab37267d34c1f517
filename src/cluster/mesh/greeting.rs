//! How a link begins: both sides say which version they speak, for which chain, who they are, and what is sealed to them.

use super::Shared;
use super::ended::Ended;
use super::peer::Peer;
use super::wire::{Hello, MESH_PROTOCOL, version_of};
use crate::crypto::{Introduction, SealingWord};
use std::sync::Arc;
use tokio::sync::watch;
use weighbridge_verifier::{KeyCache, PublicKey, decode, plain};

/// This hub's word for its sealing key.
pub(super) type OwnWord = watch::Receiver<Option<Arc<SealingWord>>>;

impl Shared {
    /// What this hub says. What `word` says later is news.
    pub(super) fn hello(&self, word: &mut OwnWord) -> Result<Hello, Ended> {
        let word = word.borrow_and_update().as_deref().cloned();
        let word = word.ok_or_else(|| Ended::new("this hub is starting"))?;
        Ok(Hello {
            version: MESH_PROTOCOL,
            chain: self.chain.clone(),
            hub: self.hub.clone(),
            incarnation: self.incarnation,
            word: Box::new(word),
        })
    }

    /// Reads what `peer` says, over a connection on which it has shown one of its keys.
    pub(super) fn judge(&self, peer: &Peer, bytes: &[u8]) -> Result<Hello, Ended> {
        match version_of(bytes) {
            Some(MESH_PROTOCOL) => {}
            Some(other) => {
                return Err(Ended::new(format!(
                    "it speaks version {other} of what hubs say to each other, this hub {MESH_PROTOCOL}: install on \
                     both the newer of their versions of Weighbridge"
                )));
            }
            None => return Err(Ended::lie("its hello has no version")),
        }
        let hello: Hello =
            decode("hello of a hub", bytes).map_err(|e| Ended::lie(e.to_string()))?;
        if hello.chain != self.chain {
            let (theirs, ours) = (plain(&hello.chain), &self.chain);
            let why = format!("it is of the chain `{theirs}`, this hub of `{ours}`");
            return Err(Ended::new(why));
        }
        if hello.hub != peer.id {
            let (says, is) = (plain(&hello.hub), &peer.id);
            return Err(Ended::lie(format!(
                "it has the key of `{is}`, and says that it is `{says}`"
            )));
        }
        Ok(hello)
    }

    /// Hears the word of `peer` for its sealing key.
    pub(super) async fn hear_word(&self, peer: &Peer, word: SealingWord) -> Result<(), Ended> {
        let (id, keys) = (peer.id.clone(), peer.keys());
        let heard = move |book: &dyn crate::cluster::ports::MeshBook| {
            if !vouches(&word, &keys) {
                return false;
            }
            book.sealing(&id, word);
            true
        };
        match self.blocking(heard).await? {
            true => Ok(()),
            false => Err(Ended::lie(
                "its signing key does not vouch for what it calls its sealing key",
            )),
        }
    }
}

/// Whether a hub that is known by `keys` says it: one of them does, or one that its records lead to.
fn vouches(word: &SealingWord, keys: &[PublicKey]) -> bool {
    let check = KeyCache::default();
    // Records that end at the newest key lead nowhere from it.
    let newest = SealingWord {
        introduction: Introduction {
            records: Vec::new(),
            link: word.introduction.link,
            vouch: word.introduction.vouch,
        },
        sealing: word.sealing,
        vouch: word.vouch,
    };
    let by =
        |key: &PublicKey| newest.verify(*key, &check).is_ok() || word.verify(*key, &check).is_ok();
    keys.iter().any(by)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Identity, SealingKey, Signer};

    #[test]
    fn a_sealing_key_counts_by_one_of_the_hubs_keys_only() {
        let (hub, other) = (
            Identity::from_byte("hub-b", 1),
            Identity::from_byte("hub-b", 2),
        );
        let sealing = SealingKey::generate().public().compressed();
        let word = SealingWord::of(&hub, &[], sealing);
        assert!(vouches(&word, &[other.public_key(), hub.public_key()]));
        assert!(!vouches(&word, &[other.public_key()]));
        assert!(!vouches(&word, &[]));
    }
}

//! The keys that a hub has by now, which may be others than those in the configuration.
//!
//! A hub that has another key is believed once the records by which it got it lead there from the key in the
//! configuration. They are kept beside the buffer, and looked at again at every start: the file need not
//! be trusted.

use crate::crypto::pinned_tls::{self, ClientConfig, TlsError};
use crate::crypto::{Identity, PeerKey};
use crate::protocols::edge::{Introduction, SealingWord};
use crate::store::replace_file;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weighbridge_verifier::{KeyCache, PublicKey, decode, encode};

/// What the file of a hub's sealing key holds: its word for it, and the keys that it had before.
type Kept = (SealingWord, Vec<PublicKey>);

/// A hub, as far as it is known.
pub(super) struct Acquaintance {
    configured: PeerKey,
    file: PathBuf,
    /// What it shows in TLS.
    link: Mutex<PublicKey>,
    sealing: Mutex<Sealing>,
    sealing_file: PathBuf,
}

/// What is sealed to it.
struct Sealing {
    /// The key in use.
    current: PublicKey,
    /// Those that it had before: what waits in the buffer may be for them.
    former: Vec<PublicKey>,
}

/// Keys that a hub had before, at most.
const MAX_FORMER: usize = 16;

impl Acquaintance {
    /// Of the hub that the configuration knows by `configured`, for the edge node with key `identity` and
    /// its buffer in `buffer`.
    pub(super) fn new(
        identity: &Identity,
        (configured, sealing): (PeerKey, PublicKey),
        buffer: &Path,
    ) -> Result<Self, TlsError> {
        let file = buffer.join(format!("hub-{}.keys", configured.own));
        let kept = std::fs::read(&file).ok();
        let kept = kept.and_then(|bytes| Introduction::from_bytes(&bytes).ok());
        let kept = kept.and_then(|kept| kept.verify(configured.own, &KeyCache::default()).ok());
        let link = kept.unwrap_or(configured).link;
        let sealing_file = buffer.join(format!("hub-{}.sealing", configured.own));
        let kept = std::fs::read(&sealing_file).ok();
        let kept = kept.and_then(|bytes| decode::<Kept>("sealing keys", &bytes).ok());
        let kept = kept.and_then(|(word, former)| {
            let current = word.verify(configured.own, &KeyCache::default()).ok()?;
            Some(Sealing { current, former })
        });
        let mut kept = kept.unwrap_or(Sealing {
            current: sealing,
            former: Vec::new(),
        });
        kept.former.push(sealing);
        // Whether it is a key at all.
        pinned_tls::client(identity, &link)?;
        Ok(Self {
            configured,
            file,
            link: Mutex::new(link),
            sealing: Mutex::new(kept),
            sealing_file,
        })
    }

    /// What is to be sealed to.
    pub(super) fn sealing(&self) -> PublicKey {
        self.sealing.lock().current
    }

    /// The keys that it may still have, the one in use first.
    pub(super) fn opens(&self) -> Vec<PublicKey> {
        let sealing = self.sealing.lock();
        let current = [sealing.current].into_iter();
        current.chain(sealing.former.iter().copied()).collect()
    }

    /// Takes a hub's word for its sealing key; whether it is another one than before. It is kept before it is
    /// sealed to. Blocking where that is news.
    pub(super) fn seals_by(&self, word: &SealingWord) -> Result<bool, String> {
        let key = word.verify(self.configured.own, &KeyCache::default());
        let key = key.map_err(|e| e.to_string())?;
        let mut sealing = self.sealing.lock();
        if sealing.current == key {
            return Ok(false);
        }
        let mut former = sealing.former.clone();
        former.retain(|known| *known != key && *known != sealing.current);
        former.insert(0, sealing.current);
        former.truncate(MAX_FORMER);
        let kept: Kept = (word.clone(), former.clone());
        let kept = replace_file(&self.sealing_file, &encode(&kept), 0o644);
        kept.map_err(|e| format!("its sealing key cannot be kept: {e}"))?;
        *sealing = Sealing {
            current: key,
            former,
        };
        tracing::info!(%key, "the hub has another sealing key by now");
        Ok(true)
    }

    /// Talks to the hub and nobody else, and shows it this key.
    pub(super) fn tls(&self, identity: &Identity) -> Result<Arc<ClientConfig>, TlsError> {
        let link = *self.link.lock();
        pinned_tls::client(identity, &link)
    }

    /// Takes what a hub says of itself, if that leads from the key in the configuration to another one.
    pub(super) fn meet(&self, said: &Introduction) -> Result<(), String> {
        let key = said.verify(self.configured.own, &KeyCache::default());
        let key = key.map_err(|e| e.to_string())?;
        *self.link.lock() = key.link;
        tracing::info!(configured = %self.configured.own, key = %key.own, "the hub has another key by now");
        let kept = replace_file(&self.file, &said.to_bytes(), 0o644);
        kept.map_err(|e| format!("what it says cannot be kept: {e}"))
    }
}

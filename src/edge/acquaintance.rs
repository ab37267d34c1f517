//! The keys that a hub has by now, which may be others than those in the configuration.
//!
//! A hub that has another key is believed once the records by which it got it lead there from the key in the
//! configuration. They are kept beside the buffer, and looked at again at every start: the file need not
//! be trusted.

use crate::crypto::pinned_tls::{self, ClientConfig, TlsError};
use crate::crypto::{Identity, PeerKey};
use crate::protocols::edge::Introduction;
use crate::store::replace_file;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weighbridge_verifier::{KeyCache, PublicKey};

/// A hub, as far as it is known.
pub(super) struct Acquaintance {
    configured: PeerKey,
    file: PathBuf,
    /// What it shows in TLS.
    link: Mutex<PublicKey>,
}

impl Acquaintance {
    /// Of the hub that the configuration knows by `configured`, for the edge node with key `identity` and
    /// its buffer in `buffer`.
    pub(super) fn new(
        identity: &Identity,
        configured: PeerKey,
        buffer: &Path,
    ) -> Result<Self, TlsError> {
        let file = buffer.join(format!("hub-{}.keys", configured.own));
        let kept = std::fs::read(&file).ok();
        let kept = kept.and_then(|bytes| Introduction::from_bytes(&bytes).ok());
        let kept = kept.and_then(|kept| kept.verify(configured.own, &KeyCache::default()).ok());
        let link = kept.unwrap_or(configured).link;
        // Whether it is a key at all.
        pinned_tls::client(identity, &link)?;
        Ok(Self {
            configured,
            file,
            link: Mutex::new(link),
        })
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

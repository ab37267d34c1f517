//! New keys, and to whom they are wrapped: the hub, its fellows, the readers who were granted their device, and the
//! keys of escrow. One place, so that no key is ever made without those who have a right to it.

use crate::access::{AccessState, Gate};
use crate::crypto::{EpochKey, SealingPublicKey, SealingRing, Signer};
use crate::hub::fellows::{Fellows, Keys};
use crate::ledger::key_wrap::{KeyWrap, reader_recipient};
use crate::ledger::store::{Put, Space};
use crate::model::{Nanos, now};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use weighbridge_verifier::PublicKey;

/// A key seals samples of one day (UTC) at most.
pub(super) const DAY: Nanos = 24 * 3600 * 1_000_000_000;

/// To whom a key is wrapped besides the hub: names as wraps have them, and public keys.
pub(in crate::hub) type Recipients = BTreeSet<(String, PublicKey)>;

/// The newest keys that were made: of each device the epoch, and to whom it is wrapped.
type Made = BTreeMap<String, (u64, Recipients)>;

/// The same, and the hub's own key.
#[derive(Default)]
struct Noted {
    made: Made,
    /// To which key of the hub each is wrapped.
    own: BTreeMap<String, PublicKey>,
    /// To which keys of its fellows.
    fellows: BTreeMap<String, Keys>,
}

/// Makes keys of epochs. Cheap to clone.
#[derive(Clone)]
pub(in crate::hub) struct KeyMaker {
    chain: String,
    hub: SealingRing,
    signer: Arc<dyn Signer>,
    gate: Gate,
    fellows: Fellows,
    made: Arc<Mutex<Noted>>,
}

/// To whom one new key is wrapped.
struct For {
    own: SealingPublicKey,
    fellows: Keys,
    others: Recipients,
}

impl KeyMaker {
    /// For a hub whose own wraps are for the key in use of `hub`.
    pub(in crate::hub) fn new(
        chain: &str,
        hub: SealingRing,
        signer: Arc<dyn Signer>,
        gate: Gate,
    ) -> Self {
        Self {
            chain: chain.to_owned(),
            hub,
            signer,
            gate,
            fellows: Fellows::default(),
            made: Arc::default(),
        }
    }

    /// The same for a hub that has, or may have, these fellows.
    pub(in crate::hub) fn among(self, fellows: Fellows) -> Self {
        Self { fellows, ..self }
    }

    /// A new key of `object`, a device or what the hub's own keys belong to, and its wraps.
    pub(in crate::hub) fn make(
        &self,
        (object, epoch): (&str, u64),
    ) -> Result<(EpochKey, Vec<Put>), String> {
        let key = EpochKey::generate(self.hub.suite(), object, epoch).map_err(|e| e.to_string())?;
        // The hub is a reader, too: it judges again what it has sealed. So is every hub of its site.
        let to = self.remember((object, epoch));
        let own = self.wrap(&key, self.signer.id(), &to.own);
        let mut wraps = vec![own.map_err(|e| e.to_string())?];
        let others = to.fellows.into_iter().chain(to.others);
        wraps.extend(others.filter_map(|to| self.wrap_to(&key, &to)));
        Ok((key, wraps))
    }

    /// To whom a new key is wrapped: the hub's key, and the others. The state is read and noted as one: whoever
    /// changes it and then looks finds either this key noted, or that it is made by the new state.
    fn remember(&self, (object, epoch): (&str, u64)) -> For {
        let mut noted = self.made.lock();
        let by = (self.gate.hub(), now());
        let recipients = recipients(&self.gate.state(), object, by);
        let made = (epoch, recipients.clone());
        noted.made.insert(object.to_owned(), made);
        let own = self.hub.public();
        noted.own.insert(object.to_owned(), own.compressed());
        let fellows = self.fellows.keys();
        noted.fellows.insert(object.to_owned(), fellows.clone());
        For {
            own,
            fellows,
            others: recipients,
        }
    }

    /// Those whose newest key was wrapped to other fellows than there are, or to keys that they have no more.
    pub(in crate::hub) fn behind_fellows(&self) -> Vec<String> {
        let noted = self.made.lock();
        let current = self.fellows.keys();
        let behind = noted.fellows.iter().filter(|(_, to)| **to != current);
        behind.map(|(object, _)| object.clone()).collect()
    }

    /// Those whose newest key was not wrapped to the hub's key in use.
    pub(in crate::hub) fn behind(&self) -> Vec<String> {
        let noted = self.made.lock();
        let current = self.hub.public().compressed();
        let behind = noted.own.iter().filter(|(_, own)| **own != current);
        behind.map(|(object, _)| object.clone()).collect()
    }

    /// A wrap of `key` for a recipient; nothing for one whose key cannot be wrapped to.
    pub(super) fn wrap_to(
        &self,
        key: &EpochKey,
        (name, public): &(String, PublicKey),
    ) -> Option<Put> {
        let public = SealingPublicKey::from_compressed(public);
        let wrapped = public.and_then(|public| self.wrap(key, name, &public));
        wrapped
            .inspect_err(|error| tracing::error!(name, %error, "a key cannot be wrapped"))
            .ok()
    }

    fn wrap(
        &self,
        key: &EpochKey,
        name: &str,
        public: &SealingPublicKey,
    ) -> Result<Put, crate::crypto::OpenError> {
        let wrapped = public.wrap(key)?;
        let wrapped = (wrapped.enc, wrapped.ciphertext);
        let (of, signer) = ((key.object(), key.epoch()), &*self.signer);
        let wrap = KeyWrap::sign(&self.chain, of.0, of.1, name, wrapped, signer);
        Ok(Put {
            space: Space::Keys,
            key: wrap.key(),
            value: wrap.to_bytes(),
        })
    }

    /// The hub, as the state of access names it.
    pub(super) fn hub(&self) -> &str {
        self.gate.hub()
    }

    /// The newest keys that were made in this process.
    pub(super) fn made(&self) -> Made {
        self.made.lock().made.clone()
    }
}

/// To whom a key of `object` that begins at `time` is wrapped by `hub`.
pub(super) fn recipients(
    state: &AccessState,
    object: &str,
    (hub, time): (&str, Nanos),
) -> Recipients {
    let escrow = state.escrow().map(|(name, key)| (name.clone(), *key));
    let mut all: Recipients = escrow.collect();
    // What users did is the hub's own record, and nobody is granted that.
    if object.contains(':') {
        return all;
    }
    let object = format!("device:{object}");
    let day_ends = time.div_euclid(DAY).saturating_add(1).saturating_mul(DAY);
    for (id, reader) in state.readers_in(time) {
        let reaches = |(from, until): (Nanos, Nanos)| from < day_ends && until > time;
        let spans = state.spans_by(reader, &object, (hub, time));
        if spans.into_iter().any(reaches) {
            all.insert((reader_recipient(id, &reader.key), reader.key));
        }
    }
    all
}

//! What a device is known by: its address, its MAC address where that can be seen, its public key where
//! it has one (Yu et al. 2021 keep the three with its id).
//!
//! The first that answers is the device, unless the configuration says who it is; from then on another
//! one is a stranger, until somebody who may says otherwise. A changed configuration sends the hub
//! elsewhere, so the address there is bound anew; the key is the device's own, and stays.

use crate::model::{Mac, Peer};
use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use weighbridge_verifier::Hash;

/// What a device is known by.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Where the configuration sent the connection.
    pub dialled: String,
    /// The address that answers.
    pub address: SocketAddr,
    /// The MAC address behind it; `None` when it was never seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// SHA-256 of its public key (SubjectPublicKeyInfo); `None` when it never proved one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Hash>,
}

/// What a configuration says a device is known by; what it does not say is learned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredBinding {
    /// The IP address that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The MAC address behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// SHA-256 of its public key (SubjectPublicKeyInfo), in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Hash>,
}

/// Somebody who is not the device: in what they differ, what was known, what answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// Another address.
    #[error("{0} is where it is, and {1} answers")]
    Address(String, SocketAddr),
    /// Another machine at the address.
    #[error("its MAC address is {0}, and {1} answers at {2}")]
    Mac(Mac, String, SocketAddr),
    /// Another key, or none.
    #[error("its key is {}, and {shown} is shown at {at}", .known.short())]
    Key {
        /// The one it is known by.
        known: Hash,
        /// What is shown.
        shown: String,
        /// Where.
        at: SocketAddr,
    },
}

impl DeclaredBinding {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Stranger {
    /// In what they differ, for records.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Address(..) => "address",
            Self::Mac(..) => "mac",
            Self::Key { .. } => "key",
        }
    }
}

impl From<Peer> for Binding {
    fn from(peer: Peer) -> Self {
        let Peer {
            dialled,
            address,
            mac,
            key,
        } = peer;
        Self {
            dialled,
            address,
            mac,
            key,
        }
    }
}

impl From<Binding> for Peer {
    fn from(binding: Binding) -> Self {
        let Binding {
            dialled,
            address,
            mac,
            key,
        } = binding;
        Self {
            dialled,
            address,
            mac,
            key,
        }
    }
}

impl Binding {
    /// Whether `peer` is the device that is known by `known` and `declared`. `Some` when more, or other, is
    /// known of it from now on.
    ///
    /// # Errors
    /// In what it is a stranger.
    pub fn meet(
        known: Option<&Self>,
        declared: &DeclaredBinding,
        peer: &Peer,
    ) -> Result<Option<Self>, Stranger> {
        let here = known.filter(|known| known.dialled == peer.dialled);
        match (declared.ip, here) {
            (Some(ip), _) if ip != peer.address.ip().to_canonical() => {
                return Err(Stranger::Address(ip.to_string(), peer.address));
            }
            (None, Some(known)) if known.address != peer.address => {
                return Err(Stranger::Address(known.address.to_string(), peer.address));
            }
            _ => {}
        }
        let seen = here.and_then(|known| known.mac);
        match (declared.mac.or(seen), peer.mac) {
            (Some(mac), Some(other)) if mac != other => {
                return Err(Stranger::Mac(mac, other.to_string(), peer.address));
            }
            // Somebody relies on it, and it cannot be seen: on another link, or not on Linux.
            (Some(mac), None) if declared.mac.is_some() => {
                return Err(Stranger::Mac(mac, "none".to_owned(), peer.address));
            }
            _ => {}
        }
        let own = known.and_then(|known| known.key);
        if let Some(key) = declared.key.or(own)
            && peer.key != Some(key)
        {
            let shown = peer.key.map_or("none".to_owned(), |key| key.short());
            return Err(Stranger::Key {
                known: key,
                shown,
                at: peer.address,
            });
        }
        let met = Self {
            dialled: peer.dialled.clone(),
            address: peer.address,
            // What is not seen this time is not another one.
            mac: peer.mac.or(seen),
            key: peer.key,
        };
        Ok((known != Some(&met)).then_some(met))
    }

    /// Why `self` is recorded in the place of `before`.
    pub fn because(&self, before: Option<&Self>) -> &'static str {
        match before {
            None => "the first that answered",
            Some(before) if before.dialled != self.dialled => {
                "the configuration says that it is elsewhere"
            }
            Some(before) if before.address != self.address => "the configuration says who it is",
            Some(_) => "more is known of it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Hash = Hash([7; 32]);
    const OTHER: Hash = Hash([8; 32]);

    fn peer(dialled: &str, last: u8, mac: Option<u8>, key: Option<Hash>) -> Peer {
        Peer {
            dialled: dialled.to_owned(),
            address: SocketAddr::from(([192, 0, 2, last], 502)),
            mac: mac.map(|mac| Mac([mac; 6])),
            key,
        }
    }

    fn rule(known: &Peer, declared: &DeclaredBinding, now: &Peer) -> Option<&'static str> {
        let known = Binding::from(known.clone());
        let met = Binding::meet(Some(&known), declared, now);
        met.err().map(|stranger| stranger.rule())
    }

    #[test]
    fn who_differs_is_a_stranger_and_who_is_seen_less_is_not() {
        let none = DeclaredBinding::default();
        let (full, plain) = (
            peer("plc:502", 7, Some(1), Some(KEY)),
            peer("plc:502", 7, None, None),
        );
        let table = [
            (&full, peer("plc:502", 7, Some(1), Some(KEY)), None),
            (&full, peer("plc:502", 7, None, Some(KEY)), None),
            (
                &full,
                peer("plc:502", 8, Some(1), Some(KEY)),
                Some("address"),
            ),
            (&full, peer("plc:502", 7, Some(2), Some(KEY)), Some("mac")),
            (&full, peer("plc:502", 7, Some(1), Some(OTHER)), Some("key")),
            // Without encryption nobody proves a key: that is less than was, and refused.
            (&full, peer("plc:502", 7, Some(1), None), Some("key")),
            // The configuration sends the hub elsewhere; the key is the device's own wherever it is.
            (&full, peer("plc:503", 9, Some(3), Some(KEY)), None),
            (&full, peer("plc:503", 9, Some(3), Some(OTHER)), Some("key")),
            (&plain, peer("plc:502", 7, Some(1), Some(KEY)), None),
            (&plain, peer("plc:502", 8, None, None), Some("address")),
            (&plain, peer("new:502", 8, None, None), None),
        ];
        for (known, now, wanted) in table {
            assert_eq!(rule(known, &none, &now), wanted, "{known} then {now}");
        }
        // Another port of the same machine is another address.
        let mut port = plain.clone();
        port.address.set_port(503);
        assert_eq!(rule(&plain, &none, &port), Some("address"));
    }

    #[test]
    fn what_is_declared_is_asked_for_whatever_was_known() {
        let known = peer("plc:502", 7, Some(1), Some(KEY));
        let ip = |last: u8| DeclaredBinding {
            ip: Some(IpAddr::from([192, 0, 2, last])),
            ..DeclaredBinding::default()
        };
        assert_eq!(rule(&known, &ip(7), &known), None);
        assert_eq!(rule(&known, &ip(8), &known), Some("address"));
        let moved = peer("plc:502", 8, Some(1), Some(KEY));
        assert_eq!(rule(&known, &ip(8), &moved), None);
        let mac = DeclaredBinding {
            mac: Some(Mac([2; 6])),
            ..DeclaredBinding::default()
        };
        assert_eq!(rule(&known, &mac, &known), Some("mac"));
        let unseen = peer("plc:502", 7, None, Some(KEY));
        assert_eq!(rule(&known, &mac, &unseen), Some("mac"));
        let key = DeclaredBinding {
            key: Some(OTHER),
            ..DeclaredBinding::default()
        };
        assert_eq!(rule(&known, &key, &known), Some("key"));
        let renewed = peer("plc:502", 7, Some(1), Some(OTHER));
        assert_eq!(rule(&known, &key, &renewed), None);
        // At the first contact, too.
        assert!(Binding::meet(None, &ip(8), &known).is_err());
    }

    #[test]
    fn what_is_learned_is_kept_and_recorded_once() {
        let none = DeclaredBinding::default();
        let meet = |known: Option<&Binding>, now: &Peer| Binding::meet(known, &none, now).unwrap();
        let first = meet(None, &peer("plc:502", 7, None, None)).unwrap();
        assert_eq!(first.because(None), "the first that answered");
        assert_eq!(meet(Some(&first), &peer("plc:502", 7, None, None)), None);
        let more = meet(Some(&first), &peer("plc:502", 7, Some(1), Some(KEY))).unwrap();
        assert_eq!(more.because(Some(&first)), "more is known of it");
        // The table of neighbours forgets; the binding does not.
        assert_eq!(
            meet(Some(&more), &peer("plc:502", 7, None, Some(KEY))),
            None
        );
        let moved = meet(Some(&more), &peer("new:502", 9, None, Some(KEY))).unwrap();
        assert_eq!((moved.mac, moved.key), (None, Some(KEY)));
        let why = "the configuration says that it is elsewhere";
        assert_eq!(moved.because(Some(&more)), why);
    }
}

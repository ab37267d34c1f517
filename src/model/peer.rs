//! Who answers on a connection, as far as the connection tells.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use weighbridge_verifier::Hash;

/// The address of a network interface (IEEE 802, EUI-48).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Mac(pub [u8; 6]);

/// Text that is no MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no MAC address: write it as \"00:1b:1b:0a:4c:07\"")]
pub struct MacError(String);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let wrong = || MacError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2);
            let part = part.filter(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = u8::from_str_radix(part.ok_or_else(wrong)?, 16).map_err(|_| wrong())?;
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(wrong()),
        }
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Who answers on a connection.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Where the connection was sent, as the configuration has it: a name may lead elsewhere tomorrow.
    pub dialled: String,
    /// The address at its other end.
    pub address: SocketAddr,
    /// That of the interface which has the address; `None` where it is not on a link of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// SHA-256 of the public key that it proved to have, as certificates have it (SubjectPublicKeyInfo);
    /// `None` when it proved none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Hash>,
}

impl Peer {
    /// Whether it is another one than `before`; what cannot be seen of one of them tells nothing.
    pub fn differs(&self, before: &Self) -> bool {
        let macs = self.mac.zip(before.mac);
        self.address != before.address
            || self.key != before.key
            || macs.is_some_and(|(now, then)| now != then)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if let Some(mac) = self.mac {
            write!(f, ", MAC {mac}")?;
        }
        match &self.key {
            Some(key) => write!(f, ", key {}", key.short()),
            None => Ok(()),
        }
    }
}

/// Whom an address stands for where strangers are counted: an IPv6 host has all addresses of its network of 64 bits.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_written_in_two_ways_and_printed_in_one() {
        let mac = Mac([0, 0x1b, 0x1b, 0x0a, 0x4c, 7]);
        for text in ["00:1b:1b:0a:4c:07", "00-1B-1B-0A-4C-07"] {
            assert_eq!(text.parse(), Ok(mac));
        }
        assert_eq!(mac.to_string(), "00:1b:1b:0a:4c:07");
        for text in [
            "",
            "00:1b:1b:0a:4c",
            "00:1b:1b:0a:4c:07:08",
            "0:1b:1b:0a:4c:07",
            "00:1b:1b:0a:4c:+7",
            "00:1b:1b:0a:4c:zz",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn who_answers_is_said_in_one_line() {
        let mut peer = Peer {
            dialled: "plc:502".into(),
            address: SocketAddr::from(([192, 0, 2, 7], 502)),
            mac: None,
            key: None,
        };
        assert_eq!(peer.to_string(), "192.0.2.7:502");
        peer.mac = Some(Mac([2; 6]));
        peer.key = Some(Hash([0xab; 32]));
        let said = "192.0.2.7:502, MAC 02:02:02:02:02:02, key abababab";
        assert_eq!(peer.to_string(), said);
    }
}

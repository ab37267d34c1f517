//! Addresses of variables: `ns=2;s=Robot1.Temp`, or `nsu=urn:maker:robot;s=Temp`, which survives a
//! server that numbers its namespaces anew after an update; or a browse path ([`super::path`]), for a
//! server that makes its ids as it likes.

use super::path::{Step, steps};
use opcua::types::{Identifier, NodeId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Where a variable is (OPC 10000-6 §5.3.1.10 and .11).
#[derive(Clone, Debug, PartialEq)]
pub struct NodeAddress {
    text: String,
    place: Place,
}

/// What an address says.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    Id(Namespace, Identifier),
    Path(Vec<Step>),
}

/// A namespace as an address gives it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Namespace {
    /// By its place among the server's namespaces.
    Index(u16),
    /// By its name.
    Uri(String),
}

/// Text that is not an address of a variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a node id: {reason}; write ns=INDEX;s=NAME or nsu=URI;s=NAME (or i=NUMBER, g=GUID, b=BASE64), or a browse path /nsu=URI;NAME/nsu=URI;NAME"
)]
pub struct NodeAddressError {
    text: String,
    reason: &'static str,
}

impl NodeAddress {
    /// The variable `name` of the namespace `uri`.
    pub fn named(uri: &str, name: &str) -> Self {
        Self {
            text: format!("nsu={uri};s={name}"),
            place: Place::Id(
                Namespace::Uri(uri.to_owned()),
                Identifier::String(name.into()),
            ),
        }
    }

    /// The namespace's URI, where the address gives it.
    pub fn namespace_uri(&self) -> Option<&str> {
        match &self.place {
            Place::Id(Namespace::Uri(uri), _) => Some(uri),
            Place::Id(Namespace::Index(_), _) | Place::Path(_) => None,
        }
    }

    /// The steps to it, where it is a browse path.
    pub(super) fn path(&self) -> Option<&[Step]> {
        match &self.place {
            Place::Path(steps) => Some(steps),
            Place::Id(..) => None,
        }
    }

    /// The address of a node of a server whose namespaces are `names`: by the namespace's URI where
    /// the server tells it.
    pub(super) fn of(id: &NodeId, names: &[String]) -> Self {
        let uri = names.get(usize::from(id.namespace));
        let uri = uri.filter(|uri| id.namespace > 0 && !uri.is_empty());
        let (namespace, head) = match uri {
            None if id.namespace == 0 => (Namespace::Index(0), String::new()),
            None => (
                Namespace::Index(id.namespace),
                format!("ns={};", id.namespace),
            ),
            Some(uri) => {
                let escaped = uri.replace('%', "%25").replace(';', "%3B");
                (Namespace::Uri(uri.clone()), format!("nsu={escaped};"))
            }
        };
        Self {
            text: format!("{head}{}", id.identifier),
            place: Place::Id(namespace, id.identifier.clone()),
        }
    }

    /// The node id on a server, where `index_of` knows that server's namespaces; `None` for a browse
    /// path, of which only the server knows where it leads.
    pub(super) fn resolve(&self, index_of: impl Fn(&Namespace) -> Option<u16>) -> Option<NodeId> {
        match &self.place {
            Place::Id(namespace, identifier) => {
                Some(NodeId::new(index_of(namespace)?, identifier.clone()))
            }
            Place::Path(_) => None,
        }
    }
}

impl FromStr for NodeAddress {
    type Err = NodeAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |reason| NodeAddressError {
            text: text.to_owned(),
            reason,
        };
        if text.starts_with('/') {
            return Ok(Self {
                place: Place::Path(steps(text).map_err(wrong)?),
                text: text.to_owned(),
            });
        }
        let (namespace, rest) = if let Some(rest) = text.strip_prefix("nsu=") {
            // A URI may hold escaped semicolons only (OPC 10000-6 §5.3.1.11).
            let (uri, rest) = rest
                .split_once(';')
                .ok_or_else(|| wrong("the identifier is missing"))?;
            if uri.is_empty() {
                return Err(wrong("the namespace is empty"));
            }
            let uri = uri.replace("%3B", ";").replace("%25", "%");
            (Namespace::Uri(uri), rest)
        } else if let Some(rest) = text.strip_prefix("ns=") {
            let (index, rest) = rest
                .split_once(';')
                .ok_or_else(|| wrong("the identifier is missing"))?;
            let index = index
                .parse()
                .map_err(|_| wrong("the namespace index is not a number below 65536"))?;
            (Namespace::Index(index), rest)
        } else {
            (Namespace::Index(0), text)
        };
        let identifier = match rest.get(..2) {
            Some("i=" | "s=" | "g=" | "b=") if rest.len() > 2 => Identifier::from_str(rest)
                .map_err(|_| wrong("the identifier does not fit its type"))?,
            _ => return Err(wrong("the identifier must begin with i=, s=, g= or b=")),
        };
        Ok(Self {
            text: text.to_owned(),
            place: Place::Id(namespace, identifier),
        })
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for NodeAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resolve(text: &str) -> Option<NodeId> {
        text.parse::<NodeAddress>()
            .unwrap()
            .resolve(|namespace| match namespace {
                Namespace::Index(index) => Some(*index),
                Namespace::Uri(uri) => (uri == "urn:x;y").then_some(7),
            })
    }

    #[test]
    fn a_nodes_address_is_read_back_as_the_same() {
        let names = ["ua", "urn:server", "urn:x;y%"].map(str::to_owned);
        for (id, text) in [
            (NodeId::new(2, "a;b"), "nsu=urn:x%3By%25;s=a;b"),
            (NodeId::new(0, 2258u32), "i=2258"),
            (NodeId::new(9, 7u32), "ns=9;i=7"),
        ] {
            let address = NodeAddress::of(&id, &names);
            assert_eq!(address.to_string(), text);
            assert_eq!(text.parse::<NodeAddress>().unwrap(), address);
        }
    }

    #[test]
    fn addresses_are_read_as_the_standard_writes_them() {
        assert_eq!(
            resolve("ns=2;s=Robot1.Temp"),
            Some(NodeId::new(2, "Robot1.Temp"))
        );
        assert_eq!(resolve("i=2258"), Some(NodeId::new(0, 2258u32)));
        assert_eq!(
            resolve("nsu=urn:x%3By;s=a;b=c"),
            Some(NodeId::new(7, "a;b=c"))
        );
        assert_eq!(resolve("nsu=urn:unknown;s=a"), None);
        assert_eq!(
            resolve("/Server/ServerStatus"),
            None,
            "only the server knows"
        );
        let same = NodeAddress::named("urn:x", "joint");
        assert_eq!(same.to_string().parse::<NodeAddress>().unwrap(), same);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, reason) in [
            ("Robot1", "must begin with"),
            ("ns=70000;s=x", "below 65536"),
            ("ns=2", "identifier is missing"),
            ("ns=2;i=abc", "does not fit"),
            ("ns=2;s=", "must begin with"),
            ("nsu=;s=x", "namespace is empty"),
            ("/a/*", "ends with a name"),
        ] {
            let error = text.parse::<NodeAddress>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = text.parse::<NodeAddress>();
        }
    }
}

//! `[ledger.postgres]`: where the database is, and who we are there.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// `[ledger.postgres]`: sealed batches lie in this PostgreSQL, not in the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Where it listens.
    pub address: PostgresAddress,
    /// The database.
    #[serde(default = "default_name")]
    pub database: String,
    /// The user.
    #[serde(default = "default_name")]
    pub user: String,
    /// File with the user's password, mode 0600; none where the server knows the user without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Certificates of the authorities that vouch for the server, in PEM. With it the connection is TLS; beyond this
    /// machine it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

fn default_name() -> String {
    "weighbridge".to_owned()
}

impl PostgresConfig {
    /// With the paths of its files taken from `base` on.
    pub fn resolve(&mut self, base: &Path) {
        for path in [&mut self.password_file, &mut self.ca]
            .into_iter()
            .flatten()
        {
            *path = base.join(&*path);
        }
    }

    /// With absolute paths, for whoever reads it elsewhere.
    pub fn absolute(&self) -> Self {
        let mut config = self.clone();
        let paths = [&mut config.password_file, &mut config.ca];
        for path in paths.into_iter().flatten() {
            *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone());
        }
        config
    }

    /// Why this is no use, if it is not: the key, and what is wrong.
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        if self.ca.is_none() && !self.address.is_here() {
            return Some((
                "address",
                "a database beyond this machine is reached by TLS only: `ca` is missing",
            ));
        }
        if self.ca.is_some() && matches!(self.address, PostgresAddress::Socket { .. }) {
            return Some(("ca", "there is no TLS on a Unix socket"));
        }
        None
    }
}

/// `host:port`, or the folder of a Unix socket, with or without `:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresAddress {
    /// TCP.
    Host {
        /// A name or an IP address.
        host: String,
        /// Its port.
        port: u16,
    },
    /// A Unix socket.
    Socket {
        /// The folder that it is in.
        folder: PathBuf,
        /// The number that it is named by.
        port: u16,
    },
}

/// The port where it is not said.
const PORT: u16 = 5432;

impl PostgresAddress {
    /// Whether what goes there stays on this machine.
    pub fn is_here(&self) -> bool {
        match self {
            Self::Socket { .. } => true,
            Self::Host { host, .. } => {
                let ip: Result<IpAddr, _> = host.parse();
                ip.is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

impl FromStr for PostgresAddress {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (place, port) = match text.rsplit_once(':') {
            Some((place, port)) => (place, port.parse().map_err(|_| ())?),
            None if text.starts_with('/') => (text, PORT),
            None => return Err(()),
        };
        if port == 0 || place.is_empty() {
            return Err(());
        }
        if place.starts_with('/') {
            let folder = place.into();
            return Ok(Self::Socket { folder, port });
        }
        let host = match place.strip_prefix('[').and_then(|p| p.strip_suffix(']')) {
            Some(inside) => inside,
            // Of an IPv6 address without brackets nobody knows where it ends.
            None if place.contains(':') => return Err(()),
            None => place,
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if !host.chars().all(fits) {
            return Err(());
        }
        let host = host.to_owned();
        Ok(Self::Host { host, port })
    }
}

impl fmt::Display for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Socket { folder, port } => write!(f, "{}:{port}", folder.display()),
        }
    }
}

impl Serialize for PostgresAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PostgresAddress {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let wrong = |()| {
            D::Error::custom(format!(
                "`{text}` is no address of a database: expected host:port, or the folder of a Unix socket, for \
                 example \"db.example:5432\" or \"/run/postgresql\""
            ))
        };
        text.parse().map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_tls_is_needed_beyond_this_machine() {
        for (text, same, here) in [
            ("127.0.0.1:5432", "127.0.0.1:5432", true),
            ("[::1]:1", "[::1]:1", true),
            ("192.0.2.1:5432", "192.0.2.1:5432", false),
            ("db.example:65535", "db.example:65535", false),
            // Who answers to a name is for others to say.
            ("localhost:5432", "localhost:5432", false),
            ("/run/postgresql", "/run/postgresql:5432", true),
            ("/run/postgresql:5433", "/run/postgresql:5433", true),
        ] {
            let address: PostgresAddress = text.parse().unwrap();
            assert_eq!((&*address.to_string(), address.is_here()), (same, here));
            let config = |ca: Option<&str>| PostgresConfig {
                address: address.clone(),
                database: default_name(),
                user: default_name(),
                password_file: None,
                ca: ca.map(PathBuf::from),
            };
            assert_eq!(config(None).fault().is_none(), here, "{text}");
            let socket = text.starts_with('/');
            assert_eq!(config(Some("ca.pem")).fault().is_some(), socket, "{text}");
        }
        let wrong = [
            "",
            ":5432",
            "db",
            "db:0",
            "db:65536",
            "::1:5432",
            "a b:1",
            "run/x:1",
            "db:5432/x",
        ];
        for wrong in wrong {
            assert!(wrong.parse::<PostgresAddress>().is_err(), "{wrong}");
        }
    }
}

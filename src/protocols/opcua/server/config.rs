//! Configuration of the OPC UA server.

use crate::access::{Role, user_name};
use crate::protocols::opcua::security::Trust;
use opcua::server::ANONYMOUS_USER_TOKEN_ID;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The server that SCADA connects to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpcUaServerConfig {
    /// Address and port.
    pub bind: SocketAddr,
    /// Name or address by which clients reach it, for the endpoint URLs and the certificate; by
    /// default the address, or this machine's name when it listens on all addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Whether anonymous users and the policy None are let in, where the address is loopback.
    /// Beyond loopback they never are.
    pub allow_none_loopback: bool,
    /// What users are who did not log in.
    pub anonymous_roles: Vec<Role>,
    /// Whether the users of the hub log in here, as at its other faces: those of `weighbridge user`. If not,
    /// it knows only users of its own.
    pub log_in: bool,
    /// Users: with `log_in` the roles of some of the hub's; without it, users of its own with passwords.
    pub users: Vec<UserConfig>,
    /// Folder of user certificates (DER, `*.der`): who proves to hold one of their keys is let in
    /// as the certificate's common name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_certificates: Option<PathBuf>,
    /// Certificate folder.
    pub pki_dir: PathBuf,
    /// Which client applications' certificates are trusted; `any` only on loopback.
    pub trust: Trust,
    /// Bounds.
    pub limits: ServerLimits,
}

impl Default for OpcUaServerConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 4840)),
            host: None,
            allow_none_loopback: true,
            anonymous_roles: vec![Role::Observer],
            log_in: false,
            users: Vec::new(),
            user_certificates: None,
            pki_dir: "pki/opcua".into(),
            trust: Trust::Folder,
            limits: ServerLimits::default(),
        }
    }
}

/// A user with a password, or a user whose certificate is in the folder of user certificates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// User name; of a user with a certificate the common name in it.
    pub name: String,
    /// File whose first line is the password, or its Argon2 hash (`$argon2id$…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whether they log in by certificate instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub certificate: bool,
    /// What they are to the factory, and so what they may do; by default they only look.
    #[serde(default = "observer")]
    pub roles: Vec<Role>,
}

fn observer() -> Vec<Role> {
    vec![Role::Observer]
}

/// Bounds of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address.
    pub connections_per_address: usize,
    /// Sessions at a time.
    pub sessions: usize,
    /// Sessions at a time of one user; all who did not log in are one.
    pub sessions_per_user: usize,
    /// Subscriptions of one session.
    pub subscriptions_per_session: usize,
    /// Monitored items of all sessions together.
    pub monitored_items: usize,
    /// Monitored items of all sessions of one user.
    pub monitored_items_per_user: usize,
    /// Monitored items that one user may leave behind in an hour by deleting their subscription as a
    /// whole, or letting it expire: the stack never forgets them.
    pub abandoned_items_per_hour: usize,
    /// Such items in all, at which the stack is replaced by a new one, and clients connect anew.
    pub abandoned_items: usize,
    /// Samples that are kept for one monitored item between two publishes.
    pub queue_size: usize,
    /// Bytes of one request.
    pub message_bytes: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 250,
            connections_per_address: 125,
            sessions: 125,
            sessions_per_user: 110,
            subscriptions_per_session: 10,
            monitored_items: 150_000,
            monitored_items_per_user: 120_000,
            abandoned_items_per_hour: 500_000,
            abandoned_items: 1_000_000,
            queue_size: 100,
            message_bytes: 1 << 20,
        }
    }
}

/// A configuration that would leave the server open or useless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nobody could log in.
    #[error(
        "the OPC UA server at {0} can be reached from beyond this machine and knows no user: add `log_in = true` to [opcua_server], with which those of `weighbridge user` are, or bind it to 127.0.0.1"
    )]
    NoUsers(SocketAddr),
    /// Nobody could log in on loopback either.
    #[error(
        "the OPC UA server lets nobody in: allow_none_loopback is false and there is no user; add `log_in = true`"
    )]
    Closed,
    /// Trusting everybody.
    #[error(
        "the OPC UA server at {0} can be reached from beyond this machine and would trust any client: set trust = \"folder\", or bind it to 127.0.0.1"
    )]
    TrustAny(SocketAddr),
    /// A user who cannot log in, or in two ways under one name.
    #[error(
        "user {name:?} of the OPC UA server has not exactly one way to log in: give either password_file, or certificate = true and a certificate of that common name in the folder user_certificates"
    )]
    LogIn {
        /// Which one, in the order of the file.
        index: usize,
        /// Their name.
        name: String,
    },
    /// A user of the hub with a password of the server's own.
    #[error(
        "user {name:?} of the OPC UA server has log_in = true, with which the users are those of `weighbridge user`, and a password_file or certificate that would count for nothing: `weighbridge user adopt` takes them over; then leave only name and roles here"
    )]
    TwoSources {
        /// Which one, in the order of the file.
        index: usize,
        /// Their name.
        name: String,
    },
    /// The hub's users, and a folder of others.
    #[error(
        "with log_in = true the users of the OPC UA server are those of `weighbridge user`, and user_certificates would count for nothing: `weighbridge user adopt` takes them over; then leave it out"
    )]
    TwoFolders,
    /// A name that means something else.
    #[error(
        "{name:?} cannot be the name of a user of the OPC UA server: choose one that is not ANONYMOUS and has no colon; with log_in, one that `weighbridge user add` takes"
    )]
    Name {
        /// Which one, in the order of the file.
        index: usize,
        /// The name.
        name: String,
    },
    /// A bound of zero.
    #[error("opcua_server.limits.{0} is 0, which would let nothing through; give at least 1")]
    ZeroLimit(&'static str),
}

impl OpcUaServerConfig {
    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.bind.ip().to_canonical().is_loopback()
    }

    /// Whether anonymous users and the policy None are let in.
    pub fn allows_none(&self) -> bool {
        self.allow_none_loopback && self.is_loopback()
    }

    /// The folder of user certificates, of a server with users of its own.
    pub(super) fn own_certificates(&self) -> Option<&PathBuf> {
        self.user_certificates.as_ref().filter(|_| !self.log_in)
    }

    /// Refuses what would leave the server open, or useless.
    pub fn check(&self) -> Result<(), ConfigError> {
        let no_users = !self.log_in && self.users.is_empty() && self.user_certificates.is_none();
        if no_users && !self.is_loopback() {
            return Err(ConfigError::NoUsers(self.bind));
        }
        if no_users && !self.allows_none() {
            return Err(ConfigError::Closed);
        }
        if self.trust == Trust::Any && !self.is_loopback() {
            return Err(ConfigError::TrustAny(self.bind));
        }
        if self.log_in && self.user_certificates.is_some() {
            return Err(ConfigError::TwoFolders);
        }
        for (index, user) in self.users.iter().enumerate() {
            let name = || user.name.clone();
            if self.log_in {
                if user.certificate || user.password_file.is_some() {
                    return Err(ConfigError::TwoSources {
                        index,
                        name: name(),
                    });
                }
                if user_name(&user.name).is_err() {
                    return Err(ConfigError::Name {
                        index,
                        name: name(),
                    });
                }
                continue;
            }
            let by_certificate = user.certificate && self.user_certificates.is_some();
            if by_certificate == user.password_file.is_some() || by_certificate != user.certificate
            {
                return Err(ConfigError::LogIn {
                    index,
                    name: name(),
                });
            }
            if user.name == ANONYMOUS_USER_TOKEN_ID || user.name.contains(':') {
                return Err(ConfigError::Name {
                    index,
                    name: name(),
                });
            }
        }
        let limits = &self.limits;
        let named = [
            ("connections", limits.connections),
            ("connections_per_address", limits.connections_per_address),
            ("sessions", limits.sessions),
            ("sessions_per_user", limits.sessions_per_user),
            (
                "subscriptions_per_session",
                limits.subscriptions_per_session,
            ),
            ("monitored_items", limits.monitored_items),
            ("monitored_items_per_user", limits.monitored_items_per_user),
            ("abandoned_items_per_hour", limits.abandoned_items_per_hour),
            ("abandoned_items", limits.abandoned_items),
            ("queue_size", limits.queue_size),
            ("message_bytes", limits.message_bytes),
        ];
        match named.iter().find(|(_, limit)| *limit == 0) {
            Some((name, _)) => Err(ConfigError::ZeroLimit(name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_server_is_refused_beyond_loopback() {
        let beyond = OpcUaServerConfig {
            bind: "0.0.0.0:4840".parse().unwrap(),
            ..Default::default()
        };
        assert!(!beyond.allows_none());
        let error = beyond.check().unwrap_err();
        assert_eq!(error, ConfigError::NoUsers(beyond.bind));
        assert!(error.to_string().contains("add `log_in = true`"));

        let with_user = OpcUaServerConfig {
            users: vec![UserConfig {
                name: "scada".into(),
                password_file: Some("x".into()),
                certificate: false,
                roles: observer(),
            }],
            ..beyond.clone()
        };
        assert_eq!(with_user.check(), Ok(()));
        let trusting = OpcUaServerConfig {
            trust: Trust::Any,
            ..with_user
        };
        assert_eq!(trusting.check(), Err(ConfigError::TrustAny(beyond.bind)));
    }

    #[test]
    fn a_user_logs_in_in_one_way() {
        let check = |keys: &str| {
            let text = format!("user_certificates = \"users\"\n[[users]]\n{keys}");
            toml::from_str::<OpcUaServerConfig>(&text).unwrap().check()
        };
        assert_eq!(check("name = \"a\"\npassword_file = \"x\""), Ok(()));
        assert_eq!(check("name = \"a\"\ncertificate = true"), Ok(()));
        let (index, name) = (0, "a".into());
        let refused = Err(ConfigError::LogIn { index, name });
        assert_eq!(check("name = \"a\""), refused);
        let both = "name = \"a\"\ncertificate = true\npassword_file = \"x\"";
        assert_eq!(check(both), refused);
        let reserved = check("name = \"ANONYMOUS\"\npassword_file = \"x\"");
        assert!(matches!(reserved, Err(ConfigError::Name { .. })));
    }

    #[test]
    fn users_are_the_hubs_or_its_own_and_never_both() {
        let check = |text: &str| {
            let text = format!("log_in = true\nbind = \"0.0.0.0:4840\"\n{text}");
            toml::from_str::<OpcUaServerConfig>(&text).unwrap().check()
        };
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("[[users]]\nname = \"a\""), Ok(()));
        let (index, name) = (0, "a".to_owned());
        let both = Err(ConfigError::TwoSources { index, name });
        assert_eq!(
            check("[[users]]\nname = \"a\"\npassword_file = \"x\""),
            both
        );
        assert_eq!(check("[[users]]\nname = \"a\"\ncertificate = true"), both);
        assert_eq!(
            check("user_certificates = \"x\""),
            Err(ConfigError::TwoFolders)
        );
        let name = check("[[users]]\nname = \"Ada\"");
        assert!(matches!(name, Err(ConfigError::Name { .. })));
    }

    #[test]
    fn loopback_is_open_unless_told_otherwise() {
        let mut config = OpcUaServerConfig::default();
        assert!(config.allows_none() && config.check().is_ok());
        config.bind = "[::1]:4840".parse().unwrap();
        assert!(config.allows_none());
        config.allow_none_loopback = false;
        assert_eq!(config.check(), Err(ConfigError::Closed));
        config.allow_none_loopback = true;
        config.limits.sessions = 0;
        assert_eq!(config.check(), Err(ConfigError::ZeroLimit("sessions")));
    }

    #[test]
    fn an_empty_table_is_the_default_and_unknown_keys_are_refused() {
        assert_eq!(
            toml::from_str::<OpcUaServerConfig>("").unwrap(),
            OpcUaServerConfig::default()
        );
        assert!(toml::from_str::<OpcUaServerConfig>("port = 4840").is_err());
        assert!(toml::from_str::<OpcUaServerConfig>("[limits]\nsession = 1").is_err());
    }
}

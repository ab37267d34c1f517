//! Configuration of the OPC UA server.

use crate::access::Role;
use crate::protocols::opcua::security::Trust;
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
    /// Users with passwords.
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
            users: Vec::new(),
            user_certificates: None,
            pki_dir: "pki/opcua".into(),
            trust: Trust::Folder,
            limits: ServerLimits::default(),
        }
    }
}

/// A user with a password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// User name.
    pub name: String,
    /// File whose first line is the password, or its Argon2 hash (`$argon2id$…`).
    pub password_file: PathBuf,
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
    /// Subscriptions of one session.
    pub subscriptions_per_session: usize,
    /// Monitored items of all sessions together.
    pub monitored_items: usize,
    /// Samples that are kept for one monitored item between two publishes.
    pub queue_size: usize,
    /// Bytes of one request.
    pub message_bytes: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 100,
            connections_per_address: 20,
            sessions: 50,
            subscriptions_per_session: 10,
            monitored_items: 50_000,
            queue_size: 50,
            message_bytes: 1 << 20,
        }
    }
}

/// A configuration that would leave the server open or useless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nobody could log in.
    #[error(
        "the OPC UA server at {0} can be reached from beyond this machine and knows no user: add [[opcua_server.users]] with name and password_file, or user_certificates, or bind it to 127.0.0.1"
    )]
    NoUsers(SocketAddr),
    /// Nobody could log in on loopback either.
    #[error(
        "the OPC UA server lets nobody in: allow_none_loopback is false and there is no user; add [[opcua_server.users]] or user_certificates"
    )]
    Closed,
    /// Trusting everybody.
    #[error(
        "the OPC UA server at {0} can be reached from beyond this machine and would trust any client: set trust = \"folder\", or bind it to 127.0.0.1"
    )]
    TrustAny(SocketAddr),
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

    /// Refuses what would leave the server open, or useless.
    pub fn check(&self) -> Result<(), ConfigError> {
        let no_users = self.users.is_empty() && self.user_certificates.is_none();
        if no_users && !self.is_loopback() {
            return Err(ConfigError::NoUsers(self.bind));
        }
        if no_users && !self.allows_none() {
            return Err(ConfigError::Closed);
        }
        if self.trust == Trust::Any && !self.is_loopback() {
            return Err(ConfigError::TrustAny(self.bind));
        }
        let limits = &self.limits;
        let named = [
            ("connections", limits.connections),
            ("connections_per_address", limits.connections_per_address),
            ("sessions", limits.sessions),
            (
                "subscriptions_per_session",
                limits.subscriptions_per_session,
            ),
            ("monitored_items", limits.monitored_items),
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
        assert!(error.to_string().contains("add [[opcua_server.users]]"));

        let with_user = OpcUaServerConfig {
            users: vec![UserConfig {
                name: "scada".into(),
                password_file: "x".into(),
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

//! The sections that belong to no other module: `[hub]`, `[ledger]`, `[http]`, `[log]`.

use super::value;
use crate::access::Role;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use weighbridge_verifier::Suite;

/// `[hub]`: who this hub is, and where it keeps its things.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HubSection {
    /// Id of the hub, the `hub` of every record and the `proposer` of every block.
    #[serde(deserialize_with = "value::id")]
    pub id: String,
    /// Folder of device profiles, beside those that are built in.
    #[serde(default = "default_profiles")]
    pub profiles: PathBuf,
    /// Directory of the ledger. Relative paths start at the configuration file.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// File with the hub's signing key, of the ledger's suite: PKCS#8 PEM, mode 0600. The environment variable
    /// [`super::SIGNING_KEY_VARIABLE`] overrides it.
    #[serde(default = "default_signing_key")]
    pub signing_key: PathBuf,
    /// File with the hub's sealing key, which opens what was recorded: PKCS#8 PEM, mode 0600.
    /// The environment variable [`super::SEALING_KEY_VARIABLE`] overrides it.
    #[serde(default = "default_sealing_key")]
    pub sealing_key: PathBuf,
}

fn default_profiles() -> PathBuf {
    "plugins/profiles".into()
}

fn default_data() -> PathBuf {
    "data".into()
}

fn default_signing_key() -> PathBuf {
    "keys/hub.key".into()
}

fn default_sealing_key() -> PathBuf {
    "keys/sealing.key".into()
}

impl HubSection {
    /// A hub with this id and everything else at its default.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            profiles: default_profiles(),
            data: default_data(),
            signing_key: default_signing_key(),
            sealing_key: default_sealing_key(),
        }
    }

    pub(super) fn resolve(&mut self, base: &Path) {
        self.profiles = base.join(&self.profiles);
        self.data = base.join(&self.data);
        self.signing_key = base.join(&self.signing_key);
        self.sealing_key = base.join(&self.sealing_key);
    }
}

/// `[ledger]`: which chain is written, and when a block closes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerConfig {
    /// Name of the chain: one for each organisation and privacy grade.
    #[serde(deserialize_with = "value::id")]
    pub chain: String,
    /// The suite of algorithms of its records, blocks and envelopes, fixed by its first block. The
    /// hub's keys must be of it.
    pub suite: Suite,
    /// A block closes with this many records.
    #[serde(deserialize_with = "value::count::<1, 65536, _>")]
    pub max_records: usize,
    /// A block closes at the latest this many milliseconds after its first record.
    #[serde(deserialize_with = "value::within::<1, 60000, _>")]
    pub max_delay_ms: u64,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            chain: "main".to_owned(),
            suite: Suite::Nist,
            max_records: 64,
            max_delay_ms: 100,
        }
    }
}

/// `[http]`: REST, metrics and the dashboard.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Where it listens. Only loopback: it has neither encryption nor log-in.
    #[serde(deserialize_with = "value::bind")]
    pub bind: SocketAddr,
    /// What its users are, all of them: who may do more than look is said here, because nobody logs in.
    pub roles: Vec<Role>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            roles: vec![Role::Observer],
        }
    }
}

/// `[log]`: what is said on standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// From which weight on messages are shown.
    pub level: LogLevel,
    /// How they look.
    pub format: LogFormat,
}

/// Weight of a log message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what stops the hub or loses something.
    Error,
    /// Also what will need somebody.
    Warn,
    /// Also what happens: start, connections, verdicts that are not `accepted`.
    #[default]
    Info,
    /// Also why.
    Debug,
    /// Also every request and block.
    Trace,
}

impl LogLevel {
    /// The name that filters know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How log messages look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

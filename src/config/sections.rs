//! The sections that belong to no other module: `[hub]`, `[ledger]`, `[http]`, `[log]`.

use super::retention::RetentionConfig;
use super::value;
use crate::access::Role;
use crate::crypto::TlsPair;
use crate::store::batches::PostgresConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
    /// How long what is recorded is kept.
    pub retention: RetentionConfig,
    /// File with a public key that the key of every epoch is wrapped to as well, in PEM form or as it is
    /// printed: who holds its private half can open what is recorded from then on. On record, and shown by
    /// `status` and `verify`; `None`: nobody besides the hub and its readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escrow: Option<PathBuf>,
    /// The database that sealed batches lie in; `None`: the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresConfig>,
}

impl LedgerConfig {
    pub(super) fn resolve(&mut self, base: &Path) {
        if let Some(postgres) = &mut self.postgres {
            postgres.resolve(base);
        }
        self.escrow = self.escrow.take().map(|file| base.join(file));
    }
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            chain: "main".to_owned(),
            suite: Suite::Nist,
            max_records: 64,
            max_delay_ms: 100,
            retention: RetentionConfig::default(),
            escrow: None,
            postgres: None,
        }
    }
}

/// `[http]`: REST, metrics and the dashboard.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Where it listens; beyond loopback only with `log_in` and `tls`.
    #[serde(deserialize_with = "value::bind")]
    pub bind: SocketAddr,
    /// What its users are, all of them, while nobody logs in.
    pub roles: Vec<Role>,
    /// Whether users log in. If not, whoever is on this machine is the user `local`.
    pub log_in: bool,
    /// The users of whom the configuration says the roles; others are enrolled while the hub runs.
    pub users: Vec<HttpUser>,
    /// Directory of the users' credentials, as `weighbridge user` keeps them; of the users of all faces.
    pub credentials: PathBuf,
    /// The authorities that may issue certificates for users, in PEM; for all faces.
    pub authority: PathBuf,
    /// Whether it speaks TLS, and only that.
    pub tls: bool,
    /// Whether it asks those who connect by TLS for a certificate, by which users may log in.
    pub client_certificates: bool,
    /// Names and addresses that it is asked for by, besides loopback and the address that it listens on.
    pub hosts: Vec<String>,
    /// Its certificate, and those between it and its authority, in PEM; `None`: what the site's
    /// authority issued for this hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM, mode 0600; `None`: that of the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// A user of whom the configuration says the roles.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HttpUser {
    /// The name, as `weighbridge user add` has it.
    #[serde(deserialize_with = "value::user")]
    pub name: String,
    /// What they may do.
    #[serde(default = "observer")]
    pub roles: Vec<Role>,
}

fn observer() -> Vec<Role> {
    vec![Role::Observer]
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            roles: observer(),
            log_in: false,
            users: Vec::new(),
            credentials: "users".into(),
            authority: "pki/authority.crt".into(),
            tls: false,
            client_certificates: false,
            hosts: Vec::new(),
            certificate: None,
            key: None,
        }
    }
}

impl HttpConfig {
    /// The files that TLS needs, when it is spoken; paths are resolved against the site by then.
    pub fn tls_pair(&self) -> Option<TlsPair> {
        let (certificate, key) = (self.certificate.clone()?, self.key.clone()?);
        self.tls.then_some(TlsPair { certificate, key })
    }

    /// Why a hub cannot open this, if it cannot: the key that is wrong, what is wrong, and what to do.
    pub(super) fn fault(&self) -> Option<(&'static str, String, String)> {
        let bind = self.bind;
        let guarded = self.log_in && self.tls;
        if !guarded && !bind.ip().is_loopback() {
            let missing = match (self.log_in, self.tls) {
                (false, false) => "log_in = true` and `tls = true",
                (false, true) => "log_in = true",
                (true, _) => "tls = true",
            };
            return Some((
                "bind",
                format!("the HTTP interface would be reachable from other machines at {bind}"),
                format!(
                    "add `{missing}` and the names of this machine, `hosts = [\"plant.example\"]`; or write \
                     `bind = \"127.0.0.1:{}\"`",
                    bind.port()
                ),
            ));
        }
        if bind.ip().is_unspecified() && self.hosts.is_empty() {
            return Some((
                "bind",
                format!("at {bind} nobody knows by which name this machine is asked for"),
                "add `hosts = [\"plant.example\"]`, with its names and addresses, which are in its \
                 certificate as well"
                    .to_owned(),
            ));
        }
        let bad = |host: &&String| {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
            let named = !bare.is_empty() && bare.len() <= 253 && bare.chars().all(letter);
            !named && bare.parse::<IpAddr>().is_err()
        };
        if let Some(host) = self.hosts.iter().find(bad) {
            return Some((
                "hosts",
                format!("`{host}` is neither the name of a machine nor an address"),
                "write names and addresses without a port, for example `hosts = [\"plant.example\"]`"
                    .to_owned(),
            ));
        }
        if self.client_certificates && !guarded {
            return Some((
                "client_certificates",
                "nobody can log in by certificate where there is no TLS, or nobody logs in"
                    .to_owned(),
                "add `log_in = true` and `tls = true`, or leave `client_certificates` out"
                    .to_owned(),
            ));
        }
        if self.certificate.is_some() != self.key.is_some() {
            let (key, other) = match self.key {
                Some(_) => ("key", "certificate"),
                None => ("certificate", "key"),
            };
            return Some((
                key,
                format!("`{key}` is there, and `{other}` that belongs to it is not"),
                format!("add `{other}`, or leave both out to use what the site's authority issued"),
            ));
        }
        let mut names = BTreeSet::new();
        let mut users = self.users.iter();
        let wrong = users.find(|user| !names.insert(&user.name));
        wrong.map(|user| {
            (
                "users",
                format!("the user `{}` is there twice", user.name),
                "give all of a user's `roles` at one place".to_owned(),
            )
        })
    }

    pub(super) fn resolve(&mut self, base: &Path, hub: &str) {
        let issued = || format!("pki/issued/hub/{hub}.crt").into();
        let own = |path: Option<PathBuf>, default| base.join(path.unwrap_or(default));
        self.credentials = base.join(&self.credentials);
        self.authority = base.join(&self.authority);
        self.certificate = Some(own(self.certificate.take(), issued()));
        self.key = Some(own(self.key.take(), "keys/https.key".into()));
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

//! Who may log in: anonymous users where the configuration lets them, users with a password, and
//! users with a certificate.

use super::callers::{ANONYMOUS, Callers, certificate_token, name_of, token_by};
use super::config::OpcUaServerConfig;
use super::sessions::Sessions;
use super::shown::Shown;
use super::turnstile::Turnstile;
use crate::access::{Proved, Refused, Right, Role};
use crate::crypto::PasswordHash;
use crate::protocols::log_in::{LogInPort, NotIn, Proof};
use crate::protocols::ports::AccessError;
use async_trait::async_trait;
use opcua::crypto::{CertificateStore, SecurityPolicy, Thumbprint, X509};
use opcua::server::address_space::AccessLevel;
use opcua::server::authenticator::{
    AuthManager, CoreServerPermissions, Password, UserToken, user_pass_security_policy_id,
};
use opcua::server::{ANONYMOUS_USER_TOKEN_ID, ServerEndpoint};
use opcua::types::{Error, NodeId, StatusCode, UAString, UserTokenPolicy, UserTokenType};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a wrong log-in waits for its answer.
const WRONG_LOG_IN_DELAY: Duration = Duration::from_millis(500);
/// The face's name in records of who came in.
pub(super) const FACE: &str = "opc.tcp";
/// The stack's id of the policy for user certificates.
const X509_POLICY: &str = "x509";
/// The stack's id of the policy for anonymous users.
const ANONYMOUS_POLICY: &str = "anonymous";

/// Why the users cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// A file or folder.
    #[error("{what} cannot be read: {path}: {source}", path = path.display())]
    Read {
        /// What it is for.
        what: String,
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An empty password.
    #[error("the password of user {user} is empty; write one into the first line of {path}", path = path.display())]
    Empty {
        /// Whose.
        user: String,
        /// Where.
        path: PathBuf,
    },
    /// Two users of the same name, or none.
    #[error("the user name {0:?} is empty or given twice")]
    Name(String),
    /// Not a certificate.
    #[error("{path} is not a certificate: {reason}", path = path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No certificate.
    #[error("there is no certificate (*.der) in {path}", path = path.display())]
    NoCertificates {
        /// The folder.
        path: PathBuf,
    },
    /// The hash function.
    #[error("the password of user {user} cannot be hashed: {reason}")]
    Hash {
        /// Whose.
        user: String,
        /// Why.
        reason: String,
    },
}

/// The users that a configuration names, with the roles that it gives them: anonymous ones, those with
/// passwords, and those with certificates. Blocking.
pub(super) fn users_of(config: &OpcUaServerConfig) -> Result<Vec<(String, Vec<Role>)>, UsersError> {
    let mut users: Vec<_> = config
        .users
        .iter()
        .map(|user| (user.name.clone(), user.roles.clone()))
        .collect();
    if config.allows_none() {
        users.push((ANONYMOUS.to_owned(), config.anonymous_roles.clone()));
    }
    if let Some(folder) = config.own_certificates() {
        let named = certified(config);
        let holders = certificates(folder)?;
        let holders = holders.iter().map(holder_name);
        // Logged in by certificate and named nowhere else.
        let others = holders.filter(|holder| !named.contains(holder));
        users.extend(others.map(|holder| (certificate_token(&holder).0, vec![Role::Observer])));
    }
    Ok(users)
}

/// The users who log in by certificate, as far as the configuration names them.
pub(super) fn certified(config: &OpcUaServerConfig) -> BTreeSet<String> {
    let users = config.users.iter().filter(|user| user.certificate);
    users.map(|user| user.name.clone()).collect()
}

/// The users of the server, and what they see of what they may do: those of the hub, or those with passwords and
/// certificates of this server's own. Of those no password is kept, only its salted Argon2id hash.
pub(super) struct Users {
    anonymous: bool,
    /// Whether users are those of the hub.
    hubs: bool,
    hashes: BTreeMap<String, PasswordHash>,
    certificates: Vec<X509>,
    desk: Arc<dyn LogInPort>,
    turnstile: Arc<Turnstile>,
    callers: Arc<Callers>,
    sessions: Arc<Sessions>,
}

impl Users {
    /// Reads password files and certificates. Blocking.
    pub(super) fn load(
        config: &OpcUaServerConfig,
        (callers, sessions): (Arc<Callers>, Arc<Sessions>),
        (desk, turnstile): (Arc<dyn LogInPort>, Arc<Turnstile>),
    ) -> Result<Self, UsersError> {
        let mut hashes = BTreeMap::new();
        for user in &config.users {
            let Some(password_file) = &user.password_file else {
                continue;
            };
            let hash = password_hash(&user.name, password_file)?;
            if user.name.is_empty() || hashes.insert(user.name.clone(), hash).is_some() {
                return Err(UsersError::Name(user.name.clone()));
            }
        }
        let certificates = match config.own_certificates() {
            Some(folder) => certificates(folder)?,
            None => Vec::new(),
        };
        Ok(Self {
            anonymous: config.allows_none(),
            hubs: config.log_in,
            hashes,
            certificates,
            desk,
            turnstile,
            callers,
            sessions,
        })
    }

    /// Lets a user in who is who they say, unless they are in too often, or may not come in; that is
    /// durable in the record when this returns.
    async fn admit(&self, token: UserToken) -> Result<UserToken, Error> {
        if !self.sessions.admits(&token) {
            tracing::warn!(
                user = name_of(&token),
                "too many sessions of one user at the OPC UA server, or at all faces"
            );
            self.sessions.port().turned_away(FACE, "too many sessions");
            let reason = "the user has too many sessions".to_owned();
            return Err(Error::new(StatusCode::BadTooManySessions, reason));
        }
        let user = self.callers.user(&token).into_owned();
        match self.callers.access().admit(&user, FACE).await {
            Ok(()) => {}
            Err(AccessError::Denied(why)) => return Err(refusal(&why)),
            Err(error) => return Err(not_now(&user, &error.to_string())),
        }
        // The session has no name yet; under its name it is told of as soon as something is asked.
        match self.sessions.port().logged_in(FACE, &user).await {
            Ok(()) => Ok(token),
            Err(error) => Err(not_now(&user, &error.to_string())),
        }
    }

    /// Who somebody proves to be.
    async fn prove(&self, user: Option<&str>, proof: Proof) -> Result<Proved, Error> {
        let from = self.turnstile.here();
        let from = from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let proved = self.desk.log_in(FACE, user, proof, from).await;
        let proved = proved.inspect_err(|not_in| {
            self.sessions.port().turned_away(FACE, not_in.in_short());
        });
        match proved {
            Ok(proved) => Ok(proved),
            Err(NotIn::Refused) => {
                tokio::time::sleep(WRONG_LOG_IN_DELAY).await;
                Err(refusal(Refused::ANSWER))
            }
            Err(NotIn::TooEarly(early)) => {
                Err(Error::new(StatusCode::BadServerTooBusy, early.to_string()))
            }
            Err(NotIn::Busy) => {
                let reason = "too many log in at the same time".to_owned();
                Err(Error::new(StatusCode::BadServerTooBusy, reason))
            }
        }
    }
}

#[async_trait]
impl AuthManager for Users {
    async fn authenticate_anonymous_token(&self, _: &ServerEndpoint) -> Result<(), Error> {
        // Who comes back to a session asks for nothing before, and the guard waits to know the task.
        self.turnstile.here();
        if self.anonymous {
            let token = UserToken(ANONYMOUS_USER_TOKEN_ID.to_owned());
            return self.admit(token).await.map(|_| ());
        }
        self.sessions.port().turned_away(FACE, "anonymous");
        Err(refusal("anonymous users are not let in"))
    }

    async fn authenticate_username_identity_token(
        &self,
        endpoint: &ServerEndpoint,
        username: &str,
        password: &Password,
    ) -> Result<UserToken, Error> {
        if endpoint.security_policy() == SecurityPolicy::None {
            return Err(refusal(
                "no password is taken over a channel that is not secured",
            ));
        }
        let password = Zeroizing::new(password.get().to_owned());
        let proof = match self.hubs {
            true => Proof::OneField(password),
            false => Proof::Own(password, self.hashes.get(username).cloned().map(Box::new)),
        };
        let proved = self.prove(Some(username), proof).await?;
        let user = UserToken(proved.user);
        let Some(mark) = proved.password else {
            return self.admit(user).await;
        };
        let token = token_by(user, &mark.to_string());
        let shown = Shown::Password(self.desk.clone(), mark);
        self.sessions.shown().keep(&token, shown);
        self.admit(token).await
    }

    async fn authenticate_x509_identity_token(
        &self,
        _: &ServerEndpoint,
        signing_thumbprint: &Thumbprint,
    ) -> Result<UserToken, Error> {
        self.turnstile.here();
        if self.hubs {
            let (known, wanted) = (self.desk.certificates().await, signing_thumbprint.clone());
            // There may be many: not for a thread on which others wait.
            let look = move || {
                let is =
                    |der: &&Vec<u8>| X509::from_der(der).is_ok_and(|c| c.thumbprint() == wanted);
                known.iter().find(is).cloned()
            };
            let shown = tokio::task::spawn_blocking(look).await.unwrap_or_default();
            // Of one that was never seen nothing is known; the attempt counts all the same.
            let certificate = shown.clone();
            let proof = Proof::Certificate(shown.into_iter().collect());
            let user = UserToken(self.prove(None, proof).await?.user);
            let token = token_by(user, &signing_thumbprint.as_hex_string());
            if let Some(certificate) = certificate {
                let shown = Shown::Hubs(self.desk.clone(), certificate);
                self.sessions.shown().keep(&token, shown);
            }
            return self.admit(token).await;
        }
        let holder = self
            .certificates
            .iter()
            .find(|c| c.thumbprint() == *signing_thumbprint)
            .filter(|c| c.is_time_valid(&chrono::Utc::now()).is_ok());
        match holder {
            Some(certificate) => {
                let user = certificate_token(&holder_name(certificate));
                let token = token_by(user, &signing_thumbprint.as_hex_string());
                let shown = Shown::Own(Box::new(certificate.clone()));
                self.sessions.shown().keep(&token, shown);
                self.admit(token).await
            }
            None => {
                self.sessions
                    .port()
                    .turned_away(FACE, "unknown certificate");
                tokio::time::sleep(WRONG_LOG_IN_DELAY).await;
                tracing::warn!("unknown or expired user certificate at the OPC UA server");
                Err(refusal("unknown or expired certificate"))
            }
        }
    }

    /// Who may not look sees nothing of the hub's own nodes, and nobody is shown as a writer who is none.
    /// Refusals of requests are not decided here: they are recorded where they are.
    fn effective_user_access_level(
        &self,
        token: &UserToken,
        user_access_level: AccessLevel,
        node_id: &NodeId,
    ) -> AccessLevel {
        let mut level = user_access_level;
        if level.contains(AccessLevel::CURRENT_WRITE) && !self.callers.may(token, Right::Write) {
            level.remove(AccessLevel::CURRENT_WRITE);
        }
        if node_id.namespace != 0 && !self.callers.may(token, Right::Live) {
            level.remove(AccessLevel::CURRENT_READ);
        }
        level
    }

    /// The diagnostics are counts only: they tell nothing of who is connected.
    fn core_permissions(&self, token: &UserToken) -> CoreServerPermissions {
        CoreServerPermissions {
            read_diagnostics: self.callers.may(token, Right::Live),
        }
    }

    fn user_token_policies(&self, endpoint: &ServerEndpoint) -> Vec<UserTokenPolicy> {
        // Whoever asks for the first time is known from here on.
        let _ = self.turnstile.here();
        let policy = endpoint.security_policy();
        let token = |id: UAString, token_type, security: &str| UserTokenPolicy {
            policy_id: id,
            token_type,
            issued_token_type: UAString::null(),
            issuer_endpoint_url: UAString::null(),
            security_policy_uri: security.into(),
        };
        let mut policies = Vec::new();
        if self.anonymous {
            let none = SecurityPolicy::None.to_uri();
            policies.push(token(
                ANONYMOUS_POLICY.into(),
                UserTokenType::Anonymous,
                none,
            ));
        }
        // A password or a proof of a key never crosses a channel that is not secured.
        if policy != SecurityPolicy::None {
            if self.hubs || !self.hashes.is_empty() {
                let id = user_pass_security_policy_id(endpoint);
                policies.push(token(id, UserTokenType::UserName, policy.to_uri()));
            }
            if self.hubs || !self.certificates.is_empty() {
                let id = X509_POLICY.into();
                policies.push(token(id, UserTokenType::Certificate, policy.to_uri()));
            }
        }
        policies
    }
}

fn not_now(user: &str, error: &str) -> Error {
    tracing::warn!(user, %error, "a user cannot be let in now");
    Error::new(StatusCode::BadResourceUnavailable, error.to_owned())
}

fn refusal(reason: &str) -> Error {
    Error::new(StatusCode::BadIdentityTokenRejected, reason.to_owned())
}

/// The common name. The stack gives it as RFC 4514 writes it: `CN=Smith\, John`.
fn holder_name(certificate: &X509) -> String {
    match certificate.common_name() {
        Ok(written) => plain_name(&written),
        Err(_) => certificate.thumbprint().as_hex_string(),
    }
}

fn plain_name(written: &str) -> String {
    let escaped = written.strip_prefix("CN=").unwrap_or(written);
    let mut name = String::with_capacity(escaped.len());
    let mut characters = escaped.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => name.extend(characters.next()),
            plain => name.push(plain),
        }
    }
    name
}

fn password_hash(user: &str, path: &Path) -> Result<PasswordHash, UsersError> {
    let text = fs::read_to_string(path).map_err(|source| UsersError::Read {
        what: format!("the password of user {user}"),
        path: path.to_owned(),
        source,
    })?;
    let text = Zeroizing::new(text);
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(UsersError::Empty {
            user: user.to_owned(),
            path: path.to_owned(),
        });
    }
    let stored = PasswordHash::parse(line);
    let hash = stored.or_else(|_| PasswordHash::new(line.as_bytes()));
    hash.map_err(|e| UsersError::Hash {
        user: user.to_owned(),
        reason: e.to_string(),
    })
}

fn certificates(folder: &Path) -> Result<Vec<X509>, UsersError> {
    let unreadable = |source| UsersError::Read {
        what: "the folder of user certificates".into(),
        path: folder.to_owned(),
        source,
    };
    let mut certificates = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|e| e != "der") {
            continue;
        }
        let certificate = CertificateStore::read_cert(&path)
            .map_err(|reason| UsersError::Certificate { path, reason })?;
        if certificate.is_time_valid(&chrono::Utc::now()).is_err() {
            let holder = holder_name(&certificate);
            tracing::warn!(holder, "a user certificate is not valid now");
        }
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(UsersError::NoCertificates {
            path: folder.to_owned(),
        });
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::opcua::server::config::UserConfig;
    use crate::protocols::{FixedAccess, FixedLogIn};
    use opcua::types::MessageSecurityMode;

    fn config(dir: &Path, content: &str) -> OpcUaServerConfig {
        let password_file = dir.join("password");
        fs::write(&password_file, content).unwrap();
        OpcUaServerConfig {
            users: vec![UserConfig {
                name: "scada".into(),
                password_file: Some(password_file),
                certificate: false,
                roles: vec![],
            }],
            allow_none_loopback: false,
            ..Default::default()
        }
    }

    fn load(config: &OpcUaServerConfig) -> Result<Users, UsersError> {
        let access = FixedAccess::new(&users_of(config).unwrap()).unwrap();
        let callers = Arc::new(Callers::new([].into(), access));
        let port = Arc::new(super::super::tests::FakeSessions::default());
        let sessions = Arc::new(Sessions::new(port, callers.clone(), 1));
        let how = (Arc::new(FixedLogIn) as _, Arc::<Turnstile>::default());
        Users::load(config, (callers, sessions), how)
    }

    #[test]
    fn passwords_are_kept_as_hashes() {
        let dir = tempfile::tempdir().unwrap();
        let users = load(&config(dir.path(), "open sesame\n")).unwrap();
        let stored = users.hashes["scada"].to_phc();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let hashed = load(&config(dir.path(), &stored)).unwrap();
        assert!(hashed.hashes["scada"].matches(b"open sesame"));
        assert!(!hashed.hashes["scada"].matches(b"open sesam"));
    }

    #[test]
    fn passwords_are_asked_for_only_on_secured_channels() {
        let dir = tempfile::tempdir().unwrap();
        let users = load(&config(dir.path(), "x")).unwrap();
        let endpoint = |policy, mode| ServerEndpoint::new("/", policy, mode, &[]);
        let none = endpoint(SecurityPolicy::None, MessageSecurityMode::None);
        assert!(users.user_token_policies(&none).is_empty());
        let secure = endpoint(
            SecurityPolicy::Basic256Sha256,
            MessageSecurityMode::SignAndEncrypt,
        );
        let policies = users.user_token_policies(&secure);
        assert_eq!(policies.len(), 1);
        assert_eq!(policies[0].token_type, UserTokenType::UserName);
    }

    #[test]
    fn names_in_certificates_are_plain() {
        assert_eq!(plain_name("CN=operator"), "operator");
        assert_eq!(plain_name("CN=Smith\\, John"), "Smith, John");
    }

    #[test]
    fn an_empty_password_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let Err(error) = load(&config(dir.path(), "\n")) else {
            panic!("an empty password was taken");
        };
        assert!(matches!(error, UsersError::Empty { .. }));
    }
}

//! One connection to a server: finding its endpoint, opening the session, and noticing its end.

use super::config::OpcUaConfig;
use super::endpoint::{choose, endpoints};
use super::inbox::Inbox;
use crate::protocols::opcua::security::Trust;
use crate::protocols::source::SourceError;
use futures_util::StreamExt;
use opcua::client::transport::TcpConnector;
use opcua::client::{
    ClientBuilder, ClientConfig, IdentityToken, Session, SessionActivity, SessionBuilder,
    SessionEventLoop, SessionPollResult, SubscriptionActivity,
};
use opcua::crypto::CertificateStore;
use opcua::sync::RwLock;
use opcua::types::{Error, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

/// URI by which this application names itself to servers.
pub(super) const APPLICATION_URI: &str = "urn:weighbridge:client";

/// How often the server is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// An open session. Dropping it drops the connection.
pub(super) struct Connection {
    pub(super) session: Arc<Session>,
    driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// Connects and activates a session; its end will close `inbox`.
    pub(super) async fn open(config: &OpcUaConfig, inbox: Arc<Inbox>) -> Result<Self, SourceError> {
        let failed = |e: Error| explain(config, &e);
        let client = client_config(config);
        let store = certificate_store(config);
        let identity = identity(config)?;
        let offered = endpoints(&client, store.clone(), config)
            .await
            .map_err(failed)?;
        let endpoint = choose(config, &identity, offered)?;
        let (session, events) = SessionBuilder::new(&client)
            .connect_to_endpoint_directly(endpoint)
            .map_err(failed)?
            .user_identity_token(identity)
            .build(store)
            .map_err(failed)?;
        session.disable_reconnects();
        let (opened, wait) = oneshot::channel();
        let driver = AbortOnDropHandle::new(tokio::spawn(drive(events, opened, inbox)));
        match wait.await {
            Ok(Ok(())) => Ok(Self { session, driver }),
            Ok(Err(status)) => Err(failed(Error::new(status, "no session"))),
            Err(_) => Err(failed(Error::new(
                StatusCode::BadUnexpectedError,
                "the client stopped",
            ))),
        }
    }

    /// Closes the session in good order; gives up after a second.
    pub(super) async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.session.disconnect()).await;
        drop(self.driver);
    }
}

/// Runs the connection until it ends. The stack would connect again by itself; here the device's
/// actor decides when.
async fn drive(
    events: SessionEventLoop<TcpConnector>,
    opened: oneshot::Sender<Result<(), StatusCode>>,
    inbox: Arc<Inbox>,
) {
    let mut opened = Some(opened);
    let events = events.enter();
    tokio::pin!(events);
    let end = loop {
        match events.next().await {
            Some(Ok(SessionPollResult::Reconnected(_))) => {
                if let Some(opened) = opened.take() {
                    let _ = opened.send(Ok(()));
                }
            }
            Some(Ok(
                SessionPollResult::ConnectionLost(status)
                | SessionPollResult::ReconnectFailed(status)
                | SessionPollResult::SessionActivity(SessionActivity::KeepAliveFailed(status))
                | SessionPollResult::Subscription(SubscriptionActivity::FatalFailure(status)),
            )) => break status,
            Some(Ok(_)) => {}
            Some(Err(status)) => break status,
            None => break StatusCode::BadConnectionClosed,
        }
    };
    if let Some(opened) = opened.take() {
        let _ = opened.send(Err(end));
    }
    inbox.close(reason(end));
}

fn client_config(config: &OpcUaConfig) -> ClientConfig {
    ClientBuilder::new()
        .application_name("Weighbridge")
        .application_uri(APPLICATION_URI)
        .product_uri("urn:weighbridge")
        .session_name("Weighbridge")
        .pki_dir(&config.pki_dir)
        .trust_server_certs(config.trust == Trust::Any)
        .verify_server_certs(true)
        .session_retry_limit(0)
        .recreate_subscriptions(false)
        .keep_alive_interval(KEEP_ALIVE)
        .max_failed_keep_alive_count(1)
        .request_timeout(silence(config))
        .session_timeout(30_000)
        .max_message_size(16 << 20)
        .max_chunk_count(512)
        .max_array_length(100_000)
        .max_string_length(1 << 20)
        .max_byte_string_length(1 << 20)
        .into_config()
}

pub(super) fn silence(config: &OpcUaConfig) -> Duration {
    Duration::from_millis(config.silence_timeout_ms.into())
}

/// The certificates; nothing on disk is touched without security.
fn certificate_store(config: &OpcUaConfig) -> Arc<RwLock<CertificateStore>> {
    let mut store = CertificateStore::new(&config.pki_dir);
    store.set_trust_unknown_certs(config.trust == Trust::Any);
    Arc::new(RwLock::new(store))
}

fn identity(config: &OpcUaConfig) -> Result<IdentityToken, SourceError> {
    let unusable = |what: &std::path::Path, why: &dyn std::fmt::Display| SourceError::Unreachable {
        address: config.url.clone(),
        reason: format!("{} cannot be read: {why}", what.display()),
    };
    if let (Some(certificate), Some(key)) = (&config.user_certificate, &config.user_key) {
        return IdentityToken::new_x509_path(certificate, key)
            .map_err(|e| unusable(certificate, &e));
    }
    match (&config.user, &config.password_file) {
        (Some(user), Some(file)) => {
            let text = zeroize::Zeroizing::new(
                std::fs::read_to_string(file).map_err(|e| unusable(file, &e))?,
            );
            let password = text.lines().next().unwrap_or_default();
            Ok(IdentityToken::new_user_name(user, password))
        }
        _ => Ok(IdentityToken::Anonymous),
    }
}

/// A failure in plain words, with the status code at its end.
pub(super) fn explain(config: &OpcUaConfig, error: &Error) -> SourceError {
    let status = error.status();
    let address = config.url.clone();
    if status == StatusCode::BadTimeout {
        return SourceError::Timeout {
            address,
            milliseconds: config.silence_timeout_ms.into(),
        };
    }
    let folder = config.pki_dir.display();
    let reason = if status == StatusCode::BadCertificateUntrusted {
        format!(
            "its certificate is not trusted, or it does not trust ours; move its certificate from \
             {folder}/rejected to {folder}/trusted, and give it {folder}/own/cert.der ({status})"
        )
    } else if status == StatusCode::BadSecurityChecksFailed {
        format!(
            "the security checks failed: its certificate may lie in {folder}/rejected, or it does \
             not trust {folder}/own/cert.der ({status})"
        )
    } else if matches!(
        status,
        StatusCode::BadUserAccessDenied
            | StatusCode::BadIdentityTokenRejected
            | StatusCode::BadIdentityTokenInvalid
    ) {
        format!("it refused the log-in; check user and password ({status})")
    } else if status == StatusCode::BadTooManySessions {
        format!("it has no session left ({status})")
    } else if let Some(message) = os_message(&error.to_string()) {
        format!("no connection: {message}")
    } else {
        error.to_string()
    };
    SourceError::Unreachable { address, reason }
}

/// The operating system's word, which the stack gives in the form for programmers.
fn os_message(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("message: \"")?;
    let (message, _) = rest.split_once('"')?;
    Some(message.to_lowercase())
}

fn reason(status: StatusCode) -> String {
    if status == StatusCode::BadTimeout {
        format!("it stopped answering ({status})")
    } else {
        format!("the connection broke ({status})")
    }
}

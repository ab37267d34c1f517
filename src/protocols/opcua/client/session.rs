//! One connection to a server: opening the session, taking it up again over a new connection, and
//! noticing its end.

use super::answering::{Answering, Observed};
use super::config::OpcUaConfig;
use super::inbox::Inbox;
use super::refusal::{broken, explain};
use crate::protocols::opcua::security::Trust;
use crate::protocols::source::SourceError;
use futures_util::{Stream, StreamExt};
use opcua::client::{
    ClientBuilder, ClientConfig, IdentityToken, Session, SessionActivity, SessionBuilder,
    SessionConnectMode, SessionPollResult, SubscriptionActivity,
};
use opcua::crypto::CertificateStore;
use opcua::sync::RwLock;
use opcua::types::{EndpointDescription, Error, MessageSecurityMode, StatusCode};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

/// URI by which this application names itself to servers.
pub(super) const APPLICATION_URI: &str = "urn:weighbridge:client";

/// How often the server is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// Time to let go of a connection.
const PARTING: Duration = Duration::from_millis(300);

type Events = Pin<Box<dyn Stream<Item = Result<SessionPollResult, StatusCode>> + Send>>;

/// An open session. Dropping it drops the connection.
pub(super) struct Connection {
    pub(super) session: Arc<Session>,
    pub(super) endpoint: EndpointDescription,
    /// Who answers.
    pub(super) answering: Answering,
    driver: AbortOnDropHandle<Option<Events>>,
}

/// A session whose connection broke.
pub(super) struct Parked {
    session: Arc<Session>,
    endpoint: EndpointDescription,
    answering: Answering,
    events: Events,
}

/// How a session was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// It is a new one.
    New,
    /// It goes on with what it had.
    Resumed,
}

/// What is needed for any attempt.
pub(super) struct Credentials {
    pub(super) client: ClientConfig,
    pub(super) store: Arc<RwLock<CertificateStore>>,
    pub(super) identity: IdentityToken,
}

impl Credentials {
    /// Reads the log-in from its files.
    pub(super) fn read(config: &OpcUaConfig) -> Result<Self, SourceError> {
        Ok(Self {
            client: client_config(config),
            store: certificate_store(config),
            identity: identity(config)?,
        })
    }
}

impl Connection {
    /// Connects and activates a new session; its end will close `inbox`.
    pub(super) async fn open(
        config: &OpcUaConfig,
        with: Credentials,
        endpoint: EndpointDescription,
        inbox: Arc<Inbox>,
    ) -> Result<Self, SourceError> {
        let failed = |e: Error| explain(config, Some(&endpoint), &e);
        let answering = Answering::default();
        let (session, events) = SessionBuilder::new(&with.client)
            .with_connector(Observed(answering.clone()))
            .connect_to_endpoint_directly(endpoint.clone())
            .map_err(failed)?
            .user_identity_token(with.identity)
            .build(with.store)
            .map_err(failed)?;
        let parked = Parked {
            session,
            endpoint: endpoint.clone(),
            answering,
            events: Box::pin(events.enter()),
        };
        let (connection, _) = parked.drive(inbox).await.map_err(failed)?;
        Ok(connection)
    }

    /// Closes the session in good order; gives up after a second.
    pub(super) async fn close(self) {
        self.session.disable_reconnects();
        let _ = tokio::time::timeout(Duration::from_secs(1), self.session.disconnect()).await;
        drop(self.driver);
    }

    /// After its end was noticed: the session, when it may still be of use.
    pub(super) async fn park(self) -> Option<Parked> {
        let driven = tokio::time::timeout(PARTING * 2, self.driver).await;
        Some(Parked {
            session: self.session,
            endpoint: self.endpoint,
            answering: self.answering,
            events: driven.ok()?.ok()??,
        })
    }
}

impl Parked {
    /// Whether it is of use at this endpoint. With security it is not: the stack would sign with the
    /// nonce of the new channel instead of the session's (OPC 10000-4, 5.7.3), and a log-in that
    /// fails each time can lock a user out.
    pub(super) fn fits(&self, endpoint: &EndpointDescription) -> bool {
        endpoint.security_mode == MessageSecurityMode::None
            && self.endpoint.security_mode == MessageSecurityMode::None
            && self.endpoint.endpoint_url == endpoint.endpoint_url
    }

    /// Connects again and goes on with the session; with a new one, if the server has forgotten it.
    pub(super) async fn resume(
        self,
        config: &OpcUaConfig,
        inbox: Arc<Inbox>,
    ) -> Result<(Connection, Opened), SourceError> {
        let endpoint = self.endpoint.clone();
        let failed = |e: Error| explain(config, Some(&endpoint), &e);
        self.drive(inbox).await.map_err(failed)
    }

    async fn drive(self, inbox: Arc<Inbox>) -> Result<(Connection, Opened), Error> {
        let (opened, wait) = oneshot::channel();
        let driver = tokio::spawn(drive(self.session.clone(), self.events, opened, inbox));
        let driver = AbortOnDropHandle::new(driver);
        match wait.await {
            Ok(Ok(opened)) => {
                let connection = Connection {
                    session: self.session,
                    endpoint: self.endpoint,
                    answering: self.answering,
                    driver,
                };
                Ok((connection, opened))
            }
            Ok(Err(status)) => Err(Error::new(status, "no session")),
            Err(_) => Err(Error::new(
                StatusCode::BadUnexpectedError,
                "the client stopped",
            )),
        }
    }
}

/// Runs the connection until it ends. The stack would connect again by itself; here the device's
/// actor decides when, so the stack is left standing there. `None` when it cannot go on.
async fn drive(
    session: Arc<Session>,
    mut events: Events,
    opened: oneshot::Sender<Result<Opened, StatusCode>>,
    inbox: Arc<Inbox>,
) -> Option<Events> {
    let mut opened = Some(opened);
    let (end, alive) = loop {
        match events.next().await {
            Some(Ok(SessionPollResult::Reconnected(mode))) => {
                if let Some(opened) = opened.take() {
                    let _ = opened.send(Ok(match mode {
                        SessionConnectMode::NewSession(_) => Opened::New,
                        SessionConnectMode::ReactivatedSession(_) => Opened::Resumed,
                    }));
                }
            }
            Some(Ok(SessionPollResult::ConnectionLost(status))) => break (status, true),
            Some(Ok(SessionPollResult::ReconnectFailed(status)) | Err(status)) => {
                break (status, false);
            }
            Some(Ok(
                SessionPollResult::SessionActivity(SessionActivity::KeepAliveFailed(status))
                | SessionPollResult::Subscription(SubscriptionActivity::FatalFailure(status)),
            )) if !is_an_answer(status) => {
                inbox.close(broken(status));
                break (status, hang_up(&session, &mut events).await);
            }
            Some(Ok(_)) => {}
            None => break (StatusCode::BadConnectionClosed, false),
        }
    };
    let was_open = opened.is_none();
    if let Some(opened) = opened.take() {
        let _ = opened.send(Err(end));
    }
    inbox.close(broken(end));
    (was_open && alive).then_some(events)
}

/// Whether a failed keep-alive shows a server that is there: one that says so itself, or does not
/// let us look.
fn is_an_answer(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BadServerHalted
            | StatusCode::BadUnknownResponse
            | StatusCode::BadUserAccessDenied
            | StatusCode::BadNotReadable
            | StatusCode::BadTooManyOperations
            | StatusCode::BadServiceUnsupported
    )
}

/// Gives up a connection that does not answer, so that the session can have another one. Whether
/// the stack came that far.
async fn hang_up(session: &Session, events: &mut Events) -> bool {
    session.channel().close_channel().await;
    let parting = async {
        loop {
            match events.next().await {
                Some(Ok(SessionPollResult::ConnectionLost(_))) => return true,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            }
        }
    };
    tokio::time::timeout(PARTING, parting)
        .await
        .unwrap_or(false)
}

fn client_config(config: &OpcUaConfig) -> ClientConfig {
    ClientBuilder::new()
        .application_name("Weighbridge")
        .application_uri(APPLICATION_URI)
        .product_uri("urn:weighbridge")
        .session_name("Weighbridge")
        .pki_dir(&config.pki_dir)
        .trust_server_certs(config.trust == Trust::Any)
        .session_retry_limit(0)
        .recreate_subscriptions(false)
        .keep_alive_interval(KEEP_ALIVE)
        // What a failed keep-alive means is decided here.
        .max_failed_keep_alive_count(0)
        .request_timeout(silence(config))
        .session_timeout(60_000)
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
    // The certificate itself is trusted, not a name in it, and few controllers have their address in
    // theirs. Whether it is valid at this time is looked at with the endpoint.
    store.set_skip_verify_certs(true);
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

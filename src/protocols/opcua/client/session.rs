//! One connection to a server: finding its endpoint, opening the session, and noticing its end.

use super::config::OpcUaConfig;
use super::inbox::Inbox;
use crate::protocols::opcua::security::{Policy, Trust};
use crate::protocols::source::SourceError;
use futures_util::StreamExt;
use opcua::client::transport::{TcpConnector, TransportPollResult};
use opcua::client::{
    ClientBuilder, ClientConfig, IdentityToken, Session, SessionActivity, SessionBuilder,
    SessionEventLoop, SessionPollResult, SubscriptionActivity,
};
use opcua::core::ResponseMessage;
use opcua::crypto::{CertificateStore, SecurityPolicy};
use opcua::sync::RwLock;
use opcua::types::{
    EndpointDescription, Error, GetEndpointsRequest, MessageSecurityMode, RequestHeader,
    StatusCode, UserTokenType,
};
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

fn silence(config: &OpcUaConfig) -> Duration {
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

/// What the server offers (GetEndpoints, over a channel without security, as everybody does).
async fn endpoints(
    client: &ClientConfig,
    store: Arc<RwLock<CertificateStore>>,
    config: &OpcUaConfig,
) -> Result<Vec<EndpointDescription>, Error> {
    let url = config.url.as_str();
    let channel = SessionBuilder::new(client)
        .connect_to_endpoint_directly(url)?
        .build_channel(store)?;
    let connector = TcpConnector::new(url)?;
    let mut events = channel.connect_no_retry(&connector).await?;
    let request = GetEndpointsRequest {
        request_header: RequestHeader::dummy(),
        endpoint_url: url.into(),
        locale_ids: None,
        profile_uris: None,
    };
    let answer = channel.send(request, silence(config));
    tokio::pin!(answer);
    let answer = loop {
        tokio::select! {
            event = events.poll() => if let TransportPollResult::Closed(status) = event {
                return Err(Error::new(status, "the connection was closed"));
            },
            answer = &mut answer => break answer?,
        }
    };
    // Closing takes no answer: one more turn sends it, and dropping ends the connection.
    channel.close_channel().await;
    let _ = tokio::time::timeout(Duration::from_millis(100), events.poll()).await;
    match answer {
        ResponseMessage::GetEndpoints(response) => Ok(response.endpoints.unwrap_or_default()),
        ResponseMessage::ServiceFault(fault) => Err(Error::new(
            fault.response_header.service_result,
            "it told no endpoints",
        )),
        _ => Err(Error::new(
            StatusCode::BadUnknownResponse,
            "it answered something else than its endpoints",
        )),
    }
}

/// The endpoint with the wished security, at the address that we know to be reachable: servers
/// often name a host or port that only they can see.
fn choose(
    config: &OpcUaConfig,
    identity: &IdentityToken,
    offered: Vec<EndpointDescription>,
) -> Result<EndpointDescription, SourceError> {
    let policy = config.security_policy;
    let mode = match policy {
        Policy::None => MessageSecurityMode::None,
        _ => config.security_mode.stack(),
    };
    let token = match identity {
        IdentityToken::Anonymous => UserTokenType::Anonymous,
        IdentityToken::UserName(..) => UserTokenType::UserName,
        IdentityToken::X509(..) => UserTokenType::Certificate,
        IdentityToken::IssuedToken(_) => UserTokenType::IssuedToken,
    };
    let secured = |e: &EndpointDescription| {
        e.security_mode == mode
            && SecurityPolicy::from_uri(e.security_policy_uri.as_ref()) == policy.stack()
    };
    let takes_token = |e: &EndpointDescription| {
        let tokens = e.user_identity_tokens.iter().flatten();
        tokens.into_iter().any(|t| t.token_type == token)
    };
    let refused = |reason: String| SourceError::Unreachable {
        address: config.url.clone(),
        reason,
    };
    let listing: Vec<String> = offered
        .iter()
        .map(|e| {
            let policy = e.security_policy_uri.as_ref();
            let policy = policy.rsplit('#').next().unwrap_or(policy);
            format!("{policy} {:?}", e.security_mode)
        })
        .collect();
    let mut fitting: Vec<_> = offered.into_iter().filter(secured).collect();
    if fitting.is_empty() {
        return Err(refused(format!(
            "it has no endpoint with {} {mode:?}; it has: {}",
            policy.name(),
            listing.join(", ")
        )));
    }
    let at = fitting.iter().position(takes_token).ok_or_else(|| {
        refused(format!(
            "its endpoint with {} {mode:?} takes no {token:?} log-in",
            policy.name()
        ))
    })?;
    let mut endpoint = fitting.swap_remove(at);
    endpoint.endpoint_url = reachable(&config.url, endpoint.endpoint_url.as_ref()).into();
    Ok(endpoint)
}

/// Host and port of `known`, path of `advertised`.
fn reachable(known: &str, advertised: &str) -> String {
    const SCHEME: &str = "opc.tcp://";
    let authority = |url: &str| {
        let rest = url.strip_prefix(SCHEME).unwrap_or(url).to_owned();
        match rest.find('/') {
            Some(at) => (rest[..at].to_owned(), rest[at..].to_owned()),
            None => (rest, String::new()),
        }
    };
    format!("{SCHEME}{}{}", authority(known).0, authority(advertised).1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_address_wins_over_the_advertised_one() {
        assert_eq!(
            reachable("opc.tcp://10.0.0.5:4841", "opc.tcp://plc:4840/ua/server"),
            "opc.tcp://10.0.0.5:4841/ua/server"
        );
        assert_eq!(
            reachable("opc.tcp://[::1]:4840/x", "opc.tcp://h"),
            "opc.tcp://[::1]:4840"
        );
    }

    #[test]
    fn a_missing_endpoint_is_answered_with_those_that_exist() {
        let config = OpcUaConfig {
            security_policy: Policy::Basic256Sha256,
            ..OpcUaConfig::new("opc.tcp://h:1")
        };
        let offered = vec![EndpointDescription {
            security_mode: MessageSecurityMode::None,
            security_policy_uri: Policy::None.uri().into(),
            ..Default::default()
        }];
        let error = choose(&config, &IdentityToken::Anonymous, offered).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("Basic256Sha256") && text.contains("it has: None"),
            "{text}"
        );
    }
}

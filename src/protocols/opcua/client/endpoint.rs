//! Which of a server's endpoints is used.

use super::config::OpcUaConfig;
use super::refusal::explain;
use super::session::silence;
use crate::protocols::opcua::security::Policy;
use crate::protocols::source::SourceError;
use opcua::client::transport::{TcpConnector, TransportPollResult};
use opcua::client::{ClientConfig, IdentityToken, SessionBuilder};
use opcua::core::ResponseMessage;
use opcua::crypto::{CertificateStore, SecurityPolicy, X509};
use opcua::sync::RwLock;
use opcua::types::{
    EndpointDescription, Error, GetEndpointsRequest, MessageSecurityMode, RequestHeader,
    StatusCode, UserTokenType,
};
use std::sync::Arc;
use std::time::Duration;

/// What the server offers (GetEndpoints, over a channel without security, as everybody does).
pub(super) async fn endpoints(
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
pub(super) fn choose(
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
    in_time(config, &endpoint)?;
    endpoint.endpoint_url = reachable(&config.url, endpoint.endpoint_url.as_ref()).into();
    Ok(endpoint)
}

/// Refuses a certificate that is not valid now.
fn in_time(config: &OpcUaConfig, endpoint: &EndpointDescription) -> Result<(), SourceError> {
    if config.security_policy == Policy::None {
        return Ok(());
    }
    let checked = X509::from_byte_string(&endpoint.server_certificate)
        .and_then(|certificate| certificate.is_time_valid(&chrono::Utc::now()));
    checked.map_err(|error| explain(config, Some(endpoint), &error))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::opcua::pki;

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
    fn a_certificate_that_has_expired_is_refused_whoever_trusts_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut endpoint = EndpointDescription {
            server_certificate: pki::tests::certificate(dir.path()).as_byte_string(),
            ..Default::default()
        };
        let config = OpcUaConfig {
            security_policy: Policy::Basic256Sha256,
            ..OpcUaConfig::new("opc.tcp://h:1")
        };
        in_time(&config, &endpoint).unwrap();
        let (mut data, names) = (opcua::crypto::X509Data::sample_cert(), "urn:x");
        data.alt_host_names =
            opcua::crypto::X509Data::alt_host_names(names, None, false, false, false);
        data.certificate_duration_days = 0;
        let (expired, _) = X509::cert_and_pkey(&data).unwrap();
        std::thread::sleep(Duration::from_millis(1_100));
        endpoint.server_certificate = expired.as_byte_string();
        let text = in_time(&config, &endpoint).unwrap_err().to_string();
        assert!(text.contains("expired"), "{text}");
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

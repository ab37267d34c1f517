//! Failures in plain words first, then the exact status.

use super::config::OpcUaConfig;
use crate::protocols::opcua::pki;
use crate::protocols::source::SourceError;
use opcua::crypto::X509;
use opcua::types::{EndpointDescription, Error, StatusCode};
use std::path::Path;

/// Characters of a thumbprint that are enough to name a certificate.
const SHORT: usize = 8;

/// A failure to connect in plain words, with what to do and the status code at its end.
pub(super) fn explain(
    config: &OpcUaConfig,
    endpoint: Option<&EndpointDescription>,
    error: &Error,
) -> SourceError {
    let status = error.status();
    let address = config.url.clone();
    if status == StatusCode::BadTimeout {
        return SourceError::Timeout {
            address,
            milliseconds: config.silence_timeout_ms.into(),
        };
    }
    let reason = if is_distrust(status) {
        distrust(&config.pki_dir, endpoint, status)
    } else if is_about_time(status) {
        let whose = thumbprint(endpoint).map_or_else(String::new, |t| format!(" {t}"));
        format!(
            "its certificate{whose} is expired or not valid yet, or its clock and ours differ; renew \
             it there, then trust the new one ({status})"
        )
    } else if matches!(
        status,
        StatusCode::BadCertificateHostNameInvalid | StatusCode::BadCertificateUriInvalid
    ) {
        format!(
            "its certificate was made for another host name or application than the one we connect \
             to; connect by the name in it, or have it made anew ({status})"
        )
    } else if matches!(
        status,
        StatusCode::BadUserAccessDenied
            | StatusCode::BadIdentityTokenRejected
            | StatusCode::BadIdentityTokenInvalid
            | StatusCode::BadUserSignatureInvalid
    ) {
        format!(
            "it refused the log-in; check user and password, or the user's certificate ({status})"
        )
    } else if matches!(
        status,
        StatusCode::BadTooManySessions | StatusCode::BadMaxConnectionsReached
    ) {
        format!(
            "it has no session left; others must let go of theirs, or it be set to allow more ({status})"
        )
    } else if let Some(message) = os_message(&error.to_string()) {
        format!("no connection: {message}")
    } else {
        error.to_string()
    };
    SourceError::Unreachable { address, reason }
}

/// Why an open connection ended, in plain words.
pub(super) fn broken(status: StatusCode) -> String {
    match status {
        StatusCode::BadTimeout => format!("it stopped answering ({status})"),
        StatusCode::BadSessionIdInvalid | StatusCode::BadSessionClosed => {
            format!("it ended the session ({status})")
        }
        _ => format!("the connection broke ({status})"),
    }
}

fn is_distrust(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BadCertificateUntrusted
            | StatusCode::BadSecurityChecksFailed
            | StatusCode::BadCertificateInvalid
            | StatusCode::BadCertificateChainIncomplete
    )
}

fn is_about_time(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BadCertificateTimeInvalid | StatusCode::BadCertificateIssuerTimeInvalid
    )
}

/// Either we do not trust it, or it does not trust us; our own folder tells which.
fn distrust(folder: &Path, endpoint: Option<&EndpointDescription>, status: StatusCode) -> String {
    let certificate = thumbprint(endpoint);
    let place = certificate
        .as_deref()
        .and_then(|thumbprint| pki::place(folder, thumbprint));
    let folder_text = folder.display();
    match (certificate, place) {
        (Some(thumbprint), Some(pki::Place::Trusted)) => {
            let own = pki::own_thumbprint(folder).unwrap_or_default();
            format!(
                "it does not trust our certificate {}; have it trust {folder_text}/own/cert.der (we \
                 trust its certificate {}) ({status})",
                short(&own),
                short(&thumbprint)
            )
        }
        (Some(thumbprint), _) => format!(
            "we do not trust its certificate {0}; if it is the right one, run `weighbridge certs \
             trust {0} --pki {folder_text}` ({status})",
            short(&thumbprint)
        ),
        (None, _) => format!(
            "it refused our certificate, or we refuse its; run `weighbridge certs list --pki \
             {folder_text}` ({status})"
        ),
    }
}

fn thumbprint(endpoint: Option<&EndpointDescription>) -> Option<String> {
    let certificate = &endpoint?.server_certificate;
    let certificate = X509::from_byte_string(certificate).ok()?;
    Some(certificate.thumbprint().as_hex_string())
}

fn short(thumbprint: &str) -> &str {
    thumbprint.get(..SHORT).unwrap_or(thumbprint)
}

/// The operating system's word, which the stack gives in the form for programmers.
fn os_message(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("message: \"")?;
    let (message, _) = rest.split_once('"')?;
    Some(message.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_certificate_comes_with_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = pki::tests::certificate(&dir.path().join("theirs"));
        let config = OpcUaConfig {
            pki_dir: dir.path().join("ours"),
            ..OpcUaConfig::new("opc.tcp://h:1")
        };
        pki::tests::certificate(&config.pki_dir);
        let endpoint = EndpointDescription {
            server_certificate: theirs.as_byte_string(),
            ..Default::default()
        };
        let error = Error::new(StatusCode::BadCertificateUntrusted, "");
        let text = explain(&config, Some(&endpoint), &error).to_string();
        let thumbprint = theirs.thumbprint().as_hex_string();
        let command = format!(
            "run `weighbridge certs trust {} --pki {}`",
            &thumbprint[..SHORT],
            config.pki_dir.display()
        );
        assert!(text.contains(&command), "{text}");
        // When we trust it, it is the other way round.
        let file = dir.path().join("theirs/own/cert.der");
        pki::import(&config.pki_dir, &file).unwrap();
        let text = explain(&config, Some(&endpoint), &error).to_string();
        assert!(text.contains("it does not trust our certificate"), "{text}");
        let own = pki::own_thumbprint(&config.pki_dir).unwrap();
        assert!(text.contains(&own[..SHORT]), "{text}");
    }
}

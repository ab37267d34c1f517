//! Time stamps of RFC 3161: the request for one, and whether a token holds.
//!
//! A token says that a hash was known at a time, signed by an authority that somebody trusts with
//! nothing but that. It is checked offline: form, hash, nonce and policy; the signature over all of it; that the
//! signature names its certificate (RFC 5816); and that the certificate is for time stamps and nothing
//! else, and led to a trusted authority at the time that the token names.
//!
//! The forms of CMS and X.509 are those of RustCrypto, the path to the authority is webpki's.

mod form;
mod token;

#[cfg(test)]
mod tests;

use crate::model::Nanos;
use der::asn1::{Int, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use form::{MessageImprint, SHA_256, TimeStampReq, TimeStampResp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// Longest token or answer that is looked at.
pub const MAX_TOKEN: usize = 64 * 1024;
/// Most certificates that are trusted, or that are in a token.
const MAX_CERTIFICATES: usize = 32;

/// Why there is no time stamp, or why one does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Not what RFC 3161 or RFC 5652 say.
    #[error("it is not in the form of RFC 3161: {0}")]
    Form(String),
    /// The authority did not grant one.
    #[error("the authority refused: {0}")]
    Refused(String),
    /// Of another hash.
    #[error("it is a time stamp of something else: the message imprint is another")]
    Imprint,
    /// The nonce is not the one that was sent.
    #[error("it answers another request: the nonce is another")]
    Nonce,
    /// Made under another policy.
    #[error("it was made under the policy {0}, not under the one that was asked for")]
    Policy(String),
    /// An algorithm that is not known here.
    #[error("the algorithm {0} is not known here, or too weak")]
    Algorithm(String),
    /// The certificate that the signature names is not there, or is not the one of the signer.
    #[error("it does not come with the certificate that its signature names")]
    Certificate,
    /// The certificate is not for time stamps only.
    #[error(
        "its certificate is not for time stamps: the extended key usage must be critical and name \
         time stamping only"
    )]
    Usage,
    /// No path leads from the certificate to a trusted authority at that time.
    #[error("its certificate was not one of a trusted authority at that time: {0}")]
    Authority(String),
    /// The signature is not that of the certificate's key.
    #[error("its signature does not hold")]
    Signature,
    /// There is no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(String),
    /// There is nobody to trust.
    #[error("there is no certificate of an authority to trust: {0}")]
    NoAuthority(String),
}

/// Authorities that are trusted to say what time it is.
#[derive(Clone, Debug)]
pub struct TimestampAuthorities(Vec<CertificateDer<'static>>);

impl TimestampAuthorities {
    /// Those whose certificates are in a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TimestampError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let found = found.map_err(|e| TimestampError::NoAuthority(e.to_string()))?;
        if found.is_empty() || found.len() > MAX_CERTIFICATES {
            let why = format!("the file has {} certificates", found.len());
            return Err(TimestampError::NoAuthority(why));
        }
        Ok(Self(found))
    }
}

/// What a token that holds says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// When, ns since 1970.
    pub time: Nanos,
    /// How far from that it may have been at most, in ns, if the authority says so.
    pub accuracy: Option<Nanos>,
    /// Number of the token at its authority, in hexadecimal.
    pub serial: String,
    /// The policy that it was made under, an object identifier.
    pub policy: String,
    /// The authority, as its certificate names it.
    pub authority: String,
}

/// The request for a time stamp of a SHA-256 hash (RFC 3161 §2.4.1), under `policy` or the authority's
/// own.
pub fn request(
    imprint: &[u8; 32],
    nonce: u64,
    policy: Option<&str>,
) -> Result<Vec<u8>, TimestampError> {
    let wrong = |e: der::Error| TimestampError::Form(e.to_string());
    let policy = policy.map(ObjectIdentifier::new).transpose();
    let policy = policy.map_err(|e| TimestampError::Form(format!("the policy: {e}")))?;
    let request = TimeStampReq {
        version: 1,
        message_imprint: MessageImprint {
            hash_algorithm: AlgorithmIdentifierOwned {
                oid: SHA_256,
                parameters: None,
            },
            hashed_message: OctetString::new(*imprint).map_err(wrong)?,
        },
        req_policy: policy,
        nonce: Some(integer(nonce).map_err(wrong)?),
        cert_req: true,
    };
    request.to_der().map_err(wrong)
}

/// The token in an authority's answer (RFC 3161 §2.4.2).
pub fn token_of_response(response: &[u8]) -> Result<Vec<u8>, TimestampError> {
    if response.len() > MAX_TOKEN {
        return Err(TimestampError::Form("it is too long".to_owned()));
    }
    let wrong = |e: der::Error| TimestampError::Form(e.to_string());
    let read = TimeStampResp::from_der(response).map_err(wrong)?;
    if read.status.status > 1 {
        let words = read.status.status_string.unwrap_or_default().join("; ");
        let plain = words.chars().filter(|c| !c.is_control()).take(200);
        let plain: String = plain.collect();
        let why = format!("status {}; {plain}", read.status.status);
        return Err(TimestampError::Refused(why));
    }
    let token = read.time_stamp_token;
    let token = token.ok_or_else(|| TimestampError::Form("there is no token in it".to_owned()))?;
    token.to_der().map_err(wrong)
}

/// Whether `token` is a time stamp of `imprint` by one of `authorities`; of the request with this nonce and
/// this policy, where they are given.
pub fn verify(
    token: &[u8],
    imprint: &[u8; 32],
    nonce: Option<u64>,
    policy: Option<&str>,
    authorities: &TimestampAuthorities,
) -> Result<Timestamp, TimestampError> {
    if token.len() > MAX_TOKEN {
        return Err(TimestampError::Form("it is too long".to_owned()));
    }
    let token = token::Token::read(token)?;
    let said = token.verify(authorities)?;
    token.answers(imprint, nonce, policy)?;
    Ok(said)
}

/// A number that an answer must repeat, from the operating system's randomness.
pub fn nonce() -> Result<u64, TimestampError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| TimestampError::Random(e.to_string()))?;
    Ok(u64::from_be_bytes(bytes))
}

fn integer(value: u64) -> Result<Int, der::Error> {
    Int::from_der(&value.to_der()?)
}

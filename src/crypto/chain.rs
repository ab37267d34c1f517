//! Whether a certificate is one of an authority's: RFC 5280's path validation, by webpki.

use super::certificate::{Certificate, MAX_CERTIFICATE, MAX_CHAIN};
use crate::model::Nanos;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There is no certificate that could be an authority's.
    #[error("there is no authority to trust: {0}")]
    Authorities(String),
    /// Nothing was shown, or too much.
    #[error(
        "no certificate was shown, or more than {MAX_CHAIN}, or a longer one than {MAX_CERTIFICATE} bytes"
    )]
    Size,
    /// It does not hold.
    #[error("{0}")]
    Invalid(String),
}

/// The authorities that are trusted to name those who connect.
#[derive(Clone)]
pub struct Authorities {
    verifier: Arc<dyn ClientCertVerifier>,
    count: usize,
}

impl Authorities {
    /// Trusts these, whether they are roots or between a root and us.
    pub fn new(trusted: &[Certificate]) -> Result<Self, ChainError> {
        let wrong = |e: &dyn fmt::Display| ChainError::Authorities(e.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in trusted {
            let der = CertificateDer::from(certificate.der().to_vec());
            roots.add(der).map_err(|e| wrong(&e))?;
        }
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        Ok(Self {
            verifier: verifier.map_err(|e| wrong(&e))?,
            count: trusted.len(),
        })
    }

    /// The first certificate of `chain`, if at `now` the others lead from it to an authority and it
    /// is for those who connect. Says nothing of who holds its key.
    pub fn check(&self, chain: &[Vec<u8>], now: Nanos) -> Result<Certificate, ChainError> {
        let small = chain.iter().all(|der| der.len() <= MAX_CERTIFICATE);
        let (first, rest) = match chain.split_first() {
            Some(split) if small && chain.len() <= MAX_CHAIN => split,
            _ => return Err(ChainError::Size),
        };
        let wrong = |e: &dyn fmt::Display| ChainError::Invalid(e.to_string());
        let parsed = Certificate::from_der(first).map_err(|e| wrong(&e))?;
        let first = CertificateDer::from(first.as_slice());
        let between: Vec<_> = rest
            .iter()
            .map(|c| CertificateDer::from(c.as_slice()))
            .collect();
        let seconds = u64::try_from(now.div_euclid(1_000_000_000)).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let checked = self.verifier.verify_client_cert(&first, &between, now);
        checked.map_err(|e| wrong(&e))?;
        Ok(parsed)
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.count)
    }
}

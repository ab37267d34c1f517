//! The certificate that a TLS server shows, from files that may be replaced while it runs.
//!
//! Who connects from then on is shown the new one; connections that there are stay what they are.

use super::tls::{AnyClient, TlsError, TlsPair, certificates, private_key, provider, unlike};
use parking_lot::RwLock;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::sync::Arc;

/// A server's certificate and key, as they were read last.
#[derive(Debug)]
pub struct ServedCertificate {
    pair: TlsPair,
    served: RwLock<Arc<CertifiedKey>>,
}

impl ServedCertificate {
    /// Reads the files of `pair`.
    ///
    /// # Errors
    /// When they cannot be used, or do not go together.
    pub fn load(pair: TlsPair) -> Result<Arc<Self>, TlsError> {
        let served = RwLock::new(read(&pair)?);
        Ok(Arc::new(Self { pair, served }))
    }

    /// Reads the files again; whether the certificate is another one from now on.
    ///
    /// # Errors
    /// As for [`Self::load`]; then the one that was shown is shown on.
    pub fn load_again(&self) -> Result<bool, TlsError> {
        let new = read(&self.pair)?;
        let mut served = self.served.write();
        let other = served.cert != new.cert;
        *served = new;
        Ok(other)
    }

    /// Settings of the side that listens.
    ///
    /// # Errors
    /// When the library does not take them.
    pub fn server(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| self.unlike(&e))?;
        let builder = builder.with_no_client_auth();
        Ok(builder.with_cert_resolver(self.clone()))
    }

    /// The same, but who connects may show a certificate. Whoever's it is, TLS proves only that they have its
    /// key: whether it is worth anything is for the log-in to say. Browsers are told that one of the
    /// authorities in the file `hint` is wanted, if there is one, and so do not offer others.
    ///
    /// # Errors
    /// As for [`Self::server`].
    pub fn server_asking(self: &Arc<Self>, hint: Option<&Path>) -> Result<ServerConfig, TlsError> {
        let provider = provider();
        let mut authorities = RootCertStore::empty();
        if let Some(found) = hint.and_then(|file| certificates(file).ok()) {
            authorities.add_parsable_certificates(found);
        }
        let shown = Arc::new(AnyClient {
            algorithms: provider.signature_verification_algorithms,
            hints: authorities.subjects(),
        });
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| self.unlike(&e))?;
        let builder = builder.with_client_cert_verifier(shown);
        Ok(builder.with_cert_resolver(self.clone()))
    }

    fn unlike(&self, reason: &rustls::Error) -> TlsError {
        unlike(&self.pair.certificate, &self.pair.key, reason)
    }
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.served.read().clone())
    }
}

fn read(pair: &TlsPair) -> Result<Arc<CertifiedKey>, TlsError> {
    let (certificate, key) = (&pair.certificate, &pair.key);
    let read = CertifiedKey::from_der(certificates(certificate)?, private_key(key)?, &provider());
    read.map(Arc::new).map_err(|e| unlike(certificate, key, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::key_file;
    use rcgen::{CertificateParams, KeyPair};

    fn write(dir: &Path, name: &str) -> TlsPair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let pair = TlsPair {
            certificate: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        };
        std::fs::write(&pair.certificate, certificate.pem()).unwrap();
        key_file::write(&pair.key, &key.serialize_pem()).unwrap();
        pair
    }

    #[test]
    fn another_certificate_is_shown_when_both_files_are_new_and_go_together() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (write(dir.path(), "first"), write(dir.path(), "second"));
        let served = ServedCertificate::load(first.clone()).unwrap();
        served.server().unwrap();
        served.server_asking(None).unwrap();
        let shown = || served.served.read().cert.clone();
        let before = shown();
        assert!(!served.load_again().unwrap(), "it is the same");
        // Half of the way: what was shown is shown on.
        std::fs::rename(&second.certificate, &first.certificate).unwrap();
        let error = served.load_again().unwrap_err();
        assert!(matches!(error, TlsError::Pair { .. }), "{error}");
        assert_eq!(shown(), before);
        std::fs::rename(&second.key, &first.key).unwrap();
        assert!(served.load_again().unwrap());
        assert_ne!(shown(), before);
        std::fs::remove_file(&first.key).unwrap();
        assert!(served.load_again().is_err());
    }
}

//! TLS settings from PEM files. [`TlsFiles`]: both ways authenticated, each side shows a certificate, and
//! each checks the other's against certificate authorities that it was given. [`TlsPair`]: a server that
//! shows who it is, and learns otherwise who connects. TLS 1.2 and 1.3.

use super::key_file::{self, KeyFileError};
pub use rustls::ServerConfig as TlsServerConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore};
use rustls::{ServerConfig, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why TLS cannot be used as it is set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file with certificates cannot be used.
    #[error("the certificates in {path} cannot be used: {reason}; expected PEM")]
    Certificates {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file of the private key cannot be read.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The file of the private key holds none.
    #[error("the key file {path} holds no private key in PEM form: {reason}")]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The files do not go together.
    #[error("certificate {certificate} and key {key} do not go together: {reason}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        reason: String,
    },
    /// Not a name that a certificate can be for.
    #[error("{0:?} is neither a host name nor an IP address, so no certificate can be for it")]
    ServerName(String),
}

/// The files that one side of a connection needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// Certificates of the authorities that vouch for the other side; PEM.
    pub ca: PathBuf,
    /// Our certificate, and those between it and its authority; PEM.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, SEC1 or PKCS#1 in PEM, mode 0600.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Settings of the side that connects.
    pub fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = provider();
        let roots = Arc::new(self.authorities()?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|e| unusable(&self.ca, e))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| self.pair(e))?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(self.chain()?, self.private_key()?)
            .map_err(|e| self.pair(e))?;
        Ok(Arc::new(config))
    }

    /// Settings of the side that listens. Whoever shows no certificate of the authorities is refused.
    pub fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = provider();
        let roots = Arc::new(self.authorities()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|e| unusable(&self.ca, e))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| self.pair(e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain()?, self.private_key()?)
            .map_err(|e| self.pair(e))?;
        Ok(Arc::new(config))
    }

    fn authorities(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).map_err(|e| unusable(&self.ca, e))?;
        }
        Ok(roots)
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates(&self.certificate)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        private_key(&self.key)
    }

    fn pair(&self, reason: rustls::Error) -> TlsError {
        unlike(&self.certificate, &self.key, &reason)
    }
}

/// Settings of a side that connects, and takes certificates by the authorities in `pem`; it shows a
/// certificate of its own (and key), in PEM files, if there is one.
///
/// # Errors
/// When there is no certificate in `pem`, or the files cannot be used.
pub fn client_trusting(
    pem: &str,
    own: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let given = Path::new("what was given as authority");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| unusable(given, e))?;
        roots.add(certificate).map_err(|e| unusable(given, e))?;
    }
    if roots.is_empty() {
        return Err(unusable(given, "there is none in it"));
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable(given, e))?
        .with_root_certificates(roots);
    Ok(Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|e| unlike(certificate, key, &e))?,
    }))
}

/// The files of a server that shows who it is, and asks for no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPair {
    /// Its certificate, and those between it and its authority; PEM.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, SEC1 or PKCS#1 in PEM, mode 0600.
    pub key: PathBuf,
}

impl TlsPair {
    /// Both files.
    pub fn files(&self) -> Vec<PathBuf> {
        vec![self.certificate.clone(), self.key.clone()]
    }
}

/// Takes any certificate, or none, from who proves to have its key.
#[derive(Debug)]
pub(super) struct AnyClient {
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, shown, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, shown, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = key_file::read(path)?;
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| TlsError::Key {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

pub(super) fn unlike(certificate: &Path, key: &Path, reason: &rustls::Error) -> TlsError {
    TlsError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        reason: reason.to_string(),
    }
}

/// The name that the other side's certificate must be for.
pub fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
}

/// Explicitly this one: several could be linked, and then there is no default.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|e| unusable(path, e))?;
    let found: Result<Vec<_>, _> = read.collect();
    let found = found.map_err(|e| unusable(path, e))?;
    if found.is_empty() {
        return Err(unusable(path, "there is none in it"));
    }
    Ok(found)
}

fn unusable(path: &Path, reason: impl ToString) -> TlsError {
    TlsError::Certificates {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    /// An authority and a certificate of it, in files.
    fn files(dir: &Path) -> TlsFiles {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["plc.example".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        let files = TlsFiles {
            ca: dir.join("ca.pem"),
            certificate: dir.join("certificate.pem"),
            key: dir.join("key.pem"),
        };
        std::fs::write(&files.ca, ca.pem()).unwrap();
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        key_file::write(&files.key, &key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn files_that_go_together_are_taken_for_both_sides() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        files.client().unwrap();
        files.server().unwrap();
    }

    #[test]
    fn what_is_wrong_is_said_with_its_file() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let good = files(dir.path());
        let others = files(other.path());
        let missing = dir.path().join("missing.pem");
        for (wrong, said) in [
            (
                TlsFiles {
                    ca: missing.clone(),
                    ..good.clone()
                },
                "missing.pem",
            ),
            (
                TlsFiles {
                    ca: good.key.clone(),
                    ..good.clone()
                },
                "there is none in it",
            ),
            (
                TlsFiles {
                    key: others.key,
                    ..good.clone()
                },
                "do not go together",
            ),
            (
                TlsFiles {
                    key: good.certificate.clone(),
                    ..good.clone()
                },
                "key",
            ),
        ] {
            let error = wrong.client().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn names_and_addresses_can_be_in_a_certificate() {
        for name in ["plc.example", "192.0.2.7", "[2001:db8::7]"] {
            assert!(server_name(name).is_ok(), "{name}");
        }
        assert!(server_name("no name").is_err());
    }
}

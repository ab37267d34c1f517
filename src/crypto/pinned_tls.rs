//! TLS between edge nodes and hubs: version 1.3, both sides known by their public keys.
//!
//! Each side shows a P-256 key, its own or of suite `guomi` the one made from it, as a raw public key (RFC 7250) and takes only the keys that its
//! configuration names. There is no certificate and so no authority, name or date that could be wrong;
//! a key in the configuration is the whole of the trust.

use super::identity::Identity;
use p256::pkcs8::EncodePublicKey;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, CommonState, DigitallySignedStruct, DistinguishedName, Error,
    ServerConnection, SignatureScheme,
};
pub use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;
use weighbridge_verifier::PublicKey;

/// Why a connection cannot be set up at all.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A configured key is no key.
    #[error("`{0}` is not a P-256 public key: compare it with what the other side prints")]
    Key(PublicKey),
    /// The library refuses.
    #[error("TLS cannot be set up: {0}")]
    Library(String),
}

/// The application protocol (RFC 7301) of those who only ask who the other side is by now.
const INTRODUCTION: &[u8] = b"weighbridge-introduction/1";

/// The name that clients ask for; nobody looks at it, because keys are compared.
pub fn any_name() -> ServerName<'static> {
    match ServerName::try_from("weighbridge") {
        Ok(name) => name,
        Err(error) => unreachable!("it is a DNS name: {error}"),
    }
}

/// A client that shows the key of `identity` and talks only to the owner of `server`.
pub fn client(identity: &Identity, server: &PublicKey) -> Result<Arc<ClientConfig>, TlsError> {
    let only = Some(std::slice::from_ref(server));
    Ok(Arc::new(client_config(identity, only)?))
}

/// A server that shows the key of `identity` and lets in only the owners of `clients`.
pub fn server(identity: &Identity, clients: &[PublicKey]) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = server_config(identity, clients)?;
    config.alpn_protocols = vec![INTRODUCTION.to_vec()];
    Ok(Arc::new(config))
}

/// A client that shows the key of `identity` and asks whoever answers who it is. Nothing may be told to a
/// server that is reached so, and nothing that it says counts but for the signatures on it.
pub fn asking(identity: &Identity) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = client_config(identity, None)?;
    config.alpn_protocols = vec![INTRODUCTION.to_vec()];
    Ok(Arc::new(config))
}

/// A client that shows the key of `identity` and talks to the owners of `servers`; to everybody when there are none.
pub(super) fn client_config(
    identity: &Identity,
    servers: Option<&[PublicKey]>,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let pinned = Arc::new(Pinned::new(servers, &provider)?);
    let own = own_key(identity, &provider)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| TlsError::Library(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(own)));
    config.enable_sni = false;
    Ok(config)
}

/// A server that shows the key of `identity` and lets in only the owners of `clients`.
pub(super) fn server_config(
    identity: &Identity,
    clients: &[PublicKey],
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let pinned = Arc::new(Pinned::new(Some(clients), &provider)?);
    let own = own_key(identity, &provider)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| TlsError::Library(e.to_string()))?
        .with_client_cert_verifier(pinned)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(own)));
    Ok(config)
}

/// Whether the client only asks who the server is.
pub fn only_asks(connection: &ServerConnection) -> bool {
    connection.alpn_protocol() == Some(INTRODUCTION)
}

/// Whether a connection failed because the other side showed another key than the pinned ones.
pub fn is_other_key(error: &std::io::Error) -> bool {
    let unknown = CertificateError::ApplicationVerificationFailure;
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    inner.is_some_and(|e| *e == Error::InvalidCertificate(unknown))
}

/// Which of `keys` the other end has shown; `None` before the handshake is over.
pub fn shown(connection: &CommonState, keys: &[PublicKey]) -> Option<PublicKey> {
    let shown = connection.peer_certificates()?.first()?;
    let is_shown = |key: &&PublicKey| spki(key).is_ok_and(|spki| spki == shown.as_ref());
    keys.iter().find(is_shown).copied()
}

fn own_key(identity: &Identity, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let library = |e: Error| TlsError::Library(e.to_string());
    let der = identity.link_der();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der.as_bytes().to_vec()));
    let key = provider
        .key_provider
        .load_private_key(private)
        .map_err(library)?;
    let public = spki(&identity.peer_key().link)?;
    Ok(Arc::new(CertifiedKey::new(
        vec![CertificateDer::from(public)],
        key,
    )))
}

/// The key as a SubjectPublicKeyInfo (RFC 5480), which is what a raw public key is.
pub(super) fn spki(key: &PublicKey) -> Result<Vec<u8>, TlsError> {
    let point = p256::PublicKey::from_sec1_bytes(&key.0).map_err(|_| TlsError::Key(*key))?;
    let der = point.to_public_key_der().map_err(|_| TlsError::Key(*key))?;
    Ok(der.as_bytes().to_vec())
}

/// The keys that are let through.
#[derive(Debug)]
struct Pinned {
    /// `None` lets everybody through.
    allowed: Option<Vec<Vec<u8>>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(keys: Option<&[PublicKey]>, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let all = |keys: &[PublicKey]| keys.iter().map(spki).collect::<Result<_, _>>();
        Ok(Self {
            allowed: keys.map(all).transpose()?,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        let is_shown = |key: &Vec<u8>| key == shown.as_ref();
        if self.allowed.as_ref().is_none_or(|a| a.iter().any(is_shown)) {
            return Ok(());
        }
        let unknown = CertificateError::ApplicationVerificationFailure;
        Err(Error::InvalidCertificate(unknown))
    }

    fn check_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        rustls::crypto::verify_tls13_signature_with_raw_key(
            message,
            &key,
            signature,
            &self.algorithms,
        )
    }
}

fn only_tls13() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("only TLS 1.3 is spoken here".to_owned()))
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(shown).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        only_tls13()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(shown).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        only_tls13()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Signer;
    use rustls::ClientConnection;

    /// Hands bytes over until both sides are through, or one says no.
    fn shake(
        client: &mut ClientConnection,
        server: &mut ServerConnection,
    ) -> Result<(), rustls::Error> {
        for _ in 0..10 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(())
    }

    fn pair(
        (edge, hub): (&Identity, &Identity),
        (edge_expects, hub_expects): (&Identity, &Identity),
    ) -> (ClientConnection, ServerConnection) {
        let client = client(edge, &edge_expects.peer_key().link).unwrap();
        let server = server(hub, &[hub_expects.peer_key().link]).unwrap();
        (
            ClientConnection::new(client, any_name()).unwrap(),
            ServerConnection::new(server).unwrap(),
        )
    }

    #[test]
    fn two_sides_that_name_each_others_keys_meet() {
        for suite in weighbridge_verifier::Suite::ALL {
            two_sides_meet(suite);
        }
    }

    fn two_sides_meet(suite: weighbridge_verifier::Suite) {
        let edge = Identity::generate_of(suite, "edge-1");
        let hub = Identity::generate_of(suite, "hub-1");
        let (mut client, mut server) = pair((&edge, &hub), (&hub, &edge));
        let known = [hub.peer_key().link, edge.peer_key().link];
        assert_eq!(shown(&server, &known), None);
        shake(&mut client, &mut server).unwrap();
        assert_eq!(shown(&server, &known), Some(edge.peer_key().link));
        assert_eq!(
            server.protocol_version(),
            Some(rustls::ProtocolVersion::TLSv1_3)
        );
    }

    #[test]
    fn a_stranger_is_refused_on_either_side() {
        let (edge, hub) = (Identity::generate("edge-1"), Identity::generate("hub-1"));
        let stranger = Identity::generate("edge-1");
        let (mut client, mut server) = pair((&stranger, &hub), (&hub, &edge));
        assert!(shake(&mut client, &mut server).is_err());
        let (mut client, mut server) = pair((&edge, &stranger), (&hub, &edge));
        assert!(shake(&mut client, &mut server).is_err());
    }

    #[test]
    fn a_key_that_is_none_is_named() {
        let edge = Identity::generate("edge-1");
        // No point, and a point of the other curve: TLS knows P-256 only.
        let sm2 = Identity::generate_of(weighbridge_verifier::Suite::Guomi, "hub-1");
        for none in [PublicKey([0; 33]), sm2.public_key()] {
            assert!(matches!(client(&edge, &none), Err(TlsError::Key(key)) if key == none));
        }
    }
}

//! TLS between the hubs of a chain: version 1.3, both sides known by their signing keys, as in
//! [`pinned_tls`](super::pinned_tls), and a protocol name of its own, so that no other connection is taken for one of these.
//!
//! No session is resumed: who is at the other end is found out anew at every connection, by the keys that count then.

use super::identity::Identity;
use super::pinned_tls::{self, TlsError, client_config, server_config};
pub use super::pinned_tls::{any_name, is_other_key};
use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
pub use rustls::{ClientConfig, CommonState, ServerConfig};
use std::sync::Arc;
use weighbridge_verifier::PublicKey;

/// The application protocol (RFC 7301).
const MESH: &[u8] = b"weighbridge-mesh/1";

/// A hub that shows the key of `identity` and talks only to the owner of one of `hub`, the keys of another hub.
pub fn client(identity: &Identity, hub: &[PublicKey]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = client_config(identity, Some(hub))?;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![MESH.to_vec()];
    Ok(Arc::new(config))
}

/// A hub that shows the key of `identity` and lets in only the owners of `hubs`.
pub fn server(identity: &Identity, hubs: &[PublicKey]) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = server_config(identity, hubs)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![MESH.to_vec()];
    Ok(Arc::new(config))
}

/// Which of `keys` the other end has shown, on a connection between hubs; `None` before the handshake is over, and
/// on any other connection.
pub fn shown(connection: &CommonState, keys: &[PublicKey]) -> Option<PublicKey> {
    let ours = connection.alpn_protocol() == Some(MESH);
    ours.then(|| pinned_tls::shown(connection, keys)).flatten()
}

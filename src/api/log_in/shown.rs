//! The certificate that a connection showed, whose key its TLS handshake has proven. It is looked at when somebody
//! logs in by it.

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use std::any::Any;

/// The certificates (DER), their own first.
struct ShownCertificates(Vec<Vec<u8>>);

/// A connection begins: what it showed is kept as long as it is there.
pub(in crate::api) fn keep_shown(connection: &dyn Any, data: &mut Extensions) {
    let tls = connection.downcast_ref::<TlsStream<TcpStream>>();
    let shown = tls.and_then(|tls| tls.get_ref().1.peer_certificates());
    if let Some(chain) = shown {
        let chain = chain.iter().map(|der| der.to_vec()).collect();
        data.insert(ShownCertificates(chain));
    }
}

/// What the connection of a request showed, if it did.
pub(super) fn shown(request: &HttpRequest) -> Option<&[Vec<u8>]> {
    let shown = request.conn_data::<ShownCertificates>()?;
    (!shown.0.is_empty()).then_some(&shown.0)
}

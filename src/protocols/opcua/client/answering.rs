//! The TCP connection to a server, made here so that it is known who answers.

use opcua::client::ConnectionSource;
use opcua::client::transport::{
    Connector, RequestRecv, SecureChannelState, StreamConnection, StreamConnector, TcpTransport,
    TransportConfiguration,
};
use opcua::core::comms::tcp_codec::TcpCodec;
use opcua::core::comms::url::hostname_port_from_url;
use opcua::types::{DecodingOptions, EndpointDescription, Error, StatusCode};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio_util::codec::FramedRead;

/// The port of servers that name none (OPC 10000-6, 7.1.2.2).
const PORT: u16 = 4840;

/// The address at the other end of the newest connection of a session.
pub(super) type Answering = Arc<Mutex<Option<SocketAddr>>>;

/// Makes the connections of a session, and writes down where they lead.
pub(super) struct Observed(pub(super) Answering);

/// Makes the connections to one endpoint.
pub(super) struct ObservedConnector {
    url: String,
    answering: Answering,
}

impl ConnectionSource for Observed {
    type Builder = ObservedConnector;

    fn get_connector(&self, endpoint: &EndpointDescription) -> Result<ObservedConnector, Error> {
        Ok(ObservedConnector {
            url: endpoint.endpoint_url.as_ref().to_owned(),
            answering: self.0.clone(),
        })
    }
}

type Halves = StreamConnection<ReadHalf<TcpStream>, WriteHalf<TcpStream>>;

async fn connect(
    url: String,
    decoding: DecodingOptions,
    answering: Answering,
) -> Result<Halves, Error> {
    let place = hostname_port_from_url(&url, PORT);
    let (host, port) = place.map_err(|e| Error::new(e, "the address names no host"))?;
    let failed = |error: std::io::Error| {
        Error::new(
            StatusCode::BadCommunicationError,
            format!("Could not connect to host {host}:{port}, {error:?}"),
        )
    };
    let stream = TcpStream::connect(format!("{host}:{port}")).await;
    let stream = stream.map_err(failed)?;
    let peer = stream.peer_addr().map_err(failed)?;
    *answering.lock() = Some(peer);
    let (reader, writer) = split(stream);
    let reader = FramedRead::new(reader, TcpCodec::new(decoding));
    Ok(StreamConnection::new(reader, writer, url))
}

impl Connector for ObservedConnector {
    type Transport = TcpTransport;

    async fn connect(
        &self,
        channel: Arc<SecureChannelState>,
        outgoing: RequestRecv,
        config: TransportConfiguration,
    ) -> Result<TcpTransport, Error> {
        let answering = &self.answering;
        let open = |url, decoding| connect(url, decoding, answering.clone());
        let connector = StreamConnector::new(open, self.url.clone());
        connector.connect(channel, outgoing, config).await
    }

    fn default_endpoint(&self) -> EndpointDescription {
        EndpointDescription::from(self.url.as_str())
    }
}

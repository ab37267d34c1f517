//! Hubs that speak the protocol and say what they like.

use super::super::wire::{
    Frames, FromPublisher, FromSubscriber, Hello, MAX_FRAME, MAX_HELLO, MESH_PROTOCOL, WireError,
    Writing,
};
use super::book::CHAIN;
use super::site::{TestHub, word};
use crate::crypto::{Identity, Signer, mesh_tls};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use weighbridge_verifier::{PublicKey, decode};

const LONG: Duration = Duration::from_secs(120);

/// One end of a link.
pub(super) struct End<S> {
    pub(super) frames: Frames<ReadHalf<S>>,
    pub(super) writing: Writing<WriteHalf<S>>,
}

pub(super) type Listening = End<server::TlsStream<TcpStream>>;
pub(super) type Dialling = End<client::TlsStream<TcpStream>>;

pub(super) fn hello(identity: &Identity) -> Hello {
    Hello {
        version: MESH_PROTOCOL,
        chain: CHAIN.to_owned(),
        hub: identity.id().to_owned(),
        incarnation: 1,
        word: Box::new(word(identity)),
    }
}

impl<S: AsyncRead + AsyncWrite> End<S> {
    fn new(stream: S) -> Self {
        let (reader, writer) = split(stream);
        Self {
            frames: Frames::new(reader, LONG),
            writing: Writing::new(writer, LONG),
        }
    }

    pub(super) async fn say(
        &mut self,
        message: &impl borsh::BorshSerialize,
    ) -> Result<(), WireError> {
        self.writing.say(message).await?;
        self.writing.flush().await
    }

    /// Reads until the other side ends it, and what it said last.
    pub(super) async fn last(&mut self) -> Option<Vec<u8>> {
        let mut last = None;
        while let Ok(frame) = self.frames.next(MAX_FRAME).await {
            last = Some(frame);
        }
        last
    }
}

impl Listening {
    /// The next word that is no heartbeat.
    pub(super) async fn asked(&mut self) -> Option<FromSubscriber> {
        loop {
            let frame = self.frames.next(MAX_FRAME).await.ok()?;
            match decode("question", &frame).unwrap() {
                FromSubscriber::Tip { .. } => {}
                asked => return Some(asked),
            }
        }
    }

    /// The next that asks for records; its turn and from where.
    pub(super) async fn followed(&mut self) -> Option<(u32, u64)> {
        loop {
            if let FromSubscriber::Follow { turn, from, .. } = self.asked().await? {
                return Some((turn, from));
            }
        }
    }

    /// Says which generation its records are of, and is asked for them: the turn.
    pub(super) async fn begin(&mut self, generation: u64) -> Option<u32> {
        let (turn, _) = self.followed().await?;
        let again = FromPublisher::Again {
            turn,
            from: 1,
            generation,
        };
        self.say(&again).await.ok()?;
        Some(self.followed().await?.0)
    }
}

/// Listens as the hub with this key, for one other. Both sides have shown their keys when `each` gets a connection.
pub(super) async fn listen<F>(
    identity: Arc<Identity>,
    other: PublicKey,
    each: impl Fn(Listening) -> F + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let tls = TlsAcceptor::from(mesh_tls::server(&identity, &[other]).unwrap());
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = tls.accept(stream).await {
                tokio::spawn(each(End::new(stream)));
            }
        }
    });
    address
}

/// The same, after both have said hello.
pub(super) async fn publish<F>(
    identity: Arc<Identity>,
    other: PublicKey,
    each: impl Fn(Listening) -> F + Clone + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let own = identity.clone();
    listen(identity, other, move |mut end: Listening| {
        let (each, own) = (each.clone(), own.clone());
        async move {
            let said = end.frames.next(MAX_HELLO).await;
            if said.is_ok() && end.say(&hello(&own)).await.is_ok() {
                each(end).await;
            }
        }
    })
    .await
}

/// Dials a hub with this key; `None` where it is not let in. Nothing is said yet.
pub(super) async fn dial(identity: &Identity, hub: &TestHub) -> Option<Dialling> {
    let tls = mesh_tls::client(identity, &[hub.identity.public_key()]).unwrap();
    let stream = TcpStream::connect(hub.mesh.address()).await.ok()?;
    let connector = TlsConnector::from(tls);
    let stream = connector.connect(mesh_tls::any_name(), stream).await.ok()?;
    Some(End::new(stream))
}

/// The same, after both have said hello.
pub(super) async fn subscribe(identity: &Identity, hub: &TestHub) -> Option<Dialling> {
    let mut end = dial(identity, hub).await?;
    end.say(&hello(identity)).await.ok()?;
    end.frames.next(MAX_HELLO).await.ok()?;
    Some(end)
}

//! Hubs on this machine.

use super::super::status::HubStatus;
use super::super::{Mesh, MeshHub, MeshSetup, Pace};
use super::book::{CHAIN, FakeBook};
use crate::crypto::{Identity, SealingKey, SealingWord, Signer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Long enough for anything that is going to happen.
const PATIENCE: Duration = Duration::from_secs(120);

/// Links that are tried again at once.
pub(super) fn pace() -> Pace {
    let ms = Duration::from_millis;
    Pace {
        again: (ms(5), ms(50)),
        liar: ms(20),
        search: (ms(5), ms(50)),
        ..Pace::default()
    }
}

pub(super) fn word(identity: &Identity) -> SealingWord {
    SealingWord::of(identity, &[], SealingKey::generate().public().compressed())
}

pub(super) struct TestHub {
    pub(super) id: String,
    pub(super) identity: Arc<Identity>,
    pub(super) book: Arc<FakeBook>,
    pub(super) mesh: Mesh,
    pub(super) word: watch::Sender<Option<Arc<SealingWord>>>,
}

impl TestHub {
    /// A hub that knows nobody yet.
    pub(super) async fn start(id: &str, pace: Pace) -> Self {
        let identity = Arc::new(Identity::generate(id));
        let book = Arc::new(FakeBook::new(id));
        let word = watch::Sender::new(Some(Arc::new(word(&identity))));
        let setup = MeshSetup {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            chain: CHAIN.to_owned(),
            hub: id.to_owned(),
            word: word.subscribe(),
            pace,
        };
        let mesh = Mesh::start(setup, identity.clone(), &[], book.clone());
        Self {
            id: id.to_owned(),
            mesh: mesh.await.unwrap(),
            identity,
            book,
            word,
        }
    }

    /// How another hub is told of it.
    pub(super) fn card(&self) -> MeshHub {
        self.card_at(self.mesh.address())
    }

    /// The same, where it is reached at another address.
    pub(super) fn card_at(&self, address: SocketAddr) -> MeshHub {
        card(&self.identity, address)
    }

    pub(super) fn status_of(&self, hub: &str) -> HubStatus {
        let status = self.mesh.status();
        status.hubs.into_iter().find(|of| of.id == hub).unwrap()
    }

    /// Waits until the book is like that.
    pub(super) async fn until(&self, what: impl Fn(&FakeBook) -> bool) {
        let mut news = self.book.news();
        let wait = news.wait_for(|_| what(&self.book));
        let waited = timeout(PATIENCE, wait).await;
        let status = || format!("{}: {:?}", self.id, self.mesh.status());
        waited.unwrap_or_else(|_| panic!("{}", status())).unwrap();
    }

    /// Waits until the links with a hub are like that.
    pub(super) async fn until_link(&self, hub: &str, what: impl Fn(&HubStatus) -> bool) {
        let mut links = self.mesh.links();
        let wait = links.wait_for(|_| what(&self.status_of(hub)));
        let waited = timeout(PATIENCE, wait).await;
        waited
            .unwrap_or_else(|_| panic!("{}: {:?}", self.id, self.status_of(hub)))
            .unwrap();
    }
}

pub(super) fn card(identity: &Identity, address: SocketAddr) -> MeshHub {
    MeshHub {
        id: identity.id().to_owned(),
        keys: vec![identity.public_key()],
        address: address.to_string(),
    }
}

/// Hubs that all know each other.
pub(super) async fn site(ids: &[&str], pace: Pace) -> Vec<TestHub> {
    let mut hubs = Vec::new();
    for id in ids {
        hubs.push(TestHub::start(id, pace).await);
    }
    let cards: Vec<MeshHub> = hubs.iter().map(TestHub::card).collect();
    for hub in &hubs {
        hub.mesh.set_hubs(&cards).unwrap();
    }
    hubs
}

/// Waits for something that is not said to anybody but in time.
pub(super) async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("nothing has happened")
}

/// A line to `target` that is cut once so many bytes have come from there, and then holds.
pub(super) async fn cut_after(target: SocketAddr, bytes: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut most = bytes;
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(target).await else {
                continue;
            };
            let most = std::mem::replace(&mut most, u64::MAX);
            tokio::spawn(async move {
                let (mut near_in, mut near_out) = near.into_split();
                let (far_in, mut far_out) = far.into_split();
                let mut far_in = far_in.take(most);
                tokio::select! {
                    _ = copy(&mut near_in, &mut far_out) => {}
                    _ = copy(&mut far_in, &mut near_out) => {}
                }
                let _ = near_out.shutdown().await;
            });
        }
    });
    address
}

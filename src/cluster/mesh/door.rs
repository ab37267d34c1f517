//! The door for the other hubs: whoever shows a key of one of them comes in, anybody else is sent away and counted.

use super::Shared;
use super::peer::Side;
use super::publisher::{self, Stream};
use super::strangers::Place;
use crate::crypto::mesh_tls;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Lets hubs in until stopped.
pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the connection of a hub cannot be taken");
                // Out of files, most likely: trying again at once would only burn time.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let is_host = shared.roster.read().is_host(from.ip());
        match shared.strangers.enter(from.ip(), is_host) {
            Ok(place) => {
                let enter = enter(shared.clone(), (stream, from), place);
                shared.tasks.spawn(enter);
            }
            Err(why) => shared.strangers.turn_away(from.ip(), why),
        }
    }
}

async fn enter(shared: Arc<Shared>, (stream, from): (TcpStream, SocketAddr), place: Place) {
    // Small words should not wait for others.
    let _ = stream.set_nodelay(true);
    let tls = TlsAcceptor::from(shared.roster.read().tls.clone());
    let shaken = tokio::select! {
        () = shared.stop.cancelled() => return,
        shaken = timeout(shared.pace.handshake, tls.accept(stream)) => shaken,
    };
    let why = match shaken {
        Ok(Ok(stream)) => return meet(&shared, (stream, from), place).await,
        Ok(Err(_)) => "no known key",
        Err(_) => "no handshake in time",
    };
    shared.strangers.turn_away(from.ip(), why);
}

/// Somebody has shown a key that was good when the handshake began.
async fn meet(shared: &Arc<Shared>, (stream, from): (Stream, SocketAddr), place: Place) {
    let peers = shared.peers();
    let connection = stream.get_ref().1;
    let found = peers.iter().find_map(|peer| {
        let shown = mesh_tls::shown(connection, &peer.keys())?;
        Some((peer, shown))
    });
    let Some((peer, shown)) = found else {
        shared.strangers.turn_away(from.ip(), "no known key");
        return;
    };
    if peer.is_shunned() {
        let why = "a hub that has lied just now";
        shared.strangers.turn_away(from.ip(), why);
        return;
    }
    let own = peer.begin();
    // Of a hub there is one such link: the one before may be half open.
    let _turn = peer.turn.lock().await;
    drop(place);
    let ended = publisher::serve(shared, peer, (stream, shown), &own).await;
    peer.ended(Side::Lending, &ended, shared.pace.liar);
}

//! The wire between an edge node and its hub in bad weather, and strangers at the door: whatever happens,
//! everything arrives once and in order. `WEIGHBRIDGE_SEED` replays a run.

use crate::edge::{PRESS, Plant, all_recorded, drained, entry, finish, uplink};
use crate::machines::Counting;
use crate::recovery::proxy::{Proxy, Weather};
use crate::site::{self, PATIENCE};
use crate::support::Random;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weighbridge::crypto::pinned_tls;
use weighbridge::crypto::tls::{TlsFiles, server_name};
use weighbridge::crypto::{Identity, Signer};
use weighbridge::edge::{EdgeBuilder, EdgeNode, UplinkStatus};
use weighbridge::hub::Hub;

fn is_up(status: &UplinkStatus) -> bool {
    matches!(status, UplinkStatus::Up { .. })
}

fn since(edge: &EdgeNode) -> Option<i64> {
    match &*edge.uplink().borrow() {
        UplinkStatus::Up { since, .. } => Some(*since),
        _ => None,
    }
}

/// Waits until so many more batches are durable.
fn more(hub: &Hub, batches: u64) {
    let had = hub.stats().batches();
    site::batches(hub, had + batches);
}

#[test]
fn whatever_the_weather_everything_arrives_once_and_in_order() {
    let mut random = Random::from_env();
    let mut plant = Plant::new(random.seed);
    let machine = Counting::new(Duration::from_millis(1));
    let hub = plant.hub(&machine);
    let address = hub.edge_address().unwrap();
    let proxy = hub
        .runtime()
        .block_on(Proxy::start(address, random.fork()))
        .unwrap();
    let through = |plant: &Plant| {
        let mut hub = entry(&plant.site, plant.port);
        hub.address = proxy.address().to_string();
        EdgeBuilder::new(plant.identity(), plant.buffer())
            .patience(Duration::from_millis(300))
            .hub(hub)
            .device(machine.setup(PRESS, 5))
    };
    let edge = through(&plant).start().unwrap();
    for cycle in 0..24 {
        uplink(&edge, "the hub is there", is_up);
        more(&hub, random.below(6));
        let connected = since(&edge);
        // A half-open connection takes seconds to be noticed, so there are few of them.
        let weather = match (cycle, random.below(4)) {
            (8 | 16, _) => Weather::Hole,
            (_, 0) => Weather::Cut,
            (_, 1) => Weather::Garbage,
            (_, 2) => Weather::Babble,
            _ => Weather::Stall,
        };
        proxy.set(weather);
        if weather == Weather::Stall {
            let before = machine.scans();
            let wanted = before + random.below(300);
            while machine.scans() < wanted {
                std::thread::yield_now();
            }
        } else {
            uplink(
                &edge,
                "the weather is noticed",
                |s| !matches!(s, UplinkStatus::Up { since, .. } if Some(*since) == connected),
            );
        }
        proxy.set(Weather::Clear);
    }
    uplink(&edge, "the hub is there", is_up);
    more(&hub, 5);
    machine.stop();
    edge.shutdown().unwrap();
    let edge = through(&plant).start().unwrap();
    drained(&edge, 1);
    edge.shutdown().unwrap();
    drop(proxy);
    hub.shutdown().unwrap();
    plant.site.recorded().is_gapless();
    all_recorded(&plant.site, &machine, &plant.identity().public_key());
}

/// Says something to the hub that no edge node says; true when the hub has ended the connection.
fn is_shown_out(address: SocketAddr, words: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    // The hub may hang up while it is told this.
    let _ = stream.write_all(words);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ),
    }
}

/// A TLS client with a certificate of some authority, as a browser or another vendor's gateway has.
fn with_a_certificate(dir: &std::path::Path) -> TlsFiles {
    let made = rcgen::generate_simple_self_signed(vec!["edge-1".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let private = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, private).unwrap();
        }
        path
    };
    let certificate = write("cert.pem", made.cert.pem());
    TlsFiles {
        ca: certificate.clone(),
        certificate,
        key: write("key.pem", made.signing_key.serialize_pem()),
    }
}

#[test]
fn strangers_get_nothing_and_the_edge_node_notices_nothing() {
    let mut random = Random::from_env();
    let mut plant = Plant::new(random.seed);
    let machine = Counting::new(Duration::from_millis(1));
    let hub = plant.hub(&machine);
    let address = hub.edge_address().unwrap();
    let edge = plant.edge(&machine).start().unwrap();
    uplink(&edge, "the hub is there", is_up);
    more(&hub, 3);
    let connected = since(&edge);
    assert!(connected.is_some());

    // Bytes that are no TLS, and some that begin like it.
    for round in 0..20 {
        let mut words: Vec<u8> = (0..1 + random.below(4000))
            .map(|_| random.below(256) as u8)
            .collect();
        if round % 2 == 0 {
            let length = (words.len() as u16).to_be_bytes();
            words.splice(0..0, [22, 3, 1, length[0], length[1]]);
        }
        assert!(is_shown_out(address, &words), "round {round}");
    }
    // A certificate instead of a key.
    let files = tempfile::tempdir().unwrap();
    let tls = with_a_certificate(files.path()).client().unwrap();
    hub.runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(tls);
        let shaken = connector.connect(server_name("hub-1").unwrap(), stream);
        let shaken = tokio::time::timeout(PATIENCE, shaken).await;
        assert!(shaken.expect("the hub says no").is_err());
    });
    // Another key under the right name.
    let stranger = EdgeBuilder::new(Identity::generate("edge-1"), files.path().join("buffer"))
        .hub(entry(&plant.site, plant.port))
        .device(Counting::new(Duration::from_millis(1)).setup(PRESS, 5));
    let stranger = stranger.start().unwrap();
    uplink(&stranger, "the stranger is refused", |s| {
        matches!(s, UplinkStatus::Down { .. })
    });
    stranger.shutdown().unwrap();
    // More that say nothing than may wait at the door.
    let idle: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    more(&hub, 20);
    assert_eq!(since(&edge), connected, "the connection stayed");
    // They make way for one who comes new.
    finish(edge, || plant.edge(&machine), &machine);
    drop(idle);
    // With the right key, and another protocol.
    let tls = pinned_tls::client(&plant.identity(), &plant.site.identity().peer_key().link);
    let connector = tokio_rustls::TlsConnector::from(tls.unwrap());
    hub.runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut stream = connector
            .connect(pinned_tls::any_name(), stream)
            .await
            .unwrap();
        let words = [&8_u32.to_le_bytes()[..], &[0xff; 8]].concat();
        stream.write_all(&words).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest));
        let _ = ended.await.expect("the hub hangs up");
    });
    hub.shutdown().unwrap();
    // All of them are in the record, in sums.
    let told = crate::users::sums(&plant.site.recorded().acts);
    let count = |why: &str| {
        told.get(&format!("edge: {why}"))
            .copied()
            .unwrap_or_default()
    };
    assert!(count("no known key") >= 22, "{told:?}");
    assert!(count("too many connections") >= 1, "{told:?}");
    assert_eq!(count("greeting that cannot be read"), 1, "{told:?}");
    plant.site.recorded().is_gapless();
    all_recorded(&plant.site, &machine, &plant.identity().public_key());
}

//! Whoever sends far more than they should is cut off, on record, until somebody lets them in again.

use crate::edge::{PRESS, Plant, uplink};
use crate::machines::{Counting, EPOCH, MS, Scripted, tag};
use crate::site::{self, Site};

use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weighbridge::access::{AccessConfig, Change, Denied, Role, Side};
use weighbridge::actors::access::By;
use weighbridge::crypto::pinned_tls;
use weighbridge::edge::UplinkStatus;
use weighbridge::hub::Hub;
use weighbridge::model::{ValueKind, now};
use weighbridge::protocols::edge::wire::{self, EDGE_PROTOCOL, FromEdge, Hello};
use weighbridge::protocols::ports::SessionPort;

/// Waits until somebody is on a blacklist.
fn cut_off(hub: &Hub, who: &str) {
    let mut changes = hub.access().changes();
    site::wait(hub, "somebody is cut off", async {
        let out = || hub.gate().state().admits(who, now()).err();
        while !matches!(out(), Some(Denied::Blacklisted(_))) {
            changes.changed().await.unwrap();
        }
    });
}

/// Why somebody was put on a blacklist.
fn why(site: &Site, who: &str) -> String {
    let access = site.recorded().access.into_iter();
    let mut black =
        access.filter(|a| a.object.ends_with(who) && a.details["says"]["black"] == true);
    let why = black.next().unwrap().details["by"]["why"].take();
    why.as_str().unwrap().to_owned()
}

fn let_in(hub: &Hub, side: Side, who: &str) {
    let zoe = site::enter(hub, "zoe", &[Role::SecurityAdmin]);
    let back = vec![Change::Black(side, who.to_owned(), false)];
    site::wait(hub, "a change", hub.access().change(By::User(&zoe), back)).unwrap();
}

#[test]
fn a_device_that_floods_is_cut_off_until_somebody_lets_it_in() {
    let (site, press) = (
        Site::new(200),
        Scripted::new(PRESS, [tag("pressure", ValueKind::F64)]),
    );
    let config = AccessConfig {
        flood_factor: 2,
        ..AccessConfig::default()
    };
    let hub = site.hub().access(config).device(press.setup(1));
    let hub = hub.start().unwrap();
    press.sends(20);
    press.scan(EPOCH, [1.0]);
    site::batches(&hub, 1);
    site::up(&hub, PRESS);
    // Far more than a window of ten seconds may have.
    press.sends(1_000);
    press.scan(EPOCH + MS, [1.0]);
    cut_off(&hub, "device:press-1");
    let said = site::down(&hub, PRESS);
    assert!(said.contains("on the blacklist of the intranet"), "{said}");
    let why = why(&site, "device:press-1");
    assert!(why.starts_with("it floods: 10"), "{why}");
    assert!(
        why.ends_with("where 20 in 10 s are the most samples"),
        "{why}"
    );
    let stored = hub.stats().batches();
    let_in(&hub, Side::Intranet, "device:press-1");
    press.scan(EPOCH + 2 * MS, [1.0]);
    site::batches(&hub, stored + 1);
    hub.shutdown().unwrap();
    site.recorded().is_gapless();
    site.verify_is_clean();
}

#[test]
fn a_session_that_floods_puts_its_user_out() {
    let (site, press) = (
        Site::new(201),
        Scripted::new(PRESS, [tag("pressure", ValueKind::F64)]),
    );
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    site::enter(&hub, "anna", &[Role::Observer]);
    site::enter(&hub, "bob", &[Role::Observer]);
    hub.sessions().asked_times("http 1", "bob", 100_000);
    hub.sessions().asked_times("http 2", "anna", 100_001);
    cut_off(&hub, "user:anna");
    assert!(hub.gate().state().admits("user:bob", now()).is_ok());
    let why = why(&site, "user:anna");
    assert!(
        why.starts_with("session http 2 floods: 100001 in "),
        "{why}"
    );
    let_in(&hub, Side::Extranet, "user:anna");
    assert!(hub.gate().state().admits("user:anna", now()).is_ok());
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn an_edge_node_that_floods_is_put_out_and_comes_back_when_it_is_let_in() {
    let mut plant = Plant::new(202);
    let machine = Counting::new(Duration::from_millis(1));
    let hub = plant.hub(&machine);
    let identity = plant.identity();
    let tls = pinned_tls::client(&identity, &plant.site.identity().peer_key().link).unwrap();
    let address = hub.edge_address().unwrap();
    hub.runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(tls);
        let mut stream = connector
            .connect(pinned_tls::any_name(), stream)
            .await
            .unwrap();
        let hello = Hello {
            version: EDGE_PROTOCOL,
            devices: Vec::new(),
        };
        wire::write(&mut stream, &hello).await.unwrap();
        for number in 1..2_000 {
            // The hub hangs up at some point.
            if wire::write(&mut stream, &FromEdge::Ping(number))
                .await
                .is_err()
            {
                break;
            }
        }
        let _ = stream.flush().await;
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(site::PATIENCE, stream.read_to_end(&mut rest));
        let _ = ended.await.expect("the hub hangs up");
    });
    cut_off(&hub, "edge:edge-1");
    let why = why(&plant.site, "edge:edge-1");
    assert!(why.starts_with("it floods: 201 in "), "{why}");

    // It is not let in, whatever key it has.
    let edge = plant.edge(&machine).start().unwrap();
    uplink(&edge, "it is not let in", |s| {
        matches!(s, UplinkStatus::Down { .. })
    });
    assert_eq!(hub.stats().batches(), 0);
    let_in(&hub, Side::Intranet, "edge:edge-1");
    site::batches(&hub, 3);
    // Put out while it is there, it is out at once.
    let zoe = site::enter(&hub, "zoe", &[Role::SecurityAdmin]);
    let black = vec![Change::Black(
        Side::Intranet,
        "edge:edge-1".to_owned(),
        true,
    )];
    site::wait(&hub, "a change", hub.access().change(By::User(&zoe), black)).unwrap();
    let said = site::down(&hub, PRESS);
    assert!(said.contains("on the blacklist of the intranet"), "{said}");
    edge.shutdown().unwrap();
    hub.shutdown().unwrap();
    plant.site.verify_is_clean();
}

#[test]
fn a_device_behind_an_edge_node_that_floods_is_cut_off_and_an_outage_is_no_flood() {
    let mut plant = Plant::new(203);
    // By its own clock a thousand samples a second, in batches of a few.
    let machine = Counting::new(Duration::from_millis(1));
    plant.expects(1_000.0);
    let hub = plant.hub(&machine);
    let edge = plant.edge(&machine).start().unwrap();
    site::batches(&hub, 3);
    // What it kept while the hub was away comes as fast as it can.
    hub.shutdown().unwrap();
    let kept = machine.scans() + 500;
    while machine.scans() < kept {
        std::thread::yield_now();
    }
    let hub = plant.hub(&machine);
    site::batches(&hub, 500 / crate::edge::SCANS as u64);
    assert!(hub.gate().state().admits("device:press-1", now()).is_ok());
    hub.shutdown().unwrap();

    // Now it should send one a second, and twenty times as much is a flood.
    plant.expects(1.0);
    let hub = plant.hub(&machine);
    cut_off(&hub, "device:press-1");
    let why = why(&plant.site, "device:press-1");
    assert!(why.starts_with("it floods: 20"), "{why}");
    assert!(
        why.ends_with("where 200 in 10 s are the most samples"),
        "{why}"
    );
    let said = site::down(&hub, PRESS);
    assert!(said.contains("on the blacklist of the intranet"), "{said}");
    // The rest of the flood is the past by then, and comes in.
    let stored = hub.stats().batches();
    let_in(&hub, Side::Intranet, "device:press-1");
    site::batches(&hub, stored + 100);
    assert!(hub.gate().state().admits("device:press-1", now()).is_ok());
    edge.shutdown().unwrap();
    hub.shutdown().unwrap();
    plant.site.recorded().is_gapless();
    plant.site.verify_is_clean();
}

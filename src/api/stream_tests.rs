//! Starting, streaming and stopping, over real connections.

use super::fakes::{FakeHub, NEW_YEAR};
use super::feed::MAX_CLIENTS;
use super::names::Front;
use super::server::{ApiError, start};
use crate::live_view::LiveSample;
use crate::model::{Quality, Value, VerdictClass};
use serde_json::Value as Json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Reads server-sent events from a real connection.
struct Listener(BufReader<TcpStream>);

impl Listener {
    async fn connect(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        let read = tokio::time::timeout(Duration::from_secs(10), read).await;
        assert_ne!(
            read.expect("an event in time").unwrap(),
            0,
            "the stream ended"
        );
        line
    }

    /// The data of the next event called `name`.
    async fn event(&mut self, name: &str) -> Json {
        let wanted = format!("event: {name}\n");
        while self.line().await != wanted {}
        let data = self.line().await;
        serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap()
    }
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[tokio::test]
async fn the_stream_begins_with_the_picture_and_then_tells_of_changes() {
    let hub = FakeHub::new();
    let running = start(any_port(), Front::default(), hub.context.clone()).unwrap();
    let mut listener = Listener::connect(running.port()).await;
    let status = listener.line().await;
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
    let picture = listener.event("picture").await;
    assert_eq!(picture["status"]["hub"], "hub-1");
    assert_eq!(picture["devices"][0]["device"]["id"], "robot-1");
    assert_eq!(picture["devices"][1]["tags"][0]["tag"], "temperature");
    assert_eq!(picture["refusals"][0]["device"], "plc-1");

    let plc = hub.context.live.device("plc-1").unwrap();
    let sample = LiveSample {
        time: NEW_YEAR + 1,
        value: Value::F64(21.5),
        quality: Quality::GOOD,
    };
    plc.update([(0, sample)]);
    // The first look tells of everything, a later one of the new value; either may come first.
    loop {
        let live = listener.event("live").await;
        let changes = live["devices"].as_array().unwrap().clone();
        let plc = changes.into_iter().find(|d| d["id"] == "plc-1");
        if plc.is_some_and(|d| d["samples"]["temperature"]["value"] == 21.5) {
            break;
        }
    }
    hub.ledger.add(&[("plc-1", VerdictClass::Accepted)]);
    let blocks = listener.event("blocks").await;
    assert_eq!(blocks["blocks"][0]["height"], 4);
    let judged = vec![Quality::GOOD; 3];
    plc.set_verdict(VerdictClass::Invalid, NEW_YEAR, "a gap".into(), judged);
    let verdict = listener.event("verdict").await;
    assert_eq!(verdict["verdict"]["reason"], "a gap");
    assert_eq!(listener.event("status").await["height"], 4);
    running.stop().await;
}

#[tokio::test]
async fn stopping_ends_streams_and_frees_the_port() {
    let running = start(any_port(), Front::default(), FakeHub::new().context).unwrap();
    let port = running.port();
    let mut listener = Listener::connect(port).await;
    listener.event("picture").await;
    running.stop().await;
    let mut rest = String::new();
    let end = listener.0.read_to_string(&mut rest);
    tokio::time::timeout(Duration::from_secs(10), end)
        .await
        .unwrap()
        .ok();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test]
async fn one_listener_too_many_is_told_to_wait() {
    let running = start(any_port(), Front::default(), FakeHub::new().context).unwrap();
    let mut listeners = Vec::new();
    for _ in 0..MAX_CLIENTS {
        let mut listener = Listener::connect(running.port()).await;
        listener.event("picture").await;
        listeners.push(listener);
    }
    let mut refused = Listener::connect(running.port()).await;
    assert!(refused.line().await.starts_with("HTTP/1.1 503"));
    running.stop().await;
}

#[test]
fn an_address_others_can_reach_is_refused_with_advice() {
    for bind in ["0.0.0.0:8080", "192.168.1.5:80", "[::]:8080"] {
        let error = start(
            bind.parse().unwrap(),
            Front::default(),
            FakeHub::new().context,
        )
        .unwrap_err();
        assert!(matches!(error, ApiError::NotLoopback(_)), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(bind) && text.contains("127.0.0.1:8080"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_taken_port_is_told_apart() {
    let running = start(any_port(), Front::default(), FakeHub::new().context).unwrap();
    let taken = SocketAddr::from(([127, 0, 0, 1], running.port()));
    let error = start(taken, Front::default(), FakeHub::new().context).unwrap_err();
    assert!(matches!(error, ApiError::InUse(a) if a == taken), "{error}");
    running.stop().await;
}

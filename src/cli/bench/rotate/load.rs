//! The clients: each asks one thing after the other, and remembers what was refused and how long it had to
//! wait.

use super::site::{Site, machine};
use crate::cli::bench::http::Connection;
use crate::crypto::tls::client_trusting;
use crate::model::{BatchBuilder, TagSpec, Value, ValueKind};
use crate::protocols::Source;
use crate::protocols::control::{Control, TagWrite};
use crate::protocols::opcua::{NodeAddress, OpcUaConfig, OpcUaPoint, OpcUaSource};
use anyhow::{Context, ensure};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a client rests between two requests.
const REST: Duration = Duration::from_millis(10);
/// Refusals that are remembered word for word.
const REMEMBERED: usize = 10;

/// What one client met since it was asked last.
#[derive(Clone)]
struct Met {
    answered: u64,
    refused: u64,
    longest: Duration,
    last: Instant,
}

/// What all clients meet.
#[derive(Default)]
pub(super) struct Meter {
    clients: Mutex<BTreeMap<String, Met>>,
    words: Mutex<Vec<String>>,
}

/// What the clients met in some time.
#[derive(Debug, Default, Serialize)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) refused: u64,
    /// Longest time between two answers, ms, of each client.
    pub(super) gap_ms: BTreeMap<String, f64>,
}

impl Meter {
    /// A client begins: from now on a missing answer is a gap.
    fn begins(&self, client: &str) {
        let met = Met {
            answered: 0,
            refused: 0,
            longest: Duration::ZERO,
            last: Instant::now(),
        };
        self.clients.lock().insert(client.to_owned(), met);
    }

    fn answered(&self, client: &str) {
        if let Some(met) = self.clients.lock().get_mut(client) {
            met.answered += 1;
            met.longest = met.longest.max(met.last.elapsed());
            met.last = Instant::now();
        }
    }

    /// A request that should have been answered otherwise.
    pub(super) fn refused(&self, client: &str, why: impl std::fmt::Display) {
        if let Some(met) = self.clients.lock().get_mut(client) {
            met.refused += 1;
        }
        let mut words = self.words.lock();
        if words.len() < REMEMBERED {
            words.push(format!("{client}: {why}"));
        }
    }

    /// What was met since the last time, waits that are not over included.
    pub(super) fn take(&self) -> Load {
        let mut load = Load::default();
        for (client, met) in &mut *self.clients.lock() {
            load.requests += met.answered + met.refused;
            load.refused += met.refused;
            let longest = met.longest.max(met.last.elapsed());
            load.gap_ms.insert(client.clone(), ms(longest));
            (met.answered, met.refused) = (0, 0);
            met.longest = Duration::ZERO;
        }
        load
    }

    /// What was refused, in words, as far as it was remembered.
    pub(super) fn words(&self) -> Vec<String> {
        self.words.lock().clone()
    }
}

/// In milliseconds, to a tenth.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

/// The clients of a hub.
pub(super) struct Clients {
    pub(super) meter: Arc<Meter>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Who asks, where, and by what the hub is known.
#[derive(Clone)]
pub(super) struct Door {
    http: SocketAddr,
    /// None where plain HTTP is spoken.
    tls: Option<TlsConnector>,
    /// The header with the session, or nothing.
    session: String,
}

impl Door {
    /// Without log-in and TLS.
    pub(super) fn plain(http: SocketAddr) -> Self {
        Self {
            http,
            tls: None,
            session: String::new(),
        }
    }

    /// Logs `user` in by `password`.
    pub(super) async fn of(site: &Site, user: &str, password: &str) -> anyhow::Result<Self> {
        let ca = std::fs::read_to_string(site.dir.join("plant/pki/authority.crt"))?;
        let mut door = Self {
            http: site.http()?,
            tls: Some(TlsConnector::from(client_trusting(&ca, None)?)),
            session: String::new(),
        };
        let wish = json!({"user": user, "password": password, "token": true}).to_string();
        let mut connection = door.open().await?;
        let reply = connection.ask(("POST", "/api/v1/login"), "", &wish).await?;
        let said: Json = serde_json::from_slice(&reply.body).unwrap_or_default();
        ensure!(reply.status == 200, "{user} is not let in: {said}");
        let token = said.get("token").and_then(Json::as_str);
        let token = token.context("the hub gives no token")?;
        door.session = format!("Authorization: Bearer {token}\r\n");
        Ok(door)
    }

    async fn open(&self) -> std::io::Result<Connection> {
        match &self.tls {
            Some(tls) => Connection::open_tls(self.http, tls).await,
            None => Connection::open(self.http).await,
        }
    }
}

/// What an HTTP client asks for.
#[derive(Clone)]
pub(super) enum Ask {
    Live(String),
    History(String),
    Write(String),
}

impl Ask {
    fn request(&self, number: u64) -> (&'static str, String, String) {
        match self {
            Self::Live(device) => (
                "GET",
                format!("/api/v1/tags?device={device}"),
                String::new(),
            ),
            Self::History(device) => (
                "GET",
                format!("/api/v1/devices/{device}/tags/pressure/history?limit=5"),
                String::new(),
            ),
            Self::Write(device) => (
                "POST",
                format!("/api/v1/devices/{device}/write"),
                json!({"setpoint": number}).to_string(),
            ),
        }
    }
}

impl Clients {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            meter: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// One that asks the same over HTTP again and again, on one connection while that lasts.
    pub(super) fn http(&self, name: &str, door: Door, ask: Ask) {
        let (meter, stop, name) = (self.meter.clone(), self.stop.clone(), name.to_owned());
        self.tasks.spawn(async move {
            meter.begins(&name);
            let (mut connection, mut number) = (None, 0);
            while !stop.is_cancelled() {
                number += 1;
                match asked(&door, &mut connection, &ask, number).await {
                    Ok(()) => meter.answered(&name),
                    Err(error) => {
                        connection = None;
                        meter.refused(&name, error);
                    }
                }
                tokio::time::sleep(REST).await;
            }
        });
    }

    /// One that subscribes to a tag of a device over OPC UA: each notification is an answer.
    pub(super) async fn subscriber(&self, url: &str, device: &str) -> anyhow::Result<()> {
        let mut source = opcua(url, device, "pressure")?;
        source.connect().await.context("no OPC UA session")?;
        let (meter, stop) = (self.meter.clone(), self.stop.clone());
        let name = format!("opcua subscription, {device}");
        self.tasks.spawn(async move {
            meter.begins(&name);
            let mut builder = BatchBuilder::subscribing("bench".into(), source.tags());
            while !stop.is_cancelled() {
                let read = tokio::select! {
                    () = stop.cancelled() => return,
                    read = source.read(&mut builder) => read,
                };
                match read {
                    Ok(()) => meter.answered(&name),
                    Err(error) => {
                        meter.refused(&name, error);
                        if source.connect().await.is_err() {
                            tokio::time::sleep(REST).await;
                        }
                    }
                }
                drop(builder.take(1, 1));
            }
        });
        Ok(())
    }

    /// One that writes a set point over OPC UA, and reads it back, again and again.
    pub(super) async fn writer(&self, url: &str, device: &str) -> anyhow::Result<()> {
        let mut source = opcua(url, device, "setpoint")?;
        source.connect().await.context("no OPC UA session")?;
        let control = source.control().context("no way to write")?;
        let (meter, stop) = (self.meter.clone(), self.stop.clone());
        let name = format!("opcua write and read, {device}");
        self.tasks.spawn(async move {
            // The session lasts as long as its source.
            let _source = source;
            meter.begins(&name);
            let mut number = 0;
            while !stop.is_cancelled() {
                number += 1;
                match written(&*control, number).await {
                    Ok(()) => meter.answered(&name),
                    Err(error) => meter.refused(&name, error),
                }
                tokio::time::sleep(REST).await;
            }
        });
        Ok(())
    }

    /// Ends all of them.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn asked(
    door: &Door,
    connection: &mut Option<Connection>,
    ask: &Ask,
    number: u64,
) -> anyhow::Result<()> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(door.open().await?),
    };
    let (method, path, body) = ask.request(number);
    let reply = open.ask((method, &path), &door.session, &body).await?;
    let said = String::from_utf8_lossy(&reply.body);
    ensure!(reply.status == 200, "{path}: {} {said}", reply.status);
    Ok(())
}

async fn written(control: &dyn Control, number: u64) -> anyhow::Result<()> {
    let value = Value::U64(number);
    let written = control.write(&[TagWrite { tag: 0, value }]).await?;
    match written.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        other => anyhow::bail!("{other:?}"),
    }
}

fn opcua(url: &str, device: &str, tag: &str) -> anyhow::Result<OpcUaSource> {
    let spec = TagSpec {
        name: tag.into(),
        kind: ValueKind::U64,
        unit: String::new(),
        description: String::new(),
        range: None,
        writable: tag == "setpoint",
    };
    let path = format!("Weighbridge/Devices/{device}/{tag}");
    let node = NodeAddress::named("urn:weighbridge:hub", &path);
    let points = vec![(spec, OpcUaPoint::new(node, ValueKind::U64))];
    let mut config = OpcUaConfig::new(url);
    (config.publishing_interval_ms, config.sampling_interval_ms) = (50, 50);
    Ok(OpcUaSource::new("bench".into(), config, points)?)
}

/// All clients of the hub with its users and edge node.
pub(super) async fn start(opcua: &str, doors: [Door; 2]) -> anyhow::Result<Clients> {
    let clients = Clients::new();
    let [admin, anna] = doors;
    for far in [false, true] {
        let at = machine(far, 0);
        clients.http(&format!("live, {at}"), admin.clone(), Ask::Live(at.clone()));
        clients.http(
            &format!("history, {at}"),
            admin.clone(),
            Ask::History(at.clone()),
        );
        clients.http(&format!("write, {at}"), admin.clone(), Ask::Write(at));
        clients.subscriber(opcua, &machine(far, 1)).await?;
    }
    clients.http("live, another user", anna, Ask::Live(machine(false, 1)));
    clients.writer(opcua, &machine(false, 1)).await?;
    Ok(clients)
}

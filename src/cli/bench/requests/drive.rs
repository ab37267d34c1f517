//! The clients: what they ask, and what they remember of it.

use super::hub::{Address, GONE, press, visit};
use crate::cli::bench::http::{Connection, Reply};
use crate::model::{Nanos, TagSpec, Value, ValueKind, now};
use crate::protocols::Source;
use crate::protocols::control::{Control, TagWrite};
use crate::protocols::opcua::{NodeAddress, OpcUaConfig, OpcUaPoint, OpcUaSource};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What was recorded of a press.
    History,
    /// A set point.
    Write,
    /// A word to an alarm.
    Comment,
    /// What was recorded, by somebody who may not see it.
    DeniedHistory,
    /// A set point, by somebody who may not write.
    DeniedWrite,
    /// A log-in.
    LogIn,
    /// A set point over OPC UA.
    OpcUaWrite,
}

impl Kind {
    /// Of a thousand requests over HTTP. Passwords take long to check, and refused writes have an
    /// allowance, so there are few of both.
    fn draw(of_thousand: u64) -> Self {
        match of_thousand {
            0..550 => Self::History,
            550..750 => Self::Write,
            750..900 => Self::Comment,
            900..996 => Self::DeniedHistory,
            996..999 => Self::DeniedWrite,
            _ => Self::LogIn,
        }
    }

    /// Whether the machine is acted upon.
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Write | Self::OpcUaWrite)
    }
}

/// One request, as its client remembers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Its number: its name, and the value of a set point.
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) sent: Nanos,
    /// When its answer was here, and the status; of OPC UA as HTTP would have it.
    pub(super) answered: Option<(Nanos, u16)>,
}

/// What the clients share.
pub(super) struct Shared {
    /// The next request's number.
    pub(super) next: AtomicU32,
    /// The last one's.
    pub(super) last: u32,
    pub(super) presses: usize,
    /// Where the hub is; `None` while it is not there.
    pub(super) hub: watch::Receiver<Option<Arc<Address>>>,
}

impl Shared {
    fn number(&self) -> Option<u32> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number <= self.last).then_some(number)
    }
}

/// A generator that a seed begins (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// Waits for the hub.
async fn address(hub: &mut watch::Receiver<Option<Arc<Address>>>) -> Option<Arc<Address>> {
    let there = hub.wait_for(Option::is_some).await.ok()?;
    there.clone()
}

/// How long a client rests when the hub it was told of does not answer.
const REST: Duration = Duration::from_millis(20);

/// Asks over HTTP until there is nothing more to ask.
pub(super) async fn over_http(shared: Arc<Shared>, mut random: Random) -> Vec<Entry> {
    let mut journal = Vec::new();
    let mut hub = shared.hub.clone();
    let mut open: Option<(Arc<Address>, Connection)> = None;
    while let Some(number) = shared.number() {
        let kind = Kind::draw(random.below(1000));
        let (address, mut connection) = loop {
            let Some(there) = address(&mut hub).await else {
                return journal;
            };
            if let Some((address, connection)) = open.take()
                && Arc::ptr_eq(&address, &there)
            {
                break (address, connection);
            }
            match Connection::open(there.http).await {
                Ok(connection) => break (there, connection),
                Err(_) => tokio::time::sleep(REST).await,
            }
        };
        let at = press(random.below(shared.presses as u64) as usize);
        let sent = now();
        let asked = ask(&mut connection, &address, (number, kind), &at).await;
        let answered = asked.as_ref().ok().map(|reply| (now(), reply.status));
        journal.push(Entry {
            number,
            kind,
            sent,
            answered,
        });
        if asked.is_ok() {
            open = Some((address, connection));
        }
    }
    journal
}

async fn ask(
    connection: &mut Connection,
    address: &Address,
    (number, kind): (u32, Kind),
    press: &str,
) -> std::io::Result<Reply> {
    let who = match kind {
        Kind::DeniedHistory | Kind::DeniedWrite => address.observer.as_str(),
        Kind::LogIn => "",
        _ => address.engineer.as_str(),
    };
    let headers = format!("{who}X-Request-Id: {number}\r\n");
    let history = format!("/api/v1/devices/{press}/tags/pressure/history?limit=3");
    let write = format!("/api/v1/devices/{press}/write");
    let (method, path, body) = match kind {
        Kind::History | Kind::DeniedHistory => ("GET", history.as_str(), String::new()),
        Kind::Write | Kind::DeniedWrite | Kind::OpcUaWrite => (
            "POST",
            write.as_str(),
            format!("{{\"setpoint\": {number}}}"),
        ),
        Kind::Comment => {
            let body = format!("{{\"id\": \"{GONE}\", \"comment\": \"seen\"}}");
            ("POST", "/api/v1/alarms/comment", body)
        }
        Kind::LogIn => ("POST", "/api/v1/login", visit()),
    };
    connection.ask((method, path), &headers, &body).await
}

/// Writes set points over OPC UA until there is nothing more to write.
pub(super) async fn over_opcua(shared: Arc<Shared>, index: usize) -> Vec<Entry> {
    let mut journal = Vec::new();
    let mut hub = shared.hub.clone();
    let mut open: Option<(Arc<Address>, OpcUaSource, Arc<dyn Control>)> = None;
    while let Some(number) = shared.number() {
        let (address, source, control) = loop {
            let Some(there) = address(&mut hub).await else {
                return journal;
            };
            if let Some(open) = open.take()
                && Arc::ptr_eq(&open.0, &there)
            {
                break open;
            }
            match connect(&there.opcua, &press(index % shared.presses)).await {
                Some((source, control)) => break (there, source, control),
                None => tokio::time::sleep(REST).await,
            }
        };
        let value = Value::U64(number.into());
        let sent = now();
        let written = control.write(&[TagWrite { tag: 0, value }]).await;
        let status = written.as_ref().ok().map(|written| match written.first() {
            Some(Ok(_)) => 200,
            _ => 422,
        });
        journal.push(Entry {
            number,
            kind: Kind::OpcUaWrite,
            sent,
            answered: status.map(|status| (now(), status)),
        });
        if written.is_ok() {
            open = Some((address, source, control));
        }
    }
    journal
}

async fn connect(url: &str, press: &str) -> Option<(OpcUaSource, Arc<dyn Control>)> {
    let tag = TagSpec {
        name: "setpoint".into(),
        kind: ValueKind::U64,
        unit: String::new(),
        description: String::new(),
        range: None,
        writable: true,
    };
    let path = format!("Weighbridge/Devices/{press}/setpoint");
    let node = NodeAddress::named("urn:weighbridge:hub", &path);
    let points = vec![(tag, OpcUaPoint::new(node, ValueKind::U64))];
    let config = OpcUaConfig::new(url);
    let mut source = OpcUaSource::new("bench".into(), config, points).ok()?;
    source.connect().await.ok()?;
    let control = source.control()?;
    Some((source, control))
}

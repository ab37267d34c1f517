//! The clients: what they send, and what they remember of it.

use super::chain::{Lines, SUBMITTED, Submitted};
use crate::actors::journal::Journal;
use crate::cli::bench::http::Connection;
use crate::hub::Hub;
use crate::ledger::act::Act;
use crate::model::now;
use serde_json::{Value as Json, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use weighbridge_verifier::{Action, Response, sha256};

/// A read of a few samples.
const READ: (&str, &str) = ("GET", "/api/v1/devices/press-0/tags/r0/history?limit=3");
const VOTE: (&str, &str) = ("POST", "/api/v1/cluster/votes");
/// The first name of the second phase's requests: no two have the same.
const OPEN: u32 = 1 << 31;

/// One client that votes again and again.
pub(super) async fn votes(
    at: SocketAddr,
    vote: &str,
    time: Duration,
) -> anyhow::Result<Vec<Submitted>> {
    let mut connection = Connection::open(at).await?;
    let (until, mut submitted) = (Instant::now() + time, Vec::new());
    while Instant::now() < until {
        let sent = now();
        let reply = connection.ask(VOTE, "", vote).await?;
        submitted.push(Submitted {
            number: 0,
            waited: true,
            sent,
            answered: Some(now()),
            taken: reply.status == 200,
        });
    }
    Ok(submitted)
}

/// Clients that read, each again as soon as it is answered.
pub(super) async fn closed(
    at: SocketAddr,
    clients: usize,
    time: Duration,
) -> anyhow::Result<Vec<Submitted>> {
    let next = Arc::new(AtomicU32::new(1));
    let until = Instant::now() + time;
    let client = |_| {
        let next = next.clone();
        tokio::spawn(async move {
            let (mut connection, mut submitted) = (Connection::open(at).await?, Vec::new());
            while Instant::now() < until {
                let number = next.fetch_add(1, Ordering::Relaxed);
                submitted.push(read(&mut connection, number, None).await?);
            }
            anyhow::Ok(submitted)
        })
    };
    gather((0..clients).map(client).collect()).await
}

/// Clients that read at times that are fixed beforehand, together so many times a second. What is sent late because the
/// one before was not answered counts from when it was due.
pub(super) async fn open(
    at: SocketAddr,
    (clients, rate): (usize, f64),
    time: Duration,
) -> anyhow::Result<Vec<Submitted>> {
    let begin = Instant::now();
    let count = (rate * time.as_secs_f64()) as u32;
    let client = |client: usize| {
        tokio::spawn(async move {
            let (mut connection, mut submitted) = (Connection::open(at).await?, Vec::new());
            let own = (0..count).skip(client).step_by(clients);
            for number in own {
                let due = begin + Duration::from_secs_f64(f64::from(number) / rate);
                tokio::time::sleep_until(due).await;
                let late = due.elapsed();
                submitted.push(read(&mut connection, OPEN + number, Some(late)).await?);
            }
            anyhow::Ok(submitted)
        })
    };
    gather((0..clients).map(client).collect()).await
}

type Client = tokio::task::JoinHandle<anyhow::Result<Vec<Submitted>>>;

async fn gather(clients: Vec<Client>) -> anyhow::Result<Vec<Submitted>> {
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await??);
    }
    Ok(all)
}

async fn read(
    connection: &mut Connection,
    number: u32,
    late: Option<Duration>,
) -> anyhow::Result<Submitted> {
    let late = i64::try_from(late.unwrap_or_default().as_nanos())?;
    let sent = now() - late;
    let name = format!("X-Request-Id: {number}\r\n");
    let reply = connection.ask(READ, &name, "").await?;
    Ok(Submitted {
        number,
        waited: false,
        sent,
        answered: Some(now()),
        taken: reply.status == 200,
    })
}

/// Whoever submits in the hub's own process, as an embedding program does: no HTTP, a record each.
#[derive(Clone)]
pub(super) struct Inside {
    journal: Journal,
    /// What is sealed with each record.
    details: Arc<Json>,
    /// The first name: no two phases have the same.
    first: u32,
}

impl Inside {
    /// Submits records that seal so many bytes each.
    pub(super) fn new(hub: &Hub, bytes: usize, first: u32) -> Self {
        // Hexadecimal of what nothing compresses; the sealed bytes are not compressed anyway.
        let filler: String = (0..bytes / 64 + 1)
            .map(|block| sha256(&[&block.to_le_bytes()]).to_string())
            .collect();
        let filler: String = filler.chars().take(bytes).collect();
        Self {
            journal: hub.journal().clone(),
            details: Arc::new(json!({ "filler": filler })),
            first,
        }
    }

    /// Also the first height that it can be in.
    async fn submit(&self, number: u32, late: Duration) -> anyhow::Result<(Submitted, u64)> {
        let late = i64::try_from(late.as_nanos())?;
        let time = now();
        let number = self.first + number;
        let act = Act {
            time,
            subject: "user:bench",
            action: Action::Read,
            object: &format!("{SUBMITTED}{number}"),
            kind: "bench",
            details: &self.details,
            response: Response::Accepted,
        };
        let recorded = self.journal.record(&act).await;
        let submitted = Submitted {
            number,
            waited: false,
            sent: time - late,
            answered: Some(now()),
            taken: recorded.is_ok(),
        };
        Ok((submitted, recorded.unwrap_or(0)))
    }

    /// So many at once, each again as soon as its record is durable at this hub and in a block.
    pub(super) async fn closed(
        self,
        (clients, lines): (usize, Lines),
        time: Duration,
    ) -> anyhow::Result<Vec<Submitted>> {
        let next = Arc::new(AtomicU32::new(0));
        let until = Instant::now() + time;
        let client = |_| {
            let (inside, next, lines) = (self.clone(), next.clone(), lines.clone());
            tokio::spawn(async move {
                let mut submitted = Vec::new();
                while Instant::now() < until {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (one, height) = inside.submit(number, Duration::ZERO).await?;
                    submitted.push(one);
                    lines.reach(height).await;
                }
                anyhow::Ok(submitted)
            })
        };
        gather((0..clients).map(client).collect()).await
    }

    /// At this rate, whether the ones before are durable or not. Time counts from when each was due.
    pub(super) async fn open(self, rate: f64, time: Duration) -> anyhow::Result<Vec<Submitted>> {
        let begin = Instant::now();
        let count = (rate * time.as_secs_f64()) as u32;
        let mut sent = Vec::new();
        for number in 0..count {
            let due = begin + Duration::from_secs_f64(f64::from(number) / rate);
            tokio::time::sleep_until(due).await;
            let inside = self.clone();
            sent.push(tokio::spawn(async move {
                let (one, _) = inside.submit(number, due.elapsed()).await?;
                anyhow::Ok(vec![one])
            }));
        }
        gather(sent).await
    }
}

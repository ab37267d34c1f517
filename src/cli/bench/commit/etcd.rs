//! Three nodes of etcd on this machine, in a temporary directory, beside the hubs: what it takes to put a value.
//!
//! By its JSON gateway (`/v3/kv/put`), over one kept HTTP/1.1 connection a client, as the hub's own HTTP is asked. etcd
//! tolerates a crash of one of three, and no lie; a put is durable at two, signed by nobody.

use super::CommitArgs;
use super::report::{Puts, Times};
use crate::cli::bench::http::Connection;
use crate::cli::temporary::TemporaryDir;
use crate::model::now;
use anyhow::{Context, bail, ensure};
use data_encoding::BASE64;
use indicatif::ProgressBar;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

const NODES: usize = 3;
const PUT: (&str, &str) = ("POST", "/v3/kv/put");
/// How long the nodes may take to find each other.
const STARTING: Duration = Duration::from_secs(30);
/// Bytes of a small value: about what a record has.
const SMALL: usize = 500;

/// The nodes; dropping them ends them.
struct Nodes(Vec<Child>);

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.0 {
            // It may be gone already.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// What three nodes do; `None`, and a word about it, where there is no etcd.
pub(super) fn run(args: &CommitArgs, bar: &ProgressBar) -> anyhow::Result<Option<Vec<Puts>>> {
    let program = args.etcd.clone().or_else(found);
    let Some(program) = program else {
        bar.println("etcd is not here (Debian: etcd-server), so nothing is beside the hubs");
        return Ok(None);
    };
    bar.set_message("etcd");
    let dir = TemporaryDir::new("etcd")?;
    let (_nodes, leader) = start(&program, dir.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(answers(leader))?;
    let (time, large) = (args.time(), args.bytes as usize);
    let one = runtime.block_on(closed(leader, (1, SMALL), time))?;
    let many = runtime.block_on(closed(leader, (64, SMALL), time))?;
    let rate = many.puts_per_second / 2.0;
    let half = runtime.block_on(open(leader, (64, SMALL), rate, time))?;
    let big = runtime.block_on(closed(leader, (4, large), time))?;
    let rate = big.puts_per_second / 2.0;
    let big_half = runtime.block_on(open(leader, (16, large), rate, time))?;
    let named = |puts: Puts, name| Puts { name, ..puts };
    Ok(Some(vec![
        named(one, "500 bytes, one client"),
        named(many, "500 bytes, 64 clients"),
        named(half, "500 bytes, open loop at half of that rate"),
        named(big, "--bytes, 4 clients"),
        named(big_half, "--bytes, open loop at half of that rate"),
    ]))
}

fn found() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut at = std::env::split_paths(&path).map(|dir| dir.join("etcd"));
    at.find(|program| program.is_file())
}

/// Starts the nodes; where one of them is asked.
fn start(program: &Path, dir: &Path) -> anyhow::Result<(Nodes, SocketAddr)> {
    let listening: Vec<_> = (0..2 * NODES)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()?;
    let ports: Vec<SocketAddr> = listening
        .iter()
        .map(TcpListener::local_addr)
        .collect::<Result<_, _>>()?;
    drop(listening);
    let (clients, peers) = ports.split_at(NODES);
    let named = peers.iter().enumerate();
    let cluster: Vec<String> = named.map(|(n, at)| format!("n{n}=http://{at}")).collect();
    let mut nodes = Nodes(Vec::new());
    for (number, (client, peer)) in clients.iter().zip(peers).enumerate() {
        let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let node = Command::new(program)
            .args(["--name", &format!("n{number}")])
            .arg("--data-dir")
            .arg(dir.join(format!("n{number}")))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &cluster.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let node = node.with_context(|| format!("{} cannot be started", program.display()))?;
        nodes.0.push(node);
    }
    Ok((nodes, *clients.first().context("there is no node")?))
}

/// Waits until a value can be put.
async fn answers(at: SocketAddr) -> anyhow::Result<()> {
    let until = Instant::now() + STARTING;
    loop {
        if let Ok(mut connection) = Connection::open(at).await
            && let Ok(reply) = connection.ask(PUT, "", &value(0, 1)).await
            && reply.status == 200
        {
            return Ok(());
        }
        ensure!(Instant::now() < until, "etcd does not come up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn value(number: usize, bytes: usize) -> String {
    let key = BASE64.encode(format!("record-{number}").as_bytes());
    let value: Vec<u8> = (0..bytes).map(|at| (at * 31 + number) as u8).collect();
    json!({"key": key, "value": BASE64.encode(&value)}).to_string()
}

/// So many clients, each again as soon as it is answered.
async fn closed(
    at: SocketAddr,
    (clients, bytes): (usize, usize),
    time: Duration,
) -> anyhow::Result<Puts> {
    let begin = Instant::now();
    let client = move |client: usize| async move {
        let mut connection = Connection::open(at).await?;
        let (mut number, mut took) = (client, Vec::new());
        while begin.elapsed() < time {
            let sent = now();
            put(&mut connection, &value(number, bytes)).await?;
            took.push(now() - sent);
            number += clients;
        }
        anyhow::Ok(took)
    };
    gather(
        (0..clients).map(|n| tokio::spawn(client(n))).collect(),
        begin,
    )
    .await
}

/// At this rate in all, whether the ones before are answered or not.
async fn open(
    at: SocketAddr,
    (clients, bytes): (usize, usize),
    rate: f64,
    time: Duration,
) -> anyhow::Result<Puts> {
    let begin = Instant::now();
    let count = (rate * time.as_secs_f64()) as usize;
    let client = move |client: usize| async move {
        let (mut connection, mut took) = (Connection::open(at).await?, Vec::new());
        for number in (client..count).step_by(clients) {
            let due = begin + Duration::from_secs_f64(number as f64 / rate);
            tokio::time::sleep_until(due).await;
            put(&mut connection, &value(number, bytes)).await?;
            took.push(i64::try_from(due.elapsed().as_nanos())?);
        }
        anyhow::Ok(took)
    };
    gather(
        (0..clients).map(|n| tokio::spawn(client(n))).collect(),
        begin,
    )
    .await
}

async fn put(connection: &mut Connection, value: &str) -> anyhow::Result<()> {
    let reply = connection.ask(PUT, "", value).await?;
    if reply.status != 200 {
        bail!("etcd answers {}", reply.status);
    }
    Ok(())
}

async fn gather(
    clients: Vec<tokio::task::JoinHandle<anyhow::Result<Vec<i64>>>>,
    begin: Instant,
) -> anyhow::Result<Puts> {
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await??);
    }
    Ok(Puts {
        name: "",
        puts_per_second: took.len() as f64 / begin.elapsed().as_secs_f64(),
        times: Times::of(took),
    })
}

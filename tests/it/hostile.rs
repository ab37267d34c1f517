//! Clients that mean harm, against the real program: what they can make it hold in memory.
//!
//! The bound is computed from the configured limits, as `docs/opcua-server.md` does, and the program is
//! asked for nothing in time: a slow machine takes longer and passes.

#![cfg(target_os = "linux")]

use crate::raw_opcua::{CHUNK, HEADERS, RawClient};
use crate::support::{Plant, Random, RunningHub};
use opcua::core::ResponseMessage;
use opcua::types::{
    AttributeId, BrowseDescription, BrowseRequest, CreateMonitoredItemsRequest,
    CreateSubscriptionRequest, DeleteSubscriptionsRequest, MonitoredItemCreateRequest, NodeId,
    ObjectId, ReadRequest, ReadValueId, TimestampsToReturn, VariableId, Variant, ViewDescription,
};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);
/// For how long a hostile client's session is kept: they are to be had again for the next wave.
const SECOND: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

const CONNECTIONS: usize = 60;
const MESSAGE: usize = 512 * 1024;
const LIMITS: &str = "\n[opcua_server.limits]\nconnections = 60\nconnections_per_address = 60\n\
    sessions = 40\nmessage_bytes = 524288\n";

/// What one connection can make the hub hold before it has a session (see `docs/opcua-server.md`): an
/// unfinished request, what it becomes, and the buffers of both directions in the guard and the stack.
const A_CONNECTION: usize = 2 * MESSAGE + 6 * 65_536;
/// What one session can: so many answers that it does not take, of the size that these have, twice.
const DEAF: usize = 4;
const ANSWERS: usize = 32 * 2 * 128 * 1024;

/// A figure of the process in `/proc`, in bytes.
fn memory(hub: &RunningHub, what: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", hub.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

fn peak(hub: &RunningHub) -> usize {
    memory(hub, "VmHWM")
}

fn address(url: &str) -> &str {
    url.trim_start_matches("opc.tcp://").trim_end_matches('/')
}

/// Waits for a place: those of the wave before become free when the hub has noticed.
fn in_time<T>(what: &str, mut attempt: impl FnMut() -> io::Result<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(error) if Instant::now() > until => panic!("{what}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// A client that minds its own business all the while.
struct Bystander {
    stop: Arc<AtomicBool>,
    reading: JoinHandle<(u64, Duration)>,
}

impl Bystander {
    fn start(url: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut client, stopped) = (RawClient::log_in(url, PATIENCE).unwrap(), stop.clone());
        let reading = std::thread::spawn(move || {
            let (mut answers, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let node = VariableId::Server_ServerStatus_State.into();
                let asked = Instant::now();
                assert_eq!(read(&mut client, node), Variant::Int32(0));
                longest = longest.max(asked.elapsed());
                answers += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            (answers, longest)
        });
        Self { stop, reading }
    }

    /// Every one of its requests was answered; how many there were, and how long it waited at most.
    fn ask(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.reading.join().unwrap()
    }
}

fn read_request(client: &RawClient, node: NodeId) -> ReadRequest {
    let value = ReadValueId {
        node_id: node,
        attribute_id: AttributeId::Value as u32,
        ..Default::default()
    };
    ReadRequest {
        request_header: client.header(),
        timestamps_to_return: TimestampsToReturn::Both,
        nodes_to_read: Some(vec![value]),
        ..Default::default()
    }
}

fn read(client: &mut RawClient, node: NodeId) -> Variant {
    let request = read_request(client, node);
    match client.call(request).unwrap() {
        ResponseMessage::Read(read) => {
            let mut results = read.results.unwrap();
            results.remove(0).value.unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// Begins a chunk of the largest size and never ends it.
fn half_a_chunk(url: &str) -> io::Result<RawClient> {
    let mut client = RawClient::open(url)?;
    let part = vec![0x5a; CHUNK - HEADERS];
    let chunk = client.chunk_of(b"MSGC", 2, &part);
    client.stream.write_all(&chunk[..chunk.len() / 2])?;
    Ok(client)
}

/// Sends as many chunks of one message as are allowed, and never the last.
fn endless_message(url: &str) -> io::Result<RawClient> {
    let mut client = RawClient::open(url)?;
    let part = vec![0x5a; CHUNK - HEADERS];
    for _ in 0..MESSAGE / CHUNK {
        let chunk = client.chunk_of(b"MSGC", 2, &part);
        client.stream.write_all(&chunk)?;
    }
    Ok(client)
}

/// Asks for long answers until nobody takes the questions any more, and reads no answer.
fn deaf(url: &str) -> io::Result<RawClient> {
    let mut client = RawClient::log_in(url, SECOND)?;
    client.stream.set_nonblocking(true)?;
    let types = BrowseDescription {
        node_id: ObjectId::TypesFolder.into(),
        include_subtypes: true,
        result_mask: 63,
        ..Default::default()
    };
    let until = Instant::now() + Duration::from_secs(2);
    'asking: loop {
        let request = BrowseRequest {
            request_header: client.header(),
            view: ViewDescription::default(),
            requested_max_references_per_node: 0,
            nodes_to_browse: Some(vec![types.clone(); 25]),
        };
        for chunk in client.chunks(request) {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                match client.stream.write(rest) {
                    Ok(sent) => rest = &rest[sent..],
                    // The buffers are full: that is as much as it can do.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if Instant::now() > until {
                            break 'asking;
                        }
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Err(_) => break 'asking,
                }
            }
        }
    }
    Ok(client)
}

/// Says what is almost right.
fn fuzzed(url: &str, random: &mut Random) {
    let Ok(mut client) = RawClient::open(url) else {
        return;
    };
    let _ = client.session(SECOND);
    let types = (0..50).map(|_| VariableId::Server_NamespaceArray.into());
    let types = types.map(|node_id| ReadValueId {
        node_id,
        attribute_id: AttributeId::Value as u32,
        ..Default::default()
    });
    let request = ReadRequest {
        nodes_to_read: Some(types.collect()),
        ..read_request(&client, NodeId::null())
    };
    for mut chunk in client.chunks(request) {
        for _ in 0..=random.below(4) {
            let at = 8 + random.below(chunk.len() as u64 - 8) as usize;
            chunk[at] ^= 1 << random.below(8);
        }
        let _ = client.stream.write_all(&chunk);
    }
    let _ = client.stream.shutdown(Shutdown::Write);
    let _ = client.stream.read_to_end(&mut Vec::new());
}

fn wave(url: &str, random: &mut Random) {
    for _ in 0..40 {
        fuzzed(url, random);
    }
    let mut greedy = Vec::new();
    for _ in 0..15 {
        greedy.push(in_time("half a chunk", || half_a_chunk(url)));
        greedy.push(in_time("an endless message", || endless_message(url)));
    }
    for _ in 0..DEAF {
        greedy.push(in_time("a deaf client", || deaf(url)));
    }
    let idle: Vec<_> = (0..350)
        .filter_map(|_| TcpStream::connect(address(url)).ok())
        .collect();
    drop((greedy, idle));
}

#[test]
fn hostile_clients_cannot_fill_the_memory() {
    let plant = Plant::without_machines();
    plant.configure(LIMITS);
    let hub = plant.run_hub();
    let url = hub.up["opcua_url"].as_str().unwrap().to_owned();
    let mut random = Random::from_env();
    let bystander = Bystander::start(&url);
    let before = memory(&hub, "VmRSS");
    let bound = before + CONNECTIONS * A_CONNECTION + DEAF * ANSWERS;

    let mut peaks = Vec::new();
    for _ in 0..6 {
        wave(&url, &mut random);
        peaks.push(peak(&hub));
    }
    let waves: Vec<_> = peaks.iter().map(|peak| peak / MIB).collect();
    println!(
        "before {} MiB, peaks {waves:?}, bound {} MiB",
        before / MIB,
        bound / MIB
    );
    assert!(peaks[5] <= bound, "{waves:?} MiB, of {} MiB", bound / MIB);
    // What three waves took is enough for six.
    let more = peaks[5] - peaks[2];
    assert!(more < 16 * MIB, "{more} bytes more after {waves:?} MiB");
    let (answers, longest) = bystander.ask();
    println!("{answers} answers for a client beside them, {longest:?} at most");
    assert!(answers > 0);
}

fn unexpected<T>(answer: ResponseMessage) -> io::Result<T> {
    Err(io::Error::other(format!("{answer:?}")))
}

/// Makes a subscription.
fn subscribe(client: &mut RawClient) -> io::Result<u32> {
    let request = CreateSubscriptionRequest {
        request_header: client.header(),
        requested_publishing_interval: 1_000.0,
        requested_lifetime_count: 3_000,
        requested_max_keep_alive_count: 1_000,
        ..Default::default()
    };
    match client.call(request)? {
        ResponseMessage::CreateSubscription(created) => Ok(created.subscription_id),
        other => unexpected(other),
    }
}

/// Subscribes, monitors a node a thousand times, and deletes the subscription as a whole.
fn cycle(client: &mut RawClient) -> io::Result<()> {
    let subscription_id = subscribe(client)?;
    let item =
        MonitoredItemCreateRequest::from(NodeId::from(VariableId::Server_ServerStatus_State));
    let request = CreateMonitoredItemsRequest {
        request_header: client.header(),
        subscription_id,
        timestamps_to_return: TimestampsToReturn::Both,
        items_to_create: Some(vec![item; ITEMS]),
    };
    match client.call(request)? {
        ResponseMessage::CreateMonitoredItems(created) => {
            let results = created.results.unwrap_or_default();
            let all = results.iter().all(|item| item.status_code.is_good());
            assert!(all && results.len() == ITEMS, "items were refused");
        }
        other => return unexpected(other),
    }
    let request = DeleteSubscriptionsRequest {
        request_header: client.header(),
        subscription_ids: Some(vec![subscription_id]),
    };
    match client.call(request)? {
        ResponseMessage::DeleteSubscriptions(_) => Ok(()),
        other => unexpected(other),
    }
}

/// Monitored items of one subscription.
const ITEMS: usize = 1_000;
/// Cycles until the stack is replaced.
const WORN: usize = 60;

#[test]
fn subscriptions_that_are_made_and_deleted_all_day_do_not_fill_the_memory() {
    let plant = Plant::without_machines();
    plant.configure(
        "\n[opcua_server.limits]\nabandoned_items = 60000\nabandoned_items_per_hour = 5000000\n",
    );
    let hub = plant.run_hub();
    let url = hub.up["opcua_url"].as_str().unwrap();
    let mut figures = Vec::new();
    for _ in 0..10 {
        let mut client = in_time("a session", || RawClient::log_in(url, PATIENCE));
        // One that stays: the stack forgets a session without any, and with it a subscription that is
        // made at the same moment.
        subscribe(&mut client).unwrap();
        cycle(&mut client).unwrap();
        let before = memory(&hub, "VmRSS");
        for _ in 2..WORN {
            cycle(&mut client).unwrap();
        }
        let after = memory(&hub, "VmRSS");
        figures.push((before, after));
        // Until the stack goes, and everybody's connections with it.
        while cycle(&mut client).is_ok() {}
    }
    let mib: Vec<_> = figures.iter().map(|(a, b)| (a / MIB, b / MIB)).collect();
    let (before, after) = figures[0];
    let of_an_item = after.saturating_sub(before) / ((WORN - 2) * ITEMS);
    println!("{of_an_item} bytes of an item; before and after: {mib:?} MiB");
    assert!(of_an_item < 512, "{of_an_item} bytes, {mib:?} MiB");
    // What four stacks took is enough for ten: six more tables would be six times what one is. The
    // allocator's holes are some of it.
    let more = figures[9].1.saturating_sub(figures[3].1);
    let kept = 6 * after.saturating_sub(before);
    assert!(more < kept / 2, "{more} bytes more, {mib:?} MiB");
}

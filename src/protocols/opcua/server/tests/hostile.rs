//! Clients that mean harm, or know no better.

use super::conversation::{self, Conversation};
use super::*;
use opcua::types::VariableId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Bytes as a clumsy or hostile client would send them; always the same for a seed.
fn rubbish(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let hello = b"HELF\x38\0\0\0\0\0\0\0\xff\xff\0\0\xff\xff\0\0\0\0\0\0\0\0\0\0\x18\0\0\0opc.tcp://127.0.0.1:4840/";
    let mut bytes = Vec::new();
    if !seed.is_multiple_of(3) {
        bytes.extend_from_slice(hello);
    }
    for _ in 0..next() % 4 {
        let kinds = [
            b"HELF", b"OPNF", b"MSGF", b"MSGC", b"CLOF", b"ACKF", b"ERRF",
        ];
        bytes.extend_from_slice(kinds[next() as usize % kinds.len()]);
        let sizes = [0, 7, 9, 64, 4_096, 65_535, 65_536, 0x7fff_ffff, u32::MAX];
        let size = sizes[next() as usize % sizes.len()];
        bytes.extend_from_slice(&size.to_le_bytes());
        for _ in 0..next() % 200 {
            bytes.push(next() as u8);
        }
    }
    bytes
}

#[tokio::test]
async fn rubbish_harms_nobody() {
    let hub = hub(|_, config| config.limits.connections_per_address = 100).await;
    hub.plc.update([(1, good(Value::U64(5)))]);
    let session = anonymous(&hub).await;
    let address = ("127.0.0.1", hub.server.port());
    for seed in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The guard may hang up in the middle of it.
        let _ = stream.write_all(&rubbish(seed)).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(PATIENCE, reading).await.unwrap();
        assert!(answer.len() < 1_000, "seed {seed} was answered at length");
    }
    let node = tag_node(&session, "count").await;
    assert_eq!(read(&session, &node).await.value, Some(Variant::UInt64(5)));
    anonymous(&hub).await;
}

#[tokio::test]
async fn a_size_that_was_not_agreed_ends_the_connection_before_its_bytes_come() {
    let hub = hub(|_, _| {}).await;
    let address = ("127.0.0.1", hub.server.port());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"HELF\0\0\0\x40").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"ERRF"));
    assert_eq!(answer[8..12], 0x8080_0000u32.to_le_bytes());
}

#[tokio::test]
async fn connections_are_bounded_and_a_freed_place_can_be_taken() {
    let hub = hub(|_, config| config.limits.connections_per_address = 3).await;
    let address = ("127.0.0.1", hub.server.port());
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    let mut fourth = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    let reading = fourth.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, reading)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer[8..12], 0x807D_0000u32.to_le_bytes());
    drop(held);
    let free = async {
        while hub.server.guard_stats().turned_away.load(Ordering::Relaxed) < 100 {
            if let Ok(session) = try_anonymous(&hub).await {
                return session;
            }
        }
        panic!("no place became free");
    };
    tokio::time::timeout(PATIENCE, free).await.unwrap();
}

async fn try_anonymous(hub: &Hub) -> Result<Arc<Session>, Error> {
    let none = MessageSecurityMode::None;
    connect(hub, SecurityPolicy::None, none, IdentityToken::Anonymous).await
}

/// A client that is told a number that goes up, and notices when one is left out.
struct Witness {
    session: Arc<Session>,
    values: mpsc::UnboundedReceiver<DataValue>,
    counting: tokio_util::task::AbortOnDropHandle<()>,
}

impl Witness {
    async fn start(hub: &Hub) -> Self {
        hub.plc.update([(1, good(Value::U64(0)))]);
        let session = anonymous(hub).await;
        let node = tag_node(&session, "count").await;
        let (_, _, values) = notifications::subscribe_with(&session, &node, |item| {
            item.requested_parameters.sampling_interval = 0.0;
        })
        .await;
        let plc = hub.plc.clone();
        let count = async move {
            let mut interval = tokio::time::interval(Duration::from_millis(20));
            for number in 1.. {
                interval.tick().await;
                plc.update([(1, good(Value::U64(number)))]);
            }
        };
        Self {
            session,
            values,
            counting: tokio_util::task::AbortOnDropHandle::new(tokio::spawn(count)),
        }
    }

    /// Whether nothing was left out; how many there were.
    async fn ask(mut self, hub: &Hub) -> u64 {
        self.counting.abort();
        let last = hub.plc.sample(1).unwrap().value;
        let Value::U64(last) = last else {
            panic!("{last:?}");
        };
        let mut expected = 0;
        while expected <= last {
            let data = tokio::time::timeout(PATIENCE, self.values.recv()).await;
            let data = data.unwrap().unwrap();
            assert_eq!(data.value, Some(Variant::UInt64(expected)));
            expected += 1;
        }
        let node = tag_node(&self.session, "count").await;
        let read = read(&self.session, &node).await.value;
        assert_eq!(read, Some(Variant::UInt64(last)));
        last
    }
}

/// Numbers that are always the same for a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

/// Changes some bytes, lengths or counts of a chunk; its size stays what its header says, or not.
fn mutate(chunk: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.roll(3) {
        let at = 8 + dice.roll(chunk.len().saturating_sub(8));
        match dice.roll(6) {
            0 | 1 => {
                if let Some(byte) = chunk.get_mut(at) {
                    *byte ^= 1 << dice.roll(8);
                }
            }
            2 => {
                let numbers = [0, u32::MAX, i32::MAX as u32, 0x8000_0000, 65_536, 1 << 20];
                let number = numbers[dice.roll(numbers.len())].to_le_bytes();
                for (byte, new) in chunk.iter_mut().skip(at).zip(number) {
                    *byte = new;
                }
            }
            3 => chunk.truncate(at),
            4 => {
                let part: Vec<u8> = chunk.iter().skip(at).take(dice.roll(64)).copied().collect();
                chunk.splice(at..at, part);
            }
            _ => {
                let end = (at + dice.roll(16)).min(chunk.len());
                chunk.drain(at..end);
            }
        }
    }
    if dice.roll(8) > 0 {
        let size = (chunk.len() as u32).to_le_bytes();
        chunk[4..8].copy_from_slice(&size);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_conversations_harm_nobody() {
    let hub = hub(|_, config| {
        config.limits.connections_per_address = 100;
        config.limits.sessions = 30;
    })
    .await;
    let conversation = Conversation::record(&hub).await;
    // Unchanged it is held to its end, so that changes reach every service.
    let mut answers = 0;
    let mut stream = conversation
        .hold(hub.server.port(), |_, _| answers += 1)
        .await;
    assert_eq!(answers, conversation.chunks.len());
    let goes_on = tokio::time::timeout(SECOND, conversation::chunk(&mut stream)).await;
    assert!(!matches!(goes_on, Ok(None)), "the server hung up");

    let witness = Witness::start(&hub).await;
    for seed in 1..=150 {
        let mut dice = Dice(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15));
        let which = dice.roll(conversation.chunks.len());
        let change = |index: usize, chunk: &mut Vec<u8>| {
            if index == which {
                mutate(chunk, &mut dice);
            }
        };
        // What it does for which seed shows when a witness fails.
        println!("seed {seed}, chunk {which}");
        conversation.hold(hub.server.port(), change).await;
    }
    let id = VariableId::Server_ServerDiagnostics_ServerDiagnosticsSummary_CurrentSessionCount;
    let open = hub.server.stack.lock().handle.info().diagnostics.get(id);
    let Some(Variant::UInt32(open)) = open.and_then(|data| data.value) else {
        panic!("sessions are not counted");
    };
    assert!(open <= 30, "{open} sessions");
    witness.ask(&hub).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_idle_and_greedy_sockets_disturb_nobody() {
    let hub = hub(|_, config| {
        config.limits.connections = 80;
        config.limits.connections_per_address = 60;
    })
    .await;
    let conversation = Arc::new(Conversation::record(&hub).await);
    let witness = Witness::start(&hub).await;
    let port = hub.server.port();
    // Greedy: they ask all the time, and take no answer.
    let mut greedy = JoinSet::new();
    for _ in 0..4 {
        let conversation = conversation.clone();
        greedy.spawn(async move {
            let stream = conversation.hold(port, |_, _| {}).await;
            let last = conversation.chunks.last().unwrap();
            let mut taken = 0;
            let asking = async {
                while stream.writable().await.is_ok() {
                    match stream.try_write(last) {
                        Ok(count) => taken += count,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => break,
                    }
                }
            };
            let _ = tokio::time::timeout(3 * SECOND, asking).await;
            taken
        });
    }
    for _ in 0..10 {
        let mut idle = Vec::new();
        for _ in 0..200 {
            idle.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while let Some(taken) = greedy.join_next().await {
        // What the system's buffers hold, and no more.
        let taken = taken.unwrap();
        assert!(taken < 32 << 20, "{taken} bytes were taken of one socket");
    }
    assert!(hub.server.guard_stats().turned_away.load(Ordering::Relaxed) > 1_000);
    assert!(witness.ask(&hub).await > 50);
}

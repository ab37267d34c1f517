//! Clients that mean harm, or know no better.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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

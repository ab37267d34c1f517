//! Whatever bytes come at the ports between hubs, from somebody who has no key: the hubs go on.
//!
//! `WEIGHBRIDGE_FUZZ_SECONDS=60` goes on for so long; `WEIGHBRIDGE_SEED` replays. What a hub of the chain may send after
//! the handshake is in `src/cluster/mesh/tests/fuzzed.rs`.

use super::{Cluster, check};
use crate::support::Random;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Blocks that must come meanwhile where no time is given.
const BLOCKS: u64 = 10;
/// Connections that stay open and silent, at each port.
const SILENT: u64 = 20;

fn bytes(random: &mut Random, most: u64) -> Vec<u8> {
    let length = random.below(most + 1);
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// How a connection begins: as nothing, as TLS (RFC 8446, 5.1), or as multistream-select with Noise or another protocol.
fn begin(random: &mut Random) -> Vec<u8> {
    let line = |text: &str| [&[text.len() as u8 + 1], text.as_bytes(), b"\n"].concat();
    let multistream = line("/multistream/1.0.0");
    match random.below(6) {
        0 => Vec::new(),
        1 => vec![22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3],
        2 => multistream,
        3 => [multistream, line("/tls/1.0.0")].concat(),
        4 => [multistream, line("/noise"), vec![0, 32]].concat(),
        // A length without an end.
        _ => [multistream, vec![0xff; 12]].concat(),
    }
}

fn attack(random: &mut Random, at: SocketAddr, silent: &mut Vec<TcpStream>) {
    let Ok(mut stream) = TcpStream::connect_timeout(&at, Duration::from_secs(2)) else {
        return;
    };
    let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
    let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
    let _ = stream.write_all(&begin(random));
    for _ in 0..random.below(5) {
        if stream.write_all(&bytes(random, 3_000)).is_err() {
            return;
        }
        let _ = stream.read(&mut [0; 512]);
    }
    if random.below(8) == 0 && (silent.len() as u64) < SILENT {
        silent.push(stream);
    }
}

#[test]
fn whatever_bytes_come_at_its_ports_the_hubs_go_on() {
    let mut random = Random::seeded(Random::from_env().seed);
    let seconds = std::env::var("WEIGHBRIDGE_FUZZ_SECONDS").ok();
    let seconds: Option<u64> = seconds.and_then(|s| s.parse().ok());
    let mut cluster = Cluster::of(&["hub-a", "hub-b", "hub-c", "hub-d"]);
    cluster.start(0);
    for number in 1..4 {
        cluster.admit(number);
    }
    cluster.grow(2);
    let ports = |number: usize| {
        let peer = &cluster.places[number].peer;
        [peer.consensus, peer.mesh]
    };
    let ports: Vec<SocketAddr> = (0..2).flat_map(ports).collect();
    let (ended, tries) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    let (mut blocks, mut longest) = (0, Duration::ZERO);
    std::thread::scope(|scope| {
        for port in ports {
            let (mut random, ended, tries) = (random.fork(), &ended, &tries);
            scope.spawn(move || {
                let mut silent = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    attack(&mut random, port, &mut silent);
                    tries.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Whoever fails here must not leave the others going on for ever.
        let _ends = Ends(&ended);
        let goes_on = |blocks: u64| match seconds {
            Some(seconds) => began.elapsed() < Duration::from_secs(seconds),
            None => blocks < BLOCKS,
        };
        while goes_on(blocks) {
            let since = Instant::now();
            cluster.grow(1);
            blocks += 1;
            longest = longest.max(since.elapsed());
        }
    });
    let tries = tries.load(Ordering::Relaxed);
    eprintln!("{tries} connections, {blocks} times a block at all hubs, each within {longest:?}");
    assert!(tries > 0);
    let genesis = cluster.genesis;
    check(&cluster.end(), genesis);
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

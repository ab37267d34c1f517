//! Whatever bytes come, before and after the handshake, on either side of a link: the hub and its other links go on.
//!
//! `WEIGHBRIDGE_FUZZ_SECONDS=60` goes on for so long; `WEIGHBRIDGE_SEED` replays.

use super::super::Pace;
use super::super::wire::{FromPublisher, FromSubscriber, MAX_FRAME};
use super::book::carried;
use super::rogue::{Listening, dial, hello, publish, subscribe};
use super::site::{TestHub, card, pace};
use crate::crypto::{Identity, Signer, mesh_tls};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weighbridge_verifier::{Hash, encode};

/// Tries where no time is given.
const TRIES: u64 = 120;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// `bytes` with a few of them changed, cut or continued.
    fn changed(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len() as u64 + 1) as usize;
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.extend(self.bytes(40)),
                2 => bytes.splice(at..at, self.bytes(4)).for_each(drop),
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = self.next() as u8;
                    }
                }
            }
        }
        bytes
    }

    fn question(&mut self) -> Vec<u8> {
        let (number, hash) = (self.below(5), Hash([self.next() as u8; 32]));
        encode(&match self.below(4) {
            3 => FromSubscriber::WantBlocks { from: number },
            0 => FromSubscriber::Took { sequence: number },
            1 => FromSubscriber::Tip {
                height: number,
                hash,
            },
            _ => FromSubscriber::Follow {
                turn: number as u32,
                from: number,
                generation: (number > 2).then_some(number),
                window: self.next() as u32,
            },
        })
    }

    fn telling(&mut self) -> Vec<u8> {
        let (turn, generation) = (self.below(4) as u32, self.below(4));
        encode(&match self.below(3) {
            0 => FromPublisher::Run {
                turn,
                generation,
                carried: vec![carried("hub-c", self.below(3), Hash::ZERO, 9)],
            },
            1 => FromPublisher::No,
            _ => FromPublisher::Again {
                turn,
                from: self.below(5),
                generation,
            },
        })
    }
}

/// A connection to the port, before and after TLS.
async fn bytes_at(hub: &TestHub, member: &Identity, random: &mut Random) {
    match random.below(6) {
        // Before TLS; some of it looks like its records (RFC 8446, 5.1).
        0 | 1 => {
            let Ok(mut stream) = TcpStream::connect(hub.mesh.address()).await else {
                return;
            };
            let start: &[u8] = match random.below(3) {
                0 => &[],
                1 => &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3],
                _ => &[22, 3, 3, 255, 255],
            };
            let _ = stream.write_all(start).await;
            let _ = stream.write_all(&random.bytes(2_000)).await;
        }
        // After TLS, as a member: no frames at all.
        2 => {
            let tls = mesh_tls::client(member, &[hub.identity.public_key()]).unwrap();
            let Ok(stream) = TcpStream::connect(hub.mesh.address()).await else {
                return;
            };
            let connector = TlsConnector::from(tls);
            let Ok(mut stream) = connector.connect(mesh_tls::any_name(), stream).await else {
                return;
            };
            let _ = stream.write_all(&random.bytes(4_000)).await;
            let _ = stream.flush().await;
        }
        // A hello that is none.
        3 => {
            if let Some(mut end) = dial(member, hub).await {
                let said = random.changed(encode(&hello(member)));
                let _ = end.writing.frame(&said).await;
                let _ = end.writing.flush().await;
            }
        }
        // Questions that are none.
        _ => {
            if let Some(mut end) = subscribe(member, hub).await {
                for _ in 0..random.below(20) {
                    let said = match random.below(4) {
                        0 => random.bytes(300),
                        1 => random.question(),
                        _ => {
                            let question = random.question();
                            random.changed(question)
                        }
                    };
                    if end.writing.frame(&said).await.is_err() {
                        break;
                    }
                }
                let _ = end.writing.flush().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_bytes_come_the_links_of_the_others_go_on() {
    let given = |name: &str| std::env::var(name).ok().and_then(|v| v.parse().ok());
    let seed = given("WEIGHBRIDGE_SEED").unwrap_or(41_u64).max(1);
    let seconds: Option<u64> = given("WEIGHBRIDGE_FUZZ_SECONDS");
    eprintln!("WEIGHBRIDGE_SEED={seed}");
    let forgiving = Pace {
        liar: Duration::ZERO,
        strangers: (64, 64),
        ..pace()
    };
    let hub = TestHub::start("hub-a", forgiving).await;
    let honest = TestHub::start("hub-b", forgiving).await;
    let member = Arc::new(Identity::generate("hub-c"));
    // It is dialled as well, and tells what comes to its mind.
    let (told, telling) = (Arc::new(AtomicU64::new(0)), Mutex::new(Random(seed)));
    let (count, telling) = (told.clone(), Arc::new(telling));
    let each = move |mut end: Listening| {
        let (count, telling) = (count.clone(), telling.clone());
        async move {
            for _ in 0..20 {
                let said = {
                    let mut random = telling.lock();
                    let word = random.telling();
                    match random.below(3) {
                        0 => random.bytes(300),
                        1 => word,
                        _ => random.changed(word),
                    }
                };
                count.fetch_add(1, Ordering::Relaxed);
                let sent = end.writing.frame(&said).await.is_ok();
                if !sent || end.writing.flush().await.is_err() {
                    break;
                }
            }
            let rest = end.frames.next(MAX_FRAME);
            let _ = tokio::time::timeout(Duration::from_millis(5), rest).await;
        }
    };
    let address = publish(member.clone(), hub.identity.public_key(), each).await;
    let others = [honest.card(), card(&member, address)];
    hub.mesh.set_hubs(&others).unwrap();
    honest.mesh.set_hubs(&[hub.card()]).unwrap();

    let (began, mut random) = (Instant::now(), Random(seed));
    let (mut tries, mut records, mut longest) = (0, 0, Duration::ZERO);
    let goes_on = |tries: u64| match seconds {
        Some(seconds) => began.elapsed() < Duration::from_secs(seconds),
        None => tries < TRIES,
    };
    while goes_on(tries) {
        tries += 1;
        bytes_at(&hub, &member, &mut random).await;
        if tries % 10 == 0 {
            // What the other hub records meanwhile comes, or this waits in vain.
            let since = Instant::now();
            honest.book.append(1);
            records += 1;
            hub.until(|book| book.of("hub-b").len() == records).await;
            longest = longest.max(since.elapsed());
        }
    }
    let lies = hub.status_of("hub-c").lies;
    let told = told.load(Ordering::Relaxed);
    eprintln!(
        "{tries} connections, {told} frames told, {lies} lies found, {records} records of another hub, each within \
         {longest:?}"
    );
    assert_eq!(hub.status_of("hub-b").lies, 0);
    assert!(lies > 0 && told > 0);
    // And who comes after all of it is let in.
    assert!(subscribe(&member, &hub).await.is_some());
}

//! Who is not let in, and what becomes of nonsense.

use super::super::wire::{FromSubscriber, MAX_HELLO, MESH_PROTOCOL};
use super::super::{MeshHub, Pace};
use super::rogue::{dial, hello, listen, subscribe};
use super::site::{TestHub, card, pace, site, within};
use crate::crypto::{Identity, Signer};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weighbridge_verifier::encode;

fn turned_away(hub: &TestHub, why: &str) -> u64 {
    let status = hub.mesh.status();
    let found = status.turned_away.iter().find(|(of, _)| *of == why);
    found.map_or(0, |(_, count)| *count)
}

fn nowhere() -> std::net::SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_not_listed_gets_nothing_and_gives_nothing() {
    let hubs = site(&["hub-a", "hub-b"], pace()).await;
    let stranger = TestHub::start("hub-c", pace()).await;
    hubs[0].book.append(1);
    // It knows the keys of the others, and they do not know its own.
    stranger.mesh.set_hubs(&[hubs[0].card()]).unwrap();
    stranger.book.append(1);
    stranger
        .until_link("hub-a", |link| link.reading.reason.contains("connection"))
        .await;
    hubs[1].until(|book| book.of("hub-a").len() == 1).await;
    assert!(turned_away(&hubs[0], "no known key") > 0);
    assert!(stranger.book.of("hub-a").is_empty() && stranger.book.words.lock().is_empty());
    // Somebody else answers where a hub was.
    let wrong = hubs[1].card_at(stranger.mesh.address());
    hubs[0].mesh.set_hubs(&[wrong]).unwrap();
    let other = "somebody answers there who has another key";
    hubs[0]
        .until_link("hub-b", |link| link.reading.reason == other)
        .await;
    assert!(hubs[0].book.of("hub-c").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_and_another_chain_are_said_to_be_so_on_both_sides() {
    let forgiving = Pace {
        liar: Duration::ZERO,
        ..pace()
    };
    let hub = TestHub::start("hub-a", forgiving).await;
    let other = Arc::new(Identity::generate("hub-b"));
    let another = MESH_PROTOCOL + 1;
    let version = format!("version {another}");
    for shown in [&*version, "`yard`", "`hub-c`"] {
        let mut said = hello(&other);
        match shown {
            shown if shown == version => said.version = another,
            "`yard`" => said.chain = "yard".to_owned(),
            _ => said.hub = "hub-c".to_owned(),
        }
        // What another version says after its number cannot be read.
        let mut bytes = encode(&said);
        if said.version == another {
            bytes.truncate(9);
        }
        let answer = bytes.clone();
        let each = move |mut end: super::rogue::Listening| {
            let answer = answer.clone();
            async move {
                let _ = end.frames.next(MAX_HELLO).await;
                let _ = end.writing.frame(&answer).await;
                let _ = end.writing.flush().await;
                end.last().await;
            }
        };
        let address = listen(other.clone(), hub.identity.public_key(), each).await;
        hub.mesh.set_hubs(&[card(&other, address)]).unwrap();
        let reads = |link: &super::super::HubStatus| link.reading.reason.contains(shown);
        hub.until_link("hub-b", reads).await;
        let mut end = dial(&other, &hub).await.unwrap();
        end.writing.frame(&bytes).await.unwrap();
        end.writing.flush().await.unwrap();
        // It hears which version is spoken here.
        let heard = end.frames.next(MAX_HELLO).await.unwrap();
        assert_eq!(heard.first_chunk(), Some(&MESH_PROTOCOL.to_le_bytes()));
        within(end.last()).await;
        let lends = |link: &super::super::HubStatus| link.lending.reason.contains(shown);
        hub.until_link("hub-b", lends).await;
        hub.mesh.set_hubs(&[]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_falls_silent_is_gone_and_connected_again() {
    let ms = Duration::from_millis;
    let short = Pace {
        beat: ms(50),
        silence: ms(500),
        handshake: ms(500),
        ..pace()
    };
    let hub = TestHub::start("hub-a", short).await;
    let silent = Identity::generate("hub-b");
    hub.mesh.set_hubs(&[card(&silent, nowhere())]).unwrap();
    let mut end = subscribe(&silent, &hub).await.unwrap();
    hub.until_link("hub-b", |link| link.lending.connected.is_some())
        .await;
    within(end.last()).await;
    let silence =
        |link: &super::super::HubStatus| link.lending.reason.starts_with("nothing was heard");
    hub.until_link("hub-b", silence).await;
    // Who says no hello, and who never finishes the handshake.
    let mut end = dial(&silent, &hub).await.unwrap();
    within(end.last()).await;
    let mut idle = TcpStream::connect(hub.mesh.address()).await.unwrap();
    let mut nothing = Vec::new();
    let _ = within(idle.read_to_end(&mut nothing)).await;
    assert!(turned_away(&hub, "no handshake in time") > 0);
    assert_eq!(hub.status_of("hub-b").lies, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_at_the_door_keeps_no_link_from_going_on() {
    let hubs = site(&["hub-a", "hub-b"], pace()).await;
    for (hub, other) in [(0, "hub-b"), (1, "hub-a")] {
        hubs[hub]
            .until_link(other, |link| link.reading.connected.is_some())
            .await;
    }
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(hubs[0].mesh.address()).await.unwrap());
    }
    // Those that there is no place for are closed.
    let mut closed = 0;
    for stream in &mut crowd[Pace::default().strangers.1..] {
        closed += usize::from(
            within(stream.read(&mut [0]))
                .await
                .is_ok_and(|read| read == 0),
        );
    }
    assert!(closed >= 80, "{closed}");
    let why = "too many connections from one address";
    assert!(turned_away(&hubs[0], why) >= 80);
    hubs[0].book.append(1);
    hubs[1].until(|book| book.of("hub-a").len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_goes_over_to_another_key_while_it_talks() {
    let hubs = site(&["hub-a", "hub-b"], pace()).await;
    let (hub_a, hub_b) = (&hubs[0], &hubs[1]);
    let next = Arc::new(Identity::generate("hub-a"));
    let keys = |keys: &[&Identity]| MeshHub {
        keys: keys.iter().map(|identity| identity.public_key()).collect(),
        ..hub_a.card()
    };
    hub_b
        .until_link("hub-a", |link| link.reading.connected.is_some())
        .await;
    hub_a
        .until_link("hub-b", |link| link.reading.connected.is_some())
        .await;
    let since = hub_b.status_of("hub-a");
    // Both are good for a while: nothing is cut.
    hub_b
        .mesh
        .set_hubs(&[keys(&[&hub_a.identity, &next])])
        .unwrap();
    hub_a.mesh.show(next.clone()).unwrap();
    hub_a.book.append(1);
    hub_b.until(|book| book.of("hub-a").len() == 1).await;
    assert_eq!(hub_b.status_of("hub-a").reading, since.reading);
    assert!(dial(&hub_a.identity, hub_b).await.is_some());
    // Then only the new one is: links go over to it, and the old one lets nobody in.
    hub_a
        .word
        .send_replace(Some(Arc::new(super::site::word(&next))));
    hub_b.mesh.set_hubs(&[keys(&[&next])]).unwrap();
    hub_b
        .until_link("hub-a", |link| {
            let again = |now: Option<i64>, before: Option<i64>| now.is_some() && now != before;
            again(link.reading.connected, since.reading.connected)
                && again(link.lending.connected, since.lending.connected)
        })
        .await;
    hub_a.book.append(1);
    hub_b.until(|book| book.of("hub-a").len() == 2).await;
    let refused = match subscribe(&hub_a.identity, hub_b).await {
        Some(mut end) => within(end.last()).await.is_none(),
        None => true,
    };
    assert!(refused && turned_away(hub_b, "no known key") > 0);
}

/// Numbers that are the same in every run (Marsaglia's xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = self.next() % most;
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// A frame of nonsense: some with a length that is not theirs, some that begin as what is meant.
    fn frame(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let mut body = match self.next() % 3 {
            0 => self.bytes(300),
            _ => words[self.next() as usize % words.len()].clone(),
        };
        for _ in 0..self.next() % 4 {
            let at = self.next() as usize % body.len().max(1);
            if let Some(byte) = body.get_mut(at) {
                *byte = self.next() as u8;
            }
        }
        let length = match self.next() % 20 {
            0 => self.next() as u32,
            _ => body.len() as u32,
        };
        [&length.to_le_bytes()[..], &body].concat()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_frames_of_nonsense_disturb_no_link() {
    let forgiving = Pace {
        liar: Duration::ZERO,
        ..pace()
    };
    let hubs = site(&["hub-a", "hub-b"], forgiving).await;
    let rogue = Identity::generate("rogue");
    let mut cards: Vec<MeshHub> = hubs.iter().map(TestHub::card).collect();
    cards.push(card(&rogue, nowhere()));
    hubs[0].mesh.set_hubs(&cards).unwrap();
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    // Without a key: nothing comes as far as a frame.
    for _ in 0..300 {
        let mut stream = TcpStream::connect(hubs[0].mesh.address()).await.unwrap();
        let _ = stream.write_all(&noise.bytes(2_000)).await;
    }
    let words = [
        encode(&FromSubscriber::Follow {
            turn: 1,
            from: 1,
            generation: Some(0),
            window: 1 << 20,
        }),
        encode(&FromSubscriber::Took { sequence: 0 }),
        encode(&FromSubscriber::WantBlocks { from: 1 }),
        encode(&FromSubscriber::WantSealed(super::book::want(b"sealed"))),
        encode(&FromSubscriber::Goodbye("so long".to_owned())),
    ];
    // With one: before the hello and after it.
    let mut sent = 0;
    for round in 0..250 {
        let met = match round % 4 {
            0 => dial(&rogue, &hubs[0]).await,
            _ => subscribe(&rogue, &hubs[0]).await,
        };
        hubs[0].book.append(round);
        // One that came while too many others are being sent away.
        let Some(mut end) = met else { continue };
        for _ in 0..20 {
            let frame = noise.frame(&words);
            if end.writing.raw(&frame).await.is_err() {
                break;
            }
            sent += 1;
        }
        let _ = end.writing.flush().await;
    }
    assert!(sent >= 2_000, "{sent}");
    hubs[1].until(|book| book.of("hub-a").len() == 250).await;
    assert!(hubs[1].book.of("hub-a") == hubs[0].book.open());
    hubs[0].until_link("rogue", |link| link.lies > 0).await;
    assert_eq!(hubs[0].status_of("hub-b").lies, 0);
    assert!(turned_away(&hubs[0], "no known key") > 0);
    // The rest of the nonsense is still being sent away; nobody waits for it.
    hubs[0].mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_lied_is_not_let_in_for_a_while() {
    let strict = Pace {
        liar: Duration::from_secs(3_600),
        ..pace()
    };
    let hub = TestHub::start("hub-a", strict).await;
    let liar = Identity::generate("liar");
    hub.mesh.set_hubs(&[card(&liar, nowhere())]).unwrap();
    let mut end = subscribe(&liar, &hub).await.unwrap();
    end.say(&FromSubscriber::Took { sequence: 9 })
        .await
        .unwrap();
    let _ = end
        .say(&FromSubscriber::WantSealed(super::book::want(b"a")))
        .await;
    let follow = FromSubscriber::Follow {
        turn: 1,
        from: 1,
        generation: Some(0),
        window: 9,
    };
    let _ = end.say(&follow).await;
    let _ = end.say(&FromSubscriber::Took { sequence: 9 }).await;
    hub.until_link("liar", |link| link.lies == 1).await;
    within(end.last()).await;
    assert!(subscribe(&liar, &hub).await.is_none());
    assert!(turned_away(&hub, "a hub that has lied just now") > 0);
}

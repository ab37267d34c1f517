//! Sealed bytes and blocks come from whoever has them.

use super::super::SyncProgress;
use super::super::wire::{FromPublisher, FromSubscriber};
use super::book::want;
use super::rogue::{Listening, publish};
use super::site::{TestHub, card, pace, site, within};
use crate::crypto::{Identity, Signer};
use crate::ledger::shared::Want;
use crate::ledger::store::{Put, Space};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use weighbridge_verifier::{Hash, Suite};

fn values(count: u8) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| vec![n; 1_000 + usize::from(n)])
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_brought_by_the_one_hub_of_three_that_has_it() {
    let hubs = site(&["hub-a", "hub-b", "hub-c", "hub-d"], pace()).await;
    let (hub_a, hub_d) = (&hubs[0], &hubs[3]);
    let values = values(40);
    for value in &values {
        let hash = Suite::Nist.hash(&[value]);
        hub_d.book.sealed.lock().insert(hash, value.clone());
    }
    // One that nobody has does not keep the others away.
    let mut missing: Vec<Want> = values.iter().map(|value| want(value)).collect();
    missing.insert(0, want(b"nobody has it"));
    *hub_a.book.missing.lock() = missing;
    hub_a.book.block(Vec::new());
    hub_a.until(|book| book.missing.lock().len() == 1).await;
    assert_eq!(hub_a.book.sealed.lock().len(), 40);
    // Somebody has it at last: it is still looked for.
    let last = b"nobody has it".to_vec();
    let hash = Suite::Nist.hash(&[&last]);
    hubs[1].book.sealed.lock().insert(hash, last);
    hub_a.until(|book| book.missing.lock().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_block_needs_is_fetched_at_once_and_what_nobody_has_is_said() {
    let hubs = site(&["hub-a", "hub-b", "hub-c"], pace()).await;
    let value = b"sealed".to_vec();
    let hash = Suite::Nist.hash(&[&value]);
    hubs[2].book.sealed.lock().insert(hash, value.clone());
    for other in &hubs[1..] {
        hubs[0]
            .until_link(&other.id, |link| link.reading.connected.is_some())
            .await;
    }
    let wants = vec![want(b"nobody has it"), want(&value)];
    let left = hubs[0].mesh.fetch(wants, Duration::from_secs(60)).await;
    assert_eq!(left, [want(b"nobody has it")]);
    assert!(hubs[0].book.sealed.lock().contains_key(&hash));
    let nothing = hubs[0].mesh.fetch(Vec::new(), Duration::ZERO).await;
    assert!(nothing.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lends_something_else_is_cut_off_and_another_hub_is_asked() {
    let honest = TestHub::start("hub-b", pace()).await;
    let hub = TestHub::start("hub-a", pace()).await;
    let liar = Arc::new(Identity::generate("liar"));
    let each = |mut end: Listening| async move {
        while let Some(asked) = end.asked().await {
            let FromSubscriber::WantSealed(want) = asked else {
                continue;
            };
            let put = Put {
                space: Space::Sealed,
                key: want.hash.0.to_vec(),
                value: b"something else".to_vec(),
            };
            if end.say(&FromPublisher::Sealed(vec![put])).await.is_err() {
                return;
            }
        }
    };
    let address = publish(liar.clone(), hub.identity.public_key(), each).await;
    hub.mesh
        .set_hubs(&[card(&liar, address), honest.card()])
        .unwrap();
    honest.mesh.set_hubs(&[hub.card()]).unwrap();
    for other in ["hub-b", "liar"] {
        hub.until_link(other, |link| link.reading.connected.is_some())
            .await;
    }
    let value = b"sealed".to_vec();
    let hash = Suite::Nist.hash(&[&value]);
    honest.book.sealed.lock().insert(hash, value.clone());
    *hub.book.missing.lock() = vec![want(&value)];
    hub.book.block(Vec::new());
    hub.until(|book| book.missing.lock().is_empty()).await;
    assert_eq!(hub.book.sealed.lock().get(&hash), Some(&value));
    hub.until_link("liar", |link| link.lies > 0).await;
    assert_eq!(hub.status_of("hub-b").lies, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_joins_reads_all_blocks_and_says_how_far_it_is() {
    let hubs = site(&["hub-a", "hub-b", "hub-c"], pace()).await;
    for height in 0..100 {
        if height < 60 {
            hubs[1].book.block(vec![0; 200_000]);
        }
        hubs[2].book.block(vec![0; 200_000]);
    }
    let heard =
        |hub: &str, book: &super::book::FakeBook| book.heard.lock().get(hub).map(|tip| tip.0);
    let level = |book: &super::book::FakeBook| {
        (heard("hub-b", book), heard("hub-c", book)) == (Some(60), Some(100))
    };
    hubs[0].until(level).await;
    let progress = watch::Sender::new(SyncProgress::default());
    let height = within(hubs[0].mesh.sync_blocks(&progress)).await;
    assert_eq!(height, 100);
    assert!(*hubs[0].book.chain.lock() == *hubs[2].book.chain.lock());
    let said = progress.borrow().clone();
    assert_eq!((said.height, said.target), (100, 100));
    // Whoever is level already is so at once.
    assert_eq!(within(hubs[2].mesh.sync_blocks(&progress)).await, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_that_it_has_more_than_it_gives_stops_nobody_who_joins() {
    // One gives nothing, the other something that does not hold.
    for gives in [None, Some(vec![1u8; 10])] {
        let honest = TestHub::start("hub-b", pace()).await;
        let hub = TestHub::start("hub-a", pace()).await;
        let liar = Arc::new(Identity::generate("liar"));
        let lies = gives.is_some();
        let each = move |mut end: Listening| {
            let gives = gives.clone();
            async move {
                let height = u64::MAX;
                let hash = Hash::ZERO;
                let tip = FromPublisher::Tip { height, hash };
                if end.say(&tip).await.is_err() {
                    return;
                }
                while let Some(asked) = end.asked().await {
                    if !matches!(asked, FromSubscriber::WantBlocks { .. }) {
                        continue;
                    }
                    let answer = match gives.clone() {
                        Some(block) => FromPublisher::Blocks(vec![block]),
                        None => FromPublisher::No,
                    };
                    if end.say(&answer).await.is_err() {
                        return;
                    }
                }
            }
        };
        for _ in 0..20 {
            honest.book.block(vec![0; 10]);
        }
        let address = publish(liar.clone(), hub.identity.public_key(), each).await;
        hub.mesh
            .set_hubs(&[card(&liar, address), honest.card()])
            .unwrap();
        honest.mesh.set_hubs(&[hub.card()]).unwrap();
        hub.until(|book| book.heard.lock().len() == 2).await;
        let progress = watch::Sender::new(SyncProgress::default());
        assert_eq!(within(hub.mesh.sync_blocks(&progress)).await, 20);
        if lies {
            hub.until_link("liar", |link| link.lies > 0).await;
        }
    }
}

fn wrap(key: u8) -> Put {
    Put {
        space: Space::Keys,
        key: vec![key],
        value: vec![key; 9],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wraps_that_are_lacking_are_asked_for_until_they_are_here() {
    let hubs = site(&["hub-a", "hub-b", "hub-c"], pace()).await;
    let (hub_a, hub_b, hub_c) = (&hubs[0], &hubs[1], &hubs[2]);
    // One hub has the first of them already, another the rest, of which it is still making one.
    let for_a = |puts: &[u8], all: bool| {
        let puts = puts.iter().map(|key| wrap(*key)).collect();
        [("hub-a".to_owned(), (puts, all))].into()
    };
    *hub_b.book.wraps.lock() = for_a(&[1], true);
    *hub_c.book.wraps.lock() = for_a(&[2, 3], false);
    *hub_a.book.lacking.lock() = (1..=4).map(|key| vec![key]).collect();
    hub_a.book.wanted.send_modify(|n| *n += 1);
    hub_a.until(|book| *book.lacking.lock() == [vec![4]]).await;
    *hub_c.book.wraps.lock() = for_a(&[2, 3, 4], true);
    hub_a.until(|book| book.lacking.lock().is_empty()).await;
    // Who had given all was asked no more: one page, whatever was asked of the other.
    assert_eq!(*hub_b.book.pages.lock(), 1);
    assert!(*hub_c.book.pages.lock() >= 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lends_wraps_without_end_lies() {
    let hub = TestHub::start("hub-a", pace()).await;
    *hub.book.lacking.lock() = vec![vec![9]];
    hub.book.wanted.send_modify(|n| *n += 1);
    let liar = Arc::new(Identity::generate("liar"));
    let each = |mut end: Listening| async move {
        while let Some(asked) = end.asked().await {
            let FromSubscriber::WantWraps { from } = asked else {
                continue;
            };
            let page = FromPublisher::Wraps {
                puts: vec![wrap(1)],
                next: Some(from),
                all: true,
            };
            if end.say(&page).await.is_err() {
                return;
            }
        }
    };
    let address = publish(liar.clone(), hub.identity.public_key(), each).await;
    hub.mesh.set_hubs(&[card(&liar, address)]).unwrap();
    hub.until_link("liar", |link| link.lies > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_come_from_one_hub_after_the_other() {
    let hubs = site(&["hub-a", "hub-b", "hub-c"], pace()).await;
    for other in &hubs[1..] {
        hubs[0]
            .until_link(&other.id, |link| link.reading.connected.is_some())
            .await;
    }
    let old = |byte: u8| [("ann".to_owned(), vec![byte; 7])].into();
    *hubs[1].book.credentials.lock() = old(1);
    *hubs[2].book.credentials.lock() = old(2);
    let mesh = &hubs[0].mesh;
    let (first, sealed) = mesh.credentials("ann", None).await.unwrap();
    assert_eq!((&*first, sealed), ("hub-b", vec![1; 7]));
    let (second, sealed) = mesh.credentials("ann", Some(&first)).await.unwrap();
    assert_eq!((&*second, sealed), ("hub-c", vec![2; 7]));
    assert_eq!(mesh.credentials("ann", Some(&second)).await, None);
    assert_eq!(mesh.credentials("bob", None).await, None);
}

//! Records go from hub to hub.

use super::super::wire::FromPublisher;
use super::super::{MeshHub, Pace};
use super::site::{TestHub, cut_after, pace, site};
use weighbridge_verifier::encode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hubs_have_each_others_records_whoever_records_them() {
    let hubs = site(&["hub-a", "hub-b", "hub-c"], pace()).await;
    for round in 0..300 {
        for (n, hub) in hubs.iter().enumerate() {
            hub.book.append(round * (n + 1));
        }
    }
    for hub in &hubs {
        for other in hubs.iter().filter(|other| other.id != hub.id) {
            hub.until(|book| book.of(&other.id).len() == 300).await;
            assert!(hub.book.of(&other.id) == other.book.open());
            assert_eq!(hub.book.pools.lock()[&other.id].twice, 0);
            hub.until_link(&other.id, |link| link.lending.connected.is_some())
                .await;
            let link = hub.status_of(&other.id);
            assert!(link.reading.connected.is_some(), "{link:?}");
            assert_eq!(link.lies, 0);
        }
        // Each has heard what the others' sealing keys are.
        assert_eq!(hub.book.words.lock().len(), 2);
    }
    for hub in &hubs {
        hub.mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_cut_in_the_middle_goes_on_without_loss_and_with_nothing_twice() {
    let hub_a = TestHub::start("hub-a", pace()).await;
    let hub_b = TestHub::start("hub-b", pace()).await;
    for _ in 0..200 {
        hub_a.book.append(20_000);
    }
    // The middle of a frame: runs of a MiB, and the hello before them.
    let line = cut_after(hub_a.mesh.address(), 2_500_000).await;
    hub_a.mesh.set_hubs(&[hub_b.card()]).unwrap();
    hub_b.mesh.set_hubs(&[hub_a.card_at(line)]).unwrap();
    hub_b.until(|book| book.of("hub-a").len() == 200).await;
    assert!(hub_b.book.of("hub-a") == hub_a.book.open());
    assert_eq!(hub_b.book.pools.lock()["hub-a"].twice, 0);
    hub_a.book.append(1);
    hub_b.until(|book| book.of("hub-a").len() == 201).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_full_bounds_what_is_on_its_way_to_it_and_slows_nobody_else() {
    let small = Pace {
        window: 100_000,
        run: 30_000,
        ..pace()
    };
    let hubs = site(&["hub-a", "hub-b", "hub-c"], small).await;
    let [hub_a, hub_b, hub_c] = &hubs[..] else {
        unreachable!()
    };
    hub_b.book.set_room("hub-a", 3);
    for _ in 0..300 {
        hub_a.book.append(10_000);
    }
    hub_c.until(|book| book.of("hub-a").len() == 300).await;
    hub_b.until(|book| book.of("hub-a").len() == 3).await;
    let link = hub_a.status_of("hub-b");
    assert!(link.on_the_way <= 100_000, "{link:?}");
    assert!(link.lacks >= 297 - 10, "{link:?}");
    // A block has some: there is room for others, and then for all.
    hub_b.book.set_room("hub-a", 10);
    hub_b.book.commit("hub-a", 3);
    hub_b.until(|book| book.of("hub-a").len() == 10).await;
    hub_b.book.set_room("hub-a", usize::MAX);
    hub_b.book.block(Vec::new());
    hub_b.until(|book| book.of("hub-a").len() == 297).await;
    assert!(hub_b.book.of("hub-a") == hub_a.book.open()[3..]);
    assert_eq!(hub_b.book.pools.lock()["hub-a"].twice, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_longer_than_the_window_goes_by_itself() {
    let small = Pace {
        window: 10_000,
        run: 5_000,
        ..pace()
    };
    let hubs = site(&["hub-a", "hub-b"], small).await;
    for bytes in [10, 3_000_000, 10, 60_000, 10] {
        hubs[0].book.append(bytes);
    }
    hubs[1].until(|book| book.of("hub-a").len() == 5).await;
    assert!(hubs[1].book.of("hub-a") == hubs[0].book.open());
    assert_eq!(hubs[1].status_of("hub-a").lies, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_signed_anew_take_the_place_of_those_before() {
    let hubs = site(&["hub-a", "hub-b"], pace()).await;
    let (hub_a, hub_b) = (&hubs[0], &hubs[1]);
    for _ in 0..50 {
        hub_a.book.append(100);
    }
    hub_b.until(|book| book.of("hub-a").len() == 50).await;
    for (from, count) in [(20, 40), (5, 3), (1, 100), (60, 2)] {
        hub_a.book.rebase(from, count);
        hub_a.book.append(9);
        let newest = (from + count) as usize;
        hub_b
            .until(|book| book.of("hub-a") == hub_a.book.open())
            .await;
        assert_eq!(hub_b.book.of("hub-a").len(), newest);
    }
    assert_eq!(hub_b.status_of("hub-a").lies, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_signed_anew_while_the_link_was_away_is_followed_too() {
    let hubs = site(&["hub-a", "hub-b"], pace()).await;
    let (hub_a, hub_b) = (&hubs[0], &hubs[1]);
    for _ in 0..10 {
        hub_a.book.append(1);
    }
    hub_b.until(|book| book.of("hub-a").len() == 10).await;
    hub_b.mesh.set_hubs(&[]).unwrap();
    hub_a
        .until_link("hub-b", |link| link.lending.connected.is_none())
        .await;
    hub_a.book.rebase(4, 20);
    hub_b.mesh.set_hubs(&[hub_a.card()]).unwrap();
    hub_b
        .until(|book| book.of("hub-a") == hub_a.book.open())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_in_a_block_on_one_side_only_stop_nobody() {
    let hub_a = TestHub::start("hub-a", pace()).await;
    let hub_b = TestHub::start("hub-b", pace()).await;
    for _ in 0..10 {
        hub_a.book.append(1);
    }
    // The publisher is ahead: what a block has it does not send any more, and the block brings it.
    hub_a.book.commit("hub-a", 6);
    hub_a.mesh.set_hubs(&[hub_b.card()]).unwrap();
    hub_b.mesh.set_hubs(&[hub_a.card()]).unwrap();
    hub_b
        .until(|book| book.heard.lock().contains_key("hub-a"))
        .await;
    hub_b.book.commit("hub-a", 6);
    hub_b.until(|book| book.of("hub-a").len() == 4).await;
    // The subscriber is ahead: what comes once more is passed over.
    hub_b.book.commit("hub-a", 8);
    hub_a.book.rebase(9, 5);
    hub_b.until(|book| book.of("hub-a").len() == 5).await;
    assert!(hub_b.book.of("hub-a") == hub_a.book.open()[2..]);
    assert_eq!(hub_b.status_of("hub-a").lies, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hub_has_lost_of_another_it_asks_for_again() {
    let hubs = site(&["hub-a", "hub-b"], pace()).await;
    let (hub_a, hub_b) = (&hubs[0], &hubs[1]);
    for _ in 0..20 {
        hub_a.book.append(1);
    }
    hub_b.until(|book| book.of("hub-a").len() == 20).await;
    hub_b
        .book
        .pools
        .lock()
        .get_mut("hub-a")
        .unwrap()
        .records
        .truncate(5);
    hub_a.book.append(1);
    hub_b.until(|book| book.of("hub-a").len() == 21).await;
    assert!(hub_b.book.of("hub-a") == hub_a.book.open());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_has_another_sealing_key_says_so_to_all() {
    let hubs = site(&["hub-a", "hub-b", "hub-c"], pace()).await;
    for hub in &hubs[1..] {
        hub.until(|book| book.words.lock().contains_key("hub-a"))
            .await;
    }
    let word = super::site::word(&hubs[0].identity);
    hubs[0]
        .word
        .send_replace(Some(std::sync::Arc::new(word.clone())));
    for hub in &hubs[1..] {
        let heard =
            |book: &super::book::FakeBook| book.words.lock().get("hub-a") == Some(&word.sealing);
        hub.until(heard).await;
    }
}

/// The first byte of a frame says what becomes of it.
#[test]
fn frames_are_told_apart_by_their_first_byte() {
    use super::super::wire::{Kind, kind, turn_of};
    let run = encode(&FromPublisher::Run {
        turn: 0x0102_0304,
        generation: 5,
        carried: Vec::new(),
    });
    assert_eq!((kind(&run), turn_of(&run)), (Kind::Run, Some(0x0102_0304)));
    for answer in [
        FromPublisher::Sealed(Vec::new()),
        FromPublisher::Blocks(Vec::new()),
        FromPublisher::No,
    ] {
        assert_eq!(kind(&encode(&answer)), Kind::Answer);
    }
    for word in [
        FromPublisher::Again {
            turn: 1,
            from: 1,
            generation: 1,
        },
        FromPublisher::Goodbye(String::new()),
    ] {
        assert_eq!(kind(&encode(&word)), Kind::Word);
    }
    assert_eq!((kind(&[]), turn_of(&[0, 1, 2, 3])), (Kind::Word, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubs_come_and_go_while_others_talk() {
    let hubs = site(&["hub-a", "hub-b", "hub-c"], pace()).await;
    let (hub_a, hub_b) = (&hubs[0], &hubs[1]);
    hub_a
        .until_link("hub-b", |link| link.reading.connected.is_some())
        .await;
    let since = hub_a.status_of("hub-b").reading.connected;
    let without_c: Vec<MeshHub> = hubs[..2].iter().map(TestHub::card).collect();
    hub_a.mesh.set_hubs(&without_c).unwrap();
    hubs[2]
        .until_link("hub-a", |link| link.reading.connected.is_none())
        .await;
    hub_a.book.append(1);
    hub_b.until(|book| book.of("hub-a").len() == 1).await;
    assert_eq!(hub_a.mesh.status().hubs.len(), 1);
    assert_eq!(hub_a.status_of("hub-b").reading.connected, since);
    assert!(hubs[2].book.of("hub-a").is_empty());
}

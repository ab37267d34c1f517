//! Reading a ledger page by page.

use super::*;
use crate::ledger::query::{Explorer, MAX_BLOCKS_READ, RecordFilter};
use crate::ledger::store::Space;

/// Blocks 2 to 12 with two records each, for two devices in turn; block n is made at n × 1,000.
fn explorer(disk: &FaultyDisk) -> Explorer {
    let mut ledger = open(disk, 1_000).unwrap();
    for n in 1..=11u64 {
        let now = (n as i64 + 1) * 1_000;
        let device = ["press-1", "robot-2"][n as usize % 2];
        let sequence = ledger.state().device(device).sequence;
        let drafts = [
            store_draft(SUITE, device, sequence + 1, now),
            refuse_draft(SUITE, device, sequence + 2, now),
        ];
        ledger
            .append(&drafts, sealed_puts(SUITE, &drafts), now)
            .unwrap();
    }
    Explorer::new(ledger.store().clone())
}

#[test]
fn pages_join_without_gap_or_overlap() {
    let disk = FaultyDisk::new(1);
    let explorer = explorer(&disk);
    for limit in 1..30 {
        let (mut places, mut next) = (Vec::new(), None);
        loop {
            let page = explorer.records(next, limit, &RecordFilter::default());
            let page = page.unwrap();
            assert!(page.items.len() <= limit);
            places.extend(page.items.iter().map(|r| r.place));
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        let mut expected = vec![(1, 0)];
        expected.extend((2..=12).flat_map(|h| [(h, 0), (h, 1)]));
        expected.reverse();
        assert_eq!(places, expected, "{limit} a page");
    }
}

#[test]
fn filters_take_what_they_name() {
    let disk = FaultyDisk::new(1);
    let explorer = explorer(&disk);
    let filter = RecordFilter {
        device: Some("press-1".to_owned()),
        action: Some(Action::Refuse),
    };
    let page = explorer.records(None, 100, &filter).unwrap();
    assert_eq!(page.items.len(), 5);
    assert_eq!(page.next, None);
    for one in &page.items {
        assert_eq!(one.record.body.batch().unwrap().device, "press-1");
        assert_eq!(one.record.body.action, Action::Refuse);
    }
    let batches = explorer.batches(None, 100, Some("robot-2")).unwrap();
    let sequences: Vec<u64> = batches.items.iter().map(|b| b.2.sequence).collect();
    assert_eq!(sequences, (1..=12).rev().collect::<Vec<_>>());
    assert_eq!(explorer.batches(None, 100, Some("x")).unwrap().items, []);
}

#[test]
fn blocks_are_found_by_height_and_time() {
    let disk = FaultyDisk::new(1);
    let explorer = explorer(&disk);
    assert_eq!(explorer.tip().unwrap().unwrap().height, 12);
    let heights = |before, limit| -> Vec<u64> {
        let blocks = explorer.blocks(before, limit).unwrap();
        blocks.iter().map(|b| b.header.height).collect()
    };
    assert_eq!(heights(None, 3), [12, 11, 10]);
    assert_eq!(heights(Some(3), 9), [2, 1]);
    assert!(heights(Some(1), 9).is_empty());
    assert_eq!(heights(Some(u64::MAX), 1), [12]);
    for (time, height) in [
        (999, None),
        (1_000, Some(1)),
        (5_999, Some(5)),
        (6_000, Some(6)),
        (i64::MAX, Some(12)),
    ] {
        assert_eq!(explorer.height_at(time).unwrap(), height, "at {time}");
    }
    assert_eq!(explorer.block(13).unwrap(), None);
    assert_eq!(explorer.genesis().unwrap().unwrap().header.height, 1);
}

#[test]
fn an_empty_or_damaged_store_is_no_reason_to_panic() {
    let disk = FaultyDisk::new(1);
    let empty = Explorer::new(Arc::new(disk.store()));
    assert_eq!(empty.tip().unwrap(), None);
    assert_eq!(empty.height_at(5).unwrap(), None);
    assert_eq!(empty.blocks(None, 5).unwrap(), []);
    let page = empty.records(None, 5, &RecordFilter::default()).unwrap();
    assert_eq!((page.items.len(), page.next), (0, None));
    let explorer = explorer(&disk);
    let tip = 12u64.to_be_bytes();
    disk.tamper(Space::Blocks, &tip, Some(vec![1, 2, 3]));
    let error = explorer.tip().unwrap_err().to_string();
    assert!(error.contains("block 12"), "{error}");
}

#[test]
fn a_filter_that_finds_nothing_reads_only_so_many_blocks() {
    let disk = FaultyDisk::new(1);
    let explorer = explorer(&disk);
    // The same block again and again is enough to count what is read.
    let blocks = disk.contents(Space::Blocks);
    let last = &blocks.last().unwrap().1;
    for height in 13..=MAX_BLOCKS_READ as u64 + 20 {
        let key = height.to_be_bytes();
        disk.tamper(Space::Blocks, &key, Some(last.clone()));
    }
    let nobody = Some("nobody");
    let page = explorer.batches(None, 5, nobody).unwrap();
    assert_eq!((page.items.len(), page.next), (0, Some((20, u32::MAX))));
    let page = explorer.batches(page.next, 5, nobody).unwrap();
    assert_eq!((page.items.len(), page.next), (0, None));
}

use super::segment::segments;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const LIMITS: SpoolLimits = SpoolLimits {
    bytes: 1 << 20,
    segment: 200,
};

fn open(dir: &Path) -> (Spool, Opened) {
    Spool::open(dir, LIMITS).unwrap()
}

fn payload(index: u64) -> Vec<u8> {
    let length = (index * 7 % 60) as usize;
    (0..length).map(|at| (index as usize + at) as u8).collect()
}

/// Appends records until there are `to`.
fn fill(spool: &mut Spool, to: u64) {
    while spool.next_index() < to {
        spool.append(&payload(spool.next_index())).unwrap();
    }
    spool.sync().unwrap();
}

fn rest(spool: &mut Spool) -> Vec<Next> {
    std::iter::from_fn(|| spool.read().unwrap()).collect()
}

fn records(range: std::ops::Range<u64>) -> Vec<Next> {
    range.map(|at| Next::Record(at, payload(at))).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = segments(dir)
        .unwrap()
        .iter()
        .map(|s| segment_path(dir, s.first))
        .collect();
    files.sort();
    files
}

#[test]
fn records_come_out_as_they_went_in_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, opened) = open(dir.path());
    assert_eq!(opened, Opened::default());
    assert_eq!(rest(&mut spool), vec![]);
    fill(&mut spool, 30);
    assert!(files(dir.path()).len() > 5);
    assert_eq!(spool.get(29).unwrap(), records(29..30).pop());
    assert_eq!(spool.get(3).unwrap(), records(3..4).pop());
    assert_eq!(rest(&mut spool), records(0..30));
    spool.acknowledge(17).unwrap();
    assert_eq!(spool.get(16).unwrap(), None);
    spool.read_from(0);
    assert_eq!(rest(&mut spool), records(17..30));
    drop(spool);
    let (mut spool, opened) = open(dir.path());
    assert_eq!(opened, Opened::default());
    assert_eq!((spool.head(), spool.next_index()), (17, 30));
    fill(&mut spool, 33);
    assert_eq!(rest(&mut spool), records(17..33));
    spool.acknowledge(33).unwrap();
    drop(spool);
    let (mut spool, _) = open(dir.path());
    assert_eq!((spool.pending(), spool.next_index()), (0, 33));
    fill(&mut spool, 34);
    assert_eq!(rest(&mut spool), records(33..34));
}

#[test]
fn a_record_larger_than_a_segment_has_one_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path());
    for round in 0..3 {
        for byte in [1, 2] {
            spool.append(&vec![byte; 1000]).unwrap();
            spool.sync().unwrap();
        }
        let read = rest(&mut spool);
        let first = round * 2;
        let large = |index, byte| Next::Record(index, vec![byte; 1000]);
        assert_eq!(read, [large(first, 1), large(first + 1, 2)]);
        spool.acknowledge(first + 2).unwrap();
    }
    drop(spool);
    let (spool, opened) = open(dir.path());
    assert_eq!((opened, spool.next_index()), (Opened::default(), 6));
}

#[test]
fn what_is_not_synced_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path());
    spool.append(b"one").unwrap();
    assert_eq!(spool.read().unwrap(), None);
    spool.acknowledge(1).unwrap();
    assert_eq!(spool.head(), 0);
    spool.sync().unwrap();
    assert_eq!(rest(&mut spool).len(), 1);
}

#[test]
fn two_cannot_have_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    let second = Spool::open(dir.path(), LIMITS);
    assert!(matches!(
        second,
        Err(SpoolError::Lock(StoreError::InUse(_)))
    ));
}

#[test]
fn at_its_bound_it_is_full_until_something_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let limits = SpoolLimits {
        bytes: 1000,
        segment: 250,
    };
    let (mut spool, _) = Spool::open(dir.path(), limits).unwrap();
    let mut taken = 0;
    let full = loop {
        match spool.append(&[7; 68]) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(taken, 10);
    let said = full.to_string();
    assert!(
        said.ends_with("is full: it holds 1000 of 1000 bytes"),
        "{said}"
    );
    spool.sync().unwrap();
    assert_eq!(rest(&mut spool).len(), 10);
    // Only whole segments are given back.
    spool.acknowledge(1).unwrap();
    assert!(spool.append(&[7; 68]).is_err());
    spool.acknowledge(2).unwrap();
    spool.append(&[7; 68]).unwrap();
    spool.sync().unwrap();
    // And it can be emptied and filled for ever.
    for _ in 0..50 {
        spool.acknowledge(spool.next_index()).unwrap();
        for _ in 0..4 {
            spool.append(&[7; 68]).unwrap();
        }
        spool.sync().unwrap();
        assert!(spool.bytes() <= 1000);
        assert_eq!(rest(&mut spool).len(), 4);
    }
    assert!(matches!(
        spool.append(&vec![0; MAX_PAYLOAD + 1]),
        Err(SpoolError::TooLong(_))
    ));
}

#[test]
fn room_is_made_from_the_oldest_on_and_numbers_stay() {
    let dir = tempfile::tempdir().unwrap();
    let limits = SpoolLimits {
        bytes: 1000,
        segment: 250,
    };
    let (mut spool, _) = Spool::open(dir.path(), limits).unwrap();
    let shrink = |payload: &[u8]| payload.get(..4).unwrap_or(payload).to_vec();
    let (mut shrunk, mut stopped) = (0, false);
    for index in 0..40_u64 {
        let payload = vec![index as u8; 68];
        while let Err(error) = spool.append(&payload) {
            assert!(matches!(error, SpoolError::Full { .. }), "{error}");
            match spool.shrink_oldest(shrink) {
                Ok(made) => shrunk += made.records,
                Err(_) => {
                    stopped = true;
                    break;
                }
            }
        }
        if stopped {
            break;
        }
        spool.sync().unwrap();
        assert!(spool.bytes() <= 1000);
    }
    assert!(stopped, "even what is left of them fills it in the end");
    assert!(shrunk > 10);
    let all = rest(&mut spool);
    assert_eq!(all.len() as u64, spool.next_index());
    let mut lengths = Vec::new();
    for (index, next) in all.iter().enumerate() {
        let Next::Record(at, payload) = next else {
            panic!("{next:?}");
        };
        assert_eq!(*at, index as u64);
        assert!(payload.iter().all(|b| *b == index as u8));
        lengths.push(payload.len());
    }
    assert!(lengths.is_sorted(), "the oldest are given up first");
    drop(spool);
    let (mut again, opened) = Spool::open(dir.path(), limits).unwrap();
    assert_eq!(opened, Opened::default());
    assert_eq!(rest(&mut again), all);
}

#[test]
fn every_changed_byte_costs_one_record_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path());
    fill(&mut spool, 12);
    drop(spool);
    let files = files(dir.path());
    for file in &files[..files.len() - 1] {
        let whole = fs::read(file).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(file, &damaged).unwrap();
            let (mut spool, opened) = open(dir.path());
            assert_eq!(opened, Opened::default());
            let read = rest(&mut spool);
            let lost: Vec<_> = read.iter().filter(|n| matches!(n, Next::Lost(_))).collect();
            assert_eq!(
                (read.len(), lost.len()),
                (12, 1),
                "{} byte {at}",
                file.display()
            );
            for next in &read {
                if let Next::Record(index, bytes) = next {
                    assert_eq!(*bytes, payload(*index));
                }
            }
        }
        fs::write(file, &whole).unwrap();
    }
    // A whole file that is gone is reported too.
    fs::remove_file(&files[1]).unwrap();
    let (mut spool, _) = open(dir.path());
    let read = rest(&mut spool);
    assert_eq!(read.len(), 12);
    assert!(read.iter().any(|n| matches!(n, Next::Lost(_))));
}

#[test]
fn an_end_that_was_durable_and_is_gone_is_not_numbered_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path());
    fill(&mut spool, 12);
    drop(spool);
    let last = files(dir.path()).pop().unwrap();
    let first = segments(dir.path()).unwrap().back().unwrap().first;
    fs::write(&last, b"").unwrap();
    let (mut spool, opened) = open(dir.path());
    assert_eq!(opened.lost, 12 - first);
    fill(&mut spool, 14);
    let read = rest(&mut spool);
    assert_eq!(read[..first as usize], records(0..first));
    for (index, next) in (first..12).zip(&read[first as usize..]) {
        assert_eq!(*next, Next::Lost(index));
    }
    assert_eq!(read[12..], records(12..14));
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Append(usize),
    Sync,
    Read,
    Rewind(u64),
    Acknowledge(u64),
    /// The process is killed; of what was not synced so many bytes are there.
    Kill(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..90_usize).prop_map(Op::Append),
        4 => Just(Op::Sync),
        4 => Just(Op::Read),
        1 => (0..50_u64).prop_map(Op::Rewind),
        2 => (0..50_u64).prop_map(Op::Acknowledge),
        1 => (0..400_usize).prop_map(Op::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens, what was synced and not acknowledged is read in order, and nothing else.
    #[test]
    fn it_is_a_queue_that_power_failures_do_not_touch(ops in proptest::collection::vec(op(), 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(dir.path());
        let mut all: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let (mut synced, mut head, mut cursor) = (0, 0, 0);
        for (step, op) in ops.into_iter().enumerate() {
            match op {
                Op::Append(length) => {
                    let bytes = vec![step as u8; length];
                    let index = spool.append(&bytes).unwrap();
                    all.insert(index, bytes);
                }
                Op::Sync => {
                    spool.sync().unwrap();
                    synced = spool.next_index();
                }
                Op::Read => {
                    let read = spool.read().unwrap();
                    // Appending may sync too, when a segment is full.
                    if read.is_none() {
                        prop_assert!(cursor >= synced);
                    } else {
                        prop_assert_eq!(read, Some(Next::Record(cursor, all[&cursor].clone())));
                        cursor += 1;
                        synced = synced.max(cursor);
                    }
                }
                Op::Rewind(to) => {
                    spool.read_from(to);
                    cursor = spool.cursor();
                    prop_assert!(cursor >= head);
                }
                Op::Acknowledge(to) => {
                    spool.acknowledge(to).unwrap();
                    head = spool.head();
                    cursor = cursor.max(head);
                    prop_assert!(head >= to.min(synced));
                }
                Op::Kill(kept) => {
                    drop(spool);
                    let last = files(dir.path()).pop().unwrap();
                    let bytes = fs::read(&last).unwrap();
                    let sound = end_of_synced(&last, synced);
                    let keep = (sound as usize + kept).min(bytes.len());
                    fs::write(&last, &bytes[..keep]).unwrap();
                    let (opened, found) = open(dir.path());
                    spool = opened;
                    prop_assert_eq!(found.lost, 0);
                    prop_assert!(spool.next_index() >= synced);
                    synced = spool.next_index();
                    all.retain(|index, _| *index < synced);
                    prop_assert_eq!(spool.head(), head);
                    cursor = head;
                }
            }
        }
        spool.sync().unwrap();
        spool.read_from(0);
        let expected: Vec<_> = all.range(head..).map(|(i, p)| Next::Record(*i, p.clone())).collect();
        prop_assert_eq!(rest(&mut spool), expected);
    }
}

/// Where the records before `synced` end in a segment.
fn end_of_synced(path: &Path, synced: u64) -> u64 {
    let mut reader = Reader::open(path).unwrap();
    let mut end = 0;
    while let Read1::Record(index, _, at) = reader.next(0).unwrap() {
        if index < synced {
            end = at;
        }
    }
    end
}

/// Everything in a directory, byte by byte.
fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|p| (p.clone(), std::fs::read(p).unwrap()))
        .collect()
}

#[test]
fn an_audit_finds_every_changed_byte_of_what_waits_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path());
    fill(&mut spool, 20);
    spool.acknowledge(9).unwrap();
    let in_use = audit(dir.path(), &mut |_, _| Ok(()));
    assert!(matches!(in_use, Err(SpoolError::Lock(_))));
    drop(spool);
    let before = bytes_of(dir.path());
    let mut seen = Vec::new();
    let whole = audit(dir.path(), &mut |index, bytes| {
        seen.push(Next::Record(index, bytes.to_vec()));
        Ok(())
    });
    let whole = whole.unwrap();
    assert_eq!(seen, records(9..20));
    assert_eq!((whole.head, whole.end, whole.waiting), (9, 20, 11));
    assert_eq!(whole.damage, []);
    let (mut looked, opened) = Spool::look(dir.path()).unwrap().unwrap();
    assert_eq!(
        (rest(&mut looked), opened),
        (records(9..20), Opened::default())
    );
    assert!(looked.append(b"no").is_err());
    drop(looked);
    assert_eq!(bytes_of(dir.path()), before);

    let needed = files(dir.path());
    for file in &needed {
        let sound = &before[file];
        for at in 0..sound.len() {
            let mut changed = sound.clone();
            changed[at] ^= 0x10;
            std::fs::write(file, &changed).unwrap();
            let found = audit(dir.path(), &mut |_, _| Ok(())).unwrap();
            // What is acknowledged in the first file may be damaged as it likes, but for its frames.
            if found.damage.is_empty() {
                assert_eq!((file, found.waiting), (&needed[0], 11), "byte {at}");
                continue;
            }
            // A record that is not there any more is missed in front of the next one.
            let named = &found.damage[0];
            let place = (named.file.clone(), named.offset);
            assert!(place <= (file.clone(), at as u64), "byte {at}: {named:?}");
        }
        std::fs::write(file, sound).unwrap();
    }
    let refused = audit(dir.path(), &mut |index, _| match index {
        12 => Err("no batch".to_owned()),
        _ => Ok(()),
    });
    let refused = refused.unwrap();
    assert_eq!((refused.damage_count, refused.waiting), (1, 10));
    assert_eq!(refused.damage[0].what, "record 12: no batch");
}

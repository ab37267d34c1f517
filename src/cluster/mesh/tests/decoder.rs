//! Whatever comes is read or refused, and never more.

use super::super::bounded::{MAX_BLOCKS, MAX_PUTS, MAX_RECORDS, MAX_WRAPS};
use super::super::wire::{
    Frames, FromPublisher, FromSubscriber, Hello, WireError, Writing, kind, turn_of, version_of,
};
use super::book::{carried, want};
use super::rogue::hello;
use crate::crypto::Identity;
use crate::ledger::store::{Put, Space};
use proptest::prelude::*;
use std::time::Duration;
use weighbridge_verifier::{Hash, decode, encode};

const LONG: Duration = Duration::from_secs(60);

fn told() -> Vec<Vec<u8>> {
    let put = Put {
        space: Space::Keys,
        key: vec![1],
        value: vec![2, 3],
    };
    let hash = Hash([4; 32]);
    let words = [
        FromPublisher::Run {
            turn: 1,
            generation: 2,
            carried: vec![carried("hub-a", 7, hash, 5), carried("hub-a", 8, hash, 0)],
        },
        FromPublisher::Again {
            turn: 1,
            from: 3,
            generation: 4,
        },
        FromPublisher::Sealed(vec![put.clone()]),
        FromPublisher::Blocks(vec![vec![1, 2], Vec::new()]),
        FromPublisher::No,
        FromPublisher::Tip { height: 9, hash },
        FromPublisher::Word(hello(&Identity::from_byte("hub-a", 1)).word),
        FromPublisher::Goodbye("so long".to_owned()),
        FromPublisher::Wraps {
            puts: vec![put],
            next: Some(vec![9]),
            all: true,
        },
        FromPublisher::Credentials(vec![5; 9]),
    ];
    words.iter().map(encode).collect()
}

fn asked() -> Vec<Vec<u8>> {
    let hash = Hash([4; 32]);
    let words = [
        FromSubscriber::Follow {
            turn: 1,
            from: 2,
            generation: Some(3),
            window: 4,
        },
        FromSubscriber::Took { sequence: 5 },
        FromSubscriber::WantSealed(want(b"sealed")),
        FromSubscriber::WantBlocks { from: 6 },
        FromSubscriber::Tip { height: 9, hash },
        FromSubscriber::Word(hello(&Identity::from_byte("hub-a", 1)).word),
        FromSubscriber::Goodbye("so long".to_owned()),
        FromSubscriber::WantWraps { from: vec![1, 2] },
        FromSubscriber::WantCredentials {
            user: "ann".to_owned(),
        },
    ];
    words.iter().map(encode).collect()
}

/// Reads `bytes` as everything that they could be; what is read is written the same.
fn read_all(bytes: &[u8]) {
    let _ = (kind(bytes), turn_of(bytes), version_of(bytes));
    if let Ok(read) = decode::<FromPublisher>("word", bytes) {
        assert_eq!(encode(&read), bytes);
    }
    if let Ok(read) = decode::<FromSubscriber>("question", bytes) {
        assert_eq!(encode(&read), bytes);
    }
    if let Ok(read) = decode::<Hello>("hello", bytes) {
        assert_eq!(encode(&read), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_are_read_as_what_they_are_not(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
    }

    #[test]
    fn no_change_of_what_was_said_does_harm(
        which in 0usize..20,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut said = told();
        said.extend(asked());
        said.push(encode(&hello(&Identity::from_byte("hub-a", 1))));
        let mut bytes = said[which].clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_all(&bytes);
        bytes.truncate(cut.index(bytes.len() + 1));
        read_all(&bytes);
    }
}

#[test]
fn everything_that_is_said_is_read() {
    for bytes in told() {
        let read: FromPublisher = decode("word", &bytes).unwrap();
        assert_eq!(encode(&read), bytes);
    }
    for bytes in asked() {
        let read: FromSubscriber = decode("question", &bytes).unwrap();
        assert_eq!(encode(&read), bytes);
    }
}

/// Each of these would be a list of so many entries, if it had them.
#[test]
fn lists_are_bounded_by_their_number_before_their_entries_come() {
    let count = |count: usize| (count as u32).to_le_bytes();
    let lists = [
        (
            [vec![0; 13], count(MAX_RECORDS + 1).to_vec()].concat(),
            MAX_RECORDS,
        ),
        ([vec![2], count(MAX_PUTS + 1).to_vec()].concat(), MAX_PUTS),
        (
            [vec![3], count(MAX_BLOCKS + 1).to_vec()].concat(),
            MAX_BLOCKS,
        ),
        ([vec![8], count(MAX_WRAPS + 1).to_vec()].concat(), MAX_WRAPS),
    ];
    for (bytes, most) in lists {
        let why = decode::<FromPublisher>("word", &bytes)
            .unwrap_err()
            .to_string();
        assert!(why.contains(&format!("{most} are the most")), "{why}");
    }
}

#[tokio::test]
async fn frames_are_read_as_they_were_written_and_never_longer() {
    let words = told();
    let mut bytes = Vec::new();
    let mut writing = Writing::new(&mut bytes, LONG);
    for word in &words {
        writing.frame(word).await.unwrap();
    }
    writing.flush().await.unwrap();
    let mut frames = Frames::new(bytes.as_slice(), LONG);
    for word in &words {
        assert_eq!(frames.next(1 << 20).await.unwrap(), *word);
    }
    assert!(matches!(frames.next(1 << 20).await, Err(WireError::Closed)));
    let length = words[0].len();
    let refused = Frames::new(bytes.as_slice(), LONG).next(length - 1).await;
    assert!(matches!(refused, Err(WireError::TooLong(long)) if long == length));
    for cut in 0..length + 4 {
        let cut = Frames::new(&bytes[..cut], LONG).next(1 << 20).await;
        assert!(matches!(cut, Err(WireError::Closed)));
    }
}

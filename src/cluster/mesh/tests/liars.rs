//! Hubs with a key that is good, who say what cannot be.

use super::super::Pace;
use super::super::wire::{FromPublisher, FromSubscriber};
use super::book::{carried, want};
use super::rogue::{Listening, publish, subscribe};
use super::site::{TestHub, card, pace, within};
use crate::crypto::{Identity, Signer};
use crate::ledger::shared::Carried;
use crate::ledger::store::{Put, Space};
use std::sync::Arc;
use weighbridge_verifier::{Hash, encode};

/// Three records that follow each other.
fn three() -> Vec<Carried> {
    let mut previous = Hash::ZERO;
    let one = |sequence| {
        let carried = carried("liar", sequence, previous, 3);
        previous = carried.record.body.hash();
        carried
    };
    (1..=3).map(one).collect()
}

fn run(turn: u32, carried: Vec<Carried>) -> Vec<u8> {
    encode(&FromPublisher::Run {
        turn,
        generation: 5,
        carried,
    })
}

/// What a liar sends where three records would be right.
#[derive(Clone, Copy, Debug)]
enum Lie {
    OtherHub,
    LeftOut,
    Twice,
    NoRecords,
    NumberZero,
    NoWayBack,
    OtherGeneration,
    TurnToCome,
    BlockBesideRecord,
    NotToBeRead,
    ManyValues,
    NotAsked,
    MoreThanTheWindow,
    AnewWithoutEnd,
    WordsWithoutEnd,
}

const LIES: [Lie; 15] = [
    Lie::OtherHub,
    Lie::LeftOut,
    Lie::Twice,
    Lie::NoRecords,
    Lie::NumberZero,
    Lie::NoWayBack,
    Lie::OtherGeneration,
    Lie::TurnToCome,
    Lie::BlockBesideRecord,
    Lie::NotToBeRead,
    Lie::ManyValues,
    Lie::NotAsked,
    Lie::MoreThanTheWindow,
    Lie::AnewWithoutEnd,
    Lie::WordsWithoutEnd,
];

async fn tell(end: &mut Listening, lie: Lie) -> Option<()> {
    let turn = end.begin(5).await?;
    let mut records = three();
    let frame = match lie {
        Lie::OtherHub => {
            records[1] = carried("hub-b", 2, records[0].record.body.hash(), 3);
            run(turn, records)
        }
        Lie::LeftOut => {
            records.remove(1);
            run(turn, records)
        }
        Lie::Twice => {
            let frame = run(turn, records);
            end.writing.frame(&frame).await.ok()?;
            frame
        }
        Lie::NoRecords => run(turn, Vec::new()),
        Lie::NumberZero => run(turn, vec![carried("liar", 0, Hash::ZERO, 3)]),
        Lie::NoWayBack => {
            records[2] = carried("liar", 3, Hash([7; 32]), 3);
            run(turn, records)
        }
        Lie::OtherGeneration => encode(&FromPublisher::Run {
            turn,
            generation: 6,
            carried: records,
        }),
        Lie::TurnToCome => run(turn + 1, records),
        Lie::BlockBesideRecord => {
            records[0].puts.push(Put {
                space: Space::Blocks,
                key: vec![0; 8],
                value: Vec::new(),
            });
            run(turn, records)
        }
        Lie::NotToBeRead => {
            let mut frame = run(turn, records);
            frame.truncate(frame.len() - 1);
            frame
        }
        Lie::ManyValues => {
            let put = Put {
                space: Space::Keys,
                key: Vec::new(),
                value: Vec::new(),
            };
            records[0].puts = vec![put; (64 << 10) + 1];
            run(turn, records)
        }
        Lie::NotAsked => encode(&FromPublisher::No),
        Lie::MoreThanTheWindow => {
            let frame = run(turn, records);
            loop {
                end.writing.frame(&frame).await.ok()?;
                let mut long = encode(&FromPublisher::Run {
                    turn,
                    generation: 5,
                    carried: three(),
                });
                long.resize(1 << 20, 0);
                end.writing.frame(&long).await.ok()?;
            }
        }
        Lie::AnewWithoutEnd => {
            let mut turn = turn;
            loop {
                let again = FromPublisher::Again {
                    turn,
                    from: 1,
                    generation: u64::from(turn) + 5,
                };
                end.say(&again).await.ok()?;
                turn = end.followed().await?.0;
            }
        }
        Lie::WordsWithoutEnd => loop {
            let tip = FromPublisher::Tip {
                height: 1,
                hash: Hash::ZERO,
            };
            end.say(&tip).await.ok()?;
        },
    };
    end.writing.frame(&frame).await.ok()?;
    end.writing.flush().await.ok()?;
    end.last().await;
    Some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_what_cannot_be_is_cut_off_and_counted_and_hurts_nobody_else() {
    let few = Pace {
        rebases: 20,
        words: 200,
        ..pace()
    };
    for lie in LIES {
        let honest = TestHub::start("hub-b", few).await;
        let hub = TestHub::start("hub-a", few).await;
        let liar = Arc::new(Identity::generate("liar"));
        let each = move |mut end: Listening| async move {
            tell(&mut end, lie).await;
            // What it is cut off for, it is cut off for by the other side.
            end.last().await;
        };
        // Asked first for 1, then for what it says: whoever is cut off is not let go of by itself.
        let address = publish(liar.clone(), hub.identity.public_key(), each).await;
        hub.book.set_room(
            "liar",
            if matches!(lie, Lie::MoreThanTheWindow) {
                0
            } else {
                9
            },
        );
        hub.mesh
            .set_hubs(&[honest.card(), card(&liar, address)])
            .unwrap();
        honest.mesh.set_hubs(&[hub.card()]).unwrap();
        hub.until_link("liar", |link| link.lies > 0).await;
        honest.book.append(5);
        hub.until(|book| book.of("hub-b").len() == 1).await;
        assert_eq!(hub.status_of("hub-b").lies, 0, "{lie:?}");
        hub.mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_asks_for_too_much_or_takes_what_it_was_not_sent_is_cut_off() {
    let few = Pace {
        words: 200,
        ..pace()
    };
    let lies: [fn(u32) -> FromSubscriber; 4] = [
        |_| FromSubscriber::Took { sequence: 2 },
        |_| FromSubscriber::WantSealed(want(b"nobody has it")),
        |turn| FromSubscriber::Follow {
            turn,
            from: 1,
            generation: Some(0),
            window: 0,
        },
        |n| FromSubscriber::Tip {
            height: u64::from(n),
            hash: Hash::ZERO,
        },
    ];
    for lie in lies {
        let hub = TestHub::start("hub-a", few).await;
        hub.book.append(3);
        let reader = Identity::generate("liar");
        let nowhere = "127.0.0.1:1".parse().unwrap();
        hub.mesh.set_hubs(&[card(&reader, nowhere)]).unwrap();
        let mut end = subscribe(&reader, &hub).await.unwrap();
        let follow = FromSubscriber::Follow {
            turn: 1,
            from: 1,
            generation: Some(0),
            window: 1 << 20,
        };
        end.say(&follow).await.unwrap();
        for n in 0..10_000 {
            if end.say(&lie(n)).await.is_err() {
                break;
            }
        }
        within(end.last()).await;
        hub.until_link("liar", |link| link.lies == 1).await;
    }
}

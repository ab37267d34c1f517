use super::assembly::{AHEAD, Assembled, Assembly};
use super::context::{Address, Part};
use super::test_keys::public;
use arc_malachitebft_app::engine::util::streaming::StreamContent;
use arc_malachitebft_app::types::PeerId;
use arc_malachitebft_app::types::streaming::{StreamId, StreamMessage};
use bytes::Bytes;
use proptest::prelude::*;

type Message = StreamMessage<Part>;

const MAX: usize = 1000;

fn peer(number: u8) -> PeerId {
    // The multihash of an identity of one byte.
    PeerId::from_bytes(&[0, 1, number]).unwrap()
}

fn stream(id: u8, height: u64, parts: &[&[u8]]) -> Vec<Message> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>() as u32;
    let start = Part::Start {
        height,
        round: 2,
        proposer: Address(public(1)),
        length,
    };
    let data = |part: &&[u8]| StreamContent::Data(Part::Bytes(Bytes::copy_from_slice(part)));
    let mut contents = vec![StreamContent::Data(start)];
    contents.extend(parts.iter().map(data));
    contents.push(StreamContent::Fin);
    let id = StreamId::new(vec![id].into());
    let message = |(sequence, content)| Message::new(id.clone(), sequence, content);
    (0..).zip(contents).map(message).collect()
}

fn add_all(assembly: &mut Assembly, from: PeerId, messages: &[Message]) -> Vec<Assembled> {
    let add = |message: &Message| assembly.add(0, from, message.clone());
    messages.iter().filter_map(add).collect()
}

proptest! {
    #[test]
    fn a_value_comes_together_in_any_order(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 1..10),
        seed in any::<prop::sample::Index>(),
    ) {
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut messages = stream(1, 1, &slices);
        let turn = seed.index(messages.len());
        messages.rotate_left(turn);
        let mut assembly = Assembly::new(MAX);
        let whole = add_all(&mut assembly, peer(1), &messages);
        prop_assert_eq!(whole.len(), 1);
        prop_assert_eq!(&whole[0].bytes, &parts.concat());
        prop_assert_eq!((whole[0].height, whole[0].round), (1, 2));
    }
}

#[test]
fn an_empty_value_is_whole_at_once() {
    let mut assembly = Assembly::new(MAX);
    let whole = add_all(&mut assembly, peer(1), &stream(1, 1, &[]));
    assert_eq!(whole[0].bytes, Bytes::new());
}

#[test]
fn what_breaks_a_bound_never_becomes_a_value() {
    let long = vec![0; MAX + 1];
    let mut cases = vec![
        stream(1, 0, &[b"past"]),
        stream(1, 2 + AHEAD, &[b"far ahead"]),
        stream(1, 1, &[&long]),
        stream(1, 1, &[b"an empty part", b"", b"follows"]),
    ];
    // More bytes than were announced, fewer, a sequence twice, one missing, one behind the end.
    let good = stream(1, 1, &[b"one", b"two"]);
    let change = |index: usize, message: Message| {
        let mut changed = good.clone();
        changed[index] = message;
        changed
    };
    let id = good[0].stream_id.clone();
    let bytes = |bytes: &'static [u8]| StreamContent::Data(Part::Bytes(Bytes::from_static(bytes)));
    cases.push(change(2, Message::new(id.clone(), 2, bytes(b"three"))));
    cases.push(change(2, Message::new(id.clone(), 2, bytes(b"2"))));
    cases.push(change(2, Message::new(id.clone(), 1, bytes(b"two"))));
    cases.push(change(2, Message::new(id.clone(), 4, bytes(b"two"))));
    cases.push(change(3, Message::new(id.clone(), 4, StreamContent::Fin)));
    cases.push(change(
        0,
        Message::new(id.clone(), 1, good[0].content.clone()),
    ));
    cases.push(change(1, Message::new(id, 0, bytes(b"one"))));
    for (index, messages) in cases.iter().enumerate() {
        let mut assembly = Assembly::new(MAX);
        let whole = add_all(&mut assembly, peer(1), messages);
        assert_eq!(whole, vec![], "case {index}");
    }
}

#[test]
fn a_peer_that_never_ends_pushes_out_its_own_values_only() {
    let mut assembly = Assembly::new(MAX);
    let other = stream(9, 1, &[b"of another"]);
    let mut whole = add_all(&mut assembly, peer(2), &other[..2]);
    let mine = stream(0, 1, &[b"mine"]);
    whole.extend(add_all(&mut assembly, peer(1), &mine[..2]));
    for number in 1..100 {
        let endless = stream(number, 2, &[b"endless"]);
        whole.extend(add_all(&mut assembly, peer(1), &endless[..2]));
    }
    assert_eq!(whole, vec![]);
    assert_eq!(add_all(&mut assembly, peer(1), &mine[2..]), vec![]);
    assert_eq!(add_all(&mut assembly, peer(2), &other[2..]).len(), 1);
}

#[test]
fn what_is_decided_is_let_go() {
    let mut assembly = Assembly::new(MAX);
    let (first, second) = (stream(1, 1, &[b"first"]), stream(2, 2, &[b"second"]));
    add_all(&mut assembly, peer(1), &first[..2]);
    add_all(&mut assembly, peer(1), &second[..2]);
    assembly.decided(1);
    assert_eq!(add_all(&mut assembly, peer(1), &first[2..]), vec![]);
    assert_eq!(add_all(&mut assembly, peer(1), &second[2..]).len(), 1);
}

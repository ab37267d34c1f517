//! Every message reads back as what was written, in its one form, and rubbish is refused.

use super::codec::{Forms, MAX_PART};
use super::context::{
    Address, Context, Height, OrderedSignature, Part, Proposal, Value, Vote, core_types,
};
use super::test_keys::public;
use super::values::Values;
use arc_malachitebft_app::consensus::LivenessMsg;
use arc_malachitebft_app::engine::util::streaming::StreamContent;
use arc_malachitebft_app::types::codec::{Codec, HasEncodedLen};
use arc_malachitebft_app::types::streaming::{StreamId, StreamMessage};
use arc_malachitebft_app::types::{PeerId, ProposedValue, SignedConsensusMsg};
use arc_malachitebft_sync::{
    RawDecidedValue, Request, Response, Status, ValueRequest, ValueResponse,
};
use bytes::Bytes;
use core_types::{
    ExtendedCommitCertificate, ExtendedCommitSignature, NilOrVal, PolkaCertificate, PolkaSignature,
    Round, RoundCertificate, RoundCertificateType, RoundSignature, SignedMessage, ValidatorProof,
    Validity, VoteType,
};
use proptest::prelude::*;
use std::fmt::Debug;
use std::sync::Arc;
use weighbridge_verifier::{Hash, Signature};

const MAX_VALUE: usize = 1 << 10;

fn forms() -> Forms {
    Forms::new(Arc::new(Values::default()), MAX_VALUE)
}

fn signature(byte: u8) -> OrderedSignature {
    OrderedSignature(Signature([byte; 64]))
}

fn address(number: u8) -> Address {
    Address(public(number))
}

fn value(byte: u8) -> Value {
    Value(Hash([byte; 32]))
}

fn vote(kind: VoteType, value: NilOrVal<Value>) -> SignedMessage<Context, Vote> {
    let vote = Vote {
        kind,
        height: Height(u64::MAX),
        round: Round::new(u32::MAX),
        value,
        address: address(1),
    };
    SignedMessage::new(vote, signature(1))
}

fn proposal(pol_round: Round) -> SignedMessage<Context, Proposal> {
    let proposal = Proposal {
        height: Height(1),
        round: Round::new(0),
        value: value(3),
        pol_round,
        address: address(2),
    };
    SignedMessage::new(proposal, signature(2))
}

fn polka() -> PolkaCertificate<Context> {
    PolkaCertificate {
        height: Height(4),
        round: Round::new(1),
        value_id: value(9),
        polka_signatures: vec![
            PolkaSignature::new(address(1), signature(1)),
            PolkaSignature::new(address(2), signature(2)),
        ],
    }
}

fn round_certificate() -> RoundCertificate<Context> {
    let (nil, some) = (NilOrVal::Nil, NilOrVal::Val(value(4)));
    RoundCertificate {
        height: Height(4),
        round: Round::new(1),
        cert_type: RoundCertificateType::Skip,
        round_signatures: vec![
            RoundSignature::new(VoteType::Prevote, nil, address(1), signature(1)),
            RoundSignature::new(VoteType::Precommit, some, address(2), signature(2)),
        ],
    }
}

fn start() -> Part {
    Part::Start {
        height: 5,
        round: 6,
        proposer: address(3),
        length: 7,
    }
}

fn stream(content: StreamContent<Part>) -> StreamMessage<Part> {
    StreamMessage::new(StreamId::new(Bytes::from_static(b"stream")), 8, content)
}

fn response() -> Response<Context> {
    let certificate = ExtendedCommitCertificate {
        height: Height(4),
        round: Round::new(0),
        value_id: value(1),
        commit_signatures: vec![ExtendedCommitSignature::new(address(1), signature(1), None)],
    };
    let decided = RawDecidedValue::new(Bytes::from_static(b"value"), certificate);
    let values = vec![decided.clone(), decided];
    Response::ValueResponse(ValueResponse::new(Height(4), values))
}

fn proposed() -> ProposedValue<Context> {
    ProposedValue {
        height: Height(3),
        round: Round::new(1),
        valid_round: Round::Nil,
        proposer: address(1),
        value: value(6),
        validity: Validity::Valid,
    }
}

/// It reads back, nothing shorter or longer does, and whatever does read has been written like that.
fn one_form<T: Debug + PartialEq>(message: &T)
where
    Forms: Codec<T>,
{
    let forms = forms();
    let bytes = forms.encode(message).map_err(|e| e.to_string()).unwrap();
    let read = forms.decode(bytes.clone());
    assert_eq!(read.map_err(|e| e.to_string()).as_ref(), Ok(message));
    for length in 0..bytes.len() {
        assert!(forms.decode(bytes.slice(..length)).is_err(), "{length}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(forms.decode(longer.into()).is_err());
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        is_canonical::<T>(changed.into());
    }
}

fn is_canonical<T>(bytes: Bytes)
where
    Forms: Codec<T>,
{
    let forms = forms();
    if let Ok(message) = forms.decode(bytes.clone()) {
        let again = forms.encode(&message).map_err(|e| e.to_string());
        assert_eq!(again, Ok(bytes));
    }
}

#[test]
fn every_message_has_one_form() {
    let (nil, some) = (NilOrVal::Nil, NilOrVal::Val(value(3)));
    for kind in [VoteType::Prevote, VoteType::Precommit] {
        for value in [nil, some] {
            one_form(&SignedConsensusMsg::Vote(vote(kind, value)));
            one_form(&LivenessMsg::Vote(vote(kind, value)));
        }
    }
    for round in [Round::Nil, Round::new(0), Round::new(u32::MAX)] {
        one_form(&SignedConsensusMsg::Proposal(proposal(round)));
    }
    one_form(&polka());
    one_form(&LivenessMsg::PolkaCertificate(polka()));
    one_form(&LivenessMsg::SkipRoundCertificate(round_certificate()));
    one_form(&start());
    one_form(&Part::Bytes(Bytes::from_static(b"piece")));
    one_form(&stream(StreamContent::Data(start())));
    one_form(&stream(StreamContent::Fin));
    one_form(&proposed());
    one_form(&ValidatorProof::new(vec![1; 33], vec![2; 38], signature(3)));
    one_form(&Status::<Context> {
        peer_id: PeerId::from_bytes(&[0, 1, 7]).unwrap(),
        tip_height: Height(3),
        history_min_height: Height(1),
    });
    let range = Height(3)..=Height(9);
    one_form(&Request::ValueRequest(ValueRequest::<Context>::new(range)));
    one_form(&response());
}

/// What is signed by hubs and kept in logs never changes.
#[test]
fn a_vote_on_the_wire_is_as_it_was() {
    let bytes = forms()
        .encode(&SignedConsensusMsg::Vote(vote(
            VoteType::Precommit,
            NilOrVal::Val(value(3)),
        )))
        .unwrap();
    let expected = [
        &[0, 1][..],
        &[0xff; 8],
        &[0xff; 4],
        &[1],
        &[3; 32],
        &public(1).0,
        &[1; 64],
    ];
    assert_eq!(bytes, expected.concat());
}

#[test]
fn what_is_too_long_is_neither_written_nor_read() {
    let forms = forms();
    let part = |length| Part::Bytes(vec![1; length].into());
    assert!(forms.encode(&part(MAX_PART)).is_ok());
    assert!(forms.encode(&part(MAX_PART + 1)).is_err());
    // A length that nothing follows takes no memory.
    let claims = Bytes::from_static(&[1, 0xff, 0xff, 0xff, 0xff]);
    let read: Result<Part, _> = forms.decode(claims);
    assert!(read.is_err());
    let mut many = polka();
    let one = many.polka_signatures[0].clone();
    many.polka_signatures = vec![one; crate::validators::MAX_VALIDATORS + 1];
    assert!(forms.encode(&many).is_err());
    let Response::ValueResponse(mut long) = response();
    long.values[0].value_bytes = vec![0; MAX_VALUE + 1].into();
    assert!(forms.encode(&Response::ValueResponse(long)).is_err());
}

#[test]
fn the_length_of_an_answer_is_known_before() {
    let forms = forms();
    let length = forms.encode(&response()).unwrap().len();
    assert_eq!(forms.encoded_len(&response()).unwrap(), length);
}

#[test]
fn the_log_has_the_bytes_of_a_value_and_brings_them_back() {
    let values = Arc::new(Values::default());
    let bytes = Bytes::from_static(b"the bytes of a value");
    values.keep(proposed().value.0, 3, bytes.clone());
    let logged = Forms::new(values, MAX_VALUE).encode(&proposed()).unwrap();
    let after = Arc::new(Values::default());
    let read = Forms::new(after.clone(), MAX_VALUE).decode(logged);
    let read: ProposedValue<Context> = read.unwrap();
    assert_eq!(read, proposed());
    assert_eq!(after.get(&proposed().value.0), Some(bytes));
}

proptest! {
    /// From the network anything may come: nothing panics, and what reads has one form.
    #[test]
    fn rubbish_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        is_canonical::<SignedConsensusMsg<Context>>(bytes.clone());
        is_canonical::<LivenessMsg<Context>>(bytes.clone());
        is_canonical::<StreamMessage<Part>>(bytes.clone());
        is_canonical::<ValidatorProof<Context>>(bytes.clone());
        is_canonical::<Status<Context>>(bytes.clone());
        is_canonical::<Request<Context>>(bytes.clone());
        is_canonical::<Response<Context>>(bytes);
    }
}

//! The one form of every message on the wire between hubs and in the engine's log.
//!
//! Written by hand and not derived: so that bounds are checked before memory is taken, nothing has two
//! forms, and a newer engine cannot change what is in an older one's log.

use super::context::{
    Address, Context, Height, OrderedSignature, Part, Proposal, Value, Vote, core_types,
};
use super::values::Values;
use super::wire::{Malformed, Reader, Writer};
use crate::validators::MAX_VALIDATORS;
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
use std::sync::Arc;
use weighbridge_verifier::{Hash, PublicKey, Signature};

/// Longest piece of a value on the wire.
pub const MAX_PART: usize = 128 << 10;
/// Most decisions in one answer to a hub that catches up.
pub const MAX_DECISIONS: usize = 64;
const MAX_ID: usize = 64;

/// Reads and writes for one chain.
#[derive(Clone, Debug)]
pub struct Forms {
    values: Arc<Values>,
    max_value: usize,
}

impl Forms {
    /// With the bytes of values, for the log; none of them longer than `max_value`.
    pub fn new(values: Arc<Values>, max_value: usize) -> Self {
        Self { values, max_value }
    }
}

impl Reader {
    fn address(&mut self) -> Result<Address, Malformed> {
        Ok(Address(PublicKey(self.array()?)))
    }

    fn signature(&mut self) -> Result<OrderedSignature, Malformed> {
        Ok(OrderedSignature(Signature(self.array()?)))
    }

    fn value(&mut self) -> Result<Value, Malformed> {
        Ok(Value(Hash(self.array()?)))
    }

    fn height(&mut self) -> Result<Height, Malformed> {
        self.u64().map(Height)
    }

    /// A round that there is.
    fn round(&mut self) -> Result<Round, Malformed> {
        self.u32().map(Round::new)
    }

    fn maybe<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(Malformed("it neither has something nor has it not")),
        }
    }

    fn maybe_round(&mut self) -> Result<Round, Malformed> {
        Ok(self.maybe(Self::u32)?.into())
    }

    fn maybe_value(&mut self) -> Result<NilOrVal<Value>, Malformed> {
        Ok(match self.maybe(Self::value)? {
            None => NilOrVal::Nil,
            Some(value) => NilOrVal::Val(value),
        })
    }

    fn vote_kind(&mut self) -> Result<VoteType, Malformed> {
        match self.u8()? {
            0 => Ok(VoteType::Prevote),
            1 => Ok(VoteType::Precommit),
            _ => Err(Malformed("there is no such vote")),
        }
    }

    fn vote(&mut self) -> Result<SignedMessage<Context, Vote>, Malformed> {
        let vote = Vote {
            kind: self.vote_kind()?,
            height: self.height()?,
            round: self.round()?,
            value: self.maybe_value()?,
            address: self.address()?,
        };
        Ok(SignedMessage::new(vote, self.signature()?))
    }

    fn proposal(&mut self) -> Result<SignedMessage<Context, Proposal>, Malformed> {
        let proposal = Proposal {
            height: self.height()?,
            round: self.round()?,
            value: self.value()?,
            pol_round: self.maybe_round()?,
            address: self.address()?,
        };
        Ok(SignedMessage::new(proposal, self.signature()?))
    }

    fn part(&mut self) -> Result<Part, Malformed> {
        match self.u8()? {
            0 => Ok(Part::Start {
                height: self.u64()?,
                round: self.u32()?,
                proposer: self.address()?,
                length: self.u32()?,
            }),
            1 => self.sized(MAX_PART).map(Part::Bytes),
            _ => Err(Malformed("there is no such part")),
        }
    }

    fn polka(&mut self) -> Result<PolkaCertificate<Context>, Malformed> {
        let (height, round, value_id) = (self.height()?, self.round()?, self.value()?);
        let mut polka_signatures = Vec::new();
        for _ in 0..self.count(MAX_VALIDATORS)? {
            let (address, signature) = (self.address()?, self.signature()?);
            polka_signatures.push(PolkaSignature::new(address, signature));
        }
        Ok(PolkaCertificate {
            height,
            round,
            value_id,
            polka_signatures,
        })
    }

    fn round_certificate(&mut self) -> Result<RoundCertificate<Context>, Malformed> {
        let (height, round) = (self.height()?, self.round()?);
        let cert_type = match self.u8()? {
            0 => RoundCertificateType::Skip,
            1 => RoundCertificateType::Precommit,
            _ => return Err(Malformed("there is no such certificate")),
        };
        let mut round_signatures = Vec::new();
        // Of one hub there may be a prevote and a precommit.
        for _ in 0..self.count(2 * MAX_VALIDATORS)? {
            let (kind, value) = (self.vote_kind()?, self.maybe_value()?);
            let (address, signature) = (self.address()?, self.signature()?);
            round_signatures.push(RoundSignature::new(kind, value, address, signature));
        }
        Ok(RoundCertificate {
            height,
            round,
            cert_type,
            round_signatures,
        })
    }

    fn commit(&mut self) -> Result<ExtendedCommitCertificate<Context>, Malformed> {
        let (height, round, value_id) = (self.height()?, self.round()?, self.value()?);
        let mut commit_signatures = Vec::new();
        for _ in 0..self.count(MAX_VALIDATORS)? {
            let (address, signature) = (self.address()?, self.signature()?);
            commit_signatures.push(ExtendedCommitSignature::new(address, signature, None));
        }
        Ok(ExtendedCommitCertificate {
            height,
            round,
            value_id,
            commit_signatures,
        })
    }
}

impl Writer {
    fn address(&mut self, address: &Address) -> &mut Self {
        self.raw(&address.0.0)
    }

    fn signature(&mut self, signature: &OrderedSignature) -> &mut Self {
        self.raw(&signature.0.0)
    }

    fn value(&mut self, value: &Value) -> &mut Self {
        self.raw(&value.0.0)
    }

    fn round(&mut self, round: Round) -> Result<&mut Self, Malformed> {
        let round = round.as_u32().ok_or(Malformed("it is of no round"))?;
        Ok(self.u32(round))
    }

    fn maybe_round(&mut self, round: Round) -> &mut Self {
        match round.as_u32() {
            None => self.u8(0),
            Some(round) => self.u8(1).u32(round),
        }
    }

    fn maybe_value(&mut self, value: &NilOrVal<Value>) -> &mut Self {
        match value {
            NilOrVal::Nil => self.u8(0),
            NilOrVal::Val(value) => self.u8(1).value(value),
        }
    }

    fn vote_kind(&mut self, kind: VoteType) -> &mut Self {
        self.u8(match kind {
            VoteType::Prevote => 0,
            VoteType::Precommit => 1,
        })
    }

    fn vote(&mut self, vote: &SignedMessage<Context, Vote>) -> Result<&mut Self, Malformed> {
        self.vote_kind(vote.kind).u64(vote.height.0);
        self.round(vote.round)?.maybe_value(&vote.value);
        Ok(self.address(&vote.address).signature(&vote.signature))
    }

    fn proposal(
        &mut self,
        proposal: &SignedMessage<Context, Proposal>,
    ) -> Result<&mut Self, Malformed> {
        self.u64(proposal.height.0).round(proposal.round)?;
        self.value(&proposal.value).maybe_round(proposal.pol_round);
        let with_address = self.address(&proposal.address);
        Ok(with_address.signature(&proposal.signature))
    }

    fn part(&mut self, part: &Part) -> Result<&mut Self, Malformed> {
        match part {
            Part::Start {
                height,
                round,
                proposer,
                length,
            } => {
                let start = self.u8(0).u64(*height).u32(*round);
                Ok(start.address(proposer).u32(*length))
            }
            Part::Bytes(bytes) => self.u8(1).sized(bytes, MAX_PART),
        }
    }

    fn polka(&mut self, polka: &PolkaCertificate<Context>) -> Result<&mut Self, Malformed> {
        let start = self.u64(polka.height.0).round(polka.round)?;
        start.value(&polka.value_id);
        self.count(polka.polka_signatures.len(), MAX_VALIDATORS)?;
        for one in &polka.polka_signatures {
            self.address(&one.address).signature(&one.signature);
        }
        Ok(self)
    }

    fn round_certificate(
        &mut self,
        certificate: &RoundCertificate<Context>,
    ) -> Result<&mut Self, Malformed> {
        let start = self.u64(certificate.height.0).round(certificate.round)?;
        start.u8(match certificate.cert_type {
            RoundCertificateType::Skip => 0,
            RoundCertificateType::Precommit => 1,
        });
        self.count(certificate.round_signatures.len(), 2 * MAX_VALIDATORS)?;
        for one in &certificate.round_signatures {
            self.vote_kind(one.vote_type).maybe_value(&one.value_id);
            self.address(&one.address).signature(&one.signature);
        }
        Ok(self)
    }

    fn commit(
        &mut self,
        certificate: &ExtendedCommitCertificate<Context>,
    ) -> Result<&mut Self, Malformed> {
        let start = self.u64(certificate.height.0).round(certificate.round)?;
        start.value(&certificate.value_id);
        self.count(certificate.commit_signatures.len(), MAX_VALIDATORS)?;
        for one in &certificate.commit_signatures {
            self.address(&one.address).signature(&one.signature);
        }
        Ok(self)
    }
}

/// Implements the engine's trait by a function that writes and one that reads.
macro_rules! form {
    ($type:ty, $write:expr, $read:expr) => {
        impl Codec<$type> for Forms {
            type Error = Malformed;

            fn encode(&self, message: &$type) -> Result<Bytes, Malformed> {
                let mut writer = Writer::with_capacity(256);
                let write: fn(&Self, &mut Writer, &$type) -> Result<(), Malformed> = $write;
                write(self, &mut writer, message)?;
                Ok(writer.finish())
            }

            fn decode(&self, bytes: Bytes) -> Result<$type, Malformed> {
                let mut reader = Reader::new(bytes);
                let read: fn(&Self, &mut Reader) -> Result<$type, Malformed> = $read;
                let message = read(self, &mut reader)?;
                reader.finish()?;
                Ok(message)
            }
        }
    };
}

form!(
    Part,
    |_, writer, part| writer.part(part).map(drop),
    |_, reader| reader.part()
);

form!(
    SignedConsensusMsg<Context>,
    |_, writer, message| match message {
        SignedConsensusMsg::Vote(vote) => writer.u8(0).vote(vote).map(drop),
        SignedConsensusMsg::Proposal(proposal) => writer.u8(1).proposal(proposal).map(drop),
    },
    |_, reader| match reader.u8()? {
        0 => reader.vote().map(SignedConsensusMsg::Vote),
        1 => reader.proposal().map(SignedConsensusMsg::Proposal),
        _ => Err(Malformed("there is no such message")),
    }
);

form!(
    LivenessMsg<Context>,
    |_, writer, message| match message {
        LivenessMsg::Vote(vote) => writer.u8(0).vote(vote).map(drop),
        LivenessMsg::PolkaCertificate(polka) => writer.u8(1).polka(polka).map(drop),
        LivenessMsg::SkipRoundCertificate(skip) => writer.u8(2).round_certificate(skip).map(drop),
    },
    |_, reader| match reader.u8()? {
        0 => reader.vote().map(LivenessMsg::Vote),
        1 => reader.polka().map(LivenessMsg::PolkaCertificate),
        2 => reader
            .round_certificate()
            .map(LivenessMsg::SkipRoundCertificate),
        _ => Err(Malformed("there is no such message")),
    }
);

form!(
    PolkaCertificate<Context>,
    |_, writer, polka| writer.polka(polka).map(drop),
    |_, reader| reader.polka()
);

form!(
    StreamMessage<Part>,
    |_, writer, message| {
        writer.sized(&message.stream_id.to_bytes(), MAX_ID)?;
        writer.u64(message.sequence);
        match &message.content {
            StreamContent::Fin => {
                writer.u8(0);
                Ok(())
            }
            StreamContent::Data(part) => writer.u8(1).part(part).map(drop),
        }
    },
    |_, reader| {
        let id = StreamId::new(reader.sized(MAX_ID)?);
        let sequence = reader.u64()?;
        let content = match reader.maybe(Reader::part)? {
            None => StreamContent::Fin,
            Some(part) => StreamContent::Data(part),
        };
        Ok(StreamMessage::new(id, sequence, content))
    }
);

// In the log only. It has the bytes, as far as they are here, and puts them back when it is read.
form!(
    ProposedValue<Context>,
    |forms, writer, proposed| {
        let start = writer.u64(proposed.height.0).maybe_round(proposed.round);
        start.maybe_round(proposed.valid_round);
        writer.address(&proposed.proposer).value(&proposed.value);
        writer.u8(u8::from(proposed.validity.is_valid()));
        match forms.values.get(&proposed.value.0) {
            None => {
                writer.u8(0);
                Ok(())
            }
            Some(bytes) => writer.u8(1).sized(&bytes, forms.max_value).map(drop),
        }
    },
    |forms, reader| {
        let proposed = ProposedValue::<Context> {
            height: reader.height()?,
            round: reader.maybe_round()?,
            valid_round: reader.maybe_round()?,
            proposer: reader.address()?,
            value: reader.value()?,
            validity: match reader.u8()? {
                0 => Validity::Invalid,
                1 => Validity::Valid,
                _ => return Err(Malformed("it is neither valid nor invalid")),
            },
        };
        if let Some(bytes) = reader.maybe(|reader| reader.sized(forms.max_value))? {
            let (id, height) = (proposed.value.0, proposed.height.0);
            forms.values.keep(id, height, bytes);
        }
        Ok(proposed)
    }
);

form!(
    ValidatorProof<Context>,
    |_, writer, proof| {
        writer.sized(&proof.public_key, MAX_ID)?;
        writer.sized(&proof.peer_id, MAX_ID)?;
        writer.signature(&proof.signature);
        Ok(())
    },
    |_, reader| {
        let key = reader.sized(MAX_ID)?.to_vec();
        let peer = reader.sized(MAX_ID)?.to_vec();
        Ok(ValidatorProof::new(key, peer, reader.signature()?))
    }
);

form!(
    Status<Context>,
    |_, writer, status| {
        writer.sized(&status.peer_id.to_bytes(), MAX_ID)?;
        writer.u64(status.tip_height.0);
        writer.u64(status.history_min_height.0);
        Ok(())
    },
    |_, reader| {
        let peer = reader.sized(MAX_ID)?;
        let peer_id = PeerId::from_bytes(&peer);
        let status = Status {
            peer_id: peer_id.map_err(|_| Malformed("it is from nobody"))?,
            tip_height: reader.height()?,
            history_min_height: reader.height()?,
        };
        // A multihash may have its code or length in more than one form.
        match status.peer_id.to_bytes() == peer {
            true => Ok(status),
            false => Err(Malformed("its peer has another form")),
        }
    }
);

form!(
    Request<Context>,
    |_, writer, request| {
        let Request::ValueRequest(request) = request;
        writer.u64(request.range.start().0);
        writer.u64(request.range.end().0);
        Ok(())
    },
    |_, reader| {
        let (start, end) = (reader.height()?, reader.height()?);
        Ok(Request::ValueRequest(ValueRequest::new(start..=end)))
    }
);

form!(
    Response<Context>,
    |forms, writer, response| {
        let Response::ValueResponse(response) = response;
        writer.u64(response.start_height.0);
        writer.count(response.values.len(), MAX_DECISIONS)?;
        for decided in &response.values {
            writer.sized(&decided.value_bytes, forms.max_value)?;
            writer.commit(&decided.certificate)?;
        }
        Ok(())
    },
    |forms, reader| {
        let start = reader.height()?;
        let mut values = Vec::new();
        for _ in 0..reader.count(MAX_DECISIONS)? {
            let bytes = reader.sized(forms.max_value)?;
            values.push(RawDecidedValue::new(bytes, reader.commit()?));
        }
        Ok(Response::ValueResponse(ValueResponse::new(start, values)))
    }
);

impl HasEncodedLen<Response<Context>> for Forms {
    fn encoded_len(&self, response: &Response<Context>) -> Result<usize, Malformed> {
        let Response::ValueResponse(response) = response;
        let length = |decided: &RawDecidedValue<Context>| {
            let signatures = decided.certificate.commit_signatures.len();
            4 + decided.value_bytes.len() + 8 + 4 + 32 + 4 + signatures * (33 + 64)
        };
        Ok(8 + 4 + response.values.iter().map(length).sum::<usize>())
    }
}

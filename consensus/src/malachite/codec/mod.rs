//! The one form of every message on the wire between hubs and in the engine's log.
//!
//! Written by hand and not derived: so that bounds are checked before memory is taken, nothing has two
//! forms, and a newer engine cannot change what is in an older one's log.

mod pieces;

use super::context::{Context, Part, core_types};
use super::values::Values;
use super::wire::{Malformed, Reader, Writer};
use arc_malachitebft_app::consensus::LivenessMsg;
use arc_malachitebft_app::engine::util::streaming::StreamContent;
use arc_malachitebft_app::types::codec::{Codec, HasEncodedLen};
use arc_malachitebft_app::types::streaming::{StreamId, StreamMessage};
use arc_malachitebft_app::types::{PeerId, ProposedValue, SignedConsensusMsg};
use arc_malachitebft_sync::{
    RawDecidedValue, Request, Response, Status, ValueRequest, ValueResponse,
};
use bytes::Bytes;
use core_types::{PolkaCertificate, ValidatorProof, Validity};
use std::sync::Arc;

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

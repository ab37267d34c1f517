//! What messages are made of: votes, proposals, parts of values, certificates.

use super::MAX_PART;
use crate::malachite::context::{
    Address, Context, Height, OrderedSignature, Part, Proposal, Value, Vote, core_types,
};
use crate::malachite::wire::{Malformed, Reader, Writer};
use crate::validators::MAX_VALIDATORS;
use core_types::{
    ExtendedCommitCertificate, ExtendedCommitSignature, NilOrVal, PolkaCertificate, PolkaSignature,
    Round, RoundCertificate, RoundCertificateType, RoundSignature, SignedMessage, VoteType,
};
use weighbridge_verifier::{Hash, PublicKey, Signature};

impl Reader {
    pub(super) fn address(&mut self) -> Result<Address, Malformed> {
        Ok(Address(PublicKey(self.array()?)))
    }

    pub(super) fn signature(&mut self) -> Result<OrderedSignature, Malformed> {
        Ok(OrderedSignature(Signature(self.array()?)))
    }

    pub(super) fn value(&mut self) -> Result<Value, Malformed> {
        Ok(Value(Hash(self.array()?)))
    }

    pub(super) fn height(&mut self) -> Result<Height, Malformed> {
        self.u64().map(Height)
    }

    /// A round that there is.
    pub(super) fn round(&mut self) -> Result<Round, Malformed> {
        self.u32().map(Round::new)
    }

    pub(super) fn maybe<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(Malformed("it neither has something nor has it not")),
        }
    }

    pub(super) fn maybe_round(&mut self) -> Result<Round, Malformed> {
        Ok(self.maybe(Self::u32)?.into())
    }

    pub(super) fn maybe_value(&mut self) -> Result<NilOrVal<Value>, Malformed> {
        Ok(match self.maybe(Self::value)? {
            None => NilOrVal::Nil,
            Some(value) => NilOrVal::Val(value),
        })
    }

    pub(super) fn vote_kind(&mut self) -> Result<VoteType, Malformed> {
        match self.u8()? {
            0 => Ok(VoteType::Prevote),
            1 => Ok(VoteType::Precommit),
            _ => Err(Malformed("there is no such vote")),
        }
    }

    pub(super) fn vote(&mut self) -> Result<SignedMessage<Context, Vote>, Malformed> {
        let vote = Vote {
            kind: self.vote_kind()?,
            height: self.height()?,
            round: self.round()?,
            value: self.maybe_value()?,
            address: self.address()?,
        };
        Ok(SignedMessage::new(vote, self.signature()?))
    }

    pub(super) fn proposal(&mut self) -> Result<SignedMessage<Context, Proposal>, Malformed> {
        let proposal = Proposal {
            height: self.height()?,
            round: self.round()?,
            value: self.value()?,
            pol_round: self.maybe_round()?,
            address: self.address()?,
        };
        Ok(SignedMessage::new(proposal, self.signature()?))
    }

    pub(super) fn part(&mut self) -> Result<Part, Malformed> {
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

    pub(super) fn polka(&mut self) -> Result<PolkaCertificate<Context>, Malformed> {
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

    pub(super) fn round_certificate(&mut self) -> Result<RoundCertificate<Context>, Malformed> {
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

    pub(super) fn commit(&mut self) -> Result<ExtendedCommitCertificate<Context>, Malformed> {
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
    pub(super) fn address(&mut self, address: &Address) -> &mut Self {
        self.raw(&address.0.0)
    }

    pub(super) fn signature(&mut self, signature: &OrderedSignature) -> &mut Self {
        self.raw(&signature.0.0)
    }

    pub(super) fn value(&mut self, value: &Value) -> &mut Self {
        self.raw(&value.0.0)
    }

    pub(super) fn round(&mut self, round: Round) -> Result<&mut Self, Malformed> {
        let round = round.as_u32().ok_or(Malformed("it is of no round"))?;
        Ok(self.u32(round))
    }

    pub(super) fn maybe_round(&mut self, round: Round) -> &mut Self {
        match round.as_u32() {
            None => self.u8(0),
            Some(round) => self.u8(1).u32(round),
        }
    }

    pub(super) fn maybe_value(&mut self, value: &NilOrVal<Value>) -> &mut Self {
        match value {
            NilOrVal::Nil => self.u8(0),
            NilOrVal::Val(value) => self.u8(1).value(value),
        }
    }

    pub(super) fn vote_kind(&mut self, kind: VoteType) -> &mut Self {
        self.u8(match kind {
            VoteType::Prevote => 0,
            VoteType::Precommit => 1,
        })
    }

    pub(super) fn vote(
        &mut self,
        vote: &SignedMessage<Context, Vote>,
    ) -> Result<&mut Self, Malformed> {
        self.vote_kind(vote.kind).u64(vote.height.0);
        self.round(vote.round)?.maybe_value(&vote.value);
        Ok(self.address(&vote.address).signature(&vote.signature))
    }

    pub(super) fn proposal(
        &mut self,
        proposal: &SignedMessage<Context, Proposal>,
    ) -> Result<&mut Self, Malformed> {
        self.u64(proposal.height.0).round(proposal.round)?;
        self.value(&proposal.value).maybe_round(proposal.pol_round);
        let with_address = self.address(&proposal.address);
        Ok(with_address.signature(&proposal.signature))
    }

    pub(super) fn part(&mut self, part: &Part) -> Result<&mut Self, Malformed> {
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

    pub(super) fn polka(
        &mut self,
        polka: &PolkaCertificate<Context>,
    ) -> Result<&mut Self, Malformed> {
        let start = self.u64(polka.height.0).round(polka.round)?;
        start.value(&polka.value_id);
        self.count(polka.polka_signatures.len(), MAX_VALIDATORS)?;
        for one in &polka.polka_signatures {
            self.address(&one.address).signature(&one.signature);
        }
        Ok(self)
    }

    pub(super) fn round_certificate(
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

    pub(super) fn commit(
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

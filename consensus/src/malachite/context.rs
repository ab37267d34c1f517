//! Our types, in the form that the engine wants them in.

use crate::validators::{Validator, Validators};
use bytes::Bytes;
use std::fmt;
use weighbridge_verifier::vote as signed;
use weighbridge_verifier::{Hash, PublicKey, Signature};

pub use arc_malachitebft_app::types::core as core_types;
use core_types::{
    LinearTimeouts, NilOrVal, Round, SignedExtension, SigningScheme, VoteType, VotingPower,
};

/// The type that the engine is generic over.
#[derive(Clone, Copy, Debug)]
pub struct Context;

/// A height.
#[derive(Copy, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Height(pub u64);

impl core_types::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who: the key itself, so that nothing has to be derived and no two hubs share one.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(pub PublicKey);

impl core_types::Address for Address {}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a value. In proposals and votes there is nothing else of it; its bytes travel as parts and
/// wait in [`super::values`].
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value(pub Hash);

impl core_types::Value for Value {
    type Id = Value;

    fn id(&self) -> Value {
        *self
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

/// A piece of a value on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Whose value it is, for which slot, and how long.
    Start {
        /// Height.
        height: u64,
        /// Round.
        round: u32,
        /// Who made the value.
        proposer: Address,
        /// How many bytes come.
        length: u32,
    },
    /// The next bytes of it.
    Bytes(Bytes),
}

impl core_types::ProposalPart<Context> for Part {
    fn is_first(&self) -> bool {
        matches!(self, Self::Start { .. })
    }

    fn is_last(&self) -> bool {
        false
    }
}

/// A proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Height.
    pub height: Height,
    /// Round.
    pub round: Round,
    /// The value.
    pub value: Value,
    /// The round of an earlier polka for it.
    pub pol_round: Round,
    /// Who proposes.
    pub address: Address,
}

impl Proposal {
    /// What is signed of it; `None` without a round, which no proposal is made for.
    pub fn signed(&self) -> Option<signed::Proposal> {
        Some(signed::Proposal {
            height: self.height.0,
            round: self.round.as_u32()?,
            block: self.value.0,
            polka_round: self.pol_round.as_u32(),
        })
    }
}

impl core_types::Proposal<Context> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &Value {
        &self.value
    }

    fn take_value(self) -> Value {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &Address {
        &self.address
    }
}

/// A vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Prevote or precommit.
    pub kind: VoteType,
    /// Height.
    pub height: Height,
    /// Round.
    pub round: Round,
    /// For which value, or for none.
    pub value: NilOrVal<Value>,
    /// Who votes.
    pub address: Address,
}

impl Vote {
    /// What is signed of it; `None` without a round, in which nobody votes.
    pub fn signed(&self) -> Option<signed::Vote> {
        Some(signed::Vote {
            kind: match self.kind {
                VoteType::Prevote => signed::VoteKind::Prevote,
                VoteType::Precommit => signed::VoteKind::Precommit,
            },
            height: self.height.0,
            round: self.round.as_u32()?,
            block: match self.value {
                NilOrVal::Nil => None,
                NilOrVal::Val(value) => Some(value.0),
            },
        })
    }
}

/// Votes have no extensions here.
impl core_types::Vote<Context> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<Value> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<Value> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Address {
        &self.address
    }

    fn extension(&self) -> Option<&SignedExtension<Context>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Context>> {
        None
    }

    fn extend(self, _: SignedExtension<Context>) -> Self {
        self
    }
}

impl PartialOrd for OrderedSignature {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedSignature {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.0.cmp(&other.0.0)
    }
}

/// A signature with the order that the engine wants of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderedSignature(pub Signature);

/// ECDSA over P-256, with keys and signatures in the house's forms. The private half is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct P256;

/// Bytes that are no key or no signature.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("neither a key nor a signature has so many bytes")]
pub struct WrongLength;

impl SigningScheme for P256 {
    type DecodingError = WrongLength;
    type Signature = OrderedSignature;
    type PublicKey = PublicKey;
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<OrderedSignature, WrongLength> {
        let bytes = bytes.try_into().map_err(|_| WrongLength)?;
        Ok(OrderedSignature(Signature(bytes)))
    }

    fn encode_signature(signature: &OrderedSignature) -> Vec<u8> {
        signature.0.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, WrongLength> {
        Ok(PublicKey(bytes.try_into().map_err(|_| WrongLength)?))
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.0.to_vec()
    }
}

/// A validator, with its key as an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    address: Address,
    power: VotingPower,
}

impl core_types::Validator<Context> for Voter {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &PublicKey {
        &self.address.0
    }

    fn voting_power(&self) -> VotingPower {
        self.power
    }
}

/// The validators of a height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voters {
    voters: Vec<Voter>,
    set: Validators,
}

impl Voters {
    /// The set, for the engine.
    pub fn new(set: &Validators) -> Self {
        let voter = |validator: &Validator| Voter {
            address: Address(validator.key),
            power: validator.power,
        };
        Self {
            voters: set.as_slice().iter().map(voter).collect(),
            set: set.clone(),
        }
    }
}

impl core_types::ValidatorSet<Context> for Voters {
    fn count(&self) -> usize {
        self.voters.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.set.power()
    }

    fn get_by_address(&self, address: &Address) -> Option<&Voter> {
        self.voters.iter().find(|v| v.address == *address)
    }

    fn get_by_index(&self, index: usize) -> Option<&Voter> {
        self.voters.get(index)
    }
}

impl core_types::Context for Context {
    type Address = Address;
    type Height = Height;
    type ProposalPart = Part;
    type Proposal = Proposal;
    type Validator = Voter;
    type ValidatorSet = Voters;
    type Timeouts = LinearTimeouts;
    type Value = Value;
    type Vote = Vote;
    type Extension = Bytes;
    type SigningScheme = P256;

    fn select_proposer<'a>(&self, voters: &'a Voters, height: Height, round: Round) -> &'a Voter {
        let key = voters
            .set
            .proposer(height.0, round.as_u32().unwrap_or(0))
            .key;
        let voter = voters.voters.iter().find(|v| v.address.0 == key);
        voter.unwrap_or_else(|| unreachable!("the proposer is one of the set"))
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        value: Value,
        pol_round: Round,
        address: Address,
    ) -> Proposal {
        Proposal {
            height,
            round,
            value,
            pol_round,
            address,
        }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<Value>,
        address: Address,
    ) -> Vote {
        Vote {
            kind: VoteType::Prevote,
            height,
            round,
            value,
            address,
        }
    }

    fn new_precommit(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<Value>,
        address: Address,
    ) -> Vote {
        Vote {
            kind: VoteType::Precommit,
            height,
            round,
            value,
            address,
        }
    }
}

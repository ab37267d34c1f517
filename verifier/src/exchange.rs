//! What a relay chain records: headers of other chains with what certifies them, and the steps of exchanges
//! between those chains (Yang et al. 2024: Acid, Ceid, Ttimestamp, TConfirm).
//!
//! Nothing of what is exchanged is there, only hashes. What may follow what is in [`crate::relay`].

use crate::block::BlockHeader;
use crate::certificate::Certificate;
use crate::codec::encode;
use crate::hash::{Hash, to_hex};
use crate::signature::Signature;
use crate::suite::Suite;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize, Serializer};
use std::io;

const EXCHANGE_DOMAIN: &[u8] = b"weighbridge/exchange/v1\0";

/// A header of a chain, certified by its hubs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnchorContent {
    /// Privacy grade of the chain, as the relay's hubs have it who let the chain in: its first anchor says it, and all
    /// others the same.
    pub grade: u8,
    /// The header.
    pub header: BlockHeader,
    /// The signatures of its hubs.
    pub certificate: Certificate,
    /// An evidence file ([`crate::evidence`]) of the chain from its first block on, which shows how its set of hubs
    /// became the one that signs: in its first anchor, and where the set is another one than at the anchor before.
    /// Empty elsewhere.
    #[serde(serialize_with = "hexadecimal")]
    pub leads: Vec<u8>,
}

// By hand, because the header says of which kind the certificate is, as in a block.
impl BorshSerialize for AnchorContent {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        BorshSerialize::serialize(&self.grade, writer)?;
        BorshSerialize::serialize(&self.header, writer)?;
        self.certificate.write(writer)?;
        BorshSerialize::serialize(&self.leads, writer)
    }
}

impl BorshDeserialize for AnchorContent {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let grade = u8::deserialize_reader(reader)?;
        let header = BlockHeader::deserialize_reader(reader)?;
        let certificate = Certificate::read(&header, reader)?;
        let leads = Vec::deserialize_reader(reader)?;
        Ok(Self {
            grade,
            header,
            certificate,
            leads,
        })
    }
}

/// A step of an exchange.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ExchangeStep {
    /// The chain that asks has asked.
    Request,
    /// The chain that was asked has answered.
    Answer,
    /// The chain that asked has opened the answer, and found it as the other recorded it.
    Confirm,
    /// The chain whose step was due does not take it.
    Refuse,
}

/// One step of an exchange between two chains, said by a hub of the chain whose step it is.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct ExchangeContent {
    /// The chain that asks ("Acid").
    pub acid: String,
    /// Number of the exchange among those that it asked for, from 1.
    pub number: u64,
    /// The chain that is asked ("Ceid").
    pub ceid: String,
    /// The highest privacy grade of what is asked for ("Egrade").
    pub grade: u8,
    /// The step.
    pub step: ExchangeStep,
    /// Of a request and of an answer, the hash of its sealed bytes; of a confirmation a salted commitment to what was
    /// opened, of a refusal one to the reason.
    pub sealed: Hash,
    /// Of an answer, the hash of the anchored header that its proof ends in.
    pub header: Option<Hash>,
    /// When it was asked, ns since 1970, by the clock of the hub that asks ("Ttimestamp").
    pub t_timestamp: i64,
    /// Of a confirmation, when, by the same clock ("TConfirm").
    pub t_confirm: Option<i64>,
    /// The hub that says so.
    pub hub: String,
    /// Its signature over [`ExchangeContent::message`].
    pub signature: Signature,
}

impl ExchangeContent {
    /// What the hub signs, in the suite of its own chain, for the relay chain of this name.
    pub fn message(&self, suite: Suite, relay: &str) -> Hash {
        let between = (relay, &self.acid, self.number, &self.ceid, self.grade);
        let said = (self.step, self.sealed, self.header, &self.hub);
        let when = (self.t_timestamp, self.t_confirm);
        suite.hash(&[EXCHANGE_DOMAIN, &encode(&(between, said, when))])
    }

    /// What a record about it has as its object.
    pub fn object(&self) -> String {
        format!("exchange:{}/{}", self.acid, self.number)
    }
}

impl AnchorContent {
    /// What a record about it has as its object.
    pub fn object(&self) -> String {
        format!("chain:{}", self.header.chain)
    }
}

fn hexadecimal<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&to_hex(bytes))
}

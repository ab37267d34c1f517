//! How the ledger's types are written in an evidence file.
//!
//! The field lists repeat those of the types themselves, in the same order, so that the file's form does
//! not change when an answer of the HTTP interface does; the compiler compares them.

use crate::block::BlockHeader;
use crate::centres::{CentresContent, DerivedContent};
use crate::certificate::Certificate;
use crate::exchange::{AnchorContent, ExchangeContent, ExchangeStep};
use crate::hash::Hash;
use crate::membership::{EquivocationContent, HubVoteContent, LeaseContent};
use crate::record::{
    Action, Attestation, BatchContent, Content, DocumentContent, IdentityContent, MessageContent,
    Record, RecordBody, Response, SealedRef, VerdictSummary,
};
use crate::rotation::RotationContent;
use crate::sample::Value;
use crate::signature::Signature;
use serde::{Deserialize, Serialize};

/// 64-bit integers as decimal strings: many JSON readers keep 53 bits only.
pub(super) mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Display;
    use std::str::FromStr;

    pub fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The same, where there may be none.
mod optional_decimal {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "super::decimal")] i64);

    pub fn serialize<S: Serializer>(value: &Option<i64>, to: S) -> Result<S::Ok, S::Error> {
        value.map(Wrapped).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(from)?.map(|wrapped| wrapped.0))
    }
}

/// Bytes of a fixed number, in hexadecimal.
pub(super) mod hex_array {
    use crate::hash::{parse_hex, to_hex};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<const N: usize, S: Serializer>(
        bytes: &[u8; N],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&to_hex(bytes))
    }

    pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
        from: D,
    ) -> Result<[u8; N], D::Error> {
        parse_hex(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// Bytes of any number, in hexadecimal.
pub(super) mod hex_bytes {
    use crate::hash::{parse_hex, to_hex};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&to_hex(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let pairs = text.as_bytes().chunks(2);
        let byte = |pair| {
            std::str::from_utf8(pair)
                .ok()
                .and_then(|t| parse_hex::<1>(t).ok())
        };
        let bytes: Option<Vec<[u8; 1]>> = pairs.map(byte).collect();
        let bytes = bytes.ok_or_else(|| D::Error::custom("expected hexadecimal digits"))?;
        Ok(bytes.concat())
    }
}

/// An `f64` as its bits, so that not a number and negative zero are kept too: 16 hexadecimal digits,
/// the sign first.
mod bits {
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        super::hex_array::serialize(&value.to_bits().to_be_bytes(), to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        let bytes = super::hex_array::deserialize(from)?;
        Ok(f64::from_bits(u64::from_be_bytes(bytes)))
    }
}

/// An optional [`SealedRef`].
mod sealed {
    use super::{SealedForm, SealedRef};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "SealedForm")] SealedRef);

    pub fn serialize<S: Serializer>(sealed: &Option<SealedRef>, to: S) -> Result<S::Ok, S::Error> {
        sealed.map(Wrapped).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SealedRef>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(from)?.map(|wrapped| wrapped.0))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Value", rename_all = "snake_case")]
pub(super) enum ValueForm {
    Bool(bool),
    I64(#[serde(with = "decimal")] i64),
    U64(#[serde(with = "decimal")] u64),
    F64(#[serde(with = "bits")] f64),
    Text(String),
    Bytes(#[serde(with = "hex_bytes")] Vec<u8>),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "BlockHeader", deny_unknown_fields)]
pub(super) struct HeaderForm {
    version: u8,
    chain: String,
    #[serde(with = "decimal")]
    height: u64,
    previous_hash: Hash,
    #[serde(with = "decimal")]
    time: i64,
    record_count: u32,
    merkle_root: Hash,
    state_hash: Hash,
    validators_hash: Hash,
    proposer: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Record", deny_unknown_fields)]
pub(super) struct RecordForm {
    #[serde(with = "BodyForm")]
    body: RecordBody,
    signature: Signature,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RecordBody", deny_unknown_fields)]
struct BodyForm {
    version: u8,
    chain: String,
    hub: String,
    #[serde(with = "decimal")]
    sequence: u64,
    previous: Hash,
    #[serde(with = "decimal")]
    time: i64,
    subject: String,
    action: Action,
    object: String,
    permit: Option<Hash>,
    #[serde(with = "ContentForm")]
    content: Content,
    response: Response,
}

#[allow(clippy::large_enum_variant)]
#[derive(Serialize, Deserialize)]
#[serde(remote = "Content", rename_all = "snake_case")]
enum ContentForm {
    Batch(#[serde(with = "BatchForm")] BatchContent),
    Document(#[serde(with = "DocumentForm")] DocumentContent),
    Identity(IdentityContent),
    Commitment(Hash),
    Message(#[serde(with = "MessageForm")] MessageContent),
    Rotation(RotationContent),
    Centres(CentresContent),
    Derived(DerivedContent),
    HubVote(HubVoteContent),
    Lease(#[serde(with = "LeaseForm")] LeaseContent),
    Equivocation(#[serde(with = "EquivocationForm")] EquivocationContent),
    Anchor(#[serde(with = "AnchorForm")] AnchorContent),
    Exchange(#[serde(with = "ExchangeForm")] ExchangeContent),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "AnchorContent", deny_unknown_fields)]
struct AnchorForm {
    grade: u8,
    #[serde(with = "HeaderForm")]
    header: BlockHeader,
    certificate: Certificate,
    #[serde(with = "hex_bytes")]
    leads: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ExchangeContent", deny_unknown_fields)]
struct ExchangeForm {
    acid: String,
    #[serde(with = "decimal")]
    number: u64,
    ceid: String,
    grade: u8,
    step: ExchangeStep,
    sealed: Hash,
    header: Option<Hash>,
    #[serde(with = "decimal")]
    t_timestamp: i64,
    #[serde(with = "optional_decimal")]
    t_confirm: Option<i64>,
    hub: String,
    signature: Signature,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "LeaseContent", deny_unknown_fields)]
struct LeaseForm {
    device: String,
    #[serde(with = "decimal")]
    epoch: u64,
    hub: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "EquivocationContent", deny_unknown_fields)]
struct EquivocationForm {
    #[serde(with = "hex_bytes")]
    evidence: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "BatchContent", deny_unknown_fields)]
struct BatchForm {
    device: String,
    #[serde(with = "decimal")]
    epoch: u64,
    #[serde(with = "decimal")]
    sequence: u64,
    samples: u32,
    grade: u8,
    inner_root: Hash,
    #[serde(with = "sealed")]
    sealed: Option<SealedRef>,
    verdict: VerdictSummary,
    judged_by: Hash,
    attester: Option<Attestation>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SealedRef", deny_unknown_fields)]
struct SealedForm {
    hash: Hash,
    #[serde(with = "decimal")]
    length: u64,
    #[serde(with = "decimal")]
    key_epoch: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "DocumentContent", deny_unknown_fields)]
struct DocumentForm {
    kind: String,
    #[serde(with = "decimal")]
    version: u64,
    commitment: Hash,
    #[serde(with = "SealedForm")]
    sealed: SealedRef,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "MessageContent", deny_unknown_fields)]
struct MessageForm {
    kind: String,
    commitment: Hash,
    #[serde(with = "SealedForm")]
    sealed: SealedRef,
}

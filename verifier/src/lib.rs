//! What an auditor needs to check a Weighbridge ledger without Weighbridge: the formats, the two
//! Merkle trees, the signatures and the evidence file.
//!
//! Architecture invariant: no network, no async, no storage and no clock in this crate or below it.
//! The hub uses the very same code, so what it writes and what an auditor checks cannot drift apart.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod block;
pub mod centres;
mod certificate;
pub mod checkpoint;
pub mod codec;
mod compress;
pub mod equivocation;
pub mod evidence;
pub mod exchange;
pub mod hash;
pub mod membership;
pub mod merkle;
pub mod note;
mod plain;
pub mod quorum;
pub mod record;
pub mod relay;
pub mod rotation;
pub mod sample;
pub mod settings;
pub mod signature;
pub mod succession;
pub mod suite;
pub mod tree;
mod validators;
pub mod vote;

#[cfg(test)]
mod decoding_tests;

pub use block::{
    Block, BlockHeader, BlockValue, CommitCertificate, CommitSignature, Validator, ValidatorSet,
};
pub use centres::{CentreShare, CentresContent, DerivedContent};
pub use certificate::Certificate;
pub use codec::{DecodeError, decode, encode};
pub use exchange::{AnchorContent, ExchangeContent, ExchangeStep};
pub use hash::{Hash, sha256};
pub use membership::{EquivocationContent, Faults, HubChange, HubVoteContent, LeaseContent};
pub use plain::plain;
pub use quorum::QuorumCertificate;
pub use record::{
    Action, Attestation, BatchContent, Content, DocumentContent, IdentityContent, IdentityKind,
    MessageContent, Record, RecordBody, Response, SealedRef, VerdictClass, VerdictSummary,
};
pub use rotation::RotationContent;
pub use sample::{Quality, Salt, TagDigest, Value};
pub use signature::{KeyCache, PublicKey, Signature, SignatureCheck, SignatureError};
pub use suite::Suite;

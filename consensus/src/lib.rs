//! The agreement of several hubs on one chain of values, behind a small trait of our own.
//!
//! Bytes in, bytes out: nothing here knows what a record or a block is. An [`Application`] says where
//! its chain stands, makes a value when it has something to record, says whether another hub's value
//! holds, and stores what was decided; an [`Engine`] gives it decisions, each with a [`Certificate`] that
//! the verifier can check without an engine, and [evidence](check_evidence) against hubs that say two
//! things at once.
//!
//! Architecture invariant: the engine that stands behind the trait, `arc-malachitebft` and the libp2p
//! that it brings, is named in [`malachite`] and nowhere else in the house
//! (`docs/adr/030-consensus-behind-a-trait.md`).

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

// For what the tests of this crate and those beside it have in common.
#[cfg(test)]
extern crate self as weighbridge_consensus;

mod application;
mod certificate;
mod engine;
pub mod malachite;
mod validators;

pub use application::{Alarm, Application, Decided, Proposed, Refused, Slot, Stored, Tip, Verdict};
pub use certificate::{Certificate, CertificateError, MAX_SIGNATURES};
pub use engine::{
    Chain, Engine, EngineError, Faults, NetworkKey, Peer, Progress, Setup, Sign, Timing,
};
pub use validators::{Validator, Validators, ValidatorsError};
pub use weighbridge_verifier::equivocation::check_evidence;
pub use weighbridge_verifier::{Hash, PublicKey, Signature};

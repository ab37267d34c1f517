//! What certifies a block: a hub's own signature, or the precommits of several.

use crate::block::{BlockError, BlockHeader, CommitCertificate, CommitSignature, ValidatorSet};
use crate::quorum::QuorumCertificate;
use crate::signature::{DirectCheck, SignatureCheck};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::io;

/// What certifies a block. Which of the two it is, the version in the block's header says: nothing of that
/// is in the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Certificate {
    /// Of version 1: by the hub that made the block.
    Solo(CommitCertificate),
    /// Of version 2: by the hubs that decided it.
    Quorum(QuorumCertificate),
}

impl Certificate {
    /// The signatures, each by another hub.
    pub fn signatures(&self) -> &[CommitSignature] {
        match self {
            Self::Solo(solo) => &solo.signatures,
            Self::Quorum(quorum) => &quorum.signatures,
        }
    }

    /// The round in which several hubs decided.
    pub fn round(&self) -> Option<u32> {
        match self {
            Self::Solo(_) => None,
            Self::Quorum(quorum) => Some(quorum.round),
        }
    }

    /// The precommits, where there are some.
    pub fn quorum(&self) -> Option<&QuorumCertificate> {
        match self {
            Self::Solo(_) => None,
            Self::Quorum(quorum) => Some(quorum),
        }
    }

    /// Checks that it is of the kind that `header` asks for, that enough hubs of `set` signed, each once,
    /// and that `set` is the header's.
    pub fn verify(&self, header: &BlockHeader, set: &ValidatorSet) -> Result<(), BlockError> {
        self.verify_with(header, set, &DirectCheck)
    }

    /// The same, with the caller's way of checking signatures.
    pub fn verify_with(
        &self,
        header: &BlockHeader,
        set: &ValidatorSet,
        check: &dyn SignatureCheck,
    ) -> Result<(), BlockError> {
        self.check_kind(header)?;
        match self {
            Self::Solo(solo) => solo.verify_with(header, set, check),
            Self::Quorum(quorum) => quorum.verify_with(header, set, check),
        }
    }

    /// Whether it is of the kind that `header` asks for.
    pub fn check_kind(&self, header: &BlockHeader) -> Result<(), BlockError> {
        match self.quorum().is_some() == header.is_shared() {
            true => Ok(()),
            false => Err(BlockError::CertificateKind),
        }
    }

    pub(crate) fn write<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        match self {
            Self::Solo(solo) => BorshSerialize::serialize(solo, writer),
            Self::Quorum(quorum) => BorshSerialize::serialize(quorum, writer),
        }
    }

    /// Reads the one that ends a block with `header`. What a header of an unknown version asks for is not
    /// known either; its version is refused where it is checked.
    pub(crate) fn read<R: io::Read>(header: &BlockHeader, reader: &mut R) -> io::Result<Self> {
        match header.is_shared() {
            true => QuorumCertificate::deserialize_reader(reader).map(Self::Quorum),
            false => CommitCertificate::deserialize_reader(reader).map(Self::Solo),
        }
    }
}

impl From<CommitCertificate> for Certificate {
    fn from(solo: CommitCertificate) -> Self {
        Self::Solo(solo)
    }
}

impl From<QuorumCertificate> for Certificate {
    fn from(quorum: QuorumCertificate) -> Self {
        Self::Quorum(quorum)
    }
}

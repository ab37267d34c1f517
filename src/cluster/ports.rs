//! What the links between hubs need of the rest of the hub.

use crate::crypto::{SealingPublicKey, SealingWord};
use crate::ledger::shared::{Carried, Want};
use crate::ledger::store::Put;
use tokio::sync::watch;
use weighbridge_verifier::Hash;

/// The chain as the links see it: this hub's own records for the others, and what the others have for it.
///
/// Every call may take as long as a disk does; the links call from threads that may be blocked. An error of
/// kind [`Lie`](FaultKind::Lie) says that the hub at the other end says what it cannot believe itself: its link is closed, and it
/// is counted. One of kind [`Failed`](FaultKind::Failed) is this hub's own trouble: the link is closed and tried again later.
pub trait MeshBook: Send + Sync + 'static {
    /// Number of the next record that this hub needs of `hub`.
    fn wanted(&self, hub: &str) -> u64;

    /// Own records that no block has yet, in order: from number `from` on, or from the first such record when
    /// that one comes later. As many as are in `max_bytes`, but one at least if there is one.
    ///
    /// # Errors
    /// They cannot be read.
    fn own(&self, from: u64, max_bytes: usize) -> Result<OwnRun, Fault>;

    /// The generation of the own records, which is another one whenever some were signed anew at other places,
    /// and the number of the newest.
    fn own_changed(&self) -> watch::Receiver<(u64, u64)>;

    /// Takes records of `hub`, which it says itself, and how many it took, from the first on. They have numbers
    /// without gaps, and replace all that was taken of that hub from the first number on. Those that are in a block
    /// already are passed over, and count as taken. It may take less than all: there is no room, or records before them
    /// are not here yet. Then the others are offered again when [`tip`](Self::tip) has changed; or, where
    /// [`wanted`](Self::wanted) says that what was taken before is here no more, that is asked for again.
    ///
    /// # Errors
    /// The records do not hold, or they cannot be kept. One that does not point back to the one before may be an
    /// honest hub's that is ahead of this one: it is not taken, and no error.
    fn take(&self, hub: &str, run: Vec<Carried>) -> Result<usize, Fault>;

    /// Height and hash of the newest block here.
    fn tip(&self) -> watch::Receiver<(u64, Hash)>;

    /// `hub` says that this is its newest block. Nobody has checked it.
    fn heard(&self, hub: &str, tip: (u64, Hash));

    /// Blocks from height `from` on, canonical bytes, in order: as many as are in `max_bytes`, but one at least if
    /// there is one.
    ///
    /// # Errors
    /// They cannot be read.
    fn blocks(&self, from: u64, max_bytes: usize) -> Result<Vec<Vec<u8>>, Fault>;

    /// Takes blocks that follow the newest one here, checked in full; [`tip`](Self::tip) says how far it came.
    ///
    /// # Errors
    /// They do not hold, or they cannot be kept.
    fn take_blocks(&self, blocks: Vec<Vec<u8>>) -> Result<(), Fault>;

    /// Sealed bytes of records on the chain that are not here, at most `limit` of them. What is missing changes
    /// only with [`tip`](Self::tip), and by [`bring`](Self::bring).
    fn missing(&self, limit: usize) -> Vec<Want>;

    /// The sealed bytes, and all wraps of their key; nothing when they are not here.
    ///
    /// # Errors
    /// They cannot be read.
    fn lend(&self, want: &Want) -> Result<Vec<Put>, Fault>;

    /// Keeps what another hub lent, once it is checked against the records.
    ///
    /// # Errors
    /// It is not what the records name, or it cannot be kept.
    fn bring(&self, puts: Vec<Put>) -> Result<(), Fault>;

    /// Whether keys of the chain are not wrapped to this hub as far as is known here, and others may have wrapped them.
    ///
    /// # Errors
    /// That cannot be read.
    fn lacks_wraps(&self) -> Result<bool, Fault>;

    /// Rises when there is a new reason to ask for wraps.
    fn wraps_wanted(&self) -> watch::Receiver<u64>;

    /// Wraps for `hub` that lie here, from this place among all wraps on; as many as one answer has room for.
    ///
    /// # Errors
    /// They cannot be read.
    fn lend_wraps(&self, hub: &str, from: &[u8]) -> Result<LentWraps, Fault>;

    /// Keeps wraps for this hub that another one lent, as far as a hub of the chain signed them and they open; how many
    /// were new.
    ///
    /// # Errors
    /// They are for somebody else, or cannot be kept.
    fn bring_wraps(&self, puts: Vec<Put>) -> Result<usize, Fault>;

    /// What a user logs in by, sealed to the key of `hub`; nothing when it is not here.
    ///
    /// # Errors
    /// It cannot be read or sealed.
    fn lend_credentials(&self, hub: &str, user: &str) -> Result<Option<Vec<u8>>, Fault>;

    /// What is sealed for `hub` is sealed to this key from now on. The word was checked against the hub's key.
    fn sealing(&self, hub: &str, word: SealingWord);
}

/// Wraps for another hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LentWraps {
    /// Them.
    pub puts: Vec<Put>,
    /// Where to go on; `None` at the end.
    pub next: Option<Vec<u8>>,
    /// Whether every key that this hub opens had been wrapped to the other before they were looked for.
    pub all: bool,
}

/// What users log in by, as far as it is here.
pub trait CredentialLender: Send + Sync + 'static {
    /// What a user logs in by, sealed to this key; nothing when what is on record is not here. Blocking.
    ///
    /// # Errors
    /// Why it cannot be read or sealed.
    fn parcel(&self, user: &str, to: &SealingPublicKey) -> Result<Option<Vec<u8>>, String>;
}

/// Records of this hub in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRun {
    /// The generation that they are of.
    pub generation: u64,
    /// Them.
    pub run: Vec<Carried>,
}

/// Whose trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The other hub says what is not so.
    Lie,
    /// This hub cannot do it now.
    Failed,
}

/// Why the rest of the hub does not do what a link asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Fault {
    /// Whose trouble it is.
    pub kind: FaultKind,
    /// Why, in plain words.
    pub why: String,
}

impl Fault {
    /// The other hub says what is not so.
    pub fn lie(why: impl ToString) -> Self {
        Self {
            kind: FaultKind::Lie,
            why: why.to_string(),
        }
    }

    /// This hub cannot do it now.
    pub fn failed(why: impl ToString) -> Self {
        Self {
            kind: FaultKind::Failed,
            why: why.to_string(),
        }
    }

    /// Whether the other hub is to blame.
    pub fn is_lie(&self) -> bool {
        self.kind == FaultKind::Lie
    }
}

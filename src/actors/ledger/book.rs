//! What the actor writes into: the chain of a hub that decides alone, or this hub's part of one that several share.

use super::messages::Keys;
use crate::cluster::{Recorded, SharedBook};
use crate::ledger::state::AttestedBy;
use crate::ledger::store::Put;
use crate::ledger::{Draft, Ledger, LedgerError, State, Tip};
use crate::model::Nanos;
use std::sync::Arc;
use weighbridge_verifier::{Block, CentresContent, Record};

/// A chain to be written.
pub enum Book {
    /// This hub decides alone: what is durable is in a block.
    Solo(Box<Ledger>),
    /// Several hubs decide: what is durable is in this hub's own chain of records, and in a block later.
    Shared(Arc<SharedBook>),
}

/// What is durable now.
pub struct Written {
    /// The records.
    pub records: Vec<Record>,
    /// The block that has them; `None` where several hubs decide when that is.
    pub block: Option<Tip>,
    /// What the ledger has of the devices whose batches are among them.
    pub attested: AttestedBy,
    /// Why what was to come last is not among them, if so.
    pub refused: Option<String>,
}

/// A ledger between two writes.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The state after everything that this hub made durable.
    pub state: &'a State,
    /// The newest block.
    pub tip: Tip,
    /// The records by which hubs changed their keys.
    pub rotations: &'a [Record],
}

impl From<Ledger> for Book {
    fn from(ledger: Ledger) -> Self {
        Self::Solo(Box::new(ledger))
    }
}

impl Book {
    /// Makes these durable, with what belongs to them, as [`Ledger::append`] does; what is to be `last` is looked
    /// at first, and may be refused.
    pub fn append(
        &mut self,
        drafts: Vec<Draft>,
        last: Option<Draft>,
        puts: Vec<Put>,
        now: Nanos,
    ) -> Result<Written, LedgerError> {
        match self {
            Self::Solo(ledger) => {
                let (drafts, refused) = with_last(drafts, last, |last| ledger.takes(last, now));
                if drafts.is_empty() {
                    return Ok(Written::nothing(refused));
                }
                let block = ledger.append(&drafts, puts, now)?;
                Ok(Written::of(block, ledger.state(), refused))
            }
            Self::Shared(book) => Ok(book.append(drafts, last, puts, now)?.into()),
        }
    }

    /// Tries again what the disk refused.
    pub(super) fn retry(&mut self) -> Result<Written, LedgerError> {
        match self {
            Self::Solo(ledger) => {
                let block = ledger.retry()?;
                Ok(Written::of(block, ledger.state(), None))
            }
            Self::Shared(book) => Ok(book.retry()?.into()),
        }
    }

    /// What others share, if they do.
    pub fn shared(&self) -> Option<&Arc<SharedBook>> {
        match self {
            Self::Solo(_) => None,
            Self::Shared(book) => Some(book),
        }
    }

    /// Has a look at it. Blocks as long as a disk takes where the chain is shared.
    pub fn look<T>(&self, look: impl FnOnce(View<'_>) -> T) -> T {
        match self {
            Self::Solo(ledger) => look(View {
                state: ledger.state(),
                tip: *ledger.tip(),
                rotations: ledger.rotations(),
            }),
            Self::Shared(book) => look_at(book, look),
        }
    }
}

/// The drafts with the last one, or why that may not come.
fn with_last(
    mut drafts: Vec<Draft>,
    last: Option<Draft>,
    takes: impl FnOnce(&Draft) -> Result<(), String>,
) -> (Vec<Draft>, Option<String>) {
    let Some(last) = last else {
        return (drafts, None);
    };
    match takes(&last) {
        Ok(()) => {
            drafts.push(last);
            (drafts, None)
        }
        Err(why) => (drafts, Some(why)),
    }
}

impl Written {
    fn nothing(refused: Option<String>) -> Self {
        Self {
            records: Vec::new(),
            block: None,
            attested: AttestedBy::new(),
            refused,
        }
    }

    fn of(block: Block, state: &State, refused: Option<String>) -> Self {
        Self {
            attested: state.attested_by(&block.records),
            block: Some(Tip::of(&block.header)),
            records: block.records,
            refused,
        }
    }
}

impl From<Recorded> for Written {
    fn from(recorded: Recorded) -> Self {
        Self {
            records: recorded.records,
            block: None,
            attested: recorded.attested,
            refused: recorded.refused,
        }
    }
}

impl From<Arc<SharedBook>> for Book {
    fn from(book: Arc<SharedBook>) -> Self {
        Self::Shared(book)
    }
}

/// Has a look at a shared ledger. Blocking.
pub(super) fn look_at<T>(book: &SharedBook, look: impl FnOnce(View<'_>) -> T) -> T {
    book.look(|state, tip, rotations| {
        look(View {
            state,
            tip,
            rotations,
        })
    })
}

/// The keys of all identities, as a ledger has them.
pub fn keys_of(view: View<'_>) -> Keys {
    let state = view.state;
    let identities = state.identities().iter().map(|(id, identity)| {
        let former = state.former_keys(id).to_vec();
        (id.clone(), (identity.clone(), former))
    });
    let centres = state.centres().iter();
    let centres = centres.map(|(version, members)| CentresContent {
        version: *version,
        members: members.clone(),
    });
    Keys {
        identities: identities.collect(),
        rotations: view.rotations.to_vec(),
        centres: centres.collect(),
    }
}

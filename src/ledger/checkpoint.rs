//! Checkpoints of a ledger: its tree, read from the stored blocks, and the signed note of its head.
//!
//! The tree is not stored. Its root is made up from the blocks' hashes when somebody asks, in one pass
//! over the store; what was read stays in memory (one edge for the newest block and one for each of
//! the last checkpoints), so that the next question costs only the blocks since. Nothing is added to
//! the writing of a block, and there is no second copy of the truth that could differ from the first.

use super::keys::{height_key, height_of};
use super::proof::genesis_validators;
use super::store::{Space, Store, StoreError};
use crate::crypto::{CheckpointKey, Signer};
use std::collections::BTreeMap;
use std::sync::Arc;
use weighbridge_verifier::checkpoint::{Checkpoint, Submission, origin};
use weighbridge_verifier::note::{Note, NoteKey};
use weighbridge_verifier::tree::{ConsistencyProver, TreeEdge};
use weighbridge_verifier::{
    Block, BlockHeader, DecodeError, Hash, PublicKey, ValidatorSet, decode, rotation,
};

/// Earlier trees that are remembered, newest ones: a witness asks from the last one it cosigned.
const MAX_MARKS: usize = 64;

/// Why there is no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored block cannot be read.
    #[error("the ledger is damaged: block {height}: {why}")]
    Damaged {
        /// Its height.
        height: u64,
        /// Why.
        why: DecodeError,
    },
    /// A block is not there, or stands elsewhere.
    #[error("the ledger is damaged: block {0} is not where it should be")]
    Missing(u64),
    /// There is no block.
    #[error("the ledger is empty: there is nothing to make a checkpoint of")]
    Empty,
    /// Fewer blocks than somebody has seen.
    #[error(
        "the ledger has {have} blocks, and {asked} were asked for: it was cut short, or it is another ledger"
    )]
    Short {
        /// Blocks there are.
        have: u64,
        /// Blocks asked for.
        asked: u64,
    },
}

/// The tree of a ledger as far as it was read.
pub struct LedgerTree {
    store: Arc<dyn Store>,
    origin: String,
    key: PublicKey,
    edge: TreeEdge,
    /// Edges of earlier sizes.
    marks: BTreeMap<u64, TreeEdge>,
}

impl LedgerTree {
    /// Of the ledger in `store`; reads its first block.
    pub fn open(store: Arc<dyn Store>) -> Result<Self, CheckpointError> {
        let first = store.get(Space::Blocks, &height_key(1))?;
        let first = first.ok_or(CheckpointError::Empty)?;
        let why = |why| CheckpointError::Damaged { height: 1, why };
        let block: Block = decode("block", &first).map_err(why)?;
        let validators = genesis_validators(&block);
        let hub = validators.as_ref().and_then(|set| set.validators.first());
        let key = hub.ok_or(CheckpointError::Missing(1))?.key;
        Ok(Self {
            store,
            origin: origin(&block.header.chain, &block.header.hash()),
            key,
            edge: TreeEdge::default(),
            marks: BTreeMap::new(),
        })
    }

    /// Name of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The hub's own key.
    pub fn hub(&self) -> PublicKey {
        self.key
    }

    /// The hub's own key, as one that signs notes.
    pub fn hub_key(&self) -> NoteKey {
        hub_key(&self.origin, self.key)
    }

    /// Whether the hub signs by `key` after the newest block.
    pub fn signs_by(&self, key: &PublicKey) -> Result<bool, CheckpointError> {
        let last = self.store.last(Space::Blocks)?;
        let (at, value) = last.ok_or(CheckpointError::Empty)?;
        let height = height_of(&at).ok_or(CheckpointError::Missing(0))?;
        let why = |why| CheckpointError::Damaged { height, why };
        let block: Block = decode("block", &value).map_err(why)?;
        let given = block
            .records
            .iter()
            .filter_map(rotation::of_hub)
            .next_back();
        if let Some((_, given)) = given {
            return Ok(given == *key);
        }
        let header = &block.header;
        let alone = ValidatorSet::solo(&header.proposer, *key);
        Ok(alone.hash(header.suite()) == header.validators_hash)
    }

    /// The tree of all blocks that are stored by now.
    pub fn head(&mut self) -> Result<Checkpoint, CheckpointError> {
        let newest = self.newest()?;
        let mut edge = self.edge.clone();
        self.leaves(edge.size(), newest, |leaf| edge.push(leaf))?;
        self.edge = edge;
        self.mark(self.edge.clone());
        Ok(self.at(&self.edge))
    }

    /// The tree of the first `size` blocks.
    pub fn at_size(&mut self, size: u64) -> Result<Checkpoint, CheckpointError> {
        let edge = self.edge_at(size)?;
        Ok(self.at(&edge))
    }

    /// The tree of `size` blocks (of all when `None`), and the proof that it extends the one of `old`.
    pub fn extending(
        &mut self,
        old: u64,
        size: Option<u64>,
    ) -> Result<(Checkpoint, Vec<Hash>), CheckpointError> {
        let head = match size {
            Some(size) => self.at_size(size)?,
            None => self.head()?,
        };
        let (have, asked) = (head.size, old);
        if old == 0 {
            return Ok((head, Vec::new()));
        }
        let edge = self.edge_at(old)?;
        self.mark(edge.clone());
        let short = CheckpointError::Short { have, asked };
        let mut prover = ConsistencyProver::new(&edge, have).ok_or(short)?;
        self.leaves(old, have, |leaf| prover.push(leaf))?;
        let proof = prover.finish().ok_or(CheckpointError::Missing(have))?;
        Ok((head, proof))
    }

    fn at(&self, edge: &TreeEdge) -> Checkpoint {
        Checkpoint {
            origin: self.origin.clone(),
            size: edge.size(),
            root: edge.root(),
            extensions: Vec::new(),
        }
    }

    fn edge_at(&mut self, size: u64) -> Result<TreeEdge, CheckpointError> {
        if let Some(edge) = self.marks.get(&size) {
            return Ok(edge.clone());
        }
        let have = self.newest()?;
        if size > have {
            return Err(CheckpointError::Short { have, asked: size });
        }
        // From the greatest remembered size below.
        let before = self.marks.range(..size).next_back();
        let mut edge = before.map(|(_, edge)| edge.clone()).unwrap_or_default();
        self.leaves(edge.size(), size, |leaf| edge.push(leaf))?;
        Ok(edge)
    }

    fn mark(&mut self, edge: TreeEdge) {
        self.marks.insert(edge.size(), edge);
        if self.marks.len() > MAX_MARKS {
            self.marks.pop_first();
        }
    }

    fn newest(&self) -> Result<u64, CheckpointError> {
        let last = self.store.last(Space::Blocks)?;
        let (key, _) = last.ok_or(CheckpointError::Empty)?;
        height_of(&key).ok_or(CheckpointError::Missing(0))
    }

    /// The leaves of blocks `from + 1` to `to`.
    fn leaves(
        &self,
        from: u64,
        to: u64,
        mut push: impl FnMut(Hash),
    ) -> Result<(), CheckpointError> {
        let mut height = from;
        if from >= to {
            return Ok(());
        }
        for entry in self.store.scan(Space::Blocks, &height_key(from + 1)) {
            let (key, value) = entry?;
            height += 1;
            let header = read_header(height, &value)?;
            if height_of(&key) != Some(height) || header.height != height {
                return Err(CheckpointError::Missing(height));
            }
            push(header.leaf());
            if height == to {
                return Ok(());
            }
        }
        Err(CheckpointError::Missing(height + 1))
    }
}

/// A hub's own key, as one that signs the notes of the log `origin`.
pub fn hub_key(origin: &str, key: PublicKey) -> NoteKey {
    NoteKey::of_hub(origin, key)
}

/// A block begins with its header: the records after it need not be read for its hash.
fn read_header(height: u64, mut block: &[u8]) -> Result<BlockHeader, CheckpointError> {
    borsh::BorshDeserialize::deserialize(&mut block).map_err(|error| {
        let why = DecodeError {
            what: "block header",
            reason: error.to_string(),
        };
        CheckpointError::Damaged { height, why }
    })
}

/// The signed note of `checkpoint`: one line by the checkpoint key, which witnesses know, and one by
/// the hub's own key, which signs blocks.
pub fn sign(checkpoint: &Checkpoint, key: &CheckpointKey, hub: &dyn Signer) -> Note {
    let text = checkpoint.to_string();
    let origin = &checkpoint.origin;
    let mut signatures = vec![key.sign(origin, &text)];
    let message = hub.suite().hash(&[text.as_bytes()]);
    let (by, own) = loop {
        let (by, own) = (hub.public_key(), hub.sign(&message));
        // It may just get another key; one that it had does not come back.
        if hub.public_key() == by {
            break (by, own);
        }
    };
    let line = hub_key(origin, by).line_of_hub(&own);
    signatures.extend(line);
    Note { text, signatures }
}

/// The checkpoint of `size` blocks (of all when `None`), signed, with the proof that it extends the
/// tree of `old` blocks.
pub fn submission_of(
    tree: &mut LedgerTree,
    (old, size): (u64, Option<u64>),
    key: &CheckpointKey,
    hub: &dyn Signer,
) -> Result<Submission, CheckpointError> {
    let (head, proof) = tree.extending(old, size)?;
    let note = sign(&head, key, hub);
    Ok(Submission { old, proof, note })
}

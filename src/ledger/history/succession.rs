//! Who signs which block: the set of the first block, and the records that changed it.

use super::PastError;
use crate::ledger::proof::genesis_validators;
use crate::ledger::query::{Explorer, block_at};
use crate::ledger::store::Store;
use weighbridge_verifier::succession::key_change;
use weighbridge_verifier::{Block, BlockHeader, ValidatorSet};

/// Follows the set of a chain from its first block upwards.
///
/// Every header names the set that signs it by a hash. So between a block of one set and a later one
/// of another a change is found in as many steps as the distance has bits, and no index is needed.
pub struct Succession<'a> {
    store: &'a dyn Store,
    set: ValidatorSet,
    /// A block that this set signs.
    at: u64,
}

impl<'a> Succession<'a> {
    /// At the first block.
    pub fn begin(explorer: &'a Explorer) -> Result<Self, PastError> {
        Self::over(explorer.store())
    }

    /// At the first block of the chain in `store`.
    pub fn over(store: &'a dyn Store) -> Result<Self, PastError> {
        let genesis = block_at(store, 1)?.ok_or(PastError::Genesis)?;
        let set = genesis_validators(&genesis).ok_or(PastError::Genesis)?;
        let at = 1;
        Ok(Self { store, set, at })
    }

    /// The set that signs the block that was last asked for.
    pub fn set(&self) -> &ValidatorSet {
        &self.set
    }

    /// Goes on to block `height`; the records that changed the set on the way, by block and index.
    pub fn until(&mut self, height: u64) -> Result<Vec<(Block, usize)>, PastError> {
        let mut changes = Vec::new();
        while self.at < height && !self.signs(&self.block(height)?.header) {
            let last = self.last_before(height)?;
            let block = self.block(last)?;
            self.take(&block, &mut changes);
            self.at = last + 1;
            if !self.signs(&self.block(self.at)?.header) {
                return Err(PastError::Succession(self.at));
            }
        }
        self.at = self.at.max(height);
        Ok(changes)
    }

    /// Goes on to the end of the chain, whose newest block is at `tip`: also over what that one changed.
    pub fn to_the_end(&mut self, tip: u64) -> Result<Vec<(Block, usize)>, PastError> {
        let mut changes = self.until(tip)?;
        let newest = self.block(tip)?;
        self.take(&newest, &mut changes);
        Ok(changes)
    }

    fn take(&mut self, block: &Block, changes: &mut Vec<(Block, usize)>) {
        for (index, record) in block.records.iter().enumerate() {
            if let Some(change) = key_change(&self.set, &record.body) {
                self.set.change(&change);
                changes.push((block.clone(), index));
            }
        }
    }

    /// The last block that the set signs before one of another set, below `height`, which has another.
    fn last_before(&self, height: u64) -> Result<u64, PastError> {
        let (mut own, mut other) = (self.at, height);
        while other - own > 1 {
            let middle = own + (other - own) / 2;
            match self.signs(&self.block(middle)?.header) {
                true => own = middle,
                false => other = middle,
            }
        }
        Ok(own)
    }

    fn signs(&self, header: &BlockHeader) -> bool {
        self.set.hash(header.suite()) == header.validators_hash
    }

    fn block(&self, height: u64) -> Result<Block, PastError> {
        let block = block_at(self.store, height)?;
        block.ok_or(PastError::Succession(height))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Signer;
    use crate::ledger::keys::height_key;
    use crate::ledger::proof::Exhibits;
    use crate::ledger::store::{Put, Space, Store};
    use crate::ledger::testing::{Memory, TestSigner};
    use std::sync::Arc;
    use weighbridge_verifier::block::{BLOCK_VERSION, commit_message};
    use weighbridge_verifier::evidence::{Evidence, EvidenceError, Trust};
    use weighbridge_verifier::record::RECORD_VERSION;
    use weighbridge_verifier::rotation::{RotationContent, rotation_message};
    use weighbridge_verifier::{
        Action, CommitCertificate, CommitSignature, Content, Hash, IdentityContent, IdentityKind,
        Record, RecordBody, Response, Suite, encode,
    };

    const SUITE: Suite = Suite::Nist;

    /// What block `height` records, when the hub's key is made of `byte` before it.
    fn content(height: u64, changes: &[(u64, u8)], byte: u8) -> (Action, Content) {
        let hub = |key| IdentityContent {
            id: "hub-1".to_owned(),
            kind: IdentityKind::Hub,
            key: Some(key),
        };
        if let Some((_, next)) = changes.iter().find(|(at, _)| *at == height) {
            let (replaces, next) = (key(byte), TestSigner::new(SUITE, "hub-1", *next));
            let identity = hub(next.public_key());
            let message = rotation_message(SUITE, "plant", &identity, &replaces);
            let rotation = RotationContent {
                identity,
                replaces,
                proof: next.sign(&message),
                consent: None,
            };
            return (Action::Membership, Content::Rotation(rotation));
        }
        match height {
            1 => (Action::Enrol, Content::Identity(hub(key(byte)))),
            _ => (Action::Read, Content::Commitment(Hash([9; 32]))),
        }
    }

    /// A chain of `blocks` blocks, each of one record, whose hub's key changes after the blocks named.
    /// The ledger's own rules are not asked: this is about who signs.
    fn chain(blocks: u64, changes: &[(u64, u8)]) -> Explorer {
        let store = Memory::default();
        let (mut byte, mut before) = (1, Hash::ZERO);
        for height in 1..=blocks {
            let signer = TestSigner::new(SUITE, "hub-1", byte);
            let time = i64::try_from(height).unwrap();
            let (action, content) = content(height, changes, byte);
            let body = RecordBody {
                version: SUITE.marked(RECORD_VERSION),
                chain: "plant".to_owned(),
                hub: "hub-1".to_owned(),
                sequence: height,
                previous: Hash::ZERO,
                time,
                subject: "hub:hub-1".to_owned(),
                action,
                object: "identity:hub-1".to_owned(),
                permit: None,
                content,
                response: Response::Accepted,
            };
            let signature = signer.sign(&body.hash());
            let records = vec![Record { body, signature }];
            let set = ValidatorSet::solo("hub-1", signer.public_key());
            let header = BlockHeader {
                version: SUITE.marked(BLOCK_VERSION),
                chain: "plant".to_owned(),
                height,
                previous_hash: before,
                time,
                record_count: 1,
                merkle_root: Block::merkle_root(SUITE, &records),
                state_hash: Hash::ZERO,
                validators_hash: set.hash(SUITE),
                proposer: "hub-1".to_owned(),
            };
            before = header.hash();
            let signature = signer.sign(&commit_message(&header));
            let validator = "hub-1".to_owned();
            let signatures = vec![CommitSignature {
                validator,
                signature,
            }];
            let block = Block {
                header,
                records,
                certificate: CommitCertificate { signatures }.into(),
            };
            let put = Put {
                space: Space::Blocks,
                key: height_key(height),
                value: encode(&block),
            };
            store.commit(&[put]).unwrap();
            if let Some((_, next)) = changes.iter().find(|(at, _)| *at == height) {
                byte = *next;
            }
        }
        Explorer::new(Arc::new(store))
    }

    /// The evidence of the records of these blocks, and of who signed them.
    fn shown(explorer: &Explorer, heights: &[u64]) -> Evidence {
        let mut succession = Succession::begin(explorer).unwrap();
        let mut exhibits = Exhibits::new(succession.set().clone());
        for height in heights {
            let block = explorer.block(*height).unwrap().unwrap();
            exhibits.show_record(&block, 0).unwrap();
            for (block, index) in succession.until(*height).unwrap() {
                exhibits.show_record(&block, index).unwrap();
            }
        }
        exhibits.into_evidence().unwrap()
    }

    fn key(byte: u8) -> weighbridge_verifier::PublicKey {
        TestSigner::new(SUITE, "hub-1", byte).public_key()
    }

    #[test]
    fn every_block_is_proven_from_the_first_set() {
        // The hub comes back to a key that it had, changes twice in a row, and in the last block.
        let changes = [(3, 2), (20, 1), (21, 3), (40, 4)];
        let explorer = chain(40, &changes);
        for heights in [
            vec![1, 2],
            vec![1, 4],
            vec![1, 10, 30],
            vec![1, 39],
            (1..=40).collect(),
        ] {
            let evidence = shown(&explorer, &heights);
            assert_eq!(evidence.verify(&[key(1)]).unwrap(), Trust::Key);
            let bytes = evidence.to_bytes();
            assert_eq!(Evidence::from_bytes(&bytes).unwrap(), evidence);
            for stranger in [7, 4] {
                let refused = evidence.verify(&[key(stranger)]).unwrap_err();
                assert!(matches!(refused, EvidenceError::Untrusted), "{refused}");
            }
        }
    }

    #[test]
    fn a_change_that_is_left_out_is_missed() {
        let explorer = chain(9, &[(3, 2), (6, 3)]);
        let whole = shown(&explorer, &[1, 5, 8]);
        assert_eq!(whole.blocks.len(), 5);
        for height in [3, 6] {
            let mut less = whole.clone();
            less.blocks.retain(|block| block.header.height != height);
            let refused = less.verify(&[key(1)]);
            assert!(
                matches!(refused, Err(EvidenceError::RecordSignature(_))),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_trusted_key_does_not_speak_for_what_was_before_it() {
        let explorer = chain(9, &[(3, 2)]);
        let mut succession = Succession::begin(&explorer).unwrap();
        succession.until(9).unwrap();
        let mut exhibits = Exhibits::new(succession.set().clone());
        let newest = explorer.block(9).unwrap().unwrap();
        exhibits.show_record(&newest, 0).unwrap();
        let evidence = exhibits.into_evidence().unwrap();
        assert_eq!(evidence.verify(&[key(2)]).unwrap(), Trust::Key);
        assert!(evidence.verify(&[key(1)]).is_err());
        let from_the_first = shown(&explorer, &[1, 9]);
        assert!(from_the_first.verify(&[key(2)]).is_err());
    }

    #[test]
    fn a_set_that_no_record_made_is_an_error() {
        // A block that says of itself that another key signs it.
        let odd = chain(6, &[]);
        let other = chain(6, &[(3, 2)]);
        let store = Memory::default();
        for height in 1..=6 {
            let from = if height < 4 { &odd } else { &other };
            let block = from.block(height).unwrap().unwrap();
            let put = Put {
                space: Space::Blocks,
                key: height_key(height),
                value: encode(&block),
            };
            store.commit(&[put]).unwrap();
        }
        let explorer = Explorer::new(Arc::new(store));
        let mut succession = Succession::begin(&explorer).unwrap();
        let error = succession.until(6).unwrap_err();
        assert!(matches!(error, PastError::Succession(4)), "{error}");
    }
}

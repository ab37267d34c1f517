//! Who signs which block: the set of the first block, and the records that changed it.

use super::PastError;
use crate::ledger::proof::genesis_validators;
use crate::ledger::query::{Explorer, block_at};
use crate::ledger::store::Store;
use std::collections::BTreeMap;
use weighbridge_verifier::succession::{Succession as Counter, key_change};
use weighbridge_verifier::{Block, BlockHeader, Content, Hash, RecordBody, ValidatorSet};

/// Follows the set of a chain from its first block upwards.
///
/// Every header names the set that signs it by a hash. So between a block of one set and a later one
/// of another a change is found in as many steps as the distance has bits, and no index is needed. Votes that
/// made it are looked for from there downwards: hubs vote within a time that people need to agree.
pub struct Succession<'a> {
    store: &'a dyn Store,
    genesis: ValidatorSet,
    /// The records that made the set, and the votes that counted.
    steps: Steps,
    /// What they lead to.
    counter: Counter,
    /// A block that this set signs.
    at: u64,
}

/// Records by height and index.
type Steps = BTreeMap<(u64, usize), Step>;

#[derive(Clone)]
struct Step {
    body: RecordBody,
    /// The set that the block names.
    signed_by: Hash,
}

impl<'a> Succession<'a> {
    /// At the first block.
    pub fn begin(explorer: &'a Explorer) -> Result<Self, PastError> {
        Self::over(explorer.store())
    }

    /// At the first block of the chain in `store`.
    pub fn over(store: &'a dyn Store) -> Result<Self, PastError> {
        let genesis = block_at(store, 1)?.ok_or(PastError::Genesis)?;
        let genesis = genesis_validators(&genesis).ok_or(PastError::Genesis)?;
        Ok(Self {
            store,
            counter: Counter::new(genesis.clone()),
            genesis,
            steps: Steps::new(),
            at: 1,
        })
    }

    /// The set that signs the block that was last asked for.
    pub fn set(&self) -> &ValidatorSet {
        self.counter.set()
    }

    /// Goes on to block `height`; the records that changed the set on the way, and the votes that counted, by
    /// block and index. Votes can be of blocks before the one asked for last.
    pub fn until(&mut self, height: u64) -> Result<Vec<(Block, usize)>, PastError> {
        let mut changes = Vec::new();
        while self.at < height && !self.signs(&self.block(height)?.header) {
            let last = self.last_before(height)?;
            let wanted = self.block(last + 1)?.header.validators_hash;
            let found = match self.steps_to(last, wanted)? {
                Some(found) => found,
                None => self.all_steps_to(last)?,
            };
            self.take(found, &mut changes)?;
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
        let found = match newest.records.iter().any(|r| is_vote(&r.body)) {
            // No header says yet what they led to.
            true => self.all_steps_to(tip)?,
            false => steps_of(&newest),
        };
        self.take(found, &mut changes)?;
        Ok(changes)
    }

    /// The records that lead from the set to the one with the hash `wanted`, which signs the block after
    /// `last`; `None` where they are not found by looking at the votes alone.
    fn steps_to(&self, last: u64, wanted: Hash) -> Result<Option<Steps>, PastError> {
        let block = self.block(last)?;
        let suite = block.header.suite();
        let mut found = steps_of(&block);
        let on: Vec<String> = found.values().filter_map(|s| voted_on(&s.body)).collect();
        let mut below = last;
        loop {
            match self.count(&found) {
                Some((counter, counted)) if counter.set().hash(suite) == wanted => {
                    return Ok(Some(counted));
                }
                // A vote is of a time that was passed over, because the set came back to what it was.
                None => return Ok(None),
                Some(_) => {}
            }
            // An earlier vote on one of the hubs that were voted on here.
            let before = found.len();
            while found.len() == before {
                below -= 1;
                if on.is_empty() || below < 2 {
                    return Ok(None);
                }
                let earlier = steps_of(&self.block(below)?).into_iter();
                found.extend(
                    earlier.filter(|(_, step)| {
                        voted_on(&step.body).is_some_and(|hub| on.contains(&hub))
                    }),
                );
            }
        }
    }

    /// Every record up to block `last` that counted, one block after the other.
    fn all_steps_to(&self, last: u64) -> Result<Steps, PastError> {
        let mut counter = Counter::new(self.genesis.clone());
        let mut all = Steps::new();
        for height in 1..=last {
            for (place, step) in steps_of(&self.block(height)?) {
                if counts(&counter, &step.body) {
                    counter.apply(&step.body);
                    all.insert(place, step);
                }
            }
        }
        Ok(all)
    }

    /// What the steps so far and those that were `found` lead to, and which of the latter counted. `None`
    /// where one of them is in a block that another set signed than they lead to.
    fn count(&self, found: &Steps) -> Option<(Counter, Steps)> {
        let mut counter = Counter::new(self.genesis.clone());
        // The set signs a block as it was before it.
        let (mut height, mut signers) = (0, Hash::ZERO);
        let mut counted = Steps::new();
        let mut all = self.steps.clone();
        all.extend(found.clone());
        for (place, step) in all {
            if height != place.0 {
                let suite = step.body.suite();
                (height, signers) = (place.0, counter.set().hash(suite));
            }
            if !counts(&counter, &step.body) {
                continue;
            }
            if step.signed_by != signers {
                return None;
            }
            counter.apply(&step.body);
            counted.insert(place, step);
        }
        Some((counter, counted))
    }

    /// Makes the steps that were found.
    fn take(&mut self, found: Steps, changes: &mut Vec<(Block, usize)>) -> Result<(), PastError> {
        let height = found
            .keys()
            .next_back()
            .map_or(self.at, |(height, _)| *height);
        let counted = self.count(&found);
        let (counter, counted) = counted.ok_or(PastError::Succession(height))?;
        for place in counted.keys() {
            if !self.steps.contains_key(place) {
                changes.push((self.block(place.0)?, place.1));
            }
        }
        (self.counter, self.steps) = (counter, counted);
        Ok(())
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
        self.set().hash(header.suite()) == header.validators_hash
    }

    fn block(&self, height: u64) -> Result<Block, PastError> {
        let block = block_at(self.store, height)?;
        block.ok_or(PastError::Succession(height))
    }
}

/// The records of a block that may have to do with the set.
fn steps_of(block: &Block) -> Steps {
    let of_set = block.records.iter().enumerate();
    let of_set = of_set.filter(|(_, record)| Counter::concerns(&record.body.content));
    let step = |body: &RecordBody| Step {
        body: body.clone(),
        signed_by: block.header.validators_hash,
    };
    of_set
        .map(|(index, record)| ((block.header.height, index), step(&record.body)))
        .collect()
}

/// Whether a record is one that the counter takes.
fn counts(counter: &Counter, body: &RecordBody) -> bool {
    match &body.content {
        Content::Rotation(_) => key_change(counter.set(), body).is_some(),
        _ => counter.check(body).is_ok(),
    }
}

fn is_vote(body: &RecordBody) -> bool {
    matches!(body.content, Content::HubVote(_))
}

fn voted_on(body: &RecordBody) -> Option<String> {
    match &body.content {
        Content::HubVote(vote) => Some(vote.hub.clone()),
        _ => None,
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

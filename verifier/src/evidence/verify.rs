//! From the samples up to the certificates: every step of an evidence.

use super::{Evidence, EvidenceError, ProvenBlock, ProvenRecord, Trust};
use crate::block::{BlockError, ValidatorSet};
use crate::hash::Hash;
use crate::merkle;
use crate::record::{
    Action, BatchContent, Content, IdentityKind, RECORD_VERSION, Record, Response, VerdictClass,
};
use crate::sample::TagDigest;
use crate::signature::{KeyCache, PublicKey, SignatureCheck};
use crate::succession::{SetChange, Succession};
use std::borrow::Cow;

impl Evidence {
    /// Checks every step from the samples to the certificates. With `trusted` keys, each block must have
    /// as many signatures as its validator set needs that are of them, or of keys that took their place
    /// or were let in in a block before.
    pub fn verify(&self, trusted: &[PublicKey]) -> Result<Trust, EvidenceError> {
        self.verify_with(trusted, &KeyCache::default())
    }

    /// The same, with the caller's way of checking signatures.
    pub fn verify_with(
        &self,
        trusted: &[PublicKey],
        check: &dyn SignatureCheck,
    ) -> Result<Trust, EvidenceError> {
        if self.blocks.is_empty() {
            return Err(EvidenceError::Empty);
        }
        self.verify_order()?;
        let mut succession = Succession::new(self.validators.clone());
        let mut believed = trusted.to_vec();
        let mut all_trusted = true;
        for block in &self.blocks {
            let (after, changes) = Self::verify_block(block, &succession, check)?;
            all_trusted &= is_signed_by(block, succession.set(), &believed);
            for change in changes {
                match change {
                    // A block with enough believed signatures says that it is the same hub.
                    SetChange::Key(change) if believed.contains(&change.old) => {
                        believed.push(change.new);
                    }
                    // And so it says that enough hubs of the set let this one in.
                    SetChange::Admitted(hub) | SetChange::Replaced { by: hub, .. } => {
                        believed.push(hub.key);
                    }
                    SetChange::Key(_)
                    | SetChange::Dismissed(_)
                    | SetChange::StandsBy(_)
                    | SetChange::Unlisted(_) => {}
                }
            }
            if let Some(after) = after {
                succession = after;
            }
        }
        self.verify_judges()?;
        match (trusted.is_empty(), all_trusted) {
            (true, _) => Ok(Trust::SelfConsistentOnly),
            (false, true) => Ok(Trust::Key),
            (false, false) => Err(EvidenceError::Untrusted),
        }
    }

    /// Whether the chain's first record is shown, and so which hub began it.
    pub fn from_genesis(&self) -> bool {
        self.blocks
            .first()
            .is_some_and(ProvenBlock::shows_beginning)
    }

    /// Blocks by ascending height, of one chain, and neighbours linked.
    fn verify_order(&self) -> Result<(), EvidenceError> {
        let pairs = self.blocks.iter().zip(self.blocks.iter().skip(1));
        for (before, after) in pairs {
            let (before, after) = (&before.header, &after.header);
            let neighbours = before.height.checked_add(1) == Some(after.height);
            let follows = before.height < after.height
                && before.time < after.time
                && before.chain == after.chain
                && before.suite() == after.suite()
                && (after.is_shared() || !before.is_shared())
                && (!neighbours || after.previous_hash == before.hash());
            if !follows {
                return Err(EvidenceError::Order(after.height));
            }
        }
        Ok(())
    }

    /// The set of `succession` is the one that signs this block; what comes after it is returned where
    /// the block has votes or changes, with the changes.
    fn verify_block(
        block: &ProvenBlock,
        succession: &Succession,
        check: &dyn SignatureCheck,
    ) -> Result<(Option<Succession>, Vec<SetChange>), EvidenceError> {
        let header = &block.header;
        header
            .check_version()
            .map_err(|_| EvidenceError::Version(header.version))?;
        if block.records.is_empty() {
            return Err(EvidenceError::Empty);
        }
        // A change is in force for the records after it, and for the blocks after its own.
        let (mut hubs, mut changes) = (Cow::Borrowed(succession), Vec::new());
        for record in &block.records {
            verify_record(block, record, hubs.set(), check)?;
            let body = &record.record.body;
            if Succession::concerns(&body.content) {
                changes.extend(hubs.to_mut().apply(body));
            }
        }
        let leaf = |r: &ProvenRecord| (u64::from(r.position), r.record.leaf());
        let leaves: Vec<_> = block.records.iter().map(leaf).collect();
        let size = u64::from(header.record_count);
        let root = merkle::root_from_multi_path(header.suite(), &leaves, size, &block.path);
        if root != Some(header.merkle_root) {
            return Err(EvidenceError::Record);
        }
        let set = succession.set();
        if block.shows_beginning() && !block.begins(set) {
            return Err(EvidenceError::Genesis);
        }
        block.certificate.verify_with(header, set, check)?;
        let after = match hubs {
            Cow::Borrowed(_) => None,
            Cow::Owned(after) => Some(after),
        };
        Ok((after, changes))
    }
}

/// Whether as many of the `believed` keys signed `block` as `set` needs: with fewer the others could be
/// strangers.
fn is_signed_by(block: &ProvenBlock, set: &ValidatorSet, believed: &[PublicKey]) -> bool {
    let signers = block.certificate.signatures().iter();
    let known = signers.filter_map(|s| set.get(&s.validator));
    let known = known.filter(|v| believed.contains(&v.key)).count();
    known as u64 >= u64::from(set.threshold)
}

/// `hubs` are those that may make the record.
fn verify_record(
    block: &ProvenBlock,
    shown: &ProvenRecord,
    hubs: &ValidatorSet,
    check: &dyn SignatureCheck,
) -> Result<(), EvidenceError> {
    let (body, header) = (&shown.record.body, &block.header);
    if body.version != header.suite().marked(RECORD_VERSION) {
        return Err(EvidenceError::Version(body.version));
    }
    if body.chain != header.chain {
        return Err(EvidenceError::Mismatch("it was made for another chain"));
    }
    if body.content.is_of_several() && !header.is_shared() {
        let position = usize::try_from(shown.position).unwrap_or(usize::MAX);
        return Err(BlockError::OfSeveral(position).into());
    }
    if body.time > header.time {
        return Err(EvidenceError::Mismatch("it is younger than the block"));
    }
    shown.verify_samples()?;
    shown.verify_opened()?;
    let hub = hubs.get(&body.hub);
    let hub = hub.ok_or_else(|| EvidenceError::Hub(body.hub.clone()))?;
    Ok(shown.record.verify_with(&hub.key, check)?)
}

/// The set of a chain whose first record is `record`: the hub that it enrols.
pub fn genesis_set(record: &Record) -> Option<ValidatorSet> {
    match &record.body.content {
        Content::Identity(hub)
            if record.body.action == Action::Enrol && hub.kind == IdentityKind::Hub =>
        {
            Some(ValidatorSet::solo(&hub.id, hub.key?))
        }
        _ => None,
    }
}

impl ProvenBlock {
    /// Whether the very first record of the chain is shown.
    fn shows_beginning(&self) -> bool {
        let first = self.records.first().map(|r| r.position);
        self.header.height == 1 && first == Some(0)
    }

    /// Whether it begins a chain of this validator set.
    fn begins(&self, set: &ValidatorSet) -> bool {
        let first = self.records.first().and_then(|r| genesis_set(&r.record));
        self.header.previous_hash == Hash::ZERO && first.as_ref() == Some(set)
    }
}

impl ProvenRecord {
    /// The samples are leaves of the record's batch, and the batch was stored.
    fn verify_samples(&self) -> Result<(), EvidenceError> {
        if self.samples.is_empty() {
            return match self.path.is_empty() {
                true => Ok(()),
                false => Err(EvidenceError::Sample),
            };
        }
        let batch = self.record.body.batch().ok_or(EvidenceError::NotABatch)?;
        self.verify_stored(batch)?;
        let suite = self.record.body.suite();
        let mut digest: Option<(&str, TagDigest)> = None;
        let mut leaves = Vec::with_capacity(self.samples.len());
        for sample in &self.samples {
            // Neighbours are mostly of one tag.
            let (_, of_tag) = match digest.take().filter(|(tag, _)| *tag == sample.tag) {
                Some(same) => digest.insert(same),
                None => {
                    let of_tag = TagDigest::new(suite, &batch.device, &sample.tag);
                    digest.insert((&sample.tag, of_tag))
                }
            };
            let leaf = of_tag.leaf(
                &sample.salt,
                sample.index,
                sample.time,
                sample.quality,
                &sample.value,
            );
            leaves.push((u64::from(sample.position), leaf));
        }
        let samples = u64::from(batch.samples);
        let root = merkle::root_from_multi_path(suite, &leaves, samples, &self.path);
        (root == Some(batch.inner_root))
            .then_some(())
            .ok_or(EvidenceError::Sample)
    }

    fn verify_stored(&self, batch: &BatchContent) -> Result<(), EvidenceError> {
        let body = &self.record.body;
        let stored = body.action == Action::Store && body.response == Response::Accepted;
        if !stored || batch.sealed.is_none() || batch.verdict.class == VerdictClass::Invalid {
            return Err(EvidenceError::Refused);
        }
        Ok(())
    }

    fn verify_opened(&self) -> Result<(), EvidenceError> {
        let Some(opened) = &self.opened else {
            return Ok(());
        };
        let commitment = match &self.record.body.content {
            Content::Document(document) => Some(document.commitment),
            Content::Message(message) => Some(message.commitment),
            _ => None,
        };
        let suite = self.record.body.suite();
        let shown = suite.hash(&[&[0], &opened.salt, &opened.content]);
        (commitment == Some(shown))
            .then_some(())
            .ok_or(EvidenceError::Opened)
    }
}

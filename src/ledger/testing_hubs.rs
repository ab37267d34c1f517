//! A chain of several hubs, of which every block is what they say: the ledger's own rules are not asked. Tests of
//! who signs what are made of it.

use super::proof::genesis_validators;
use super::testing::TestSigner;
use crate::crypto::Signer;
use std::collections::BTreeMap;
use std::sync::Arc;
use weighbridge_verifier::block::{BLOCK_VERSION, SHARED_BLOCK_VERSION, commit_message};
use weighbridge_verifier::equivocation::{Equivocation, Signed};
use weighbridge_verifier::record::RECORD_VERSION;
use weighbridge_verifier::rotation::rotation_message;
use weighbridge_verifier::succession::Succession;
use weighbridge_verifier::vote::Vote;
use weighbridge_verifier::{
    Action, Block, BlockHeader, BlockValue, CommitCertificate, CommitSignature, Content,
    EquivocationContent, Faults, Hash, HubChange, HubVoteContent, IdentityContent, IdentityKind,
    LeaseContent, PublicKey, QuorumCertificate, Record, RecordBody, Response, RotationContent,
    Signature, Suite, ValidatorSet,
};

const CHAIN: &str = "plant";

/// What a hub records: who, what was done, on what, and what it is about.
pub(crate) type Said = (String, Action, String, Content);

/// The chain, and whoever has a key in it.
#[derive(Clone)]
pub(crate) struct Hubs {
    suite: Suite,
    chain: &'static str,
    signers: BTreeMap<PublicKey, Arc<TestSigner>>,
    succession: Succession,
    sequences: BTreeMap<String, (u64, Hash)>,
    pub(crate) blocks: Vec<Block>,
}

impl Hubs {
    /// The first block, in which the hub `name` enrols itself.
    pub(crate) fn begin(suite: Suite, name: &str) -> Self {
        Self::begin_chain(CHAIN, suite, name)
    }

    /// The same of a chain with another name.
    pub(crate) fn begin_chain(chain: &'static str, suite: Suite, name: &str) -> Self {
        let mut hubs = Self {
            suite,
            chain,
            signers: BTreeMap::new(),
            succession: Succession::new(ValidatorSet::solo("", PublicKey([0; 33]))),
            sequences: BTreeMap::new(),
            blocks: Vec::new(),
        };
        let key = hubs.key(name);
        hubs.succession = Succession::new(ValidatorSet::solo(&id(name), key));
        let identity = hubs.identity(name);
        let enrols = (
            id(name),
            Action::Enrol,
            format!("identity:{}", id(name)),
            Content::Identity(identity),
        );
        hubs.make(BLOCK_VERSION, 0, vec![enrols]);
        hubs
    }

    /// The key of a hub, which is made of the first letter of its name: a capital letter is the same hub with
    /// another key.
    pub(crate) fn key(&mut self, name: &str) -> PublicKey {
        let signer = TestSigner::new(self.suite, &id(name), name.as_bytes()[0]);
        let key = signer.public_key();
        self.signers.entry(key).or_insert(Arc::new(signer));
        key
    }

    fn identity(&mut self, name: &str) -> IdentityContent {
        IdentityContent {
            id: id(name),
            kind: IdentityKind::Hub,
            key: Some(self.key(name)),
        }
    }

    /// The set that signs the next block.
    pub(crate) fn set(&self) -> &ValidatorSet {
        self.succession.set()
    }

    /// `+b` is a vote for letting `b` in, `-b` one for letting it go, `~b` one for
    /// letting it stand by.
    pub(crate) fn vote(&mut self, hub: &str, what: &str, faults: Faults) -> Said {
        let (change, about) = what.split_at(1);
        let vote = HubVoteContent {
            hub: id(about),
            key: self.key(about),
            change: match change {
                "+" => HubChange::Admit,
                "~" => HubChange::Standby,
                _ => HubChange::Dismiss,
            },
            faults,
        };
        let object = format!("hub:{}", id(about));
        let content = Content::HubVote(vote);
        (id(hub), Action::Membership, object, content)
    }

    /// A hub takes another key.
    pub(crate) fn turn(&mut self, from: &str, to: &str) -> Said {
        let (identity, replaces) = (self.identity(to), self.key(from));
        let message = rotation_message(self.suite, self.chain, &identity, &replaces);
        let new = self.key(to);
        let proof = self.signers[&new].sign(&message);
        let rotation = RotationContent {
            identity,
            replaces,
            proof,
            consent: None,
        };
        let object = format!("identity:{}", id(from));
        let content = Content::Rotation(rotation);
        (id(from), Action::Membership, object, content)
    }

    /// `hub` shows that `liar` gave two votes in one round.
    pub(crate) fn lie(&mut self, hub: &str, liar: &str) -> Said {
        let key = self.key(liar);
        let signed = |message: Vote| Signed {
            message,
            signature: self.signers[&key].sign(&message.message(self.suite, self.chain)),
        };
        let block = Vote::precommit(2, 0, Hash([1; 32]));
        let none = Vote {
            block: None,
            ..block
        };
        let evidence = Equivocation::votes(key, signed(block), signed(none)).to_bytes();
        let object = format!("hub:{}", id(liar));
        let content = Content::Equivocation(EquivocationContent { evidence });
        (id(hub), Action::Membership, object, content)
    }

    /// `hub` gives the lease of a device to itself.
    pub(crate) fn lease(&self, hub: &str, device: &str, epoch: u64) -> Said {
        let lease = LeaseContent {
            device: device.to_owned(),
            epoch,
            hub: id(hub),
        };
        let object = format!("device:{device}");
        (id(hub), Action::Grant, object, Content::Lease(lease))
    }

    /// The chain as it was when the block at `height` was the newest.
    pub(crate) fn rewind(&mut self, height: usize) {
        let dropped = self.blocks.split_off(height);
        for record in dropped.iter().flat_map(|block| &block.records).rev() {
            let body = &record.body;
            let before = (body.sequence - 1, body.previous);
            self.sequences.insert(body.hub.clone(), before);
        }
        let genesis = genesis_validators(&self.blocks[0]).unwrap();
        self.succession = Succession::new(genesis);
        for record in self.blocks.iter().flat_map(|block| &block.records) {
            self.succession.apply(&record.body);
        }
    }

    /// The signature by the hub `name` under the key of its name.
    pub(crate) fn sign(&mut self, name: &str, message: &Hash) -> Signature {
        let key = self.key(name);
        self.signers[&key].sign(message)
    }

    /// Something that has nothing to do with who signs.
    pub(crate) fn read(&self, hub: &str) -> Said {
        let content = Content::Commitment(Hash([9; 32]));
        (id(hub), Action::Read, "device:press-1".to_owned(), content)
    }

    /// A block that the hubs of the set decide, as few of them as are needed.
    pub(crate) fn decide(&mut self, round: u32, said: Vec<Said>) -> &Block {
        self.make(SHARED_BLOCK_VERSION, round, said)
    }

    fn make(&mut self, version: u8, round: u32, said: Vec<Said>) -> &Block {
        let suite = self.suite;
        let set = self.set().clone();
        let before = self.blocks.last().map(|block| &block.header);
        let height = before.map_or(1, |header| header.height + 1);
        let previous_hash = before.map_or(Hash::ZERO, BlockHeader::hash);
        let time = i64::try_from(height).unwrap();
        let records: Vec<_> = said.into_iter().map(|one| self.record(time, one)).collect();
        let header = BlockHeader {
            version: suite.marked(version),
            chain: self.chain.to_owned(),
            height,
            previous_hash,
            time,
            record_count: u32::try_from(records.len()).unwrap(),
            merkle_root: Block::merkle_root(suite, &records),
            state_hash: Hash::ZERO,
            validators_hash: set.hash(suite),
            proposer: set.validators[0].id.clone(),
        };
        let needed = usize::try_from(set.threshold).unwrap();
        let signers = set.validators.iter().take(needed);
        let value = BlockValue { header, records };
        let block = match version {
            BLOCK_VERSION => {
                let message = commit_message(&value.header);
                let signatures = signers.map(|hub| CommitSignature {
                    validator: hub.id.clone(),
                    signature: self.signers[&hub.key].sign(&message),
                });
                let signatures = signatures.collect();
                value.certified(CommitCertificate { signatures })
            }
            _ => {
                let vote = Vote::precommit(height, round, value.header.hash());
                let message = vote.message(suite, self.chain);
                let sign = |key: PublicKey| (key, self.signers[&key].sign(&message));
                let signatures = signers.map(|hub| sign(hub.key));
                let certificate = QuorumCertificate::of(round, signatures, &set).unwrap();
                value.certified(certificate)
            }
        };
        self.blocks.push(block);
        self.blocks.last().unwrap()
    }

    /// The record, signed with the key that its hub has now; one of a stranger, with the key of its name.
    fn record(&mut self, time: i64, (hub, action, object, content): Said) -> Record {
        let key = self.set().get(&hub).map(|hub| hub.key);
        let key = key.unwrap_or_else(|| self.key(&hub));
        let (sequence, previous) = self.sequences.get(&hub).copied().unwrap_or_default();
        let body = RecordBody {
            version: self.suite.marked(RECORD_VERSION),
            chain: self.chain.to_owned(),
            hub: hub.clone(),
            sequence: sequence + 1,
            previous,
            time,
            subject: format!("hub:{hub}"),
            action,
            object,
            permit: None,
            content,
            response: Response::Accepted,
        };
        let hash = body.hash();
        self.sequences.insert(hub, (sequence + 1, hash));
        let signature = self.signers[&key].sign(&hash);
        self.succession.apply(&body);
        Record { body, signature }
    }
}

/// The same block, as one that the one hub of its set decided.
pub(crate) fn decided(block: Block, round: u32, signer: &TestSigner) -> Block {
    let mut header = block.header;
    header.version = header.suite().marked(SHARED_BLOCK_VERSION);
    let vote = Vote::precommit(header.height, round, header.hash());
    let signature = signer.sign(&vote.message(header.suite(), &header.chain));
    let set = ValidatorSet::solo(signer.id(), signer.public_key());
    let signed = [(signer.public_key(), signature)];
    let certificate = QuorumCertificate::of(round, signed, &set).unwrap();
    let records = block.records;
    BlockValue { header, records }.certified(certificate)
}

fn id(name: &str) -> String {
    format!("hub-{}", name.to_lowercase())
}

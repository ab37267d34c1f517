//! Bytes from outside: what is read has one form only, and rubbish does no harm.

use crate::evidence::Evidence;
use crate::{
    Action, Attestation, BatchContent, Block, BlockHeader, CommitCertificate, CommitSignature,
    Content, DocumentContent, Hash, IdentityContent, IdentityKind, MessageContent, PublicKey,
    Record, RecordBody, Response, SealedRef, Signature, Suite, Value, VerdictClass, VerdictSummary,
    decode, encode,
};
use proptest::prelude::*;
use proptest::sample::Index;

fn record(content: Content) -> Record {
    Record {
        body: RecordBody {
            version: 1,
            chain: "plant".to_owned(),
            hub: "hub-1".to_owned(),
            sequence: 3,
            previous: Hash([5; 32]),
            time: 1_700_000_000_000_000_000,
            subject: "device:press-1".to_owned(),
            action: Action::Store,
            object: "device:press-1".to_owned(),
            permit: Some(Hash([6; 32])),
            content,
            response: Response::Accepted,
        },
        signature: Signature([7; 64]),
    }
}

fn block() -> Block {
    let sealed = SealedRef {
        hash: Hash([1; 32]),
        length: 4_000,
        key_epoch: 2,
    };
    let batch = Content::Batch(BatchContent {
        device: "press-1".to_owned(),
        epoch: 1,
        sequence: 9,
        samples: 4_096,
        grade: 1,
        inner_root: Hash([2; 32]),
        sealed: Some(sealed),
        verdict: VerdictSummary {
            class: VerdictClass::OutOfControl,
            chart: "ewma".to_owned(),
            rule: "beyond_limit".to_owned(),
        },
        judged_by: Hash([3; 32]),
        attester: Some(Attestation {
            key: PublicKey([2; 33]),
            signature: Signature([8; 64]),
        }),
    });
    let document = Content::Document(DocumentContent {
        kind: "limits".to_owned(),
        version: 1,
        commitment: Hash([4; 32]),
        sealed,
    });
    let identity = Content::Identity(IdentityContent {
        id: "anna".to_owned(),
        kind: IdentityKind::User,
        key: None,
    });
    let message = Content::Message(MessageContent {
        kind: "control".to_owned(),
        commitment: Hash([5; 32]),
        sealed,
    });
    let records = [
        batch,
        document,
        identity,
        Content::Commitment(Hash([9; 32])),
        message,
    ]
    .map(record);
    Block {
        header: BlockHeader {
            version: 1,
            chain: "plant".to_owned(),
            height: 2,
            previous_hash: Hash([1; 32]),
            time: 5,
            record_count: 5,
            merkle_root: Block::merkle_root(Suite::Nist, &records),
            state_hash: Hash([2; 32]),
            validators_hash: Hash([3; 32]),
            proposer: "hub-1".to_owned(),
        },
        records: records.to_vec(),
        certificate: CommitCertificate {
            signatures: vec![CommitSignature {
                validator: "hub-1".to_owned(),
                signature: Signature([4; 64]),
            }],
        }
        .into(),
    }
}

proptest! {
    /// If changed bytes are still a block, they are the one form of that block.
    #[test]
    fn a_changed_block_has_one_form(
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..5),
        cut in proptest::option::weighted(0.3, any::<Index>()),
        more in proptest::option::weighted(0.1, any::<u8>()),
    ) {
        let mut bytes = encode(&block());
        for (at, change) in changes {
            let at = at.index(bytes.len());
            bytes[at] ^= change;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(more);
        if let Ok(read) = decode::<Block>("block", &bytes) {
            prop_assert_eq!(encode(&read), bytes);
        }
    }

    #[test]
    fn rubbish_is_no_block_and_no_evidence(bytes: Vec<u8>) {
        prop_assert!(decode::<Block>("block", &bytes).is_err());
        prop_assert!(decode::<Record>("record", &bytes).is_err());
        prop_assert!(Evidence::from_bytes(&bytes).is_err());
        let mut begun = b"WBEV\x01".to_vec();
        begun.extend(&bytes);
        prop_assert!(Evidence::from_bytes(&begun).is_err());
    }

    #[test]
    fn a_value_has_one_form(bytes: Vec<u8>) {
        if let Ok(value) = decode::<Value>("value", &bytes) {
            prop_assert_eq!(encode(&value), bytes);
        }
    }
}

#[test]
fn every_block_is_read_as_it_was_written() {
    let block = block();
    let bytes = encode(&block);
    assert_eq!(decode::<Block>("block", &bytes).unwrap(), block);
    block.verify_body().unwrap();
}

#[test]
fn a_huge_declared_length_costs_nothing() {
    let mut bytes = encode(&block().header);
    // As many records as a length can say, and none of them there.
    bytes.extend([0xff; 4]);
    assert!(decode::<Block>("block", &bytes).is_err());
}

//! The ledger over real and simulated disks.

mod bit_flips;
mod checkpoints;
mod fellows;
mod files;
mod full_disk;
mod legacy_keys;
mod power_loss;
mod queries;
mod restart;
mod retention;
mod retired_keys;
mod rewrap;
mod rotation;
mod shared;
mod vanished;

use super::{FaultyDisk, SUITE};
use crate::ledger::head::HeadSlot;
use crate::ledger::report::Report;
use crate::ledger::store::{Put, Store};
use crate::ledger::testing::{
    TestSigner, batch_content, refuse_draft, sealed_puts, store_draft, wrap_put,
};
use crate::ledger::verify::{verify_store, verify_store_with};
use crate::ledger::{ChainConfig, Draft, Ledger, LedgerError};
use std::sync::{Arc, LazyLock};
use weighbridge_verifier::{Action, Content, DocumentContent, Response, SealedRef, SignatureCheck};

const CHAIN: &str = "plant";

/// The hub of all tests here.
fn signer() -> Arc<TestSigner> {
    static SIGNER: LazyLock<Arc<TestSigner>> =
        LazyLock::new(|| Arc::new(TestSigner::new(SUITE, "hub-1", 1)));
    SIGNER.clone()
}

fn open_on(
    store: Arc<dyn Store>,
    head: Box<dyn HeadSlot>,
    now: i64,
) -> Result<Ledger, LedgerError> {
    let chain = ChainConfig {
        id: CHAIN.to_owned(),
    };
    Ledger::open(store, head, chain, signer(), now)
}

fn open(disk: &FaultyDisk, now: i64) -> Result<Ledger, LedgerError> {
    open_on(Arc::new(disk.store()), Box::new(disk.head()), now)
}

fn verify(disk: &FaultyDisk) -> Report {
    let head = disk.head().read().unwrap();
    verify_store(&disk.store(), &head, None, &mut |_| {}).unwrap()
}

fn verify_with(disk: &FaultyDisk, check: &dyn SignatureCheck) -> Report {
    let head = disk.head().read().unwrap();
    verify_store_with(&disk.store(), &head, None, &mut |_| {}, check).unwrap()
}

/// Three blocks with a record of every sort this code writes.
fn fill(ledger: &mut Ledger) {
    let drafts = [
        store_draft(SUITE, "press-1", 1, 1_500),
        refuse_draft(SUITE, "press-1", 2, 1_600),
    ];
    let mut puts = sealed_puts(SUITE, &drafts);
    puts.push(wrap_put(CHAIN, "press-1", &signer()));
    ledger.append(&drafts, puts, 2_000).unwrap();
    let (configure, document) = configure_draft("press-1", 1, 2_100);
    let session = Draft {
        time: 2_200,
        subject: "user:anna".to_owned(),
        action: Action::Session,
        object: "hub:hub-1".to_owned(),
        permit: Some(SUITE.hash(&[b"permit"])),
        content: Content::Commitment(SUITE.hash(&[b"salt", b"login"])),
        response: Response::Accepted,
    };
    let drafts = [configure, session, store_draft(SUITE, "press-1", 3, 2_300)];
    let mut puts = sealed_puts(SUITE, &drafts);
    puts.push(document);
    ledger.append(&drafts, puts, 3_000).unwrap();
}

fn configure_draft(device: &str, version: u64, time: i64) -> (Draft, Put) {
    let value = format!("limits {version} of {device}").into_bytes();
    let hash = SUITE.hash(&[&value]);
    let document = DocumentContent {
        kind: "limits".to_owned(),
        version,
        commitment: SUITE.hash(&[b"salt", &value]),
        sealed: SealedRef {
            hash,
            length: value.len() as u64,
            key_epoch: 1,
        },
    };
    let subject = format!("device:{device}");
    let draft = Draft::configure(time, &subject, &format!("limits:{device}"), document);
    let put = Put {
        space: crate::ledger::store::Space::Sealed,
        key: hash.0.to_vec(),
        value,
    };
    (draft, put)
}

//! A hub of the simulation: its disk, its ledger while it runs, and what it was told is durable.

use super::draws::Draws;
use super::{CHAIN, FaultyDisk, SUITE, SharedConfig};
use crate::ledger::head::HeadSlot;
use crate::ledger::history::index::Span;
use crate::ledger::key_wrap::KeyWrap;
use crate::ledger::report::Report;
use crate::ledger::shared::{SharedLedger, SharedLimits};
use crate::ledger::store::{Put, Space};
use crate::ledger::testing::{RememberingCheck, TestSigner, batch_content};
use crate::ledger::verify::verify_store_with;
use crate::ledger::{Draft, LedgerError, State};
use std::collections::BTreeMap;
use std::sync::Arc;
use weighbridge_verifier::{
    Action, Content, DocumentContent, LeaseContent, MessageContent, PublicKey, Record, Response,
    SealedRef, Validator,
};

/// Devices that any hub reads, without leases and with.
const ANYBODYS: &str = "robot-2";
const LEASED: [&str; 2] = ["press-1", "lathe-3"];

pub(super) struct Hub {
    pub(super) id: String,
    /// Its number, from 1.
    number: u64,
    pub(super) signer: Arc<TestSigner>,
    pub(super) disk: FaultyDisk,
    pub(super) ledger: Option<SharedLedger>,
    check: Arc<RememberingCheck>,
    genesis: (String, PublicKey),
    /// What it was told is durable, by number.
    pub(super) acknowledged: BTreeMap<u64, Record>,
    /// Numbers of which it was told that they will not be on the chain.
    pub(super) left_out: BTreeMap<u64, ()>,
    /// What was appended and not acknowledged.
    waiting: bool,
    made: u64,
}

impl Hub {
    pub(super) fn new(
        number: u64,
        seed: u64,
        genesis: (String, PublicKey),
        check: Arc<RememberingCheck>,
    ) -> Self {
        Self {
            id: id(number),
            number,
            signer: signer(number),
            disk: FaultyDisk::new(seed.wrapping_add(number)),
            ledger: None,
            check,
            genesis,
            acknowledged: BTreeMap::new(),
            left_out: BTreeMap::new(),
            waiting: false,
            made: 0,
        }
    }

    pub(super) fn open(&mut self, now: i64) -> Result<(), LedgerError> {
        let mut config = SharedConfig::new(CHAIN, Some(self.genesis.clone()));
        config.limits = SharedLimits {
            block_records: 12,
            ahead: 1_000_000,
            ..SharedLimits::default()
        };
        let (store, head) = (Arc::new(self.disk.store()), Box::new(self.disk.head()));
        let signer = self.signer.clone();
        let check = self.check.clone();
        let ledger = SharedLedger::open_with(store, head, config, signer, now, check)?;
        self.ledger = Some(ledger);
        self.waiting = false;
        self.hear();
        Ok(())
    }

    /// The power is gone, or the process.
    pub(super) fn crash(&mut self) {
        self.ledger = None;
    }

    pub(super) fn runs(&self) -> bool {
        self.ledger.is_some()
    }

    pub(super) fn ledger(&self) -> &SharedLedger {
        self.ledger.as_ref().unwrap()
    }

    pub(super) fn ledger_mut(&mut self) -> &mut SharedLedger {
        self.ledger.as_mut().unwrap()
    }

    /// Asks what was left out.
    pub(super) fn hear(&mut self) {
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        for left in ledger.take_left_out() {
            self.left_out.insert(left.sequence, ());
        }
    }

    /// Makes something durable, or tries what was not again.
    pub(super) fn append(&mut self, draws: &mut Draws, now: i64) {
        if self.waiting {
            let again = self.ledger_mut().retry();
            self.told(again);
            return;
        }
        let mut after = self.ledger().state().clone();
        let mut drafts = Vec::new();
        let mut puts = Vec::new();
        for _ in 0..1 + draws.below(3) {
            let (draft, of) = self.draft(&mut after, draws, now);
            drafts.push(draft);
            puts.extend(of);
        }
        self.write(&drafts, puts, now);
    }

    pub(super) fn write(&mut self, drafts: &[Draft], puts: Vec<Put>, now: i64) {
        let written = self.ledger_mut().append(drafts, puts, now);
        self.told(written);
    }

    fn told(&mut self, written: Result<Vec<Record>, LedgerError>) {
        match written {
            Ok(records) => {
                self.waiting = false;
                for record in records {
                    let before = self.acknowledged.insert(record.body.sequence, record);
                    assert!(before.is_none(), "a number was acknowledged twice");
                }
            }
            Err(LedgerError::Store(_)) => self.waiting = true,
            Err(other) => panic!("{}: {other}", self.id),
        }
    }

    /// Something new, with what belongs to it; `state` goes on to the numbers that it takes.
    fn draft(&mut self, state: &mut State, draws: &mut Draws, now: i64) -> (Draft, Vec<Put>) {
        // A clock that is a little behind, or ahead.
        let now = now + draws.below(2_000) as i64 - 1_000;
        self.made += 1;
        let own = format!("own-{}", self.number);
        let device = match draws.below(10) {
            0..4 => own.as_str(),
            4 => ANYBODYS,
            5..8 => LEASED[draws.below(2)],
            8 => return self.document(state, now),
            _ => return self.message(now),
        };
        let leased = LEASED.contains(&device);
        let of_device = state.leases(device).to_vec();
        let own_lease = of_device.iter().rev().find(|lease| lease.hub == self.id);
        if leased && (own_lease.is_none() || draws.one_in(6)) {
            let lease = LeaseContent {
                device: device.to_owned(),
                epoch: state.newest_epoch(device) + 1,
                hub: self.id.clone(),
            };
            let draft = Draft {
                action: Action::Grant,
                content: Content::Lease(lease),
                ..act(now, &format!("device:{device}"))
            };
            return (self.enter(state, draft, now), Vec::new());
        }
        let (epoch, sequence) = match own_lease {
            Some(lease) => (lease.epoch, lease.sequence + 1),
            None => (1, state.device(device).sequence + 1),
        };
        let (batch, puts) = self.batch((device, epoch, sequence), now);
        (self.enter(state, batch, now), puts)
    }

    /// Lets `state` go on past a draft, as this hub's ledger will.
    fn enter(&self, state: &mut State, draft: Draft, now: i64) -> Draft {
        let signed = crate::ledger::assemble::sign_record(&draft, state, &*self.signer, now);
        state.apply_signed(&signed.0.body, signed.1).unwrap();
        draft
    }

    fn sealed(&self, what: &str) -> (SealedRef, Put) {
        let value = format!("sealed by {}: {what}, {}", self.id, self.made).into_bytes();
        let hash = SUITE.hash(&[&value]);
        let sealed = SealedRef {
            hash,
            length: value.len() as u64,
            key_epoch: self.number << 24,
        };
        let (space, key) = (Space::Sealed, hash.0.to_vec());
        (sealed, Put { space, key, value })
    }

    fn batch(&self, which: (&str, u64, u64), now: i64) -> (Draft, Vec<Put>) {
        let (device, epoch, sequence) = which;
        let (sealed, put) = self.sealed(device);
        let mut batch = batch_content(SUITE, device, epoch, sequence);
        batch.sealed = Some(sealed);
        let span = Span {
            first: now,
            last: now,
            part: 0,
            parts: 1,
            epoch,
            sequence,
            recorded: now,
            sealed,
        };
        let mut puts = vec![put, span.put(device)];
        puts.extend(self.wraps(device));
        (Draft::store(now, batch), puts)
    }

    fn document(&self, state: &mut State, now: i64) -> (Draft, Vec<Put>) {
        let object = format!("limits:{ANYBODYS}");
        let version = state.document(&object, "limits").map_or(0, |d| d.version);
        let (sealed, put) = self.sealed(&object);
        let document = DocumentContent {
            kind: "limits".to_owned(),
            version: version + 1,
            commitment: SUITE.hash(&[b"salt", &put.value]),
            sealed,
        };
        let draft = Draft::configure(now, "user:anna", &object, document);
        let mut puts = vec![put];
        puts.extend(self.wraps(ANYBODYS));
        (self.enter(state, draft, now), puts)
    }

    /// What somebody did, under this hub's own key. (It changes no numbers.)
    fn message(&self, now: i64) -> (Draft, Vec<Put>) {
        let (sealed, put) = self.sealed("an act");
        let draft = Draft {
            action: Action::Control,
            content: Content::Message(MessageContent {
                kind: "control".to_owned(),
                commitment: SUITE.hash(&[b"salt", &put.value]),
                sealed,
            }),
            ..act(now, "device:press-1")
        };
        let mut puts = vec![put];
        puts.extend(self.wraps(&format!("hub:{}", self.id)));
        (draft, puts)
    }

    /// The key of this hub for `object`, wrapped to all hubs of the set.
    fn wraps(&self, object: &str) -> Vec<Put> {
        let epoch = self.number << 24;
        let wrap = |(mark, to): (u8, &Validator)| {
            let wrapped = (vec![4; 65], vec![mark; 48]);
            let wrap = KeyWrap::sign(CHAIN, object, epoch, &to.id, wrapped, &*self.signer);
            Put {
                space: Space::Keys,
                key: wrap.key(),
                value: wrap.to_bytes(),
            }
        };
        let set = self.ledger().state().validators();
        let hubs = set.iter().flat_map(|set| &set.validators);
        (1..).zip(hubs).map(wrap).collect()
    }

    pub(super) fn verify(&self) -> Report {
        let head = self.disk.head().read().unwrap();
        let store = self.disk.store();
        verify_store_with(&store, &head, None, &mut |_| {}, &*self.check).unwrap()
    }
}

/// Something that was done.
pub(super) fn act(now: i64, object: &str) -> Draft {
    Draft {
        time: now,
        subject: "user:anna".to_owned(),
        action: Action::Session,
        object: object.to_owned(),
        permit: None,
        content: Content::Commitment(SUITE.hash(&[b"salt"])),
        response: Response::Accepted,
    }
}

pub(super) fn id(number: u64) -> String {
    format!("hub-{number}")
}

pub(super) fn signer(number: u64) -> Arc<TestSigner> {
    Arc::new(TestSigner::new(SUITE, &id(number), number as u8))
}

//! Erasing in the directory of a stopped hub, with its keys.

use super::super::access::recorded_access;
use super::super::readers::KeyMaker;
use super::super::{HubError, HubKeys};
use super::renewed;
use crate::access::Gate;
use crate::crypto::{SealingRing, Signer};
use crate::ledger::erasure::plan::{Plan, plan};
use crate::ledger::erasure::work;
use crate::ledger::head::HeadSlot;
use crate::ledger::history::{PastError, rebuild};
use crate::ledger::opening::Opener;
use crate::ledger::query::Explorer;
use crate::ledger::report::Progress;
use crate::ledger::store::{Space, Store};
use crate::ledger::{ChainConfig, Ledger, LedgerError, retention};
use crate::model::{Nanos, now};
use std::sync::Arc;

/// The ledger of a stopped hub, about to be erased in part.
pub struct StoppedErasure {
    ledger: Ledger,
    store: Arc<dyn Store>,
    opener: Opener,
    signer: Arc<dyn Signer>,
    keys: KeyMaker,
}

impl StoppedErasure {
    /// Opens the ledger in `store`, finishes what was interrupted, and completes the index of the history.
    pub fn open(
        store: Arc<dyn Store>,
        head: Box<dyn HeadSlot>,
        keys: HubKeys,
        chain: &str,
    ) -> Result<Self, HubError> {
        let sealing = keys.sealing.into();
        Self::open_by(store, head, (Arc::new(keys.signing), sealing), chain)
    }

    /// The same with all the sealing keys of a hub that was ended while its own was being replaced.
    pub fn open_by(
        store: Arc<dyn Store>,
        head: Box<dyn HeadSlot>,
        (signer, sealing): (Arc<dyn Signer>, SealingRing),
        chain: &str,
    ) -> Result<Self, HubError> {
        let chain = ChainConfig {
            id: chain.to_owned(),
        };
        let ledger = Ledger::open(store.clone(), head, chain, signer.clone(), now())?;
        work::resume(&*store)?;
        let retired = retention::work::resume(&*store, &mut |_| true);
        retired.map_err(LedgerError::Retention)?;
        let opener = Opener::new(store.clone(), sealing.clone(), signer.id());
        let totals = ledger.state().totals();
        let stored = totals.accepted + totals.out_of_control;
        let complete = || -> Result<(), PastError> {
            if !rebuild::is_complete(&*store, stored)? {
                let explorer = Explorer::new(store.clone());
                let tip = ledger.tip().height;
                rebuild::rebuild(&*store, &explorer, &opener, tip, |_| true)?;
            }
            Ok(())
        };
        complete()?;
        // A new key is for whoever may read, as at a running hub.
        let gate = Gate::new(signer.id(), recorded_access(ledger.state(), &opener, None)?);
        let chain = ledger.state().chain();
        let keys = KeyMaker::new(chain, sealing, signer.clone(), gate);
        Ok(Self {
            ledger,
            store,
            opener,
            signer,
            keys,
        })
    }

    /// What would be erased of `device` up to `until`.
    pub fn plan(&self, device: &str, until: Nanos) -> Result<Plan, HubError> {
        Ok(plan(
            &*self.store,
            (self.signer.suite(), device),
            (until, now()),
            u64::MAX,
        )?)
    }

    /// Erases it for `subject`; returns what went, and the height of the block that records it. Nothing is
    /// recorded where nothing is there.
    pub fn erase(
        &mut self,
        (device, until): (&str, Nanos),
        subject: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Plan, Option<u64>), HubError> {
        let found = self.plan(device, until)?;
        if found.notice.is_empty() {
            return Ok((found, None));
        }
        let (time, state) = (now(), self.ledger.state());
        let (mut drafts, mut puts) = (Vec::new(), Vec::new());
        let mut current = u64::MAX;
        if let Some(document) = state.device_settings(device) {
            let keys = (&self.opener, &self.keys);
            let (epoch, draft, more) = renewed(keys, (device, document), time)?;
            (current, puts) = (epoch, more);
            drafts.push(draft);
        }
        // A new key is no key of what goes.
        let chain = (self.signer.suite(), device);
        let plan = plan(&*self.store, chain, (until, time), current)?;
        let (draft, more) = plan.notice.recorded(subject).into_parts();
        drafts.push(draft);
        puts.extend(more);
        debug_assert!(puts.iter().any(|put| put.space == Space::Erasures));
        let block = self.ledger.append(&drafts, puts, time)?;
        work::carry_out(&*self.store, &plan.notice, progress)?;
        Ok((plan, Some(block.header.height)))
    }
}

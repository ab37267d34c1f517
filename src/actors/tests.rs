//! A worker that fails while it judges: the batch is refused and recorded, and the next one is judged.

use super::access::AccessDesk;
use super::admission::Admission;
use super::alarms::AlarmDesk;
use super::credit::Credits;
use super::journal::Journal;
use super::ledger::{BlockLimits, Close, LedgerActor};
use super::sealer::SealerActor;
use super::validator::{JudgeBatch, ValidatorActor};
use super::work::Workers;
use crate::access::{AccessConfig, AccessState, Gate};
use crate::alarms::AlarmConfig;
use crate::crypto::{EpochKey, Identity, Signer};
use crate::ledger::act::ActSealer;
use crate::ledger::query::Explorer;
use crate::ledger::seal::Origin;
use crate::ledger::seal::{BatchSealer, InForce};
use crate::ledger::store::{Put, Space};
use crate::ledger::{ChainConfig, Ledger};
use crate::live_view::LiveView;
use crate::model::{Batch, BatchBuilder, TagSpec, ValueKind, VerdictClass};
use crate::stats::Stats;
use crate::store::FaultyDisk;
use crate::validation::{ChartHistory, DeviceValidator, ValidationConfig};
use actix::prelude::*;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::{Builder, Runtime};
use weighbridge_verifier::{Action, Suite};

fn pool() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

fn batch(tags: &Arc<[TagSpec]>, sequence: u64) -> Batch {
    let mut builder = BatchBuilder::scanning("press-1".into(), tags.clone());
    builder.begin_scan(sequence as i64);
    builder.scan_f64(0, 1.0);
    builder.take(1, sequence).unwrap()
}

#[test]
fn a_validator_whose_worker_fails_refuses_the_batch_and_goes_on() {
    let tags: Arc<[TagSpec]> = [TagSpec {
        name: "pressure".into(),
        kind: ValueKind::F64,
        unit: String::new(),
        description: String::new(),
        range: None,
        writable: false,
    }]
    .into();
    let disk = FaultyDisk::new(1);
    let signer: Arc<dyn Signer> = Arc::new(Identity::generate("hub-1"));
    let chain = ChainConfig { id: "main".into() };
    let store = Arc::new(disk.store());
    let ledger = Ledger::open(store.clone(), Box::new(disk.head()), chain, signer, 1).unwrap();
    let live = LiveView::default().register("press-1".into(), tags.clone());
    let working = pool();
    // Work that is given to a pool that has ended fails, as work that panics does.
    let ended = pool();
    let failing = Workers::new(working.handle().clone(), ended.handle().clone());
    ended.shutdown_background();

    let made = Arc::new(AtomicUsize::new(0));
    System::new().block_on(async {
        let workers = Workers::new(working.handle().clone(), working.handle().clone());
        let stats = Arc::new(Stats::default());
        let limits = BlockLimits::default();
        let ledger = LedgerActor::new(ledger, limits, stats, workers.clone()).start();
        let make_acts = |epoch| -> Result<_, String> {
            let key =
                EpochKey::generate(Suite::Nist, "hub:hub-1", epoch).map_err(|e| e.to_string())?;
            let wrap = Put {
                space: Space::Keys,
                key: b"wrap".to_vec(),
                value: Vec::new(),
            };
            Ok::<_, String>(ActSealer::new(key, vec![wrap]))
        };
        let first = make_acts(1).unwrap();
        let journal = Journal::new(ledger.clone(), Arc::new(make_acts), (1, first));
        let gate = Gate::new("hub-1", AccessState::default());
        let desk = AccessDesk::new(
            gate.clone(),
            journal.clone(),
            AccessConfig::default(),
            Suite::Nist,
        );
        let key = EpochKey::generate(Suite::Nist, "press-1", 1).unwrap();
        let in_force = Arc::new(Mutex::new(InForce::default()));
        let sealer = BatchSealer::new("press-1", 0, key, Vec::new(), in_force);
        let sealer = SealerActor::new(
            "press-1".into(),
            Arc::new(|_| Err("one key is enough".to_owned())),
            (1, sealer),
            Arc::default(),
            (Admission::new(&desk, "press-1"), ledger.clone()),
            workers.clone(),
        )
        .start();
        let (config, runtime) = (AlarmConfig::default(), working.handle());
        let alarms = AlarmDesk::open("hub-1", config, Vec::new(), (gate, journal), runtime);
        alarms.watch(&live);
        let (of_make, count) = (tags.clone(), made.clone());
        let make = move |limits| {
            count.fetch_add(1, Ordering::SeqCst);
            let config = ValidationConfig::default();
            DeviceValidator::new(of_make.clone(), &config, &[], limits).unwrap()
        };
        let validator = ValidatorActor::new(
            live.clone(),
            Arc::new(make),
            None,
            (Arc::new(ChartHistory::default()), alarms),
            sealer,
            failing,
        )
        .start();
        let credits = Credits::default();
        for sequence in 1..=2 {
            let credit = credits.take().await.unwrap();
            let batch = batch(&tags, sequence);
            validator
                .send(JudgeBatch {
                    batch,
                    origin: Origin::Read,
                    credit,
                })
                .await
                .unwrap();
        }
        ledger.send(Close).await.unwrap();
        credits.drain().await;
    });

    // The charts were begun anew after each.
    assert_eq!(made.load(Ordering::SeqCst), 2);
    let (class, _, reason) = live.verdict().unwrap();
    assert_eq!(class, VerdictClass::Invalid);
    assert_eq!(reason, "the hub failed to judge it");
    assert!(live.dropped.load(Ordering::SeqCst) == 0);
    let explorer = Explorer::new(store);
    let records = explorer.batches(None, 10, Some("press-1")).unwrap().items;
    let sequences: Vec<u64> = records.iter().map(|(_, _, b)| b.sequence).collect();
    assert_eq!(sequences, [2, 1]);
    let block = explorer.blocks(None, 1).unwrap().remove(0);
    assert!(
        block
            .records
            .iter()
            .all(|r| r.body.action == Action::Refuse)
    );
}

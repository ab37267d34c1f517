//! Retiring at a running hub: looks at the clock and at the data directory, archives, records, prunes.
//!
//! Blocks are looked at when the hub starts, at every interval, and when enough was stored since that a bound on the
//! directory may be reached. One round at a time, and never beside an erasure.

mod horizon;

pub use horizon::RetentionSetup;

use super::threads::Threads;
use crate::actors::journal::Journal;
use crate::actors::ledger::{BlockCommitted, CurrentState, LedgerActor};
use crate::api::RetentionStatus;
use crate::ledger::act::name;
use crate::ledger::report::Progress;
use crate::ledger::retention::plan::{Plan, plan};
use crate::ledger::retention::retired::Retired;
use crate::ledger::retention::{RetentionError, work};
use crate::ledger::state::State;
use crate::ledger::store::Store;
use crate::model::{now, rfc3339};
use crate::stats::Stats;
use crate::store::ArchiveDir;
use actix::Addr;
use horizon::{directory_bytes, horizons};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turn, Notify, broadcast, watch};
use tokio::task::JoinHandle;

/// How long an end waits for a step, for example a compaction.
const END_WAIT: Duration = Duration::from_secs(10);
/// A bound on the directory is looked after whenever this part of it was stored.
const SHARE: u64 = 16;

/// Finishes what was interrupted, before anybody reads. A hub whose disk does not let it goes on without: the next
/// round tries again.
pub(super) fn resume(store: &dyn Store) {
    match work::resume(store, &mut |_| true) {
        Ok(false) => {}
        Ok(true) => tracing::info!("what was being retired is gone"),
        Err(error) => tracing::error!(%error, "what was being retired cannot be removed yet"),
    }
}

/// What a round needs.
#[derive(Clone)]
struct Round {
    setup: RetentionSetup,
    store: Arc<dyn Store>,
    data: Option<PathBuf>,
    hub: String,
    ledger: Addr<LedgerActor>,
    journal: Journal,
    /// Held while something is erased or retired.
    turn: Arc<Turn<()>>,
    indexed: Arc<AtomicBool>,
    ending: Arc<AtomicBool>,
    status: Arc<Mutex<RetentionStatus>>,
    /// Rounds that were ended.
    rounds: Arc<watch::Sender<u64>>,
    /// Wakes who waits for the next one, to end.
    end: Arc<Notify>,
}

/// Retires what is older than the policy.
pub struct Retainer {
    status: Arc<Mutex<RetentionStatus>>,
    ending: Arc<AtomicBool>,
    rounds: Arc<watch::Sender<u64>>,
    end: Arc<Notify>,
    task: Option<JoinHandle<()>>,
}

/// Where it can be seen how retiring is.
#[derive(Clone)]
pub(super) struct RetentionView(Arc<Mutex<RetentionStatus>>);

impl RetentionView {
    /// How it is.
    pub(super) fn now(&self) -> RetentionStatus {
        self.0.lock().clone()
    }
}

impl Retainer {
    /// How it is.
    pub fn status(&self) -> RetentionStatus {
        self.status.lock().clone()
    }

    pub(super) fn view(&self) -> RetentionView {
        RetentionView(self.status.clone())
    }

    /// How many rounds were ended since the start, to be watched.
    pub fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    pub(super) fn start(
        setup: RetentionSetup,
        (store, data): (Arc<dyn Store>, Option<PathBuf>),
        (hub, ledger, journal): (&str, Addr<LedgerActor>, Journal),
        (turn, indexed): (Arc<Turn<()>>, Arc<AtomicBool>),
        (committed, stats): (broadcast::Receiver<Arc<BlockCommitted>>, Arc<Stats>),
        runtime: &Handle,
    ) -> Self {
        let round = Round {
            status: Arc::new(Mutex::new(RetentionStatus {
                max_bytes: setup.max_bytes,
                archive: setup.archive.as_ref().map(|dir| dir.display().to_string()),
                ..RetentionStatus::default()
            })),
            setup,
            store,
            data,
            hub: hub.to_owned(),
            ledger,
            journal,
            turn,
            indexed,
            ending: Arc::default(),
            rounds: Arc::new(watch::Sender::new(0)),
            end: Arc::default(),
        };
        let (status, ending) = (round.status.clone(), round.ending.clone());
        let (rounds, end) = (round.rounds.clone(), round.end.clone());
        let task = runtime.spawn(rounds_until_the_end(round, committed, stats));
        Self {
            status,
            ending,
            rounds,
            end,
            task: Some(task),
        }
    }

    /// Ends it; a round under way stops after its step, and is finished at the next start.
    pub(super) fn end(&mut self, threads: &Threads) {
        self.ending.store(true, Ordering::Release);
        self.end.notify_one();
        if let Some(mut task) = self.task.take() {
            let ended = async { tokio::time::timeout(END_WAIT, &mut task).await.is_ok() };
            if !threads.io.block_on(ended) {
                task.abort();
            }
        }
    }
}

async fn rounds_until_the_end(
    round: Round,
    mut committed: broadcast::Receiver<Arc<BlockCommitted>>,
    stats: Arc<Stats>,
) {
    let stored = || stats.sealed_bytes.load(Ordering::Relaxed);
    loop {
        let at = stored();
        let outcome = round.run().await;
        if let Err(why) = &outcome
            && !round.ending.load(Ordering::Acquire)
        {
            tracing::error!(why, "nothing is retired for now");
        }
        {
            let mut status = round.status.lock();
            (status.progress, status.trouble) = (None, outcome.err());
        }
        round.rounds.send_modify(|rounds| *rounds += 1);
        if round.ending.load(Ordering::Acquire) {
            return;
        }
        let due = tokio::time::sleep(round.setup.interval);
        tokio::pin!(due);
        loop {
            let share = round.setup.max_bytes.map(|most| most / SHARE);
            if share.is_some_and(|share| stored().saturating_sub(at) > share) {
                break;
            }
            tokio::select! {
                () = &mut due => break,
                () = round.end.notified() => return,
                heard = committed.recv() => {
                    if matches!(heard, Err(broadcast::error::RecvError::Closed)) {
                        return;
                    }
                }
            }
        }
    }
}

impl Round {
    /// One round: what was interrupted before, then what is due now.
    async fn run(&self) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        self.clean_up().await?;
        self.measure().await?;
        if !self.indexed.load(Ordering::Acquire) {
            return Err("the index of the history is still being made up".to_owned());
        }
        let gone = |_| "the hub is stopping".to_owned();
        let (state, tip) = self
            .ledger
            .send(CurrentState)
            .await
            .map_err(gone)?
            .ok_or("the hub is stopping")?;
        let chain = state.chain().to_owned();
        let this = self.clone();
        let found = self.blocking(move || this.find(&state, tip)).await?;
        let Some(plan) = found else {
            return Ok(());
        };
        let (bodies, batches) = (plan.notice.bodies, plan.notice.batches);
        let subject = name("hub", &self.hub);
        let act = plan.notice.recorded(&chain, &subject, plan.snapshot);
        let recorded = self.journal.record_as_it_is(act).await;
        recorded.map_err(|error| format!("what goes could not be recorded: {error}"))?;
        tracing::info!(
            bodies,
            batches,
            values = plan.notice.values,
            bytes = plan.notice.bytes,
            archived = plan.notice.segments.len(),
            "older blocks are retired"
        );
        self.clean_up().await?;
        self.measure().await
    }

    /// What is due, archived.
    fn find(&self, state: &State, tip: u64) -> Result<Option<Plan>, RetentionError> {
        let used = self.status.lock().used_bytes;
        let horizons = horizons(&self.store, &self.setup, (now(), used), tip)?;
        let found = plan(&*self.store, (state, tip), horizons, now())?;
        let Some(mut plan) = found else {
            return Ok(None);
        };
        if let Some(dir) = &self.setup.archive {
            let failed = |e: crate::store::ArchiveError| RetentionError::Archive(e.to_string());
            let mut archive = ArchiveDir::open_or_create(dir, &*self.store).map_err(failed)?;
            let gone = plan.notice.batches_before;
            let written = archive.write(&*self.store, &plan.unarchived, gone);
            plan.notice.segments = written.map_err(failed)?;
            plan.notice.archive = dir.display().to_string();
        }
        Ok(Some(plan))
    }

    /// Does what is on record and not done yet.
    async fn clean_up(&self) -> Result<(), String> {
        let this = self.clone();
        let resumed = self.blocking(move || {
            let mut progress = |progress: Progress| {
                this.status.lock().progress = Some(progress);
                !this.ending.load(Ordering::Acquire)
            };
            work::resume(&*this.store, &mut progress)
        });
        resumed.await.map(|_| ())
    }

    /// Looks at what is there.
    async fn measure(&self) -> Result<(), String> {
        let this = self.clone();
        let measured = self.blocking(move || {
            let retired = Retired::load(&*this.store)?;
            let used = this.data.as_deref().map_or(0, directory_bytes);
            let notices = retired.notices();
            let segments = || notices.iter().flat_map(|n| &n.segments);
            let mut status = this.status.lock();
            status.bodies_horizon = retired.bodies();
            status.batches_horizon = retired.batches();
            status.retired_bytes = notices.iter().map(|n| n.bytes).sum();
            status.archived_bytes = segments().map(|s| s.bytes).sum();
            status.segments = segments().count() as u64;
            status.used_bytes = used;
            status.last = retired.newest().map(|n| rfc3339(n.time));
            Ok(())
        });
        measured.await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, RetentionError> + Send + 'static,
    ) -> Result<T, String> {
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

//! What was recorded, for those who may see it: every read and every refusal is a record, durable
//! before its answer.

use crate::access::{Caller, Gate, Right};
use crate::actors::access::log_denied;
use crate::actors::journal::Journal;
use crate::actors::work::Workers;
use crate::ledger::act::{Act, name};
use crate::ledger::history::PastError;
use crate::ledger::history::evidence::evidence;
use crate::ledger::history::reader::{Archive, TagArchive};
use crate::ledger::history::rebuild::rebuild;
use crate::ledger::opening::Opener;
use crate::ledger::query::Explorer;
use crate::ledger::store::Store;
use crate::model::{Nanos, now, rfc3339};
use crate::protocols::ports::{
    Cursor, Direction, Gone, HistoryError, HistoryPort, PastPage, PastRequest, PastSample, PastTag,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;
use weighbridge_verifier::{Action, Response};

/// Reads that open batches at a time: the other workers are there to judge, seal and write.
const READS_AT_A_TIME: usize = 1;
/// Most tags of one request; more are asked for in several.
const MAX_TAGS: usize = 1_000;

/// Whether the index of the history can be read through.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Index {
    /// It is complete.
    Ready,
    /// It is being made up from the blocks, and has come this far.
    Rebuilding { height: u64, tip: u64 },
    /// That failed.
    Failed(String),
}

/// The hub's history.
pub struct HubHistory {
    archive: Archive,
    explorer: Explorer,
    gate: Gate,
    journal: Journal,
    workers: Workers,
    turns: Arc<Semaphore>,
    index: Arc<Mutex<Index>>,
    ending: Arc<AtomicBool>,
}

impl HubHistory {
    /// The history in `store`, for who holds the key of `opener`. Where its index does not have all of
    /// the batches up to height `tip`, which `indexed` says and will say, it is made up in the
    /// background.
    pub(super) fn start(
        store: Arc<dyn Store>,
        opener: Opener,
        (tip, indexed): (u64, Arc<AtomicBool>),
        (gate, journal): (Gate, Journal),
        workers: Workers,
    ) -> Self {
        let explorer = Explorer::new(store.clone());
        let complete = indexed.load(Ordering::Acquire);
        let this = Self {
            archive: Archive::new(store.clone(), opener.clone()),
            explorer: explorer.clone(),
            gate,
            journal,
            workers,
            turns: Arc::new(Semaphore::new(READS_AT_A_TIME)),
            index: Arc::new(Mutex::new(match complete {
                true => Index::Ready,
                false => Index::Rebuilding { height: 0, tip },
            })),
            ending: Arc::default(),
        };
        if !complete {
            tracing::info!(tip, "the index of the history is made up from the blocks");
            let (index, ending) = (this.index.clone(), this.ending.clone());
            let workers = this.workers.clone();
            let runtime = workers.runtime().clone();
            runtime.spawn(async move {
                let progress = index.clone();
                let work = move || {
                    rebuild(&*store, &explorer, &opener, tip, |height| {
                        *progress.lock() = Index::Rebuilding { height, tip };
                        !ending.load(Ordering::Relaxed)
                    })
                };
                let done = match workers.run(work).await {
                    Ok(Ok(entries)) => {
                        tracing::info!(entries, "the index of the history is complete");
                        Index::Ready
                    }
                    Ok(Err(error)) => Index::Failed(error.to_string()),
                    Err(panic) => Index::Failed(panic.to_string()),
                };
                if let Index::Failed(why) = &done {
                    tracing::error!(why, "the index of the history cannot be made up");
                }
                indexed.store(done == Index::Ready, Ordering::Release);
                *index.lock() = done;
            });
        }
        this
    }

    /// Forgets the keys of `device` that were used of late.
    pub(super) fn forget_keys(&self, device: &str) {
        self.archive.forget_keys(device);
    }

    /// Ends what goes on in the background.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    fn ready(&self) -> Result<(), HistoryError> {
        match &*self.index.lock() {
            Index::Ready => Ok(()),
            Index::Rebuilding { height, tip } => Err(HistoryError::Unreadable(format!(
                "its index is being made up and has come to block {height} of {tip}; ask again later"
            ))),
            Index::Failed(why) => Err(HistoryError::Unreadable(format!(
                "its index could not be made up: {why}"
            ))),
        }
    }

    /// Records a request, or that it was refused, and returns once that is durable.
    async fn record(
        &self,
        caller: &Caller,
        (right, kind): (Right, &str),
        (device, tags): (&str, &[String]),
        mut details: Json,
    ) -> Result<(), HistoryError> {
        let (time, whole) = (now(), name("device", device));
        let objects: Vec<_> = tags.iter().map(|tag| format!("{whole}/{tag}")).collect();
        let objects = objects.iter().map(String::as_str);
        let denied = self.gate.passages(&caller.user, right, objects, time).err();
        caller.tell(&mut details);
        if let Some(denied) = &denied {
            log_denied(caller, right, &whole, denied);
            details["rule"] = json!(denied.rule());
            details["denied"] = json!(denied.to_string());
        }
        let response = match denied {
            None => Response::Accepted,
            Some(_) => Response::Refused,
        };
        let act = Act {
            time,
            subject: &name("user", &caller.user),
            action: Action::Read,
            object: &whole,
            kind,
            details: &details,
            response,
        };
        let recorded = self.journal.record_in_company(&act).await;
        recorded.map_err(|e| HistoryError::NotRecorded(e.to_string()))?;
        if denied.is_none() {
            return Ok(());
        }
        let needed = match right {
            Right::Evidence => "take evidence of",
            _ => "see the history of",
        };
        let user = &caller.user;
        Err(HistoryError::Denied(format!(
            "{user} may not {needed} {device}"
        )))
    }
}

#[async_trait]
impl HistoryPort for HubHistory {
    async fn open(
        &self,
        caller: &Caller,
        request: PastRequest,
    ) -> Result<Vec<Arc<dyn PastTag>>, HistoryError> {
        if request.tags.len() > MAX_TAGS {
            let why = format!("more than {MAX_TAGS} tags are asked for at once");
            return Err(HistoryError::Unknown(why));
        }
        let details = json!({
            "purpose": request.purpose,
            "tags": request.tags,
            "from": rfc3339(request.from),
            "from_ns": request.from.to_string(),
            "to": rfc3339(request.to),
            "to_ns": request.to.to_string(),
        });
        let wanted = (Right::History, "history-read");
        let tags = (request.device.as_str(), request.tags.as_slice());
        self.record(caller, wanted, tags, details).await?;
        self.ready()?;
        let (archive, device) = (self.archive.clone(), request.device.clone());
        let gone = turn(&self.turns, &self.workers, move || archive.gone(&device)).await?;
        let concerned = gone.into_iter().filter(|gone| gone.concerns(request.from));
        let gone: Arc<[Gone]> = concerned.collect();
        let tags = request.tags.iter();
        let open = tags.map(|tag| -> Arc<dyn PastTag> {
            Arc::new(OpenTag {
                tag: Arc::new(self.archive.tag(&request.device, tag)),
                range: (request.from, request.to),
                gone: gone.clone(),
                workers: self.workers.clone(),
                turns: self.turns.clone(),
                journal: self.journal.clone(),
            })
        });
        Ok(open.collect())
    }

    async fn evidence(
        &self,
        caller: &Caller,
        device: &str,
        tag: &str,
        time: Nanos,
    ) -> Result<Vec<u8>, HistoryError> {
        let details = json!({
            "tag": tag,
            "at": rfc3339(time),
            "at_ns": time.to_string(),
        });
        let wanted = (Right::Evidence, "evidence");
        let tags = [tag.to_owned()];
        self.record(caller, wanted, (device, &tags), details)
            .await?;
        self.ready()?;
        let (archive, explorer) = (self.archive.clone(), self.explorer.clone());
        let place = (device.to_owned(), tag.to_owned());
        let _answering = self.journal.answering();
        let work = move || evidence(&archive, &explorer, (&place.0, &place.1), time);
        let found = turn(&self.turns, &self.workers, work).await?;
        let found = found.map(|evidence| evidence.to_bytes());
        found.ok_or_else(|| {
            HistoryError::Unknown(format!(
                "no stored sample of {device}/{tag} is at or before {}",
                rfc3339(time)
            ))
        })
    }
}

/// A tag whose read is on record.
struct OpenTag {
    tag: Arc<TagArchive>,
    range: (Nanos, Nanos),
    gone: Arc<[Gone]>,
    workers: Workers,
    turns: Arc<Semaphore>,
    journal: Journal,
}

#[async_trait]
impl PastTag for OpenTag {
    async fn page(
        &self,
        direction: Direction,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<PastPage, HistoryError> {
        let (tag, range) = (self.tag.clone(), self.range);
        let _answering = self.journal.answering();
        let work = move || tag.page(range, direction, after, limit);
        turn(&self.turns, &self.workers, work).await
    }

    async fn near(
        &self,
        time: Nanos,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<PastSample>, HistoryError> {
        let (tag, (low, high)) = (self.tag.clone(), self.range);
        let range = match direction {
            Direction::Forward => (time.clamp(low, high), Nanos::MAX),
            Direction::Backward => (Nanos::MIN, time.clamp(low, high)),
        };
        let _answering = self.journal.answering();
        let work = move || tag.page(range, direction, None, limit);
        Ok(turn(&self.turns, &self.workers, work).await?.samples)
    }

    fn gone(&self) -> &[Gone] {
        &self.gone
    }
}

/// Runs `work` on a worker thread when it is its turn.
async fn turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    workers: &Workers,
    work: impl FnOnce() -> Result<T, PastError> + Send + 'static,
) -> Result<T, HistoryError> {
    let unreadable = |why: String| HistoryError::Unreadable(why);
    let turn = turns.clone().acquire_owned().await;
    let turn = turn.map_err(|e| unreadable(e.to_string()))?;
    let done = workers.run(move || {
        // Held by the work itself: whoever stops waiting for it does not make room for more.
        let _turn = turn;
        work()
    });
    match done.await {
        Ok(done) => done.map_err(|e| unreadable(e.to_string())),
        Err(panic) => Err(unreadable(panic.to_string())),
    }
}

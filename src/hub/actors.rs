//! The thread of a hub's actors.

use super::HubError;
use super::following::SharedSays;
use crate::access::{AccessConfig, Gate};
use crate::actors::access::AccessDesk;
use crate::actors::alarms::AlarmDesk;
use crate::actors::control::ControlDoors;
use crate::actors::hub::{DevicePlan, HubActor};
use crate::actors::journal::{Journal, MakeActSealer};
use crate::actors::ledger::{self, BlockCommitted, BlockLimits, LedgerActor, LedgerStatus};
use crate::actors::session::{Book, SessionDoor, SessionRegistry};
use crate::actors::work::Workers;
use crate::alarms::{Alarm, AlarmConfig};
use crate::ledger::act::ActSealer;
use crate::stats::Stats;
use crate::validation::ChartHistory;
use actix::prelude::*;
use parking_lot::Mutex;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{broadcast, oneshot, watch};

/// The thread of the actors.
pub(super) struct Actors {
    pub(super) thread: Option<JoinHandle<()>>,
    pub(super) hub: Addr<HubActor>,
    pub(super) ledger: Addr<LedgerActor>,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) status: watch::Receiver<LedgerStatus>,
    pub(super) committed: broadcast::Sender<Arc<BlockCommitted>>,
    /// Listens since before the first device was read.
    pub(super) from_the_start: Mutex<Option<broadcast::Receiver<Arc<BlockCommitted>>>>,
    pub(super) sessions: Arc<SessionDoor>,
    pub(super) doors: ControlDoors,
    pub(super) alarms: AlarmDesk,
    pub(super) access: AccessDesk,
}

impl Actors {
    pub(super) fn start(
        (book, blocks, plans): (ledger::Book, BlockLimits, Vec<DevicePlan>),
        ((make_act_sealer, first_act_sealer), id, runtime): (
            (MakeActSealer, (u64, ActSealer)),
            &str,
            &tokio::runtime::Handle,
        ),
        (config, alarms): (AlarmConfig, Vec<Alarm>),
        (stats, history, workers): (&Arc<Stats>, &Arc<ChartHistory>, &Workers),
        (gate, access, says): (Gate, &AccessConfig, Option<SharedSays>),
    ) -> Result<Self, HubError> {
        let (config_of_access, suite) = (access.clone(), book.look(|view| view.state.suite()));
        let (started, wait) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (stats, history, workers) = (stats.clone(), history.clone(), workers.clone());
        let (id, runtime) = (id.to_owned(), runtime.clone());
        let run = move || {
            System::new().block_on(async move {
                let ledger = LedgerActor::new(book, blocks, stats, workers.clone());
                let committed = ledger.committed();
                let first = committed.subscribe();
                let status = ledger.status();
                let ledger = ledger.start();
                let journal = Journal::new(ledger.clone(), make_act_sealer, first_act_sealer);
                let usage = config_of_access.usage();
                let access =
                    AccessDesk::new(gate.clone(), journal.clone(), config_of_access, suite);
                if let Some((told, open)) = says
                    && let Err(error) = access.share(told, open)
                {
                    tracing::error!(%error, "what is recorded of access cannot be read");
                    return;
                }
                let book = Book::new(journal.clone(), access.clone());
                let sessions = SessionRegistry::open(&id, Some(book), usage);
                let seen = (status, (committed, first), sessions);
                let asked = (gate, journal.clone());
                let alarms = AlarmDesk::open(&id, config, alarms, asked, &runtime);
                let doors = ControlDoors::new(journal, workers.clone());
                let both = (history, alarms.clone());
                let at_the_door = (doors.clone(), access.clone());
                let hub = HubActor::new(ledger.clone(), both, workers, at_the_door, plans).start();
                let _ = started.send((hub, ledger, seen, doors, (alarms, access)));
                let _ = stopped.await;
            });
        };
        let thread = std::thread::Builder::new()
            .name("weighbridge-actors".to_owned())
            .spawn(run)
            .map_err(|source| HubError::Io {
                what: "the actors' thread cannot be started",
                source,
            })?;
        let (hub, ledger, (status, (committed, first), sessions), doors, (alarms, access)) =
            wait.recv().map_err(|_| HubError::Gone)?;
        Ok(Self {
            thread: Some(thread),
            hub,
            ledger,
            stop: Some(stop),
            status,
            committed,
            from_the_start: Mutex::new(Some(first)),
            sessions,
            doors,
            alarms,
            access,
        })
    }
}

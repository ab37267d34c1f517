//! Starts a hub: the data flow on one screen.
//!
//! ```text
//! source ─▶ DeviceActor ─▶ ValidatorActor ─▶ SealerActor ─▶ LedgerActor ─▶ store, head ─▶ settled
//! ```

use super::actors::Actors;
use super::builder::{HubBuilder, Storage};
use super::cluster::Joined;
use super::edges::{Admission, Edges, gates, strangers};
use super::fellows::FellowDesk;
use super::following::{self, Following};
use super::lease_table::LeaseTable;
use super::leases::{Leases, Reach};
use super::plan::{Planner, plan};
use super::readers::KeyMaker;
use super::renewal::Renewal;
use super::sealing::{self, SealingDesk};
use super::threads::Threads;
use super::{
    Checkpoints, DeviceSetup, Eraser, Hub, HubError, HubHistory, KeyDesk, Readers, Retainer,
    access, apply, device, erasure, retention,
};
use crate::access::Gate;
use crate::actors::alarms::recorded_alarm;
use crate::actors::journal::MakeActSealer;
use crate::actors::ledger::{Book, keys_of};
use crate::actors::work::Workers;
use crate::alarms::Alarm;
use crate::crypto::{HubKey, SealingRing, Signer};
use crate::ledger::act::{ActSealer, name};
use crate::ledger::facts::Word;
use crate::ledger::head::HeadSlot;
use crate::ledger::history::reader::Archive;
use crate::ledger::history::rebuild::is_complete;
use crate::ledger::key_wrap::hub_object;
use crate::ledger::opening::Opener;
use crate::ledger::query::Explorer;
use crate::ledger::signers::Signers;
use crate::ledger::store::Store;
use crate::ledger::{Ledger, State};
use crate::live_view::LiveView;
use crate::model::{DeviceId, now};
use crate::protocols::ports::AccessPort;
use crate::stats::Stats;
use crate::store::batches::{PostgresConfig, with_batches};
use crate::store::spool::SpoolLimits;
use crate::store::{BufferedStore, FjallStore, HeadFile};
use crate::validation::ChartHistory;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use weighbridge_verifier::{IdentityContent, IdentityKind};

impl HubBuilder {
    /// Opens the ledger and starts everything. Blocking; call it from no async thread.
    pub fn start(self) -> Result<Hub, HubError> {
        device::check(&self.devices)?;
        self.keys.check()?;
        if self.cluster.is_some() && self.retention.is_some() {
            let why = "nothing can be retired from it yet: take [ledger.retention] away";
            return Err(HubError::Cluster(why.to_owned()));
        }
        let threads = Threads::start()?;
        let workers = Workers::new(threads.io.handle().clone(), threads.work.handle().clone());
        let (store, head, buffer, data) =
            open_storage(self.storage, self.postgres.as_ref(), self.buffer)?;
        let sealing = match self.sealing_file {
            Some(file) => SealingRing::in_file(self.keys.sealing, &file)?,
            None => self.keys.sealing.into(),
        };
        let signing = Arc::new(match self.signing_file {
            Some(file) => HubKey::in_file(self.keys.signing, &file)?,
            None => HubKey::new(self.keys.signing),
        });
        let signer: Arc<dyn Signer> = signing.clone();
        let in_cluster = signing.clone();
        let edges = Edges::listen(self.edges.as_ref(), &signing, &sealing, threads.io.handle())?;
        let (joined, mut book) = match self.cluster {
            None => {
                let ledger = Ledger::open(store.clone(), head, self.chain, signer.clone(), now())?;
                (None, Book::from(ledger))
            }
            Some(setup) => {
                let kept = (store.clone(), head);
                let of_chain = (&*self.chain.id, setup);
                let joined = Joined::open(
                    kept,
                    of_chain,
                    (&signing, &sealing),
                    &edges,
                    threads.io.handle(),
                )?;
                let book = Book::from(joined.book.clone());
                (Some(joined), book)
            }
        };
        // A change of the key that was cut short is on record by now, or came to nothing.
        signing.settle()?;
        signing.abandon()?;
        erasure::resume(&*store);
        retention::resume(&*store);
        edges.know(&book.look(keys_of));
        let admission = edges.admission(self.edges.map(|e| e.nodes).unwrap_or_default())?;
        enrol(&mut book, &admission, &self.devices)?;
        let rotations = book.look(|view| view.rotations.to_vec());
        let explorer = Explorer::new(store.clone());
        let checkpoints = self.checkpoint_key.map(|file| {
            let (store, signer) = (store.clone(), signer.clone());
            Arc::new(Checkpoints::new(store, signer, file))
        });
        let live = LiveView::default();
        let stats = Arc::new(Stats::default());
        let history = Arc::new(ChartHistory::default());
        let fellows = joined.as_ref().map_or(self.fellows, Joined::fellows);
        let signers = book.look(|view| Signers::of(view.state));
        let opener = Opener::new(store.clone(), sealing.clone(), signer.id());
        let totals = book.look(|view| *view.state.totals());
        let opener = opener.judging(signers.clone());
        let stored = totals.accepted + totals.out_of_control;
        let indexed = Arc::new(AtomicBool::new(is_complete(&*store, stored)?));
        let own = joined.is_some().then(|| signer.id());
        let theirs = own.map(|own| book.look(|view| access::theirs(view.state, own)));
        let theirs = theirs.unwrap_or_default();
        let mut access = book.look(|view| access::recorded_access(view.state, &opener, own))?;
        sealing::resume(&sealing, access.sealing(&name("hub", signer.id())))?;
        let escrow = access::escrow(&access, self.escrow.as_ref(), signer.suite(), &theirs)?;
        let gate = Gate::new(signer.id(), access::with(&access, &escrow)?);
        let chain = book.look(|view| view.state.chain().to_owned());
        let table = Arc::new(LeaseTable::new(signer.id()));
        let planner = Planner {
            keys: KeyMaker::new(&chain, sealing.clone(), signer.clone(), gate.clone())
                .among(fellows.clone()),
            signers: signers.clone(),
            archive: Archive::new(store.clone(), opener.clone()),
            indexed: indexed.clone(),
            chain,
            opener: opener.clone(),
            signer: signer.clone(),
            live: live.clone(),
            history: history.clone(),
            attesters: Default::default(),
            leases: {
                let table = table.clone();
                Arc::new(move |device| table.reading(device))
            },
        };
        let ids: BTreeSet<DeviceId> = self.devices.iter().map(|d| d.id.clone()).collect();
        // Those that several hubs may read wait for their leases.
        let (leased, devices): (Vec<_>, Vec<_>) = (self.devices.into_iter())
            .partition(|device| joined.is_some() && !device.hubs.is_empty());
        let mut plans = Vec::with_capacity(devices.len());
        for device in devices {
            let intake = edges.intake(&device, &admission)?;
            let recorded = book.look(|view| view.state.device_settings(&device.id).cloned());
            plans.push(plan(device, recorded.as_ref(), intake, &planner)?);
        }
        let gates = gates(plans.iter().map(|plan| &plan.intake));
        let acts = act_sealers(&planner)?;
        let machines = access::machines(&gate, ids.iter().map(|id| &**id), admission.ids());
        let declared = (gate.hub(), &machines, escrow);
        access::declare(&mut book, &acts.1.1, &mut access, declared, &theirs)?;
        gate.set(Arc::new(access));
        let alarms = (
            self.alarms,
            book.look(|view| recorded_alarms(view.state, &planner.opener, own)),
        );
        // A device that another hub reads is none that was taken out.
        let shared = fellows.are_possible();
        let of = alarms.1.iter().map(|alarm| alarm.device.clone());
        let elsewhere: BTreeSet<DeviceId> = of.filter(|d| shared && !ids.contains(d)).collect();
        let recorded = (book.look(|view| view.tip.height), indexed.clone());
        let says = book
            .shared()
            .map(|shared| following::recorded(shared, &opener));
        let (says, unread) = says.unzip();
        let runtime = threads.io.handle();
        let actors = Actors::start(
            (book, self.blocks, plans),
            (acts, signer.id(), runtime),
            alarms,
            (&stats, &history, &workers),
            (gate.clone(), &self.access, says),
        )?;
        actors.alarms.read_elsewhere(&elsewhere);
        actors.alarms.forget_all_but(|device| ids.contains(device));
        let past = HubHistory::start(
            store.clone(),
            opener,
            recorded,
            (gate.clone(), actors.doors.journal().clone()),
            workers,
        );
        edges.kept_by(&actors.access, &actors.sessions);
        edges.admit(admission);
        edges.introduce(&rotations)?;
        edges.set_gates(&[], &gates);
        let (past, planner) = (Arc::new(past), Arc::new(planner));
        let edges = Arc::new(edges);
        let changing = Arc::new(tokio::sync::Mutex::new(()));
        let kept = store.clone();
        let readers = Readers::new(
            (store.clone(), runtime.clone(), changing.clone()),
            (actors.hub.clone(), actors.ledger.clone()),
            (
                planner.clone(),
                gate.clone(),
                actors.doors.journal().clone(),
            ),
        );
        readers.follow(actors.access.changes());
        let desk = FellowDesk::new(
            (fellows.clone(), planner.clone(), gate.clone()),
            (store.clone(), runtime.clone(), changing.clone()),
            Renewal {
                hub: actors.hub.clone(),
                ledger: actors.ledger.clone(),
                journal: actors.doors.journal().clone(),
            },
        );
        desk.follow(actors.access.changes());
        let keys = KeyDesk::new(
            (signing, planner.clone()),
            (actors.ledger.clone(), actors.status.clone()),
            (edges.clone(), changing.clone(), runtime.clone()),
            (gate.clone(), actors.doors.journal().clone()),
            SealingDesk::new(
                (sealing, planner.clone()),
                (edges.clone(), fellows.clone()),
                (store.clone(), runtime.clone(), changing.clone()),
                (actors.hub.clone(), actors.ledger.clone()),
                (actors.access.clone(), actors.doors.journal().clone()),
            ),
        );
        let eraser = Eraser::new(
            (store, runtime.clone(), changing.clone()),
            (actors.hub.clone(), actors.ledger.clone()),
            (past.clone(), planner.clone()),
            (gate, actors.doors.journal().clone()),
        )
        .among(joined.is_some());
        let retainer = self.retention.map(|setup| {
            Retainer::start(
                setup,
                (kept, data),
                (
                    signer.id(),
                    actors.ledger.clone(),
                    actors.doors.journal().clone(),
                ),
                (eraser.turn(), indexed),
                (actors.committed.subscribe(), stats.clone()),
                runtime,
            )
        });
        if let Some(joined) = &joined {
            let following = Following {
                book: joined.book.clone(),
                fellows: fellows.clone(),
                signers,
                opener: planner.opener.clone(),
                access: actors.access.clone(),
                alarms: actors.alarms.clone(),
                sealing: joined.sealing(),
                unread: parking_lot::Mutex::new(unread.unwrap_or_default()),
            };
            runtime.spawn(following.follow(actors.committed.subscribe()));
        }
        let cluster = joined.map(|joined| {
            let (gate, journal) = (actors.access.gate().clone(), actors.doors.journal().clone());
            let desk = (actors.ledger.clone(), gate, journal);
            joined.take_part(&in_cluster, desk, table.clone(), threads.io.handle())
        });
        let cluster = cluster.transpose()?.map(Arc::new);
        let leases = cluster.clone().map(|cluster| {
            let fence = table.clone();
            let fence = move |device: &str| fence.may_act(device);
            actors.doors.fence(Box::new(fence));
            let reach = Reach {
                planner: planner.clone(),
                ledger: actors.ledger.clone(),
                hub: actors.hub.clone(),
                changing: changing.clone(),
            };
            Leases::watch(leased, (table, cluster), reach, threads.io.handle())
        });
        Ok(Hub {
            cluster,
            leases,
            retainer,
            buffer,
            edges,
            changing,
            eraser: Arc::new(eraser),
            readers,
            fellows,
            keys: Arc::new(keys),
            past,
            id: signer.id().to_owned(),
            started: now(),
            live,
            stats,
            history,
            explorer,
            checkpoints,
            actors,
            planner,
            threads: Some(threads),
            shutdown_wait: self.shutdown_wait,
        })
    }
}

/// Opens the store, with its buffer before it, and the head beside it.
fn open_storage(
    storage: Storage,
    postgres: Option<&PostgresConfig>,
    buffer: Option<(PathBuf, SpoolLimits)>,
) -> Result<Opened, HubError> {
    let (store, head, data): (Arc<dyn Store>, Box<dyn HeadSlot>, _) = match storage {
        Storage::Given(store, head) => (store, head, None),
        Storage::Directory(data) => {
            let store = Arc::new(FjallStore::create_or_open(&data)?);
            let store = with_batches(&data, store, postgres)?;
            (store, Box::new(HeadFile::new(&data)), Some(data))
        }
    };
    let Some((dir, limits)) = buffer else {
        return Ok((store, head, None, data));
    };
    let buffered = Arc::new(BufferedStore::open(store, &dir, limits)?);
    Ok((buffered.clone(), head, Some(buffered), data))
}

/// A store, the signed head outside it, what waits for the disk, and the directory of all of it.
type Opened = (
    Arc<dyn Store>,
    Box<dyn HeadSlot>,
    Option<Arc<BufferedStore>>,
    Option<PathBuf>,
);

/// Makes the sealers of what users do, from the first key epoch on that was never used.
fn act_sealers(planner: &Planner) -> Result<(MakeActSealer, (u64, ActSealer)), HubError> {
    let object = hub_object(planner.signer.id());
    let epoch = planner.opener.next_key_epoch(&object);
    let epoch = epoch.map_err(|source| HubError::Settings {
        device: object.clone(),
        source,
    })?;
    let keys = planner.keys.clone();
    let make: MakeActSealer = Arc::new(move |epoch| {
        let (key, wraps) = keys.make((&object, epoch))?;
        Ok(ActSealer::new(key, wraps))
    });
    let first = make(epoch).map_err(HubError::Journal)?;
    Ok((make, (epoch, first)))
}

/// The alarms that were not at rest when the hub ended, as they were last recorded. One that cannot be
/// read is left out: the verdicts to come say anew what is wrong.
fn recorded_alarms(state: &State, opener: &Opener, own: Option<&str>) -> Vec<Alarm> {
    let open = |(object, word): (&String, &Word)| {
        let details = opener.open_act(&word.hub, &word.message);
        let alarm = match &details {
            Ok(details) => recorded_alarm(details),
            // Keys of what others recorded before this hub was let in may not be here.
            Err(_) if own.is_some_and(|own| own != word.hub) => None,
            Err(error) => {
                tracing::error!(object, %error, "a recorded alarm cannot be read");
                None
            }
        };
        if alarm.is_none() && details.is_ok() {
            tracing::error!(object, "a recorded alarm was written by another version");
        }
        alarm
    };
    state.alarms().iter().filter_map(open).collect()
}

/// Enrols the edge nodes, and the keys of devices that have one, as far as the ledger does not know them
/// yet.
fn enrol(book: &mut Book, admission: &Admission, devices: &[DeviceSetup]) -> Result<(), HubError> {
    let known = book.look(|view| {
        let known = view.state.identities().iter();
        known
            .map(|(id, k)| (id.clone(), (k.kind, k.key, k.revoked)))
            .collect()
    });
    let attesters = devices.iter().filter_map(attester_identity);
    let wanted = admission.identities().chain(attesters);
    let new = strangers(wanted, &known)?;
    if !new.is_empty() {
        let drafts = new.into_iter().map(apply::enrolment).collect();
        book.append(drafts, None, Vec::new(), now())?;
    }
    Ok(())
}

/// Who signs for a device that has a key of its own.
pub(super) fn attester_identity(device: &DeviceSetup) -> Option<IdentityContent> {
    let attester = device.attester.as_ref()?;
    Some(IdentityContent {
        id: attester.id().to_owned(),
        kind: IdentityKind::Device,
        key: Some(attester.public_key()),
    })
}

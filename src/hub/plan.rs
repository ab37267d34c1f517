//! How a device goes on from what the ledger holds: its limits, its keys, its settings.

use super::readers::KeyMaker;
use super::recorded::DeviceRecorded;
use super::{DeviceSetup, HubError};
use crate::actors::hub::{DevicePlan, Intake};
use crate::crypto::Signer;
use crate::ledger::facts::Document;
use crate::ledger::history::reader::Archive;
use crate::ledger::key_epochs;
use crate::ledger::opening::Opener;
use crate::ledger::seal::{BatchSealer, InForce};
use crate::ledger::signers::Signers;
use crate::live_view::LiveView;
use crate::model::DeviceId;
use crate::protocols::Recorded;
use crate::validation::{ChartHistory, DeviceValidator};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use weighbridge_verifier::PublicKey;

/// The fencing epoch of the lease under which this hub reads a device; none where it has no leases.
pub(super) type Leases = Arc<dyn Fn(&str) -> Option<u64> + Send + Sync>;

/// What all devices are planned from.
pub(super) struct Planner {
    pub chain: String,
    pub opener: Opener,
    /// By which keys the chain's hubs sign: to be told of every state that has others.
    pub signers: Signers,
    pub signer: Arc<dyn Signer>,
    pub keys: KeyMaker,
    pub live: LiveView,
    pub history: Arc<ChartHistory>,
    pub archive: Archive,
    /// Whether the index of the history is complete.
    pub indexed: Arc<AtomicBool>,
    /// Under which fencing epoch this hub reads each device, where devices have leases.
    pub leases: Leases,
    /// The devices' own keys, of those that have one.
    pub attesters: Mutex<BTreeMap<DeviceId, Arc<dyn Signer>>>,
}

impl Planner {
    /// It is on record that the device `id` has the key `key` from now on: whoever signs for it goes over to
    /// that one, if they have it.
    pub(super) fn succeeds(&self, id: &str, key: &PublicKey) {
        let attester = self.attesters.lock().get(id).cloned();
        if attester.is_some_and(|attester| attester.succeed(key)) {
            tracing::info!(device = id, %key, "the device signs by a new key");
        }
    }

    /// The same intake, with sources that know what is recorded of their device, or an edge node that is
    /// told.
    fn knowing(&self, intake: Intake, device: &DeviceSetup) -> Intake {
        let recorded: Arc<dyn Recorded> = Arc::new(DeviceRecorded {
            archive: self.archive.clone(),
            complete: self.indexed.clone(),
            device: device.id.clone(),
            tags: device.tags.clone(),
        });
        match intake {
            Intake::Source(make) => Intake::Source(Arc::new(move || {
                let mut source = make();
                source.go_on_from(recorded.clone());
                source
            })),
            Intake::Edge(feed) => {
                feed.gate.set_recorded(recorded);
                Intake::Edge(feed)
            }
        }
    }
}

/// How one device goes on from the settings that the ledger holds for it.
pub(super) fn plan(
    device: DeviceSetup,
    recorded: Option<&Document>,
    intake: Intake,
    planner: &Planner,
) -> Result<DevicePlan, HubError> {
    let Planner { opener, .. } = planner;
    let intake = planner.knowing(intake, &device);
    let id = device.id.clone();
    let wrong = |source| HubError::Settings {
        device: id.to_string(),
        source,
    };
    let (document, in_force) = match recorded {
        Some(recorded) => {
            let document = match opener.open_document(&id, &recorded.sealed) {
                Ok(document) => Some(document),
                // Another hub recorded them: to leave the device unread would be worse than to learn anew.
                Err(error) if (planner.leases)(&id).is_some() => {
                    tracing::error!(device = %id, %error, "the recorded settings cannot be opened, limits are learned anew");
                    None
                }
                Err(error) => return Err(wrong(error)),
            };
            let in_force = InForce {
                commitment: recorded.commitment,
                version: recorded.version,
            };
            (document, in_force)
        }
        None => (None, InForce::default()),
    };
    let limits = document.as_deref().and_then(|document| {
        let limits = DeviceValidator::limits_of_document(document);
        // A later version wrote it: to stop recording would be worse than to learn again.
        limits
            .inspect_err(|error| {
                tracing::error!(device = %id, %error, "the recorded limits cannot be read, they are learned anew");
            })
            .ok()
    });
    let validator = device.validator(limits.clone())?;
    let settings = validator.settings_document();
    let changed = document.as_deref() != Some(&settings);
    let lease = (planner.leases)(&id);
    let key_epoch = opener.next_key_epoch_of(&id, lease).map_err(wrong)?;
    planner.history.register(id.clone());
    let in_force = Arc::new(Mutex::new(in_force));
    let (grade, keys) = (device.grade, planner.keys.clone());
    let attester = device.attester.clone();
    match &attester {
        Some(own) => planner.attesters.lock().insert(id.clone(), own.clone()),
        None => planner.attesters.lock().remove(&id),
    };
    let make_sealer = {
        let id = id.clone();
        move |epoch| {
            key_epochs::check(epoch, lease).map_err(|e| e.to_string())?;
            let (key, wraps) = keys.make((&id, epoch))?;
            Ok(BatchSealer::new(&id, grade, key, wraps, in_force.clone())
                .attested_by(attester.clone()))
        }
    };
    let device = Arc::new(device);
    Ok(DevicePlan {
        binding: device.binding.clone(),
        chain: planner.chain.clone(),
        attester: device.attester.clone(),
        live: planner.live.register(id, device.tags.clone()),
        intake,
        batch: device.batch,
        make_validator: Arc::new(move |limits| match device.validator(limits) {
            Ok(validator) => validator,
            // The settings were accepted when the hub started; learned limits always fit them.
            Err(error) => unreachable!("{error}"),
        }),
        limits: Arc::new(Mutex::new(limits)),
        make_sealer: Arc::new(make_sealer),
        key_epoch,
        lease,
        settings: changed.then_some(settings),
    })
}

//! Who reads which device, as this hub knows it, for whoever asks: the status page, the desk of controls, new keys.

use crate::api::DeviceLease;
use crate::model::{DeviceId, Nanos, rfc3339};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Who reads which device.
pub(super) struct LeaseTable {
    own: String,
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The newest leases that the chain has.
    leases: BTreeMap<String, Held>,
    /// Whether they were looked at before: what came later came while this hub ran.
    looked: bool,
    /// Devices that several hubs may read, this one among them.
    named: BTreeSet<DeviceId>,
    /// Those that are being read here, and under which fencing epoch.
    reading: BTreeMap<DeviceId, u64>,
    /// Until when this hub may act upon machines.
    trusted_until: Option<Duration>,
}

struct Held {
    hub: String,
    epoch: u64,
    since: Option<Nanos>,
}

impl LeaseTable {
    /// No leases yet, at the hub with this id.
    pub(super) fn new(own: &str) -> Self {
        Self {
            own: own.to_owned(),
            began: Instant::now(),
            inner: Mutex::default(),
        }
    }

    /// A steady clock.
    pub(super) fn clock(&self) -> Duration {
        self.began.elapsed()
    }

    /// These devices may be read by several hubs.
    pub(super) fn names(&self, devices: impl Iterator<Item = DeviceId>) {
        self.inner.lock().named = devices.collect();
    }

    /// What the chain has: device, hub, fencing epoch.
    pub(super) fn follow(&self, leases: Vec<(String, (String, u64))>, now: Nanos) {
        let mut inner = self.inner.lock();
        let looked = std::mem::replace(&mut inner.looked, true);
        for (device, (hub, epoch)) in leases {
            let known = inner.leases.get(&device);
            if known.is_none_or(|known| known.epoch != epoch) {
                let since = looked.then_some(now);
                inner.leases.insert(device, Held { hub, epoch, since });
            }
        }
    }

    /// Enough hubs were heard for this one to act upon machines until then.
    pub(super) fn hears(&self, trusted_until: Option<Duration>) {
        self.inner.lock().trusted_until = trusted_until;
    }

    /// A device is read here under this fencing epoch, or not.
    pub(super) fn reads(&self, device: &DeviceId, epoch: Option<u64>) {
        let mut inner = self.inner.lock();
        match epoch {
            Some(epoch) => inner.reading.insert(device.clone(), epoch),
            None => inner.reading.remove(device),
        };
    }

    /// The fencing epoch under which a device is read here.
    pub(super) fn reading(&self, device: &str) -> Option<u64> {
        self.inner.lock().reading.get(device).copied()
    }

    /// Whether this hub may act upon a device now.
    pub(super) fn may_act(&self, device: &str) -> Result<(), String> {
        let now = self.clock();
        let inner = self.inner.lock();
        if inner.trusted_until.is_none_or(|until| now > until) {
            return Err(format!(
                "this hub hears too few of the other hubs to act upon `{device}`: another one may be reading it by now. \
                 Nothing was done"
            ));
        }
        if !inner.named.contains(device) {
            return Ok(());
        }
        match inner.leases.get(device) {
            Some(held) if held.hub == self.own && inner.reading.contains_key(device) => Ok(()),
            Some(held) if held.hub != self.own => Err(format!(
                "`{}` reads `{device}` now: ask there. Nothing was done",
                held.hub
            )),
            _ => Err(format!(
                "this hub does not read `{device}` yet, so nothing was done"
            )),
        }
    }

    /// What is shown.
    pub(super) fn shown(&self) -> Vec<DeviceLease> {
        let inner = self.inner.lock();
        let leases = inner.leases.iter().map(|(device, held)| DeviceLease {
            device: device.clone(),
            hub: held.hub.clone(),
            epoch: held.epoch,
            since: held.since.map(rfc3339),
            read_here: inner.reading.contains_key(device.as_str()),
        });
        leases.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_acts_upon_what_it_reads_while_it_hears_the_others() {
        let table = LeaseTable::new("a");
        let press: DeviceId = "press".into();
        let lease = |hub: &str, epoch| vec![("press".to_owned(), (hub.to_owned(), epoch))];
        assert!(table.may_act("own").unwrap_err().contains("hears too few"));
        table.hears(Some(Duration::from_secs(1_000_000)));
        assert_eq!(table.may_act("own"), Ok(()));
        table.names([press.clone()].into_iter());
        assert!(
            table
                .may_act("press")
                .unwrap_err()
                .contains("does not read")
        );
        table.follow(lease("a", 3), 7);
        table.reads(&press, Some(3));
        assert_eq!(table.may_act("press"), Ok(()));
        assert_eq!(table.shown()[0].since, None, "it was there before");
        table.follow(lease("b", 4), 9);
        assert!(table.may_act("press").unwrap_err().contains("`b` reads"));
        assert!(table.shown()[0].since.is_some() && table.shown()[0].read_here);
        table.follow(lease("a", 5), 9);
        assert_eq!(table.may_act("press"), Ok(()));
        table.hears(None);
        assert!(
            table
                .may_act("press")
                .unwrap_err()
                .contains("hears too few")
        );
    }
}

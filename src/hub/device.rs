//! One device, as a program that embeds a hub describes it.

use super::HubError;
use crate::access::DeclaredBinding;
use crate::actors::hub::MakeSource;
use crate::actors::reading::BatchLimits;
use crate::config::id_fault;
use crate::crypto::Signer;
use crate::model::{DeviceId, TagSpec};
use crate::protocols::Source;
use crate::validation::{DeviceValidator, Limits, TagValidation, ValidationConfig};
use std::collections::BTreeSet;
use std::sync::Arc;
use weighbridge_verifier::settings::Origin;

/// Where a device's batches come from.
#[derive(Clone)]
pub(super) enum Feed {
    /// The hub reads it.
    Source(MakeSource),
    /// The edge node of this id reads it.
    Edge(String),
}

/// One device, as the hub needs it.
#[derive(Clone)]
pub struct DeviceSetup {
    /// Its id.
    pub id: DeviceId,
    /// Its tags, in the order of its source.
    pub tags: Arc<[TagSpec]>,
    /// When its batches close.
    pub batch: BatchLimits,
    /// Validation of the device as a whole.
    pub validation: ValidationConfig,
    /// Validation of each tag, in the order of the tags; what is missing is as the device's.
    pub tag_validation: Vec<TagValidation>,
    /// The files that these settings were made from, such as a device profile: recorded with them.
    pub origins: Vec<Origin>,
    /// Privacy grade of its data (Yang et al. 2024, "Egrade").
    pub grade: u8,
    /// What it is said to be known by; what is not said is learned when it first answers.
    pub binding: DeclaredBinding,
    /// The device's own key, where it has one: it signs what the hub read, beside the hub. Its id must
    /// be the device's; the key is enrolled in the ledger at the first start. One that has a successor
    /// ([`crate::crypto::ReplaceableKey`]) goes over to it when that is enrolled, and nothing waits.
    pub attester: Option<Arc<dyn Signer>>,
    /// Samples a second that it should send, where an edge node reads it: many times more is a flood.
    pub samples_per_second: Option<f64>,
    /// The hubs that may read it, the first choice first, where several share the chain: the ledger has which of them
    /// does. Empty: this hub alone.
    pub hubs: Vec<String>,
    pub(super) feed: Feed,
}

impl DeviceSetup {
    /// A device with default settings, read through what `make_source` makes; it is called again when
    /// the device's pipeline has to be built anew.
    pub fn new(
        id: DeviceId,
        tags: Arc<[TagSpec]>,
        make_source: impl Fn() -> Box<dyn Source> + Send + Sync + 'static,
    ) -> Self {
        Self::fed(id, tags, Feed::Source(Arc::new(make_source)))
    }

    /// A device with default settings that the edge node `edge` reads, with these tags in this order.
    pub fn at_edge(id: DeviceId, tags: Arc<[TagSpec]>, edge: &str) -> Self {
        Self::fed(id, tags, Feed::Edge(edge.to_owned()))
    }

    fn fed(id: DeviceId, tags: Arc<[TagSpec]>, feed: Feed) -> Self {
        Self {
            id,
            tags,
            batch: BatchLimits::default(),
            validation: ValidationConfig::default(),
            tag_validation: Vec::new(),
            origins: Vec::new(),
            grade: 0,
            binding: DeclaredBinding::default(),
            attester: None,
            samples_per_second: None,
            hubs: Vec::new(),
            feed,
        }
    }

    /// Makes its source; `None` when an edge node reads it.
    pub(crate) fn source(&self) -> Option<MakeSource> {
        match &self.feed {
            Feed::Source(make) => Some(make.clone()),
            Feed::Edge(_) => None,
        }
    }

    pub(super) fn validator(&self, limits: Option<Limits>) -> Result<DeviceValidator, HubError> {
        DeviceValidator::new(
            self.tags.clone(),
            &self.validation,
            &self.tag_validation,
            limits,
        )
        .map(|validator| validator.made_from(&self.origins))
        .map_err(|source| HubError::Validation {
            device: self.id.to_string(),
            source,
        })
    }

    /// What a configuration file would be told: names that records can hold and that tell tags apart.
    fn fault(&self) -> Option<String> {
        if let Some(fault) = id_fault(&self.id) {
            return Some(format!("its id is not one: {fault}"));
        }
        if self.tags.is_empty() {
            return Some("it has no tags".to_owned());
        }
        if !self.hubs.is_empty() && matches!(self.feed, Feed::Edge(_)) {
            return Some("an edge node reads it, which goes from hub to hub by itself".to_owned());
        }
        if let Some(attester) = &self.attester
            && attester.id() != &*self.id
        {
            return Some(format!("its key is that of `{}`", attester.id()));
        }
        let mut names = BTreeSet::new();
        let twice = self.tags.iter().find(|tag| !names.insert(&tag.name));
        twice.map(|tag| format!("two of its tags have the name `{}`", tag.name))
    }
}

/// Refuses devices that the ledger could not keep apart.
pub(crate) fn check(devices: &[DeviceSetup]) -> Result<(), HubError> {
    let mut ids = BTreeSet::new();
    for device in devices {
        let twice = || "another device has the same id".to_owned();
        let fault = device.fault();
        if let Some(reason) = fault.or_else(|| (!ids.insert(&device.id)).then(twice)) {
            let device = device.id.to_string();
            return Err(HubError::Device { device, reason });
        }
    }
    Ok(())
}

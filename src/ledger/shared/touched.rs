//! What records touch of the state: where others touch something else, the order of the two does not matter.
//!
//! A hub that was away takes many blocks, and each of them would have all of its open records applied again. Nearly all
//! records are batches of devices that one hub reads, so mostly the others' can be entered after its own instead, and the
//! state is the same.

use crate::ledger::words::{ACCESS_OBJECT, ALARM_OBJECT};
use std::collections::BTreeMap;
use weighbridge_verifier::{Content, RecordBody};

/// A part of the state that records of different hubs could both change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// A device's place and leases, and of attesters their places there.
    Device(String),
    /// A document in force.
    Document(String, String),
    /// An alarm, or an entry about access.
    Word(String),
    /// What a relay knows of other chains: of two steps the order matters.
    Relay,
    /// Who there is, and by which keys: everything rests on that.
    Identities,
}

/// The part of the state that a record changes besides its hub's own place and the sums; `None` for none.
pub(super) fn part(body: &RecordBody) -> Option<Part> {
    match &body.content {
        Content::Batch(batch) => Some(Part::Device(batch.device.clone())),
        Content::Lease(lease) => Some(Part::Device(lease.device.clone())),
        Content::Document(document) => {
            let (object, kind) = (body.object.clone(), document.kind.clone());
            Some(Part::Document(object, kind))
        }
        Content::Message(_) => {
            let object = &body.object;
            let kept = object.starts_with(ALARM_OBJECT) || object.starts_with(ACCESS_OBJECT);
            kept.then(|| Part::Word(object.clone()))
        }
        Content::Anchor(_) | Content::Exchange(_) => Some(Part::Relay),
        Content::Commitment(_) => None,
        Content::Identity(_)
        | Content::Rotation(_)
        | Content::Centres(_)
        | Content::Derived(_)
        | Content::HubVote(_)
        | Content::Equivocation(_) => Some(Part::Identities),
    }
}

/// How many open records touch each part.
#[derive(Debug, Default)]
pub(super) struct Touched(BTreeMap<Part, usize>);

impl Touched {
    pub(super) fn of<'a>(bodies: impl Iterator<Item = &'a RecordBody>) -> Self {
        let mut touched = Self::default();
        bodies.for_each(|body| touched.add(body));
        touched
    }

    pub(super) fn add(&mut self, body: &RecordBody) {
        if let Some(part) = part(body) {
            *self.0.entry(part).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, body: &RecordBody) {
        let Some(part) = part(body) else { return };
        if let Some(count) = self.0.get_mut(&part) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(&part);
            }
        }
    }

    /// Whether none of these records, which are other hubs', touches what open ones do.
    pub(super) fn is_apart<'a>(&self, mut others: impl Iterator<Item = &'a RecordBody>) -> bool {
        !self.0.contains_key(&Part::Identities)
            && others.all(|body| match part(body) {
                Some(Part::Identities) => false,
                Some(part) => !self.0.contains_key(&part),
                None => true,
            })
    }
}

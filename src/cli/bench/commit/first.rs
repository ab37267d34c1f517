//! The first hub, in this process.

use super::chain::Lines;
use crate::cli::hubs::Place;
use crate::config;
use crate::hub::{Faces, Hub, HubBuilder, OpenFaces};
use anyhow::bail;
use std::sync::atomic::Ordering;

/// The hub, with its faces open.
pub(super) struct First {
    pub(super) hub: Hub,
    faces: OpenFaces,
    /// When its blocks were there.
    pub(super) lines: Lines,
}

impl First {
    pub(super) fn start(place: &Place) -> anyhow::Result<Self> {
        let Ok(loaded) = config::load(&place.config) else {
            bail!(
                "{} is not right: see `weighbridge check`",
                place.config.display()
            );
        };
        let hub = HubBuilder::from_config(&loaded.config)?.start()?;
        let lines = Lines::default();
        hub.runtime().spawn(lines.clone().note(hub.committed()));
        let faces = hub.open_faces(&Faces::from_config(&loaded.config))?;
        Ok(Self { hub, faces, lines })
    }

    /// How many values its machines' batches have on average.
    pub(super) fn points_a_batch(&self) -> f64 {
        let stats = self.hub.stats();
        stats.points.load(Ordering::Relaxed) as f64 / stats.batches().max(1) as f64
    }

    pub(super) fn end(self) -> anyhow::Result<()> {
        self.faces.close(&self.hub.runtime());
        Ok(self.hub.shutdown()?)
    }
}

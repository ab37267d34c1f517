//! Which configuration a hub runs with, and what became of later ones.

use parking_lot::RwLock;
use serde::Serialize;
use std::sync::Arc;

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConfigChange {
    /// When.
    pub time: String,
    /// Devices that came.
    pub added: usize,
    /// Devices that went.
    pub removed: usize,
    /// Devices that were built anew.
    pub changed: usize,
    /// Devices that went on without noticing.
    pub untouched: usize,
}

/// A configuration that changed nothing, because it is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RefusedConfig {
    /// When it was seen.
    pub time: String,
    /// How many mistakes it has.
    pub errors: usize,
    /// The first of them: `file:line:column: what is wrong`.
    pub first: String,
    /// All of them as `weighbridge check` shows them, as far as they fit.
    pub text: String,
}

/// How the configuration of a running hub is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConfigState {
    /// The newest change that was taken over since the start.
    pub last_change: Option<ConfigChange>,
    /// What is on the disk now and was not taken over; `null` when all is.
    pub refused: Option<RefusedConfig>,
    /// Keys that differ on the disk and take effect only when the hub is started again.
    pub needs_restart: Vec<String>,
}

/// The state of the configuration, written by whoever reloads it.
#[derive(Clone, Default)]
pub struct ConfigStatus(Arc<RwLock<ConfigState>>);

impl ConfigStatus {
    /// As it is.
    pub fn get(&self) -> ConfigState {
        self.0.read().clone()
    }

    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut ConfigState)) {
        change(&mut self.0.write());
    }
}

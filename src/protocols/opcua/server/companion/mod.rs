//! Machines as the companion specifications have them: OPC UA for Machinery (OPC 40001-1) for every
//! device, and OPC UA for Robotics (OPC 40010-1) for those that are robots.
//!
//! The stack has nodes of the standard's own namespace only, so the types needed are here ([`types`]).
//! Instances are made by what their types say ([`instance`]); their variables show the same samples as the
//! hub's own, pushed the same way. A variable that its type asks for and that no tag was named for is
//! there with the status Bad_ConfigurationError.

mod config;
mod instance;
mod machine;
pub(super) mod point;
mod robot;
pub(super) mod types;

pub use config::{MachineKind, MachineryConfig, MotionDeviceCategory, TagRole};

use super::origin::Origin;
use super::points::Group;
use crate::live_view::DeviceLive;
use crate::model::DeviceId;
use instance::Builder;
use opcua::server::address_space::AddressSpace;
use opcua::types::NodeId;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{Spaces, Types};

/// What is configured about a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its nameplate.
    pub machinery: MachineryConfig,
    /// What its tags mean, by name.
    pub roles: BTreeMap<String, TagRole>,
}

/// What is configured about all machines; shared, because configurations change. Devices that are not
/// among them are machines that nobody said anything about.
#[derive(Clone, Debug, Default)]
pub struct Machines(Arc<RwLock<BTreeMap<DeviceId, Machine>>>);

impl Machines {
    /// These, and no others.
    pub fn set(&self, machines: BTreeMap<DeviceId, Machine>) {
        *self.0.write() = machines;
    }

    fn of(&self, device: &str) -> Machine {
        self.0.read().get(device).cloned().unwrap_or_default()
    }
}

/// The nodes of one device.
struct There {
    group: Arc<Group>,
    nodes: Vec<NodeId>,
}

/// A device's variables, and those that they take the place of.
pub(super) struct Added {
    pub(super) group: Arc<Group>,
    pub(super) old: Option<Arc<Group>>,
}

/// All machines of the server.
pub(super) struct Companions {
    spaces: Spaces,
    own: u16,
    types: Types,
    machines: Machines,
    there: Mutex<BTreeMap<DeviceId, There>>,
}

impl Companions {
    /// Adds types and folders; instances are in the namespace `own`.
    pub(super) fn new(
        space: &mut AddressSpace,
        spaces: Spaces,
        own: u16,
        machines: Machines,
    ) -> Self {
        let types = Types::read();
        types.add(space, spaces);
        machine::add_folders(space, spaces);
        Self {
            spaces,
            own,
            types,
            machines,
            there: Mutex::default(),
        }
    }

    /// Removes a device's machine; the variables that it had.
    pub(super) fn remove(&self, space: &mut AddressSpace, device: &str) -> Option<Arc<Group>> {
        let old = self.there.lock().remove(device)?;
        for node in &old.nodes {
            space.delete(node, true);
        }
        Some(old.group)
    }

    /// Adds a device's machine, in place of the one there is.
    pub(super) fn add(&self, space: &mut AddressSpace, live: &Arc<DeviceLive>) -> Added {
        let old = self.remove(space, &live.id);
        let machine = self.machines.of(&live.id);
        let mut builder = Builder {
            space,
            spaces: self.spaces,
            types: &self.types,
            own: self.own,
            nodes: Vec::new(),
            points: Vec::new(),
        };
        machine::add(&mut builder, live, &machine);
        let Builder { nodes, points, .. } = builder;
        let (ids, points) = points.into_iter().unzip();
        let origin = Origin::Machine(live.clone(), points);
        let group = Arc::new(Group::new(origin, ids));
        let now = There {
            group: group.clone(),
            nodes,
        };
        self.there.lock().insert(live.id.clone(), now);
        Added { group, old }
    }
}

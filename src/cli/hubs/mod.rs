//! Several hubs that share a chain, on this machine: their directories, their processes, and how the first lets the
//! others in. For what shows or measures them.

mod admission;
mod process;
mod site;

pub(super) use admission::let_in;
pub(super) use process::{HubProcess, News, Said};
pub(super) use site::{Place, Wishes, device_tables, make};

/// The chain's hubs, as one of them sees them.
pub(super) const CLUSTER: &str = "/api/v1/cluster";

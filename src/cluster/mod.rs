//! Several hubs with one chain: what goes from hub to hub, what each brings to the agreement, and what comes of it.
//!
//! Consensus itself is in a crate of its own (`weighbridge-consensus`), which is named here and nowhere else.
//!
//! Architecture invariant: the links between hubs know no ledger, no store and no engine. What they need of them is
//! behind the ports ([`ports`]).

mod application;
mod book;
mod consensus;
pub mod drafts;
mod for_mesh;
mod keys;
pub mod lease;
mod lies;
pub mod mesh;
mod network;
pub mod ports;
mod standing;

pub use book::{Committed, Recorded, SharedBook};
pub use consensus::{Consensus, ConsensusPeer, ConsensusSetup, MAX_VALUE};
pub use network::network_id;
pub use standing::Standing;
pub use weighbridge_consensus::{EngineError, Progress, Timing};

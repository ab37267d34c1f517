//! Several hubs with one chain: what goes from hub to hub.
//!
//! Architecture invariant: nothing here knows a ledger, a store or an engine. What the links need of them is
//! behind the ports ([`ports`]).

pub mod mesh;
pub mod ports;

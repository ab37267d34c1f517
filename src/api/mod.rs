//! The HTTP face: a REST API, a stream of live values, metrics for Prometheus, and the dashboard. The
//! only module that knows actix-web.
//!
//! Beyond loopback it listens only with TLS and users who log in; on loopback it may do without, and whoever is
//! on the machine is the user `local`. What is done to machines, alarms and access is decided elsewhere, and
//! recorded there; everything else only reads.
//!
//! Everything is bounded: entries of an answer, clients of the stream, what is queued for a slow
//! one, and how many blocks one search looks through.

mod about;
mod access;
mod alarms;
mod body;
mod caller;
mod checkpoint;
mod cluster;
mod context;
mod control;
mod devices;
mod edge_node;
mod erase;
mod events;
mod feed;
mod feeds;
mod guard;
mod history;
mod keys;
mod ledger;
mod loaded;
mod log_in;
mod metrics;
mod names;
mod own;
mod page;
mod patience;
mod ports;
mod problem;
pub mod process;
mod qr;
mod query;
mod readers;
mod server;
mod status;
mod users;
pub(crate) mod views;

#[cfg(test)]
mod alarm_tests;
#[cfg(test)]
mod control_tests;
#[cfg(test)]
mod fakes;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;

pub use about::Standing;
pub use caller::{FACE, LOCAL};
pub use cluster::{ClusterHub, ClusterPort, ClusterStatus, DeviceLease, OpenVote};
pub use context::{ApiContext, DeviceInfo, DeviceList};
pub use edge_node::{EdgeContext, EdgeLane, EdgeReader, EdgeUplink, start_edge};
pub use erase::view as erasure_view;
pub use feeds::{Feed, FeedReader};
pub use loaded::{ConfigChange, ConfigState, ConfigStatus, RefusedConfig};
pub use names::Front;
pub use ports::{
    ChartReader, CheckpointPort, EraseFault, ErasePort, EraseRequest, EraseStatus, KeyFault,
    KeyPort, KnownKey, LedgerReadError, LedgerReader, NewKey, NewSealingKey, NoCheckpoint,
    OfferedKey, ReadersFault, ReadersPort, RecordAt, RecordFilter, RecordPage, ReleaseRequest,
    RetentionStatus, SealedRequest, SealingKeys, Tip,
};
pub use qr::{QR_QUIET, Qr};
pub use server::{ApiError, Running, start};

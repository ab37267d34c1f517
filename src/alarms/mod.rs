//! Alarms: what validation found wrong, until somebody has seen it and it is over.
//!
//! Two steps, both pure. A [`DeviceWatch`] turns the verdicts over one device's batches, and the state
//! of its connection, into [`Edge`]s: an alarm is raised, becomes worse, or is over. It is there that
//! an alarm is kept from chattering. A [`Board`] holds the state of every alarm as OPC UA describes it
//! (OPC 10000-9, 5.5 to 5.8: active, acknowledged, confirmed, shelved), takes the edges, and decides
//! what users may do with an alarm.
//!
//! There is one alarm a tag, for everything its charts and checks find, and one a device for what is of
//! the device as a whole: batches that are refused, and a connection that is lost. Conditions have no
//! branches: an alarm that comes back before it was acknowledged is a new occurrence of the same one.

mod alarm;
mod board;
mod config;
mod watch;

#[cfg(test)]
mod tests;

pub use alarm::{Alarm, AlarmAction, AlarmError, Exceeded, Kind, Severity, Shelving, alarm_id};
pub use board::{Board, MAX_COMMENT};
pub use config::AlarmConfig;
pub use watch::{DeviceWatch, Edge, EdgeKind, Trouble, severity};

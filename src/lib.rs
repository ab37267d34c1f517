//! Weighbridge: nothing enters the record unweighed.

#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod access;
pub mod actors;
pub mod alarms;
pub mod api;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod crypto;
pub mod edge;
pub mod hub;
pub mod ledger;
pub mod live_view;
pub mod model;
pub mod protocols;
pub mod sim;
pub mod stats;
pub mod store;
pub mod validation;

//! One actor a device, stage, ledger, hub and session: thin shells around the pure core.
//!
//! The data path runs one way: `device` → `validator` → `sealer` → `ledger`. A batch carries a
//! [`Credit`](credit::Credit) all the way; the credit returns when the batch's block is durable, so a slow disk
//! stops the reading instead of filling memory. Actors only pass messages: judging, sealing and
//! writing run on worker threads.

pub mod access;
pub mod admission;
pub mod alarms;
pub mod allowance;
pub mod binding;
pub mod control;
pub mod credit;
pub mod device;
pub mod edge_intake;
pub mod hub;
pub mod journal;
pub mod ledger;
pub mod log_in;
pub mod possession;
pub mod reading;

pub mod sealer;
pub mod session;
pub mod sums;
pub mod users;
pub mod validator;
pub mod work;

#[cfg(test)]
mod tests;

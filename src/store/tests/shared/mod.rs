//! A chain that several hubs share, over simulated disks, links and consensus.

mod damage;
mod draws;
mod hub;
mod liars;
mod simulation;
mod world;

use super::{CHAIN, FaultyDisk, SUITE};
use crate::ledger::shared::SharedConfig;

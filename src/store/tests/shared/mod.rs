//! A chain that several hubs share, over simulated disks, links and consensus.

mod bounds;
mod damage;
mod draws;
mod hub;
mod liars;
mod rebase;
mod simulation;
mod world;

use super::{CHAIN, FaultyDisk, SUITE};
use crate::ledger::shared::SharedConfig;

//! A whitelist and a blacklist for each side of a hub (Wan et al. 2019, Algorithms 1 and 2).

use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where somebody comes from.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Devices, edge nodes and hubs.
    Intranet,
    /// Users: people and their programs.
    Extranet,
}

impl Side {
    /// The name used in files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intranet => "intranet",
            Self::Extranet => "extranet",
        }
    }
}

/// The lists of one side. Who is on both is blacklisted.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, Serialize)]
pub struct Lists {
    /// Who may come in.
    pub white: BTreeSet<String>,
    /// Who may not, whatever else holds.
    pub black: BTreeSet<String>,
}

//! Where `blocks` and `records` read: a running hub's HTTP interface, or the directory of a stopped
//! one. Both answer in the same JSON, so what is printed does not depend on where it came from.

use super::http_get::HubUrl;
use clap::Args;
use std::path::PathBuf;

/// Which ledger.
#[derive(Debug, Args)]
pub(super) struct LedgerFrom {
    /// A running hub
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL"
    )]
    pub(super) url: HubUrl,
    /// The data directory of a stopped hub, instead of a running one
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
}

/// What both listings are told besides.
#[derive(Debug, Args)]
pub(super) struct Listing {
    #[command(flatten)]
    pub(super) from: LedgerFrom,
    /// How many at most, newest first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) limit: u16,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

//! What every command that asks a running hub is told.

use super::http_get::HubUrl;
use clap::Args;

/// Which hub, and how its answer is printed.
#[derive(Debug, Args)]
pub(super) struct HubArgs {
    /// A running hub
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL",
        global = true
    )]
    pub(super) url: HubUrl,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub(super) json: bool,
}

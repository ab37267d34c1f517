//! The threads of a hub.

use super::HubError;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long a hub that ends waits for what is being written.
const WORK_WAIT: Duration = Duration::from_secs(5);
/// How long it waits for what blocks a source, like a name server that does not answer.
const IO_WAIT: Duration = Duration::from_secs(1);

/// A hub's threads, but for that of its actors.
pub(super) struct Threads {
    /// Sources and servers.
    pub(super) io: Runtime,
    /// Judging, sealing and writing.
    pub(super) work: Runtime,
}

impl Threads {
    pub(super) fn start() -> Result<Self, HubError> {
        let cores = std::thread::available_parallelism().map_or(2, |n| n.get());
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_name("weighbridge-io")
            .enable_all()
            .build();
        let work = tokio::runtime::Builder::new_current_thread()
            // One writes the ledger while the others judge and seal.
            .max_blocking_threads(cores + 2)
            .thread_name("weighbridge-work")
            .build();
        let failed = |source| HubError::Io {
            what: "the runtime's threads cannot be started",
            source,
        };
        Ok(Self {
            io: io.map_err(failed)?,
            work: work.map_err(failed)?,
        })
    }

    pub(super) fn end(self) {
        self.io.shutdown_timeout(IO_WAIT);
        self.work.shutdown_timeout(WORK_WAIT);
    }
}

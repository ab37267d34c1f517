//! Worker threads for what takes processor time, so that no actor's thread is ever busy with it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::runtime::Handle;

/// A panic in a worker, as text.
#[derive(Debug, thiserror::Error)]
#[error("a worker panicked: {0}")]
pub struct Panicked(pub String);

/// Where work is sent.
#[derive(Clone)]
pub struct Workers {
    runtime: Handle,
    pool: Handle,
}

impl Workers {
    /// Workers of the blocking pool behind `pool`, and the `runtime` that sources and servers run on.
    /// They are two, because what blocks on the sources' side (a name server that does not answer)
    /// must not keep batches from being judged and blocks from being written.
    pub fn new(runtime: Handle, pool: Handle) -> Self {
        Self { runtime, pool }
    }

    /// The runtime that sources and servers run on.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Runs `work` on a worker thread; a panic in it comes back as an error and hurts nobody else.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let task = self
            .pool
            .spawn_blocking(move || catch_unwind(AssertUnwindSafe(work)));
        match task.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(panic)) => Err(Panicked(text(panic.as_ref()))),
            Err(e) => Err(Panicked(e.to_string())),
        }
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "without a message".to_owned()
    }
}

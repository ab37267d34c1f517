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
pub struct Workers(Handle);

impl Workers {
    /// Workers of the blocking pool behind `runtime`.
    pub fn new(runtime: Handle) -> Self {
        Self(runtime)
    }

    /// The runtime that sources and servers run on.
    pub fn runtime(&self) -> &Handle {
        &self.0
    }

    /// Runs `work` on a worker thread; a panic in it comes back as an error and hurts nobody else.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let task = self
            .0
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

//! Being asked to end: Ctrl-C, or SIGTERM where there is one.

use std::future::Future;
use tokio::runtime::Handle;

/// Returns a future that is ready once the process is asked to end. From this call on, being asked
/// does not kill the process any more, even before the future is first waited for.
#[cfg(unix)]
pub(super) fn asked_to_end(runtime: &Handle) -> impl Future<Output = ()> + use<> {
    use tokio::signal::unix::{Signal, SignalKind, signal};
    async fn heard(signal: Option<Signal>) {
        match signal {
            Some(mut signal) => {
                signal.recv().await;
            }
            // What cannot be listened for does what it does by default.
            None => std::future::pending().await,
        }
    }
    let _inside = runtime.enter();
    let interrupt = heard(signal(SignalKind::interrupt()).ok());
    let terminate = heard(signal(SignalKind::terminate()).ok());
    async {
        tokio::select! {
            () = interrupt => {}
            () = terminate => {}
        }
    }
}

/// Returns a future that is ready once the process is asked to end.
#[cfg(not(unix))]
pub(super) fn asked_to_end(_: &Handle) -> impl Future<Output = ()> + use<> {
    async {
        let _ = tokio::signal::ctrl_c().await;
    }
}

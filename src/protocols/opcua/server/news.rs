//! How a group of variables hears that something is new.

use crate::live_view::News;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};

/// Where news come from.
pub(super) enum Source {
    Device(broadcast::Receiver<News>),
    Ledger(watch::Receiver<u64>),
}

/// What is new.
pub(super) enum Fresh {
    News(News),
    /// Perhaps everything.
    All,
    /// More than could be kept.
    Missed,
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Ended,
}

impl Source {
    /// Waits for something new.
    pub(super) async fn wait(&mut self) -> Fresh {
        match self {
            Self::Device(news) => match news.recv().await {
                Ok(news) => Fresh::News(news),
                Err(RecvError::Lagged(_)) => Fresh::Missed,
                Err(RecvError::Closed) => Fresh::Ended,
            },
            Self::Ledger(changes) => match changes.changed().await {
                Ok(()) => Fresh::All,
                Err(_) => Fresh::Ended,
            },
        }
    }

    /// What is new already.
    pub(super) fn look(&mut self) -> Fresh {
        match self {
            Self::Device(news) => match news.try_recv() {
                Ok(news) => Fresh::News(news),
                Err(TryRecvError::Lagged(_)) => Fresh::Missed,
                Err(TryRecvError::Empty) => Fresh::Nothing,
                Err(TryRecvError::Closed) => Fresh::Ended,
            },
            Self::Ledger(_) => Fresh::Nothing,
        }
    }
}

//! What the HTTP face of a hub shows of its edge nodes, and of the devices that they read.

use super::context::ApiContext;
use crate::live_view::DeviceLive;
use crate::model::{Nanos, now, rfc3339};
use crate::protocols::edge::{Backlog, NodeStatus};
use serde::Serialize;

/// How a device is fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The edge node that reads it.
    pub edge: String,
    /// What waits there, as far as it ever said.
    pub backlog: Option<Backlog>,
}

/// The edge nodes of a hub.
pub trait FeedReader: Send + Sync + 'static {
    /// How they are.
    fn nodes(&self) -> Vec<NodeStatus>;

    /// How a device is fed; `None` when the hub reads it itself.
    fn feed(&self, device: &str) -> Option<Feed>;
}

/// A device that an edge node reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct FeedView {
    /// The edge node.
    node: String,
    connected: bool,
    /// Batches in the edge node's buffer, as it said last.
    buffered_batches: Option<u64>,
    buffered_bytes: Option<u64>,
    /// From the source time of the newest sample that came, until now by the hub's clock.
    lag_seconds: Option<f64>,
}

/// An edge node, seen by its hub.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct EdgeNodeView {
    id: String,
    connected: bool,
    since: Option<String>,
    /// Why it is not connected.
    reason: Option<String>,
    last_heard: Option<String>,
    /// Devices that it reads for this hub.
    devices: usize,
    /// Of all its devices.
    buffered_batches: u64,
    buffered_bytes: u64,
    /// Of the device that is furthest behind.
    lag_seconds: Option<f64>,
}

fn lag(live: &DeviceLive, now: Nanos) -> Option<f64> {
    // Two clocks: what is read ahead of this one is no lag.
    let behind = |heard: Nanos| now.saturating_sub(heard).max(0) as f64 / 1e9;
    live.heard().map(behind)
}

impl ApiContext {
    /// How a device is fed, when an edge node reads it.
    pub(super) fn feed(&self, live: &DeviceLive) -> Option<FeedView> {
        let edges = self.edges.as_ref()?;
        let feed = edges.feed(&live.id)?;
        let node = edges.nodes().into_iter().find(|n| n.id == feed.edge);
        Some(FeedView {
            node: feed.edge,
            connected: node.is_some_and(|n| n.connected.is_some()),
            buffered_batches: feed.backlog.map(|b| b.batches),
            buffered_bytes: feed.backlog.map(|b| b.bytes),
            lag_seconds: lag(live, now()),
        })
    }

    pub(super) fn edge_nodes(&self) -> Vec<EdgeNodeView> {
        let Some(edges) = &self.edges else {
            return Vec::new();
        };
        let mut views: Vec<_> = edges.nodes().into_iter().map(EdgeNodeView::new).collect();
        if views.is_empty() {
            return views;
        }
        let time = now();
        for live in self.live.devices() {
            let Some(feed) = edges.feed(&live.id) else {
                continue;
            };
            let Some(view) = views.iter_mut().find(|view| view.id == feed.edge) else {
                continue;
            };
            let backlog = feed.backlog.unwrap_or_default();
            view.buffered_batches += backlog.batches;
            view.buffered_bytes += backlog.bytes;
            let lag = lag(&live, time);
            view.lag_seconds = [view.lag_seconds, lag]
                .into_iter()
                .flatten()
                .reduce(f64::max);
        }
        views
    }
}

impl EdgeNodeView {
    fn new(node: NodeStatus) -> Self {
        let connected = node.connected.is_some();
        Self {
            id: node.id,
            connected,
            since: node.connected.map(rfc3339),
            reason: (!connected).then_some(node.reason),
            last_heard: node.heard.map(rfc3339),
            devices: node.devices,
            buffered_batches: 0,
            buffered_bytes: 0,
            lag_seconds: None,
        }
    }
}

//! What an edge node shows to the outside.

use super::uplink::Lanes;
use super::{EdgeNode, UplinkStatus, WhenFull};
use crate::api::{
    self, ApiError, ConfigStatus, EdgeContext, EdgeLane, EdgeReader, EdgeUplink, Running,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::watch;

struct View {
    uplink: watch::Receiver<UplinkStatus>,
    lanes: watch::Receiver<Lanes>,
    heard: Arc<AtomicI64>,
}

impl EdgeReader for View {
    fn uplink(&self) -> EdgeUplink {
        let heard = self.heard.load(Ordering::Relaxed);
        let last_success = (heard != 0).then_some(heard);
        let status = self.uplink.borrow().clone();
        match status {
            UplinkStatus::Starting => EdgeUplink::default(),
            UplinkStatus::Up {
                hub,
                address,
                since,
            } => EdgeUplink {
                hub: Some((hub, address)),
                since: Some(since),
                last_success,
                ..EdgeUplink::default()
            },
            UplinkStatus::Down {
                reason, retry_at, ..
            } => EdgeUplink {
                reason: Some(reason),
                last_success,
                retry_at: Some(retry_at),
                ..EdgeUplink::default()
            },
        }
    }

    fn lanes(&self) -> Vec<EdgeLane> {
        let lanes = self.lanes.borrow().clone();
        let lanes = lanes.iter().map(|lane| lane.status());
        let lane = lanes.map(|lane| EdgeLane {
            device: lane.device,
            buffered_batches: lane.pending,
            buffered_bytes: lane.bytes,
            limit_bytes: lane.limit,
            stored_batches: lane.stored,
            acknowledged_batches: lane.acknowledged,
            dropped_samples: lane.dropped,
            damaged_batches: lane.damaged,
            refused: lane.refused,
        });
        lane.collect()
    }
}

impl EdgeNode {
    /// Opens its HTTP face on `bind`, a loopback address; `config` says how the configuration is.
    pub fn open_http(&self, bind: SocketAddr, config: &ConfigStatus) -> Result<Running, ApiError> {
        let view = View {
            uplink: self.status.clone(),
            lanes: self.lanes.subscribe(),
            heard: self.heard.clone(),
        };
        let context = EdgeContext {
            edge_id: self.id.clone(),
            started: self.started,
            live: self.live.clone(),
            config: config.clone(),
            when_full: match self.cell.when_full {
                WhenFull::Stop => "stop",
                WhenFull::DropOldest => "drop_oldest",
            },
            reader: Arc::new(view),
        };
        api::start_edge(bind, context)
    }
}

//! A board of alarms for the tests of the faces: nothing is recorded, time stands still.

use super::ports::{Alarm, AlarmAction, AlarmError, AlarmPort};
use crate::access::Caller;
use crate::alarms::{AlarmConfig, Board, Edge, EdgeKind, Exceeded, Trouble};
use crate::model::Nanos;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;

/// A moment in 2026, in ns.
pub(crate) const THEN: Nanos = 1_780_000_000_123_456_700;

pub(crate) struct FakeAlarms {
    board: Mutex<Board>,
    changes: broadcast::Sender<Alarm>,
    denies: AtomicBool,
}

impl FakeAlarms {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            board: Mutex::new(Board::new(AlarmConfig::default(), Vec::new(), THEN)),
            changes: broadcast::Sender::new(64),
            denies: AtomicBool::new(false),
        })
    }

    /// Nobody may do anything to it from now on.
    pub(crate) fn deny(&self) {
        self.denies.store(true, Ordering::Relaxed);
    }

    /// Raises the alarm of a tag, or of a device as a whole.
    pub(crate) fn raise(&self, device: &str, tag: Option<&str>, severity: u16) -> Alarm {
        let exceeded = Exceeded {
            chart: "individuals".into(),
            rule: "beyond_limit".into(),
            value: Some(99.5),
            statistic: Some(99.5),
            limit: Some(90.0),
        };
        let trouble = Trouble {
            severity,
            message: format!("severity {severity}"),
            exceeded: Some(exceeded),
        };
        self.edge(device, tag, EdgeKind::Raised(trouble))
    }

    pub(crate) fn clear(&self, device: &str, tag: Option<&str>) -> Alarm {
        self.edge(device, tag, EdgeKind::Cleared)
    }

    fn edge(&self, device: &str, tag: Option<&str>, kind: EdgeKind) -> Alarm {
        let tag = tag.map(Into::into);
        let edge = Edge { tag, kind };
        let mut board = self.board.lock();
        let alarm = board.edge(&device.into(), edge, THEN);
        let alarm = alarm.expect("the edge changes the alarm");
        if alarm.enabled {
            let _ = self.changes.send(alarm.clone());
        }
        alarm
    }
}

#[async_trait]
impl AlarmPort for FakeAlarms {
    fn alarms(&self) -> Vec<Alarm> {
        let board = self.board.lock();
        board.alarms().filter(|a| !a.at_rest()).cloned().collect()
    }

    fn beyond(&self) -> u64 {
        self.board.lock().beyond()
    }

    fn max_shelved(&self) -> Duration {
        self.board.lock().config().max_shelved()
    }

    fn changes(&self) -> broadcast::Receiver<Alarm> {
        self.changes.subscribe()
    }

    async fn act(
        &self,
        caller: &Caller,
        id: &str,
        event: Option<u64>,
        action: AlarmAction,
        comment: &str,
    ) -> Result<Alarm, AlarmError> {
        if self.denies.load(Ordering::Relaxed) {
            return Err(AlarmError::Denied(format!("{} may not", caller.user)));
        }
        let mut board = self.board.lock();
        let alarm = board.act(id, event, action, (&caller.user, comment), THEN)?;
        let _ = self.changes.send(alarm.clone());
        Ok(alarm)
    }
}

//! One alarm, as everybody sees it.

use crate::model::{DeviceId, Nanos};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How serious an alarm is, 1 to 1000 as OPC UA counts (OPC 10000-5, 6.4.2, Severity).
pub type Severity = u16;

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A tag that its charts or checks found out of control.
    Tag,
    /// A device as a whole: its batches are refused, or its connection is lost.
    Device,
}

/// The sample that broke a rule, and the limit it broke.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exceeded {
    /// What signalled, for example `ewma`.
    pub chart: String,
    /// Which rule, for example `beyond_limit`.
    pub rule: String,
    /// The sample's value, in the tag's unit; `None` when it is no finite number.
    pub value: Option<f64>,
    /// The chart's statistic at that sample; `None` when it is no finite number.
    pub statistic: Option<f64>,
    /// The limit that was passed; `None` when it is no finite number.
    pub limit: Option<f64>,
}

/// Whether somebody asked to hear nothing of an alarm for a while (OPC 10000-9, 5.8.17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shelving {
    /// Nobody did.
    Unshelved,
    /// Until this moment.
    Until(Nanos),
    /// Until the cause goes away once.
    OneShot,
}

/// The state of one alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Its id, unique in the hub and the same after a restart: `device` or `device/tag`.
    pub id: String,
    /// What it is about.
    pub kind: Kind,
    /// The device.
    pub device: DeviceId,
    /// The tag; `None` for an alarm of the device as a whole.
    pub tag: Option<Arc<str>>,
    /// Whether anybody is told of it; what becomes of its cause is followed all the same.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether the cause is there now.
    pub active: bool,
    /// Whether somebody has said that they saw it.
    pub acknowledged: bool,
    /// Whether somebody has said that they dealt with it.
    pub confirmed: bool,
    /// Whether somebody asked to hear nothing of it.
    pub shelving: Shelving,
    /// How serious it is, or was at its worst since it was raised.
    pub severity: Severity,
    /// How serious it was before that.
    pub last_severity: Severity,
    /// One sentence: chart, rule, value, limit.
    pub message: String,
    /// The sample and the limit it broke, where there is one.
    pub exceeded: Option<Exceeded>,
    /// When its state last changed.
    pub time: Nanos,
    /// When it was raised last.
    pub since: Nanos,
    /// Number of its newest change of state, unique in the hub: OPC UA's EventId.
    pub event: u64,
    /// Number of the change that raised it last, or made it worse: what is acknowledged is this
    /// occurrence. Older numbers are outdated.
    pub occurrence: u64,
    /// Who last acknowledged, confirmed, shelved or commented on it, and what they said.
    pub comment: Option<(String, String)>,
}

impl Alarm {
    /// Whether it is still of interest (OPC 10000-9, 5.5.2, Retain): active, or not yet dealt with.
    pub fn retain(&self) -> bool {
        self.enabled && (self.active || !self.acknowledged || !self.confirmed)
    }

    /// Whether nothing at all must be remembered of it.
    pub fn at_rest(&self) -> bool {
        self.enabled && !self.retain() && self.shelving == Shelving::Unshelved
    }
}

/// Alarms that were recorded before any could be disabled.
fn yes() -> bool {
    true
}

/// The id of the alarm of a tag, or of a device as a whole.
pub fn alarm_id(device: &str, tag: Option<&str>) -> String {
    match tag {
        Some(tag) => format!("{device}/{tag}"),
        None => device.to_owned(),
    }
}

/// What a user does with an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmAction {
    /// They saw it.
    Acknowledge,
    /// They dealt with it.
    Confirm,
    /// They want to hear nothing of it for this long, or until it goes away when `None`.
    Shelve(Option<Duration>),
    /// They want to hear of it again.
    Unshelve,
    /// They only say something about it.
    Comment,
    /// Everybody is told of it again.
    Enable,
    /// Nobody is told of it, until it is enabled.
    Disable,
}

impl AlarmAction {
    /// The name used in records and addresses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Confirm => "confirm",
            Self::Shelve(_) => "shelve",
            Self::Unshelve => "unshelve",
            Self::Comment => "comment",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }

    /// The action of a name; `time` is for how long, of shelving.
    pub fn named(name: &str, time: Option<Duration>) -> Option<Self> {
        let all = [
            Self::Acknowledge,
            Self::Confirm,
            Self::Shelve(time),
            Self::Unshelve,
            Self::Comment,
            Self::Enable,
            Self::Disable,
        ];
        all.into_iter().find(|action| action.name() == name)
    }
}

/// Why an alarm was not changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AlarmError {
    /// The caller lacks the right; recorded.
    #[error("{0}")]
    Denied(String),
    /// There is none of this id.
    #[error("there is no alarm {0}")]
    Unknown(String),
    /// The event is not of the alarm's newest occurrence.
    #[error("the alarm was raised again, or became worse, since: look at it anew")]
    Outdated,
    /// It is in the state already.
    #[error("{0}")]
    Already(&'static str),
    /// Something else must be done first.
    #[error("{0}")]
    NotYet(&'static str),
    /// Only enabling can be done to it.
    #[error("the alarm is disabled: enable it first")]
    Disabled,
    /// A time or a text that is not accepted.
    #[error("{0}")]
    Argument(String),
    /// Another user's act on the same alarm is being recorded.
    #[error("another act on this alarm is being recorded; try again")]
    Busy,
    /// It could not be made durable, so nothing was changed.
    #[error("nothing was done, because it could not be recorded: {0}")]
    NotRecorded(String),
}

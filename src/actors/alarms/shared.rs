//! The alarms of a site with several hubs: each hub shows those of all devices, and whoever reads a device decides over
//! its alarms.
//!
//! What a hub recorded of an alarm comes to the others by the chain. Of a device that another hub reads, the record is
//! taken as it is. Of one that is read here, what somebody did at another hub is done again to the alarm as it is by
//! now, and recorded if that is not what the other hub had thought: so an acknowledgement is of what was seen, and the
//! record ends with what holds.

use super::{AlarmDesk, Inner, State, recorded_alarm};
use crate::alarms::{Alarm, AlarmAction};
use crate::model::{DeviceId, now};
use serde_json::Value as Json;
use std::time::Duration;

/// A record of another hub that tells the state of an alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldAlarm {
    /// The state that the hub recorded.
    pub alarm: Alarm,
    /// What a user did, and who, and what they said; nothing where the hub itself had found something.
    pub did: Option<(AlarmAction, String, String)>,
}

/// What the details of such a record tell; `None` when another version wrote them. `subject` is the record's.
pub fn told_alarm(subject: &str, details: &Json) -> Option<ToldAlarm> {
    let alarm = recorded_alarm(details)?;
    let Some(action) = details.get("did").and_then(Json::as_str) else {
        return Some(ToldAlarm { alarm, did: None });
    };
    let seconds = details.get("seconds").and_then(Json::as_f64);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let action = AlarmAction::named(action, time)?;
    let comment = details.get("comment").and_then(Json::as_str);
    let user = subject.strip_prefix("user:").unwrap_or(subject).to_owned();
    let did = Some((action, user, comment.unwrap_or_default().to_owned()));
    Some(ToldAlarm { alarm, did })
}

impl AlarmDesk {
    /// Which devices other hubs read, as the chain says: their alarms are shown here, and are not this hub's to end.
    pub fn read_elsewhere<'a>(&self, devices: impl IntoIterator<Item = &'a DeviceId>) {
        let mut state = self.inner.state.lock();
        for device in devices {
            if !state.devices.contains_key(device) {
                state.board.set_elsewhere(device, true);
            }
        }
    }

    /// Takes in what other hubs recorded of alarms, in the order of the chain. It is durable already.
    pub fn take_in(&self, told: &[ToldAlarm]) {
        let mut state = self.inner.state.lock();
        for told in told {
            match state.devices.contains_key(&told.alarm.device) {
                true => self.inner.done_elsewhere(&mut state, told),
                false => self.inner.said_elsewhere(&mut state, told),
            }
        }
    }
}

impl Inner {
    /// Of a device that another hub reads.
    fn said_elsewhere(&self, state: &mut State, told: &ToldAlarm) {
        let alarm = &told.alarm;
        state.board.set_elsewhere(&alarm.device, true);
        // What is recorded is not to be recorded again.
        state.dirty.remove(&alarm.id);
        if state.board.take(alarm.clone()) && alarm.enabled {
            // Nobody listening is fine.
            let _ = self.changes.send(alarm.clone());
        }
    }

    /// Of a device that is read here.
    fn done_elsewhere(&self, state: &mut State, told: &ToldAlarm) {
        let id = &told.alarm.id;
        let Some((action, user, comment)) = &told.did else {
            // Another hub read the device before: what holds by now is known here.
            state.dirty.insert(id.clone());
            self.dirtied.notify_one();
            return;
        };
        let by = (user.as_str(), comment.as_str());
        let done = state.board.done_elsewhere(&told.alarm, *action, by, now());
        match done {
            Ok(alarm) => self.changed(state, alarm),
            Err(error) => {
                tracing::info!(id, %error, "what was done to an alarm at another hub does not hold any more");
                state.dirty.insert(id.clone());
                self.dirtied.notify_one();
            }
        }
    }
}

//! The state of all alarms of a hub, and what may become of it.

use super::alarm::{Alarm, AlarmAction, AlarmError, Kind, Shelving, alarm_id};
use super::config::AlarmConfig;
use super::watch::{Edge, EdgeKind};
use crate::model::{DeviceId, Nanos};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Bytes of a comment, at most.
pub const MAX_COMMENT: usize = 1_024;

/// All alarms of a hub.
#[derive(Debug)]
pub struct Board {
    config: AlarmConfig,
    alarms: BTreeMap<String, Alarm>,
    /// Devices that another hub reads, which decides over their alarms.
    elsewhere: BTreeSet<DeviceId>,
    events: u64,
    beyond: u64,
}

impl Board {
    /// A board that goes on from `alarms`, as they were recorded. More than are allowed are kept: they
    /// were there before the bound was.
    pub fn new(config: AlarmConfig, alarms: Vec<Alarm>, now: Nanos) -> Self {
        let recorded = alarms.iter().map(|alarm| alarm.event).max().unwrap_or(0);
        // Alarms at rest are not recorded, so their numbers are not known any more. The clock is ahead
        // of them, and in µs still a number that JavaScript holds.
        let clock = u64::try_from(now / 1_000).unwrap_or(0);
        let events = recorded.max(clock);
        let alarms = alarms.into_iter().map(|alarm| (alarm.id.clone(), alarm));
        Self {
            config,
            alarms: alarms.collect(),
            elsewhere: BTreeSet::new(),
            events,
            beyond: 0,
        }
    }

    /// How it is configured.
    pub fn config(&self) -> &AlarmConfig {
        &self.config
    }

    /// All alarms that were raised since the start, or were not at rest then, by id.
    pub fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.values()
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Option<&Alarm> {
        self.alarms.get(id)
    }

    /// Alarms that were raised and found no room.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Takes the change of a cause; the alarm, if its state changed.
    pub fn edge(&mut self, device: &DeviceId, edge: Edge, now: Nanos) -> Option<Alarm> {
        let id = alarm_id(device, edge.tag.as_deref());
        let known = self.alarms.get(&id);
        let mut alarm = match (known, &edge.kind) {
            (Some(alarm), _) => alarm.clone(),
            (None, EdgeKind::Cleared) => return None,
            (None, EdgeKind::Raised(_)) => {
                if !self.make_room() {
                    self.beyond = self.beyond.saturating_add(1);
                    return None;
                }
                fresh(&id, device, &edge, now)
            }
        };
        let event = self.events + 1;
        match edge.kind {
            EdgeKind::Raised(trouble) => {
                let worse = trouble.severity > alarm.severity;
                if alarm.active && !worse {
                    return None;
                }
                if !alarm.active {
                    alarm.since = now;
                }
                alarm.active = true;
                alarm.acknowledged = false;
                alarm.confirmed = false;
                alarm.last_severity = alarm.severity;
                alarm.severity = trouble.severity;
                alarm.message = trouble.message;
                alarm.exceeded = trouble.exceeded;
                alarm.occurrence = event;
            }
            EdgeKind::Cleared => {
                if !alarm.active {
                    return None;
                }
                alarm.active = false;
                if alarm.shelving == Shelving::OneShot {
                    alarm.shelving = Shelving::Unshelved;
                }
            }
        }
        Some(self.put(alarm, now))
    }

    /// Ends the alarms of a device for which `gone` holds: what they were about is not watched any more,
    /// so nothing will ever say that they are over. Returns those that were active.
    pub fn retire(
        &mut self,
        device: &str,
        gone: impl Fn(&Alarm) -> bool,
        now: Nanos,
    ) -> Vec<Alarm> {
        let of_device = self
            .alarms
            .values()
            .filter(|alarm| &*alarm.device == device);
        let over = of_device.filter(|alarm| alarm.active && gone(alarm));
        let over: Vec<Edge> = over
            .map(|alarm| Edge {
                tag: alarm.tag.clone(),
                kind: EdgeKind::Cleared,
            })
            .collect();
        let device = DeviceId::from(device);
        let retired = over
            .into_iter()
            .filter_map(|edge| self.edge(&device, edge, now));
        retired.collect()
    }

    /// Ends the shelving of those whose time is over; returns them.
    pub fn expire(&mut self, now: Nanos) -> Vec<Alarm> {
        let own = |alarm: &&Alarm| !self.elsewhere.contains(&alarm.device);
        let over = |alarm: &&Alarm| {
            own(alarm) && matches!(alarm.shelving, Shelving::Until(end) if end <= now)
        };
        let over: Vec<Alarm> = self.alarms.values().filter(over).cloned().collect();
        let unshelve = |mut alarm: Alarm| {
            alarm.shelving = Shelving::Unshelved;
            self.put(alarm, now)
        };
        over.into_iter().map(unshelve).collect()
    }

    /// Another hub reads this device, or none does any more.
    pub fn set_elsewhere(&mut self, device: &DeviceId, elsewhere: bool) {
        match elsewhere {
            true => self.elsewhere.insert(device.clone()),
            false => self.elsewhere.remove(device),
        };
    }

    /// Whether another hub reads this device.
    pub fn is_elsewhere(&self, device: &str) -> bool {
        self.elsewhere.contains(device)
    }

    /// Takes the state of an alarm as the hub that reads its device says it is; whether that is new. Numbers that are
    /// given here go on after its.
    pub fn take(&mut self, alarm: Alarm) -> bool {
        self.events = self.events.max(alarm.event);
        match self.alarms.get(&alarm.id) {
            Some(known) if *known == alarm => return false,
            Some(_) => {}
            // At rest here as well: there is nothing to be shown.
            None if alarm.at_rest() => return false,
            None => {
                if !self.make_room() {
                    self.beyond = self.beyond.saturating_add(1);
                    return false;
                }
            }
        }
        self.alarms.insert(alarm.id.clone(), alarm);
        true
    }

    /// What somebody did at another hub, who saw `seen` there, to an alarm of a device that is read here: done again
    /// to the alarm as it is, for what was seen may be over.
    pub fn done_elsewhere(
        &mut self,
        seen: &Alarm,
        action: AlarmAction,
        by: (&str, &str),
        now: Nanos,
    ) -> Result<Alarm, AlarmError> {
        self.events = self.events.max(seen.event);
        let known = self.alarms.get(&seen.id);
        let known = known.ok_or_else(|| AlarmError::Unknown(seen.id.clone()))?;
        if known.occurrence != seen.occurrence {
            return Err(AlarmError::Outdated);
        }
        self.act(&seen.id, None, action, by, now)
    }

    /// When the next shelving ends.
    pub fn next_expiry(&self) -> Option<Nanos> {
        let end = |alarm: &Alarm| match alarm.shelving {
            Shelving::Until(end) => Some(end),
            Shelving::Unshelved | Shelving::OneShot => None,
        };
        self.alarms.values().filter_map(end).min()
    }

    /// What alarm `id` would become if `user` did this now; `event` is what they saw, `None` for
    /// whatever is newest. Nothing changes.
    pub fn plan(
        &self,
        id: &str,
        event: Option<u64>,
        action: AlarmAction,
        (user, comment): (&str, &str),
        now: Nanos,
    ) -> Result<Alarm, AlarmError> {
        let known = self.alarms.get(id);
        let mut alarm = known
            .cloned()
            .ok_or_else(|| AlarmError::Unknown(id.to_owned()))?;
        if comment.len() > MAX_COMMENT {
            let reason = format!("a comment has at most {MAX_COMMENT} bytes");
            return Err(AlarmError::Argument(reason));
        }
        let seen = |event: u64| (alarm.occurrence..=alarm.event).contains(&event);
        if event.is_some_and(|event| !seen(event)) {
            return Err(AlarmError::Outdated);
        }
        match action {
            AlarmAction::Enable if alarm.enabled => {
                return Err(AlarmError::Already("it is enabled already"));
            }
            AlarmAction::Enable => alarm.enabled = true,
            AlarmAction::Disable if !alarm.enabled => {
                return Err(AlarmError::Already("it is disabled already"));
            }
            AlarmAction::Disable => alarm.enabled = false,
            _ if !alarm.enabled => return Err(AlarmError::Disabled),
            AlarmAction::Acknowledge if alarm.acknowledged => {
                return Err(AlarmError::Already("it is acknowledged already"));
            }
            AlarmAction::Acknowledge => alarm.acknowledged = true,
            AlarmAction::Confirm if alarm.confirmed => {
                return Err(AlarmError::Already("it is confirmed already"));
            }
            AlarmAction::Confirm if !alarm.acknowledged => {
                return Err(AlarmError::NotYet("acknowledge it before you confirm it"));
            }
            AlarmAction::Confirm => alarm.confirmed = true,
            AlarmAction::Shelve(time) => alarm.shelving = self.shelve(alarm.shelving, time, now)?,
            AlarmAction::Unshelve if alarm.shelving == Shelving::Unshelved => {
                return Err(AlarmError::Already("it is not shelved"));
            }
            AlarmAction::Unshelve => alarm.shelving = Shelving::Unshelved,
            AlarmAction::Comment if comment.is_empty() => {
                let reason = "an empty comment says nothing".to_owned();
                return Err(AlarmError::Argument(reason));
            }
            AlarmAction::Comment => {}
        }
        // An empty comment leaves the last one in its place (OPC 10000-9, 5.7.3).
        if !comment.is_empty() {
            alarm.comment = Some((user.to_owned(), comment.to_owned()));
        }
        alarm.event = self.events + 1;
        alarm.time = now;
        Ok(alarm)
    }

    /// Does what was planned, and has been recorded since. What changed meanwhile may forbid it: an
    /// acknowledgement is of the occurrence that was seen.
    pub fn act(
        &mut self,
        id: &str,
        event: Option<u64>,
        action: AlarmAction,
        by: (&str, &str),
        now: Nanos,
    ) -> Result<Alarm, AlarmError> {
        let alarm = self.plan(id, event, action, by, now)?;
        Ok(self.put(alarm, now))
    }

    fn shelve(
        &self,
        before: Shelving,
        time: Option<Duration>,
        now: Nanos,
    ) -> Result<Shelving, AlarmError> {
        let Some(time) = time else {
            return match before {
                Shelving::OneShot => Err(AlarmError::Already("it is shelved already")),
                Shelving::Unshelved | Shelving::Until(_) => Ok(Shelving::OneShot),
            };
        };
        if matches!(before, Shelving::Until(_)) {
            return Err(AlarmError::Already("it is shelved already"));
        }
        let most = self.config.max_shelved();
        if time.is_zero() || time > most {
            let minutes = most.as_secs() / 60;
            let reason =
                format!("an alarm can be shelved for more than 0 s and at most {minutes} min");
            return Err(AlarmError::Argument(reason));
        }
        let nanos = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        Ok(Shelving::Until(now.saturating_add(nanos)))
    }

    fn put(&mut self, mut alarm: Alarm, now: Nanos) -> Alarm {
        self.events += 1;
        alarm.event = self.events;
        alarm.time = now;
        self.alarms.insert(alarm.id.clone(), alarm.clone());
        alarm
    }

    /// Whether one more alarm finds room; the one that is at rest longest makes way.
    fn make_room(&mut self) -> bool {
        if self.alarms.len() < self.config.most {
            return true;
        }
        let resting = self.alarms.values().filter(|alarm| alarm.at_rest());
        let oldest = resting.min_by_key(|alarm| alarm.event);
        let Some(id) = oldest.map(|alarm| alarm.id.clone()) else {
            return false;
        };
        self.alarms.remove(&id);
        true
    }
}

/// An alarm that was never raised.
fn fresh(id: &str, device: &DeviceId, edge: &Edge, now: Nanos) -> Alarm {
    Alarm {
        id: id.to_owned(),
        kind: match edge.tag {
            Some(_) => Kind::Tag,
            None => Kind::Device,
        },
        device: device.clone(),
        tag: edge.tag.clone(),
        enabled: true,
        active: false,
        acknowledged: true,
        confirmed: true,
        shelving: Shelving::Unshelved,
        severity: 0,
        last_severity: 0,
        message: String::new(),
        exceeded: None,
        time: now,
        since: now,
        event: 0,
        occurrence: 0,
        comment: None,
    }
}

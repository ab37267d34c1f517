//! The hub's control path: what a face asks of a machine is checked here, then done by the device's
//! actor.
//!
//! All of a request is checked before any of it is done: one value that does not fit refuses the whole,
//! for half a recipe is worse than none. Every refusal is a record before it is answered.

use super::Hub;
use crate::access::{Caller, Right};
use crate::actors::control::{
    Act, ControlDoors, Outcome, Request, call_details, refuse, write_details,
};
use crate::live_view::{DeviceLive, LiveView};
use crate::model::{TagSpec, Value, ValueKind};
use crate::protocols::control::{MethodCall, TagWrite, WriteFault, Written};
use crate::protocols::ports::{ControlError, ControlPort};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value as Json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Most tags of one request.
pub const MAX_WRITES: usize = 1_000;
/// Longest text or bytes of one value.
const MAX_LENGTH: usize = 64 * 1024;
/// Refusals that get records of their own in [`REFUSAL_WINDOW`]: a flood must not fill the disk. More
/// are answered as busy, and the next record says how many there were.
const REFUSALS: u32 = 200;
const REFUSAL_WINDOW: Duration = Duration::from_secs(10);

/// Acts upon machines for users.
pub struct ControlDesk {
    live: LiveView,
    doors: ControlDoors,
    refusals: Mutex<Refusals>,
}

/// How many refusals were recorded of late, and how many were not.
struct Refusals {
    since: Instant,
    recorded: u32,
    unrecorded: u64,
}

impl Refusals {
    /// Leave to record one more, with how many went without a record before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.since) >= REFUSAL_WINDOW {
            (self.since, self.recorded) = (now, 0);
        }
        if self.recorded >= REFUSALS {
            self.unrecorded += 1;
            return None;
        }
        self.recorded += 1;
        Some(std::mem::take(&mut self.unrecorded))
    }
}

impl Hub {
    /// Acts upon the machines for users: checked, recorded, done.
    pub fn control(&self) -> Arc<dyn ControlPort> {
        Arc::new(ControlDesk {
            live: self.live.clone(),
            doors: self.actors.doors.clone(),
            refusals: Mutex::new(Refusals {
                since: Instant::now(),
                recorded: 0,
                unrecorded: 0,
            }),
        })
    }

    /// How long requests on machines took.
    pub fn control_times(&self) -> &Arc<crate::actors::control::ControlTimes> {
        self.actors.doors.times()
    }
}

/// Why a write is refused before anything is done.
#[derive(Clone, Debug, PartialEq)]
enum Refused {
    /// As a whole.
    Whole(ControlError),
    /// For some of its values.
    Values(Vec<Option<WriteFault>>),
}

impl ControlDesk {
    /// Records a refusal, and returns what to answer.
    async fn refuse(
        &self,
        caller: &Caller,
        device: &str,
        mut details: Json,
        error: ControlError,
    ) -> ControlError {
        let Some(unrecorded) = self.refusals.lock().take(Instant::now()) else {
            return ControlError::Busy;
        };
        if unrecorded > 0 {
            details["refusals_without_record_before"] = unrecorded.into();
        }
        refuse(self.doors.journal(), caller, device, &details, &error).await
    }

    fn device(&self, id: &str) -> Result<Arc<DeviceLive>, ControlError> {
        let device = self.live.device(id);
        device.ok_or_else(|| ControlError::Unknown(format!("there is no device `{id}`")))
    }

    /// Hands a checked request to the device's actor, and waits for what comes of it.
    async fn ask(
        &self,
        caller: &Caller,
        device: &str,
        request: Request,
    ) -> Result<Outcome, ControlError> {
        let (done, answer) = oneshot::channel();
        let act = Act {
            caller: caller.clone(),
            request,
            asked: Instant::now(),
            done,
        };
        self.doors.send(device, act)?;
        let gone = format!(
            "the hub began `{device}` anew or ended; whether the request was done is in the record"
        );
        answer.await.unwrap_or(Err(ControlError::Unreachable(gone)))
    }
}

#[async_trait]
impl ControlPort for ControlDesk {
    async fn write(
        &self,
        caller: &Caller,
        device: &str,
        writes: Vec<(String, Value)>,
    ) -> Result<Written, ControlError> {
        let live = self.device(device);
        let checked = match &live {
            Ok(live) => check_write(caller, live, &writes),
            Err(error) => Err(Refused::Whole(
                check_right(caller, Right::Write, device)
                    .err()
                    .unwrap_or_else(|| error.clone()),
            )),
        };
        let refused = match checked {
            Ok(writes) => {
                return match self.ask(caller, device, Request::Write(writes)).await? {
                    Outcome::Written(written) => Ok(written),
                    Outcome::Called(_) => unreachable!("a write is answered by what was written"),
                };
            }
            Err(refused) => refused,
        };
        let shown = writes.iter().take(MAX_WRITES);
        let details = write_details(caller, shown.map(|(tag, value)| (tag.as_str(), value)));
        match refused {
            Refused::Whole(error) => Err(self.refuse(caller, device, details, error).await),
            Refused::Values(faults) => {
                let why = ControlError::Denied(said(&writes, &faults));
                match self.refuse(caller, device, details, why).await {
                    ControlError::Denied(_) => {
                        let faults = faults.into_iter();
                        Ok(faults
                            .map(|f| Err(f.unwrap_or(WriteFault::Withheld)))
                            .collect())
                    }
                    error => Err(error),
                }
            }
        }
    }

    async fn call(
        &self,
        caller: &Caller,
        device: &str,
        call: MethodCall,
    ) -> Result<Result<Vec<Value>, WriteFault>, ControlError> {
        let checked = check_right(caller, Right::Call, device).and_then(|()| self.device(device));
        if let Err(error) = checked {
            let details = call_details(caller, &call);
            return Err(self.refuse(caller, device, details, error).await);
        }
        match self.ask(caller, device, Request::Call(call)).await? {
            Outcome::Called(called) => Ok(called),
            Outcome::Written(_) => unreachable!("a call is answered by its results"),
        }
    }
}

fn check_right(caller: &Caller, right: Right, device: &str) -> Result<(), ControlError> {
    if caller.may(right) {
        return Ok(());
    }
    let roles: Vec<&str> = caller.roles.iter().map(|role| role.name()).collect();
    let what = match right {
        Right::Call => "call methods of",
        _ => "write to",
    };
    let is = match roles.as_slice() {
        [] => "has no role".to_owned(),
        roles => format!("has only the role {}", roles.join(", ")),
    };
    Err(ControlError::Denied(format!(
        "`{}` may not {what} `{device}`: the user {is}",
        caller.user
    )))
}

/// Checks a whole write: the right, the tags, their values.
fn check_write(
    caller: &Caller,
    live: &DeviceLive,
    writes: &[(String, Value)],
) -> Result<Vec<TagWrite>, Refused> {
    let device = &live.id;
    check_right(caller, Right::Write, device).map_err(Refused::Whole)?;
    let unknown = |why: String| Err(Refused::Whole(ControlError::Unknown(why)));
    if writes.is_empty() || writes.len() > MAX_WRITES {
        let given = writes.len();
        return unknown(format!(
            "a request writes 1 to {MAX_WRITES} tags, and this one has {given}"
        ));
    }
    let mut checked = Vec::with_capacity(writes.len());
    let mut faults = vec![None; writes.len()];
    for ((name, value), fault) in writes.iter().zip(&mut faults) {
        let found = live
            .tags
            .iter()
            .enumerate()
            .find(|(_, tag)| *tag.name == **name);
        let Some((tag, spec)) = found else {
            return unknown(format!("`{device}` has no tag `{name}`"));
        };
        *fault = check_value(spec, value).err();
        checked.push(TagWrite {
            tag,
            value: value.clone(),
        });
    }
    if faults.iter().any(Option::is_some) {
        return Err(Refused::Values(faults));
    }
    Ok(checked)
}

/// Checks one value against its tag: whether it can be written, its kind, its physical range.
pub(crate) fn check_value(tag: &TagSpec, value: &Value) -> Result<(), WriteFault> {
    if !tag.writable {
        let why = "its configuration does not say `writable = true`";
        return Err(WriteFault::ReadOnly(why.to_owned()));
    }
    let wrong = |why: String| Err(WriteFault::Value(why));
    let kind = kind(value);
    if kind != tag.kind {
        return wrong(format!(
            "it takes {}, not {}",
            kind_name(tag.kind),
            kind_name(kind)
        ));
    }
    match value {
        Value::F64(number) if !number.is_finite() => {
            return wrong(format!("{number} is no number"));
        }
        Value::Text(text) if text.len() > MAX_LENGTH => {
            return wrong(format!("it is longer than {MAX_LENGTH} bytes"));
        }
        Value::Bytes(bytes) if bytes.len() > MAX_LENGTH => {
            return wrong(format!("it is longer than {MAX_LENGTH} bytes"));
        }
        _ => {}
    }
    if let (Some((low, high)), Some(number)) = (tag.range, value.as_f64())
        && !(low..=high).contains(&number)
    {
        let unit = &tag.unit;
        return wrong(format!(
            "{value} is outside of its physical range, {low} to {high} {unit}"
        ));
    }
    Ok(())
}

fn kind(value: &Value) -> ValueKind {
    match value {
        Value::Bool(_) => ValueKind::Bool,
        Value::I64(_) => ValueKind::I64,
        Value::U64(_) => ValueKind::U64,
        Value::F64(_) => ValueKind::F64,
        Value::Text(_) => ValueKind::Text,
        Value::Bytes(_) => ValueKind::Bytes,
    }
}

fn kind_name(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Bool => "true or false",
        ValueKind::I64 => "a whole number",
        ValueKind::U64 => "a whole number from 0 on",
        ValueKind::F64 => "a number with a fraction",
        ValueKind::Text => "a text",
        ValueKind::Bytes => "bytes",
    }
}

/// The faults of a request's values in one sentence, for the record.
fn said(writes: &[(String, Value)], faults: &[Option<WriteFault>]) -> String {
    let faults = writes.iter().zip(faults);
    let said: Vec<String> = faults
        .filter_map(|((tag, _), fault)| Some(format!("`{tag}`: {}", fault.as_ref()?)))
        .collect();
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;

    fn tag(name: &str, kind: ValueKind, writable: bool) -> TagSpec {
        TagSpec {
            name: name.into(),
            kind,
            unit: "bar".into(),
            description: String::new(),
            range: (kind != ValueKind::Text).then_some((0.0, 10.0)),
            writable,
        }
    }

    fn press() -> Arc<DeviceLive> {
        let tags = [
            tag("setpoint", ValueKind::F64, true),
            tag("count", ValueKind::U64, true),
            tag("pressure", ValueKind::F64, false),
            tag("recipe", ValueKind::Text, true),
        ];
        LiveView::default().register("press-1".into(), tags.into())
    }

    fn caller(roles: &[Role]) -> Caller {
        Caller {
            user: "anna".into(),
            session: "1".into(),
            roles: roles.to_vec(),
        }
    }

    fn check(roles: &[Role], writes: &[(&str, Value)]) -> Result<Vec<TagWrite>, Refused> {
        let writes = writes
            .iter()
            .map(|(tag, value)| (tag.to_string(), value.clone()));
        check_write(&caller(roles), &press(), &writes.collect::<Vec<_>>())
    }

    #[test]
    fn only_who_may_write_does() {
        let write = [("setpoint", Value::F64(4.0))];
        for role in Role::ALL {
            let checked = check(&[role], &write);
            assert_eq!(
                checked.is_ok(),
                role.carries(Right::Write),
                "{}",
                role.name()
            );
        }
        let Err(Refused::Whole(ControlError::Denied(why))) = check(&[], &write) else {
            panic!("nobody has no right");
        };
        assert_eq!(
            why,
            "`anna` may not write to `press-1`: the user has no role"
        );
    }

    #[test]
    fn values_that_do_not_fit_refuse_the_whole_request() {
        let f64s = |value| [("setpoint", Value::F64(value))];
        let fault = |writes: &[(&str, Value)]| match check(&[Role::Engineer], writes) {
            Err(Refused::Values(faults)) => faults.into_iter().flatten().next().unwrap(),
            other => panic!("{other:?}"),
        };
        for value in [-0.1, 10.5, f64::NAN, f64::INFINITY] {
            assert!(
                matches!(fault(&f64s(value)), WriteFault::Value(_)),
                "{value}"
            );
        }
        for value in [0.0, 10.0, -0.0] {
            assert!(check(&[Role::Engineer], &f64s(value)).is_ok(), "{value}");
        }
        assert!(matches!(
            fault(&[("setpoint", Value::I64(4))]),
            WriteFault::Value(_)
        ));
        assert!(matches!(
            fault(&[("count", Value::U64(11))]),
            WriteFault::Value(_)
        ));
        assert!(matches!(
            fault(&[("pressure", Value::F64(1.0))]),
            WriteFault::ReadOnly(_)
        ));
        let long = Value::Text("x".repeat(MAX_LENGTH + 1));
        assert!(matches!(fault(&[("recipe", long)]), WriteFault::Value(_)));
        let half = [("setpoint", Value::F64(4.0)), ("count", Value::U64(99))];
        let Err(Refused::Values(faults)) = check(&[Role::Engineer], &half) else {
            panic!("half a recipe is worse than none");
        };
        assert!(faults[0].is_none() && faults[1].is_some());
    }

    #[test]
    fn what_is_not_there_cannot_be_written() {
        let unknown = |writes: &[(&str, Value)]| {
            matches!(
                check(&[Role::Engineer], writes),
                Err(Refused::Whole(ControlError::Unknown(_)))
            )
        };
        assert!(unknown(&[("speed", Value::F64(4.0))]));
        assert!(unknown(&[]));
        let many = vec![("setpoint", Value::F64(4.0)); MAX_WRITES + 1];
        assert!(unknown(&many));
    }

    #[test]
    fn a_flood_of_refusals_is_recorded_in_sum() {
        let start = Instant::now();
        let mut refusals = Refusals {
            since: start,
            recorded: 0,
            unrecorded: 0,
        };
        let taken = (0..REFUSALS + 50)
            .filter_map(|_| refusals.take(start))
            .count();
        assert_eq!(taken as u32, REFUSALS);
        assert_eq!(refusals.take(start + REFUSAL_WINDOW), Some(50));
        assert_eq!(refusals.take(start + REFUSAL_WINDOW), Some(0));
    }
}

//! The hub's control path: what a face asks of a machine is checked here, then done by the device's
//! actor.
//!
//! All of a request is checked before any of it is done: one value that does not fit refuses the whole,
//! for half a recipe is worse than none. Every refusal is a record before it is answered.

use super::Hub;
use crate::access::{Caller, Denied, Gate, Right};
use crate::actors::access::log_denied;
use crate::actors::allowance::Allowance;
use crate::actors::control::{
    Act, ControlDoors, Outcome, Request, call_details, refuse, write_details,
};
use crate::ledger::act::name;
use crate::live_view::{DeviceLive, LiveView};
use crate::model::{TagSpec, Value, ValueKind, now};
use crate::protocols::control::{MethodCall, TagWrite, WriteFault, Written};
use crate::protocols::ports::{ControlError, ControlPort};
use async_trait::async_trait;
use serde_json::Value as Json;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// Most tags of one request.
pub const MAX_WRITES: usize = 1_000;
/// Longest text or bytes of one value.
const MAX_LENGTH: usize = 64 * 1024;
/// Acts upon machines for users.
pub struct ControlDesk {
    live: LiveView,
    doors: ControlDoors,
    gate: Gate,
    refusals: Allowance,
}

impl Hub {
    /// Acts upon the machines for users: checked, recorded, done.
    pub fn control(&self) -> Arc<dyn ControlPort> {
        Arc::new(ControlDesk {
            live: self.live.clone(),
            doors: self.actors.doors.clone(),
            gate: self.gate().clone(),
            refusals: Allowance::new(Instant::now()),
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
        let Some(unrecorded) = self.refusals.take(Instant::now()) else {
            return ControlError::Busy;
        };
        if unrecorded > 0 {
            details["refusals_without_record_before"] = unrecorded.into();
        }
        refuse(self.doors.journal(), caller, device, &details, &error).await
    }

    /// Whether a caller may do this to a device, or to all of these tags of it. By which rule not is for
    /// the log and the record; the error is for them.
    fn check_right<'a>(
        &self,
        caller: &Caller,
        right: Right,
        device: &str,
        tags: impl Iterator<Item = &'a str>,
    ) -> Result<(), (Denied, ControlError)> {
        let whole = name("device", device);
        let tags: Vec<_> = tags.map(|tag| format!("{whole}/{tag}")).collect();
        let objects: Vec<&str> = match tags.is_empty() {
            true => vec![&whole],
            false => tags.iter().map(String::as_str).collect(),
        };
        let may = self.gate.passages(&caller.user, right, objects, now());
        may.map_err(|denied| {
            log_denied(caller, right, &whole, &denied);
            let what = match right {
                Right::Call => "call methods of",
                _ => "write to",
            };
            let told = format!("`{}` may not {what} `{device}`", caller.user);
            (denied, ControlError::Denied(told))
        })
    }

    fn device(&self, id: &str) -> Result<Arc<DeviceLive>, ControlError> {
        self.doors.passes(id)?;
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
        let sent = self.doors.send(device, act);
        if sent == Err(ControlError::Busy) {
            self.refusals.leave_out();
        }
        sent?;
        let gone = format!(
            "the hub began `{device}` anew or ended; whether the request was done is in the record"
        );
        let answered = answer.await;
        if answered == Ok(Err(ControlError::Busy)) {
            self.refusals.leave_out();
        }
        answered.unwrap_or(Err(ControlError::Unreachable(gone)))
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
        let tags = writes.iter().map(|(tag, _)| tag.as_str());
        let (checked, denied) = match self.check_right(caller, Right::Write, device, tags) {
            Ok(()) => (
                live.map_err(Refused::Whole)
                    .and_then(|l| check_write(&l, &writes)),
                None,
            ),
            Err((denied, error)) => (Err(Refused::Whole(error)), Some(denied)),
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
        let mut details = write_details(caller, shown.map(|(tag, value)| (tag.as_str(), value)));
        tell_rule(&mut details, denied.as_ref());
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
        let (denied, checked) = match self.check_right(caller, Right::Call, device, [].into_iter())
        {
            Ok(()) => (None, self.device(device).map(|_| ())),
            Err((denied, error)) => (Some(denied), Err(error)),
        };
        if let Err(error) = checked {
            let mut details = call_details(caller, &call);
            tell_rule(&mut details, denied.as_ref());
            return Err(self.refuse(caller, device, details, error).await);
        }
        match self.ask(caller, device, Request::Call(call)).await? {
            Outcome::Called(called) => Ok(called),
            Outcome::Written(_) => unreachable!("a call is answered by its results"),
        }
    }

    async fn refuse(
        &self,
        caller: &Caller,
        device: &str,
        tags: &[String],
        why: ControlError,
    ) -> ControlError {
        let tags = || tags.iter().take(MAX_WRITES).map(String::as_str);
        let (denied, why) = match self.check_right(caller, Right::Write, device, tags()) {
            Ok(()) => (None, why),
            Err((denied, error)) => (Some(denied), error),
        };
        let mut details = write_details(caller, std::iter::empty());
        details["tags"] = tags().collect();
        tell_rule(&mut details, denied.as_ref());
        ControlDesk::refuse(self, caller, device, details, why).await
    }
}

/// Which rule denied a request, for the record.
fn tell_rule(details: &mut Json, denied: Option<&Denied>) {
    if let Some(denied) = denied {
        details["rule"] = denied.rule().into();
        details["denied"] = denied.to_string().into();
    }
}

/// Checks a whole write: the tags, their values.
fn check_write(live: &DeviceLive, writes: &[(String, Value)]) -> Result<Vec<TagWrite>, Refused> {
    let device = &live.id;
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

    fn check(writes: &[(&str, Value)]) -> Result<Vec<TagWrite>, Refused> {
        let writes = writes
            .iter()
            .map(|(tag, value)| (tag.to_string(), value.clone()));
        check_write(&press(), &writes.collect::<Vec<_>>())
    }

    #[test]
    fn values_that_do_not_fit_refuse_the_whole_request() {
        let f64s = |value| [("setpoint", Value::F64(value))];
        let fault = |writes: &[(&str, Value)]| match check(writes) {
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
            assert!(check(&f64s(value)).is_ok(), "{value}");
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
        let Err(Refused::Values(faults)) = check(&half) else {
            panic!("half a recipe is worse than none");
        };
        assert!(faults[0].is_none() && faults[1].is_some());
    }

    #[test]
    fn what_is_not_there_cannot_be_written() {
        let unknown = |writes: &[(&str, Value)]| {
            matches!(check(writes), Err(Refused::Whole(ControlError::Unknown(_))))
        };
        assert!(unknown(&[("speed", Value::F64(4.0))]));
        assert!(unknown(&[]));
        let many = vec![("setpoint", Value::F64(4.0)); MAX_WRITES + 1];
        assert!(unknown(&many));
    }
}

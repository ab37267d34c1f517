//! What users do with conditions (OPC 10000-9, 5.5.4 to 5.8.17): on the instance, by the id that the
//! method has in its type.

use super::event::Happening;
use super::fields::{Names, alarm_of, event_number};
use crate::access::{Caller, Gate, Right};
use crate::alarms::{AlarmAction, AlarmError};
use crate::model::now;
use crate::protocols::opcua::server::parts::{Method, Parts};
use crate::protocols::ports::AlarmPort;
use async_trait::async_trait;
use opcua::server::node_manager::RequestContext;
use opcua::types::{MethodId, NodeId, StatusCode, Variant};
use std::sync::Arc;
use std::time::Duration;

/// Has calls of the methods of conditions come here.
pub(super) fn add((port, gate): (&Arc<dyn AlarmPort>, &Gate), names: Names, parts: &Arc<Parts>) {
    let methods = [
        (
            MethodId::AcknowledgeableConditionType_Acknowledge,
            What::Acknowledge,
        ),
        (
            MethodId::AcknowledgeableConditionType_Confirm,
            What::Confirm,
        ),
        (MethodId::ConditionType_AddComment, What::Comment),
        (
            MethodId::AlarmConditionType_ShelvingState_TimedShelve,
            What::TimedShelve,
        ),
        (
            MethodId::ShelvedStateMachineType_TimedShelve,
            What::TimedShelve,
        ),
        (
            MethodId::AlarmConditionType_ShelvingState_OneShotShelve,
            What::OneShotShelve,
        ),
        (
            MethodId::ShelvedStateMachineType_OneShotShelve,
            What::OneShotShelve,
        ),
        (
            MethodId::AlarmConditionType_ShelvingState_Unshelve,
            What::Unshelve,
        ),
        (MethodId::ShelvedStateMachineType_Unshelve, What::Unshelve),
        (MethodId::ConditionType_Enable, What::Enable),
        (MethodId::ConditionType_Disable, What::Disable),
        (MethodId::ConditionType_ConditionRefresh, What::Refresh),
        (MethodId::ConditionType_ConditionRefresh2, What::Refresh2),
    ];
    for (id, what) in methods {
        let method = ConditionMethod {
            what,
            port: port.clone(),
            gate: gate.clone(),
            names,
            parts: Arc::downgrade(parts),
        };
        parts.add_method(id.into(), Arc::new(method));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Acknowledge,
    Confirm,
    Comment,
    TimedShelve,
    OneShotShelve,
    Unshelve,
    Enable,
    Disable,
    Refresh,
    Refresh2,
}

struct ConditionMethod {
    what: What,
    port: Arc<dyn AlarmPort>,
    gate: Gate,
    names: Names,
    parts: std::sync::Weak<Parts>,
}

#[async_trait]
impl Method for ConditionMethod {
    async fn call(
        &self,
        context: &RequestContext,
        caller: &Caller,
        object: &NodeId,
        arguments: &[Variant],
    ) -> Result<Vec<Variant>, StatusCode> {
        match self.what {
            What::Refresh | What::Refresh2 => self.refresh(context, caller, arguments)?,
            _ => self.act(caller, object, arguments).await?,
        }
        Ok(Vec::new())
    }
}

impl ConditionMethod {
    async fn act(
        &self,
        caller: &Caller,
        object: &NodeId,
        arguments: &[Variant],
    ) -> Result<(), StatusCode> {
        let id = alarm_of(object, self.names.namespace).ok_or(StatusCode::BadNodeIdInvalid)?;
        let (event, action, comment) = match self.what {
            What::Acknowledge => said(arguments, AlarmAction::Acknowledge)?,
            What::Confirm => said(arguments, AlarmAction::Confirm)?,
            What::Comment => said(arguments, AlarmAction::Comment)?,
            What::TimedShelve => {
                let [time] = exactly(arguments)?;
                (None, AlarmAction::Shelve(Some(duration(time)?)), "")
            }
            What::OneShotShelve => {
                let [] = exactly(arguments)?;
                (None, AlarmAction::Shelve(None), "")
            }
            What::Unshelve => {
                let [] = exactly(arguments)?;
                (None, AlarmAction::Unshelve, "")
            }
            What::Enable => {
                let [] = exactly(arguments)?;
                (None, AlarmAction::Enable, "")
            }
            What::Disable => {
                let [] = exactly(arguments)?;
                (None, AlarmAction::Disable, "")
            }
            What::Refresh | What::Refresh2 => return Err(StatusCode::BadNotSupported),
        };
        let done = self.port.act(caller, &id, event, action, comment).await;
        done.map(|_| ()).map_err(|error| {
            tracing::debug!(alarm = id, user = caller.user, %error, "a client's act on an alarm");
            status(&error, action)
        })
    }

    fn refresh(
        &self,
        context: &RequestContext,
        caller: &Caller,
        arguments: &[Variant],
    ) -> Result<(), StatusCode> {
        if !self.gate.somewhere(&caller.user, Right::Live, now()) {
            return Err(StatusCode::BadUserAccessDenied);
        }
        let (subscription, item) = match self.what {
            What::Refresh2 => {
                let [subscription, item] = exactly(arguments)?;
                (number(subscription)?, Some(number(item)?))
            }
            _ => {
                let [subscription] = exactly(arguments)?;
                (number(subscription)?, None)
            }
        };
        // A subscription is its session's own.
        let session = context.session_id();
        let subscriptions = context.subscriptions.get_session_subscriptions(session);
        if !subscriptions.is_some_and(|s| s.lock().contains(subscription)) {
            return Err(StatusCode::BadSubscriptionIdInvalid);
        }
        let retained = self.port.alarms().into_iter().filter(|a| a.retain());
        let event = |alarm| Arc::new(Happening::condition(alarm, self.names));
        let events = retained.map(event).collect();
        let parts = self.parts.upgrade().ok_or(StatusCode::BadShutdown)?;
        parts.listeners.refresh(session, subscription, item, events)
    }
}

/// Exactly so many arguments.
fn exactly<const N: usize>(arguments: &[Variant]) -> Result<&[Variant; N], StatusCode> {
    arguments.try_into().map_err(|_| match arguments.len() < N {
        true => StatusCode::BadArgumentsMissing,
        false => StatusCode::BadTooManyArguments,
    })
}

/// What was seen, and what is said of it.
fn said(
    arguments: &[Variant],
    action: AlarmAction,
) -> Result<(Option<u64>, AlarmAction, &str), StatusCode> {
    let [event, comment] = exactly(arguments)?;
    let Variant::ByteString(event) = event else {
        return Err(StatusCode::BadInvalidArgument);
    };
    let event = event_number(event).ok_or(StatusCode::BadEventIdUnknown)?;
    let comment = match comment {
        Variant::LocalizedText(text) => text.text.as_ref(),
        Variant::String(text) => text.as_ref(),
        Variant::Empty => "",
        _ => return Err(StatusCode::BadInvalidArgument),
    };
    Ok((Some(event), action, comment))
}

fn duration(time: &Variant) -> Result<Duration, StatusCode> {
    let Variant::Double(milliseconds) = time else {
        return Err(StatusCode::BadInvalidArgument);
    };
    Duration::try_from_secs_f64(milliseconds / 1_000.0)
        .map_err(|_| StatusCode::BadShelvingTimeOutOfRange)
}

fn number(argument: &Variant) -> Result<u32, StatusCode> {
    match argument {
        Variant::UInt32(number) => Ok(*number),
        _ => Err(StatusCode::BadInvalidArgument),
    }
}

/// The standard's answers (OPC 10000-9, 5.5.4 to 5.5.6, 5.7.3, 5.7.4, 5.8.17).
fn status(error: &AlarmError, action: AlarmAction) -> StatusCode {
    match (error, action) {
        (AlarmError::Denied(_), _) => StatusCode::BadUserAccessDenied,
        (AlarmError::Unknown(_), _) => StatusCode::BadNodeIdUnknown,
        (AlarmError::Outdated, _) => StatusCode::BadEventIdUnknown,
        (AlarmError::Disabled, _) => StatusCode::BadConditionDisabled,
        (AlarmError::Already(_), AlarmAction::Enable) => StatusCode::BadConditionAlreadyEnabled,
        (AlarmError::Already(_), AlarmAction::Disable) => StatusCode::BadConditionAlreadyDisabled,
        (AlarmError::Already(_), AlarmAction::Acknowledge) => {
            StatusCode::BadConditionBranchAlreadyAcked
        }
        (AlarmError::Already(_), AlarmAction::Confirm) => {
            StatusCode::BadConditionBranchAlreadyConfirmed
        }
        (AlarmError::Already(_), AlarmAction::Shelve(_)) => StatusCode::BadConditionAlreadyShelved,
        (AlarmError::Already(_), _) => StatusCode::BadConditionNotShelved,
        (AlarmError::NotYet(_), _) => StatusCode::BadInvalidState,
        (AlarmError::Argument(_), AlarmAction::Shelve(_)) => StatusCode::BadShelvingTimeOutOfRange,
        (AlarmError::Argument(_), _) => StatusCode::BadInvalidArgument,
        (AlarmError::Busy | AlarmError::NotRecorded(_), _) => StatusCode::BadResourceUnavailable,
    }
}

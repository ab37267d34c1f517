//! The diagnostics that the stack has no values for: whether they are on, and the arrays of sessions and
//! subscriptions (OPC 10000-5, 6.3.3 to 6.3.5). What the stack does not count is zero.

use super::sessions::Sessions;
use opcua::server::SubscriptionCache;
use opcua::server::node_manager::{ReadNode, RequestContext};
use opcua::types::{
    AttributeId, DataValue, DateTime, ExtensionObject, ServiceCounterDataType,
    SessionDiagnosticsDataType, StatusCode, SubscriptionDiagnosticsDataType, VariableId, Variant,
};

/// Sets the value of a node of the diagnostics that is kept here.
pub(super) fn read(
    node: &mut ReadNode,
    context: &RequestContext,
    sessions: &Sessions,
    may_see_others: bool,
) {
    use VariableId as V;
    if node.node().attribute_id != AttributeId::Value {
        return;
    }
    let subscriptions = &context.subscriptions;
    let value: Variant = match node.node().node_id.as_variable_id() {
        Ok(V::Server_ServerDiagnostics_EnabledFlag) => true.into(),
        Ok(V::Server_ServerDiagnostics_ServerDiagnosticsSummary_RejectedSessionCount) => {
            u32::try_from(sessions.refused()).unwrap_or(u32::MAX).into()
        }
        Ok(V::Server_ServerDiagnostics_SubscriptionDiagnosticsArray) if may_see_others => {
            array(subscriptions_of(sessions, subscriptions))
        }
        Ok(V::Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionDiagnosticsArray)
            if may_see_others =>
        {
            array(sessions_of(sessions, subscriptions))
        }
        Ok(
            V::Server_ServerDiagnostics_SubscriptionDiagnosticsArray
            | V::Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionDiagnosticsArray,
        ) => {
            node.set_error(StatusCode::BadUserAccessDenied);
            return;
        }
        _ => return,
    };
    let data = DataValue::new_now(value);
    let range = node.node().index_range.clone();
    let part = data.value.as_ref().map(|v| v.range_of(&range));
    match part {
        Some(Ok(value)) => node.set_result(DataValue {
            value: Some(value),
            ..data
        }),
        Some(Err(status)) => node.set_error(status),
        None => {}
    }
}

fn array<T>(items: Vec<T>) -> Variant
where
    T: opcua::types::DynEncodable,
{
    let objects = items.into_iter().map(ExtensionObject::from_message);
    Variant::from(objects.collect::<Vec<_>>())
}

fn subscriptions_of(
    sessions: &Sessions,
    subscriptions: &SubscriptionCache,
) -> Vec<SubscriptionDiagnosticsDataType> {
    let mut all = Vec::new();
    for open in sessions.open() {
        let Some(of_session) = subscriptions.get_session_subscriptions(open.number) else {
            continue;
        };
        let of_session = of_session.lock();
        for id in of_session.subscription_ids() {
            let Some(subscription) = of_session.get(id) else {
                continue;
            };
            let interval = subscription.publishing_interval();
            let most = subscription.max_notifications_per_publish();
            let disabled = subscription.items().filter(|item| !item.is_sampling());
            all.push(SubscriptionDiagnosticsDataType {
                session_id: open.id.clone(),
                subscription_id: id,
                priority: subscription.priority(),
                publishing_interval: interval.as_secs_f64() * 1000.0,
                max_notifications_per_publish: count(most),
                publishing_enabled: subscription.publishing_enabled(),
                monitored_item_count: count(subscription.len()),
                disabled_monitored_item_count: count(disabled.count()),
                ..Default::default()
            });
        }
    }
    all
}

fn sessions_of(
    sessions: &Sessions,
    subscriptions: &SubscriptionCache,
) -> Vec<SessionDiagnosticsDataType> {
    let session = |open: super::sessions::OpenSession| {
        let of_session = subscriptions.get_session_subscriptions(open.number);
        let (mut count_of, mut items) = (0, 0);
        if let Some(of_session) = of_session {
            let of_session = of_session.lock();
            let ids = of_session.subscription_ids();
            count_of = ids.len();
            items = ids
                .iter()
                .filter_map(|id| of_session.get(*id))
                .map(|subscription| subscription.len())
                .sum();
        }
        SessionDiagnosticsDataType {
            session_id: open.id,
            session_name: open.name.into(),
            client_description: open.client,
            endpoint_url: open.endpoint,
            client_connection_time: DateTime::from(open.since),
            client_last_contact_time: DateTime::from(open.last),
            current_subscriptions_count: count(count_of),
            current_monitored_items_count: count(items),
            total_request_count: ServiceCounterDataType {
                total_count: u32::try_from(open.requests).unwrap_or(u32::MAX),
                error_count: 0,
            },
            ..Default::default()
        }
    };
    sessions.open().into_iter().map(session).collect()
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

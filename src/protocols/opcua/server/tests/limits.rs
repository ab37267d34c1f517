//! What a client may have, and what it is told when it wants more.

use super::*;
use opcua::types::VariableId;

/// The newest of a counter, when it has come to `least`.
async fn counted(session: &Session, name: &str, least: u64) -> u64 {
    let node = find(session, &["Weighbridge", "Server", name])
        .await
        .unwrap();
    let counting = async {
        loop {
            if let Some(Variant::UInt64(count)) = read(session, &node).await.value
                && count >= least
            {
                return count;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counting).await.unwrap()
}

async fn subscription(session: &Session) -> Result<u32, Error> {
    let deaf = DataChangeCallback::new(|_, _| {});
    session
        .create_subscription(SECOND, 100, 20, 0, 0, true, deaf)
        .await
}

/// Monitors a node so often; the status of each.
async fn monitor(
    session: &Session,
    subscription: u32,
    node: &NodeId,
    times: usize,
) -> Vec<StatusCode> {
    let item = MonitoredItemCreateRequest::from(node.clone());
    let items = vec![item; times];
    let both = TimestampsToReturn::Both;
    let created = session.create_monitored_items(subscription, both, items);
    let created = created.await.unwrap();
    let statuses = created.into_iter().map(|item| item.result.status_code);
    statuses.collect()
}

#[tokio::test]
async fn a_user_has_so_many_sessions_and_they_can_be_had_again() {
    let hub = hub(|_, config| config.limits.sessions_per_user = 2).await;
    let first = anonymous(&hub).await;
    let second = anonymous(&hub).await;
    let none = MessageSecurityMode::None;
    let third = || connect(&hub, SecurityPolicy::None, none, IdentityToken::Anonymous);
    let Err(refused) = third().await else {
        panic!("a third session was given");
    };
    assert_eq!(refused.status(), StatusCode::BadTooManySessions);
    assert!(counted(&first, "SessionsRefused", 1).await >= 1);
    let rejected =
        VariableId::Server_ServerDiagnostics_ServerDiagnosticsSummary_RejectedSessionCount;
    let rejected = read(&first, &rejected.into()).await.value;
    assert!(
        matches!(rejected, Some(Variant::UInt32(1..))),
        "{rejected:?}"
    );
    second.disconnect().await.unwrap();
    let again = async { while third().await.is_err() {} };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test]
async fn a_session_has_so_many_subscriptions() {
    let hub = hub(|_, config| config.limits.subscriptions_per_session = 2).await;
    let session = anonymous(&hub).await;
    let id = VariableId::Server_ServerDiagnostics_ServerDiagnosticsSummary_RejectedRequestsCount;
    let rejected = async || match read(&session, &id.into()).await.value {
        Some(Variant::UInt32(count)) => count,
        other => panic!("{other:?}"),
    };
    let before = rejected().await;
    let first = subscription(&session).await.unwrap();
    subscription(&session).await.unwrap();
    let refused = subscription(&session).await.unwrap_err();
    assert_eq!(refused.status(), StatusCode::BadTooManySubscriptions);
    assert!(rejected().await > before);
    session.delete_subscription(first).await.unwrap();
    subscription(&session).await.unwrap();
}

#[tokio::test]
async fn a_user_has_so_many_items_of_whatever_node() {
    let hub = hub(|_, config| config.limits.monitored_items_per_user = 3).await;
    let session = anonymous(&hub).await;
    let mine = subscription(&session).await.unwrap();
    let node = tag_node(&session, "count").await;
    let state = VariableId::Server_ServerStatus_State.into();
    let (good, refused) = (StatusCode::Good, StatusCode::BadTooManyMonitoredItems);
    assert_eq!(monitor(&session, mine, &node, 2).await, [good; 2]);
    assert_eq!(monitor(&session, mine, &state, 2).await, [good, refused]);
    assert_eq!(counted(&session, "MonitoredItemsRefused", 1).await, 1);
    let other = anonymous(&hub).await;
    let theirs = subscription(&other).await.unwrap();
    assert_eq!(monitor(&other, theirs, &node, 1).await, [refused]);
    session.delete_subscription(mine).await.unwrap();
    assert_eq!(monitor(&other, theirs, &node, 3).await, [good; 3]);
    assert_eq!(counted(&other, "MonitoredItemsAbandoned", 3).await, 3);
}

#[tokio::test]
async fn who_leaves_too_many_items_behind_gets_no_more_and_the_rest_go_on() {
    let hub = hub(|_, config| config.limits.abandoned_items_per_hour = 4).await;
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "count").await;
    let mine = subscription(&session).await.unwrap();
    assert_eq!(
        monitor(&session, mine, &node, 4).await,
        [StatusCode::Good; 4]
    );
    session.delete_subscription(mine).await.unwrap();
    let mine = subscription(&session).await.unwrap();
    let refused = [StatusCode::BadTooManyMonitoredItems];
    assert_eq!(monitor(&session, mine, &node, 1).await, refused);
    // Reading is not monitoring.
    hub.plc.update([(1, good(Value::U64(7)))]);
    assert_eq!(read(&session, &node).await.value, Some(Variant::UInt64(7)));
}

#[tokio::test]
async fn a_worn_stack_is_replaced_and_clients_find_everything_there_again() {
    let hub = hub(|_, config| config.limits.abandoned_items = 10).await;
    hub.plc.update([(1, good(Value::U64(5)))]);
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "count").await;
    let old = Arc::downgrade(&hub.server.stack.lock().clone());
    let mine = subscription(&session).await.unwrap();
    monitor(&session, mine, &node, 10).await;
    // The answer may go with the stack.
    let _ = session.delete_subscription(mine).await;
    let gone = async {
        while old.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    let again = anonymous(&hub).await;
    assert_eq!(read(&again, &node).await.value, Some(Variant::UInt64(5)));
    assert_eq!(counted(&again, "MonitoredItemsAbandoned", 0).await, 0);
    // News too, and devices that come now.
    let mut values = subscribe(&again, &node).await;
    hub.plc.update([(1, good(Value::U64(6)))]);
    news(&mut values, |d| d.value == Some(Variant::UInt64(6))).await;
    let tags = [tag("speed", ValueKind::F64, "m/s", None)];
    hub.live.register("robot-9".into(), tags.into());
    hub.server.refresh();
    let path = ["Weighbridge", "Devices", "robot-9", "speed"];
    find(&again, &path).await.unwrap();
    hub.server.shutdown().await;
}

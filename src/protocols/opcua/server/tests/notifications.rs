//! Whether clients are told everything.

use super::*;
use opcua::types::MonitoringMode;

/// So many changes come at once.
const BURST: i64 = 40;

fn numbered(number: i64) -> LiveSample {
    LiveSample {
        time: THEN + number * 1_000_000,
        value: Value::F64(number as f64),
        quality: Quality::GOOD,
    }
}

pub(super) async fn subscribe_with(
    session: &Session,
    node: &NodeId,
    adjust: impl FnOnce(&mut MonitoredItemCreateRequest),
) -> (u32, u32, mpsc::UnboundedReceiver<DataValue>) {
    let (send, receive) = mpsc::unbounded_channel();
    let news = DataChangeCallback::new(move |value, _| {
        let _ = send.send(value);
    });
    let subscription = session
        .create_subscription(Duration::from_millis(50), 100, 20, 0, 0, true, news)
        .await
        .unwrap();
    let mut item = MonitoredItemCreateRequest::from(node.clone());
    item.requested_parameters.queue_size = 100;
    adjust(&mut item);
    let created = session
        .create_monitored_items(subscription, TimestampsToReturn::Both, vec![item])
        .await
        .unwrap();
    assert!(created[0].result.status_code.is_good());
    let id = created[0].result.monitored_item_id;
    (subscription, id, receive)
}

fn value_of(data: &DataValue) -> Option<f64> {
    match data.value {
        Some(Variant::Double(value)) => Some(value),
        _ => None,
    }
}

/// Values in the order they came, up to and with `last`.
async fn until(values: &mut mpsc::UnboundedReceiver<DataValue>, last: i64) -> Vec<f64> {
    let mut told = Vec::new();
    while told.last() != Some(&(last as f64)) {
        let data = tokio::time::timeout(PATIENCE, values.recv()).await.unwrap();
        told.extend(value_of(&data.unwrap()));
    }
    told
}

#[tokio::test]
async fn every_change_of_a_burst_arrives_in_every_session_and_in_order() {
    let hub = hub(|_, _| {}).await;
    hub.plc.update([(0, numbered(0))]);
    let mut all = Vec::new();
    for _ in 0..3 {
        let session = anonymous(&hub).await;
        let node = tag_node(&session, "temperature").await;
        let (_, _, mut values) = subscribe_with(&session, &node, |item| {
            item.requested_parameters.sampling_interval = 0.0;
        })
        .await;
        assert_eq!(until(&mut values, 0).await, [0.0]);
        all.push((session, values));
    }
    // One by one, and several in one update, as sources hand them over.
    for number in 1..=BURST {
        hub.plc.update([(0, numbered(number))]);
    }
    let gathered = (BURST + 1..=2 * BURST).map(|number| (0, numbered(number)));
    hub.plc.update(gathered);
    let expected: Vec<f64> = (1..=2 * BURST).map(|n| n as f64).collect();
    for (_session, values) in &mut all {
        assert_eq!(until(values, 2 * BURST).await, expected);
    }
}

#[tokio::test]
async fn a_verdict_between_two_changes_neither_hides_nor_repeats_one() {
    let hub = hub(|_, _| {}).await;
    hub.plc.update([(0, numbered(0))]);
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "temperature").await;
    let (_, _, mut values) = subscribe_with(&session, &node, |_| {}).await;
    until(&mut values, 0).await;
    let uncertain = Quality::UNCERTAIN_ENGINEERING_UNITS_EXCEEDED;
    let verdict = |quality| {
        let judged = vec![quality; 5];
        let class = crate::model::VerdictClass::Accepted;
        hub.plc.set_verdict(class, THEN, String::new(), judged);
    };
    hub.plc.update([(0, numbered(1))]);
    verdict(uncertain);
    hub.plc.update([(0, numbered(2)), (0, numbered(3))]);
    verdict(Quality::GOOD);
    hub.plc.update([(0, numbered(4))]);
    let mut told = Vec::new();
    while told.last() != Some(&(4.0, StatusCode::Good)) {
        let data = tokio::time::timeout(PATIENCE, values.recv()).await.unwrap();
        let data = data.unwrap();
        told.extend(value_of(&data).map(|value| (value, data.status())));
    }
    let bad = StatusCode::from(uncertain.0);
    let expected = [
        (1.0, StatusCode::Good),
        (1.0, bad),
        (2.0, bad),
        (3.0, bad),
        (3.0, StatusCode::Good),
        (4.0, StatusCode::Good),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_slow_item_is_told_seldom_and_the_newest() {
    let hub = hub(|_, _| {}).await;
    hub.plc.update([(0, numbered(0))]);
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "temperature").await;
    let (_, _, mut values) = subscribe_with(&session, &node, |item| {
        item.requested_parameters.sampling_interval = 400.0;
    })
    .await;
    until(&mut values, 0).await;
    for number in 1..=BURST {
        hub.plc.update([(0, numbered(number))]);
    }
    let told = until(&mut values, BURST).await;
    assert!(told.len() <= 4, "{told:?}");
}

#[tokio::test]
async fn an_item_that_is_enabled_again_is_told_what_is_newest() {
    let hub = hub(|_, _| {}).await;
    hub.plc.update([(0, numbered(0))]);
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "temperature").await;
    let (subscription, id, mut values) = subscribe_with(&session, &node, |_| {}).await;
    until(&mut values, 0).await;
    let set = async |mode| {
        let done = session.set_monitoring_mode(subscription, mode, &[id]).await;
        assert_eq!(done.unwrap(), [StatusCode::Good]);
    };
    set(MonitoringMode::Disabled).await;
    hub.plc.update([(0, numbered(1))]);
    hub.plc.update([(0, numbered(2))]);
    assert_eq!(
        read(&session, &node).await.value,
        Some(Variant::Double(2.0))
    );
    set(MonitoringMode::Reporting).await;
    assert_eq!(until(&mut values, 2).await, [2.0]);
}

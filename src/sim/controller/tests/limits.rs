//! A server whose subscriptions are small, and one that is full.

use super::*;
use crate::model::Quality;
use opcua::types::StatusCode;

fn is_full(quality: Quality) -> bool {
    quality.0 == StatusCode::BadTooManyMonitoredItems.bits()
}

#[tokio::test]
async fn items_are_spread_over_as_many_subscriptions_as_they_need() {
    let (controller, url) = controller(ControllerPlan {
        items_per_subscription: 30,
        ..ControllerPlan::new(200, Duration::from_millis(50))
    })
    .await;
    let config = OpcUaConfig {
        sampling_interval_ms: 0,
        queue_size: 200,
        ..OpcUaConfig::new(url)
    };
    let points = points((0..200).map(|i| format!("v{i}")));
    let mut source = OpcUaSource::new("c".into(), config, points).unwrap();
    source.connect().await.unwrap();
    // Ten steps of the machine, for the slowest of all tags.
    let batch = read_until(&mut source, |out| {
        out.counts().iter().all(|samples| *samples > 10)
    })
    .await;
    for column in &batch.columns {
        let values = &column.values;
        let steps: Vec<_> = (0..values.len())
            .map(|i| (values.number(i).unwrap() as u64, batch.times(column)[i]))
            // The first may be the value from before the machine's first step.
            .skip(1)
            .collect();
        let mut known = controller.steps_since(steps[0].1);
        known.truncate(steps.len());
        assert_eq!(steps, known);
    }
    assert_eq!(source.lost(), 0);
}

#[tokio::test]
async fn what_a_full_server_refuses_is_bad_until_it_has_room() {
    let (controller, url) = controller(ControllerPlan {
        items_per_subscription: 10,
        subscriptions: 2,
        ..ControllerPlan::new(23, Duration::from_millis(50))
    })
    .await;
    let points = points((0..23).map(|i| format!("v{i}")));
    let mut source = OpcUaSource::new("c".into(), OpcUaConfig::new(url), points).unwrap();
    source.connect().await.unwrap();
    let full = |out: &BatchBuilder| out.newest().filter(|(_, _, q, _)| is_full(*q)).count();
    read_until(&mut source, |out| {
        out.newest().count() == 23 && full(out) == 3
    })
    .await;
    // One that goes leaves room for one of those.
    controller.delete(0, false);
    read_until(&mut source, |out| {
        let mut newest = out.newest();
        newest.any(|(column, _, quality, _)| column >= 20 && !quality.is_bad())
    })
    .await;
    let reads_on = |out: &BatchBuilder| out.newest().any(|(column, ..)| column == 1);
    read_until(&mut source, reads_on).await;
}

//! The server object, browsing in pages, and sessions.

use super::*;
use crate::access::Role;
use opcua::types::{
    BrowseDescription, ByteString, ServerStatusDataType, SessionDiagnosticsDataType,
    SubscriptionDiagnosticsDataType, VariableId,
};

async fn value(session: &Session, id: VariableId) -> Variant {
    let data = read(session, &id.into()).await;
    assert!(data.value.is_some(), "{data:?}");
    data.value.unwrap_or_default()
}

#[tokio::test]
async fn the_time_is_now_also_when_the_status_is_read_whole() {
    let hub = hub(|_, _| {}).await;
    let session = anonymous(&hub).await;
    let status = value(&session, VariableId::Server_ServerStatus).await;
    let status: ServerStatusDataType = status.try_cast_to().unwrap();
    let apart = chrono::Utc::now() - status.current_time.as_chrono();
    assert!(apart.num_seconds().abs() < 10, "{apart}");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let later = value(&session, VariableId::Server_ServerStatus).await;
    let later: ServerStatusDataType = later.try_cast_to().unwrap();
    assert!(later.current_time > status.current_time);
}

#[tokio::test]
async fn operation_limits_are_shown_and_held() {
    let hub = hub(|_, _| {}).await;
    let session = anonymous(&hub).await;
    let id = VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds;
    let Variant::UInt32(most) = value(&session, id).await else {
        panic!("no limit");
    };
    let path = BrowsePath {
        starting_node: ObjectId::ObjectsFolder.into(),
        ..Default::default()
    };
    let paths = vec![path; most as usize + 1];
    let error = session.translate_browse_paths_to_node_ids(&paths).await;
    assert_eq!(
        error.err().unwrap().status(),
        StatusCode::BadTooManyOperations
    );
    let paths = &paths[..most as usize];
    assert!(
        session
            .translate_browse_paths_to_node_ids(paths)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_large_device_is_browsed_in_pages() {
    let hub = hub(|_, _| {}).await;
    let name = |i: usize| format!("t{i}");
    let tags: Vec<_> = (0..250)
        .map(|i| tag(&name(i), ValueKind::F64, "", None))
        .collect();
    hub.live.register("wide".into(), tags.into());
    hub.server.refresh();
    let session = anonymous(&hub).await;
    let device = find(&session, &["Weighbridge", "Devices", "wide"])
        .await
        .unwrap();
    let all = BrowseDescription {
        node_id: device,
        browse_direction: opcua::types::BrowseDirection::Forward,
        reference_type_id: ReferenceTypeId::HasComponent.into(),
        include_subtypes: true,
        result_mask: 63,
        ..Default::default()
    };
    let mut result = session
        .browse(std::slice::from_ref(&all), 100, None)
        .await
        .unwrap()
        .remove(0);
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        pages += 1;
        let references = result.references.take().unwrap_or_default();
        assert!(references.len() <= 100);
        found.extend(references.iter().map(|r| r.browse_name.name.to_string()));
        let point = result.continuation_point.clone();
        if point.is_null_or_empty() {
            break;
        }
        result = session
            .browse_next(false, std::slice::from_ref(&point))
            .await
            .unwrap()
            .remove(0);
        // Each point is for once.
        if !result.continuation_point.is_null_or_empty() && result.continuation_point != point {
            let again = session
                .browse_next(false, &[point])
                .await
                .unwrap()
                .remove(0);
            assert_eq!(again.status_code, StatusCode::BadContinuationPointInvalid);
        }
    }
    assert_eq!(pages, 3);
    found.sort_unstable();
    let mut expected: Vec<_> = (0..250).map(name).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);

    // Points are bounded; who releases one can have another.
    let mut points: Vec<ByteString> = Vec::new();
    let refused = loop {
        let page = session
            .browse(std::slice::from_ref(&all), 100, None)
            .await
            .unwrap()
            .remove(0);
        match page.status_code {
            StatusCode::Good => points.push(page.continuation_point),
            other => break other,
        }
        assert!(points.len() <= MAX_BROWSE_POINTS);
    };
    assert_eq!(refused, StatusCode::BadNoContinuationPoints);
    session.browse_next(true, &points[..1]).await.unwrap();
    let page = session.browse(&[all], 100, None).await.unwrap().remove(0);
    assert_eq!(page.status_code, StatusCode::Good);
}

#[tokio::test]
async fn the_end_of_a_session_is_told() {
    let hub = hub(|_, _| {}).await;
    let session = anonymous(&hub).await;
    tag_node(&session, "count").await;
    let node = tag_node(&session, "count").await;
    read(&session, &node).await;
    assert_eq!(hub.sessions.users(), ["anonymous"]);
    let mut sessions = hub.sessions.0.subscribe();
    session.disconnect().await.unwrap();
    let over = sessions.wait_for(Vec::is_empty);
    tokio::time::timeout(PATIENCE, over).await.unwrap().unwrap();
}

#[tokio::test]
async fn diagnostics_show_sessions_and_subscriptions_to_who_may_know() {
    let engineering = hub(|_, config| config.anonymous_roles = vec![Role::Engineer]).await;
    let session = anonymous(&engineering).await;
    let node = tag_node(&session, "count").await;
    let _values = subscribe(&session, &node).await;
    use VariableId as V;
    let enabled = value(&session, V::Server_ServerDiagnostics_EnabledFlag).await;
    assert_eq!(enabled, Variant::Boolean(true));
    let id = V::Server_ServerDiagnostics_ServerDiagnosticsSummary_CurrentSubscriptionCount;
    assert_eq!(value(&session, id).await, Variant::UInt32(1));
    let sessions = V::Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionDiagnosticsArray;
    let array: Vec<SessionDiagnosticsDataType> =
        value(&session, sessions).await.try_cast_to().unwrap();
    assert_eq!(array.len(), 1);
    assert_eq!(array[0].current_monitored_items_count, 1);
    assert_eq!(
        array[0].client_description.application_uri.as_ref(),
        "urn:weighbridge:test-client"
    );
    let subscriptions = V::Server_ServerDiagnostics_SubscriptionDiagnosticsArray;
    let array: Vec<SubscriptionDiagnosticsDataType> =
        value(&session, subscriptions).await.try_cast_to().unwrap();
    assert_eq!((array.len(), array[0].monitored_item_count), (1, 1));

    let observing = hub(|_, _| {}).await;
    let session = anonymous(&observing).await;
    let refused = read(&session, &sessions.into()).await.status;
    assert_eq!(refused, Some(StatusCode::BadUserAccessDenied));
}

//! History as a client reads it; what is behind the port is a list.

use super::*;
use crate::access::{Caller, Right, Role};
use crate::model::{Nanos, now};
use crate::protocols::ports::{
    Cursor, Direction, Gone, HistoryError, HistoryPort, PastPage, PastRequest, PastSample, PastTag,
    Why,
};
use async_trait::async_trait;
use opcua::client::HistoryReadAction;
use opcua::types::{
    AggregateConfiguration, AttributeId, ByteString, DateTime, HistoryData, HistoryReadResult,
    HistoryReadValueId, ReadAtTimeDetails, ReadProcessedDetails, ReadRawModifiedDetails,
    VariableId,
};

const TICKS_1970: i64 = 116_444_736_000_000_000;
/// One sample a second from here on.
const FIRST: i64 = THEN / 1_000_000_000 * 1_000_000_000;
const S: i64 = 1_000_000_000;
const SAMPLES: i64 = 100;

/// Remembers who asked for what.
struct FakePast {
    samples: Arc<Vec<PastSample>>,
    gone: parking_lot::Mutex<Vec<Gone>>,
    asked: parking_lot::Mutex<Vec<(String, PastRequest)>>,
    gate: std::sync::OnceLock<crate::access::Gate>,
}

struct FakeTag {
    samples: Arc<Vec<PastSample>>,
    gone: Vec<Gone>,
    range: (Nanos, Nanos),
}

impl FakeTag {
    fn between(&self, (low, high): (Nanos, Nanos), direction: Direction) -> Vec<PastSample> {
        let inside = |s: &&PastSample| (low..high).contains(&s.time);
        let mut samples: Vec<_> = self.samples.iter().filter(inside).cloned().collect();
        if direction == Direction::Backward {
            samples.reverse();
        }
        samples
    }
}

#[async_trait]
impl PastTag for FakeTag {
    async fn page(
        &self,
        direction: Direction,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<PastPage, HistoryError> {
        // Each time occurs once, so the time alone says where to go on.
        let mut samples = self.between(self.range, direction);
        if let Some(after) = after {
            let at = samples.iter().position(|s| s.time == after.time).unwrap();
            samples.drain(..=at);
        }
        let more = samples.len() > limit;
        samples.truncate(limit);
        let last = samples.last().filter(|_| more);
        let next = last.map(|s| Cursor {
            time: s.time,
            given: 1,
        });
        Ok(PastPage { samples, next })
    }

    async fn near(
        &self,
        time: Nanos,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<PastSample>, HistoryError> {
        let mut samples = match direction {
            Direction::Forward => self.between((time, i64::MAX), direction),
            Direction::Backward => self.between((i64::MIN, time), direction),
        };
        samples.truncate(limit);
        Ok(samples)
    }

    fn gone(&self) -> &[Gone] {
        &self.gone
    }
}

#[async_trait]
impl HistoryPort for FakePast {
    async fn open(
        &self,
        caller: &Caller,
        request: PastRequest,
    ) -> Result<Vec<Arc<dyn PastTag>>, HistoryError> {
        let range = (request.from, request.to);
        let tags = request.tags.len();
        self.asked.lock().push((caller.user.clone(), request));
        let gate = self.gate.get().unwrap();
        if !gate.somewhere(&caller.user, Right::History, now()) {
            return Err(HistoryError::Denied("no".into()));
        }
        let tag = || -> Arc<dyn PastTag> {
            Arc::new(FakeTag {
                samples: self.samples.clone(),
                gone: self.gone.lock().clone(),
                range,
            })
        };
        Ok((0..tags).map(|_| tag()).collect())
    }

    async fn evidence(
        &self,
        _: &Caller,
        _: &str,
        _: &str,
        _: Nanos,
    ) -> Result<Vec<u8>, HistoryError> {
        Err(HistoryError::Unknown("none".into()))
    }
}

async fn plant(roles: &[Role]) -> (Hub, Arc<FakePast>) {
    let sample = |i: i64| PastSample {
        time: FIRST + i * S,
        value: Value::F64(i as f64),
        quality: match i {
            50 => Quality::BAD,
            _ => Quality::GOOD,
        },
    };
    let past = Arc::new(FakePast {
        samples: Arc::new((0..SAMPLES).map(sample).collect()),
        gone: Default::default(),
        asked: Default::default(),
        gate: Default::default(),
    });
    let roles = roles.to_vec();
    let adjust = |_: &Path, config: &mut OpcUaServerConfig| config.anonymous_roles = roles;
    let hub = hub_with(adjust, |ports| {
        let gate = ports.access.as_ref().unwrap().gate();
        assert!(past.gate.set(gate.clone()).is_ok());
        ports.history = Some(past.clone());
    })
    .await;
    (hub, past)
}

/// Seconds after the first sample.
fn at(seconds: i64) -> DateTime {
    DateTime::from(TICKS_1970 + (FIRST + seconds * S) / 100)
}

fn raw(start: DateTime, end: DateTime, limit: u32, bounds: bool) -> HistoryReadAction {
    HistoryReadAction::ReadRawModifiedDetails(ReadRawModifiedDetails {
        is_read_modified: false,
        start_time: start,
        end_time: end,
        num_values_per_node: limit,
        return_bounds: bounds,
    })
}

async fn ask(
    session: &Session,
    action: HistoryReadAction,
    node: &NodeId,
    point: ByteString,
    release: bool,
) -> HistoryReadResult {
    let node = HistoryReadValueId {
        node_id: node.clone(),
        continuation_point: point,
        ..Default::default()
    };
    let source = TimestampsToReturn::Source;
    let nodes = [node];
    let read = session.history_read(action, source, release, &nodes);
    read.await.unwrap().remove(0)
}

fn values(result: &HistoryReadResult) -> Vec<DataValue> {
    let data = result.history_data.inner_as::<HistoryData>().unwrap();
    data.data_values.clone().unwrap_or_default()
}

/// Seconds after the first sample, of each value; the value must be the same number.
fn seconds(values: &[DataValue]) -> Vec<i64> {
    let second = |value: &DataValue| {
        let ticks = value.source_timestamp.unwrap().ticks() - TICKS_1970;
        let second = (ticks * 100 - FIRST) / S;
        match (&value.value, value.status.unwrap().is_bad()) {
            (Some(Variant::Double(number)), false) => assert_eq!(*number as i64, second),
            (None | Some(Variant::Empty), true) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(value.server_timestamp, None);
        second
    };
    values.iter().map(second).collect()
}

async fn ask_raw(session: &Session, node: &NodeId, action: HistoryReadAction) -> Vec<i64> {
    let result = ask(session, action, node, ByteString::null(), false).await;
    assert!(result.continuation_point.is_null_or_empty());
    seconds(&values(&result))
}

#[tokio::test]
async fn raw_history_forwards_backwards_and_with_bounds() {
    let (hub, past) = plant(&[Role::Auditor]).await;
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "temperature").await;
    let none = DateTime::null();
    let cases: [(HistoryReadAction, Vec<i64>); 9] = [
        // The end is not included, whichever way.
        (raw(at(10), at(13), 0, false), vec![10, 11, 12]),
        (raw(at(13), at(10), 0, false), vec![13, 12, 11]),
        (raw(at(10), at(10), 0, false), vec![10]),
        (raw(at(10), none, 3, false), vec![10, 11, 12]),
        (raw(none, at(10), 3, false), vec![10, 9, 8]),
        (raw(at(10), at(12), 0, true), vec![10, 11, 12]),
        (raw(at(12), at(10), 0, true), vec![12, 11, 10]),
        (raw(at(95), at(200), 0, false), vec![95, 96, 97, 98, 99]),
        // Before the first and after the last there are no bounds to be found.
        (raw(at(-5), at(0), 0, true), vec![-5, 0]),
    ];
    for (index, (action, expected)) in cases.into_iter().enumerate() {
        assert_eq!(ask_raw(&session, &node, action).await, expected, "{index}");
    }
    // Between two samples the bounds are the samples around.
    let half = |seconds: i64| DateTime::from(at(seconds).ticks() + 5_000_000);
    let around = raw(half(10), half(12), 0, true);
    assert_eq!(ask_raw(&session, &node, around).await, [10, 11, 12, 13]);
    // A Bad sample has its status, and no value.
    let bad = ask(
        &session,
        raw(at(50), at(51), 0, false),
        &node,
        ByteString::null(),
        false,
    )
    .await;
    assert_eq!(values(&bad)[0].status, Some(StatusCode::Bad));
    let (caller, first) = past.asked.lock()[0].clone();
    assert_eq!(caller, "anonymous");
    assert_eq!(
        (&*first.device, &*first.tags),
        ("plc-1", &["temperature".to_owned()][..])
    );
    assert_eq!((first.from, first.to), (FIRST + 10 * S, FIRST + 13 * S));
    hub.server.shutdown().await;
}

#[tokio::test]
async fn pages_go_on_at_their_continuation_point_until_it_is_used_or_released() {
    let (hub, past) = plant(&[Role::Auditor]).await;
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "temperature").await;
    for (start, end) in [(at(0), at(100)), (at(99), at(-1))] {
        past.asked.lock().clear();
        let mut all = Vec::new();
        let mut point = ByteString::null();
        loop {
            let page = ask(&session, raw(start, end, 7, false), &node, point, false).await;
            assert_eq!(page.status_code, StatusCode::Good);
            all.extend(seconds(&values(&page)));
            point = page.continuation_point;
            if point.is_null_or_empty() {
                break;
            }
        }
        let mut expected: Vec<i64> = (0..100).collect();
        if all[0] != 0 {
            expected.reverse();
        }
        assert_eq!(all, expected);
        assert_eq!(past.asked.lock().len(), 1, "one read is one record");
    }
    let action = || raw(at(0), at(100), 7, false);
    let page = ask(&session, action(), &node, ByteString::null(), false).await;
    let point = page.continuation_point;
    let released = ask(&session, action(), &node, point.clone(), true).await;
    assert_eq!(released.status_code, StatusCode::Good);
    let gone = ask(&session, action(), &node, point, false).await;
    assert_eq!(gone.status_code, StatusCode::BadContinuationPointInvalid);
    // A session can hold only so many.
    let mut refused = 0;
    for _ in 0..MAX_CONTINUATIONS + 3 {
        let page = ask(&session, action(), &node, ByteString::null(), false).await;
        refused += usize::from(page.status_code == StatusCode::BadNoContinuationPoints);
    }
    assert_eq!(refused, 3);
    hub.server.shutdown().await;
}

/// What is gone, what is asked, how it ends, the seconds of the values, and the codes of those that are Bad.
type Case = (
    Vec<Gone>,
    HistoryReadAction,
    StatusCode,
    Vec<i64>,
    Vec<StatusCode>,
);

#[tokio::test]
async fn what_was_taken_away_is_said_in_its_place() {
    let (hub, past) = plant(&[Role::Auditor]).await;
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "temperature").await;
    let gone = |why, second: i64| Gone {
        why,
        before: FIRST + second * S,
        recorded: FIRST,
        notice: weighbridge_verifier::Hash::ZERO,
    };
    let archived = || Why::Retired {
        archive: Some("archive".to_owned()),
    };
    let lost = Why::Retired { archive: None };
    let (unavailable, not_there) = (StatusCode::BadDataUnavailable, StatusCode::BadDataLost);
    let none = DateTime::null;
    // Samples begin at 0: what is gone lies before, or among what was kept of it.
    let before = |why| vec![gone(why, -10)];
    let cases: [Case; 13] = [
        // Nothing but what is gone.
        (
            before(archived()),
            raw(at(-50), at(-20), 0, false),
            unavailable,
            vec![],
            vec![],
        ),
        (
            before(lost),
            raw(at(-20), at(-50), 0, false),
            not_there,
            vec![],
            vec![],
        ),
        (
            before(Why::Erased),
            raw(at(-50), at(-20), 0, false),
            not_there,
            vec![],
            vec![],
        ),
        (
            before(Why::Erased),
            raw(none(), at(-20), 5, false),
            not_there,
            vec![],
            vec![],
        ),
        // Nothing, and nothing was taken.
        (
            before(archived()),
            raw(at(-9), at(-5), 0, false),
            StatusCode::GoodNoData,
            vec![],
            vec![],
        ),
        // A part of it, either way: its last tick is where it ends.
        (
            before(archived()),
            raw(at(-50), at(2), 0, false),
            StatusCode::Good,
            vec![-10, 0, 1],
            vec![unavailable],
        ),
        (
            before(Why::Erased),
            raw(at(1), at(-50), 0, false),
            StatusCode::Good,
            vec![1, 0, -10],
            vec![not_there],
        ),
        (
            before(Why::Erased),
            raw(none(), at(1), 5, false),
            StatusCode::Good,
            vec![1, 0, -10],
            vec![not_there],
        ),
        (
            before(archived()),
            raw(at(-50), none(), 3, false),
            StatusCode::Good,
            vec![-10, 0, 1],
            vec![unavailable],
        ),
        (
            before(archived()),
            raw(at(3), none(), 2, false),
            StatusCode::Good,
            vec![3, 4],
            vec![],
        ),
        // What was kept stands before it.
        (
            vec![gone(archived(), 3)],
            raw(at(1), at(5), 0, false),
            StatusCode::Good,
            vec![1, 2, 3, 3, 4],
            vec![unavailable],
        ),
        // Twice.
        (
            vec![gone(archived(), -10), gone(Why::Erased, -20)],
            raw(at(-50), at(1), 0, false),
            StatusCode::Good,
            vec![-20, -10, 0],
            vec![not_there, unavailable],
        ),
        // A sample at the very time that is asked for.
        (
            vec![gone(archived(), 30)],
            raw(at(20), at(20), 0, false),
            StatusCode::Good,
            vec![20],
            vec![],
        ),
    ];
    for (case, (gone, action, status, times, bad)) in cases.into_iter().enumerate() {
        *past.gone.lock() = gone;
        let result = ask(&session, action, &node, ByteString::null(), false).await;
        assert_eq!(result.status_code, status, "{case}");
        let found = match status {
            StatusCode::Good => values(&result),
            _ => Vec::new(),
        };
        // The last tick of a second is of that second.
        let rounded = found.iter().map(|value| {
            let ticks = value.source_timestamp.unwrap().ticks() - TICKS_1970 + 1;
            (ticks * 100 - FIRST).div_euclid(S)
        });
        assert_eq!(rounded.collect::<Vec<_>>(), times, "{case}");
        let codes = found.iter().filter_map(|value| value.status);
        let codes: Vec<_> = codes.filter(|status| status.is_bad()).collect();
        assert_eq!(codes, bad, "{case}");
    }
    // Page by page it comes once, and a page has no more values than were asked for.
    for (start, end) in [(at(-50), at(20)), (at(20), at(-50))] {
        for second in [-10, 0, 1, 3, 6, 7, 19, 20] {
            *past.gone.lock() = vec![gone(archived(), second)];
            let (mut all, mut marks, mut point) = (0, 0, ByteString::null());
            loop {
                let page = ask(&session, raw(start, end, 3, false), &node, point, false).await;
                let values = values(&page);
                assert!(values.len() <= 3, "{second}");
                let mark = |value: &&DataValue| value.status == Some(unavailable);
                marks += values.iter().filter(mark).count();
                all += values.len();
                point = page.continuation_point;
                if point.is_null_or_empty() {
                    break;
                }
            }
            let samples = if start == at(20) { 21 } else { 20 };
            assert_eq!((all, marks), (samples + 1, 1), "{second}");
        }
    }
    hub.server.shutdown().await;
}

fn processed(start: DateTime, end: DateTime, ms: f64, function: ObjectId) -> HistoryReadAction {
    HistoryReadAction::ReadProcessedDetails(ReadProcessedDetails {
        start_time: start,
        end_time: end,
        processing_interval: ms,
        aggregate_type: Some(vec![function.into()]),
        aggregate_configuration: AggregateConfiguration {
            use_server_capabilities_defaults: true,
            ..Default::default()
        },
    })
}

fn numbers(result: &HistoryReadResult) -> Vec<(i64, f64, u32)> {
    assert_eq!(result.status_code, StatusCode::Good);
    let number = |value: &DataValue| {
        let ticks = value.source_timestamp.unwrap().ticks() - TICKS_1970;
        let number = match value.value {
            Some(Variant::Double(number)) => number,
            Some(Variant::Int64(number)) => number as f64,
            _ => f64::NAN,
        };
        let status = value.status.unwrap().bits();
        ((ticks * 100 - FIRST) / S, number, status)
    };
    values(result).iter().map(number).collect()
}

#[tokio::test]
async fn processed_history_has_a_value_for_every_interval_either_way() {
    let (hub, _) = plant(&[Role::Auditor]).await;
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "temperature").await;
    let null = ByteString::null;
    let average = ObjectId::AggregateFunction_Average;
    let calculated = 0x401;
    let action = processed(at(0), at(25), 10_000.0, average);
    let result = ask(&session, action, &node, null(), false).await;
    let expected = [
        (0, 4.5, calculated),
        (10, 14.5, calculated),
        (20, 22.0, calculated),
    ];
    assert_eq!(numbers(&result), expected);
    // Backwards an interval begins at its later end, which belongs to it.
    let action = processed(at(30), at(10), 10_000.0, average);
    let result = ask(&session, action, &node, null(), false).await;
    assert_eq!(
        numbers(&result),
        [(30, 25.5, calculated), (20, 15.5, calculated)]
    );
    // No interval is one interval; one Bad sample in it makes it doubtful.
    let action = processed(at(40), at(60), 0.0, ObjectId::AggregateFunction_Count);
    let result = ask(&session, action, &node, null(), false).await;
    assert_eq!(numbers(&result), [(40, 19.0, 0x40A4_0401)]);
    for (action, status) in [
        (
            processed(at(0), at(0), 0.0, average),
            StatusCode::BadInvalidArgument,
        ),
        (
            processed(
                at(0),
                at(9),
                1_000.0,
                ObjectId::AggregateFunction_DurationInStateZero,
            ),
            StatusCode::BadAggregateNotSupported,
        ),
        (
            processed(at(0), at(9), -1.0, average),
            StatusCode::BadInvalidArgument,
        ),
    ] {
        let result = ask(&session, action, &node, null(), false).await;
        assert_eq!(result.status_code, status);
    }
    hub.server.shutdown().await;
}

#[tokio::test]
async fn more_intervals_than_one_answer_holds_go_on_where_they_stopped() {
    let (hub, _) = plant(&[Role::Auditor]).await;
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "temperature").await;
    // 25,000 intervals of 4 ms over all samples.
    let action = || processed(at(0), at(100), 4.0, ObjectId::AggregateFunction_Count);
    let mut counts = Vec::new();
    let mut point = ByteString::null();
    loop {
        let page = ask(&session, action(), &node, point, false).await;
        counts.extend(numbers(&page).into_iter().map(|(_, count, _)| count));
        point = page.continuation_point;
        if point.is_null_or_empty() {
            break;
        }
    }
    assert_eq!(counts.len(), 25_000);
    let counted = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count == 1.0);
    let every_second: Vec<_> = counted.map(|(index, _)| index % 250).collect();
    assert_eq!(every_second, [0; 99]);
    hub.server.shutdown().await;
}

#[tokio::test]
async fn values_at_times_are_raw_where_there_is_a_sample_and_interpolated_where_not() {
    let (hub, _) = plant(&[Role::Auditor]).await;
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "temperature").await;
    let half = |seconds: i64| DateTime::from(at(seconds).ticks() + 5_000_000);
    let times = vec![half(49), at(3), half(7), at(-1), half(99)];
    let action = HistoryReadAction::ReadAtTimeDetails(ReadAtTimeDetails {
        req_times: Some(times),
        use_simple_bounds: false,
    });
    let result = ask(&session, action, &node, ByteString::null(), false).await;
    let numbers = numbers(&result);
    assert_eq!(numbers[0], (49, 49.5, 0x40A4_0402));
    assert_eq!(numbers[1], (3, 3.0, 0));
    assert_eq!(numbers[2], (7, 7.5, 0x402));
    assert_eq!((numbers[3].0, numbers[3].2), (-1, 0x809B_0000));
    assert_eq!(numbers[4], (99, 99.0, 0x40A4_0402));
    hub.server.shutdown().await;
}

#[tokio::test]
async fn who_may_not_is_refused_and_the_refusal_reaches_the_record() {
    let (hub, past) = plant(&[Role::Observer]).await;
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "temperature").await;
    let action = raw(at(0), at(10), 0, false);
    let result = ask(&session, action, &node, ByteString::null(), false).await;
    assert_eq!(result.status_code, StatusCode::BadUserAccessDenied);
    assert_eq!(past.asked.lock().len(), 1);
    // The ledger's variables have no history.
    let height = find(&session, &["Weighbridge", "Ledger", "Height"])
        .await
        .unwrap();
    let action = raw(at(0), at(10), 0, false);
    let result = ask(&session, action, &height, ByteString::null(), false).await;
    assert!(result.status_code.is_bad(), "{}", result.status_code);
    hub.server.shutdown().await;
}

#[tokio::test]
async fn the_server_says_what_history_it_has() {
    let (hub, _) = plant(&[Role::Auditor]).await;
    let session = anonymous(&hub).await;
    let has = VariableId::HistoryServerCapabilities_AccessHistoryDataCapability;
    assert_eq!(read(&session, &has.into()).await.value, Some(true.into()));
    let inserts = VariableId::HistoryServerCapabilities_InsertDataCapability;
    assert_eq!(
        read(&session, &inserts.into()).await.value,
        Some(false.into())
    );
    let node = tag_node(&session, "temperature").await;
    let attribute = async |attribute: AttributeId| {
        let wanted = ReadValueId {
            attribute_id: attribute as u32,
            ..ReadValueId::from(node.clone())
        };
        let both = TimestampsToReturn::Both;
        let read = session.read(&[wanted], both, 0.0).await.unwrap();
        read[0].value.clone().unwrap()
    };
    assert_eq!(attribute(AttributeId::Historizing).await, true.into());
    let Variant::Byte(level) = attribute(AttributeId::UserAccessLevel).await else {
        panic!("an access level is a byte");
    };
    assert_eq!(level & 0b101, 0b101, "it can be read, and its history too");
    let folder = opcua::types::BrowseDescription {
        node_id: ObjectId::HistoryServerCapabilities_AggregateFunctions.into(),
        browse_direction: opcua::types::BrowseDirection::Forward,
        reference_type_id: ReferenceTypeId::Organizes.into(),
        include_subtypes: true,
        node_class_mask: 0,
        result_mask: opcua::types::BrowseResultMask::All as u32,
    };
    let found = session.browse(&[folder], 0, None).await.unwrap().remove(0);
    let found = found.references.unwrap_or_default();
    let names: Vec<String> = found
        .iter()
        .map(|r| r.browse_name.name.to_string())
        .collect();
    for name in [
        "Average",
        "TimeAverage",
        "StandardDeviationSample",
        "Interpolative",
    ] {
        assert!(
            names.iter().any(|n| n == name),
            "{name} is not in {names:?}"
        );
    }
    hub.server.shutdown().await;
}

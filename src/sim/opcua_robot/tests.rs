//! The robots, read by the client.

use super::*;
use crate::model::{Batch, BatchBuilder, Quality};
use crate::protocols::opcua::{OpcUaConfig, OpcUaSource};
use crate::protocols::{Source, SourceError};
use crate::sim::fault::Fault;

const PATIENCE: Duration = Duration::from_secs(20);

async fn robot(seed: u64) -> (RobotServer, SimDevice) {
    let device = SimDevice::robot("robot-3", seed);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let period = Duration::from_millis(50);
    let server = RobotServer::start(device.clone(), address, period, Instant::now())
        .await
        .unwrap();
    (server, device)
}

fn source(server: &RobotServer, points: Vec<(TagSpec, OpcUaPoint)>) -> OpcUaSource {
    OpcUaSource::new("robot-3".into(), OpcUaConfig::new(server.url()), points).unwrap()
}

/// Reads until `enough` of what was read; fails after a while.
async fn read_until(source: &mut OpcUaSource, enough: impl Fn(&BatchBuilder) -> bool) -> Batch {
    let mut out = BatchBuilder::subscribing("robot-3".into(), source.tags());
    let reading = async {
        while !enough(&out) {
            source.read(&mut out).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    out.take(1, 1).unwrap()
}

fn all_have(count: usize) -> impl Fn(&BatchBuilder) -> bool {
    move |out| out.newest().count() == out.tags().len() && out.samples() >= count * out.tags().len()
}

#[tokio::test]
async fn every_signal_is_read_with_its_time_and_type() {
    let began = now();
    let (server, _) = robot(1).await;
    let mut source = source(&server, server.points());
    source.connect().await.unwrap();
    let batch = read_until(&mut source, all_have(10)).await;
    for (tag, column) in batch.tags.iter().zip(&batch.columns) {
        let times = batch.times(column);
        assert!(times.is_sorted(), "{}", tag.name);
        // The very first value may be one that was there before us.
        assert!(times[1..].iter().all(|t| *t >= began && *t <= now()));
        for i in 1..column.values.len() {
            assert_eq!(column.quality.get(i), Quality::GOOD, "{}", tag.name);
            if let (Some((low, high)), Some(x)) = (tag.range, column.values.number(i)) {
                assert!(low <= x && x <= high, "{} is {x}", tag.name);
            }
        }
    }
    assert_eq!(source.lost(), 0);
    source.close().await;
}

#[tokio::test]
async fn a_missing_variable_spoils_only_its_tag() {
    let (server, _) = robot(2).await;
    let mut points = server.points();
    points.truncate(3);
    points[1].1.node = NodeAddress::named(NAMESPACE, "robot-3.no_such");
    points[2].1.node = "nsu=urn:nobody;s=x".parse().unwrap();
    let mut source = source(&server, points);
    source.connect().await.unwrap();
    let batch = read_until(&mut source, |out| {
        out.newest().count() == 3 && out.samples() > 10
    })
    .await;
    let [good, missing, unknown] = &batch.columns[..] else {
        panic!("three tags, three columns");
    };
    assert!(good.values.len() > 5);
    assert!(good.quality.get(good.values.len() - 1).is_good());
    for column in [missing, unknown] {
        assert_eq!(column.values.len(), 1);
        assert_eq!(column.quality.get(0), Quality(0x8034_0000));
    }
}

#[tokio::test]
async fn a_lost_robot_is_noticed_and_read_again_when_it_is_back() {
    let (server, device) = robot(3).await;
    let mut source = source(&server, server.points());
    source.connect().await.unwrap();
    read_until(&mut source, all_have(2)).await;

    device.faults().set(Fault::Disconnect, None);
    let lost = Instant::now();
    let mut out = BatchBuilder::subscribing("robot-3".into(), source.tags());
    let failing = async {
        loop {
            if let Err(error) = source.read(&mut out).await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, failing).await.unwrap();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    assert!(lost.elapsed() < Duration::from_secs(5));
    assert!(source.connect().await.is_err());

    device.faults().clear();
    let back = Instant::now();
    while source.connect().await.is_err() {
        assert!(back.elapsed() < PATIENCE);
    }
    let began = now();
    let fresh = |out: &BatchBuilder| out.newest().any(|(_, time, ..)| time > began);
    read_until(&mut source, fresh).await;
    assert!(
        back.elapsed() < Duration::from_secs(5),
        "{:?}",
        back.elapsed()
    );
}

#[tokio::test]
async fn attempts_are_a_second_apart() {
    let address = {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        free.local_addr().unwrap()
    };
    let config = OpcUaConfig::new(format!("opc.tcp://{address}"));
    let points = points("r", SimDevice::robot("r", 1).signals());
    let mut source = OpcUaSource::new("r".into(), config, points).unwrap();
    let began = Instant::now();
    assert!(source.connect().await.is_err());
    let error = source.connect().await.unwrap_err().to_string();
    assert!(
        error.ends_with("cannot be reached: no connection: connection refused"),
        "{error}"
    );
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_stuck_sensor_repeats_itself_and_nan_is_read_as_such() {
    let (server, device) = robot(4).await;
    let mut points = server.points();
    points.retain(|(tag, _)| &*tag.name == "supply_voltage");
    let mut source = source(&server, points);
    source.connect().await.unwrap();
    device.faults().set(Fault::Stuck, Some("supply_voltage"));
    let repeats = |out: &BatchBuilder| {
        let values: Vec<_> = out.newest().collect();
        !values.is_empty() && out.samples() > 12
    };
    let batch = read_until(&mut source, repeats).await;
    let values = &batch.columns[0].values;
    let last = values.len() - 1;
    assert_eq!(values.get(last), values.get(last - 3));
    device
        .faults()
        .set(Fault::NotANumber, Some("supply_voltage"));
    let nan = |out: &BatchBuilder| {
        out.newest()
            .any(|(.., v)| matches!(v, Value::F64(x) if x.is_nan()))
    };
    read_until(&mut source, nan).await;
}

/// Forwards connections until told to keep everything to itself, without closing anything: what a
/// pulled cable looks like.
async fn cable(to: SocketAddr, pulled: tokio::sync::watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut near, _)) = listener.accept().await {
            let mut pulled = pulled.clone();
            held.push(AbortOnDropHandle::new(tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(to).await.unwrap();
                let forwarding = tokio::io::copy_bidirectional(&mut near, &mut far);
                tokio::select! {
                    _ = forwarding => return,
                    _ = pulled.changed() => {}
                }
                std::future::pending::<()>().await;
            })));
        }
    });
    address
}

#[tokio::test]
async fn silence_is_noticed_like_an_end() {
    let (server, _) = robot(5).await;
    let (pull, pulled) = tokio::sync::watch::channel(false);
    let address = cable(server.address(), pulled).await;
    let config = OpcUaConfig::new(format!("opc.tcp://{address}/"));
    let mut source = OpcUaSource::new("robot-3".into(), config, server.points()).unwrap();
    source.connect().await.unwrap();
    read_until(&mut source, all_have(2)).await;
    pull.send_replace(true);
    let since = Instant::now();
    let mut out = BatchBuilder::subscribing("robot-3".into(), source.tags());
    let error = loop {
        let reading = tokio::time::timeout(PATIENCE, source.read(&mut out));
        if let Err(error) = reading.await.unwrap() {
            break error.to_string();
        }
    };
    assert!(error.contains("stopped answering"), "{error}");
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
}

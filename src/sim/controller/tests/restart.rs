//! What a client may still believe of a server that restarted.

use super::*;
use crate::model::{Nanos, Quality};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

/// One address for a server that gets another one with each start.
struct Front {
    behind: Arc<parking_lot::Mutex<SocketAddr>>,
    url: String,
}

impl Front {
    async fn before(address: SocketAddr) -> Self {
        let behind = Arc::new(parking_lot::Mutex::new(address));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("opc.tcp://{}/", listener.local_addr().unwrap());
        let to = behind.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let address = *to.lock();
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(address).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { behind, url }
    }
}

async fn until_broken(source: &mut OpcUaSource) {
    let mut out = BatchBuilder::subscribing("c".into(), source.tags());
    let reading = async { while source.read(&mut out).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
}

#[tokio::test]
async fn a_subscription_of_before_a_restart_is_not_taken_for_another_devices() {
    let controller = Controller::new(ControllerPlan::new(1, Duration::from_millis(20)));
    let front = Front::before(controller.start(&[]).await.unwrap()).await;
    let source = |name: &str| {
        let config = OpcUaConfig::new(front.url.clone());
        OpcUaSource::new(name.into(), config, points([name.to_owned()])).unwrap()
    };
    let (mut still, mut moving) = (source("setpoint"), source("v0"));
    for source in [&mut still, &mut moving] {
        source.connect().await.unwrap();
        read_until(source, |out| out.newest().any(is_good)).await;
    }

    let address = controller.start(&[]).await.unwrap();
    *front.behind.lock() = address;
    until_broken(&mut still).await;
    until_broken(&mut moving).await;
    // The server numbers its subscriptions from 1 again; the first is now of who was second.
    moving.connect().await.unwrap();
    still.connect().await.unwrap();
    let batch = read_until(&mut still, |out| out.newest().any(is_good)).await;
    let setpoints = &batch.columns[0].values;
    let all: Vec<_> = (0..setpoints.len()).map(|i| setpoints.number(i)).collect();
    assert!(all.iter().all(|value| *value == Some(1.0)), "{all:?}");
    // And who was second goes on with what it has.
    let began = now();
    let later =
        |(_, time, quality, _): (usize, Nanos, Quality, Value)| quality.is_good() && time > began;
    read_until(&mut moving, |out| out.newest().any(later)).await;
}

fn is_good((_, _, quality, _): (usize, Nanos, Quality, Value)) -> bool {
    quality.is_good()
}

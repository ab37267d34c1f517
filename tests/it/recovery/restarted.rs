//! A hub or an edge node that ends and starts again beside a machine that went on: it knows what the
//! machine's addresses meant, and what happened meanwhile.

use super::*;
use crate::edge::entry;
use crate::site::Recorded;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::runtime::Runtime;
use weighbridge::crypto::Identity;
use weighbridge::edge::EdgeBuilder;
use weighbridge::hub::EdgesSetup;

/// A machine, and the hub's settings of it. They name its server by the proxy's address, which stays.
struct Machine {
    runtime: Runtime,
    controller: Controller,
    proxy: Proxy,
    learned: tempfile::TempDir,
    nodes: Vec<String>,
}

impl Machine {
    fn start(plan: ControllerPlan, nodes: Vec<String>) -> Self {
        let runtime = Runtime::new().unwrap();
        let (controller, proxy) = runtime.block_on(async {
            let controller = Controller::new(plan);
            let target = controller.start(&[]).await.unwrap();
            let proxy = Proxy::start(target, Random::from_env()).await.unwrap();
            (controller, proxy)
        });
        Self {
            runtime,
            controller,
            proxy,
            learned: tempfile::tempdir().unwrap(),
            nodes,
        }
    }

    fn setup(&self) -> DeviceSetup {
        let config = OpcUaConfig {
            // Every step.
            sampling_interval_ms: 0,
            queue_size: 1_000,
            learned: Some(self.learned.path().join("c.json")),
            ..OpcUaConfig::new(format!("opc.tcp://{}/", self.proxy.address()))
        };
        let point = |(index, node): (usize, &String)| {
            let tag = crate::machines::tag(&format!("t{index}"), ValueKind::F64);
            (tag, OpcUaPoint::new(node.parse().unwrap(), ValueKind::F64))
        };
        let points: Vec<_> = self.nodes.iter().enumerate().map(point).collect();
        let tags: Arc<[TagSpec]> = points.iter().map(|(tag, _)| tag.clone()).collect();
        let make = move || {
            let source = OpcUaSource::new("c".into(), config.clone(), points.clone());
            Box::new(source.unwrap()) as Box<dyn Source>
        };
        unjudged(DeviceSetup::new("c".into(), tags, make))
    }

    /// Waits until every tag has a good value from after now.
    fn is_heard(&self, hub: &Hub) {
        let (live, since) = (hub.live().device("c").unwrap(), now());
        let stale = |live: &DeviceLive| {
            let samples = live.samples();
            let fine =
                |s: &weighbridge::live_view::LiveSample| s.time > since && !s.quality.is_bad();
            let all = samples.iter().zip(live.tags.iter());
            let lacks = all.filter(|(s, _)| !s.as_ref().is_some_and(fine));
            lacks
                .map(|(s, tag)| format!("{} is {s:?}", tag.name))
                .collect()
        };
        self.runtime
            .block_on(until(&live, AT_FIRST, stale))
            .unwrap();
    }
}

/// The values and times of a tag in the order in which they were recorded.
fn samples(recorded: &Recorded, column: usize) -> Vec<(f64, Nanos)> {
    let mut all = Vec::new();
    for batch in recorded.batches.iter().filter_map(|b| b.opened.as_ref()) {
        let column = &batch.batch.columns[column];
        let times = batch.batch.times(column).iter().enumerate();
        all.extend(times.filter_map(|(i, time)| Some((column.values.number(i)?, *time))));
    }
    all
}

#[test]
fn an_index_means_what_it_meant_before_the_hub_ended() {
    let nodes = (0..4).map(|i| format!("ns=2;s=v{i}")).collect();
    let machine = Machine::start(ControllerPlan::new(4, Duration::from_millis(50)), nodes);
    let site = Site::new(3);
    let hub = site.hub().device(machine.setup()).start().unwrap();
    machine.is_heard(&hub);
    hub.shutdown().unwrap();
    // While the hub is down the server gives the index to another namespace, where nodes of the same
    // names say -1.
    let others: Vec<_> = (0..3).map(|n| format!("urn:other:{n}")).collect();
    let target = machine.runtime.block_on(machine.controller.start(&others));
    machine.proxy.set_target(target.unwrap());
    for _ in 0..2 {
        let hub = site.hub().device(machine.setup()).start().unwrap();
        machine.is_heard(&hub);
        hub.shutdown().unwrap();
    }
    let recorded = site.recorded();
    for column in 0..4 {
        let samples = samples(&recorded, column);
        assert!(
            samples.iter().all(|(value, _)| *value >= 0.0),
            "{samples:?}"
        );
    }
}

#[test]
fn what_happened_while_the_hub_was_down_is_filled_from_the_history() {
    let nodes = (0..4).map(|i| format!("nsu={NAMESPACE};s=v{i}")).collect();
    let machine = Machine::start(
        ControllerPlan {
            history: 3,
            items_per_subscription: 3,
            ..ControllerPlan::new(4, Duration::from_millis(20))
        },
        nodes,
    );
    let site = Site::new(4);
    let mut gaps = Vec::new();
    for run in 0..3 {
        let hub = site.hub().device(machine.setup()).start().unwrap();
        machine.is_heard(&hub);
        if run == 1 {
            // In good order or not: what is not durable is not known, and comes again.
            machine.is_heard(&hub);
        }
        hub.shutdown().unwrap();
        let ended = now();
        gaps.push(ended);
        // More than the server keeps for a subscription, and than one answer of its history holds.
        machine.runtime.block_on(async {
            while machine.controller.steps_since(ended).len() < 600 {
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
    let hub = site.hub().device(machine.setup()).start().unwrap();
    machine.is_heard(&hub);
    hub.shutdown().unwrap();
    is_filled(&site, &machine, 1_500, &gaps);
}

/// Every step of the tags with a history is recorded, once and in order; the tag without one lacks at
/// least `lacks`.
fn is_filled(site: &Site, machine: &Machine, lacks: usize, gaps: &[Nanos]) {
    let recorded = site.recorded();
    recorded.is_gapless();
    let of = |column: usize| {
        let samples = samples(&recorded, column).into_iter();
        // The first may be the value from before the machine's first step.
        samples
            .skip(1)
            .map(|(v, time)| (v as u64, time))
            .collect::<Vec<_>>()
    };
    for column in 0..3 {
        let got = of(column);
        let mut steps = machine.controller.steps_since(got[0].1);
        steps.retain(|(_, time)| *time <= got[got.len() - 1].1);
        let missing: Vec<_> = steps.iter().filter(|step| !got.contains(step)).collect();
        let back: Vec<_> = got.windows(2).filter(|w| w[1].1 <= w[0].1).collect();
        assert!(
            missing.is_empty() && back.is_empty(),
            "t{column}: missing {missing:?}; not in order {back:?}; it ended at {gaps:?}"
        );
        assert_eq!(got, steps, "t{column}");
    }
    // The one without a history has gaps, which shows that there were some to fill.
    let (with, without) = (of(0).len(), of(3).len());
    assert!(
        without + lacks < with,
        "{without} samples without, {with} with a history"
    );
    site.verify_is_clean();
}

#[test]
fn what_happened_while_an_edge_node_was_down_is_filled_from_the_history() {
    let nodes = (0..4).map(|i| format!("nsu={NAMESPACE};s=v{i}")).collect();
    let machine = Machine::start(
        ControllerPlan {
            history: 3,
            items_per_subscription: 3,
            ..ControllerPlan::new(4, Duration::from_millis(20))
        },
        nodes,
    );
    let (site, dir) = (Site::new(5), tempfile::tempdir().unwrap());
    let key = dir.path().join("key");
    let identity = Identity::generate("edge-1");
    identity.save(&key).unwrap();
    let here = machine.setup();
    let mut there = DeviceSetup::at_edge(here.id, here.tags, "edge-1");
    there.validation = here.validation;
    let edges = EdgesSetup {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        nodes: vec![("edge-1".to_owned(), identity.peer_key())],
    };
    let hub = site.hub().edges(edges).device(there).start().unwrap();
    let port = hub.edge_address().unwrap().port();
    let start = || {
        let identity = Identity::load(&key, "edge-1").unwrap();
        let edge = EdgeBuilder::new(identity, dir.path().join("buffer"));
        let edge = edge.hub(entry(&site, port)).device(machine.setup());
        edge.start().unwrap()
    };
    let mut gaps = Vec::new();
    for _ in 0..2 {
        let edge = start();
        machine.is_heard(&hub);
        // What is not at the hub yet goes there after the next start, before the hub is asked.
        edge.shutdown().unwrap();
        let ended = now();
        gaps.push(ended);
        machine.runtime.block_on(async {
            while machine.controller.steps_since(ended).len() < 400 {
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
    let edge = start();
    machine.is_heard(&hub);
    edge.shutdown().unwrap();
    hub.shutdown().unwrap();
    is_filled(&site, &machine, 600, &gaps);
}

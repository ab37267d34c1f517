//! Two hundred times something goes wrong between a hub and its machines, at random and in parallel,
//! over real sockets: a machine restarts, numbers its namespaces anew, loses a node or a register,
//! drops a subscription; a connection breaks, stalls, goes half open, or carries garbage.
//!
//! Every time, all values must be there again within five seconds after the machine is back; tags
//! that are bad for good never stop the others; and a machine is asked for at most one session a
//! second. `WEIGHBRIDGE_SEED` replays a run.

pub mod proxy;
mod restarted;

use crate::plc::{Manner, Plc, REGISTERS};
use crate::site::Site;
use crate::support::Random;
use proxy::{Proxy, Weather};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout_at};
use weighbridge::hub::{DeviceSetup, Hub};
use weighbridge::live_view::DeviceLive;
use weighbridge::model::{BatchBuilder, Nanos, TagSpec, Value, ValueKind, now};
use weighbridge::protocols::Source;
use weighbridge::protocols::opcua::{OpcUaConfig, OpcUaPoint, OpcUaSource, Policy, Trust, pki};
use weighbridge::sim::controller::{Controller, ControllerPlan, NAMESPACE};

/// After which time every value must be there again.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// The first connection, while all machines start at once.
const AT_FIRST: Duration = Duration::from_secs(30);
const ROBOTS: usize = 8;
const ROBOT_CYCLES: usize = 19;
const PLCS: usize = 3;
const PLC_CYCLES: usize = 16;

#[test]
fn two_hundred_faults_and_all_values_are_back_in_time() {
    let mut random = Random::from_env();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (robots, plcs) = runtime.block_on(async {
        let mut robots = Vec::new();
        for index in 0..ROBOTS {
            robots.push(Robot::start(index, &mut random).await);
        }
        let mut plcs = Vec::new();
        for index in 0..PLCS {
            plcs.push(Press::start(index, &mut random).await);
        }
        (robots, plcs)
    });
    let site = Site::new(random.seed);
    let mut builder = site.hub();
    for setup in robots.iter().map(Robot::setup) {
        builder = builder.device(setup);
    }
    for setup in plcs.iter().map(Press::setup) {
        builder = builder.device(setup);
    }
    let hub = Arc::new(builder.start().unwrap());
    let cycles = runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for robot in robots {
            let hub = hub.clone();
            running.spawn(async move { robot.suffer(&hub).await });
        }
        for plc in plcs {
            let hub = hub.clone();
            running.spawn(async move { plc.suffer(&hub).await });
        }
        running.join_all().await
    });
    let (fine, failed): (Vec<_>, Vec<_>) = cycles.into_iter().partition(Result::is_ok);
    let failed: Vec<_> = failed.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let all: Vec<_> = fine.into_iter().flatten().flatten().collect();
    for kind in Fault::ALL {
        let of_kind = || {
            all.iter()
                .filter(|(k, _)| *k == kind)
                .map(|(_, took)| *took)
        };
        let slowest = of_kind().max().unwrap_or_default();
        eprintln!(
            "{kind:?}: {} times, back after {slowest:?} at most",
            of_kind().count()
        );
    }
    assert_eq!(all.len(), ROBOTS * ROBOT_CYCLES + PLCS * PLC_CYCLES);
    let Ok(hub) = Arc::try_unwrap(hub) else {
        panic!("the hub is still used");
    };
    hub.shutdown().unwrap();
    site.recorded().is_gapless();
    site.verify_is_clean();
}

/// What went wrong and how long it took until all was well; or what stayed wrong.
type Suffered = Result<Vec<(Fault, Duration)>, String>;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Restart,
    Renumbered,
    NodeDeleted,
    SubscriptionDropped,
    Cut,
    HalfOpen,
    Garbage,
    BadRegister,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::Restart,
        Self::Renumbered,
        Self::NodeDeleted,
        Self::SubscriptionDropped,
        Self::Cut,
        Self::HalfOpen,
        Self::Garbage,
        Self::BadRegister,
    ];
}

/// Waits until `enough` holds of a device, for `patience` at most; how long it took, or what was
/// missing.
async fn until(
    live: &DeviceLive,
    patience: Duration,
    missing: impl Fn(&DeviceLive) -> Vec<String>,
) -> Result<Duration, String> {
    let began = Instant::now();
    let deadline = (began + patience).into();
    let mut changes = live.changes();
    loop {
        changes.borrow_and_update();
        let lacks = missing(live);
        if lacks.is_empty() {
            return Ok(began.elapsed());
        }
        if timeout_at(deadline, changes.changed()).await.is_err() {
            let some: Vec<_> = lacks.iter().take(5).cloned().collect();
            let (link, count) = (live.link(), lacks.len());
            return Err(format!("{count} tags: {}; {link:?}", some.join(", ")));
        }
    }
}

/// Tags that have no good value from after `since`; the last tag is bad for good and must say so.
fn stale(live: &DeviceLive, since: Nanos, except: Option<usize>) -> Vec<String> {
    let samples = live.samples();
    let last = samples.len() - 1;
    let lacks = |(index, sample): (usize, &Option<_>)| {
        let sample: &Option<weighbridge::live_view::LiveSample> = sample;
        let fine = match sample {
            Some(sample) if index == last => sample.quality.is_bad(),
            Some(sample) => sample.time > since && !sample.quality.is_bad(),
            None => false,
        };
        let name = &live.tags[index].name;
        (!fine && except != Some(index)).then(|| format!("{name} is {sample:?}"))
    };
    samples.iter().enumerate().filter_map(lacks).collect()
}

/// An OPC UA controller behind a proxy.
struct Robot {
    id: String,
    controller: Controller,
    proxy: Proxy,
    variables: usize,
    short_lived: bool,
    /// Certificates, when it is spoken to encrypted.
    pki: Option<tempfile::TempDir>,
    random: Random,
}

impl Robot {
    async fn start(index: usize, random: &mut Random) -> Self {
        // One is as big as controllers are; a thousandth tag of it does not exist.
        let variables = if index == 0 { 999 } else { 60 };
        let short_lived = index % 2 == 1;
        let period = Duration::from_millis(if index == 0 { 250 } else { 100 });
        let pki = (index == 2).then(|| tempfile::tempdir().unwrap());
        let server_pki = pki.as_ref().map(|dir| dir.path().join("server"));
        if let Some(folder) = &server_pki {
            let subject = pki::Subject {
                name: "controller".into(),
                application_uri: format!("{NAMESPACE}:server"),
                hosts: vec!["127.0.0.1".into()],
            };
            pki::ensure(folder, &subject).unwrap();
        }
        let controller = Controller::new(ControllerPlan {
            // A subscription that nobody asks about for 1.2 s is dropped.
            lifetime: if short_lived { 12 } else { 9_000 },
            pki_dir: server_pki,
            // Its tags need three.
            items_per_subscription: if index == 3 { 25 } else { 0 },
            new_ids: true,
            ..ControllerPlan::new(variables, period)
        });
        let target = controller.start(&[]).await.unwrap();
        Self {
            id: format!("robot-{index}"),
            controller,
            proxy: Proxy::start(target, random.fork()).await.unwrap(),
            variables,
            short_lived,
            pki,
            random: random.fork(),
        }
    }

    fn setup(&self) -> DeviceSetup {
        let mut config = OpcUaConfig::new(format!("opc.tcp://{}/", self.proxy.address()));
        if let Some(dir) = &self.pki {
            config.security_policy = Policy::Aes256Sha256RsaPss;
            config.trust = Trust::Any;
            config.pki_dir = dir.path().join("client");
        }
        let point = |index: usize| {
            // Some by the index that the namespace has at first, as older projects do; some by their
            // browse names alone, because their ids are others after every start.
            let node = match index % 3 {
                0 => format!("nsu={NAMESPACE};s=v{index}"),
                1 => format!("ns=2;s=v{index}"),
                _ => format!("/nsu={NAMESPACE};Machine/nsu={NAMESPACE};v{index}"),
            };
            let tag = crate::machines::tag(&format!("v{index}"), ValueKind::F64);
            (tag, OpcUaPoint::new(node.parse().unwrap(), ValueKind::F64))
        };
        // The last one is a variable that the controller does not have.
        let points: Vec<_> = (0..=self.variables).map(point).collect();
        let tags: Arc<[TagSpec]> = points.iter().map(|(tag, _)| tag.clone()).collect();
        let id = Arc::<str>::from(self.id.as_str());
        let make = {
            let id = id.clone();
            move || {
                let source = OpcUaSource::new(id.clone(), config.clone(), points.clone());
                Box::new(source.unwrap()) as Box<dyn Source>
            }
        };
        unjudged(DeviceSetup::new(id, tags, make))
    }

    async fn suffer(mut self, hub: &Hub) -> Suffered {
        let live = hub.live().device(&self.id).unwrap();
        let said = until(&live, AT_FIRST, |live| stale(live, 0, None)).await;
        said.map_err(|missing| format!("{} never came: {missing}", self.id))?;
        let mut cycles = Vec::new();
        for cycle in 0..ROBOT_CYCLES {
            let fault = self.choose(cycle);
            self.inflict(fault, &live).await?;
            let back = now();
            let took = until(&live, BACK_WITHIN, |live| stale(live, back, None)).await;
            let took = took
                .map_err(|missing| format!("{}, cycle {cycle}, {fault:?}: {missing}", self.id))?;
            let samples = live.samples();
            if samples
                .iter()
                .flatten()
                .any(|s| s.value == Value::F64(-1.0))
            {
                return Err(format!("{}: read from another namespace", self.id));
            }
            cycles.push((fault, took));
        }
        // The first one, and one for the restart at the beginning at least.
        let sessions = self.proxy.sessions();
        // What is encrypted cannot be counted from outside.
        if sessions.len() < 2 && self.pki.is_none() {
            return Err(format!(
                "{}: {} sessions were counted",
                self.id,
                sessions.len()
            ));
        }
        for pair in sessions.windows(2) {
            let apart = pair[1] - pair[0];
            if apart < Duration::from_secs(1) {
                return Err(format!("{}: sessions {apart:?} apart", self.id));
            }
        }
        Ok(cycles)
    }

    /// Each kind at least once, then at random.
    fn choose(&mut self, cycle: usize) -> Fault {
        let kinds = [
            Fault::Restart,
            Fault::Renumbered,
            Fault::NodeDeleted,
            Fault::Cut,
            Fault::HalfOpen,
            Fault::Garbage,
            Fault::SubscriptionDropped,
        ];
        let kinds = if self.short_lived {
            &kinds[..]
        } else {
            &kinds[..6]
        };
        let any = self.random.below(kinds.len() as u64) as usize;
        *kinds.get(cycle).unwrap_or(&kinds[any])
    }

    async fn inflict(&mut self, fault: Fault, live: &DeviceLive) -> Result<(), String> {
        let a_while = Duration::from_millis(50 + self.random.below(700));
        match fault {
            Fault::Restart | Fault::Renumbered => {
                self.controller.stop().await;
                sleep(a_while).await;
                let others = match fault {
                    Fault::Renumbered => 1 + self.random.below(4),
                    _ => 0,
                };
                let others: Vec<_> = (0..others).map(|n| format!("urn:other:{n}")).collect();
                let target = self.controller.start(&others).await.unwrap();
                self.proxy.set_target(target);
            }
            Fault::NodeDeleted => self.delete_node(live).await?,
            Fault::SubscriptionDropped => {
                self.pass(Weather::Stall, Duration::from_millis(2_000))
                    .await
            }
            Fault::Cut => self.pass(Weather::Cut, a_while).await,
            Fault::HalfOpen => self.pass(Weather::Hole, a_while).await,
            Fault::Garbage => self.pass(Weather::Garbage, a_while).await,
            Fault::BadRegister => unreachable!("that is Modbus"),
        }
        Ok(())
    }

    async fn pass(&self, weather: Weather, a_while: Duration) {
        self.proxy.set(weather);
        sleep(a_while).await;
        self.proxy.set(Weather::Clear);
    }

    /// While a node is missing its tag is bad, and all others go on.
    async fn delete_node(&mut self, live: &DeviceLive) -> Result<(), String> {
        let variable = self.random.below(self.variables as u64) as usize;
        // Some servers tell nobody.
        let silent = self.random.below(2) == 1;
        self.controller.delete(variable, silent);
        let gone = now();
        let isolated = until(live, BACK_WITHIN, |live| {
            let mut missing = stale(live, gone, Some(variable));
            let sample = live.sample(variable);
            if sample.is_none_or(|s| !s.quality.is_bad()) {
                missing.push(format!("v{variable} is not bad"));
            }
            missing
        });
        let isolated = isolated.await;
        isolated.map_err(|missing| format!("{}, without v{variable}: {missing}", self.id))?;
        self.controller.restore(variable);
        Ok(())
    }
}

/// A Modbus controller behind a proxy.
struct Press {
    id: String,
    plc: Plc,
    proxy: Proxy,
    random: Random,
}

impl Press {
    async fn start(index: usize, random: &mut Random) -> Self {
        let plc = Plc::start();
        let proxy = Proxy::start(plc.address(), random.fork()).await.unwrap();
        Self {
            id: format!("press-{index}"),
            plc,
            proxy,
            random: random.fork(),
        }
    }

    fn setup(&self) -> DeviceSetup {
        unjudged(
            self.plc
                .setup_at(self.proxy.address(), &self.id, REGISTERS, true),
        )
    }

    async fn suffer(mut self, hub: &Hub) -> Suffered {
        let live = hub.live().device(&self.id).unwrap();
        let said = until(&live, AT_FIRST, |live| stale(live, 0, None)).await;
        said.map_err(|missing| format!("{} never came: {missing}", self.id))?;
        let mut cycles = Vec::new();
        for cycle in 0..PLC_CYCLES {
            let fault = self.choose(cycle);
            self.inflict(fault, &live).await?;
            let back = now();
            // A register that was refused is asked for again later; it is alone in that.
            let suspended = self.plc.bad_register();
            let took = until(&live, BACK_WITHIN, |live| stale(live, back, suspended)).await;
            let took = took
                .map_err(|missing| format!("{}, cycle {cycle}, {fault:?}: {missing}", self.id))?;
            cycles.push((fault, took));
        }
        Ok(cycles)
    }

    fn choose(&mut self, cycle: usize) -> Fault {
        let kinds = [
            Fault::Restart,
            Fault::Cut,
            Fault::HalfOpen,
            Fault::Garbage,
            Fault::BadRegister,
        ];
        let any = self.random.below(kinds.len() as u64) as usize;
        *kinds.get(cycle).unwrap_or(&kinds[any])
    }

    async fn inflict(&mut self, fault: Fault, live: &DeviceLive) -> Result<(), String> {
        let a_while = Duration::from_millis(50 + self.random.below(700));
        match fault {
            Fault::Restart => {
                self.plc.behaves(Manner::HangUp);
                self.proxy.set(Weather::Cut);
                sleep(a_while).await;
                let bad = self.plc.bad_register();
                self.plc = Plc::start();
                self.plc.set_bad_register(bad);
                self.proxy.set_target(self.plc.address());
                self.proxy.set(Weather::Clear);
            }
            Fault::Cut => self.pass(Weather::Cut, a_while).await,
            Fault::HalfOpen => self.pass(Weather::Hole, a_while).await,
            Fault::Garbage => self.pass(Weather::Garbage, a_while).await,
            Fault::BadRegister => {
                let register = self.random.below(u64::from(REGISTERS)) as usize;
                // One at a time: the one before must be asked for again first.
                if self.plc.bad_register().is_none() {
                    self.plc.set_bad_register(Some(register));
                    let gone = now();
                    let isolated = until(live, BACK_WITHIN, |live| {
                        let mut missing = stale(live, gone, Some(register));
                        if live.sample(register).is_none_or(|s| !s.quality.is_bad()) {
                            missing.push(format!("r{register} is not bad"));
                        }
                        missing
                    });
                    let isolated = isolated.await;
                    isolated.map_err(|missing| {
                        format!("{}, without r{register}: {missing}", self.id)
                    })?;
                }
            }
            _ => unreachable!("that is OPC UA"),
        }
        Ok(())
    }

    async fn pass(&self, weather: Weather, a_while: Duration) {
        self.proxy.set(weather);
        sleep(a_while).await;
        self.proxy.set(Weather::Clear);
    }
}

/// What is tested here is whether values come, not what they say.
fn unjudged(mut setup: DeviceSetup) -> DeviceSetup {
    setup.validation.phase1_samples = 0;
    setup.validation.charts = Vec::new();
    setup.batch.samples = 5_000;
    setup.batch.age = Duration::from_millis(200);
    setup
}

#[test]
fn an_outage_is_filled_from_the_history() {
    the_history_fills_an_outage(0);
}

#[test]
fn an_outage_of_several_subscriptions_is_filled_from_the_history() {
    the_history_fills_an_outage(2);
}

/// After every kind of outage the history closes the gap: every step of the machine, in order, each
/// once, with its own time.
fn the_history_fills_an_outage(items_per_subscription: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut random = Random::from_env();
        let period = Duration::from_millis(20);
        let controller = Controller::new(ControllerPlan {
            history: 3,
            items_per_subscription,
            new_ids: true,
            ..ControllerPlan::new(4, period)
        });
        let target = controller.start(&[]).await.unwrap();
        let proxy = Proxy::start(target, random.fork()).await.unwrap();
        let point = |index: usize| {
            let node = match index {
                2 => format!("/*/*:v{index}"),
                _ => format!("nsu={NAMESPACE};s=v{index}"),
            };
            let tag = crate::machines::tag(&format!("v{index}"), ValueKind::F64);
            (tag, OpcUaPoint::new(node.parse().unwrap(), ValueKind::F64))
        };
        let config = OpcUaConfig {
            // Every step, and a queue that is long enough for these but too short for an outage.
            sampling_interval_ms: 0,
            queue_size: 20,
            ..OpcUaConfig::new(format!("opc.tcp://{}/", proxy.address()))
        };
        let points = (0..4).map(point).collect();
        let mut source = OpcUaSource::new("c".into(), config, points).unwrap();
        let mut out = BatchBuilder::subscribing("c".into(), source.tags());
        connect(&mut source).await;
        // It must have heard every tag, and know which have a history.
        read_for(&mut source, &mut out, Duration::from_secs(1)).await;
        for outage in ["restart", "cut", "hole", "restart"] {
            match outage {
                "restart" => {
                    controller.stop().await;
                    read_for(&mut source, &mut out, Duration::from_millis(1_500)).await;
                    proxy.set_target(controller.start(&[]).await.unwrap());
                }
                "cut" | "hole" => {
                    let weather = if outage == "cut" {
                        Weather::Cut
                    } else {
                        Weather::Hole
                    };
                    proxy.set(weather);
                    read_for(&mut source, &mut out, Duration::from_millis(1_500)).await;
                    proxy.set(Weather::Clear);
                }
                _ => unreachable!(),
            }
            read_for(&mut source, &mut out, Duration::from_secs(5)).await;
        }
        let batch = out.take(1, 1).unwrap();
        for (index, column) in batch.columns.iter().enumerate().take(3) {
            let times = batch.times(column);
            // The value that was there before us has no time of a step.
            let got: Vec<_> = (0..times.len())
                .filter_map(|i| Some((column.values.number(i)? as u64, times[i])))
                .skip(1)
                .collect();
            let (from, to) = (got[0].1, got[got.len() - 1].1);
            let mut steps = controller.steps_since(from);
            steps.retain(|(_, time)| *time <= to);
            let missing: Vec<_> = steps.iter().filter(|step| !got.contains(step)).collect();
            let known = format!("v{index}: {} of {} steps", got.len(), steps.len());
            let strange: Vec<_> = got.iter().filter(|step| !steps.contains(step)).collect();
            let back: Vec<_> = got.windows(2).filter(|w| w[1].1 <= w[0].1).collect();
            assert!(
                missing.is_empty() && strange.is_empty() && back.is_empty(),
                "{known}; missing {missing:?}; strange {strange:?}; not in order {back:?}"
            );
            assert_eq!(got, steps, "{known}");
        }
        // The one without a history has a gap, which shows that there was one to fill.
        let without = batch.columns[3].values.len();
        let with = batch.columns[0].values.len();
        assert!(
            without + 50 < with,
            "{without} samples without, {with} with a history"
        );
    });
}

async fn connect(source: &mut OpcUaSource) {
    let deadline = Instant::now() + AT_FIRST;
    while let Err(error) = source.connect().await {
        assert!(Instant::now() < deadline, "{error}");
    }
}

/// Reads what comes for a while, connecting again as often as needed.
async fn read_for(source: &mut OpcUaSource, out: &mut BatchBuilder, a_while: Duration) {
    let deadline = tokio::time::Instant::now() + a_while;
    while let Ok(read) = timeout_at(deadline, source.read(out)).await {
        if read.is_err() && timeout_at(deadline, source.connect()).await.is_err() {
            return;
        }
    }
}

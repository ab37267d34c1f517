//! A second hub, of suite guomi and in this process: the key of a device that signs for itself, and key
//! generation centres.

use super::after::gap;
use super::load::{Ask, Clients, Door, ms};
use super::progress;
use super::site::{PATIENCE, Site};
use super::turns::{Kind, Phase, longest};
use crate::access::{Caller, Role};
use crate::api::{KeyPort, OfferedKey};
use crate::crypto::guomi::centre::CentreKey;
use crate::crypto::guomi::recorded;
use crate::crypto::{Identity, ReplaceableKey, Signer};
use crate::hub::{DeviceSetup, Faces, Hub, HubBuilder, HubKeys};
use crate::model::{TagSpec, now};
use crate::protocols::Source;
use crate::protocols::modbus::{Bounded, DataType, ModbusConfig, ModbusPoint, ModbusSource, Table};
use crate::sim::bench_server::BenchServers;
use anyhow::{Context, ensure};
use parking_lot::Mutex;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::broadcast::error::RecvError;
use weighbridge_verifier::rotation::rotation_message;
use weighbridge_verifier::{CentreShare, IdentityContent, IdentityKind, RotationContent, Suite};

/// The device that signs for itself.
const PRESS: &str = "press-9";
/// The chain's id where nothing else is said.
const CHAIN: &str = "main";
/// Between two keys of a kind.
const PAUSE: Duration = Duration::from_millis(500);

/// Replaces the keys of both kinds; what came of it, and what was refused in words.
pub(super) fn phases(
    site: &Site,
    rotations: u32,
    runtime: &Runtime,
) -> anyhow::Result<(Vec<Phase>, Vec<String>)> {
    let machine = BenchServers::start(1, 4)?;
    let at = machine.addresses().next().context("a machine")?;
    let first = Identity::generate_of(Suite::Guomi, PRESS);
    let first = Arc::new(ReplaceableKey::new(first));
    let keys = HubKeys::generate_of(Suite::Guomi, "hub-2");
    let hub = HubBuilder::new(keys, site.dir.join("second"))
        .device(press(at, first.clone())?)
        .start()?;
    let faces = hub.open_faces(&Faces {
        http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        http_roles: vec![Role::Supervisor, Role::Engineer, Role::Auditor],
        ..Faces::default()
    })?;
    let url = faces.http_url().context("there is no HTTP face")?;
    let http = url.trim_start_matches("http://").trim_end_matches('/');
    let http: SocketAddr = http.parse()?;
    let began = Instant::now();
    while hub.stats().batches() == 0 {
        ensure!(began.elapsed() < PATIENCE, "nothing is recorded");
        std::thread::sleep(Duration::from_millis(20));
    }
    let clients = Clients::new();
    let _entered = runtime.enter();
    for (name, ask) in [
        ("live", Ask::Live(PRESS.to_owned())),
        ("history", Ask::History(PRESS.to_owned())),
        ("write", Ask::Write(PRESS.to_owned())),
    ] {
        clients.http(name, Door::plain(http), ask);
    }
    let caller = hub
        .runtime()
        .block_on(hub.enter("bench", &[Role::SecurityAdmin]));
    let second = Second {
        hub: &hub,
        caller: caller.map_err(|e| anyhow::anyhow!("{e}"))?,
        key: first,
    };
    let blocks = Arc::new(Mutex::new(Vec::new()));
    let (seen, mut committed) = (blocks.clone(), hub.committed());
    runtime.spawn(async move {
        while !matches!(committed.recv().await, Err(RecvError::Closed)) {
            seen.lock().push(Instant::now());
        }
    });
    let mut phases = Vec::new();
    for kind in [Kind::Device, Kind::Centres] {
        let bar = progress(rotations, kind.name());
        let (began, from) = (Instant::now(), now());
        clients.meter.take();
        blocks.lock().clear();
        for _ in 0..rotations {
            match kind {
                Kind::Device => second.device()?,
                _ => second.centres()?,
            }
            std::thread::sleep(PAUSE);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let load = clients.meter.take();
        let blocks = std::mem::take(&mut *blocks.lock());
        let ends = [began].into_iter().chain(blocks).chain([Instant::now()]);
        let block_gap_ms = ms(longest(ends));
        let span = (from, now());
        let gap = gap(site, ("--url", url.trim_end_matches('/')), PRESS, span)?;
        phases.push(Phase {
            kind,
            rotations,
            seconds: began.elapsed().as_secs_f64(),
            load,
            block_gap_ms,
            sample_gap_ms: [(PRESS.to_owned(), gap)].into(),
            span,
        });
    }
    runtime.block_on(clients.end());
    let words = clients.meter.words();
    faces.close(&hub.runtime());
    hub.shutdown()?;
    Ok((phases, words))
}

/// Who replaces the keys of the second hub.
struct Second<'a> {
    hub: &'a Hub,
    caller: Caller,
    key: Arc<ReplaceableKey>,
}

impl Second<'_> {
    /// Gives the device another key, which signs from then on.
    fn device(&self) -> anyhow::Result<()> {
        let (new, old) = (
            Identity::generate_of(Suite::Guomi, PRESS),
            self.key.current(),
        );
        let identity = IdentityContent {
            id: PRESS.to_owned(),
            kind: IdentityKind::Device,
            key: Some(new.public_key()),
        };
        let replaces = old.public_key();
        let message = rotation_message(Suite::Guomi, CHAIN, &identity, &replaces);
        let rotation = RotationContent {
            proof: new.sign(&message),
            consent: Some(old.sign(&message)),
            identity,
            replaces,
        };
        self.key.offer(new)?;
        let enrolled = self
            .hub
            .keys()
            .enrol(&self.caller, OfferedKey::Rotation(rotation));
        self.hub.runtime().block_on(enrolled)?;
        let own = self.key.public_key();
        ensure!(own != replaces, "the device still signs by {own}");
        Ok(())
    }

    /// Other centres from now on.
    fn centres(&self) -> anyhow::Result<()> {
        let keys = self.hub.keys();
        self.hub.runtime().block_on(async {
            let version = keys.centres().await.len() as u64 + 1;
            let made = ["north", "south"].map(CentreKey::generate);
            let shares = made.iter().map(|key| recorded::share(&key.member(version)));
            let shares: Option<Vec<CentreShare>> = shares.collect();
            let shares = shares.context("a centre has a share")?;
            keys.set_centres(&self.caller, shares).await?;
            Ok(())
        })
    }
}

fn press(at: SocketAddr, key: Arc<dyn Signer>) -> anyhow::Result<DeviceSetup> {
    let point = |name: &str, register, data, writable| {
        let point = ModbusPoint::new(Table::HoldingRegister, register, data)?;
        let tag = TagSpec {
            name: name.into(),
            kind: point.value_kind(),
            unit: String::new(),
            description: String::new(),
            range: None,
            writable,
        };
        anyhow::Ok((tag, point))
    };
    let points = vec![
        point("setpoint", 0, DataType::U32, true)?,
        point("pressure", 2, DataType::U16, false)?,
    ];
    let mut config = ModbusConfig::new(at.into());
    config.period_ms = Bounded::try_from(100).map_err(anyhow::Error::msg)?;
    let make = move || ModbusSource::new(PRESS.into(), config.clone(), points.clone());
    let tags = make()?.tags();
    let make = move || -> Box<dyn Source> {
        match make() {
            Ok(source) => Box::new(source),
            Err(error) => unreachable!("the same arguments were accepted before: {error}"),
        }
    };
    let mut setup = DeviceSetup::new(PRESS.into(), tags, make);
    setup.attester = Some(key);
    Ok(setup)
}

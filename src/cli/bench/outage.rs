//! `weighbridge bench outage`: a hub is killed, an edge node reads on, the hub comes back.
//!
//! The edge node is in this process, the hub in one of its own. Four devices replay what machines would
//! have said at 10,000 points/s, as fast as the edge node takes it. At the end the ledger is opened, and
//! every sample of it compared with what was replayed.

use super::hub_process::HubProcess;
use crate::api::process;
use crate::cli::temporary::given_or_temporary;
use crate::crypto::{Identity, SealingKey, Signer};
use crate::edge::{EdgeBuilder, EdgeNode, HubEntry, WhenFull};
use crate::hub::{DeviceSetup, HubKeys};
use crate::ledger::opening::Opener;
use crate::ledger::query::Explorer;
use crate::model::{Batch, BatchBuilder, Nanos, TagSpec, ValueKind, Values};
use crate::protocols::{Mode, Source, SourceError};
use crate::store::FjallStore;
use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use weighbridge_verifier::PublicKey;

/// What `weighbridge bench outage` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge bench outage                        an hour at 10,000 points/s, replayed
  weighbridge bench outage --samples 2000000 --json

The hub is killed (SIGKILL), and comes back when the edge node has read everything. Before, half as many
samples flow with the hub there, and after, a tenth; memory is compared with that before.")]
pub(in crate::cli) struct OutageArgs {
    /// Samples read while the hub is away
    #[arg(long, default_value_t = 36_000_000, value_parser = clap::value_parser!(u64).range(100_000..=1_000_000_000))]
    samples: u64,
    /// Where buffer and ledger are written; a temporary directory by default
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What comes out.
#[derive(Debug, Serialize)]
pub(super) struct Outage {
    samples: u64,
    recorded: u64,
    lost: u64,
    twice: u64,
    out_of_order: u64,
    changed: u64,
    outage_seconds: f64,
    catch_up_seconds: f64,
    buffer_mb: f64,
    edge: Memory,
    hub: Memory,
}

/// Most memory resident in each phase, in MB (10⁶ bytes).
#[derive(Debug, Default, Serialize)]
struct Memory {
    before_mb: f64,
    during_mb: f64,
    after_mb: f64,
}

impl Memory {
    /// How much more it was at most than before, as a share.
    fn growth(&self) -> f64 {
        self.during_mb.max(self.after_mb) / self.before_mb - 1.0
    }
}

pub(super) fn print_table(r: &Outage) {
    println!("samples           {:>12}", r.samples);
    println!("recorded          {:>12}", r.recorded);
    println!(
        "lost, twice       {:>12}, {} (out of order {}, changed {})",
        r.lost, r.twice, r.out_of_order, r.changed
    );
    println!(
        "outage            {:>12.1} s to read, {:.1} MB buffered",
        r.outage_seconds, r.buffer_mb
    );
    println!(
        "catching up       {:>12.1} s, {:.0} samples/s",
        r.catch_up_seconds,
        r.samples as f64 / r.catch_up_seconds
    );
    for (who, memory) in [("edge", &r.edge), ("hub", &r.hub)] {
        println!(
            "{who:<4} memory       {:>12.1} MB before, {:.1} MB during, {:.1} MB after ({:+.1} %)",
            memory.before_mb,
            memory.during_mb,
            memory.after_mb,
            memory.growth() * 100.0
        );
    }
}

const DEVICES: usize = 4;
const TAGS: usize = 25;
/// Each device is scanned a hundred times a second: 10,000 points/s in all.
const SCAN_EVERY: Nanos = 10_000_000;
const EPOCH: Nanos = 1_700_000_000_000_000_000;
const SCANS_A_READ: u64 = 16;
const SCANS_A_BATCH: usize = 160;
/// Longer than anything here should ever take.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Sample of tag `tag` in scan `scan` of device `device`: the first tag counts, the others wander.
fn value(device: usize, scan: u64, tag: usize) -> f64 {
    if tag == 0 {
        return scan as f64;
    }
    let mixed = scan
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add((tag * 31 + device) as u64)
        >> 56;
    20.0 + tag as f64 + mixed as f64 / 256.0
}

/// A device that says what it would have said, as fast as it is read, up to a bound.
#[derive(Clone)]
struct Replay {
    device: usize,
    tags: Arc<[TagSpec]>,
    next: Arc<AtomicU64>,
    until: watch::Receiver<u64>,
}

#[async_trait]
impl Source for Replay {
    fn tags(&self) -> Arc<[TagSpec]> {
        self.tags.clone()
    }

    fn mode(&self) -> Mode {
        Mode::Scanning
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
        let next = self.next.load(Ordering::Relaxed);
        let until = self.until.wait_for(|until| *until > next).await;
        let Some(until) = until.map(|until| *until).ok() else {
            return std::future::pending().await;
        };
        let end = until.min(next + SCANS_A_READ);
        for scan in next..end {
            out.begin_scan(EPOCH + scan as Nanos * SCAN_EVERY);
            out.scan_f64s(0, (0..TAGS).map(|tag| value(self.device, scan, tag)));
        }
        self.next.store(end, Ordering::Relaxed);
        Ok(())
    }
}

fn id(device: usize) -> String {
    format!("robot-{}", device + 1)
}

fn tags() -> Arc<[TagSpec]> {
    let tag = |tag| TagSpec {
        name: format!("tag-{tag:02}").into(),
        kind: ValueKind::F64,
        unit: String::new(),
        description: String::new(),
        range: None,
        writable: false,
    };
    (0..TAGS).map(tag).collect()
}

/// Starts the hub, which listens for the edge node on `bind`.
fn start_hub(dir: &Path, edge: &PublicKey, bind: &str) -> anyhow::Result<HubProcess> {
    let mut config = format!(
        "[hub]\nid = \"hub-1\"\n[http]\nbind = \"127.0.0.1:0\"\n[opcua_server]\nbind = \"127.0.0.1:0\"\n\
         [edges]\nbind = \"{bind}\"\n[[edges.node]]\nid = \"edge-1\"\nkey = \"{edge}\"\n"
    );
    for device in 0..DEVICES {
        config += &format!("\n[[device]]\nid = \"{}\"\nedge = \"edge-1\"\n", id(device));
        for tag in &*tags() {
            config += &format!("[[device.tag]]\nname = \"{}\"\n", tag.name);
        }
    }
    let file = dir.join("hub.toml");
    std::fs::write(&file, config)?;
    HubProcess::start(&file)
}

/// Looks at both processes' memory until `done`; the most that each had, in MB: edge node and hub.
fn watch_memory(
    hub: Option<&HubProcess>,
    mut done: impl FnMut() -> bool,
) -> anyhow::Result<(f64, f64)> {
    let began = Instant::now();
    let mut most = (0.0_f64, 0.0_f64);
    loop {
        let own = process::resident_bytes().unwrap_or(0) as f64 / 1e6;
        let its = hub.and_then(|h| process::resident_bytes_of(h.id()));
        most = (most.0.max(own), most.1.max(its.unwrap_or(0) as f64 / 1e6));
        if done() {
            return Ok(most);
        }
        ensure!(began.elapsed() < PATIENCE, "it does not come to an end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Bench {
    edge: EdgeNode,
    until: watch::Sender<u64>,
}

impl Bench {
    /// Lets every device say its scans up to `scans`.
    fn read_to(&self, scans: u64) {
        self.until.send_replace(scans);
    }

    /// Whether every batch up to `scans` is on disk here, or at the hub.
    fn stored(&self, scans: u64) -> bool {
        let batches = scans / SCANS_A_BATCH as u64;
        let lanes = self.edge.lanes();
        lanes.iter().all(|lane| lane.stored >= batches)
    }

    fn drained(&self, scans: u64) -> bool {
        self.stored(scans) && self.edge.lanes().iter().all(|lane| lane.pending == 0)
    }
}

pub(super) fn run(args: &OutageArgs) -> anyhow::Result<Outage> {
    let (dir, _temporary) = given_or_temporary(args.dir.as_deref(), "outage")?;
    let keys = HubKeys::generate("hub-1");
    keys.signing.save(&dir.join("keys/hub.key"))?;
    keys.sealing.save(&dir.join("keys/sealing.key"))?;
    let identity = Identity::generate("edge-1");
    let edge_key = identity.public_key();
    let hub = start_hub(&dir, &edge_key, "127.0.0.1:0")?;
    let address = hub.said("edge_address")?.to_owned();

    let (until, scans) = watch::channel(0);
    let mut builder = EdgeBuilder::new(identity, dir.join("buffer"))
        .bound(64 << 30, WhenFull::Stop)
        .hub(HubEntry {
            address: address.clone(),
            key: keys.signing.peer_key(),
            sealing: keys.sealing.public().compressed(),
        });
    for device in 0..DEVICES {
        let source = Replay {
            device,
            tags: tags(),
            next: Arc::default(),
            until: scans.clone(),
        };
        let make = move || Box::new(source.clone()) as Box<dyn Source>;
        let mut setup = DeviceSetup::new(id(device).into(), tags(), make);
        setup.batch.samples = SCANS_A_BATCH * TAGS;
        setup.batch.age = Duration::from_secs(3600);
        builder = builder.device(setup);
    }
    let bench = Bench {
        edge: builder.start()?,
        until,
    };
    let whole = |samples: u64| {
        let scans = samples / (DEVICES * TAGS) as u64;
        scans.next_multiple_of(SCANS_A_BATCH as u64)
    };
    // Long enough for the store's caches and tables to be as full as they become.
    let (before, away) = (whole(args.samples / 2), whole(args.samples));
    let total = before + away + whole(args.samples / 10);

    bench.read_to(before);
    let first = watch_memory(Some(&hub), || bench.drained(before))?;
    hub.kill()?;
    let began = Instant::now();
    bench.read_to(before + away);
    let during = watch_memory(None, || bench.stored(before + away))?;
    let outage_seconds = began.elapsed().as_secs_f64();
    let buffer: u64 = bench.edge.lanes().iter().map(|lane| lane.bytes).sum();

    let hub = start_hub(&dir, &edge_key, &address)?;
    let began = Instant::now();
    let catching_up = watch_memory(Some(&hub), || bench.drained(before + away))?;
    let catch_up_seconds = began.elapsed().as_secs_f64();
    bench.read_to(total);
    let after = watch_memory(Some(&hub), || bench.drained(total))?;
    bench.edge.shutdown()?;
    hub.kill()?;

    let counted = count(&dir, keys.sealing, total)?;
    Ok(Outage {
        samples: total * (DEVICES * TAGS) as u64,
        recorded: counted.recorded,
        lost: counted.lost,
        twice: counted.twice,
        out_of_order: counted.out_of_order,
        changed: counted.changed,
        outage_seconds,
        catch_up_seconds,
        buffer_mb: buffer as f64 / 1e6,
        edge: Memory {
            before_mb: first.0,
            during_mb: during.0.max(catching_up.0),
            after_mb: after.0,
        },
        hub: Memory {
            before_mb: first.1,
            during_mb: catching_up.1,
            after_mb: after.1,
        },
    })
}

#[derive(Default)]
struct Counted {
    recorded: u64,
    lost: u64,
    twice: u64,
    out_of_order: u64,
    changed: u64,
}

/// Compares everything in the ledger with what was replayed.
fn count(dir: &Path, sealing: SealingKey, scans: u64) -> anyhow::Result<Counted> {
    let store = Arc::new(FjallStore::open(&dir.join("data"))?);
    let explorer = Explorer::new(store.clone());
    let opener = Opener::new(store, Arc::new(sealing), "hub-1");
    let Some(tip) = explorer.tip()? else {
        bail!("the ledger is empty");
    };
    let mut counted = Counted::default();
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for height in 1..=tip.height {
        let block = explorer.block(height)?.context("a block is missing")?;
        for record in &block.records {
            let Some(batch) = record.body.batch() else {
                continue;
            };
            let Some(sealed) = &batch.sealed else {
                continue;
            };
            let opened = opener.open_batch(&batch.device, sealed)?;
            let due = next.entry(batch.device.clone()).or_default();
            compare(&opened.content.batch, due, &mut counted)?;
        }
    }
    for device in 0..DEVICES {
        let seen = next.get(&id(device)).copied().unwrap_or(0);
        counted.lost += scans.saturating_sub(seen) * TAGS as u64;
    }
    Ok(counted)
}

fn compare(batch: &Batch, due: &mut u64, counted: &mut Counted) -> anyhow::Result<()> {
    let device = (0..DEVICES).find(|device| *batch.device == *id(*device));
    let device = device.context("an unknown device is recorded")?;
    let columns: Vec<&Vec<f64>> = batch
        .columns
        .iter()
        .filter_map(|column| match &column.values {
            Values::F64(values) => Some(values),
            _ => None,
        })
        .collect();
    let (Some(counts), Some(times)) = (columns.first(), batch.timelines.first()) else {
        bail!("a batch without samples is recorded");
    };
    for (row, scan) in counts.iter().enumerate() {
        let scan = *scan as u64;
        let tags = columns.len() as u64;
        counted.recorded += tags;
        if scan < *due {
            counted.twice += tags;
            counted.out_of_order += 1;
            continue;
        }
        counted.lost += (scan - *due) * TAGS as u64;
        *due = scan + 1;
        let on_time = times.get(row) == Some(&(EPOCH + scan as Nanos * SCAN_EVERY));
        let same = columns.iter().enumerate().all(|(tag, column)| {
            column.get(row).map(|v| v.to_bits()) == Some(value(device, scan, tag).to_bits())
        });
        counted.changed += u64::from(!on_time || !same);
    }
    Ok(())
}

//! `weighbridge bench proof`: what the proof of one sample costs in a ledger of many records.
//!
//! A ledger on disk, written by the hub's own code. In its middle is one sealed batch of which a sample is
//! proven, as `GetEvidence` does it; the other records are refused batches, which are signed and chained
//! like any other and have no ciphertext that would have to be written as well.

use crate::cli::temporary::given_or_temporary;
use crate::crypto::{EpochKey, Identity, SealingKey, Signer};
use crate::ledger::history::evidence::evidence;
use crate::ledger::history::reader::Archive;
use crate::ledger::key_wrap::KeyWrap;
use crate::ledger::opening::Opener;
use crate::ledger::query::Explorer;
use crate::ledger::seal::{BatchSealer, Judged, RefusedBatch};
use crate::ledger::store::{Put, Space};
use crate::ledger::{ChainConfig, Draft, Ledger};
use crate::model::{BatchBuilder, Nanos, TagSpec, ValueKind};
use crate::store::{FjallStore, HeadFile};
use crate::validation::Verdict;
use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weighbridge_verifier::evidence::{Evidence, Trust};
use weighbridge_verifier::{KeyCache, Suite};

/// What `weighbridge bench proof` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge bench proof                              10,000,000 records, suite nist
  weighbridge bench proof --records 1000000 --suite guomi --json

Reading the file counts as verifying it. Each time the verifier starts afresh and knows the hub's key only.")]
pub(in crate::cli) struct ProofArgs {
    /// Records of the ledger
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(3..=1_000_000_000))]
    records: u64,
    /// Records of a block
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    block: u64,
    /// Samples of the batch of which one is proven
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    samples: u32,
    /// Suite of the chain: nist or guomi
    #[arg(long, default_value_t = Suite::Nist)]
    suite: Suite,
    /// Where the ledger is written; a temporary directory by default
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What comes out.
#[derive(Debug, Serialize)]
pub(super) struct Proof {
    suite: Suite,
    records: u64,
    blocks: u64,
    made_seconds: f64,
    prove_ms: f64,
    bytes: usize,
    verify_ms_p50: f64,
    verify_ms_p99: f64,
}

pub(super) fn print_table(r: &Proof) {
    println!("suite             {:>12}", r.suite);
    println!(
        "records           {:>12} in {} blocks, made in {:.0} s",
        r.records, r.blocks, r.made_seconds
    );
    println!(
        "proof             {:>12} bytes, found in {:.1} ms",
        r.bytes, r.prove_ms
    );
    println!(
        "verify p50, p99   {:>12.3} ms, {:.3} ms",
        r.verify_ms_p50, r.verify_ms_p99
    );
}

const DEVICE: &str = "press-1";
const TAG: &str = "force";
const OTHER: &str = "press-2";
const EPOCH: Nanos = 1_700_000_000_000_000_000;
const RUNS: usize = 5_000;

pub(super) fn run(args: &ProofArgs) -> anyhow::Result<Proof> {
    let (dir, _temporary) = given_or_temporary(args.dir.as_deref(), "bench-proof")?;
    let hub: Arc<dyn Signer> = Arc::new(Identity::generate_of(args.suite, "hub-1"));
    let sealing = Arc::new(SealingKey::generate_of(args.suite));
    let store = Arc::new(FjallStore::create_or_open(&dir)?);
    let chain = ChainConfig {
        id: "main".to_owned(),
    };
    let head = Box::new(HeadFile::new(&dir));
    let mut ledger = Ledger::open(store.clone(), head, chain, hub.clone(), EPOCH)?;
    let mut sealer = sealer(&sealing, &*hub)?;
    let began = Instant::now();
    let blocks = fill(args, &mut ledger, &mut sealer)?;
    let made_seconds = began.elapsed().as_secs_f64();

    let opener = Opener::new(store.clone(), sealing, hub.id());
    let (archive, explorer) = (Archive::new(store.clone(), opener), Explorer::new(store));
    let at = EPOCH + i64::from(args.samples / 2) * 1_000_000;
    let began = Instant::now();
    let proof = evidence(&archive, &explorer, (DEVICE, TAG), at)?;
    let prove_ms = began.elapsed().as_secs_f64() * 1e3;
    let bytes = proof.context("the sample is not in the ledger")?.to_bytes();

    let trusted = [hub.public_key()];
    let verify = || -> anyhow::Result<Duration> {
        let began = Instant::now();
        let read = Evidence::from_bytes(std::hint::black_box(&bytes))?;
        let trust = read.verify_with(&trusted, &KeyCache::default())?;
        let took = began.elapsed();
        anyhow::ensure!(trust == Trust::Key, "it is not proven");
        Ok(took)
    };
    let mut times: Vec<Duration> = (0..RUNS).map(|_| verify()).collect::<Result<_, _>>()?;
    times.sort_unstable();
    let at = |percent: usize| times.get((RUNS - 1) * percent / 100);
    let at = |percent| at(percent).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
    Ok(Proof {
        suite: args.suite,
        records: args.records,
        blocks,
        made_seconds,
        prove_ms,
        bytes: bytes.len(),
        verify_ms_p50: at(50),
        verify_ms_p99: at(99),
    })
}

fn sealer(sealing: &SealingKey, hub: &dyn Signer) -> anyhow::Result<BatchSealer> {
    let key = EpochKey::generate(sealing.suite(), DEVICE, 1).map_err(|e| anyhow::anyhow!("{e}"))?;
    let wrapped = sealing.public().wrap(&key)?;
    let wrapped = (wrapped.enc, wrapped.ciphertext);
    let wrap = KeyWrap::sign("main", DEVICE, 1, hub.id(), wrapped, hub);
    let put = Put {
        space: Space::Keys,
        key: wrap.key(),
        value: wrap.to_bytes(),
    };
    Ok(BatchSealer::new(DEVICE, 0, key, vec![put], Arc::default()))
}

/// Appends all records but the first, which began the ledger; how many blocks there are.
fn fill(args: &ProofArgs, ledger: &mut Ledger, sealer: &mut BatchSealer) -> anyhow::Result<u64> {
    // Hidden by itself where standard error is no terminal.
    let bar = ProgressBar::new(args.records);
    let refused = RefusedBatch {
        samples: 1,
        inner_root: weighbridge_verifier::merkle::empty_root(args.suite),
        attester: None,
        rule: "unknown",
        reason: String::new(),
    };
    let other = self::other(args.suite);
    let (mut done, mut sequence) = (1, 0);
    while done < args.records {
        let count = args.block.min(args.records - done);
        let proven = done <= args.records / 2 && args.records / 2 < done + count;
        let (mut drafts, mut puts) = (Vec::new(), Vec::new());
        let time = EPOCH + i64::try_from(done)?;
        if proven {
            let (draft, sealed) = seal(args.samples, sealer, time)?;
            drafts.push(draft);
            puts = sealed;
        }
        while (drafts.len() as u64) < count {
            sequence += 1;
            drafts.push(other.refuse_batch((1, sequence), &refused, time));
        }
        ledger.append(&drafts, puts, time)?;
        done += count;
        bar.set_position(done);
    }
    bar.finish_and_clear();
    Ok(ledger.tip().height)
}

/// The sealer of the device whose batches are refused; it never seals.
fn other(suite: Suite) -> BatchSealer {
    let key = EpochKey::from_secret(suite, OTHER, 1, &[1; 32]);
    BatchSealer::new(OTHER, 0, key, Vec::new(), Arc::default())
}

/// The batch of which a sample is proven.
fn seal(samples: u32, sealer: &mut BatchSealer, time: Nanos) -> anyhow::Result<(Draft, Vec<Put>)> {
    let tag = TagSpec {
        name: TAG.into(),
        kind: ValueKind::F64,
        unit: "kN".to_owned(),
        description: String::new(),
        range: None,
        writable: false,
    };
    let mut builder = BatchBuilder::scanning(DEVICE.into(), [tag].into());
    for sample in 0..samples {
        builder.begin_scan(EPOCH + i64::from(sample) * 1_000_000);
        builder.scan_f64(0, 50.0 + f64::from(sample) / 7.0);
    }
    let batch = builder.take(1, 1).context("the batch is empty")?;
    let verdict = Verdict::accepted();
    let judged = Judged {
        batch: &batch,
        verdict: &verdict,
        state_before: &[],
        attested: None,
    };
    Ok(sealer.seal_batch(&judged, time)?)
}

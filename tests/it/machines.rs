//! Machines inside the test's process: one says what the test tells it to, the other counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use weighbridge::hub::DeviceSetup;
use weighbridge::model::{BatchBuilder, Nanos, Peer, Quality, TagSpec, Value, ValueKind};
use weighbridge::protocols::{Mode, Sent, Source, SourceError};

/// One millisecond in the machines' own time.
pub const MS: Nanos = 1_000_000;
/// When the machines' own time begins.
pub const EPOCH: Nanos = 1_700_000_000_000_000_000;

/// A tag without a range.
pub fn tag(name: &str, kind: ValueKind) -> TagSpec {
    TagSpec {
        writable: false,
        name: name.into(),
        kind,
        unit: String::new(),
        description: String::new(),
        range: None,
    }
}

/// What a scripted machine does next.
pub enum Step {
    /// Answers one scan.
    Scan(Nanos, Vec<Value>),
    /// Answers so many scans at once, a nanosecond apart, all of this number.
    Scans(Nanos, usize, f64),
    /// Breaks the connection.
    Break,
    /// Takes its reader down with it.
    Panic,
}

/// A machine that does what the test says, one step after the other, and is silent otherwise.
pub struct Scripted {
    id: &'static str,
    tags: Arc<[TagSpec]>,
    steps: mpsc::UnboundedSender<Step>,
    sent: Arc<AtomicU64>,
    peer: Arc<std::sync::Mutex<Option<Peer>>>,
    receiver: Arc<Mutex<mpsc::UnboundedReceiver<Step>>>,
}

impl Scripted {
    /// A machine of that name with these tags.
    pub fn new(id: &'static str, tags: impl Into<Arc<[TagSpec]>>) -> Self {
        let (steps, receiver) = mpsc::unbounded_channel();
        Self {
            id,
            tags: tags.into(),
            steps,
            peer: Arc::default(),
            sent: Arc::default(),
            receiver: Arc::new(Mutex::new(receiver)),
        }
    }

    /// As a hub needs it: batches of `scans` scans, no limits and no learning.
    pub fn setup(&self, scans: usize) -> DeviceSetup {
        let (tags, receiver) = (self.tags.clone(), self.receiver.clone());
        let (peer, sent) = (self.peer.clone(), self.sent.clone());
        let make = move || {
            Box::new(ScriptedSource {
                tags: tags.clone(),
                receiver: receiver.clone(),
                peer: peer.clone(),
                sent: sent.clone(),
            }) as Box<dyn Source>
        };
        let mut setup = unjudged(DeviceSetup::new(self.id.into(), self.tags.clone(), make));
        setup.batch.samples = scans * self.tags.len();
        // Batches close by size, so that the test decides what is in them.
        setup.batch.age = Duration::from_secs(60);
        setup
    }

    /// From the next connection on this one answers.
    pub fn answers_as(&self, peer: Peer) {
        *self.peer.lock().unwrap() = Some(peer);
    }

    /// It sends so many samples by itself, where one a second was asked for, or ten at once.
    pub fn sends(&self, samples: u64) {
        self.sent.store(samples, Ordering::SeqCst);
    }

    /// Tells it the next step.
    pub fn does(&self, step: Step) {
        self.steps.send(step).unwrap();
    }

    /// Lets it answer a scan of numbers.
    pub fn scan(&self, time: Nanos, values: impl IntoIterator<Item = f64>) {
        let values = values.into_iter().map(Value::F64).collect();
        self.does(Step::Scan(time, values));
    }
}

/// Nothing is charted or learned; what sensors do wrong is still found.
fn unjudged(mut setup: DeviceSetup) -> DeviceSetup {
    setup.validation.phase1_samples = 0;
    setup.validation.charts = Vec::new();
    setup
}

struct ScriptedSource {
    tags: Arc<[TagSpec]>,
    receiver: Arc<Mutex<mpsc::UnboundedReceiver<Step>>>,
    peer: Arc<std::sync::Mutex<Option<Peer>>>,
    sent: Arc<AtomicU64>,
}

#[async_trait::async_trait]
impl Source for ScriptedSource {
    fn tags(&self) -> Arc<[TagSpec]> {
        self.tags.clone()
    }

    fn mode(&self) -> Mode {
        Mode::Scanning
    }

    fn sent(&mut self) -> Option<Sent> {
        Some(Sent {
            samples: self.sent.swap(0, Ordering::SeqCst),
            per_second: 1.0,
            burst: 10,
        })
    }

    fn peer(&self) -> Option<Peer> {
        self.peer.lock().unwrap().clone()
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
        let step = self.receiver.lock().await.recv().await;
        match step {
            Some(Step::Scan(time, values)) => {
                out.begin_scan(time);
                for (column, value) in values.into_iter().enumerate() {
                    out.scan(column, value, Quality::GOOD);
                }
                Ok(())
            }
            Some(Step::Scans(time, count, value)) => {
                for scan in 0..count {
                    out.begin_scan(time + scan as Nanos);
                    out.scan_f64(0, value);
                }
                Ok(())
            }
            Some(Step::Break) => Err(SourceError::Unreachable {
                address: "the test".to_owned(),
                reason: "it was told to break".to_owned(),
            }),
            Some(Step::Panic) => panic!("the test makes the source panic"),
            None => std::future::pending().await,
        }
    }
}

/// A machine that answers every scan with the next number, whoever reads it and however often the
/// connection or the hub is a new one: what was read is what the counter says.
#[derive(Clone)]
pub struct Counting {
    next: Arc<AtomicU64>,
    silent: Arc<AtomicBool>,
    pause: Duration,
    run: u64,
}

impl Counting {
    /// A machine that answers a scan every `pause`.
    pub fn new(pause: Duration) -> Self {
        Self::in_runs(pause, 1)
    }

    /// A machine that answers so many scans at once every `pause`.
    pub fn in_runs(pause: Duration, run: u64) -> Self {
        Self {
            next: Arc::default(),
            silent: Arc::default(),
            pause,
            run,
        }
    }

    /// As a hub needs it: batches of `scans` scans.
    pub fn setup(&self, id: &str, scans: usize) -> DeviceSetup {
        let source = self.clone();
        let tags: Arc<[TagSpec]> = [tag("count", ValueKind::U64)].into();
        let make = move || Box::new(source.clone()) as Box<dyn Source>;
        let mut setup = unjudged(DeviceSetup::new(id.into(), tags, make));
        setup.batch.samples = scans;
        setup.batch.age = Duration::from_secs(60);
        setup
    }

    /// It answers no more.
    pub fn stop(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// What reads it.
    pub fn source(&self) -> impl Source + use<> {
        self.clone()
    }

    /// How many scans were read.
    pub fn scans(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl Source for Counting {
    fn tags(&self) -> Arc<[TagSpec]> {
        [tag("count", ValueKind::U64)].into()
    }

    fn mode(&self) -> Mode {
        Mode::Scanning
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
        tokio::time::sleep(self.pause).await;
        if self.silent.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        for _ in 0..self.run {
            let count = self.next.fetch_add(1, Ordering::SeqCst);
            out.begin_scan(EPOCH + count as Nanos * MS);
            out.scan(0, Value::U64(count), Quality::GOOD);
        }
        Ok(())
    }
}

//! A site of hubs, each with an engine of its own, over loopback.

use super::ledger::{Ledger, Pool};
use bytes::Bytes;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use weighbridge_consensus::malachite::Malachite;
use weighbridge_consensus::{
    Chain, Engine, EngineError, Faults, Hash, NetworkKey, Peer, Progress, PublicKey, Refused,
    Setup, Sign, Signature, Timing, Validator, Validators,
};
use weighbridge_verifier::Suite;

pub const CHAIN: &str = "hall";

/// What a test that hangs takes to fail.
const HANGS: Duration = Duration::from_secs(60);

pub struct Key(SigningKey);

impl Key {
    pub fn new(number: usize) -> Self {
        let byte = u8::try_from(number + 1).unwrap();
        Self(SigningKey::from_slice(&[byte; 32]).unwrap())
    }
}

impl Sign for Key {
    fn public_key(&self) -> PublicKey {
        let point = self.0.verifying_key().to_sec1_point(true);
        PublicKey::from_sec1(Suite::Nist, point.as_bytes()).unwrap()
    }

    fn sign(&self, message: &Hash) -> Result<Signature, Refused> {
        let signature: p256::ecdsa::Signature = self.0.sign_prehash(&message.0).unwrap();
        Ok(Signature(signature.normalize_s().to_bytes().into()))
    }
}

/// The set of the hubs with these numbers.
pub fn validators(numbers: impl IntoIterator<Item = usize>) -> Validators {
    let validator = |number| Validator::new(Key::new(number).public_key());
    Validators::new(numbers.into_iter().map(validator).collect()).unwrap()
}

pub fn timing() -> Timing {
    Timing {
        propose: Duration::from_millis(300),
        vote: Duration::from_millis(150),
        longest: Duration::from_secs(1),
        status: Duration::from_millis(200),
        ..Timing::default()
    }
}

/// A hub's key on the network, another one for each directory: a hub of one test may get the port that one of another
/// test had a moment ago, and must not be taken for it.
fn network_key(directory: &Path) -> NetworkKey {
    let path = directory.as_os_str().as_encoded_bytes();
    NetworkKey::from_seed(Suite::Nist.hash(&[path]).0)
}

/// A hub of this number, on any free port.
pub fn setup(number: usize, directory: &Path, peers: Vec<Peer>, faults: Faults) -> Setup {
    Setup {
        chain: CHAIN.to_owned(),
        directory: directory.to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        network_key: network_key(directory),
        peers,
        signer: Arc::new(Key::new(number)),
        faults,
        timing: timing(),
        max_value: 1 << 20,
    }
}

pub struct Hub {
    number: usize,
    engine: Malachite,
    directory: TempDir,
    pub ledger: Arc<Ledger>,
    pub chain: Option<Box<dyn Chain>>,
}

pub struct Site {
    pub hubs: Vec<Hub>,
    pub pool: Arc<Pool>,
    pub faults: Faults,
    pub peers: Vec<Peer>,
    runtime: Runtime,
}

impl Hub {
    /// What is left where the engine has its log.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("consensus.wal")
    }

    /// Its key on the network.
    pub fn network_key(&self) -> NetworkKey {
        network_key(self.directory.path())
    }

    /// Opens its chain as it is, without anybody to talk to.
    pub fn try_open(&self, faults: Faults) -> Result<Box<dyn Chain>, EngineError> {
        let setup = setup(self.number, self.directory.path(), vec![], faults);
        self.engine.open(setup, self.ledger.clone())
    }

    fn open(&mut self, peers: Vec<Peer>, faults: Faults) {
        let setup = setup(self.number, self.directory.path(), peers, faults);
        let chain = self.engine.open(setup, self.ledger.clone()).unwrap();
        self.chain = Some(chain);
    }

    pub fn chain(&self) -> &dyn Chain {
        &**self.chain.as_ref().unwrap()
    }
}

impl Site {
    /// So many hubs, all of which vote.
    pub fn new(count: usize, faults: Faults) -> Self {
        Self::of(count, count, faults)
    }

    /// The first `count` of so many that vote.
    pub fn of(count: usize, voting: usize, faults: Faults) -> Self {
        let pool = Arc::new(Pool::default());
        let set = validators(0..voting);
        let ledgers = (0..count).map(|_| Ledger::new(pool.clone(), set.clone()));
        Self::with(ledgers.collect(), pool, faults)
    }

    /// One hub for each of these ledgers.
    pub fn with(ledgers: Vec<Ledger>, pool: Arc<Pool>, faults: Faults) -> Self {
        let hub = |(number, ledger)| Hub {
            number,
            engine: Malachite::start(1).unwrap(),
            directory: TempDir::new().unwrap(),
            ledger: Arc::new(ledger),
            chain: None,
        };
        let mut hubs: Vec<Hub> = ledgers.into_iter().enumerate().map(hub).collect();
        for hub in &mut hubs {
            hub.open(vec![], faults);
        }
        let peer = |hub: &Hub| Peer {
            address: hub.chain().address(),
            id: hub.chain().network_id().to_owned(),
        };
        let peers: Vec<Peer> = hubs.iter().map(peer).collect();
        for hub in &hubs {
            let others = peers.iter().filter(|p| p.id != hub.chain().network_id());
            others.for_each(|peer| hub.chain().add_peer(peer).unwrap());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        Self {
            hubs,
            pool,
            faults,
            peers,
            runtime,
        }
    }

    /// There is something to record, and every hub that runs is told.
    pub fn record(&self, payload: impl Into<Bytes>) {
        self.pool.add(&payload.into());
        let running = self.hubs.iter().filter_map(|hub| hub.chain.as_ref());
        running.for_each(|chain| chain.wake());
    }

    pub fn stop(&mut self, number: usize) {
        self.hubs[number].chain.take().unwrap().stop();
    }

    /// Starts a hub that was stopped, on another port, and has the others look for it there.
    pub fn start(&mut self, number: usize) {
        let mut others = self.peers.clone();
        let before = others.remove(number);
        let faults = self.faults;
        self.hubs[number].open(others, faults);
        let after = Peer {
            address: self.hubs[number].chain().address(),
            id: before.id.clone(),
        };
        for (other, hub) in self.hubs.iter().enumerate() {
            if let Some(chain) = hub.chain.as_ref().filter(|_| other != number) {
                chain.remove_peer(&before).unwrap();
                chain.add_peer(&after).unwrap();
            }
        }
        self.peers[number] = after;
    }

    /// Waits until something holds for what a channel shows.
    pub fn wait<T: Clone>(&self, mut of: watch::Receiver<T>, until: impl FnMut(&T) -> bool) -> T {
        let waiting = async { tokio::time::timeout(HANGS, of.wait_for(until)).await };
        let waited = self.runtime.block_on(waiting);
        waited.expect("nothing happens any more").unwrap().clone()
    }

    /// Waits until something holds that no channel shows.
    pub fn poll(&self, until: impl Fn() -> bool) {
        let started = Instant::now();
        while !until() {
            assert!(started.elapsed() < HANGS, "nothing happens any more");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn wait_progress(&self, number: usize, until: impl Fn(&Progress) -> bool) -> Progress {
        self.wait(self.hubs[number].chain().progress(), until)
    }

    /// Waits until every running hub has decided this height.
    pub fn wait_tip(&self, height: u64) {
        for (number, hub) in self.hubs.iter().enumerate() {
            if hub.chain.is_some() {
                self.wait_progress(number, |progress| progress.tip >= height);
            }
        }
    }

    /// Waits until every running hub rests.
    pub fn wait_parked(&self) {
        for (number, hub) in self.hubs.iter().enumerate() {
            if hub.chain.is_some() {
                self.wait_progress(number, |progress| progress.parked);
            }
        }
    }
}

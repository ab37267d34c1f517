//! A ledger of the smallest kind: values in memory, each with the id of the one before it.

use bytes::Bytes;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use weighbridge_consensus::{
    Alarm, Application, Certificate, Decided, Hash, Proposed, Refused, Slot, Stored, Tip,
    Validators, Verdict,
};
use weighbridge_verifier::sha256;

/// What the hubs of a site have to record. It stands for the gossip between them: all have all of it.
#[derive(Default)]
pub struct Pool(Mutex<Vec<Bytes>>);

impl Pool {
    pub fn add(&self, payload: &Bytes) {
        self.0.lock().unwrap().push(payload.clone());
    }

    fn first(&self, recorded: &BTreeSet<Bytes>) -> Option<Bytes> {
        let payloads = self.0.lock().unwrap();
        payloads.iter().find(|p| !recorded.contains(*p)).cloned()
    }
}

#[derive(Default)]
struct State {
    decided: Vec<Decided>,
    recorded: BTreeSet<Bytes>,
}

/// The ledger of one hub; it outlives the engine, as a disk does.
pub struct Ledger {
    pool: Arc<Pool>,
    validators: Mutex<Validators>,
    state: Mutex<State>,
    /// Every piece of evidence that was handed over.
    pub evidence: watch::Sender<Vec<Vec<u8>>>,
    /// The highest slot for which a value was wanted.
    pub asked: watch::Sender<Option<Slot>>,
    pub alarms: watch::Sender<Vec<Alarm>>,
    /// Where a bench has decisions written to, durably.
    disk: Option<Mutex<File>>,
}

impl Ledger {
    pub fn new(pool: Arc<Pool>, validators: Validators) -> Self {
        Self {
            pool,
            validators: Mutex::new(validators),
            state: Mutex::default(),
            evidence: watch::Sender::default(),
            asked: watch::Sender::default(),
            alarms: watch::Sender::default(),
            disk: None,
        }
    }

    /// The same, with every decision on a disk before it counts.
    pub fn on(self, disk: File) -> Self {
        Self {
            disk: Some(Mutex::new(disk)),
            ..self
        }
    }

    /// Who decides from the next height on.
    pub fn set_validators(&self, validators: Validators) {
        *self.validators.lock().unwrap() = validators;
    }

    pub fn decided(&self) -> Vec<Decided> {
        self.state.lock().unwrap().decided.clone()
    }

    pub fn recorded(&self) -> BTreeSet<Bytes> {
        self.state.lock().unwrap().recorded.clone()
    }
}

impl State {
    fn tip(&self) -> (u64, Hash) {
        let last = self.decided.last().map_or(Hash::ZERO, |last| last.id);
        (self.decided.len() as u64, last)
    }
}

impl Application for Ledger {
    fn tip(&self) -> Result<Tip, Refused> {
        Ok(Tip {
            height: self.state.lock().unwrap().tip().0,
            validators: self.validators.lock().unwrap().clone(),
        })
    }

    fn has_data(&self) -> bool {
        let recorded = self.recorded();
        self.pool.first(&recorded).is_some()
    }

    fn propose(&self, slot: Slot) -> Option<Proposed> {
        self.asked
            .send_modify(|asked| *asked = (*asked).max(Some(slot)));
        let state = self.state.lock().unwrap();
        let (height, last) = state.tip();
        assert_eq!(slot.height, height + 1);
        let payload = self.pool.first(&state.recorded)?;
        let bytes = [&last.0[..], &payload].concat();
        Some(Proposed {
            id: sha256(&[&bytes]),
            bytes: bytes.into(),
        })
    }

    fn check(&self, slot: Slot, bytes: &Bytes) -> Verdict {
        let (height, last) = self.state.lock().unwrap().tip();
        assert_eq!(slot.height, height + 1);
        let id = sha256(&[bytes]);
        match bytes.split_first_chunk::<32>() {
            None => Verdict::Unreadable,
            Some((previous, _)) if *previous == last.0 => Verdict::Valid(id),
            Some(_) => Verdict::Invalid(id),
        }
    }

    fn decide(&self, decided: Decided) -> Result<Validators, Refused> {
        let mut state = self.state.lock().unwrap();
        assert_eq!(decided.certificate.height, state.tip().0 + 1);
        if let Some(disk) = &self.disk {
            let mut disk = disk.lock().unwrap();
            disk.write_all(&decided.bytes).unwrap();
            disk.write_all(&decided.certificate.to_bytes()).unwrap();
            disk.sync_data().unwrap();
        }
        state.recorded.insert(decided.bytes.slice(32..));
        state.decided.push(decided);
        Ok(self.validators.lock().unwrap().clone())
    }

    fn finalize(&self, certificate: Certificate, evidence: Vec<Vec<u8>>) -> Result<(), Refused> {
        let mut state = self.state.lock().unwrap();
        let last = state.decided.last_mut().unwrap();
        assert_eq!(certificate.height, last.certificate.height);
        assert_eq!(certificate.id, last.id);
        last.certificate = certificate;
        self.evidence.send_modify(|all| all.extend(evidence));
        Ok(())
    }

    fn first_height(&self) -> u64 {
        1
    }

    fn stored(&self, height: u64) -> Option<Stored> {
        let index = usize::try_from(height).ok()?.checked_sub(1)?;
        let decided = self.state.lock().unwrap().decided.get(index)?.clone();
        Some(Stored {
            bytes: decided.bytes,
            certificate: decided.certificate,
        })
    }

    fn alarm(&self, alarm: Alarm) {
        self.alarms.send_modify(|alarms| alarms.push(alarm));
    }
}

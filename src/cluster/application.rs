//! The ledger as consensus sees it.

use super::book::{Committed, SharedBook};
use super::drafts;
use super::keys::keys_of;
use super::lies::{Lies, dismissal};
use crate::ledger::LedgerError;
use crate::ledger::shared::Checked;
use crate::ledger::shared::Deciding::{New, Told};
use crate::model::now;
use bytes::Bytes;
use parking_lot::MutexGuard;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use weighbridge_consensus::{
    Alarm, Application, Certificate, Decided, Proposed, Refused, Slot, Stored, Tip, Validator,
    Validators, Verdict,
};
use weighbridge_verifier::equivocation::Signed;
use weighbridge_verifier::vote::{Proposal, Vote};
use weighbridge_verifier::{Faults, PublicKey, QuorumCertificate, ValidatorSet};

/// How long a value waits for records that are on their way to this hub.
const ON_THE_WAY: Duration = Duration::from_millis(400);
/// How often a decision that the disk refused is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What a hub says that was put out.
const DISMISSED: &str = "this hub was dismissed: nothing that it records from now on is on the chain, and what it had \
     open is lost to the chain (docs/cluster.md, When a hub lies)";

/// The ledger of a hub, for consensus.
pub(super) struct Deciding {
    book: Arc<SharedBook>,
    /// How the hubs were trusted when consensus began: what it counts votes by.
    faults: Faults,
    lies: Lies,
}

impl Deciding {
    pub(super) fn new(book: Arc<SharedBook>, faults: Faults) -> Self {
        let lies = Lies::default();
        Self { book, faults, lies }
    }

    /// Makes a decision durable, however long the disk takes.
    fn store(&self, bytes: &[u8], certificate: QuorumCertificate) -> Result<Validators, Refused> {
        loop {
            let (mut ledger, writing) = self.book.lock_to_write();
            let before = ledger.committed().0.validators().cloned();
            let prepared = ledger.prepare_decision(bytes, certificate.clone(), now());
            let done = prepared.and_then(|deciding| match deciding {
                Told(told) => Ok(*told),
                New(settling) => {
                    MutexGuard::unlocked(&mut ledger, || settling.write())?;
                    Ok(ledger.decided(*settling))
                }
            });
            match done {
                Ok(done) => {
                    let (state, _) = ledger.committed();
                    let set = state.validators().cloned();
                    let committed = Committed {
                        attested: state.attested_by(&done.block.records),
                        records: state.totals().records,
                        block: Arc::new(done.block),
                        rebased: done.rebased,
                        left_out: Vec::new(),
                    };
                    let own = |set: &ValidatorSet| set.get(&self.book.hub).is_some();
                    let gone = before.as_ref().is_some_and(own) && !set.as_ref().is_some_and(own);
                    *self.book.decided_by.lock() = before;
                    self.book.changed(&ledger);
                    self.book.count_missing(&ledger);
                    self.book
                        .note_keys(&ledger, keys_of(&committed.block.records));
                    let left_out = ledger.take_left_out();
                    drop(ledger);
                    drop(writing);
                    self.book.came.notify_all();
                    if gone {
                        self.book.alarm(DISMISSED.to_owned());
                    }
                    self.book.tell(Committed {
                        left_out,
                        ..committed
                    });
                    return self.next(set);
                }
                Err(LedgerError::Store(error)) if !self.book.ending.load(Ordering::Acquire) => {
                    drop(ledger);
                    drop(writing);
                    self.book.alarm(format!(
                        "a decided block cannot be written, trying again: {error}"
                    ));
                    std::thread::sleep(RETRY);
                }
                Err(error) => return Err(Refused(error.to_string())),
            }
        }
    }

    /// Who decides the next height.
    fn next(&self, set: Option<ValidatorSet>) -> Result<Validators, Refused> {
        let set = set.ok_or_else(|| Refused("the chain has no hubs".to_owned()))?;
        if Faults::of(&set) != self.faults {
            // Votes are counted in one way as long as consensus runs.
            let why = "the hubs are trusted in another way from here on: start this hub again";
            return Err(Refused(why.to_owned()));
        }
        validators(&set)
    }
}

/// A set as consensus has it.
fn validators(set: &ValidatorSet) -> Result<Validators, Refused> {
    let validators = set.validators.iter().map(|hub| Validator::new(hub.key));
    Validators::new(validators.collect()).map_err(|error| Refused(error.to_string()))
}

impl Application for Deciding {
    fn tip(&self) -> Result<Tip, Refused> {
        let ledger = self.book.lock();
        let (state, tip) = ledger.committed();
        let set = state.validators().cloned();
        Ok(Tip {
            height: tip.height,
            validators: self.next(set)?,
        })
    }

    fn has_data(&self) -> bool {
        self.book.data.load(Ordering::Acquire)
    }

    fn propose(&self, slot: Slot) -> Option<Proposed> {
        let mut ledger = self.book.lock();
        // A round that came to nothing may have done so over records that only its proposer had.
        let proposed = match slot.round % 2 {
            0 => ledger.propose(slot.height, now()),
            _ => ledger.propose_own(slot.height, now()),
        };
        let (id, bytes) = proposed?;
        Some(Proposed {
            id,
            bytes: bytes.into(),
        })
    }

    fn check(&self, slot: Slot, bytes: &Bytes) -> Verdict {
        let until = Instant::now() + ON_THE_WAY;
        let mut ledger = self.book.lock();
        loop {
            match ledger.check(slot.height, bytes, now()) {
                Checked::Valid(id) => return Verdict::Valid(id),
                Checked::Invalid(id, why) => {
                    self.lies.note(id, &why);
                    let height = slot.height;
                    tracing::warn!(height, %why, "another hub's block does not hold");
                    return Verdict::Invalid(id);
                }
                Checked::Refused(id, why) => {
                    let height = slot.height;
                    tracing::warn!(height, %why, "another hub's block is not taken here");
                    return Verdict::Invalid(id);
                }
                Checked::Unreadable => return Verdict::Unreadable,
                Checked::Unknown(_, why) => {
                    tracing::debug!(height = slot.height, why, "nothing can be said of a block");
                    return Verdict::Unknown;
                }
                Checked::Missing(..) => {
                    let late = self.book.came.wait_until(&mut ledger, until).timed_out();
                    if late || self.book.ending.load(Ordering::Acquire) {
                        return Verdict::Unknown;
                    }
                }
            }
        }
    }

    fn check_decided(&self, slot: Slot, bytes: &Bytes) -> Verdict {
        match self.book.lock().check(slot.height, bytes, now()) {
            // Whoever decided it has the sealed bytes; they are fetched.
            Checked::Valid(id) | Checked::Missing(id, _) => Verdict::Valid(id),
            Checked::Invalid(id, why) | Checked::Refused(id, why) => {
                let height = slot.height;
                tracing::error!(height, %why, "a block that other hubs decided does not hold here");
                Verdict::Invalid(id)
            }
            Checked::Unreadable => Verdict::Unreadable,
            Checked::Unknown(_, why) => {
                tracing::debug!(height = slot.height, why, "nothing can be said of a block");
                Verdict::Unknown
            }
        }
    }

    fn refuted(&self, by: PublicKey, proposal: Signed<Proposal>) {
        let proposal = proposal.message;
        let Some(why) = self.lies.why(&proposal.block) else {
            return;
        };
        let book = &self.book;
        let voted = book.look(|state, _, _| dismissal(state, &book.hub, &by, &proposal, now()));
        if let Some((liar, vote)) = voted {
            let height = proposal.height;
            book.alarm(format!(
                "{liar} proposed a block {height} that does not hold ({why}): this hub votes for dismissing it"
            ));
            book.note(vote);
        }
    }

    fn decide(&self, decided: Decided) -> Result<Validators, Refused> {
        let set = self.book.members();
        let certificate = certificate_of(&decided.certificate, set.as_ref())?;
        self.store(&decided.bytes, certificate)
    }

    fn finalize(&self, certificate: Certificate, evidence: Vec<Vec<u8>>) -> Result<(), Refused> {
        let set = self.book.decided_by.lock().clone();
        let height = certificate.height;
        let better = certificate_of(&certificate, set.as_ref())?;
        let (mut ledger, writing) = self.book.lock_to_write();
        let improved = ledger.improve(height, better);
        drop((ledger, writing));
        if let Err(error) = improved {
            // The block has enough signatures without them.
            tracing::warn!(height, %error, "late signatures are not kept");
        }
        for evidence in evidence {
            let members = set.iter().flat_map(|set| &set.validators);
            if let Some(draft) = drafts::equivocation(members, &self.book.chain(), evidence) {
                self.book.note(draft);
            }
        }
        Ok(())
    }

    fn first_height(&self) -> u64 {
        let first = self.book.lock().shared_from();
        first.unwrap_or(u64::MAX)
    }

    fn stored(&self, height: u64) -> Option<Stored> {
        let ledger = self.book.lock();
        let block = match ledger.block(height) {
            Ok(block) => block?,
            Err(error) => {
                tracing::error!(height, %error, "a block cannot be read");
                return None;
            }
        };
        let state = ledger.committed().0;
        let keys = |hub: &str| -> Vec<PublicKey> {
            let current = state.identities().get(hub).and_then(|known| known.key);
            let former = state.former_keys(hub).iter().copied();
            current.into_iter().chain(former).collect()
        };
        let certificate = engine_certificate(&block, keys)?;
        Some(Stored {
            bytes: block.value_bytes().into(),
            certificate,
        })
    }

    fn alarm(&self, alarm: Alarm) {
        self.book.alarm(match alarm {
            Alarm::Halted(why) => format!("consensus stands still: {why}"),
            Alarm::LogDamaged(why) => format!(
                "the log of consensus is damaged, this hub does not vote until somebody decides \
                 (docs/cluster.md): {why}"
            ),
            Alarm::Disagrees { height, id } => format!(
                "enough other hubs decided block {height} ({id}), which does not hold here: this hub is of \
                 another version, or they lie"
            ),
        });
    }
}

/// The certificate that a block ends in.
fn certificate_of(
    certificate: &Certificate,
    set: Option<&ValidatorSet>,
) -> Result<QuorumCertificate, Refused> {
    let signatures = certificate.signatures.iter().copied();
    let made = set.and_then(|set| QuorumCertificate::of(certificate.round, signatures, set));
    made.ok_or_else(|| Refused("somebody signed who is no hub of the set".to_owned()))
}

/// The certificate of a block as consensus has it: by keys. A hub may have had several; the one that it signed by
/// is the one under which its signature holds.
fn engine_certificate(
    block: &weighbridge_verifier::Block,
    keys: impl Fn(&str) -> Vec<PublicKey>,
) -> Option<Certificate> {
    let header = &block.header;
    let quorum = block.certificate.quorum()?;
    let id = header.hash();
    let vote = Vote::precommit(header.height, quorum.round, id);
    let message = vote.message(header.suite(), &header.chain);
    let named = quorum.signatures.iter().map(|one| {
        let mut keys = keys(&one.validator);
        let key = match keys.len() {
            1 => keys.pop()?,
            _ => *keys
                .iter()
                .find(|key| key.verify(&message, &one.signature).is_ok())?,
        };
        Some((key, one.signature))
    });
    let mut signatures: Vec<_> = named.collect::<Option<_>>()?;
    signatures.sort_by_key(|(key, _)| *key);
    Some(Certificate {
        height: header.height,
        round: quorum.round,
        id,
        signatures,
    })
}

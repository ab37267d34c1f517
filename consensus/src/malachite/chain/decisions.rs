//! Decisions: stored, ended, and read for hubs that catch up.

use super::{Done, Over, Parked, Task};
use crate::application::{Decided, Refused};
use crate::certificate::Certificate;
use crate::engine::Faults;
use crate::malachite::codec::MAX_DECISIONS;
use crate::malachite::context::{Address, Context, Height, OrderedSignature, Value, core_types};
use crate::malachite::evidence;
use crate::validators::Validators;
use arc_malachitebft_app::engine::host::Next;
use arc_malachitebft_app::types::MisbehaviorEvidence;
use arc_malachitebft_app::types::sync::RawDecidedValue;
use core_types::{
    CommitCertificate, CommitSignature, ExtendedCommitCertificate, Round, VoteExtensions,
};
use ractor::RpcReplyPort;
use std::ops::RangeInclusive;

impl Task {
    pub(super) fn decide(
        &mut self,
        certificate: &CommitCertificate<Context>,
        reply: RpcReplyPort<()>,
    ) {
        let Some(certificate) = ours(certificate) else {
            return self.halt("a decision is of no round");
        };
        let height = certificate.height;
        if height <= self.tip {
            let _ = reply.send(());
            return;
        }
        let Some(bytes) = self.fixed.values.get(&certificate.id) else {
            // It was checked before it was voted for, and its bytes are in the engine's log.
            return self.halt(&format!("the value decided at height {height} is not here"));
        };
        self.storing = Some(height);
        self.turn = None;
        let decided = Decided {
            id: certificate.id,
            bytes,
            certificate: certificate.clone(),
        };
        self.job(move |application| Done::Decided {
            result: application.decide(decided),
            certificate,
            reply,
        });
    }

    pub(super) fn decided(
        &mut self,
        certificate: Certificate,
        result: Result<Validators, Refused>,
        reply: RpcReplyPort<()>,
    ) {
        let height = certificate.height;
        let validators = match result {
            Ok(validators) => validators,
            Err(e) => {
                // It stays in `storing`: nothing goes on from here.
                return self.halt(&format!(
                    "the decision of height {height} was not stored: {e}"
                ));
            }
        };
        if let Err(reason) = allowed(self.fixed.faults, &validators) {
            return self.halt(reason);
        }
        self.storing = None;
        self.tip = height;
        self.validators = validators;
        self.signatures = certificate.signatures.len();
        self.fixed.values.decided(height);
        self.assembly.decided(height);
        let _ = reply.send(());
        for value in std::mem::take(&mut self.early) {
            self.check(value);
        }
        if let Some(over) = self.over.take() {
            self.finish(over);
        }
    }

    pub(super) fn finalized(
        &mut self,
        certificate: &CommitCertificate<Context>,
        seen: &MisbehaviorEvidence<Context>,
        reply: RpcReplyPort<Next<Context>>,
    ) {
        let Some(certificate) = ours(certificate) else {
            return self.halt("a decision is of no round");
        };
        let over = Over {
            evidence: evidence::pieces(&self.fixed.name, seen),
            certificate,
            reply,
        };
        match self.storing {
            Some(_) => self.over = Some(over),
            None => self.finish(over),
        }
    }

    /// The decision is durable: what came after it is handed on, and the chain rests or goes on.
    fn finish(&mut self, over: Over) {
        let Over {
            certificate,
            evidence,
            reply,
        } = over;
        if evidence.is_empty() && certificate.signatures.len() <= self.signatures {
            self.parked = Some(Parked::Next(reply));
            return;
        }
        self.job(move |application| {
            Done::Finalized(application.finalize(certificate, evidence), reply)
        });
    }

    pub(super) fn read(
        &mut self,
        range: RangeInclusive<Height>,
        reply: RpcReplyPort<Vec<RawDecidedValue<Context>>>,
    ) {
        let (first, last) = (range.start().0, range.end().0.min(self.tip));
        let most = 4 * self.fixed.max_value;
        self.job(move |application| {
            let mut found = Vec::new();
            let mut length = 0;
            for height in (first..=last).take(MAX_DECISIONS) {
                let Some(stored) = application.stored(height) else {
                    break;
                };
                length += stored.bytes.len();
                if length > most {
                    break;
                }
                let certificate = theirs(&stored.certificate);
                found.push(RawDecidedValue::new(stored.bytes, certificate));
            }
            let _ = reply.send(found);
            Done::Answered
        });
    }
}

/// Whether this set may decide under these faults: with four hubs there is no reason to trust that
/// nobody lies.
pub fn allowed(faults: Faults, validators: &Validators) -> Result<(), &'static str> {
    match faults == Faults::Crash && validators.as_slice().len() >= 4 {
        true => Err("four hubs and more decide by two thirds, not by a majority"),
        false => Ok(()),
    }
}

fn ours(certificate: &CommitCertificate<Context>) -> Option<Certificate> {
    let signatures = &certificate.commit_signatures;
    let mut signatures: Vec<_> = signatures
        .iter()
        .map(|one| (one.address.0, one.signature.0))
        .collect();
    signatures.sort_by_key(|(key, _)| *key);
    signatures.dedup_by_key(|(key, _)| *key);
    Some(Certificate {
        height: certificate.height.0,
        round: certificate.round.as_u32()?,
        id: certificate.value_id.0,
        signatures,
    })
}

fn theirs(certificate: &Certificate) -> ExtendedCommitCertificate<Context> {
    let signature = |(key, signature): &(_, _)| {
        let signature = OrderedSignature(*signature);
        CommitSignature::new(Address(*key), signature)
    };
    let certificate = CommitCertificate {
        height: Height(certificate.height),
        round: Round::new(certificate.round),
        value_id: Value(certificate.id),
        commit_signatures: certificate.signatures.iter().map(signature).collect(),
    };
    let none = VoteExtensions::default();
    ExtendedCommitCertificate::from_commit_certificate_and_extensions(certificate, none)
}

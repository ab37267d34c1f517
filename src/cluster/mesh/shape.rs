//! What can be said of records and sealed bytes of another hub without knowing the chain.

use crate::cluster::ports::Fault;
use crate::ledger::shared::{Carried, Want};
use crate::ledger::store::{Put, Space};
use weighbridge_verifier::Suite;

/// Whether `run` is of `hub` in `chain`, from number `next` on or later, without gaps; the number of its first record.
pub(super) fn check_run(run: &[Carried], hub: &str, chain: &str, next: u64) -> Result<u64, Fault> {
    let first = run.first().map(|carried| carried.record.body.sequence);
    let first = first.ok_or_else(|| Fault::lie("it sends a run of no records"))?;
    if first < next.max(1) {
        return Err(Fault::lie(format!("it sends record {first} again")));
    }
    for (carried, number) in run.iter().zip(first..) {
        let body = &carried.record.body;
        if body.sequence != number {
            return Err(Fault::lie(format!("record {number} is left out")));
        }
        if body.hub != hub || body.chain != chain {
            let why = format!("record {number} is of another hub or chain");
            return Err(Fault::lie(why));
        }
        let goes = |put: &Put| matches!(put.space, Space::Sealed | Space::Keys | Space::History);
        if !carried.puts.iter().all(goes) {
            let why = format!("record {number} comes with what no record brings");
            return Err(Fault::lie(why));
        }
    }
    // The next number must be one, too.
    match first.checked_add(run.len() as u64) {
        Some(_) => Ok(first),
        None => Err(Fault::lie("its records have no more numbers")),
    }
}

/// Whether `puts` are the sealed bytes that were asked for, with what belongs to them.
pub(super) fn check_lent(puts: &[Put], want: &Want) -> Result<(), Fault> {
    let lie = || Fault::lie("it lends something else than was asked for");
    let mut sealed = puts.iter().filter(|put| put.space == Space::Sealed);
    let put = sealed.next().filter(|_| sealed.next().is_none());
    let put = put.filter(|put| put.key == want.hash.0).ok_or_else(lie)?;
    // The chain is of one suite; which, the caller need not know.
    let named = |suite: &Suite| suite.hash(&[&put.value]) == want.hash;
    let goes = |put: &Put| matches!(put.space, Space::Sealed | Space::Keys | Space::History);
    match Suite::ALL.iter().any(named) && puts.iter().all(goes) {
        true => Ok(()),
        false => Err(lie()),
    }
}

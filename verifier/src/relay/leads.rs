//! Who signs a chain that a relay anchors: followed from the chain's first block on, through the hubs that the relay knows.

use super::{Anchored, MAX_LEADS, RelayError};
use crate::block::ValidatorSet;
use crate::evidence::{Evidence, genesis_set};
use crate::exchange::AnchorContent;
use crate::hash::Hash;
use crate::signature::SignatureCheck;
use crate::succession::Succession;

/// The first block of the anchor's chain, and the set of hubs that the evidence of the anchor leads to.
pub(super) fn led(
    anchor: &AnchorContent,
    known: Option<&Anchored>,
    check: &dyn SignatureCheck,
) -> Result<(Hash, ValidatorSet), RelayError> {
    let chain = || anchor.header.chain.clone();
    let astray = |why| RelayError::Astray {
        chain: chain(),
        why,
    };
    let broken = |why| RelayError::Leads {
        chain: chain(),
        why: Box::new(why),
    };
    if anchor.leads.len() > MAX_LEADS {
        return Err(astray("is too long"));
    }
    let evidence = Evidence::from_bytes(&anchor.leads).map_err(broken)?;
    evidence.verify_with(&[], check).map_err(broken)?;
    let first = evidence.blocks.first().filter(|_| evidence.from_genesis());
    let first = first.ok_or_else(|| astray("does not begin with its first block"))?;
    let began = first.header.hash();
    if known.is_some_and(|known| known.began != began) {
        return Err(astray("begins with another first block"));
    }
    let mut succession = Succession::new(evidence.validators.clone());
    // Who signed at the anchor before: hubs of long ago must not begin another history from there.
    let other = "does not lead through the hubs that are known here";
    let mut due = known;
    for block in &evidence.blocks {
        let passed = due.take_if(|known| block.header.height >= known.height);
        if passed.is_some_and(|known| *succession.set() != known.set) {
            return Err(astray(other));
        }
        for shown in &block.records {
            let body = &shown.record.body;
            let told = shown.opened.is_none() && shown.samples.is_empty();
            let counts =
                Succession::concerns(&body.content) || genesis_set(&shown.record).is_some();
            if !told || !counts {
                return Err(astray("shows more than who signs"));
            }
            succession.apply(body);
        }
    }
    if due.is_some_and(|known| *succession.set() != known.set) {
        return Err(astray(other));
    }
    let header = &anchor.header;
    let last = evidence
        .blocks
        .last()
        .map_or(&first.header, |last| &last.header);
    let next = last.height.checked_add(1) == Some(header.height);
    let follows = last.height < header.height
        && last.time < header.time
        && last.chain == header.chain
        && last.suite() == header.suite()
        && (header.is_shared() || !last.is_shared())
        && (!next || header.previous_hash == last.hash());
    match follows {
        true => Ok((began, succession.into_parts().0)),
        false => Err(astray("does not end before the header")),
    }
}

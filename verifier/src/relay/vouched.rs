//! What a relay's evidence says of another chain's.

use crate::evidence::Evidence;
use crate::record::{Action, Content};
use crate::signature::{PublicKey, SignatureCheck};

/// The keys under which `evidence` is to be trusted, by the word of a relay: those of the hubs that sign its first block,
/// where an anchor that `relay` shows is certified by them, or shows that they began the chain. None where the relay shows
/// no such anchor.
///
/// That the relay's evidence holds under keys of the relay is for the caller to check first
/// ([`Evidence::verify`]), and that `evidence` holds under the keys that come of this is for them to check then.
pub fn vouched(
    relay: &Evidence,
    evidence: &Evidence,
    check: &dyn SignatureCheck,
) -> Vec<PublicKey> {
    let Some(first) = evidence.blocks.first() else {
        return Vec::new();
    };
    let (chain, set) = (&first.header.chain, &evidence.validators);
    let records = relay.blocks.iter().flat_map(|block| &block.records);
    let mut anchors = records.filter_map(|shown| match &shown.record.body.content {
        Content::Anchor(anchor) if shown.record.body.action == Action::Exchange => Some(anchor),
        _ => None,
    });
    let vouches = anchors.any(|anchor| {
        let signed = || anchor.certificate.verify_with(&anchor.header, set, check);
        // The relay took them only from the chain's first block on, and where they led to who signed the header.
        let began = || Evidence::from_bytes(&anchor.leads).is_ok_and(|led| led.validators == *set);
        anchor.header.chain == *chain && (signed().is_ok() || began())
    });
    match vouches {
        true => set.validators.iter().map(|hub| hub.key).collect(),
        false => Vec::new(),
    }
}

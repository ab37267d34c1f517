//! What is written with records: it must be what they name.

use super::draft::Draft;
use super::error::LedgerError;
use super::store::{Put, Space};
use std::collections::BTreeMap;

/// Every draft's sealed bytes must come with it: a block must not name what the store does not hold.
pub(super) fn check_sealed(drafts: &[Draft], puts: &[Put]) -> Result<(), LedgerError> {
    let of = |p: &Put| (p.space == Space::Sealed).then(|| (p.key.clone(), p.value.len() as u64));
    let there: BTreeMap<Vec<u8>, u64> = puts.iter().filter_map(of).collect();
    for (index, draft) in drafts.iter().enumerate() {
        let Some(sealed) = draft.content.sealed() else {
            continue;
        };
        if there.get(sealed.hash.0.as_slice()) != Some(&sealed.length) {
            let hash = sealed.hash;
            return Err(LedgerError::SealedMissing { index, hash });
        }
    }
    Ok(())
}

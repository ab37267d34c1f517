//! From the store to a bundle: sealed batches with their records and wraps, in pages.

use super::SealedBundle;
use crate::ledger::history::PastError;
use crate::ledger::history::evidence::record_of;
use crate::ledger::history::index::{Span, overlapping};
use crate::ledger::history::succession::Succession;
use crate::ledger::key_wrap::{KeyWrap, wrap_key};
use crate::ledger::keys::sealed_key;
use crate::ledger::opening::OpeningError;
use crate::ledger::proof::Exhibits;
use crate::ledger::query::Explorer;
use crate::ledger::store::{Space, Store};
use crate::model::Nanos;
use std::collections::BTreeSet;

/// Batches of one page at most.
const PAGE_BATCHES: usize = 256;
/// Bytes of ciphertext of one page, but for its first batch.
pub(super) const PAGE_BYTES: usize = 8 << 20;
/// Batches of all pages of one request at most.
const MOST: usize = 100_000;

/// What a reader wants.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The device.
    pub device: &'a str,
    /// For whom the keys are wrapped, as wraps name them.
    pub recipient: &'a str,
    /// From this source time on, up to this one, not included.
    pub range: (Nanos, Nanos),
    /// The spans that they may read; what is in none of them is not given.
    pub spans: &'a [(Nanos, Nanos)],
    /// After this batch, by fencing epoch and sequence number.
    pub after: Option<(u64, u64)>,
}

/// The batches of a page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    spans: Vec<Span>,
    next: Option<(u64, u64)>,
}

impl Page {
    /// Which keys its batches are sealed under.
    pub fn epochs(&self) -> BTreeSet<u64> {
        self.spans.iter().map(|s| s.sealed.key_epoch).collect()
    }
}

/// Finds the batches of a page: those that overlap the range within the spans.
pub fn select(store: &dyn Store, wanted: &Wanted<'_>) -> Result<Page, PastError> {
    let mut found: Vec<Span> = Vec::new();
    let too_many = || {
        let why = format!("there are over {MOST} batches in that time");
        PastError::TooMuch(why)
    };
    for (from, until) in wanted.spans {
        let range = (wanted.range.0.max(*from), wanted.range.1.min(*until));
        if range.0 < range.1 {
            let spans = overlapping(store, wanted.device, range, MOST)?;
            found.extend(spans.ok_or_else(too_many)?);
        }
    }
    let number = |span: &Span| (span.epoch, span.sequence);
    found.sort_unstable_by_key(number);
    found.dedup_by_key(|span| number(span));
    found.retain(|span| wanted.after.is_none_or(|after| number(span) > after));
    let mut page = Page::default();
    let mut bytes = 0;
    for span in found {
        let length = usize::try_from(span.sealed.length).unwrap_or(usize::MAX);
        let full = page.spans.len() == PAGE_BATCHES || bytes + length.min(PAGE_BYTES) > PAGE_BYTES;
        if full && !page.spans.is_empty() {
            page.next = page.spans.last().map(number);
            break;
        }
        bytes += length;
        page.spans.push(span);
    }
    Ok(page)
}

/// The bundle of a page. Keys that are not wrapped to the reader are not in it.
pub fn gather(
    store: &dyn Store,
    explorer: &Explorer,
    wanted: &Wanted<'_>,
    page: &Page,
) -> Result<SealedBundle, PastError> {
    let genesis = explorer.genesis()?.ok_or(PastError::Genesis)?;
    let mut succession = Succession::begin(explorer)?;
    let mut exhibits = Exhibits::new(succession.set().clone());
    exhibits.show_record(&genesis, 0)?;
    // All keys of the hub, not only those of the records: a wrap may be younger than what it opens.
    let tip = explorer.tip_summary()?.height;
    for (block, index) in succession.to_the_end(tip)? {
        exhibits.show_record(&block, index)?;
    }
    let mut sealed = Vec::with_capacity(page.spans.len());
    for span in &page.spans {
        let (block, index) = record_of(explorer, wanted.device, span)?;
        exhibits.show_record(&block, index)?;
        let bytes = store.get(Space::Sealed, &sealed_key(&span.sealed.hash))?;
        sealed.push(bytes.ok_or(OpeningError::Missing(span.sealed.hash))?);
    }
    let mut wraps = Vec::new();
    for epoch in page.epochs() {
        let wrap = store.get(
            Space::Keys,
            &wrap_key(wanted.device, epoch, wanted.recipient),
        )?;
        if let Some(wrap) = wrap.filter(|wrap| !wrap.is_empty()) {
            wraps.push(KeyWrap::from_bytes(&wrap).map_err(OpeningError::from)?);
        }
    }
    Ok(SealedBundle {
        device: wanted.device.to_owned(),
        recipient: wanted.recipient.to_owned(),
        range: wanted.range,
        evidence: exhibits.into_evidence()?,
        wraps,
        sealed,
        next: page.next,
    })
}

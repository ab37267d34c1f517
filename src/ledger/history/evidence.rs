//! The evidence of recorded samples: of one, or of all of a time.

use super::PastError;
use super::index::{Span, overlapping};
use super::reader::Archive;
use super::succession::Succession;
use crate::ledger::proof::{self, Exhibits, SampleAt};
use crate::ledger::query::Explorer;
use crate::ledger::retention::is_stripped;
use crate::model::{Batch, Nanos};
use std::collections::BTreeSet;
use weighbridge_verifier::evidence::{Evidence, MAX_BYTES};
use weighbridge_verifier::{Action, Block, Content, Hash, Salt};

/// Blocks looked through for a record, from the first that may hold it on: a record waits for its block
/// for seconds at most, or until a full disk has room.
const BLOCKS: u64 = 100_000;

/// The evidence of the newest sample of a tag at or before `time`; `None` when there is no such sample.
pub fn evidence(
    archive: &Archive,
    explorer: &Explorer,
    (device, tag): (&str, &str),
    time: Nanos,
) -> Result<Option<Evidence>, PastError> {
    let found = archive.tag(device, tag);
    let Some(found) = found.find_before(time.saturating_add(1))? else {
        return Ok(None);
    };
    let place = record_of(explorer, device, &found.span)?;
    let opened = archive.opener().open_batch(device, &found.span.sealed)?;
    let at = SampleAt {
        column: found.column,
        index: found.index,
    };
    let salt = |position| at_position(&opened.salts, position);
    let batch = &opened.content.batch;
    Ok(Some(prove_one(explorer, place, batch, at, salt)?))
}

/// The evidence of one sample of `batch`, whose record is the one with this index in the block, as small as can
/// be: it names the set that signs the block. Only where that block itself says which hub made the record, it
/// begins with the chain.
pub fn prove_one(
    explorer: &Explorer,
    (block, index): (Block, usize),
    batch: &Batch,
    at: SampleAt,
    salt: impl FnMut(u64) -> Salt,
) -> Result<Evidence, PastError> {
    let mut succession = Succession::begin(explorer)?;
    let before = block.records.iter().take(index);
    let mut steps = before.filter(|r| r.body.action == Action::Membership);
    if steps.next().is_none() {
        succession.until(block.header.height)?;
        let set = succession.set();
        return Ok(proof::prove(&block, index, set, batch, at, salt)?);
    }
    let mut exhibits = Exhibits::new(succession.set().clone());
    for (block, index) in succession.through(block.header.height)? {
        exhibits.show_record(&block, index)?;
    }
    exhibits.show_samples(&block, index, batch, &[at], salt)?;
    Ok(exhibits.into_evidence()?)
}

/// Batches of one evidence at most.
const BATCHES: usize = 10_000;

/// Samples of one evidence at most: they fill about [`MAX_BYTES`] when they are of many batches.
pub const MOST_SAMPLES: usize = 50_000;

/// What an evidence is to be of.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The device.
    pub device: &'a str,
    /// Its tags; all where it is empty.
    pub tags: &'a [String],
    /// From this source time on, up to this one, not included.
    pub range: (Nanos, Nanos),
    /// Samples at most; never more than [`MOST_SAMPLES`].
    pub limit: usize,
    /// Whether to show what is in the documents that judged the batches: settings, limits, and the
    /// profiles that they came from. They tell a lot about a machine.
    pub settings: bool,
}

/// The evidence of all samples that are `wanted`, with the records of the documents that judged them, and
/// all that made the sets of hubs that signed, from the chain's first record on. `progress` is told how many
/// batches are done, of how many.
pub fn evidence_of(
    archive: &Archive,
    explorer: &Explorer,
    wanted: &Wanted<'_>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Evidence, PastError> {
    let device = wanted.device;
    let genesis = explorer.genesis()?.ok_or(PastError::Genesis)?;
    let mut succession = Succession::begin(explorer)?;
    let mut exhibits = Exhibits::new(succession.set().clone());
    exhibits.show_record(&genesis, 0)?;
    let spans = overlapping(archive.store(), device, wanted.range, BATCHES)?;
    let too_many = || PastError::TooMuch(format!("there are over {BATCHES} batches in that time"));
    let mut spans = spans.ok_or_else(too_many)?;
    spans.sort_unstable_by_key(|s| (s.epoch, s.sequence));
    spans.dedup_by_key(|s| (s.epoch, s.sequence));
    let limit = wanted.limit.min(MOST_SAMPLES);
    let mut count = 0;
    let mut unseen: BTreeSet<&str> = wanted.tags.iter().map(String::as_str).collect();
    let mut judges = Judges::default();
    for (done, span) in spans.iter().enumerate() {
        progress(done, spans.len());
        let opened = archive.opener().open_batch(device, &span.sealed)?;
        let batch = &opened.content.batch;
        unseen.retain(|tag| batch.tags.iter().all(|t| *t.name != **tag));
        let samples = chosen(batch, wanted);
        if samples.is_empty() {
            continue;
        }
        count += samples.len();
        if count > limit {
            let why = format!("there are over {limit} samples in that time");
            return Err(PastError::TooMuch(why));
        }
        let (block, index) = record_of(explorer, device, span)?;
        let salt = |position| at_position(&opened.salts, position);
        exhibits.show_samples(&block, index, batch, &samples, salt)?;
        judges.note(&block, index);
    }
    if let Some(tag) = unseen.first().filter(|_| !spans.is_empty()) {
        return Err(PastError::NoTag {
            device: device.to_owned(),
            tag: (*tag).to_owned(),
        });
    }
    if count == 0 {
        return Err(PastError::NoSamples(device.to_owned()));
    }
    judges.show(&mut exhibits, archive, explorer, wanted)?;
    for height in exhibits.heights() {
        for (block, index) in succession.through(height)? {
            exhibits.show_record(&block, index)?;
        }
    }
    let evidence = exhibits.into_evidence()?;
    let bytes = evidence.to_bytes().len();
    if bytes > MAX_BYTES {
        let why = format!("the evidence would be {bytes} bytes, over {MAX_BYTES}");
        return Err(PastError::TooMuch(why));
    }
    Ok(evidence)
}

/// The samples of the tags and the time that are wanted.
fn chosen(batch: &Batch, wanted: &Wanted<'_>) -> Vec<SampleAt> {
    let (low, high) = wanted.range;
    let mut found = Vec::new();
    let columns = batch.columns.iter().zip(batch.tags.iter()).enumerate();
    for (column, (values, tag)) in columns {
        if wanted.tags.is_empty() || wanted.tags.iter().any(|w| *tag.name == **w) {
            let times = batch.times(values).iter().enumerate();
            let inside = times.filter(|(_, time)| (low..high).contains(time));
            found.extend(inside.map(|(index, _)| SampleAt { column, index }));
        }
    }
    found
}

fn at_position(salts: &[Salt], position: u64) -> Salt {
    let salt = usize::try_from(position).ok().and_then(|p| salts.get(p));
    salt.copied().unwrap_or_default()
}

/// The documents that judged the batches, by their commitments, and the newest block they may be in.
#[derive(Default)]
struct Judges {
    commitments: BTreeSet<Hash>,
    newest: u64,
}

impl Judges {
    fn note(&mut self, block: &Block, index: usize) {
        let record = block.records.get(index);
        if let Some(batch) = record.and_then(|r| r.body.batch())
            && batch.judged_by != Hash::ZERO
        {
            self.commitments.insert(batch.judged_by);
            self.newest = self.newest.max(block.header.height);
        }
    }

    /// Shows the documents, which are in the blocks before the batches that they judged.
    fn show(
        mut self,
        exhibits: &mut Exhibits,
        archive: &Archive,
        explorer: &Explorer,
        wanted: &Wanted<'_>,
    ) -> Result<(), PastError> {
        let device = wanted.device;
        // They may be as old as the ledger: who asks what is in them waits for it.
        let oldest = match wanted.settings {
            true => 0,
            false => self.newest.saturating_sub(BLOCKS),
        };
        let mut height = self.newest;
        let mut stripped = None;
        while !self.commitments.is_empty() && height > oldest {
            let block = explorer.block(height)?;
            let Some(block) = block else { break };
            stripped = stripped.or_else(|| is_stripped(&block).then_some(height));
            for (index, record) in block.records.iter().enumerate() {
                if let Content::Document(document) = &record.body.content
                    && self.commitments.remove(&document.commitment)
                {
                    if wanted.settings {
                        let opened = archive.opener().open_to_show(device, &document.sealed)?;
                        exhibits.show_opened(&block, index, opened)?;
                    } else {
                        exhibits.show_record(&block, index)?;
                    }
                }
            }
            height -= 1;
        }
        match self.commitments.is_empty() || !wanted.settings {
            true => Ok(()),
            false => Err(retired(explorer, stripped)
                .unwrap_or_else(|| PastError::NoSettings(device.to_owned()))),
        }
    }
}

/// That what is looked for may have been in a block whose body was retired.
fn retired(explorer: &Explorer, stripped: Option<u64>) -> Option<PastError> {
    let fate = explorer.fate(stripped?).ok()??;
    Some(PastError::Retired(fate))
}

/// The block with the record of a batch, and which record it is.
pub(in crate::ledger) fn record_of(
    explorer: &Explorer,
    device: &str,
    span: &Span,
) -> Result<(Block, usize), PastError> {
    // Blocks are in the order of their times, and a block is not older than its records.
    let from = explorer.height_at(span.recorded)?.unwrap_or(1).max(1);
    let mut stripped = None;
    for height in from..from.saturating_add(BLOCKS) {
        let Some(block) = explorer.block(height)? else {
            break;
        };
        stripped = stripped.or_else(|| is_stripped(&block).then_some(height));
        let records = block.records.iter();
        let at = records.map(|r| r.body.batch()).position(|batch| {
            batch.is_some_and(|b| b.device == device && b.sealed == Some(span.sealed))
        });
        if let Some(at) = at {
            return Ok((block, at));
        }
    }
    Err(
        retired(explorer, stripped).unwrap_or_else(|| PastError::NoRecord {
            device: device.to_owned(),
            epoch: span.epoch,
            sequence: span.sequence,
        }),
    )
}

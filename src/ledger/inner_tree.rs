//! The inner tree: one salted leaf a sample, so that one sample can be shown without its neighbours.
//!
//! The leaves stand in column order: all samples of the first tag, then of the second, and so on. A
//! sample costs one compression of the hash for its leaf, and two for the inner node that it adds.

use crate::model::{Batch, Column, Nanos, TagSpec, Values};
use std::sync::Arc;
use weighbridge_verifier::{Hash, Salt, Suite, TagDigest, Value, merkle};

/// A batch whose columns do not fit its tags or timelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {0} of the batch has not one value a time, or no tag")]
pub struct MalformedColumn(pub usize);

/// Makes the leaves of one device's batches, with the tags' digests kept from batch to batch.
pub struct InnerTree {
    suite: Suite,
    device: Arc<str>,
    tags: Arc<[TagSpec]>,
    digests: Vec<TagDigest>,
}

impl InnerTree {
    /// For device `device` with these tags, in a chain of `suite`.
    pub fn new(suite: Suite, device: Arc<str>, tags: Arc<[TagSpec]>) -> Self {
        let digest = |t: &TagSpec| TagDigest::new(suite, &device, &t.name);
        let digests = tags.iter().map(digest).collect();
        Self {
            suite,
            device,
            tags,
            digests,
        }
    }

    /// For the device of `batch`.
    pub fn of(suite: Suite, batch: &Batch) -> Self {
        Self::new(suite, batch.device.clone(), batch.tags.clone())
    }

    /// Whether it was made for the device and tags of `batch`.
    pub fn fits(&self, batch: &Batch) -> bool {
        self.device == batch.device
            && (Arc::ptr_eq(&self.tags, &batch.tags) || *self.tags == *batch.tags)
    }

    /// The suite it hashes in.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Leaf hashes of all samples; `salt` gives the salt of each position. Positions count all
    /// samples of the batch from 0, and are asked for in ascending order.
    pub fn leaves(
        &self,
        batch: &Batch,
        mut salt: impl FnMut(u64) -> Salt,
    ) -> Result<Vec<Hash>, MalformedColumn> {
        let mut leaves = Vec::with_capacity(batch.samples());
        for (at, column) in batch.columns.iter().enumerate() {
            let times = batch.times(column);
            let digest = self.digests.get(at).ok_or(MalformedColumn(at))?;
            if times.len() != column.values.len() || u32::try_from(times.len()).is_err() {
                return Err(MalformedColumn(at));
            }
            push_column(digest, times, column, &mut leaves, &mut salt);
        }
        Ok(leaves)
    }
}

/// Position of the sample `index` of column `column` among all samples of the batch.
pub fn position(batch: &Batch, column: usize, index: usize) -> Option<u64> {
    let own = batch.columns.get(column)?;
    let before: usize = batch
        .columns
        .iter()
        .take(column)
        .map(|c| c.values.len())
        .sum();
    (index < own.values.len()).then_some((before + index) as u64)
}

/// Root of the inner tree over `leaves`.
pub fn inner_root(suite: Suite, leaves: Vec<Hash>) -> Hash {
    merkle::root_of(suite, leaves)
}

fn push_column(
    digest: &TagDigest,
    times: &[Nanos],
    column: &Column,
    leaves: &mut Vec<Hash>,
    salt: &mut impl FnMut(u64) -> Salt,
) {
    let mut exceptions = column.quality.exceptions.iter().peekable();
    for (index, time) in times.iter().enumerate() {
        let exception = exceptions.next_if(|(at, _)| *at as usize == index);
        let quality = exception.map_or_else(Default::default, |(_, quality)| *quality);
        let salt = salt(leaves.len() as u64);
        let at = index as u32;
        let leaf = match &column.values {
            Values::F64(v) => digest.leaf_f64(&salt, at, *time, quality, number(v, index)),
            values => {
                let value = values.get(index).unwrap_or(Value::Bool(false));
                digest.leaf(&salt, at, *time, quality, &value)
            }
        };
        leaves.push(leaf);
    }
}

/// The number at `index`; the caller has compared the lengths.
fn number(values: &[f64], index: usize) -> f64 {
    values.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Quality, ValueKind};

    fn batch() -> Batch {
        let tag = |(name, kind): (&str, ValueKind)| TagSpec {
            name: name.into(),
            kind,
            unit: String::new(),
            description: String::new(),
            range: None,
            writable: false,
        };
        let tags = [("force", ValueKind::F64), ("state", ValueKind::Text)];
        let tags: Arc<[TagSpec]> = tags.into_iter().map(tag).collect();
        let mut builder = BatchBuilder::scanning("press-1".into(), tags);
        for scan in 0..5 {
            builder.begin_scan(1_000 + scan);
            builder.scan_f64(0, scan as f64 / 3.0);
            let text = Value::Text(format!("step {scan}"));
            if scan != 2 {
                builder.scan(1, text, Quality::UNCERTAIN);
            }
        }
        builder.take(1, 1).unwrap()
    }

    fn salt(position: u64) -> Salt {
        let mut salt = [7; 16];
        salt[..8].copy_from_slice(&position.to_le_bytes());
        salt
    }

    #[test]
    fn leaves_are_those_of_the_samples_in_column_order() {
        for suite in Suite::ALL {
            leaves_in_column_order(suite);
        }
    }

    fn leaves_in_column_order(suite: Suite) {
        let batch = batch();
        let leaves = InnerTree::of(suite, &batch).leaves(&batch, salt).unwrap();
        assert_eq!(leaves.len(), 10);
        for (c, column) in batch.columns.iter().enumerate() {
            let digest = TagDigest::new(suite, "press-1", &batch.tags[c].name);
            for index in 0..5 {
                let at = position(&batch, c, index).unwrap();
                let leaf = digest.leaf(
                    &salt(at),
                    index as u32,
                    batch.times(column)[index],
                    column.quality.get(index),
                    &column.values.get(index).unwrap(),
                );
                assert_eq!(leaves[at as usize], leaf, "column {c}, sample {index}");
            }
        }
        assert_eq!(position(&batch, 1, 5), None);
        assert_eq!(
            inner_root(suite, leaves.clone()),
            merkle::root(suite, &leaves)
        );
    }

    #[test]
    fn a_column_of_another_length_is_refused() {
        let mut batch = batch();
        batch.columns[1].values = Values::Text(vec![]);
        let refused = InnerTree::of(Suite::Guomi, &batch).leaves(&batch, salt);
        assert_eq!(refused, Err(MalformedColumn(1)));
    }
}

//! How far a device is recorded: where its source goes on.

use super::PastError;
use super::index::overlapping;
use super::reader::Archive;
use crate::model::{Nanos, Quality};
use std::collections::{HashMap, HashSet};

/// Batches that one look through the index finds at most.
const AT_ONCE: usize = 64;
/// How far the first step goes back, ns; it then doubles or halves as needed.
const FIRST_STEP: i128 = 1_000_000_000;
/// Batches opened at most. A tag that is in none of them was quiet for that long.
const MOST_BATCHES: usize = 256;
/// How far before the newest sample of all is looked for those of other tags, ns.
const DEPTH: i128 = 3_600_000_000_000;

impl Archive {
    /// For each of `tags` a time up to which its samples are recorded: that of its newest sample whose
    /// quality `counts`, or one before which its newest lies. `None` for all when nothing of the device
    /// is recorded. Times from `before` on, which a wrong clock may have made, are passed over. Opens a
    /// bounded number of batches, the newest. Blocking.
    pub fn newest(
        &self,
        (device, tags): (&str, &[&str]),
        before: Nanos,
        counts: &dyn Fn(Quality) -> bool,
    ) -> Result<Vec<Option<Nanos>>, PastError> {
        let places: HashMap<&str, usize> =
            tags.iter().enumerate().map(|(at, t)| (*t, at)).collect();
        let mut times = vec![None::<Nanos>; tags.len()];
        let mut opened = HashSet::new();
        let mut high = i128::from(before);
        let mut end = i128::from(Nanos::MIN);
        let mut width = FIRST_STEP;
        // A batch may have samples from long before its others: only what is newer than all that was
        // not looked at is known to be the newest.
        let all_found = |times: &[Option<Nanos>], high: i128| {
            times
                .iter()
                .flatten()
                .filter(|t| i128::from(**t) >= high)
                .count()
                == times.len()
        };
        while high > end && !all_found(&times, high) && opened.len() < MOST_BATCHES {
            let low = end.max(high - width);
            let most = if width > 1 { AT_ONCE } else { usize::MAX };
            let range = (nanos(low), nanos(high));
            let Some(spans) = overlapping(self.store(), device, range, most)? else {
                width /= 2;
                continue;
            };
            for span in &spans {
                if !opened.insert((span.epoch, span.sequence)) {
                    continue;
                }
                let batch = self.batch(device, span)?;
                for (tag, column) in batch.tags.iter().zip(&batch.columns) {
                    let samples = batch.times(column).iter().enumerate();
                    let samples = samples.filter(|(index, time)| {
                        **time < before && counts(column.quality.get(*index))
                    });
                    let Some(newest) = samples.map(|(_, time)| *time).max() else {
                        continue;
                    };
                    end = end.max(i128::from(newest) - DEPTH);
                    if let Some(time) = places.get(&*tag.name).and_then(|at| times.get_mut(*at)) {
                        *time = (*time).max(Some(newest));
                    }
                }
            }
            high = low;
            if spans.len() <= AT_ONCE / 2 {
                width = width.saturating_mul(2).min(1 << 64);
            }
        }
        if opened.is_empty() {
            return Ok(times);
        }
        let quiet = Some(nanos(high - 1));
        Ok(times.into_iter().map(|time| time.max(quiet)).collect())
    }
}

/// As a time; what is beyond all times is the last one.
fn nanos(time: i128) -> Nanos {
    let inside = time.clamp(i128::from(Nanos::MIN), i128::from(Nanos::MAX));
    // It was just made to fit.
    inside as Nanos
}

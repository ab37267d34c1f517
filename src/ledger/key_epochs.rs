//! Numbers of key epochs.
//!
//! A device's keys are numbered, and a record names by which number it is sealed. Several hubs may read a device, one
//! after the other and, while one of them is cut off, at the same time: each under a fencing epoch of its own, which
//! its lease gives it. So that no two of them ever give a number twice, those of a lease begin where its fencing epoch
//! says, and never leave its room. A device without leases is read by one hub, and its numbers go on from one.

/// A lease has room for 2 to the power of this many numbers; the first of them is none.
pub const COUNTER_BITS: u32 = 24;
/// After a sealer was lost, nobody knows how far it had come: so many numbers are left out.
const LOST: u64 = 1 << 32;
/// The same within a lease.
const LOST_OF_LEASE: u64 = 1 << 16;

/// There is no further number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all numbers of keys under fencing epoch {0} are used up; the device needs a new lease")]
pub struct UsedUp(pub u64);

/// The first number and the last of the lease of fencing epoch `lease`.
pub fn room(lease: u64) -> Result<(u64, u64), UsedUp> {
    let base = lease.checked_mul(1 << COUNTER_BITS).ok_or(UsedUp(lease))?;
    Ok((base + 1, base + ((1 << COUNTER_BITS) - 1)))
}

/// The first number that is not among `used`: of the lease of that fencing epoch, or of a device without leases.
pub fn next(used: impl IntoIterator<Item = u64>, lease: Option<u64>) -> Result<u64, UsedUp> {
    let used = used.into_iter();
    let Some(lease) = lease else {
        return Ok(used.max().map_or(1, |newest| newest.saturating_add(1)));
    };
    let (first, last) = room(lease)?;
    let newest = used.filter(|n| (first..=last).contains(n)).max();
    match newest {
        None => Ok(first),
        Some(newest) if newest < last => Ok(newest + 1),
        Some(_) => Err(UsedUp(lease)),
    }
}

/// A number that nobody has used yet although a sealer was lost that had begun with `epoch`.
pub fn after_loss(epoch: u64, lease: Option<u64>) -> u64 {
    let left_out = lease.map_or(LOST, |_| LOST_OF_LEASE);
    epoch.saturating_add(left_out)
}

/// Whether a key of this number may be made under the lease; any number, of a device without.
pub fn check(epoch: u64, lease: Option<u64>) -> Result<(), UsedUp> {
    let Some(lease) = lease else { return Ok(()) };
    let (first, last) = room(lease)?;
    match (first..=last).contains(&epoch) {
        true => Ok(()),
        false => Err(UsedUp(lease)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn without_a_lease_numbers_go_on_from_one() {
        assert_eq!(next([], None), Ok(1));
        assert_eq!(next([1, 3, 2], None), Ok(4));
        assert_eq!(next([1, 1 << 40], None), Ok((1 << 40) + 1));
        assert_eq!(check(u64::MAX, None), Ok(()));
    }

    #[test]
    fn a_lease_begins_where_its_fencing_epoch_says_and_ends_before_the_next() {
        assert_eq!(next([1, 2, 3], Some(2)), Ok((2 << 24) + 1));
        assert_eq!(
            next([3, (2 << 24) + 9, (3 << 24) + 1], Some(2)),
            Ok((2 << 24) + 10)
        );
        let last = (3 << 24) - 1;
        assert_eq!(next([last - 1], Some(2)), Ok(last));
        assert_eq!(next([last], Some(2)), Err(UsedUp(2)));
        assert_eq!(check(last, Some(2)), Ok(()));
        assert_eq!(check(last + 1, Some(2)), Err(UsedUp(2)));
        assert_eq!(next([], Some(1 << 40)), Err(UsedUp(1 << 40)));
    }

    /// What happens to a device that several hubs read.
    #[derive(Clone, Debug)]
    enum Step {
        /// A hub gets the lease under a later fencing epoch.
        Lease(usize),
        /// A hub, which may be cut off and know nothing of later leases, begins a key.
        Key(usize),
        /// A hub's sealer is lost, after some keys that nobody knows of.
        Lost(usize, u64),
        /// A hub hears of all keys that the others made.
        Hear(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => (0..3usize).prop_map(Step::Lease),
            4 => (0..3usize).prop_map(Step::Key),
            1 => (0..3usize, 0..9u64).prop_map(|(hub, keys)| Step::Lost(hub, keys)),
            1 => (0..3usize).prop_map(Step::Hear),
        ]
    }

    proptest! {
        /// Whoever reads the device, and whatever each of them knows of the others: no number is given twice.
        #[test]
        fn no_number_is_given_twice(steps in proptest::collection::vec(step(), 1..120)) {
            let mut given: BTreeMap<u64, usize> = BTreeMap::new();
            let mut known = vec![Vec::new(); 3];
            let mut leases: [Option<u64>; 3] = [None; 3];
            let mut running: [Option<u64>; 3] = [None; 3];
            let mut fencing = 0;
            for step in steps {
                match step {
                    Step::Lease(hub) => {
                        fencing += 1;
                        leases[hub] = Some(fencing);
                        running[hub] = None;
                    }
                    Step::Key(hub) => {
                        let Some(lease) = leases[hub] else { continue };
                        let begun = match running[hub] {
                            // The sealer counts by itself.
                            Some(newest) => newest + 1,
                            None => next(known[hub].iter().copied(), Some(lease)).unwrap(),
                        };
                        prop_assert_eq!(check(begun, Some(lease)), Ok(()));
                        prop_assert_eq!(given.insert(begun, hub), None);
                        known[hub].push(begun);
                        running[hub] = Some(begun);
                    }
                    Step::Lost(hub, keys) => {
                        let (Some(lease), Some(newest)) = (leases[hub], running[hub]) else { continue };
                        for unknown in newest + 1..=newest + keys {
                            prop_assert_eq!(given.insert(unknown, hub), None);
                        }
                        let after = after_loss(newest, Some(lease));
                        if check(after, Some(lease)).is_err() {
                            running[hub] = None;
                            leases[hub] = None;
                            continue;
                        }
                        prop_assert_eq!(given.insert(after, hub), None);
                        known[hub].push(after);
                        running[hub] = Some(after);
                    }
                    Step::Hear(hub) => known[hub].extend(given.keys()),
                }
            }
        }
    }
}

//! Connections that have not shown a key yet: few at a time, and who says nothing makes way.
//!
//! A key is shown within milliseconds, so it is the oldest who gives up their place, of the network that
//! has the most: silence from one address keeps nobody else out.

use crate::model::network;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Those who wait at a door.
#[derive(Clone)]
pub(super) struct Strangers {
    most: usize,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// By number, so the oldest comes first: from which network, and what sends them away.
    by_number: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// A place at the door, until it is dropped.
pub(super) struct Place {
    number: u64,
    out: CancellationToken,
    waiting: Arc<Mutex<Waiting>>,
}

impl Strangers {
    /// A door at which at most so many wait.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            waiting: Arc::default(),
        }
    }

    /// A place for who comes from this address, and whether somebody else lost theirs for it.
    pub(super) fn admit(&self, from: IpAddr) -> (Place, bool) {
        let mut waiting = self.waiting.lock();
        let displaced = match waiting.by_number.len() < self.most {
            true => None,
            false => waiting.first_of_the_most(),
        };
        if let Some((_, out)) = displaced.and_then(|number| waiting.by_number.remove(&number)) {
            out.cancel();
        }
        let (number, out) = (waiting.next, CancellationToken::new());
        waiting.next += 1;
        waiting
            .by_number
            .insert(number, (network(from), out.clone()));
        let place = Place {
            number,
            out,
            waiting: self.waiting.clone(),
        };
        (place, displaced.is_some())
    }
}

impl Waiting {
    /// The oldest of the network from which the most wait.
    fn first_of_the_most(&self) -> Option<u64> {
        let mut counts = BTreeMap::<IpAddr, (usize, u64)>::new();
        for (number, (from, _)) in &self.by_number {
            counts.entry(*from).or_insert((0, *number)).0 += 1;
        }
        let most = counts.into_values().max_by_key(|(count, _)| *count);
        most.map(|(_, number)| number)
    }
}

impl Place {
    /// Waits until somebody else needs the place.
    pub(super) async fn lost(&self) {
        self.out.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn the_oldest_of_the_network_with_the_most_makes_way() {
        let door = Strangers::new(4);
        let (first, displaced) = door.admit(host(1));
        assert!(!displaced);
        let others = [2, 2, 3].map(|last| door.admit(host(last)).0);
        let (_new, displaced) = door.admit(host(9));
        assert!(displaced);
        let lost = others.each_ref().map(|place| place.out.is_cancelled());
        assert_eq!(lost, [true, false, false]);
        assert!(!first.out.is_cancelled());
    }

    #[test]
    fn hosts_of_one_ipv6_network_count_as_one() {
        let door = Strangers::new(3);
        let six = |last: &str| format!("2001:db8::{last}").parse().unwrap();
        let (four, _) = door.admit(host(1));
        let sixes = ["1", "2"].map(|last| door.admit(six(last)).0);
        let (_new, displaced) = door.admit(host(2));
        assert!(displaced && sixes[0].out.is_cancelled());
        assert!(!sixes[1].out.is_cancelled() && !four.out.is_cancelled());
    }

    #[test]
    fn who_left_has_no_place() {
        let door = Strangers::new(1);
        let (first, _) = door.admit(host(1));
        drop(first);
        let (second, displaced) = door.admit(host(2));
        assert!(!displaced);
        let (_third, displaced) = door.admit(host(3));
        assert!(displaced && second.out.is_cancelled());
        // Whoever lost their place does not take the next one's with them.
        drop(second);
        assert!(door.admit(host(4)).1);
    }
}

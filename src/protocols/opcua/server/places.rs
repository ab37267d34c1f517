//! The places that connections take: so many in all, and so many from one address. Who asks for nothing
//! loses theirs to who comes.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Who has asked for nothing for this long, and waits for no answer, may be displaced. A subscriber
/// always waits for one.
const IDLE: Duration = Duration::from_secs(10);

/// All places that are taken.
#[derive(Default)]
pub(super) struct Places {
    taken: Mutex<HashMap<u64, Arc<Taken>>>,
    next: AtomicU64,
}

struct Taken {
    address: IpAddr,
    began: Instant,
    /// When something was asked last, in ms since it began.
    asked_at: AtomicU64,
    /// Requests without an answer.
    waiting: AtomicI64,
    /// Its secure channel; 0 before there is one.
    channel: AtomicU32,
    lost: CancellationToken,
}

/// One connection's place.
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    taken: Arc<Taken>,
}

impl Places {
    /// Takes a place `now` for a connection from `address`, where there may be so many in all and so many from
    /// one address; says whether another lost its place for it. `None` when there is none.
    pub(super) fn take(
        places: &Arc<Self>,
        address: IpAddr,
        (most, most_here): (usize, usize),
        now: Instant,
    ) -> Option<(Place, bool)> {
        let address = grouped(address);
        let mut taken = places.taken.lock();
        let from_here = |place: &&Arc<Taken>| place.address == address;
        let here = taken.values().filter(from_here).count();
        let displaced = if here >= most_here {
            Some(longest_idle(taken.values().filter(from_here), now)?)
        } else if taken.len() >= most {
            Some(longest_idle(taken.values(), now)?)
        } else {
            None
        };
        if let Some(place) = &displaced {
            place.lost.cancel();
            taken.retain(|_, other| !Arc::ptr_eq(other, place));
        }
        let id = places.next.fetch_add(1, Ordering::Relaxed);
        let place = Arc::new(Taken {
            address,
            began: now,
            asked_at: AtomicU64::new(0),
            waiting: AtomicI64::new(0),
            channel: AtomicU32::new(0),
            lost: CancellationToken::new(),
        });
        taken.insert(id, place.clone());
        let place = Place {
            places: places.clone(),
            id,
            taken: place,
        };
        Some((place, displaced.is_some()))
    }
}

impl Places {
    /// Takes the place of a channel away.
    pub(super) fn expel(&self, channel: u32) {
        let taken = self.taken.lock();
        let of_channel = |place: &&Arc<Taken>| place.channel.load(Ordering::Relaxed) == channel;
        taken
            .values()
            .filter(of_channel)
            .for_each(|p| p.lost.cancel());
    }
}

fn longest_idle<'a>(
    places: impl Iterator<Item = &'a Arc<Taken>>,
    now: Instant,
) -> Option<Arc<Taken>> {
    let idle = places.filter_map(|place| Some((place.idle(now)?, place)));
    let longest = idle.max_by_key(|(idle, _)| *idle)?;
    Some(longest.1.clone())
}

impl Taken {
    /// For how long it may have been displaced.
    fn idle(&self, now: Instant) -> Option<Duration> {
        let asked_at = Duration::from_millis(self.asked_at.load(Ordering::Relaxed));
        let idle = now.duration_since(self.began).saturating_sub(asked_at);
        let waits = self.waiting.load(Ordering::Relaxed) > 0;
        (!waits && idle >= IDLE).then_some(idle)
    }
}

impl Place {
    /// Something was asked `now`.
    pub(super) fn asked(&self, now: Instant) {
        let asked_at = now.duration_since(self.taken.began).as_millis();
        let asked_at = u64::try_from(asked_at).unwrap_or(u64::MAX);
        self.taken.asked_at.store(asked_at, Ordering::Relaxed);
        self.taken.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// A channel was opened or renewed on it.
    pub(super) fn opened(&self, channel: u32) {
        self.taken.channel.store(channel, Ordering::Relaxed);
    }

    /// How many requests wait for their answers.
    pub(super) fn waiting(&self) -> i64 {
        self.taken.waiting.load(Ordering::Relaxed)
    }

    /// Something was answered.
    pub(super) fn answered(&self) {
        self.taken.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Waits until another has taken it, or it was taken away.
    pub(super) async fn lost(&self) {
        self.taken.lost.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().remove(&self.id);
    }
}

/// An IPv6 host chooses its address in its /64 freely.
fn grouped(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[4..].fill(0);
            IpAddr::V6(Ipv6Addr::from(segments))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: (usize, usize) = (3, 2);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_bounded_and_who_idles_loses_theirs() {
        let places = Arc::new(Places::default());
        let now = Instant::now();
        let take = |from: &str, at| Places::take(&places, address(from), MOST, at);
        let (idle, _) = take("10.0.0.1", now).unwrap();
        let (subscriber, _) = take("10.0.0.1", now).unwrap();
        subscriber.asked(now);
        assert!(take("10.0.0.1", now).is_none(), "nobody idles yet");
        let (other, displaced) = take("10.0.0.2", now).unwrap();
        assert!(!displaced);
        assert!(take("10.0.0.3", now).is_none(), "there is no place at all");

        let later = now + IDLE;
        other.asked(later);
        other.answered();
        let (_third, displaced) = take("10.0.0.1", later).unwrap();
        assert!(displaced && idle.taken.lost.is_cancelled());
        // One waits for an answer, the others asked or came just now.
        assert!(take("10.0.0.3", later).is_none());
        drop(subscriber);
        let (_fourth, displaced) = take("10.0.0.3", later).unwrap();
        assert!(!displaced);
    }

    #[test]
    fn an_ipv6_host_counts_once() {
        let places = Arc::new(Places::default());
        let now = Instant::now();
        let take = |from: &str| Places::take(&places, address(from), MOST, now).map(|p| p.0);
        let _held = [take("2001:db8::1"), take("2001:db8::2")];
        assert!(take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::3").is_some());
    }
}

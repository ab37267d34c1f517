//! Those who have connected and have not yet shown a key: how many there may be, and how many were sent away.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is logged that somebody is sent away: a flood must not fill the log.
const SAID: Duration = Duration::from_secs(10);

/// Who has not yet shown a key.
pub(super) struct Strangers {
    most: usize,
    most_of_one: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// From addresses where no hub is known to be.
    unknown: usize,
    /// By address, those of hubs as well. Nobody is in it who is not connected.
    by_address: BTreeMap<IpAddr, usize>,
    turned_away: BTreeMap<&'static str, u64>,
    said: Option<Instant>,
    unsaid: u64,
}

/// The place of one of them; it is free again when this is dropped.
pub(super) struct Place {
    address: IpAddr,
    unknown: bool,
    state: Arc<Mutex<State>>,
}

impl Strangers {
    /// At most so many from addresses where no hub is, and so many from one address.
    pub(super) fn new((most, most_of_one): (usize, usize)) -> Self {
        Self {
            most,
            most_of_one,
            state: Arc::default(),
        }
    }

    /// Somebody has connected. Where a hub is known to be, only that address counts: a crowd elsewhere does not keep
    /// it out.
    pub(super) fn enter(&self, address: IpAddr, is_host: bool) -> Result<Place, &'static str> {
        let address = address.to_canonical();
        let mut state = self.state.lock();
        if !is_host && state.unknown >= self.most {
            return Err("too many connections");
        }
        let of_it = state.by_address.entry(address).or_default();
        if *of_it >= self.most_of_one {
            return Err("too many connections from one address");
        }
        *of_it += 1;
        state.unknown += usize::from(!is_host);
        Ok(Place {
            address,
            unknown: !is_host,
            state: self.state.clone(),
        })
    }

    /// Somebody was sent away.
    pub(super) fn turn_away(&self, from: IpAddr, why: &'static str) {
        let mut state = self.state.lock();
        let count = state.turned_away.entry(why).or_default();
        *count = count.saturating_add(1);
        state.unsaid = state.unsaid.saturating_add(1);
        if state.said.is_none_or(|said| said.elapsed() >= SAID) {
            let connections = std::mem::take(&mut state.unsaid);
            state.said = Some(Instant::now());
            tracing::warn!(%from, why, connections, "connections to the port for hubs were sent away");
        }
    }

    /// Why, and how many.
    pub(super) fn turned_away(&self) -> Vec<(&'static str, u64)> {
        let state = self.state.lock();
        state
            .turned_away
            .iter()
            .map(|(why, n)| (*why, *n))
            .collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.unknown -= usize::from(self.unknown);
        if let Some(of_it) = state.by_address.get_mut(&self.address) {
            *of_it -= 1;
            if *of_it == 0 {
                state.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_bounded_by_address_and_in_all_and_does_not_keep_hubs_out() {
        let strangers = Strangers::new((3, 2));
        let ip = |last: u8| IpAddr::from([192, 0, 2, last]);
        let first = strangers.enter(ip(1), false).ok().unwrap();
        let _second = strangers.enter(ip(1), false).ok().unwrap();
        let of_one = strangers.enter(ip(1), false).err();
        assert_eq!(of_one, Some("too many connections from one address"));
        let _third = strangers.enter(ip(2), false).ok().unwrap();
        let too_many = strangers.enter(ip(3), false).err();
        assert_eq!(too_many, Some("too many connections"));
        let _hub = strangers.enter(ip(4), true).ok().unwrap();
        drop(first);
        let _again = strangers.enter(ip(3), false).ok().unwrap();
        assert_eq!(strangers.state.lock().by_address.len(), 4);
        drop((_second, _third, _hub, _again));
        let state = strangers.state.lock();
        assert!(state.by_address.is_empty() && state.unknown == 0);
    }
}

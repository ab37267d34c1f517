//! From which address somebody logs in.
//!
//! The stack tells its authenticator neither the connection nor the address, and behind the guard all
//! connections come from loopback. But each connection has a task of its own in the stack, which asks the
//! authenticator at the latest when somebody logs in, and long before as a rule: CreateSession and GetEndpoints
//! ask which tokens are taken. So the guard lets the requests of connections whose tasks are not known yet
//! through one at a time; the task that asks meanwhile is that connection's. Nobody is held up for longer
//! than the stack takes to read a request.

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, Notify};
use tokio::task::Id;

/// Tasks that are remembered, the newest: many more than there are connections.
const MOST: usize = 4_096;

/// Where connections pass one at a time until their tasks are known.
#[derive(Default)]
pub(crate) struct Turnstile {
    passing: AsyncMutex<()>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    current: Option<Arc<Passenger>>,
    addresses: BTreeMap<Id, IpAddr>,
    order: VecDeque<Id>,
}

/// One connection.
pub(super) struct Passenger {
    address: IpAddr,
    known: AtomicBool,
    changed: Notify,
}

impl Passenger {
    pub(super) fn new(address: IpAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            known: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    /// Whether its task is known.
    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// Waits until it is.
    pub(super) async fn is_through(&self) {
        while !self.is_known() {
            self.changed.notified().await;
        }
    }
}

/// The turn of one request; it ends when this is dropped.
pub(super) struct Turn<'a> {
    turnstile: &'a Turnstile,
    _passing: MutexGuard<'a, ()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turnstile.seen.lock().current = None;
    }
}

impl Turnstile {
    /// Waits for the turn of a request of `passenger`.
    pub(super) async fn enter(&self, passenger: &Arc<Passenger>) -> Turn<'_> {
        let passing = self.passing.lock().await;
        self.seen.lock().current = Some(passenger.clone());
        Turn {
            turnstile: self,
            _passing: passing,
        }
    }

    /// The address of the connection whose task asks; `None` outside of one.
    pub(super) fn here(&self) -> Option<IpAddr> {
        let task = tokio::task::try_id()?;
        let mut seen = self.seen.lock();
        if let Some(address) = seen.addresses.get(&task) {
            return Some(*address);
        }
        let passenger = seen.current.take()?;
        if seen.order.len() >= MOST
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.addresses.remove(&oldest);
        }
        seen.order.push_back(task);
        seen.addresses.insert(task, passenger.address);
        passenger.known.store(true, Ordering::Release);
        passenger.changed.notify_one();
        Some(passenger.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test]
    async fn a_task_is_known_by_the_connection_that_passes_when_it_first_asks() {
        let turnstile = Arc::new(Turnstile::default());
        let ask = |turnstile: &Arc<Turnstile>| {
            let turnstile = turnstile.clone();
            tokio::spawn(async move { (turnstile.here(), turnstile.here()) })
        };
        assert_eq!(
            ask(&turnstile).await.unwrap(),
            (None, None),
            "nobody passes"
        );
        let (one, two) = (Passenger::new(at(1)), Passenger::new(at(2)));
        for (passenger, address) in [(&one, at(1)), (&two, at(2))] {
            let turn = turnstile.enter(passenger).await;
            let asked = ask(&turnstile).await.unwrap();
            assert_eq!(asked, (Some(address), Some(address)));
            passenger.is_through().await;
            // Another task that asks in the same turn is not this connection's.
            assert_eq!(ask(&turnstile).await.unwrap(), (None, None));
            drop(turn);
        }
        // A turn that ended without a question says nothing of who asks later.
        let three = Passenger::new(at(3));
        drop(turnstile.enter(&three).await);
        assert_eq!(ask(&turnstile).await.unwrap(), (None, None));
        assert!(!three.is_known());
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let turnstile = Arc::new(Turnstile::default());
        for i in 0..MOST + 10 {
            let passenger = Passenger::new(at((i % 200) as u8));
            let _turn = turnstile.enter(&passenger).await;
            let inside = turnstile.clone();
            tokio::spawn(async move { inside.here() }).await.unwrap();
        }
        let seen = turnstile.seen.lock();
        assert_eq!((seen.addresses.len(), seen.order.len()), (MOST, MOST));
    }
}

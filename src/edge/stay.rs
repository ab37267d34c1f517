//! Which devices a hub takes the batches of, as one connection knows it: a device enters, is in, is asked
//! to enter again, or waits because it was refused. Pure but for its lock.

use super::lane::Lane;
use crate::access::{Nonce, RenewalChallenge};
use crate::live_view::Link;
use crate::model::Peer;
use crate::protocols::edge::wire::{DeviceLink, FromEdge};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use weighbridge_verifier::Signature;

/// A device that a hub refused asks again after so long, then twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The devices of one connection.
pub(super) struct Stays(Mutex<Inner>);

struct Inner {
    stays: BTreeMap<String, Stay>,
    /// Devices that the hub must be told have left.
    left: Vec<String>,
}

struct Stay {
    lane: Arc<Lane>,
    state: State,
    /// How long it waits after the next refusal.
    wait: Duration,
    /// Why it was refused last.
    refused: String,
    /// What the hub was told of the device's connection, and of its buffer.
    told: (Link, Option<(u64, u64)>),
    /// The question that the hub was asked last.
    asked: Option<u64>,
    /// Who the hub was told answers as the device.
    answers: Option<Peer>,
    /// What the hub wanted signed.
    proof: Option<(Nonce, Signature)>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// It enters at this time.
    Out(Instant),
    /// The hub was asked.
    Asked,
    /// Its batches are sent.
    In,
}

impl Stay {
    fn new(lane: &Arc<Lane>, state: State) -> Self {
        Self {
            lane: lane.clone(),
            state,
            wait: FIRST_WAIT,
            refused: String::new(),
            told: (Link::Starting, None),
            asked: None,
            answers: None,
            proof: None,
        }
    }
}

impl Stays {
    /// Of a connection whose greeting names all these.
    pub(super) fn new(lanes: &[Arc<Lane>]) -> Self {
        let stay = |lane: &Arc<Lane>| (lane.live.id.to_string(), Stay::new(lane, State::Asked));
        Self(Mutex::new(Inner {
            stays: lanes.iter().map(stay).collect(),
            left: Vec::new(),
        }))
    }

    /// The configuration has changed: lanes that are gone leave, new ones enter, the others stay.
    pub(super) fn take_over(&self, lanes: &[Arc<Lane>]) {
        let mut inner = self.0.lock();
        let Inner { stays, left } = &mut *inner;
        stays.retain(|device, stay| {
            let stays = lanes.iter().any(|lane| Arc::ptr_eq(lane, &stay.lane));
            if !stays {
                left.push(device.clone());
            }
            stays
        });
        for lane in lanes {
            let stay = || Stay::new(lane, State::Out(Instant::now()));
            stays.entry(lane.live.id.to_string()).or_insert_with(stay);
        }
    }

    /// What the hub is to be told now: who left, who enters, how the connections to devices are, and what
    /// their sources want to know.
    pub(super) fn words(&self, now: Instant) -> Vec<FromEdge> {
        let mut inner = self.0.lock();
        let mut words: Vec<_> = inner.left.drain(..).map(FromEdge::Leave).collect();
        for (device, stay) in &mut inner.stays {
            match stay.state {
                State::Out(at) if at <= now => {
                    stay.state = State::Asked;
                    words.push(FromEdge::Enter(stay.lane.hello()));
                }
                State::In => {
                    let link = stay.lane.live.link();
                    if link != stay.told.0 {
                        let told = tell(&link);
                        words.extend(told.map(|told| FromEdge::Link(device.clone(), told)));
                        stay.told.0 = link;
                    }
                    let answers = stay.lane.known().answers();
                    if answers != stay.answers {
                        let told = answers.clone();
                        words.extend(told.map(|peer| FromEdge::Answers(device.clone(), peer)));
                        stay.answers = answers;
                    }
                    if let Some((nonce, signature)) = stay.proof.take() {
                        words.push(FromEdge::Proof(device.clone(), nonce, signature));
                    }
                    if let Some((number, uncounted)) = stay.lane.question()
                        && stay.asked != Some(number)
                    {
                        stay.asked = Some(number);
                        words.push(FromEdge::Newest(number, device.clone(), uncounted));
                    }
                }
                State::Out(_) | State::Asked => {}
            }
        }
        words
    }

    /// What waits in the buffers, where that is news.
    pub(super) fn backlogs(&self) -> Vec<FromEdge> {
        let mut inner = self.0.lock();
        let mut news = Vec::new();
        for (device, stay) in &mut inner.stays {
            let backlog = stay.lane.backlog();
            if stay.state == State::In && stay.told.1 != Some(backlog) {
                stay.told.1 = Some(backlog);
                news.push(FromEdge::Backlog(device.clone(), backlog.0, backlog.1));
            }
        }
        news
    }

    /// The lanes whose batches are sent.
    pub(super) fn open(&self) -> Vec<Arc<Lane>> {
        let inner = self.0.lock();
        let stays = inner.stays.values().filter(|s| s.state == State::In);
        stays.map(|s| s.lane.clone()).collect()
    }

    /// The lane of a device.
    pub(super) fn lane(&self, device: &str) -> Option<Arc<Lane>> {
        self.0.lock().stays.get(device).map(|s| s.lane.clone())
    }

    /// Signs what the hub wants signed for a device that is in.
    pub(super) fn prove(&self, challenge: &RenewalChallenge) {
        let mut inner = self.0.lock();
        let stay = inner.stays.get_mut(&challenge.device);
        if let Some(stay) = stay.filter(|stay| stay.state == State::In) {
            stay.proof = stay.lane.prove(challenge);
        }
    }

    /// The lane of a device that is in.
    pub(super) fn open_lane(&self, device: &str) -> Option<Arc<Lane>> {
        let inner = self.0.lock();
        let stay = inner.stays.get(device).filter(|s| s.state == State::In);
        stay.map(|s| s.lane.clone())
    }

    /// The hub takes the batches of `lane`.
    pub(super) fn comes_in(&self, device: &str, lane: &Arc<Lane>) {
        let mut inner = self.0.lock();
        if let Some(stay) = inner.stays.get_mut(device)
            && Arc::ptr_eq(&stay.lane, lane)
            // An answer to what was said before it left: the hub has still to be asked.
            && !matches!(stay.state, State::Out(_))
        {
            *stay = Stay::new(lane, State::In);
        }
    }

    /// The hub does not, and why; whether that is news.
    pub(super) fn is_refused(&self, device: &str, reason: &str) -> bool {
        let mut inner = self.0.lock();
        let Some(stay) = inner.stays.get_mut(device) else {
            return false;
        };
        stay.state = State::Out(Instant::now() + stay.wait);
        stay.wait = (stay.wait * 2).min(LONGEST_WAIT);
        let news = stay.refused != reason;
        reason.clone_into(&mut stay.refused);
        news
    }

    /// The hub wants to be asked again, now.
    pub(super) fn again(&self, device: &str) {
        let mut inner = self.0.lock();
        if let Some(stay) = inner.stays.get_mut(device) {
            stay.state = State::Out(Instant::now());
            stay.wait = FIRST_WAIT;
        }
    }
}

fn tell(link: &Link) -> Option<DeviceLink> {
    match link {
        Link::Starting => None,
        Link::Up => Some(DeviceLink::Up),
        Link::Down(trouble) => Some(DeviceLink::Down(trouble.in_short())),
    }
}

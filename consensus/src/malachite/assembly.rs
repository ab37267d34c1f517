//! Values come in parts. Here they are put together again, with bounds on what anybody can make this hub
//! hold: so many values at once from one peer, so many bytes of each, and only for heights that are near.

use super::context::{Address, Part};
use arc_malachitebft_app::engine::util::streaming::StreamContent;
use arc_malachitebft_app::types::PeerId;
use arc_malachitebft_app::types::streaming::StreamMessage;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;

/// Most values that one peer can be in the middle of.
const MAX_OPEN: usize = 4;
/// How many heights beyond the next one a value may be for.
pub const AHEAD: u64 = 4;

/// A value whose parts are all here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// For which height.
    pub height: u64,
    /// In which round.
    pub round: u32,
    /// Who is said to have made it. Nobody has signed that; what counts is the signed proposal.
    pub proposer: Address,
    /// Its bytes.
    pub bytes: Bytes,
}

#[derive(Debug, Default)]
struct Stream {
    start: Option<Start>,
    parts: BTreeMap<u64, Bytes>,
    length: usize,
    end: Option<u64>,
}

#[derive(Debug)]
struct Start {
    height: u64,
    round: u32,
    proposer: Address,
    length: usize,
}

/// Everything that is in the middle of coming.
#[derive(Debug)]
pub struct Assembly {
    max_value: usize,
    streams: BTreeMap<(PeerId, Bytes), Stream>,
}

impl Assembly {
    /// For values of at most so many bytes.
    pub fn new(max_value: usize) -> Self {
        Self {
            max_value,
            streams: BTreeMap::new(),
        }
    }

    /// Takes a part that `from` published, with the chain at `tip`; gives the value when this was the
    /// last one that was missing. What breaks a bound is forgotten, with all that came before it.
    pub fn add(
        &mut self,
        tip: u64,
        from: PeerId,
        message: StreamMessage<Part>,
    ) -> Option<Assembled> {
        let key = (from, message.stream_id.to_bytes());
        let new = !self.streams.contains_key(&key);
        if new
            && self
                .streams
                .keys()
                .filter(|(peer, _)| *peer == from)
                .count()
                >= MAX_OPEN
        {
            self.forget_oldest(from);
        }
        let stream = self.streams.entry(key.clone()).or_default();
        let taken = stream.take(tip, self.max_value, message);
        if !taken {
            self.streams.remove(&key);
            return None;
        }
        match stream.is_complete() {
            true => self.streams.remove(&key)?.finish(),
            false => None,
        }
    }

    /// A peer that begins another value without having ended as many as it may will not end the one of
    /// the lowest height any more.
    fn forget_oldest(&mut self, from: PeerId) {
        let height = |stream: &Stream| stream.start.as_ref().map_or(0, |start| start.height);
        let of_peer = self.streams.iter().filter(|((peer, _), _)| *peer == from);
        let oldest = of_peer.min_by_key(|(_, stream)| height(stream));
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.streams.remove(&key);
        }
    }

    /// Lets go of what comes too late.
    pub fn decided(&mut self, height: u64) {
        self.streams.retain(|_, stream| {
            let start = stream.start.as_ref();
            start.is_none_or(|start| start.height > height)
        });
    }
}

impl Stream {
    fn take(&mut self, tip: u64, max_value: usize, message: StreamMessage<Part>) -> bool {
        match message.content {
            StreamContent::Fin => {
                let first = self.end.is_none();
                self.end = Some(message.sequence);
                first
            }
            StreamContent::Data(Part::Start {
                height,
                round,
                proposer,
                length,
            }) => {
                let near = height > tip && height - tip <= 1 + AHEAD;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let first = self.start.is_none() && message.sequence == 0;
                self.start = Some(Start {
                    height,
                    round,
                    proposer,
                    length,
                });
                near && first && length <= max_value && self.length <= length
            }
            StreamContent::Data(Part::Bytes(bytes)) => {
                self.length = self.length.saturating_add(bytes.len());
                let most = self.start.as_ref().map_or(max_value, |start| start.length);
                // Empty parts would cost memory without ever reaching a length.
                let fits = self.length <= most && !bytes.is_empty() && message.sequence > 0;
                fits && self.parts.insert(message.sequence, bytes).is_none()
            }
        }
    }

    fn is_complete(&self) -> bool {
        let (Some(start), Some(end)) = (&self.start, self.end) else {
            return false;
        };
        let parts = self.parts.len() as u64;
        end == parts + 1 && self.length == start.length
    }

    fn finish(self) -> Option<Assembled> {
        let start = self.start?;
        let mut whole = BytesMut::with_capacity(self.length);
        // Sequences 1 to n, each once: `n` of them, and none behind the end.
        for (expected, (sequence, bytes)) in (1..).zip(self.parts) {
            if sequence != expected {
                return None;
            }
            whole.extend_from_slice(&bytes);
        }
        Some(Assembled {
            height: start.height,
            round: start.round,
            proposer: start.proposer,
            bytes: whole.freeze(),
        })
    }
}

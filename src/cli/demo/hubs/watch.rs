//! What a hub says of itself when it is asked over HTTP.

use super::Event;
use crate::cli::http_get::get_json;
use crate::cli::hubs::{CLUSTER, Place};
use serde_json::Value as Json;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// How often a hub is asked.
const EVERY: Duration = Duration::from_millis(500);
/// Blocks that are asked for.
const BLOCKS: usize = 8;

/// How a hub is; nothing when it does not answer.
pub(super) struct Polled {
    pub(super) hub: usize,
    pub(super) cluster: Option<Json>,
    /// Its newest blocks, newest first.
    pub(super) blocks: Vec<Json>,
}

/// Asks a hub again and again, on a thread of its own, as long as somebody listens.
pub(super) fn poll((hub, places): (usize, &[Place]), events: SyncSender<Event>) {
    let Some(url) = places.get(hub).map(|place| place.url.clone()) else {
        return;
    };
    std::thread::spawn(move || {
        loop {
            let cluster = get_json(&url, CLUSTER, &[]).ok();
            let limit = [("limit", BLOCKS.to_string())];
            let blocks = cluster
                .is_some()
                .then(|| get_json(&url, "/api/v1/blocks", &limit));
            let blocks = blocks.and_then(Result::ok);
            let blocks = blocks.and_then(|blocks| blocks.get("blocks")?.as_array().cloned());
            let polled = Polled {
                hub,
                cluster,
                blocks: blocks.unwrap_or_default(),
            };
            if events.send(Event::Polled(polled)).is_err() {
                return;
            }
            std::thread::sleep(EVERY);
        }
    });
}

//! The first hub lets the others in, one after the other: whoever is in votes for who comes next, as `weighbridge
//! cluster admit` does.

use super::{CLUSTER, Place};
use crate::cli::http_get::{get_json, post};
use anyhow::{Context, bail};
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant};

/// Where votes are given.
const VOTES: &str = "/api/v1/cluster/votes";
/// How long a hub may take from its first vote to being up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// Has the hubs vote until all of them decide together; all must have been started. `told` hears of each that is in.
/// Blocking.
pub(in crate::cli) fn let_in(places: &[Place], mut told: impl FnMut(&Place)) -> anyhow::Result<()> {
    let first = places.first().context("there is no hub")?;
    wait_for(first, |_| true)?;
    for (number, place) in places.iter().enumerate().skip(1) {
        let until = Instant::now() + PATIENCE;
        let has_it = |hubs: &Json| is_member(hubs, &place.id);
        let mut voters = places.iter().take(number).cycle();
        while !get_json(&first.url, CLUSTER, &[]).is_ok_and(|hubs| has_it(&hubs)) {
            if Instant::now() > until {
                bail!(
                    "{} was not let in within {} s: see {}",
                    place.id,
                    PATIENCE.as_secs(),
                    first.dir.join("hub.log").display()
                );
            }
            let Some(voter) = voters.next() else { break };
            if vote(voter, place).is_err() {
                std::thread::sleep(AGAIN);
            }
        }
        // It votes on whoever is next.
        wait_for(place, has_it)?;
        told(place);
    }
    Ok(())
}

/// Gives the vote of a hub for `place`. Whether it counts is for the chain to say.
fn vote(voter: &Place, place: &Place) -> anyhow::Result<()> {
    let known = get_json(&voter.url, CLUSTER, &[])?;
    if is_member(&known, &place.id) || has_voted(&known, &voter.id, &place.id) {
        bail!("it has voted, and waits for others");
    }
    let vote = json!({
        "hub": place.id, "key": place.key, "change": "admit", "faults": "byzantine",
    });
    match post(&voter.url, VOTES, &vote)? {
        (200, _) => Ok(()),
        (status, said) => bail!("{status}: {said}"),
    }
}

fn is_member(hubs: &Json, id: &str) -> bool {
    let hubs = hubs["hubs"].as_array().into_iter().flatten();
    let mut members = hubs.filter(|hub| hub["member"] == true);
    members.any(|hub| hub["id"] == id)
}

fn has_voted(hubs: &Json, voter: &str, about: &str) -> bool {
    let votes = hubs["votes"].as_array().into_iter().flatten();
    let mut about = votes.filter(|vote| vote["hub"] == about);
    about.any(|vote| {
        vote["by"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|by| by == voter)
    })
}

/// Waits until a hub answers, and answers so.
fn wait_for(place: &Place, is_so: impl Fn(&Json) -> bool) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match get_json(&place.url, CLUSTER, &[]) {
            Ok(hubs) if is_so(&hubs) => return Ok(()),
            _ if Instant::now() > until => bail!(
                "{} did not come up within {} s: see {}",
                place.id,
                PATIENCE.as_secs(),
                place.dir.join("hub.log").display()
            ),
            _ => std::thread::sleep(AGAIN),
        }
    }
}

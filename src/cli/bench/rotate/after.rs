//! What is looked at when everything has stopped: the ledger, what was handed out before, and the samples.

use super::site::{MACHINES, Site, machine};
use super::turns::{Held, Phase};
use crate::model::Nanos;
use anyhow::Context;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::Value as Json;

/// What holds, and what does not.
#[derive(Debug, Default, Serialize)]
pub(super) struct Proofs {
    pub(super) checked: u32,
    /// Why, for each that does not hold.
    pub(super) failed: Vec<String>,
}

impl Proofs {
    fn look(&mut self, site: &Site, args: &[&str], bar: &ProgressBar) {
        self.checked += 1;
        if let Err(error) = site.tool(args) {
            self.failed.push(error.to_string());
        }
        bar.inc(1);
    }

    /// Checks the ledger, and all that was handed out before keys were replaced, against the key that the hub
    /// began with.
    pub(super) fn of(
        site: &Site,
        (evidence, held, reader_key): (&str, &[Held], &str),
        bar: &ProgressBar,
    ) -> Self {
        let mut proofs = Self::default();
        let first = site.text("plant/keys/hub.pub");
        let plant = site.text("plant");
        let mut look = |args: &[&str]| proofs.look(site, args, bar);
        look(&["verify", &plant, "--trust", &first]);
        look(&["verify", evidence, "--trust", &first]);
        let (device, again) = (machine(false, 0), site.text("again.evidence.json"));
        look(&["evidence", &device, "--dir", &plant, "-o", &again]);
        look(&["verify", &again, "--trust", &first]);
        let copy = ["--dir", &plant, "--trust", &first];
        look(&[&["reader", "read", &device, "--key", reader_key], &copy[..]].concat());
        for Held { note, sealed } in held {
            look(&["verify", &plant, "--trust", &first, "--checkpoint", note]);
            let (sealed, key) = sealed;
            look(&["reader", "open", sealed, "--key", key, "--trust", &first]);
        }
        proofs
    }
}

/// Finds the longest time between two samples of every machine in each phase.
pub(super) fn sample_gaps(site: &Site, phases: &mut [Phase]) -> anyhow::Result<()> {
    for far in [false, true] {
        for index in 0..MACHINES {
            let device = machine(far, index);
            for phase in &mut *phases {
                let gap = gap(site, ("--dir", &site.text("plant")), &device, phase.span)?;
                phase.sample_gap_ms.insert(device.clone(), gap);
            }
        }
    }
    Ok(())
}

/// The longest time between two samples of a device's tag `pressure` that were recorded in `span`, in ms.
pub(super) fn gap(
    site: &Site,
    (option, of): (&str, &str),
    device: &str,
    (from, to): (Nanos, Nanos),
) -> anyhow::Result<f64> {
    let (begin, end) = (from.to_string(), to.to_string());
    let args = [
        "history", device, "pressure", option, of, "--from", &begin, "--to", &end, "--json",
    ];
    let listed: Json = serde_json::from_str(&site.tool(&args)?)?;
    let samples = listed.get("samples").and_then(Json::as_array);
    let times = samples.context("a history has samples")?.iter();
    let times = times.filter_map(|sample| sample.get("time_ns")?.as_str()?.parse::<Nanos>().ok());
    let (mut longest, mut before) = (0, from);
    for time in times.chain([to]) {
        longest = longest.max(time - before);
        before = time;
    }
    Ok((longest as f64 / 1e5).round() / 10.0)
}

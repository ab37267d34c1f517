//! Showing what a reader has opened, and how far it can be trusted.

use super::Form;
use crate::cli::output::{self, Align, Style};
use crate::ledger::reading::{CopiedSample, Reading, Released};
use crate::model::{Nanos, rfc3339};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use weighbridge_verifier::PublicKey;
use weighbridge_verifier::evidence::Trust;

/// Samples with their tags, and what was checked.
#[derive(Default)]
pub(super) struct Shown {
    device: String,
    hub: Option<(String, PublicKey)>,
    trusted: bool,
    batches: u64,
    closed: u64,
    /// The block with the record of a release.
    released_in: Option<u64>,
    samples: Vec<(String, CopiedSample)>,
}

impl Shown {
    /// Adds what was opened of a page, as far as it is of these tags and this time.
    pub(super) fn add(
        &mut self,
        read: &Reading,
        tags: &[String],
        (from, to): (Nanos, Nanos),
    ) -> anyhow::Result<()> {
        self.device.clone_from(&read.device);
        self.hub.clone_from(&read.hub);
        self.trusted = read.trust == Trust::Key;
        self.batches += read.batches.len() as u64;
        self.closed += read.closed;
        for batch in &read.batches {
            for tag in batch.tags() {
                if !tags.is_empty() && tags.iter().all(|wanted| wanted != tag) {
                    continue;
                }
                let samples = batch.samples(tag)?;
                let inside = samples.iter().filter(|s| (from..to).contains(&s.time));
                let named = inside.map(|sample| (tag.to_owned(), CopiedSample::from(sample)));
                self.samples.extend(named);
            }
        }
        Ok(())
    }

    /// What a release holds.
    pub(super) fn of(opened: Released) -> Self {
        let tags = opened.copied.tags.into_iter();
        let samples =
            tags.flat_map(|tag| tag.samples.into_iter().map(move |s| (tag.tag.clone(), s)));
        Self {
            device: opened.copied.device,
            hub: opened.hub,
            trusted: opened.trust == Trust::Key,
            released_in: Some(opened.height),
            samples: samples.collect(),
            ..Self::default()
        }
    }
}

pub(super) fn show(mut shown: Shown, form: &Form) -> anyhow::Result<()> {
    let time = |sample: &CopiedSample| sample.time_ns.parse::<Nanos>().unwrap_or_default();
    shown.samples.sort_by_key(|(_, sample)| time(sample));
    let text = |value: &Json| match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    if form.json {
        let samples = shown.samples.iter().map(|(tag, sample)| {
            json!({
                "tag": tag, "time": rfc3339(time(sample)), "time_ns": sample.time_ns,
                "value": sample.value, "quality": sample.quality, "status_code": sample.status_code,
            })
        });
        return output::print_json(&json!({
            "device": shown.device,
            "hub": shown.hub.as_ref().map(|(id, _)| id),
            "key": shown.hub.as_ref().map(|(_, key)| key),
            "trusted": shown.trusted,
            "batches": shown.batches,
            "closed": shown.closed,
            "released_in": shown.released_in,
            "samples": samples.collect::<Vec<_>>(),
        }));
    }
    if form.csv {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["time_ns", "time", "tag", "value", "quality", "status_code"])?;
        for (tag, sample) in &shown.samples {
            let (at, code) = (rfc3339(time(sample)), sample.status_code.to_string());
            let value = text(&sample.value);
            writer.write_record([&sample.time_ns, &at, tag, &value, &sample.quality, &code])?;
        }
        output::print(&String::from_utf8(writer.into_inner()?)?)?;
        eprintln!("{}", standing(&shown, Style::stderr()));
        return Ok(());
    }
    let headings = [
        ("time", Align::Left),
        ("tag", Align::Left),
        ("value", Align::Right),
        ("quality", Align::Left),
    ];
    let rows = shown.samples.iter().map(|(tag, sample)| {
        let value = text(&sample.value);
        vec![
            rfc3339(time(sample)),
            tag.clone(),
            value,
            sample.quality.clone(),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let style = Style::stdout();
    output::print(&output::table(style, &headings, &rows))?;
    output::print(&(standing(&shown, style) + "\n"))
}

/// What was checked, and under whose key.
fn standing(shown: &Shown, style: Style) -> String {
    let tags: BTreeSet<_> = shown.samples.iter().map(|(tag, _)| tag).collect();
    let mut text = format!("{} samples of {} tags", shown.samples.len(), tags.len());
    match shown.released_in {
        Some(height) => text += &format!(", released in block {height}"),
        None => text += &format!(", {} batches opened", shown.batches),
    }
    if shown.closed > 0 {
        let closed = format!(
            "; {} batches are under keys that are not yours",
            shown.closed
        );
        text += &style.yellow(&closed);
    }
    if let Some((hub, key)) = &shown.hub {
        text += &match shown.trusted {
            true => style.green(&format!("; every proof holds, under the trusted key of {hub}")),
            false => style.yellow(&format!(
                "; every proof holds, under the key {key} of {hub}, which you did not say that you trust"
            )),
        };
    }
    text
}

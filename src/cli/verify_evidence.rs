//! `weighbridge verify` of an evidence file.

use super::evidence::Counts;
use super::output::{self, Style};
use crate::ledger::evidence::{Evidence, Judge, ProvenBlock, ProvenRecord, ProvenSample, Trust};
use crate::model::rfc3339;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::process::ExitCode;
use weighbridge_verifier::settings::{Origin, origins};
use weighbridge_verifier::succession::{KeyChange, SetChange};
use weighbridge_verifier::{Content, PublicKey, Validator, plain};

/// Samples that are listed for people: `--json` has all.
const LISTED: usize = 20;

pub(super) fn run(bytes: &[u8], trusted: &[PublicKey], json: bool) -> anyhow::Result<ExitCode> {
    let checked = Evidence::from_bytes(bytes).and_then(|evidence| {
        let trust = evidence.verify(trusted)?;
        Ok((evidence, trust))
    });
    let (evidence, trust) = match checked {
        Ok(checked) => checked,
        Err(error) if json => {
            output::print_json(&json!({"clean": false, "reason": error.to_string()}))?;
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => {
            let why = anyhow::Error::msg(plain(&error.to_string()));
            return Err(why.context("the evidence does not hold"));
        }
    };
    match json {
        true => output::print_json(&as_json(&evidence, trust))?,
        false => output::print(&as_text(&evidence, trust))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(evidence: &Evidence, trust: Trust) -> Json {
    let judges = evidence.judges();
    let sample = |(block, record, sample): (&ProvenBlock, &ProvenRecord, &ProvenSample)| {
        let body = &record.record.body;
        let batch = body.batch();
        json!({
            "device": batch.map(|b| &b.device),
            "tag": sample.tag,
            "time": rfc3339(sample.time),
            "time_ns": sample.time.to_string(),
            "value": sample.value,
            "quality": sample.quality.to_string(),
            "verdict": batch.map(|b| b.verdict.class.name()),
            "judged_by": batch.map(|b| b.judged_by),
            "judge": batch.and_then(|b| judges.get(&b.judged_by)).map(judge_json),
            "height": block.header.height,
            "block_hash": block.header.hash(),
            "hub": body.hub,
            "recorded": rfc3339(body.time),
        })
    };
    let counts = Counts::of(evidence);
    let changes = evidence.set_changes();
    json!({
        "clean": true,
        "trust": match trust {
            Trust::Key => "key",
            Trust::SelfConsistentOnly => "self_consistent_only",
        },
        "chain": evidence.blocks.first().map(|b| &b.header.chain),
        "suite": evidence.suite(),
        "genesis": genesis(evidence),
        "key_changes": changes.iter().filter_map(key_change_json).collect::<Vec<_>>(),
        "hub_changes": changes.iter().flat_map(hub_changes_json).collect::<Vec<_>>(),
        "blocks": evidence.blocks.len(),
        "records": counts.records,
        "settings": counts.settings,
        "samples": evidence.samples().map(sample).collect::<Vec<_>>(),
    })
}

/// The hash of the chain's first block, if it is shown.
fn genesis(evidence: &Evidence) -> Option<weighbridge_verifier::Hash> {
    let first = evidence.blocks.first().filter(|_| evidence.from_genesis());
    first.map(|block| block.header.hash())
}

fn key_change_json((height, change): &(u64, SetChange)) -> Option<Json> {
    let SetChange::Key(KeyChange { hub, old, new }) = change else {
        return None;
    };
    Some(json!({"height": height, "hub": hub, "old": old, "new": new}))
}

fn hub_changes_json((height, change): &(u64, SetChange)) -> Vec<Json> {
    let changes = match change {
        SetChange::Key(_) => vec![],
        SetChange::Admitted(hub) => vec![("admitted", hub)],
        SetChange::Dismissed(hub) => vec![("dismissed", hub)],
        SetChange::Replaced { gone, by } => vec![("dismissed", gone), ("admitted", by)],
        SetChange::StandsBy(hub) => vec![("stands_by", hub)],
        SetChange::Unlisted(hub) => vec![("unlisted", hub)],
    };
    let json = |(what, hub): (&str, &Validator)| json!({"height": height, "change": what, "hub": hub.id, "key": hub.key});
    changes.into_iter().map(json).collect()
}

fn change_text((height, change): &(u64, SetChange)) -> String {
    match change {
        SetChange::Key(KeyChange { hub, old, new }) => {
            let hub = plain(hub);
            format!("block {height}: the key of {hub} was {old} and is {new} from then on\n")
        }
        SetChange::Admitted(Validator { id, key }) => {
            let hub = plain(id);
            format!("block {height}: {hub} was let in with the key {key}, and signs from then on\n")
        }
        SetChange::Dismissed(Validator { id, key }) => {
            let hub = plain(id);
            format!("block {height}: {hub} with the key {key} was dismissed\n")
        }
        SetChange::Replaced { gone, by } => format!(
            "block {height}: {} with the key {} was dismissed; {} with the key {}, which stood by, signs from then on\n",
            plain(&gone.id),
            gone.key,
            plain(&by.id),
            by.key,
        ),
        SetChange::StandsBy(Validator { id, key }) => {
            let hub = plain(id);
            format!("block {height}: {hub} with the key {key} stands by from then on\n")
        }
        SetChange::Unlisted(Validator { id, key }) => {
            let hub = plain(id);
            format!("block {height}: {hub} with the key {key} stands by no longer\n")
        }
    }
}

/// The document that judged a batch, and if it is shown in the clear what it was made from.
fn judge_json(judge: &Judge<'_>) -> Json {
    let body = &judge.shown.record.body;
    let version = match &body.content {
        Content::Document(document) => Some(document.version),
        _ => None,
    };
    let origin =
        |o: &Origin| json!({"kind": o.kind, "id": o.id, "version": o.version, "sha256": o.sha256});
    json!({
        "version": version,
        "height": judge.block.header.height,
        "recorded": rfc3339(body.time),
        "made_from": made_from(judge).map(|origins| origins.iter().map(origin).collect::<Vec<_>>()),
    })
}

/// The files that it says it was made from; `None` where it is not shown in the clear, or cannot be read.
fn made_from(judge: &Judge<'_>) -> Option<Vec<Origin>> {
    let opened = judge.shown.opened.as_ref()?;
    origins(&opened.content).ok()
}

/// A line for each document that judged.
fn judges_text(evidence: &Evidence) -> String {
    let judges = evidence.judges();
    let judged = evidence.samples().filter_map(|(_, record, _)| {
        let batch = record.record.body.batch()?;
        Some((&*batch.device, judges.get(&batch.judged_by)?))
    });
    let mut lines: BTreeMap<(u64, u32), String> = BTreeMap::new();
    for (device, judge) in judged {
        let place = (judge.block.header.height, judge.shown.position);
        lines.entry(place).or_insert_with(|| {
            let made_from = made_from(judge).unwrap_or_default();
            let files = made_from.iter();
            let files = files.map(|o| {
                let file = plain(&format!("{} {} {}", o.kind, o.id, o.version));
                format!("\n  from the {file}, SHA-256 {}", o.sha256)
            });
            format!(
                "{} was judged by the settings of block {}, recorded at {}{}\n",
                plain(device),
                place.0,
                rfc3339(judge.shown.record.body.time),
                files.collect::<String>(),
            )
        });
    }
    lines.into_values().collect()
}

fn as_text(evidence: &Evidence, trust: Trust) -> String {
    let style = Style::stdout();
    let mut text = String::new();
    let mut tags: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut last = None;
    for (at, (block, record, sample)) in evidence.samples().enumerate() {
        let body = &record.record.body;
        let (device, verdict) = body
            .batch()
            .map_or(("", ""), |b| (&*b.device, b.verdict.class.name()));
        *tags.entry((device, &sample.tag)).or_default() += 1;
        if at >= LISTED {
            continue;
        }
        let place = (block.header.height, record.position);
        if last.replace(place) != Some(place) {
            let header = &block.header;
            text += &format!(
                "block {} of chain {}, {}\n  judged {verdict}, recorded by {} at {}\n",
                header.height,
                plain(&header.chain),
                header.hash(),
                plain(&body.hub),
                rfc3339(body.time),
            );
        }
        let said = format!("{device}/{} = {}", sample.tag, sample.value);
        text += &format!(
            "  {} ({}) at {}\n",
            plain(&said),
            sample.quality,
            rfc3339(sample.time),
        );
    }
    let counts = Counts::of(evidence);
    if counts.samples > LISTED {
        text += &format!("  and {} more\n", counts.samples - LISTED);
    }
    for ((device, tag), samples) in tags.iter().filter(|_| counts.samples > 1) {
        let name = plain(&format!("{device}/{tag}"));
        text += &format!("{name}: {samples} samples\n");
    }
    text += &format!(
        "{} samples, {} records, {} blocks; settings shown: {}\n",
        counts.samples,
        counts.records,
        evidence.blocks.len(),
        counts.settings
    );
    text += &judges_text(evidence);
    text.extend(evidence.set_changes().iter().map(change_text));
    if let Some(hash) = genesis(evidence) {
        text += &format!("the chain's first block is {hash}\n");
    }
    text += &match trust {
        Trust::Key => style.green("proven, under the trusted key"),
        Trust::SelfConsistentOnly => style.yellow("proven, self-consistent only"),
    };
    text + "\n"
}

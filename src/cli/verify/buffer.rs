//! Buffers on disk: an edge node's batches and a hub's blocks that wait, checked without a key.
//!
//! Of each record: its place, its order and its sums; of a batch also the edge node's signature, its number
//! and its device. What is sealed stays sealed.

use crate::cli::output::{self, Style};
use crate::protocols::edge::{Content, Upload};
use crate::store::buffered_puts;
use crate::store::spool::{Audit, Spool, audit};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use weighbridge_verifier::PublicKey;

/// A buffer that was checked.
pub(super) struct Checked {
    pub(super) dir: PathBuf,
    pub(super) audit: Audit,
    /// Of an edge node's: what is in it.
    batches: Option<Batches>,
}

/// The batches in an edge node's buffer.
#[derive(Default)]
struct Batches {
    samples: u64,
    /// Batches whose samples were dropped or lost.
    without_samples: u64,
    /// Who signed them.
    key: Option<PublicKey>,
}

impl Checked {
    pub(super) fn is_clean(&self) -> bool {
        self.audit.damage_count == 0
    }

    pub(super) fn json(&self) -> Json {
        let mut json = json!({"dir": self.dir, "audit": self.audit, "clean": self.is_clean()});
        if let Some(batches) = &self.batches {
            json["samples"] = batches.samples.into();
            json["batches_without_samples"] = batches.without_samples.into();
            json["signed_by"] = json!(batches.key);
        }
        json
    }

    pub(super) fn text(&self, style: Style) -> String {
        let audit = &self.audit;
        let size = output::bytes(audit.bytes as f64);
        let what = match self.batches {
            Some(_) => "batches",
            None => "blocks' commits",
        };
        let (waiting, files) = (audit.waiting, audit.segments);
        let mut text = format!(
            "{}\n  {waiting} {what} wait, in {files} files, {size}\n",
            self.dir.display()
        );
        if let Some(batches) = &self.batches {
            text += &format!("  {} samples", batches.samples);
            if batches.without_samples > 0 {
                let without = batches.without_samples;
                text += &format!(", and {without} batches without theirs");
            }
            if let Some(key) = batches.key {
                text += &format!(", signed by {key}");
            }
            text += "\n";
        }
        if audit.torn > 0 {
            let torn = audit.torn;
            text += &format!("  {torn} bytes at the end were being written, and are cut off\n");
        }
        for damage in &audit.damage {
            let file = damage.file.display();
            let (offset, what) = (damage.offset, &damage.what);
            text += &format!("{} {file}, byte {offset}: {what}\n", style.red("×"));
        }
        let unlisted = audit.damage_count - audit.damage.len() as u64;
        if unlisted > 0 {
            text += &format!("  and {unlisted} more\n");
        }
        text
    }
}

/// The buffers of an edge node in `dir`, which may be its own directory or that of its buffers.
pub(super) fn of_edge(dir: &Path) -> Vec<PathBuf> {
    let lanes = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut lanes: Vec<_> = entries.map(|e| e.path()).collect();
        lanes.retain(|path| path.is_dir() && Spool::is_in(path));
        lanes.sort();
        lanes
    };
    if Spool::is_in(dir) {
        return vec![dir.to_owned()];
    }
    let own = lanes(dir);
    if own.is_empty() {
        lanes(&dir.join("buffer"))
    } else {
        own
    }
}

/// The buffer of the hub whose ledger is in `data`, where `init` lays it out.
pub(super) fn of_hub(data: &Path) -> Option<PathBuf> {
    let beside = data.parent().map(|parent| parent.join("buffer"));
    beside.filter(|dir| Spool::is_in(dir))
}

/// Checks the buffer of one device of an edge node; `trust` must have signed it all, if given.
pub(super) fn check_batches(dir: &Path, trust: Option<&PublicKey>) -> anyhow::Result<Checked> {
    let mut batches = Batches::default();
    let mut series = BTreeMap::new();
    let device = dir.file_name().and_then(|name| name.to_str());
    let device = device.unwrap_or_default().to_owned();
    let found = audit(dir, &mut |index, bytes| {
        let upload = Upload::from_bytes(bytes).map_err(|e| e.to_string())?;
        let key = upload.attestation.key;
        upload.check_signature(&key).map_err(|e| e.to_string())?;
        if let Some(other) = trust.or(batches.key.as_ref()).filter(|k| **k != key) {
            return Err(format!("it is signed by {key}, not by {other}"));
        }
        batches.key.get_or_insert(key);
        if upload.device != device {
            let other = &upload.device;
            return Err(format!("it is a batch of `{other}`, not of `{device}`"));
        }
        // In an epoch every batch's number is as far from its place as the first one's.
        let (epoch, sequence) = (upload.epoch, upload.sequence);
        let base = index.wrapping_sub(sequence);
        if *series.entry(epoch).or_insert(base) != base {
            return Err(format!(
                "its number {epoch}.{sequence} is not that of its place"
            ));
        }
        match upload.content {
            Content::Sealed(_) => batches.samples += u64::from(upload.samples),
            Content::Dropped | Content::Damaged => batches.without_samples += 1,
        }
        Ok(())
    })?;
    Ok(Checked {
        dir: dir.to_owned(),
        audit: found,
        batches: Some(batches),
    })
}

/// Checks the buffer of a hub as a queue of commits; the blocks in them are checked with the ledger.
pub(super) fn check_commits(dir: &Path) -> anyhow::Result<Checked> {
    let audit = audit(dir, &mut |_, bytes| {
        let puts = buffered_puts(bytes);
        puts.map(drop).map_err(|e| e.to_string())
    })?;
    Ok(Checked {
        dir: dir.to_owned(),
        audit,
        batches: None,
    })
}

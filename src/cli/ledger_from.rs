//! Where `blocks` and `records` read: a running hub's HTTP interface, or the directory of a stopped
//! one. Both answer in the same JSON, so what is printed does not depend on where it came from.

use super::data_dir::{data_dir, open_store};
use super::http_get::{HubUrl, get_json};
use crate::api::RecordAt;
use crate::api::views::{BlockView, RecordView};
use crate::crypto::SealingRing;
use crate::ledger::opening::Opener;
use crate::ledger::query::{Explorer, MAX_PAGE, RecordFilter};
use crate::ledger::retention::retired::Retired;
use crate::ledger::store::Store;
use crate::store::ArchiveDir;
use anyhow::{Context, anyhow};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use weighbridge_verifier::Content;

/// Which ledger, and how much of it.
#[derive(Debug, Args)]
pub(super) struct Listing {
    /// A running hub
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL"
    )]
    url: HubUrl,
    /// The directory of a stopped hub, instead of a running one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How many at most, newest first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl Listing {
    /// Blocks below `before`, newest first.
    pub(super) fn blocks(&self, before: Option<u64>) -> anyhow::Result<Json> {
        let Some(dir) = &self.dir else {
            let mut query = vec![("limit", self.limit.to_string())];
            query.extend(before.map(|before| ("before", before.to_string())));
            return get_json(&self.url, "/api/v1/blocks", &query);
        };
        let blocks = explorer(dir)?.blocks(before, self.limit.into())?;
        let next = blocks
            .last()
            .map(|b| b.header.height)
            .filter(|height| *height > 1);
        let blocks: Vec<_> = blocks.iter().map(BlockView::from).collect();
        Ok(json!({ "blocks": blocks, "next": next }))
    }

    /// Records of `device`, or of all, newest first; with the sealing key of the hub in file `key`,
    /// also the details of what users did; with an archive, also what was retired into it.
    pub(super) fn records(
        &self,
        device: Option<&str>,
        key: Option<&Path>,
        archive: Option<&Path>,
    ) -> anyhow::Result<Json> {
        match &self.dir {
            Some(dir) => {
                let mut store = open_store(&data_dir(dir))?;
                if let Some(archive) = archive {
                    store = Arc::new(ArchiveDir::open(archive)?.over(store)?);
                }
                let explorer = Explorer::new(store.clone());
                let retired = Retired::load(&*store)?.bodies();
                let opener = key.map(|key| opener(key, store, &explorer)).transpose()?;
                let found = self.pages(|before, limit| {
                    stored_records((&explorer, opener.as_ref()), before, limit, device)
                })?;
                if archive.is_none() && retired > 1 && found["next"].is_null() {
                    let fate = explorer.fate(retired)?.unwrap_or_default();
                    eprintln!("blocks 2 to {retired} have no records here any more; {fate}");
                }
                Ok(found)
            }
            None => self.pages(|before, limit| {
                let mut query = vec![("limit", limit.to_string())];
                query.extend(before.map(|before| ("before", before.to_owned())));
                query.extend(device.map(|device| ("device", device.to_owned())));
                get_json(&self.url, "/api/v1/records", &query)
            }),
        }
    }

    /// Asks for pages until there are enough records: a search looks through a bounded number of
    /// blocks, and a page may be short and still have a next one.
    fn pages(
        &self,
        mut page: impl FnMut(Option<&str>, usize) -> anyhow::Result<Json>,
    ) -> anyhow::Result<Json> {
        let wanted = usize::from(self.limit);
        let mut records = Vec::new();
        let mut next: Option<String> = None;
        // Hidden where standard error is no terminal.
        let searching = ProgressBar::new_spinner();
        searching.enable_steady_tick(Duration::from_millis(200));
        loop {
            let mut answer = page(next.as_deref(), wanted - records.len())?;
            let found = answer.get_mut("records").and_then(Json::as_array_mut);
            let found = found.ok_or_else(|| anyhow!("the answer has no `records`"))?;
            records.append(found);
            let before = answer.get("next").and_then(Json::as_str);
            let moved = before.is_some() && before != next.as_deref();
            next = before.map(str::to_owned);
            if records.len() >= wanted || !moved {
                break;
            }
            let at = next.as_deref().unwrap_or_default();
            searching.set_message(format!("searching before record {at}"));
        }
        searching.finish_and_clear();
        Ok(json!({ "records": records, "next": next }))
    }
}

fn explorer(dir: &Path) -> anyhow::Result<Explorer> {
    let store = open_store(&data_dir(dir))?;
    Ok(Explorer::new(store))
}

/// Opens what the hub of this ledger sealed, with its key.
fn opener(key: &Path, store: Arc<dyn Store>, explorer: &Explorer) -> anyhow::Result<Opener> {
    let key = SealingRing::load(key)?;
    let genesis = explorer.genesis()?.context("the ledger is empty")?;
    let hub = genesis.header.proposer;
    Ok(Opener::new(store, key, &hub))
}

fn stored_records(
    (explorer, opener): (&Explorer, Option<&Opener>),
    before: Option<&str>,
    limit: usize,
    device: Option<&str>,
) -> anyhow::Result<Json> {
    let before = before.map(place).transpose()?;
    let filter = RecordFilter {
        device: device.map(str::to_owned),
        action: None,
    };
    let page = explorer.records(before, limit.min(MAX_PAGE), &filter)?;
    let view = page.items.iter().map(|item| {
        let (height, position) = item.place;
        let view = RecordView::new(RecordAt { height, position }, &item.record);
        let mut view = serde_json::to_value(view)?;
        if let (Some(opener), Content::Message(message)) = (opener, &item.record.body.content) {
            view["details"] = opener.open_act(&item.record.body.hub, message)?;
        }
        anyhow::Ok(view)
    });
    let records: Vec<Json> = view.collect::<Result<_, _>>()?;
    let next = page.next.map(|(height, at)| format!("{height}-{at}"));
    Ok(json!({ "records": records, "next": next }))
}

/// Reads what `next` was written as: height of a block and position in it, `12-3`.
fn place(text: &str) -> anyhow::Result<(u64, u32)> {
    let (height, position) = text.split_once('-').context("a place is HEIGHT-POSITION")?;
    Ok((height.parse()?, position.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(limit: u16) -> Listing {
        Listing {
            url: "http://127.0.0.1:1".parse().unwrap(),
            dir: None,
            limit,
            json: false,
        }
    }

    #[test]
    fn short_pages_are_followed_until_there_are_enough() {
        let mut asked = Vec::new();
        let answer = listing(3)
            .pages(|before, limit| {
                asked.push((before.map(str::to_owned), limit));
                Ok(match asked.len() {
                    1 => json!({"records": [1], "next": "9-0"}),
                    2 => json!({"records": [], "next": "5-0"}),
                    _ => json!({"records": [2, 3], "next": "4-0"}),
                })
            })
            .unwrap();
        assert_eq!(answer, json!({"records": [1, 2, 3], "next": "4-0"}));
        let second = (Some("9-0".to_owned()), 2);
        let third = (Some("5-0".to_owned()), 2);
        assert_eq!(asked, [(None, 3), second, third]);
    }

    #[test]
    fn the_end_of_the_ledger_ends_the_search_and_so_does_a_place_that_does_not_move() {
        let end = listing(3).pages(|_, _| Ok(json!({"records": [1], "next": null})));
        assert_eq!(end.unwrap()["records"], json!([1]));
        let stuck = listing(3).pages(|_, _| Ok(json!({"records": [], "next": "7-0"})));
        assert_eq!(stuck.unwrap()["records"], json!([]));
        assert!(listing(3).pages(|_, _| Ok(json!({}))).is_err());
    }

    #[test]
    fn a_directory_without_a_ledger_is_said_to_have_none() {
        let dir = tempfile::tempdir().unwrap();
        let error = explorer(dir.path()).err().unwrap().to_string();
        assert!(error.contains("cannot be opened"), "{error}");
    }

    #[test]
    fn places_are_read_back() {
        assert_eq!(place("12-3").unwrap(), (12, 3));
        assert!(place("12").is_err());
    }
}

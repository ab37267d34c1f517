//! Fetching what is sealed, from a hub, a directory or a file, and opening it here.

use super::show::{Shown, show};
use super::{OpenArgs, ReadArgs, ReleaseArgs, save};
use crate::cli::data_dir::{data_dir, open_store};
use crate::cli::http_get::{get_text_as, path, post_as};
use crate::crypto::SealingKey;
use crate::ledger::key_wrap::{read_wrap_key, reader_recipient};
use crate::ledger::query::Explorer;
use crate::ledger::reading::{MAX_BYTES, Release, SealedBundle, Wanted, gather, select};
use crate::ledger::store::{Space, Store};
use crate::model::Nanos;
use anyhow::{Context, bail};
use serde_json::json;
use std::io::Read;
use std::path::Path;

/// What is opened of all time.
const ALL: (Nanos, Nanos) = (Nanos::MIN, Nanos::MAX);

pub(super) fn read(args: &ReadArgs) -> anyhow::Result<()> {
    let key = args.key.load()?;
    let pages = match &args.dir {
        Some(dir) => stored(dir, args, &key)?,
        None => asked(args)?,
    };
    if let Some(file) = &args.save {
        let bytes: Vec<u8> = pages.iter().flat_map(SealedBundle::to_bytes).collect();
        save(file, &bytes)?;
    }
    let mut shown = Shown::default();
    for page in &pages {
        let read = page.open(&key, &args.key.trusted())?;
        shown.add(&read, &args.what.tags, args.what.range())?;
    }
    show(shown, &args.form)
}

/// Of a running hub, page by page.
fn asked(args: &ReadArgs) -> anyhow::Result<Vec<SealedBundle>> {
    let target = path(&["api", "v1", "devices", &args.what.device, "sealed"]);
    let (from, to) = args.what.range();
    let token = args.hub.token()?;
    let token = token.as_deref().map(String::as_str);
    let mut pages: Vec<SealedBundle> = Vec::new();
    loop {
        let mut query = vec![("from", from.to_string()), ("to", to.to_string())];
        let after = pages.last().and_then(|page| page.next);
        query.extend(after.map(|(epoch, n)| ("after", format!("{epoch}.{n}"))));
        let text = get_text_as(&args.hub.url, &target, &query, token)?;
        let page = SealedBundle::from_bytes(text.as_bytes())?;
        let ends = page.next.is_none() || page.next <= after;
        pages.push(page);
        if ends {
            return Ok(pages);
        }
    }
}

/// Of a stopped hub, or a copy of its directory: whoever holds a key that was granted reads without anybody's leave.
fn stored(dir: &Path, args: &ReadArgs, key: &SealingKey) -> anyhow::Result<Vec<SealedBundle>> {
    let store = open_store(&data_dir(dir))?;
    let explorer = Explorer::new(store.clone());
    let recipient = recipient(&*store, key)?;
    let mut pages: Vec<SealedBundle> = Vec::new();
    loop {
        let wanted = Wanted {
            device: &args.what.device,
            recipient: &recipient,
            range: args.what.range(),
            spans: &[ALL],
            after: pages.last().and_then(|page| page.next),
        };
        let page = gather(&*store, &explorer, &wanted, &select(&*store, &wanted)?)?;
        let ends = page.next.is_none();
        pages.push(page);
        if ends {
            return Ok(pages);
        }
    }
}

/// To whom wraps of this key are in the store.
fn recipient(store: &dyn Store, key: &SealingKey) -> anyhow::Result<String> {
    let digits = reader_recipient("", &key.public().compressed());
    for entry in store.scan(Space::Keys, &[]) {
        let (at, value) = entry?;
        let name = read_wrap_key(&at).map(|(_, _, name)| name);
        if let Some(name) = name.filter(|name| name.ends_with(&digits) && !value.is_empty()) {
            return Ok(name);
        }
    }
    bail!("nothing in this directory is wrapped to this key")
}

pub(super) fn release(args: &ReleaseArgs) -> anyhow::Result<()> {
    let key = args.key.load()?;
    let (what, (from, to)) = (&args.what, args.what.range());
    let target = path(&["api", "v1", "devices", &what.device, "release"]);
    let body = json!({"tags": what.tags, "from": from.to_string(), "to": to.to_string()});
    let token = args.hub.token()?;
    let token = token.as_deref().map(String::as_str);
    let answer = post_as(&args.hub.url, &target, &body, token)?;
    let released = Release::from_bytes(answer.as_bytes())?;
    if let Some(file) = &args.save {
        save(file, &released.to_bytes())?;
    }
    let opened = released.open(&key, &args.key.trusted())?;
    show(Shown::of(opened), &args.form)
}

pub(super) fn open(args: &OpenArgs) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    std::fs::File::open(&args.file)
        .and_then(|file| file.take(16 * MAX_BYTES as u64).read_to_end(&mut bytes))
        .with_context(|| format!("{} cannot be read", args.file.display()))?;
    let (key, trusted) = (args.key.load()?, args.key.trusted());
    if Release::is_one(&bytes) {
        let opened = Release::from_bytes(&bytes)?.open(&key, &trusted)?;
        return show(Shown::of(opened), &args.form);
    }
    let mut shown = Shown::default();
    // One page a line, as it was fetched.
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let page = SealedBundle::from_bytes(line)?;
        shown.add(&page.open(&key, &trusted)?, &[], page.range)?;
    }
    show(shown, &args.form)
}

//! A stopped hub's ledger with the key that opens it.

use super::data_dir::{data_dir, open_store};
use super::output;
use crate::config;
use crate::crypto::SealingKey;
use crate::hub::HubKeys;
use crate::ledger::history::{PastError, rebuild};
use crate::ledger::opening::Opener;
use crate::ledger::proof;
use crate::ledger::query::Explorer;
use crate::ledger::retention::retired::{Retired, reaches};
use crate::ledger::store::Store;
use crate::model::{Nanos, rfc3339};
use crate::store::ArchiveDir;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weighbridge_verifier::ValidatorSet;

pub(super) struct StoppedHub {
    pub(super) store: Arc<dyn Store>,
    pub(super) explorer: Explorer,
    pub(super) opener: Opener,
    pub(super) validators: ValidatorSet,
    retired: Retired,
}

impl StoppedHub {
    /// The hub in `dir`, or the one that `config` describes; with an archive, also what was archived of a device.
    pub(super) fn open(
        dir: &Path,
        config: Option<&Path>,
        archive: Option<(&Path, &str)>,
    ) -> anyhow::Result<Self> {
        let (data, key) = match config {
            Some(file) => places(file)?,
            None => (data_dir(dir), dir.join("keys").join(HubKeys::SEALING)),
        };
        let mut store: Arc<dyn Store> = Arc::new(open_store(&data)?);
        let retired = Retired::load(&*store)?;
        let key = Arc::new(SealingKey::load(&key)?);
        let explorer = Explorer::new(store.clone());
        let genesis = explorer.genesis()?.context("the ledger is empty")?;
        let validators = proof::genesis_validators(&genesis)
            .context("the ledger does not begin with its hub's enrolment")?;
        let hub = validators.validators.first();
        let hub = hub.context("the ledger names no hub")?;
        let mut explorer = explorer;
        if let Some((archive, device)) = archive {
            let archive = ArchiveDir::open(archive)?;
            if archive.genesis() != genesis.header.hash() {
                bail!(
                    "it is the archive of another ledger, of the chain `{}`",
                    archive.chain()
                );
            }
            let both = Arc::new(archive.over(store)?);
            let opener = Opener::new(both.clone(), key.clone(), &hub.id);
            let closed = both.index(&opener, device)?;
            if closed > 0 {
                eprintln!(
                    "{closed} archived batches of `{device}` cannot be opened: their keys were erased"
                );
            }
            store = both;
            explorer = Explorer::new(store.clone());
        }
        Ok(Self {
            opener: Opener::new(store.clone(), key, &hub.id),
            store,
            explorer,
            validators,
            retired,
        })
    }

    /// What became of what was recorded of a device from `from` on, in plain words, where that was retired.
    pub(super) fn fate(&self, device: &str, from: Nanos) -> Option<String> {
        let reached = reaches(&*self.store, device).ok()?;
        let newest = reached.values().max().copied()?;
        if from > newest {
            return None;
        }
        let mut archives: Vec<&str> = Vec::new();
        for notice in self.retired.notices() {
            if !notice.segments.is_empty() && !archives.contains(&notice.archive.as_str()) {
                archives.push(&notice.archive);
            }
        }
        let until = rfc3339(newest);
        Some(match archives.is_empty() {
            true => format!("samples of `{device}` up to {until} were retired, and not archived"),
            false => format!(
                "samples of `{device}` up to {until} were retired, and are archived: read them with \
                 `--archive {}`",
                archives.join("`, `--archive ")
            ),
        })
    }

    /// The same of what a block recorded.
    pub(super) fn fate_of_block(&self, height: u64) -> Option<String> {
        self.retired.fate(height)
    }

    /// Makes up what is missing of the index of the history.
    pub(super) fn complete_index(&self) -> anyhow::Result<()> {
        let tip = self.explorer.tip_summary()?.height;
        let made_up = || -> Result<(), PastError> {
            let recorded = rebuild::stored(&*self.store, &self.explorer, tip)?;
            if !rebuild::is_complete(&*self.store, recorded)? {
                eprintln!("the index of the history is made up from {tip} blocks");
                let (store, explorer, opener) = (&*self.store, &self.explorer, &self.opener);
                rebuild::rebuild(store, explorer, opener, tip, |_| true)?;
            }
            Ok(())
        };
        Ok(made_up()?)
    }
}

/// Data directory and sealing key of a configuration.
fn places(file: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    match config::load(file) {
        Ok(loaded) => Ok((loaded.config.hub.data, loaded.config.hub.sealing_key)),
        Err(diagnostics) => {
            for diagnostic in &diagnostics {
                eprintln!("{}", diagnostic.render(output::Style::stderr().colour));
            }
            bail!("{} cannot be used", file.display())
        }
    }
}

//! A stopped hub's ledger with the key that opens it.

use super::data_dir::{data_dir, open_store};
use super::output;
use crate::config;
use crate::crypto::SealingRing;
use crate::hub::HubKeys;
use crate::ledger::history::gone::{Gone, Why, gone};
use crate::ledger::history::{PastError, rebuild};
use crate::ledger::opening::Opener;
use crate::ledger::proof;
use crate::ledger::query::Explorer;
use crate::ledger::retention::retired::Retired;
use crate::ledger::store::Store;
use crate::model::Nanos;
use crate::store::ArchiveDir;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) struct StoppedHub {
    pub(super) store: Arc<dyn Store>,
    pub(super) explorer: Explorer,
    pub(super) opener: Opener,
    retired: Retired,
    /// Whether an archive is laid over the store.
    archived: bool,
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
        let mut store = open_store(&data)?;
        let retired = Retired::load(&*store)?;
        let key = SealingRing::load(&key)?;
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
            retired,
            archived: archive.is_some(),
        })
    }

    /// What was taken away of what was recorded of a device from `from` on; without what the archive has of it.
    pub(super) fn gone(&self, device: &str, from: Nanos) -> anyhow::Result<Vec<Gone>> {
        let mut gone = gone(&*self.store, device)?;
        gone.retain(|gone| gone.concerns(from));
        gone.retain(|gone| !self.archived || gone.why == Why::Erased);
        Ok(gone)
    }

    /// What became of what a block recorded, in plain words, where that was retired.
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

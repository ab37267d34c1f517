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
use crate::ledger::store::Store;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weighbridge_verifier::ValidatorSet;

pub(super) struct StoppedHub {
    pub(super) store: Arc<dyn Store>,
    pub(super) explorer: Explorer,
    pub(super) opener: Opener,
    pub(super) validators: ValidatorSet,
}

impl StoppedHub {
    /// The hub in `dir`, or the one that `config` describes.
    pub(super) fn open(dir: &Path, config: Option<&Path>) -> anyhow::Result<Self> {
        let (data, key) = match config {
            Some(file) => places(file)?,
            None => (data_dir(dir), dir.join("keys").join(HubKeys::SEALING)),
        };
        let store: Arc<dyn Store> = Arc::new(open_store(&data)?);
        let key = Arc::new(SealingKey::load(&key)?);
        let explorer = Explorer::new(store.clone());
        let genesis = explorer.genesis()?.context("the ledger is empty")?;
        let validators = proof::genesis_validators(&genesis)
            .context("the ledger does not begin with its hub's enrolment")?;
        let hub = validators.validators.first();
        let hub = hub.context("the ledger names no hub")?;
        Ok(Self {
            opener: Opener::new(store.clone(), key, &hub.id),
            store,
            explorer,
            validators,
        })
    }

    /// Makes up what is missing of the index of the history.
    pub(super) fn complete_index(&self) -> anyhow::Result<()> {
        let tip = self.explorer.tip_summary()?.height;
        let made_up = || -> Result<(), PastError> {
            let recorded = rebuild::stored(&self.explorer, tip)?;
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

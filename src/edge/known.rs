//! Whom an edge node takes for its device: as its hub says, or the first that answered while no hub had said
//! anything yet. Kept beside the device's buffer, so that a start without a hub knows it too.

use super::lane::Lane;
use crate::access::{Binding, DeclaredBinding};
use crate::actors::binding::{Acquaintance, NotMet};
use crate::model::Peer;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file, in the directory of the device's buffer.
const FILE: &str = "known.json";

/// What is known of one device.
pub(super) struct Known {
    file: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    binding: Option<Binding>,
    answers: Option<Peer>,
}

impl Known {
    /// What the file in `dir` says. Blocking.
    pub(super) fn load(dir: &Path) -> io::Result<Self> {
        let file = dir.join(FILE);
        let binding = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            file,
            inner: Mutex::new(Inner {
                binding,
                answers: None,
            }),
        })
    }

    /// From now on the device is known by this. Blocking where that is news.
    pub(super) fn set(&self, binding: Option<Binding>) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if inner.binding == binding {
            return Ok(());
        }
        let text = serde_json::to_vec(&binding).map_err(io::Error::other)?;
        let new = self.file.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.file)?;
        inner.binding = binding;
        Ok(())
    }

    /// Who answers as the device, since it was connected last.
    pub(super) fn answers(&self) -> Option<Peer> {
        self.inner.lock().answers.clone()
    }

    /// Whether `peer`, who answers now, is the device; what is known of it from now on, where that is news.
    fn meet(&self, declared: &DeclaredBinding, peer: &Peer) -> (bool, Met) {
        let mut inner = self.inner.lock();
        let news = inner.answers.as_ref() != Some(peer);
        if news {
            inner.answers = Some(peer.clone());
        }
        (news, Binding::meet(inner.binding.as_ref(), declared, peer))
    }
}

type Met = Result<Option<Binding>, crate::access::Stranger>;

/// Tells the device of a lane from others.
pub(super) struct LaneKnown {
    pub(super) lane: Arc<Lane>,
    pub(super) declared: DeclaredBinding,
}

#[async_trait]
impl Acquaintance for LaneKnown {
    async fn meet(&mut self, peer: &Peer) -> Result<(), NotMet> {
        let device = self.lane.live.id.clone();
        let (news, met) = self.lane.known().meet(&self.declared, peer);
        if news {
            // The hub is told.
            self.lane.wake_uplink();
        }
        match met {
            Ok(None) => Ok(()),
            Ok(binding) => {
                let lane = self.lane.clone();
                let saved = tokio::task::spawn_blocking(move || lane.known().set(binding)).await;
                let saved = saved.unwrap_or_else(|died| Err(io::Error::other(died)));
                saved.map_err(|error| NotMet {
                    plain: "who answers cannot be remembered, so it is not read".to_owned(),
                    exact: error.to_string(),
                })
            }
            Err(stranger) => {
                if news {
                    tracing::error!(%device, %peer, %stranger, "a stranger answers, and is not read");
                }
                Err(NotMet {
                    plain: format!("another machine answers in its place: {stranger}"),
                    exact: format!(
                        "if it was replaced or has moved, at the hub: `weighbridge access bind {device}`"
                    ),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer {
            dialled: "press:502".to_owned(),
            address: ([192, 0, 2, last], 502).into(),
            mac: None,
            key: None,
        }
    }

    #[test]
    fn what_is_known_outlives_the_process_and_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let none = DeclaredBinding::default();
        let known = Known::load(dir.path()).unwrap();
        let (news, met) = known.meet(&none, &peer(7));
        assert!(news);
        known.set(met.unwrap()).unwrap();
        assert_eq!(known.meet(&none, &peer(7)), (false, Ok(None)));
        let again = Known::load(dir.path()).unwrap();
        assert!(again.meet(&none, &peer(8)).1.is_err());
        assert_eq!(again.answers(), Some(peer(8)));
        again.set(None).unwrap();
        let forgotten = Known::load(dir.path()).unwrap();
        assert!(forgotten.meet(&none, &peer(8)).1.is_ok());
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(
            Known::load(dir.path()).is_err(),
            "who it is must not be guessed"
        );
    }
}

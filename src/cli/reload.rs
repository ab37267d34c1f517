//! A configuration that changes while its hub runs: watched, checked, compared, and taken over as far
//! as that can be done without starting again.
//!
//! Only the devices that differ are built anew. A file with a mistake changes nothing, and the log and
//! the status say why. What belongs to the process as a whole (ids, keys, directories, addresses it
//! listens on) is named, and waits for a restart.

use crate::api::{ConfigChange, ConfigStatus, RefusedConfig};
use crate::config::{self, DeviceConfig, Diagnostic, HubConfig, Severity};
use crate::crypto::Identity;
use crate::edge::EdgeNode;
use crate::hub::{Change, DeviceSetup, Hub, NotApplied, OpenFaces, device_info};
use crate::model::{now, rfc3339};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Editors write a file in several steps: nothing is read until it was quiet for so long.
const QUIET: Duration = Duration::from_millis(200);
/// But a file that changes all the time is read after so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most text of a refusal that is kept for the status.
const MOST_TEXT: usize = 20_000;

/// Tells when files have changed.
struct Watch {
    changed: Arc<Notify>,
    /// None where the system cannot watch: then only SIGHUP reloads.
    watcher: Option<RecommendedWatcher>,
    folders: Vec<PathBuf>,
    /// Something changed: when it will have been quiet for long enough, and when it is read whatever
    /// happens.
    due: Option<(Instant, Instant)>,
}

impl Watch {
    fn start() -> Self {
        let changed = Arc::new(Notify::new());
        let tell = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error may mean that something was missed.
            if event.map_or(true, |event| !event.kind.is_access()) {
                tell.notify_one();
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "the configuration cannot be watched, only SIGHUP reloads it");
        });
        Self {
            changed,
            watcher: watcher.ok(),
            folders: Vec::new(),
            due: None,
        }
    }

    /// Watches a folder, not the file: editors replace files.
    fn folder(&mut self, folder: &Path) {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let known = self.folders.iter().any(|known| known == folder);
        let Some(watcher) = self.watcher.as_mut().filter(|_| !known) else {
            return;
        };
        // A folder of profiles need not be there: some are built in.
        if folder.is_dir() {
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => self.folders.push(folder.to_owned()),
                Err(error) => {
                    let folder = folder.display();
                    tracing::warn!(%folder, %error, "the folder cannot be watched");
                }
            }
        }
    }

    /// Watches where an edge node's key is: it may be replaced in its place.
    fn key_of(&mut self, config: &HubConfig) {
        let folder = config.edge.as_ref().and_then(|e| e.signing_key.parent());
        if let Some(folder) = folder {
            self.folder(folder);
        }
    }

    /// Returns when files have changed, and are quiet again. Cancel-safe.
    async fn quiet_change(&mut self) {
        loop {
            let Some((due, latest)) = self.due else {
                self.changed.notified().await;
                let now = Instant::now();
                self.due = Some((now + QUIET, now + PATIENCE));
                continue;
            };
            tokio::select! {
                () = self.changed.notified() => {
                    self.due = Some(((Instant::now() + QUIET).min(latest), latest));
                }
                () = sleep_until(due) => {
                    self.due = None;
                    return;
                }
            }
        }
    }
}

/// What runs with a configuration.
#[derive(Clone, Copy)]
pub(super) enum Running<'a> {
    /// A hub and what it shows.
    Hub(&'a Hub, &'a OpenFaces),
    /// An edge node, and where the state of its configuration is shown.
    Edge(&'a EdgeNode, &'a ConfigStatus),
}

impl<'a> Running<'a> {
    fn status(self) -> &'a ConfigStatus {
        match self {
            Self::Hub(_, faces) => faces.config_status(),
            Self::Edge(_, status) => status,
        }
    }

    /// Makes a change; an error says why nothing was changed.
    async fn apply(self, change: Change) -> Result<Vec<NotApplied>, String> {
        match self {
            Self::Hub(hub, _) => hub.apply(change).await.map_err(|e| e.to_string()),
            Self::Edge(edge, _) => {
                let applied = edge.apply(change.remove, change.put).await;
                applied.map(|()| Vec::new()).map_err(|e| e.to_string())
            }
        }
    }

    /// Has an edge node go over to the key in the file of `config`, if that is another one.
    async fn go_over(self, config: &HubConfig) -> Result<(), String> {
        let (Self::Edge(node, _), Some(edge)) = (self, &config.edge) else {
            return Ok(());
        };
        let (file, id) = (edge.signing_key.clone(), edge.id.clone());
        let loaded = tokio::task::spawn_blocking(move || Identity::load(&file, &id)).await;
        let loaded = loaded.map_err(|e| e.to_string())?;
        let offered = node.offer_key(loaded.map_err(|e| e.to_string())?);
        offered.map_err(|e| e.to_string())
    }

    /// Shows these devices.
    fn show(self, devices: &[DeviceConfig]) {
        if let Self::Hub(hub, faces) = self {
            let infos = devices.iter().map(device_info).collect();
            faces.refresh(infos, &hub.runtime());
        }
    }
}

/// The configuration of a running hub or edge node.
pub(super) struct Reload {
    path: PathBuf,
    /// What the hub runs with.
    running: HubConfig,
    watch: Watch,
    hangup: Hangup,
    /// What was said of the file last, so that it is said once.
    said: Option<String>,
}

/// What differs between two configurations.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    removed: Vec<String>,
    added: Vec<DeviceConfig>,
    changed: Vec<DeviceConfig>,
    untouched: usize,
    /// Other edge nodes are let in than before.
    edges: bool,
    /// Keys that take effect at a start only.
    restart: Vec<String>,
}

impl Reload {
    /// Begins to watch the file that `running` was read from. Called inside the hub's runtime.
    pub(super) fn new(path: &Path, running: HubConfig) -> Self {
        let mut watch = Watch::start();
        watch.folder(path.parent().unwrap_or(Path::new("")));
        watch.folder(&running.hub.profiles);
        watch.key_of(&running);
        Self {
            path: path.to_owned(),
            running,
            watch,
            hangup: Hangup::listen(),
            said: None,
        }
    }

    /// Returns when the file should be read again. Cancel-safe.
    pub(super) async fn wanted(&mut self) {
        tokio::select! {
            () = self.watch.quiet_change() => {}
            () = self.hangup.heard() => {
                tracing::info!("SIGHUP: reading the configuration again");
                self.said = None;
            }
        }
    }

    /// Reads the file and takes over what can be; returns what came of it, for `--json`, if anything.
    pub(super) async fn now(&mut self, running: Running<'_>) -> Option<Json> {
        if let Running::Hub(_, faces) = running {
            faces.settle_users().await;
        }
        let path = self.path.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await;
        let new = match loaded {
            Ok(Ok(loaded)) => loaded.config,
            Ok(Err(found)) => return self.refuse(running, &found),
            Err(panic) => {
                let reason = format!("reading it failed: {panic}");
                let name = self.path.display().to_string();
                let found = [Diagnostic::new(Severity::Error, &name, reason)];
                return self.refuse(running, &found);
            }
        };
        self.watch.folder(&new.hub.profiles);
        self.watch.key_of(&new);
        let difference = difference(&self.running, &new);
        let mut put = Vec::new();
        for device in difference.added.iter().chain(&difference.changed) {
            match DeviceSetup::from_config(device) {
                Ok(setup) => put.push(setup),
                Err(error) => return self.refuse(running, &[self.fault(&error.to_string())]),
            }
        }
        if let Err(error) = running.go_over(&new).await {
            return self.refuse(running, &[self.fault(&error)]);
        }
        let moved = !difference.removed.is_empty() || !put.is_empty() || difference.edges;
        let mut failed = Vec::new();
        if moved {
            let remove = difference.removed.iter().map(|id| id.as_str().into());
            let nodes = new.edges.iter().flat_map(|edges| &edges.nodes);
            let nodes = nodes.map(|node| (node.id.clone(), node.keys()));
            let change = Change {
                remove: remove.collect(),
                put,
                edges: difference.edges.then(|| nodes.collect()),
            };
            match running.apply(change).await {
                Ok(not_applied) => failed = not_applied,
                Err(error) => return self.refuse(running, &[self.fault(&error)]),
            }
        }
        self.take_over(new, &difference, &failed);
        running.show(&self.running.devices);
        for not in &failed {
            let device = &not.device;
            tracing::error!(%device, error = %not.error, "the device is not read");
        }
        self.report(running.status(), &difference, moved)
    }

    /// From now on the hub runs with the devices of `new`; the rest of it waits for a restart.
    fn take_over(&mut self, new: HubConfig, difference: &Difference, failed: &[NotApplied]) {
        let waiting = |id: &str| {
            let key = format!("device.{id}");
            difference.restart.contains(&key)
        };
        let mut devices = Vec::with_capacity(new.devices.len());
        let mut old = std::mem::take(&mut self.running.devices);
        for device in new.devices {
            if waiting(&device.id) {
                let at = old.iter().position(|old| old.id == device.id);
                devices.extend(at.map(|at| old.swap_remove(at)));
            } else if !failed.iter().any(|not| not.device == device.id) {
                devices.push(device);
            }
        }
        self.running.hub.profiles = new.hub.profiles;
        self.running.devices = devices;
        if let Some(running) = &mut self.running.edges {
            running.nodes = new.edges.map(|edges| edges.nodes).unwrap_or_default();
        }
    }

    fn fault(&self, reason: &str) -> Diagnostic {
        Diagnostic::new(Severity::Error, &self.path.display().to_string(), reason)
    }

    /// Says why nothing was changed.
    fn refuse(&mut self, running: Running<'_>, found: &[Diagnostic]) -> Option<Json> {
        let errors: Vec<_> = found
            .iter()
            .filter(|d| d.severity == Severity::Error)
            .collect();
        let mut text: String = errors.iter().map(|d| format!("\n{d}")).collect();
        if self.said.as_ref() == Some(&text) {
            return None;
        }
        self.said = Some(text.clone());
        tracing::error!(
            file = %self.path.display(),
            "the configuration has mistakes and was not taken over, everything goes on as it was\n{text}"
        );
        let first = errors
            .first()
            .map_or(String::new(), |d| match d.position() {
                Some((line, column)) => format!("{}:{line}:{column}: {}", d.file, d.message),
                None => format!("{}: {}", d.file, d.message),
            });
        let mut end = text.len().min(MOST_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        let refused = RefusedConfig {
            time: rfc3339(now()),
            errors: errors.len(),
            first: first.clone(),
            text,
        };
        running
            .status()
            .update(|state| state.refused = Some(refused));
        Some(json!({ "event": "config_refused", "errors": errors.len(), "first": first }))
    }

    /// Says what was changed.
    fn report(
        &mut self,
        status: &ConfigStatus,
        difference: &Difference,
        moved: bool,
    ) -> Option<Json> {
        let restart = &difference.restart;
        let change = moved.then(|| ConfigChange {
            time: rfc3339(now()),
            added: difference.added.len(),
            removed: difference.removed.len(),
            changed: difference.changed.len(),
            untouched: difference.untouched,
        });
        let mut news = moved;
        status.update(|state| {
            news |= state.refused.take().is_some() || state.needs_restart != *restart;
            state.needs_restart.clone_from(restart);
            if change.is_some() {
                state.last_change.clone_from(&change);
            }
        });
        self.said = None;
        if !news {
            return None;
        }
        tracing::info!(
            added = difference.added.len(),
            removed = difference.removed.len(),
            changed = difference.changed.len(),
            untouched = difference.untouched,
            "the configuration was taken over"
        );
        if !restart.is_empty() {
            let keys = restart.join(", ");
            tracing::warn!(keys, "what changed in these takes effect after a restart");
        }
        Some(json!({
            "event": "config",
            "added": difference.added.len(),
            "removed": difference.removed.len(),
            "changed": difference.changed.len(),
            "untouched": difference.untouched,
            "needs_restart": restart,
        }))
    }
}

fn difference(running: &HubConfig, new: &HubConfig) -> Difference {
    let mut difference = Difference {
        edges: nodes(running) != nodes(new) && running.edges.is_some(),
        restart: sections(running, new),
        ..Difference::default()
    };
    // A hub that does not listen for edge nodes cannot take their devices, either.
    let waits = |device: &DeviceConfig| device.edge.is_some() && running.edges.is_none();
    let old: BTreeMap<&str, &DeviceConfig> = running.devices.iter().map(|d| (&*d.id, d)).collect();
    let mut gone = old.clone();
    for device in &new.devices {
        match gone.remove(&*device.id) {
            Some(before) if before == device => difference.untouched += 1,
            _ if waits(device) => difference.restart.push(format!("device.{}", device.id)),
            Some(_) => difference.changed.push(device.clone()),
            None => difference.added.push(device.clone()),
        }
    }
    difference.removed = gone.into_keys().map(str::to_owned).collect();
    difference
}

fn nodes(config: &HubConfig) -> &[config::EdgeNodeConfig] {
    config.edges.as_ref().map_or(&[], |edges| &edges.nodes)
}

/// Keys outside of devices that differ, as `section.key`.
fn sections(running: &HubConfig, new: &HubConfig) -> Vec<String> {
    let table = |config: &HubConfig| {
        let mut config = config.clone();
        config.devices.clear();
        if let (Some(edges), Some(_)) = (&mut config.edges, &running.edges) {
            edges.nodes.clear();
        }
        // The file of an edge node's key is looked into at every reload, too.
        if let (Some(edge), Some(_)) = (&mut config.edge, &running.edge) {
            edge.signing_key = PathBuf::new();
        }
        // Folders of profiles are looked into at every reload.
        config.hub.profiles = PathBuf::new();
        toml::Table::try_from(config).unwrap_or_default()
    };
    let (old, new) = (table(running), table(new));
    let empty = toml::Value::Table(toml::Table::new());
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut keys = Vec::new();
    for name in names {
        let (a, b) = (old.get(name), new.get(name));
        if a == b {
            continue;
        }
        let (a, b) = (a.unwrap_or(&empty), b.unwrap_or(&empty));
        match (a.as_table(), b.as_table()) {
            (Some(a), Some(b)) => {
                let inner: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
                let inner = inner.into_iter().filter(|key| a.get(*key) != b.get(*key));
                keys.extend(inner.map(|key| format!("{name}.{key}")));
            }
            _ => keys.push(name.clone()),
        }
    }
    keys
}

/// SIGHUP, where there is one.
#[cfg(unix)]
struct Hangup(Option<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Hangup {
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self(signal(SignalKind::hangup()).ok())
    }

    async fn heard(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// SIGHUP, where there is one.
#[cfg(not(unix))]
struct Hangup;

#[cfg(not(unix))]
impl Hangup {
    fn listen() -> Self {
        Self
    }

    async fn heard(&mut self) {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> HubConfig {
        let text = format!("[hub]\nid = \"h\"\n{text}");
        match config::parse(&text, "hub.toml") {
            Ok(loaded) => loaded.config,
            Err(found) => panic!(
                "{}",
                found.iter().map(ToString::to_string).collect::<String>()
            ),
        }
    }

    fn device(id: &str, address: u16) -> String {
        format!(
            "[[device]]\nid = \"{id}\"\nmodbus = {{ address = \"192.0.2.1:502\" }}\n\
             [[device.tag]]\nname = \"t\"\nmodbus = {{ holding_register = {address} }}\n"
        )
    }

    #[test]
    fn only_what_differs_is_built_anew() {
        let old = load(&[device("a", 1), device("b", 2), device("c", 3)].concat());
        let new = load(&[device("c", 3), device("b", 20), device("d", 4)].concat());
        let found = difference(&old, &new);
        let ids = |devices: &[DeviceConfig]| -> Vec<String> {
            devices.iter().map(|d| d.id.to_string()).collect()
        };
        assert_eq!(found.removed, ["a"]);
        assert_eq!(
            (ids(&found.added), ids(&found.changed)),
            (vec!["d".into()], vec!["b".into()])
        );
        assert_eq!((found.untouched, found.restart.len()), (1, 0));
        assert_eq!(difference(&old, &old).untouched, 3);
    }

    #[test]
    fn what_waits_for_a_restart_is_named() {
        let old =
            load("profiles = \"p\"\n[ledger]\nmax_records = 8\n[http]\nbind = \"127.0.0.1:1\"");
        let new = load(
            "profiles = \"q\"\ndata = \"d\"\n[ledger]\nchain = \"other\"\nmax_records = 8\n\
             [http]\nbind = \"127.0.0.1:2\"",
        );
        let found = difference(&old, &new);
        assert_eq!(found.restart, ["http.bind", "hub.data", "ledger.chain"]);
    }
}

//! The configuration of a hub: one TOML file, the sum of what the modules ask for.
//!
//! A file is read as a whole even when something in it is wrong: every mistake is taken out and
//! reported, and reading goes on, so that one look shows all of them.

mod around;
mod beside;
mod check;
mod cluster;
mod de;
mod device;
mod diagnostic;
mod edge;
mod explain;
mod mistake;
pub mod profile;
mod reader;
mod reading;
mod retention;
mod sections;
mod source;
mod tree;
mod value;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod cell_tests;

pub use around::files as files_around;
pub use beside::side_by_side;
pub use cluster::{ClusterConfig, ClusterHubConfig, GenesisConfig};
pub use device::{BatchConfig, DeviceConfig, TagConfig};
pub use diagnostic::{Diagnostic, Place, Related, Severity};
pub use edge::{
    BufferConfig, EdgeHubConfig, EdgeNodeConfig, EdgeSection, EdgesConfig, WhenFullConfig,
};
pub use retention::{Age, Interval, RetentionConfig};
pub use sections::{
    HttpConfig, HttpUser, HubSection, LedgerConfig, LogConfig, LogFormat, LogLevel,
};
pub use value::{MAX_ID, MAX_TAG_NAME, PhysicalRange, id_fault};

use crate::access::AccessConfig;
use crate::alarms::AlarmConfig;
use crate::protocols::opcua::OpcUaServerConfig;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::Path;

/// Environment variable with the path of the hub's signing key; it overrides `hub.signing_key`.
pub const SIGNING_KEY_VARIABLE: &str = "WEIGHBRIDGE_SIGNING_KEY";

/// Environment variable with the path of the hub's sealing key; it overrides `hub.sealing_key`.
pub const SEALING_KEY_VARIABLE: &str = "WEIGHBRIDGE_SEALING_KEY";

/// The configuration of the simulated cell.
const CELL: &str = include_str!("../../config/cell.toml");
/// In it, where the devices begin.
const CELL_MARKER: &str = "# --- the devices of the simulated cell ---\n";

/// The devices of the simulated cell on the ports of `weighbridge sim --port-base 15020`, as TOML.
pub fn cell_devices() -> &'static str {
    CELL.split_once(CELL_MARKER)
        .map_or("", |(_, devices)| devices)
}

/// Largest file that is read, in bytes.
pub const MAX_FILE: u64 = 16 << 20;

/// Everything a hub is told.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HubConfig {
    /// Who it is, and where it keeps its things.
    #[serde(default = "unnamed")]
    pub hub: HubSection,
    /// The ledger.
    #[serde(default)]
    pub ledger: LedgerConfig,
    /// REST, metrics and the dashboard.
    #[serde(default)]
    pub http: HttpConfig,
    /// The OPC UA server that SCADA reads.
    #[serde(default)]
    pub opcua_server: OpcUaServerConfig,
    /// The alarms.
    #[serde(default)]
    pub alarms: AlarmConfig,
    /// Permits, and who is cut off.
    #[serde(default)]
    pub access: AccessConfig,
    /// What is said on standard error.
    #[serde(default)]
    pub log: LogConfig,
    /// The edge nodes that upload to this hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgesConfig>,
    /// Where batches wait that cannot go on: at a hub optional, at an edge node always there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<BufferConfig>,
    /// The hubs that the chain is shared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterConfig>,
    /// This is an edge node, not a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeSection>,
    /// The machines.
    #[serde(default, rename = "device")]
    pub devices: Vec<DeviceConfig>,
}

/// Stands in while a file without `[hub]` is read; `check` reports it.
fn unnamed() -> HubSection {
    HubSection::new("unnamed")
}

impl HubConfig {
    /// A hub with this id, without devices, and everything else at its default.
    pub fn new(id: &str) -> Self {
        Self {
            hub: HubSection::new(id),
            ledger: LedgerConfig::default(),
            http: HttpConfig::default(),
            opcua_server: OpcUaServerConfig::default(),
            alarms: AlarmConfig::default(),
            access: AccessConfig::default(),
            log: LogConfig::default(),
            edges: None,
            buffer: None,
            cluster: None,
            edge: None,
            devices: Vec::new(),
        }
    }

    fn resolve(&mut self, base: &Path) {
        self.hub.resolve(base);
        self.ledger.resolve(base);
        self.http.resolve(base, &self.hub.id);
        self.ledger.retention.resolve(base);
        let server = &mut self.opcua_server;
        server.pki_dir = base.join(&server.pki_dir);
        if let Some(folder) = &mut server.user_certificates {
            *folder = base.join(&*folder);
        }
        for user in &mut server.users {
            if let Some(path) = &mut user.password_file {
                *path = base.join(&*path);
            }
        }
        if let Some(buffer) = &mut self.buffer {
            buffer.resolve(base);
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.resolve(base);
        }
        if let Some(edge) = &mut self.edge {
            edge.signing_key = base.join(&edge.signing_key);
            self.buffer.get_or_insert_with(|| {
                let mut buffer = BufferConfig::default();
                buffer.resolve(base);
                buffer
            });
        }
        let data = match &self.buffer {
            Some(buffer) if self.edge.is_some() => buffer.dir.join("learned"),
            _ => self.hub.data.join("learned"),
        };
        self.devices.iter_mut().for_each(|d| d.resolve(base, &data));
    }

    /// Paths of secrets that the environment names; an empty variable counts as none.
    fn override_paths(&mut self, variable: impl Fn(&str) -> Option<OsString>) {
        let set = |name: &str| variable(name).filter(|v| !v.is_empty());
        if let Some(path) = set(SIGNING_KEY_VARIABLE) {
            match &mut self.edge {
                Some(edge) => edge.signing_key = path.into(),
                None => self.hub.signing_key = path.into(),
            }
        }
        if let Some(path) = set(SEALING_KEY_VARIABLE) {
            self.hub.sealing_key = path.into();
        }
        for device in &mut self.devices {
            device.override_paths(set);
        }
    }
}

/// A configuration that a hub can run with.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// It.
    pub config: HubConfig,
    /// What looks like a mistake in it, but is none for certain.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a file; its relative paths then start at the directory it is in.
///
/// The error is everything that was found, in the order of the file: at least one of severity
/// [`Severity::Error`], and the warnings.
pub fn load(path: &Path) -> Result<Loaded, Vec<Diagnostic>> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|reason| {
        let mut d = Diagnostic::new(Severity::Error, &name, reason);
        d.help
            .push("`weighbridge init DIR` writes a configuration that runs".to_owned());
        vec![d]
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut loaded = reader::read(&text, &name, Some(base))?;
    loaded.config.resolve(base);
    loaded.config.override_paths(|name| std::env::var_os(name));
    Ok(loaded)
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |e: std::io::Error| format!("the file cannot be read: {e}");
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_FILE {
        return Err(format!(
            "the file is {length} bytes long; a configuration has at most {MAX_FILE}"
        ));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        format!("the file is not UTF-8 text (from byte {at} on); save it as UTF-8")
    })
}

/// Reads a configuration from `text`; `name` is what diagnostics call it. Paths stay as written, and
/// the profiles are those that are built in.
pub fn parse(text: &str, name: &str) -> Result<Loaded, Vec<Diagnostic>> {
    reader::read(text, name, None)
}

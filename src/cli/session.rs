//! Who this machine's user is logged in as, at which hub: one small file, which only they can read.
//!
//! It is `weighbridge/sessions.json` in the directory for settings (XDG Base Directory: `XDG_CONFIG_HOME`, or
//! `~/.config`), of mode 0600. It holds tokens, which the hub forgets when it restarts, and the authority that the
//! hub's certificate is checked against; never a password.

use super::http_get::HubUrl;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Longest file.
const MAX_FILE: u64 = 1 << 20;
/// The version of the file that is written.
const VERSION: u8 = 1;

/// A session at a hub.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptSession {
    /// Who.
    pub(super) user: String,
    /// What is shown with each request.
    pub(super) token: String,
    /// When it ends at the latest, for people.
    pub(super) expires: String,
    /// The authority of the hub's certificate, in PEM; of hubs that speak TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<String>,
}

impl KeptSession {
    /// Whether somebody is logged in; if not, only the authority is known.
    pub(super) fn is_open(&self) -> bool {
        !self.token.is_empty()
    }
}

/// Prints no token.
impl std::fmt::Debug for KeptSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeptSession({}, until {})", self.user, self.expires)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u8,
    sessions: BTreeMap<String, KeptSession>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            version: VERSION,
            sessions: BTreeMap::new(),
        }
    }
}

/// The file.
pub(super) struct SessionFile {
    path: PathBuf,
}

impl SessionFile {
    /// That of whoever runs this; `None` when nobody knows where their settings are.
    pub(super) fn own() -> Option<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        // A relative path counts as none, as the specification has it.
        let xdg = set("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = || Some(PathBuf::from(set("HOME")?).join(".config"));
        let base = xdg.filter(|path| path.is_absolute()).or_else(home)?;
        Some(Self::at(&base.join("weighbridge/sessions.json")))
    }

    fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// The session at a hub.
    pub(super) fn of(&self, url: &HubUrl) -> anyhow::Result<Option<KeptSession>> {
        Ok(self.read()?.sessions.remove(&url.to_string()))
    }

    /// The hubs at which there are sessions.
    pub(super) fn hubs(&self) -> anyhow::Result<Vec<String>> {
        let kept = self.read()?;
        let open = kept.sessions.iter().filter(|(_, s)| s.is_open());
        Ok(open.map(|(url, _)| url.clone()).collect())
    }

    /// Keeps a session in the place of the one before.
    pub(super) fn keep(&self, url: &HubUrl, session: KeptSession) -> anyhow::Result<()> {
        let mut kept = self.read()?;
        kept.sessions.insert(url.to_string(), session);
        self.write(&kept)
    }

    /// Forgets a session, but not the hub's authority; it, if it was there.
    pub(super) fn forget(&self, url: &HubUrl) -> anyhow::Result<Option<KeptSession>> {
        let mut kept = self.read()?;
        let forgotten = kept.sessions.remove(&url.to_string());
        let Some(forgotten) = forgotten.filter(KeptSession::is_open) else {
            return Ok(None);
        };
        if forgotten.ca.is_some() {
            let authority = KeptSession {
                user: String::new(),
                token: String::new(),
                expires: String::new(),
                ca: forgotten.ca.clone(),
            };
            kept.sessions.insert(url.to_string(), authority);
        }
        self.write(&kept)?;
        Ok(Some(forgotten))
    }

    fn read(&self) -> anyhow::Result<Kept> {
        let shown = self.path.display();
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
            Err(e) => return Err(e).with_context(|| format!("{shown} cannot be read")),
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                bail!("{shown} can be read by others (mode {mode:o}); run `chmod 600 {shown}`");
            }
        }
        if metadata.len() > MAX_FILE {
            bail!("{shown} is longer than {MAX_FILE} bytes; remove it and log in again");
        }
        let text = zeroize::Zeroizing::new(
            fs::read_to_string(&self.path).with_context(|| format!("{shown} cannot be read"))?,
        );
        let kept: Option<Kept> = serde_json::from_str(&text).ok();
        // What stands in it is not repeated: it is secret.
        let kept = kept.filter(|kept| kept.version == VERSION);
        kept.with_context(|| {
            format!("{shown} is not as this version writes it; remove it and log in again")
        })
    }

    fn write(&self, kept: &Kept) -> anyhow::Result<()> {
        let failed = || format!("{} cannot be written", self.path.display());
        if let Some(dir) = self.path.parent() {
            let mut builder = DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(dir).with_context(failed)?;
        }
        let new = self
            .path
            .with_extension(format!("new.{}", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let text = zeroize::Zeroizing::new(serde_json::to_vec_pretty(kept)?);
        let mut file = options.open(&new).with_context(failed)?;
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        let replaced = written.and_then(|()| fs::rename(&new, &self.path));
        if replaced.is_err() {
            let _ = fs::remove_file(&new);
        }
        replaced.with_context(failed)
    }
}

/// The session at a hub, if there is one.
pub(super) fn at(url: &HubUrl) -> anyhow::Result<Option<KeptSession>> {
    match SessionFile::own() {
        Some(file) => file.of(url),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> HubUrl {
        text.parse().unwrap()
    }

    fn session(user: &str) -> KeptSession {
        KeptSession {
            user: user.into(),
            token: format!("token of {user}"),
            expires: "2027-01-01T00:00:00Z".into(),
            ca: None,
        }
    }

    #[test]
    fn sessions_are_kept_for_each_hub_and_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = SessionFile::at(&dir.path().join("config/weighbridge/sessions.json"));
        let (one, two) = (
            url("https://plant.example:8443"),
            url("http://127.0.0.1:8080"),
        );
        assert_eq!(file.of(&one).unwrap(), None);
        assert_eq!(file.forget(&one).unwrap(), None);
        file.keep(&one, session("ann")).unwrap();
        file.keep(&two, session("bob")).unwrap();
        file.keep(&one, session("eve")).unwrap();
        assert_eq!(file.of(&one).unwrap(), Some(session("eve")));
        // Another port, and the same one in plain, are other hubs.
        for other in ["https://plant.example", "http://plant.example:8443"] {
            assert_eq!(file.of(&url(other)).unwrap(), None, "{other}");
        }
        let hubs = ["http://127.0.0.1:8080", "https://plant.example:8443"];
        assert_eq!(file.hubs().unwrap(), hubs);
        assert_eq!(file.forget(&one).unwrap(), Some(session("eve")));
        assert_eq!(file.of(&one).unwrap(), None);
        // The authority need not be given again.
        let mut secure = session("ann");
        secure.ca = Some("PEM".into());
        file.keep(&one, secure.clone()).unwrap();
        assert_eq!(file.forget(&one).unwrap(), Some(secure));
        assert_eq!(file.forget(&one).unwrap(), None);
        let known = file.of(&one).unwrap().unwrap();
        assert_eq!((known.ca.as_deref(), known.is_open()), (Some("PEM"), false));
        assert_eq!(file.hubs().unwrap(), ["http://127.0.0.1:8080"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&file.path), 0o600);
            assert_eq!(mode(file.path.parent().unwrap()), 0o700);
            fs::set_permissions(&file.path, fs::Permissions::from_mode(0o644)).unwrap();
            let error = file.of(&two).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_without_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = SessionFile::at(&dir.path().join("sessions.json"));
        let hub = url("http://127.0.0.1:8080");
        file.keep(&hub, session("bob")).unwrap();
        for spoiled in ["{\"token of bob", "{\"version\": 2, \"sessions\": {}}", ""] {
            fs::write(&file.path, spoiled).unwrap();
            let error = format!("{:#}", file.of(&hub).unwrap_err());
            assert!(
                error.contains("log in again") && !error.contains("token"),
                "{error}"
            );
        }
    }
}

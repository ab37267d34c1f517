//! The credentials of users: one file a user, in a directory that only its owner enters.
//!
//! A file is read anew for every log-in, so that what `weighbridge user` changes holds at once, with or
//! without a running hub. Whoever changes one holds the directory's lock meanwhile: the command line
//! and the hub, which writes down used codes, do not undo each other's changes.

use super::small_file;
use crate::access::credentials::MAX_TEXT;
use crate::access::{Credentials, CredentialsError, user_name};
use crate::crypto::Certificate;
use crate::crypto::certificate::MAX_CERTIFICATE;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The folder of the certificates that users were bound to.
const CERTIFICATES: &str = "certificates";
/// Name of the lock file.
const LOCK_FILE: &str = ".lock";
/// What the files' names end with.
const ENDING: &str = "json";
/// Most users.
pub const MAX_USERS: usize = 10_000;

/// Why credentials cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CredentialStoreError {
    /// A file or the directory.
    #[error("{path} cannot be used: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{path} can be read by others (mode {mode:o}); run `chmod {wanted:o} {path}`", path = path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Those that it should have.
        wanted: u32,
    },
    /// What stands in a file.
    #[error("{path}: {source}", path = path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: CredentialsError,
    },
    /// The name.
    #[error(transparent)]
    Name(CredentialsError),
    /// The user is there already.
    #[error("there is a user {0} already")]
    Taken(String),
    /// There is no such user.
    #[error("there is no user {0}")]
    Unknown(String),
    /// There are too many.
    #[error("there are {MAX_USERS} users already, which is the most")]
    Full,
}

/// The directory.
#[derive(Clone, Debug)]
pub struct CredentialFiles {
    dir: PathBuf,
}

impl CredentialFiles {
    /// Those in `dir`, which need not be there yet.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The credentials of a user; `None` when there are none.
    pub fn load(&self, user: &str) -> Result<Option<Credentials>, CredentialStoreError> {
        // What cannot be a name is nobody's, and never part of a path.
        let Ok(user) = user_name(user) else {
            return Ok(None);
        };
        let path = self.path(user);
        let mut bytes = Zeroizing::new(Vec::new());
        match small_file::read_bounded(&path, MAX_TEXT, &mut bytes) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CredentialStoreError::Io { path, source }),
        }
        private(&path, 0o600)?;
        let text = std::str::from_utf8(&bytes);
        let read = text
            .map_err(|_| CredentialsError::Form("it is not UTF-8".to_owned()))
            .and_then(|text| Credentials::from_json(user, text));
        let read = read.map_err(|source| CredentialStoreError::Content { path, source })?;
        Ok(Some(read))
    }

    /// A user who was not there.
    pub fn add(&self, credentials: &Credentials) -> Result<(), CredentialStoreError> {
        small_file::make_directory(&self.dir, true).map_err(|e| self.io(&self.dir, e))?;
        let _lock = self.lock()?;
        let path = self.path(credentials.name());
        if path.symlink_metadata().is_ok() {
            return Err(CredentialStoreError::Taken(credentials.name().to_owned()));
        }
        if self.names()?.len() >= MAX_USERS {
            return Err(CredentialStoreError::Full);
        }
        self.write(credentials)
    }

    /// Changes the credentials of a user who is there. What `change` refuses is not written.
    pub fn change<T, E: From<CredentialStoreError>>(
        &self,
        user: &str,
        change: impl FnOnce(&mut Credentials) -> Result<T, E>,
    ) -> Result<T, E> {
        let unknown = || CredentialStoreError::Unknown(user.to_owned());
        if !self.dir.is_dir() {
            return Err(unknown().into());
        }
        let _lock = self.lock()?;
        let mut credentials = self.load(user)?.ok_or_else(unknown)?;
        let changed = change(&mut credentials)?;
        self.write(&credentials)?;
        Ok(changed)
    }

    /// Writes down that the code of `step` was used; `false` when it or a later one was used before, by
    /// somebody who was quicker. Nobody is let in before this says `true`.
    pub fn use_step(&self, user: &str, step: u64) -> Result<bool, CredentialStoreError> {
        self.change(user, |credentials| {
            let Some(totp) = credentials.totp.as_mut() else {
                return Ok(false);
            };
            let new = totp.last_step.is_none_or(|last| last < step);
            if new {
                totp.last_step = Some(step);
            }
            Ok(new)
        })
    }

    /// Takes a user's credentials away.
    pub fn remove(&self, user: &str) -> Result<(), CredentialStoreError> {
        let unknown = || CredentialStoreError::Unknown(user.to_owned());
        let user = user_name(user).map_err(|_| unknown())?;
        if !self.dir.is_dir() {
            return Err(unknown());
        }
        let _lock = self.lock()?;
        let path = self.path(user);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(unknown()),
            other => other.map_err(|e| self.io(&path, e))?,
        }
        small_file::sync_directory(&self.dir).map_err(|e| self.io(&self.dir, e))
    }

    /// Keeps a certificate that a user was bound to, for protocols that show no more than the hash of one
    /// (OPC UA). It says nothing of whom it belongs to: the credentials do.
    pub fn keep_certificate(&self, certificate: &Certificate) -> Result<(), CredentialStoreError> {
        let folder = self.dir.join(CERTIFICATES);
        small_file::make_directory(&folder, true).map_err(|e| self.io(&folder, e))?;
        let path = folder.join(format!("{}.der", certificate.fingerprint()));
        small_file::replace(&path, certificate.der(), 0o600).map_err(|e| self.io(&path, e))
    }

    /// The certificates (DER) that are kept.
    pub fn certificates(&self) -> Result<Vec<Vec<u8>>, CredentialStoreError> {
        let folder = self.dir.join(CERTIFICATES);
        let failed = |e| self.io(&folder, e);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut found = Vec::new();
        for entry in entries.take(MAX_USERS) {
            let path = entry.map_err(failed)?.path();
            let mut der = Vec::new();
            if path.extension().is_some_and(|e| e == "der")
                && small_file::read_bounded(&path, MAX_CERTIFICATE, &mut der).map_err(failed)?
            {
                found.push(der);
            }
        }
        Ok(found)
    }

    /// The names of all users, in order.
    pub fn names(&self) -> Result<Vec<String>, CredentialStoreError> {
        let failed = |e| self.io(&self.dir, e);
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if path.extension().is_some_and(|e| e == ENDING)
                && let Some(name) = stem.and_then(|stem| user_name(stem).ok())
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn path(&self, user: &str) -> PathBuf {
        self.dir.join(format!("{user}.{ENDING}"))
    }

    fn write(&self, credentials: &Credentials) -> Result<(), CredentialStoreError> {
        let path = self.path(credentials.name());
        let text = credentials.to_json();
        small_file::replace(&path, text.as_bytes(), 0o600).map_err(|e| self.io(&path, e))
    }

    /// Waits for whoever changes something: a moment.
    fn lock(&self) -> Result<File, CredentialStoreError> {
        private(&self.dir, 0o700)?;
        let path = self.dir.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(|e| self.io(&path, e))?;
        file.lock().map_err(|e| self.io(&path, e))?;
        Ok(file)
    }

    fn io(&self, path: &Path, source: io::Error) -> CredentialStoreError {
        CredentialStoreError::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Refuses what others may read.
fn private(path: &Path, wanted: u32) -> Result<(), CredentialStoreError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata = fs::metadata(path).map_err(|source| CredentialStoreError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = path.to_owned();
            return Err(CredentialStoreError::Open { path, mode, wanted });
        }
    }
    #[cfg(not(unix))]
    let _ = (path, wanted);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Totp;
    use crate::crypto::{PasswordHash, TotpHash, TotpSecret};
    use std::sync::Barrier;

    fn ann() -> Credentials {
        let mut ann = Credentials::new("ann").unwrap();
        ann.password = Some(PasswordHash::with_salt(b"open sesame", &[7; 16]).unwrap());
        let secret = TotpSecret::from_bytes(&[9; 20], TotpHash::Sha1).unwrap();
        ann.totp = Some(Totp {
            secret,
            last_step: None,
        });
        ann
    }

    fn files(dir: &tempfile::TempDir) -> CredentialFiles {
        CredentialFiles::new(&dir.path().join("site/users"))
    }

    #[test]
    fn users_come_change_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        assert_eq!(files.names().unwrap(), [""; 0]);
        assert_eq!(files.load("ann").unwrap(), None);
        files.add(&ann()).unwrap();
        files.add(&Credentials::new("bob").unwrap()).unwrap();
        let taken = files.add(&ann());
        assert!(matches!(taken, Err(CredentialStoreError::Taken(_))));
        assert_eq!(files.names().unwrap(), ["ann", "bob"]);
        assert_eq!(files.load("ann").unwrap(), Some(ann()));
        let changed = |c: &mut Credentials| -> Result<_, CredentialStoreError> {
            Ok(c.password.take().is_some())
        };
        assert!(files.change("ann", changed).unwrap());
        assert_eq!(files.load("ann").unwrap().unwrap().password, None);
        files.remove("ann").unwrap();
        assert_eq!(files.names().unwrap(), ["bob"]);
        for gone in ["ann", "../bob", ""] {
            assert!(matches!(
                files.remove(gone),
                Err(CredentialStoreError::Unknown(_))
            ));
            let refused = files.change(gone, changed);
            assert!(matches!(refused, Err(CredentialStoreError::Unknown(_))));
        }
    }

    #[test]
    fn a_refused_change_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        files.add(&ann()).unwrap();
        let refused: Result<(), _> = files.change("ann", |credentials| {
            credentials.totp = None;
            Err(CredentialStoreError::Full)
        });
        assert!(matches!(refused, Err(CredentialStoreError::Full)));
        assert_eq!(files.load("ann").unwrap(), Some(ann()));
    }

    #[test]
    fn a_name_is_never_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        files.add(&ann()).unwrap();
        fs::write(
            dir.path().join("site/secret.json"),
            ann().to_json().as_bytes(),
        )
        .unwrap();
        for name in [
            "../secret",
            "/etc/passwd",
            "",
            ".",
            "ann/../ann",
            "ANN",
            "ann.json\0",
        ] {
            assert_eq!(files.load(name).unwrap(), None, "{name:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_and_what_others_can_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        files.add(&ann()).unwrap();
        let path = files.path("ann");
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        let set =
            |p: &Path, mode| fs::set_permissions(p, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!((mode(&path), mode(files.dir())), (0o600, 0o700));
        set(&path, 0o640);
        let open = files.load("ann").unwrap_err();
        assert!(matches!(
            open,
            CredentialStoreError::Open { mode: 0o640, .. }
        ));
        set(&path, 0o600);
        set(files.dir(), 0o755);
        let open = files.remove("ann").unwrap_err();
        assert!(matches!(
            open,
            CredentialStoreError::Open {
                mode: 0o755,
                wanted: 0o700,
                ..
            }
        ));
    }

    #[test]
    fn what_is_spoiled_is_said_with_its_file_and_without_its_secret() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        files.add(&ann()).unwrap();
        let text = ann().to_json();
        for cut in [0, 1, text.len() / 2, text.len() - 3] {
            fs::write(files.path("ann"), &text[..cut]).unwrap();
            let error = files.load("ann").unwrap_err().to_string();
            assert!(
                error.contains("ann.json") && !error.contains("argon2"),
                "{error}"
            );
        }
        fs::write(files.path("ann"), vec![b' '; MAX_TEXT + 100]).unwrap();
        assert!(files.load("ann").is_err());
        fs::write(files.path("ann"), [0xff]).unwrap();
        assert!(files.load("ann").is_err());
    }

    #[test]
    fn of_many_who_use_one_code_at_a_time_one_is_let_in() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        files.add(&ann()).unwrap();
        let start = Barrier::new(8);
        let uses = |step| {
            start.wait();
            files.use_step("ann", step).unwrap()
        };
        for step in 1..=5 {
            let let_in = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| uses(step))).collect();
                threads
                    .into_iter()
                    .map(|t| t.join().unwrap())
                    .filter(|in_| *in_)
                    .count()
            });
            assert_eq!(let_in, 1, "step {step}");
        }
        assert!(!files.use_step("ann", 4).unwrap());
        files.add(&Credentials::new("bob").unwrap()).unwrap();
        assert!(!files.use_step("bob", 9).unwrap());
    }
}

//! Private keys as files: PKCS#8 PEM, readable by their owner only.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// No key file is longer.
const LONGEST: usize = 1 << 16;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("the key file {path} cannot be read: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be written.
    #[error("the key file {path} cannot be written: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("the key file {path} can be read by others (mode {mode:o}); run `chmod 600 {path}`")]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds no Ed25519 key.
    #[error("the key file {path} holds no Ed25519 private key in PKCS#8 PEM form")]
    NoEd25519 {
        /// Which.
        path: PathBuf,
    },
    /// It is encrypted, and the passphrase is missing or another.
    #[error("the key file {path} is encrypted, and {what}")]
    Passphrase {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// It holds no public key.
    #[error(
        "{path} holds no P-256 or SM2 public key, neither in PEM form nor as 66 hexadecimal digits"
    )]
    NoPublicKey {
        /// Which.
        path: PathBuf,
    },
    /// It holds a private key where a public one is wanted.
    #[error("{path} holds a private key, and a public one belongs there")]
    Private {
        /// Which.
        path: PathBuf,
    },
    /// It holds no key of either suite.
    #[error("the key file {path} holds no P-256 or SM2 private key in PKCS#8 PEM form")]
    Form {
        /// Which.
        path: PathBuf,
    },
}

/// Writes `pem` to a new file of mode 0600; an existing file is an error.
pub(super) fn write(path: &Path, pem: &str) -> Result<(), KeyFileError> {
    let wrong = |source| KeyFileError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(wrong)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(wrong)?;
    file.write_all(pem.as_bytes()).map_err(wrong)?;
    file.sync_all().map_err(wrong)
}

/// Reads a key file that nobody but its owner may read.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let wrong = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_err(wrong)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = path.to_owned();
            return Err(KeyFileError::Open { path, mode });
        }
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(wrong)
}

/// Where the key that is to take the place of the one in `path` lies.
pub(super) fn next(path: &Path) -> PathBuf {
    beside(path, "next")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// Puts the next key in the place of the one in `path`, and destroys that one.
pub(super) fn replace(path: &Path) -> Result<(), KeyFileError> {
    let wrong = |source| KeyFileError::Write {
        path: path.to_owned(),
        source,
    };
    // A second name, so that the old key can still be overwritten when the new one has its place.
    let old = beside(path, "old");
    match fs::hard_link(path, &old) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(wrong(error)),
        _ => {}
    }
    fs::rename(next(path), path).map_err(wrong)?;
    sync_directory(path)?;
    finish(path)
}

/// Finishes what [`replace`] has left.
pub(super) fn finish(path: &Path) -> Result<(), KeyFileError> {
    let old = beside(path, "old");
    if !old.exists() {
        return Ok(());
    }
    let wrong = |source| KeyFileError::Write {
        path: old.clone(),
        source,
    };
    if next(path).exists() {
        // The key is still in its place: this is the same file.
        fs::remove_file(&old).map_err(wrong)?;
        return sync_directory(path);
    }
    destroy(&old)
}

/// Overwrites a key file and removes it.
pub(super) fn destroy(path: &Path) -> Result<(), KeyFileError> {
    let wrong = |source| KeyFileError::Write {
        path: path.to_owned(),
        source,
    };
    let length = fs::metadata(path).map_err(wrong)?.len();
    let length = usize::try_from(length).unwrap_or(0).min(LONGEST);
    let mut file = OpenOptions::new().write(true).open(path).map_err(wrong)?;
    file.write_all(&vec![0; length]).map_err(wrong)?;
    file.sync_all().map_err(wrong)?;
    fs::remove_file(path).map_err(wrong)?;
    sync_directory(path)
}

/// What was renamed or removed beside `path` stays so.
pub(super) fn sync_directory(path: &Path) -> Result<(), KeyFileError> {
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let synced = fs::File::open(directory).and_then(|dir| dir.sync_all());
    synced.map_err(|source| KeyFileError::Write {
        path: path.to_owned(),
        source,
    })
}

//! Private keys as files: PKCS#8 PEM, readable by their owner only.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

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

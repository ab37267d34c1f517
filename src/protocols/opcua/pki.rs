//! This application's own certificate and key, and the folders of trusted and rejected ones.
//!
//! ```text
//! own/cert.der          our certificate: give it to the other side
//! private/private.pem   our key, mode 0600
//! trusted/              certificates we trust
//! rejected/             unknown ones that knocked; `weighbridge certs trust` lets one in
//! ```

mod in_use;
mod list;

pub use in_use::{own, presented, standing};
pub use list::{
    Certificate, ListError, Place, find, import, list, own_thumbprint, place, reject, renew, trust,
};

use opcua::crypto::{CertificateStore, X509Data};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const CERTIFICATE: &str = "own/cert.der";
const KEY: &str = "private/private.pem";
const TRUSTED: &str = "trusted";
const REJECTED: &str = "rejected";

/// Bits of a key that is made here.
const KEY_BITS: u32 = 2048;
/// Ten years: in a plant nobody renews certificates, and an expired one stops production.
const VALID_DAYS: u32 = 3653;

/// Certificates kept in `rejected`; whoever knocks without being known must not fill the disk.
pub const REJECTED_KEPT: usize = 64;

/// Our certificate and its key, in a certificate folder.
pub fn own_files(folder: &Path) -> Vec<PathBuf> {
    vec![folder.join(CERTIFICATE), folder.join(KEY)]
}

/// Why the certificate folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or folder.
    #[error("the certificate folder cannot be used: {path}: {source}", path = path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No key or certificate could be made.
    #[error("no certificate could be made in {path}: {reason}", path = path.display())]
    Create {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Whom a certificate names.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Common name.
    pub name: String,
    /// The application's URI, which OPC UA compares with what the application says of itself.
    pub application_uri: String,
    /// Host names and addresses by which it is reached.
    pub hosts: Vec<String>,
}

/// Sees to it that `folder` has its sub-folders, a certificate and a key; makes what is missing.
/// Blocking, and takes about a second when a key is made.
pub fn ensure(folder: &Path, subject: &Subject) -> Result<(), PkiError> {
    for name in ["own", "private", TRUSTED, REJECTED] {
        let path = folder.join(name);
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)))
            .map_err(|source| PkiError::Io { path, source })?;
    }
    let certificate = folder.join(CERTIFICATE);
    let key = folder.join(KEY);
    if !(certificate.exists() && key.exists()) {
        create(folder, &certificate, &key, subject)?;
    }
    make_private(&key)
}

fn make_private(key: &Path) -> Result<(), PkiError> {
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).map_err(|source| PkiError::Io {
        path: key.to_owned(),
        source,
    })
}

fn create(
    folder: &Path,
    certificate: &Path,
    key: &Path,
    subject: &Subject,
) -> Result<(), PkiError> {
    let hosts = Some(subject.hosts.clone());
    let data = X509Data {
        key_size: KEY_BITS,
        common_name: subject.name.clone(),
        organization: "Weighbridge".into(),
        organizational_unit: String::new(),
        country: String::new(),
        state: String::new(),
        alt_host_names: X509Data::alt_host_names(
            &subject.application_uri,
            hosts,
            false,
            false,
            false,
        ),
        certificate_duration_days: VALID_DAYS,
    };
    // A half-made pair of an interrupted start is replaced: neither half is of use alone.
    CertificateStore::create_certificate_and_key(&data, true, certificate, key).map_err(
        |reason| PkiError::Create {
            path: folder.to_owned(),
            reason,
        },
    )?;
    // The stack ends the lines of a PEM file with bare carriage returns, which others cannot read.
    fs::read_to_string(key)
        .and_then(|pem| fs::write(key, pem.replace('\r', "\n")))
        .map_err(|source| PkiError::Io {
            path: key.to_owned(),
            source,
        })
}

/// Removes the oldest of the rejected certificates, down to [`REJECTED_KEPT`].
pub fn prune_rejected(folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder.join(REJECTED))? {
        let entry = entry?;
        let modified = entry.metadata()?.modified()?;
        files.push((modified, entry.path()));
    }
    files.sort_unstable_by_key(|(modified, _): &(SystemTime, PathBuf)| *modified);
    let surplus = files.len().saturating_sub(REJECTED_KEPT);
    for (_, path) in files.drain(..surplus) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// This machine's name.
pub fn host_name() -> String {
    X509Data::computer_hostnames()
        .into_iter()
        .next()
        .unwrap_or_else(|| "localhost".into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use opcua::crypto::X509;

    /// A folder with a certificate of its own.
    pub(crate) fn certificate(folder: &Path) -> X509 {
        let subject = Subject {
            name: "Weighbridge".into(),
            application_uri: "urn:weighbridge:test".into(),
            hosts: vec!["hub.example".into(), "127.0.0.1".into()],
        };
        ensure(folder, &subject).unwrap();
        CertificateStore::read_cert(&folder.join(CERTIFICATE)).unwrap()
    }

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let subject = Subject {
            name: "Weighbridge".into(),
            application_uri: "urn:weighbridge:test".into(),
            hosts: vec!["hub.example".into(), "127.0.0.1".into()],
        };
        ensure(dir.path(), &subject).unwrap();
        let key = dir.path().join(KEY);
        let mode = fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let pem = fs::read_to_string(&key).unwrap();
        assert!(pem.lines().count() > 10 && !pem.contains('\r'));
        let read = CertificateStore::read_cert(&dir.path().join(CERTIFICATE)).unwrap();
        read.is_hostname_valid("hub.example").unwrap();
        read.is_hostname_valid("127.0.0.1").unwrap();
        read.is_application_uri_valid("urn:weighbridge:test")
            .unwrap();
        assert_eq!(read.key_length().unwrap(), 2048);

        ensure(dir.path(), &subject).unwrap();
        assert_eq!(fs::read_to_string(&key).unwrap(), pem);
        CertificateStore::read_pkey(&key).unwrap();
    }

    #[test]
    fn rejected_certificates_do_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        let rejected = dir.path().join(REJECTED);
        fs::create_dir(&rejected).unwrap();
        for i in 0..REJECTED_KEPT + 10 {
            fs::write(rejected.join(format!("{i}.der")), b"x").unwrap();
        }
        prune_rejected(dir.path()).unwrap();
        assert_eq!(fs::read_dir(&rejected).unwrap().count(), REJECTED_KEPT);
    }
}

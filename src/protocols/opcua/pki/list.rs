//! The certificates of a folder: which there are, and moving them between trust and distrust.

use super::{CERTIFICATE, KEY, PkiError, REJECTED, Subject, TRUSTED, create};
use crate::model::Nanos;
use opcua::crypto::{CertificateStore, X509};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// Shortest beginning of a thumbprint that names a certificate.
const SHORTEST_PREFIX: usize = 4;

/// What is thought of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It is ours.
    Own,
    /// It is let in.
    Trusted,
    /// It knocked, and is not let in.
    Rejected,
}

impl Place {
    /// As people say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Trusted => "trusted",
            Self::Rejected => "rejected",
        }
    }
}

/// A certificate in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What is thought of it.
    pub place: Place,
    /// Its file.
    pub path: PathBuf,
    /// SHA-1 of the certificate in hexadecimal, as OPC UA names it (OPC 10000-6, 6.7.2.3).
    pub thumbprint: String,
    /// Whom it names, as X.509 writes it.
    pub subject: String,
    /// The name of the application alone; empty when it has none.
    pub common_name: String,
    /// The application's URI; empty when it has none.
    pub application_uri: String,
    /// Host names and addresses.
    pub hosts: Vec<String>,
    /// From when on it is valid.
    pub valid_from: Nanos,
    /// Until when.
    pub valid_until: Nanos,
    /// When its file was written: for a rejected one, when it knocked.
    pub seen: Nanos,
}

impl Certificate {
    /// Days until it expires, counted from `now`; negative when it has.
    pub fn days_left(&self, now: Nanos) -> i64 {
        self.valid_until.saturating_sub(now).div_euclid(DAY)
    }
}

const DAY: Nanos = 86_400_000_000_000;

/// Why a certificate was not moved.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Too short.
    #[error("{0:?} is no thumbprint; give at least {SHORTEST_PREFIX} of its hexadecimal digits")]
    Prefix(String),
    /// None.
    #[error("no certificate in {folder} has a thumbprint that begins with {prefix}; `weighbridge certs list --pki {folder}` shows them", folder = folder.display())]
    Unknown {
        /// Where.
        folder: PathBuf,
        /// What was asked for.
        prefix: String,
    },
    /// Several.
    #[error("{0} begins the thumbprint of more than one certificate; give more of its digits")]
    Ambiguous(String),
    /// Not a certificate.
    #[error("{path} is no certificate: {reason}", path = path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is none yet.
    #[error("there is no certificate in {folder} yet; the hub makes one when it starts", folder = folder.display())]
    NoOwn {
        /// Where.
        folder: PathBuf,
    },
    /// The folder.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// The certificates of a folder, our own first; and files that are none.
pub fn list(folder: &Path) -> Result<(Vec<Certificate>, Vec<PathBuf>), PkiError> {
    let (mut found, mut strange) = (Vec::new(), Vec::new());
    let own = folder.join(CERTIFICATE);
    if own.exists() {
        match read(Place::Own, &own) {
            Ok(certificate) => found.push(certificate),
            Err(_) => strange.push(own),
        }
    }
    for (place, name) in [(Place::Trusted, TRUSTED), (Place::Rejected, REJECTED)] {
        let folder = folder.join(name);
        let failed = |source| PkiError::Io {
            path: folder.clone(),
            source,
        };
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(failed(e)),
        };
        let mut here = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            match read(place, &path) {
                Ok(certificate) => here.push(certificate),
                Err(_) => strange.push(path),
            }
        }
        // The newest first: that is the one people wait for.
        here.sort_by_key(|c| std::cmp::Reverse(c.seen));
        found.extend(here);
    }
    Ok((found, strange))
}

/// What is thought of the certificate of this thumbprint; `None` when it was never seen.
pub fn place(folder: &Path, thumbprint: &str) -> Option<Place> {
    let (found, _) = list(folder).ok()?;
    let mut found = found.into_iter().filter(|c| c.place != Place::Own);
    let found = found.find(|c| c.thumbprint == thumbprint)?;
    if found.place == Place::Rejected {
        // It knocked again.
        let file = fs::File::options().append(true).open(&found.path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }
    Some(found.place)
}

/// The thumbprint of our own certificate.
pub fn own_thumbprint(folder: &Path) -> Option<String> {
    Some(read(Place::Own, &folder.join(CERTIFICATE)).ok()?.thumbprint)
}

/// Trusts the certificate whose thumbprint begins with `prefix`.
pub fn trust(folder: &Path, prefix: &str) -> Result<Certificate, ListError> {
    shift(folder, prefix, Place::Trusted)
}

/// Trusts a certificate from elsewhere.
pub fn import(folder: &Path, file: &Path) -> Result<Certificate, ListError> {
    let certificate = read(Place::Trusted, file)?;
    put(folder, &certificate, Place::Trusted, file)
}

/// Stops to trust the certificate whose thumbprint begins with `prefix`.
pub fn reject(folder: &Path, prefix: &str) -> Result<Certificate, ListError> {
    shift(folder, prefix, Place::Rejected)
}

/// The certificate whose thumbprint begins with `prefix`.
pub fn find(folder: &Path, prefix: &str) -> Result<Certificate, ListError> {
    let wanted: String = prefix
        .chars()
        .filter(|c| !matches!(c, ':' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let is_hex = wanted.chars().all(|c| c.is_ascii_hexdigit());
    if wanted.len() < SHORTEST_PREFIX || !is_hex {
        return Err(ListError::Prefix(prefix.into()));
    }
    let (found, _) = list(folder)?;
    let mut fitting = found
        .into_iter()
        .filter(|c| c.thumbprint.starts_with(&wanted));
    let Some(first) = fitting.next() else {
        return Err(ListError::Unknown {
            folder: folder.to_owned(),
            prefix: wanted,
        });
    };
    match fitting.all(|other| other.thumbprint == first.thumbprint) {
        true => Ok(first),
        false => Err(ListError::Ambiguous(wanted)),
    }
}

/// A new key and certificate with the names of the old; returns the old one's thumbprint and the new.
/// Whoever trusted the old must be told.
pub fn renew(folder: &Path) -> Result<(String, Certificate), ListError> {
    let path = folder.join(CERTIFICATE);
    if !path.exists() {
        return Err(ListError::NoOwn {
            folder: folder.to_owned(),
        });
    }
    let old = read(Place::Own, &path)?;
    let subject = Subject {
        name: match old.common_name.is_empty() {
            true => "Weighbridge".into(),
            false => old.common_name,
        },
        application_uri: old.application_uri,
        hosts: old.hosts,
    };
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| PkiError::Io { path, source }
    };
    // Both are made before either is replaced.
    let (certificate, key) = (folder.join("own/new.der"), folder.join("private/new.pem"));
    create(folder, &certificate, &key, &subject)?;
    super::make_private(&key)?;
    fs::rename(&key, folder.join(KEY)).map_err(io(&key))?;
    fs::rename(&certificate, &path).map_err(io(&certificate))?;
    Ok((old.thumbprint, read(Place::Own, &path)?))
}

fn shift(folder: &Path, prefix: &str, to: Place) -> Result<Certificate, ListError> {
    let found = find(folder, prefix)?;
    if found.place == Place::Own {
        return Err(ListError::Prefix(format!("{prefix}, which is our own,")));
    }
    let from = found.path.clone();
    let moved = put(folder, &found, to, &from)?;
    if moved.path != from {
        fs::remove_file(&from).map_err(|source| PkiError::Io { path: from, source })?;
    }
    Ok(moved)
}

/// Puts a certificate under the name by which the stack looks for it.
fn put(
    folder: &Path,
    certificate: &Certificate,
    place: Place,
    file: &Path,
) -> Result<Certificate, ListError> {
    let x509 = stack(file)?;
    let der = x509.to_der().map_err(|e| ListError::NoCertificate {
        path: file.to_owned(),
        reason: e.to_string(),
    })?;
    let name = match place {
        Place::Trusted => TRUSTED,
        _ => REJECTED,
    };
    let folder = folder.join(name);
    let path = folder.join(CertificateStore::cert_file_name(&x509));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, der))
        .map_err(|source| PkiError::Io {
            path: path.clone(),
            source,
        })?;
    Ok(Certificate {
        place,
        path,
        ..certificate.clone()
    })
}

fn stack(path: &Path) -> Result<X509, ListError> {
    CertificateStore::read_cert(path).map_err(|reason| ListError::NoCertificate {
        path: path.to_owned(),
        reason,
    })
}

fn read(place: Place, path: &Path) -> Result<Certificate, ListError> {
    let wrong = |reason: String| ListError::NoCertificate {
        path: path.to_owned(),
        reason,
    };
    let x509 = stack(path)?;
    let der = x509.to_der().map_err(|e| wrong(e.to_string()))?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| wrong(e.to_string()))?;
    let (mut application_uri, mut hosts) = (String::new(), Vec::new());
    for extension in parsed.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::URI(uri) if application_uri.is_empty() => {
                    application_uri = (*uri).to_owned();
                }
                GeneralName::DNSName(name) => hosts.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => hosts.extend(address(bytes)),
                _ => {}
            }
        }
    }
    let modified = fs::metadata(path).and_then(|m| m.modified());
    let seen = modified
        .ok()
        .and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let mut names = parsed.subject().iter_common_name();
    let common_name = names.next().and_then(|name| name.as_str().ok());
    let validity = parsed.validity();
    let nanos = |seconds: i64| seconds.saturating_mul(1_000_000_000);
    Ok(Certificate {
        place,
        path: path.to_owned(),
        thumbprint: x509.thumbprint().as_hex_string(),
        subject: parsed.subject().to_string(),
        common_name: common_name.unwrap_or_default().to_owned(),
        application_uri,
        hosts,
        valid_from: nanos(validity.not_before.timestamp()),
        valid_until: nanos(validity.not_after.timestamp()),
        seen: seen.map_or(0, |t| i64::try_from(t.as_nanos()).unwrap_or(i64::MAX)),
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::certificate;
    use super::*;
    use crate::model::now;

    #[test]
    fn a_certificate_that_knocked_is_listed_trusted_and_distrusted_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("hub");
        certificate(&folder);
        let theirs = certificate(&dir.path().join("scada"));
        let thumbprint = theirs.thumbprint().as_hex_string();
        let store = CertificateStore::new(&folder);
        store.store_rejected_cert(&theirs).unwrap();
        fs::write(folder.join("trusted/readme.txt"), "no certificate").unwrap();

        let (found, strange) = list(&folder).unwrap();
        let places: Vec<_> = found.iter().map(|c| c.place).collect();
        assert_eq!(places, [Place::Own, Place::Rejected]);
        assert_eq!(strange.len(), 1);
        let knocked = &found[1];
        assert_eq!(knocked.thumbprint, thumbprint);
        assert_eq!(knocked.application_uri, "urn:weighbridge:test");
        assert!(
            knocked.subject.contains("CN=Weighbridge"),
            "{}",
            knocked.subject
        );
        assert!((3_650..3_654).contains(&knocked.days_left(now())));
        assert!((knocked.seen - now()).abs() < 60_000_000_000);

        let moved = trust(&folder, &thumbprint[..6].to_uppercase()).unwrap();
        assert_eq!(moved.place, Place::Trusted);
        assert_eq!(place(&folder, &thumbprint), Some(Place::Trusted));
        // Where the stack looks for it.
        let name = CertificateStore::cert_file_name(&theirs);
        assert!(folder.join("trusted").join(&name).exists());
        assert!(!folder.join("rejected").join(&name).exists());
        trust(&folder, &thumbprint).unwrap();

        reject(&folder, &thumbprint[..8]).unwrap();
        assert_eq!(place(&folder, &thumbprint), Some(Place::Rejected));
        assert!(matches!(trust(&folder, "12"), Err(ListError::Prefix(_))));
        assert!(matches!(
            trust(&folder, "xyzxyz"),
            Err(ListError::Prefix(_))
        ));
        let own = own_thumbprint(&folder).unwrap();
        assert!(matches!(trust(&folder, &own), Err(ListError::Prefix(_))));
        let absent = if thumbprint.starts_with("0000") {
            "1111"
        } else {
            "0000"
        };
        assert!(matches!(
            trust(&folder, absent),
            Err(ListError::Unknown { .. })
        ));
    }

    #[test]
    fn a_renewed_certificate_has_the_names_of_the_old_and_a_key_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(renew(dir.path()), Err(ListError::NoOwn { .. })));
        certificate(dir.path());
        let before = list(dir.path()).unwrap().0.remove(0);
        let key = fs::read(dir.path().join(KEY)).unwrap();
        let (old, new) = renew(dir.path()).unwrap();
        assert_eq!(old, before.thumbprint);
        assert_ne!(new.thumbprint, before.thumbprint);
        assert_ne!(fs::read(dir.path().join(KEY)).unwrap(), key);
        assert_eq!(
            (new.subject, new.application_uri, new.hosts),
            (before.subject, before.application_uri, before.hosts)
        );
        super::super::ensure(
            dir.path(),
            &Subject {
                name: "not used".into(),
                application_uri: String::new(),
                hosts: Vec::new(),
            },
        )
        .unwrap();
        assert_eq!(own_thumbprint(dir.path()), Some(new.thumbprint));
    }
}

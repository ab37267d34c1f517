//! The certificates of a site, as files:
//!
//! ```text
//! pki/authority.crt              who vouches; those above it behind it, when it is a corporate one
//! keys/authority.key             its key, mode 0600; not there when it is kept elsewhere
//! pki/issued/hub/hub-1.crt       what it vouched for, each with what is between it and the root
//! pki/requests/hub/hub-1.csr     what somebody elsewhere is asked to sign
//! ```

use super::small_file;
use crate::crypto::certificate::{MAX_CERTIFICATE, MAX_CHAIN};
use crate::crypto::{
    Authority, AuthorityError, Certificate, CertificateError, CertificateKind, CertifiedName,
};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most bytes of a file with certificates in PEM.
const MAX_FILE: usize = 2 * MAX_CERTIFICATE * MAX_CHAIN;

/// Why the site's certificates cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A file or directory.
    #[error("{path} cannot be used: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What stands in a file.
    #[error("{path}: {source}", path = path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: CertificateError,
    },
    /// There is no authority.
    #[error("there is no authority ({path} is not there); `weighbridge init` or `weighbridge certs authority` makes it", path = path.display())]
    NoAuthority {
        /// Where it would be.
        path: PathBuf,
    },
    /// Its key is elsewhere.
    #[error("the authority's key ({path}) is not there; make requests (`weighbridge certs request`) and have them signed where it is", path = path.display())]
    NoKey {
        /// Where it would be.
        path: PathBuf,
    },
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// An issued certificate and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Whom it is for, as its file says.
    pub name: CertifiedName,
    /// Its file.
    pub path: PathBuf,
    /// The certificate.
    pub certificate: Certificate,
}

/// The directory of a site.
#[derive(Clone, Debug)]
pub struct SiteCertificates {
    site: PathBuf,
}

impl SiteCertificates {
    /// Those of the site in `site`, the directory of `hub.toml`.
    pub fn new(site: &Path) -> Self {
        Self {
            site: site.to_owned(),
        }
    }

    /// The file of the authority's certificate.
    pub fn authority_file(&self) -> PathBuf {
        self.site.join("pki/authority.crt")
    }

    /// The file of the authority's key.
    pub fn authority_key(&self) -> PathBuf {
        self.site.join("keys/authority.key")
    }

    /// The file of an issued certificate.
    pub fn issued_file(&self, name: &CertifiedName) -> PathBuf {
        let folder = self.site.join("pki/issued").join(name.kind.name());
        folder.join(format!("{}.crt", name.id))
    }

    /// The file of a request.
    pub fn request_file(&self, name: &CertifiedName) -> PathBuf {
        let folder = self.site.join("pki/requests").join(name.kind.name());
        folder.join(format!("{}.csr", name.id))
    }

    /// The authority's certificate, and those above it.
    pub fn authority(&self) -> Result<Vec<Certificate>, SiteError> {
        let path = self.authority_file();
        match path.symlink_metadata() {
            Ok(_) => read(&path),
            Err(_) => Err(SiteError::NoAuthority { path }),
        }
    }

    /// The authority with its key, so that it can issue.
    pub fn issuer(&self) -> Result<Authority, SiteError> {
        let chain = self.authority()?;
        let path = self.authority_key();
        if path.symlink_metadata().is_err() {
            return Err(SiteError::NoKey { path });
        }
        match chain.into_iter().next() {
            Some(certificate) => Ok(Authority::load(certificate, &path)?),
            None => Err(SiteError::NoAuthority {
                path: self.authority_file(),
            }),
        }
    }

    /// Puts the authority's certificate, and those above it, in the place of what was there.
    pub fn put_authority(&self, chain: &[Certificate]) -> Result<PathBuf, SiteError> {
        let path = self.authority_file();
        write(&path, &pem(chain))?;
        Ok(path)
    }

    /// Puts a certificate in the place of what was there of this name, and behind it those between it and
    /// the root.
    pub fn put(
        &self,
        name: &CertifiedName,
        certificate: &Certificate,
    ) -> Result<PathBuf, SiteError> {
        let between = self
            .authority()?
            .into_iter()
            .filter(|c| !c.is_self_issued());
        let chain: Vec<_> = std::iter::once(certificate.clone())
            .chain(between)
            .collect();
        let path = self.issued_file(name);
        write(&path, &pem(&chain))?;
        Ok(path)
    }

    /// Puts a request where it can be taken from.
    pub fn put_request(&self, name: &CertifiedName, pem: &str) -> Result<PathBuf, SiteError> {
        let path = self.request_file(name);
        write(&path, pem)?;
        Ok(path)
    }

    /// What was issued, by kind and id; and files that are no certificates.
    pub fn issued(&self) -> Result<(Vec<Issued>, Vec<PathBuf>), SiteError> {
        let (mut found, mut strange) = (Vec::new(), Vec::new());
        for kind in CertificateKind::ALL {
            let folder = self.site.join("pki/issued").join(kind.name());
            let failed = |source| SiteError::Io {
                path: folder.clone(),
                source,
            };
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(failed(e)),
            };
            for entry in entries {
                let path = entry.map_err(failed)?.path();
                if path.extension().is_none_or(|e| e != "crt") {
                    continue;
                }
                let id = path.file_stem().and_then(|stem| stem.to_str());
                let first = read(&path).ok().and_then(|all| all.into_iter().next());
                match (id, first) {
                    (Some(id), Some(certificate)) => found.push(Issued {
                        name: CertifiedName {
                            kind,
                            id: id.to_owned(),
                        },
                        path,
                        certificate,
                    }),
                    _ => strange.push(path),
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        strange.sort();
        Ok((found, strange))
    }
}

/// Reads a file with certificates: PEM, or one in DER.
pub fn read(path: &Path) -> Result<Vec<Certificate>, SiteError> {
    let mut bytes = Vec::new();
    let whole = small_file::read_bounded(path, MAX_FILE, &mut bytes);
    let whole = whole.map_err(|source| SiteError::Io {
        path: path.to_owned(),
        source,
    })?;
    let read = match whole {
        true => Certificate::from_bytes(&bytes),
        false => Err(CertificateError::Large),
    };
    read.map_err(|source| SiteError::Content {
        path: path.to_owned(),
        source,
    })
}

/// Writes what everybody may read.
fn write(path: &Path, text: &str) -> Result<(), SiteError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = small_file::make_directory(folder, false)
        .and_then(|()| small_file::replace(path, text.as_bytes(), 0o644));
    written.map_err(|source| SiteError::Io {
        path: path.to_owned(),
        source,
    })
}

fn pem(chain: &[Certificate]) -> String {
    chain.iter().map(Certificate::to_pem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::authority::{Serial, Wanted, public_key_of, save_key};

    const NOW: i64 = 1_767_225_600_000_000_000;

    #[test]
    fn what_is_issued_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let site = SiteCertificates::new(dir.path());
        assert!(matches!(
            site.authority(),
            Err(SiteError::NoAuthority { .. })
        ));
        assert_eq!(site.issued().unwrap(), (vec![], vec![]));
        let (key, certificate) = Authority::make("hub-1", NOW, Serial([1; 16])).unwrap();
        site.put_authority(std::slice::from_ref(&certificate))
            .unwrap();
        assert_eq!(site.authority().unwrap(), [certificate]);
        assert!(matches!(site.issuer(), Err(SiteError::NoKey { .. })));
        save_key(&site.authority_key(), &key).unwrap();
        let issuer = site.issuer().unwrap();
        let key = public_key_of(&site.authority_key()).unwrap();
        for kind in [CertificateKind::User, CertificateKind::Hub] {
            let name = CertifiedName {
                kind,
                id: "a.b".into(),
            };
            let wanted = Wanted {
                name: name.clone(),
                hosts: vec![],
                key: key.clone(),
                days: 1,
            };
            let made = issuer.issue(&wanted, NOW, Serial::random()).unwrap();
            let path = site.put(&name, &made).unwrap();
            assert_eq!(read(&path).unwrap(), [made], "no root behind it");
        }
        let strange = dir.path().join("pki/issued/user/spoiled.crt");
        fs::write(&strange, "nothing").unwrap();
        let (found, others) = site.issued().unwrap();
        let names: Vec<_> = found.iter().map(|i| i.name.to_string()).collect();
        assert_eq!(names, ["hub a.b", "user a.b"]);
        assert_eq!(others, [strange]);
    }
}

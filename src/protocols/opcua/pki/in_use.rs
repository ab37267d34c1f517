//! The certificates that stand behind what works today: their end is worth a warning.

use super::{CERTIFICATE, Certificate, Place, list};
use crate::model::{CertificateInUse, Side};
use opcua::crypto::{CertificateStore, X509};
use std::path::Path;
use x509_parser::prelude::{FromDer, X509Certificate};

impl Certificate {
    /// As one that a connection through `folder` stands on.
    pub fn in_use(&self, folder: &Path) -> CertificateInUse {
        CertificateInUse {
            side: match self.place {
                Place::Own => Side::Ours,
                Place::Trusted | Place::Rejected => Side::Theirs,
            },
            subject: self.subject.clone(),
            thumbprint: self.thumbprint.clone(),
            valid_until: self.valid_until,
            folder: folder.display().to_string(),
        }
    }
}

/// Our own certificate in `folder`, where there is one.
pub fn own(folder: &Path) -> Option<CertificateInUse> {
    let x509 = CertificateStore::read_cert(&folder.join(CERTIFICATE)).ok()?;
    presented(Side::Ours, &x509.to_der().ok()?, folder)
}

/// A certificate (DER) that was shown on a connection; `None` when it is none.
pub fn presented(side: Side, der: &[u8], folder: &Path) -> Option<CertificateInUse> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let seconds = parsed.validity().not_after.timestamp();
    Some(CertificateInUse {
        side,
        subject: parsed.subject().to_string(),
        thumbprint: X509::from_der(der).ok()?.thumbprint().as_hex_string(),
        valid_until: seconds.saturating_mul(1_000_000_000),
        folder: folder.display().to_string(),
    })
}

/// Our own certificate in `folder`, and those that are trusted.
pub fn standing(folder: &Path) -> Vec<CertificateInUse> {
    let (found, _) = list(folder).unwrap_or_default();
    let found = found.iter().filter(|c| c.place != Place::Rejected);
    found.map(|c| c.in_use(folder)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::certificate;
    use super::*;

    #[test]
    fn the_same_certificate_is_known_from_the_folder_and_from_the_wire() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(own(dir.path()), None);
        let ours = certificate(dir.path());
        let shown = presented(Side::Ours, &ours.to_der().unwrap(), dir.path()).unwrap();
        assert_eq!(own(dir.path()), Some(shown.clone()));
        assert_eq!(standing(dir.path()), [shown]);
        assert_eq!(presented(Side::Theirs, b"no certificate", dir.path()), None);
    }
}

//! What is known of devices beyond their values: what they say they are, and certificates.

use crate::model::{About, CertificateInUse, Nameplate, Nanos, Side, rfc3339};
use crate::protocols::opcua::pki;
use parking_lot::Mutex;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long what was read of a folder is good enough: certificates end in days.
const FRESH: Duration = Duration::from_secs(60);

/// The certificates that the hub's OPC UA server stands on.
#[derive(Debug)]
pub struct Standing {
    folder: PathBuf,
    read: Mutex<Option<(Instant, Vec<CertificateInUse>)>>,
}

impl Standing {
    /// Those of `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            read: Mutex::default(),
        }
    }

    /// As they were within the last minute: the status is asked for all the time.
    pub(super) fn get(&self) -> Vec<CertificateInUse> {
        let mut read = self.read.lock();
        match &*read {
            Some((at, known)) if at.elapsed() < FRESH => known.clone(),
            _ => {
                let found = pki::standing(&self.folder);
                *read = Some((Instant::now(), found.clone()));
                found
            }
        }
    }
}

/// What a device says of itself; what it does not say is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct NameplateView {
    manufacturer: String,
    product: String,
    model: String,
    version: String,
}

impl From<&Nameplate> for NameplateView {
    fn from(plate: &Nameplate) -> Self {
        Self {
            manufacturer: plate.manufacturer.clone(),
            product: plate.product.clone(),
            model: plate.model.clone(),
            version: plate.version.clone(),
        }
    }
}

/// A certificate that a connection stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct CertificateView {
    /// "ours" or "theirs".
    side: &'static str,
    subject: String,
    thumbprint: String,
    valid_until: String,
    /// Negative when it has expired.
    days_left: i64,
    folder: String,
    /// What to do, when it ends within 30 days; else `null`.
    warning: Option<String>,
}

impl CertificateView {
    pub(super) fn new(certificate: &CertificateInUse, now: Nanos) -> Self {
        Self {
            side: match certificate.side {
                Side::Ours => "ours",
                Side::Theirs => "theirs",
            },
            subject: certificate.subject.clone(),
            thumbprint: certificate.thumbprint.clone(),
            valid_until: rfc3339(certificate.valid_until),
            days_left: certificate.days_left(now),
            folder: certificate.folder.clone(),
            warning: certificate.warning(now),
        }
    }
}

/// Those parts of a device's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct AboutView {
    /// What it says that it is; `null` when it does not say, or was not asked.
    pub(super) nameplate: Option<NameplateView>,
    /// The certificates of its connection.
    pub(super) certificates: Vec<CertificateView>,
}

impl AboutView {
    pub(super) fn new(about: &About, now: Nanos) -> Self {
        let certificates = about.certificates.iter();
        Self {
            nameplate: about.nameplate.as_ref().map(NameplateView::from),
            certificates: certificates.map(|c| CertificateView::new(c, now)).collect(),
        }
    }
}

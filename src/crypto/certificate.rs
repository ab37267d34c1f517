//! What an X.509 certificate (RFC 5280) says, as far as identities need it.

use crate::model::Nanos;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::net::IpAddr;
use weighbridge_verifier::{Hash, sha256};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// Longest certificate that is looked at.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// Most certificates of a chain, or of a file.
pub const MAX_CHAIN: usize = 8;
/// Beginning of the URI by which a certificate of the site's authority names an identity.
const URN: &str = "urn:weighbridge:";
const DAY: Nanos = 86_400_000_000_000;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateKind {
    /// A management hub: others connect to it, and it connects to others.
    Hub,
    /// An edge node.
    Edge,
    /// A PLC, robot or sensor.
    Device,
    /// A person or a program.
    User,
    /// A key generation centre.
    KeyCentre,
}

impl CertificateKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Hub,
        Self::Edge,
        Self::Device,
        Self::User,
        Self::KeyCentre,
    ];

    /// The name used in files and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Edge => "edge",
            Self::Device => "device",
            Self::User => "user",
            Self::KeyCentre => "key-centre",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether others connect to it, so that its certificate needs their names for it.
    pub fn listens(self) -> bool {
        matches!(self, Self::Hub | Self::Device)
    }

    /// Days that a certificate lives unless somebody says otherwise.
    pub fn days(self) -> u32 {
        match self {
            Self::User => 366,
            _ => 731,
        }
    }
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertifiedName {
    /// What it is.
    pub kind: CertificateKind,
    /// Its id.
    pub id: String,
}

impl CertifiedName {
    /// The URI that stands in the certificate: `urn:weighbridge:user:ann`.
    pub fn uri(&self) -> String {
        format!("{URN}{}:{}", self.kind.name(), self.id)
    }

    fn from_uri(uri: &str) -> Option<Self> {
        let (kind, id) = uri.strip_prefix(URN)?.split_once(':')?;
        Some(Self {
            kind: CertificateKind::named(kind)?,
            id: id.to_owned(),
        })
    }
}

impl fmt::Display for CertifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.id)
    }
}

/// Why bytes are no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Too many bytes, or too many certificates.
    #[error("more than {MAX_CERTIFICATE} bytes a certificate, or more than {MAX_CHAIN} of them")]
    Large,
    /// Not one.
    #[error("it is no X.509 certificate: {0}")]
    Form(String),
    /// None.
    #[error("there is no certificate in it; expected PEM")]
    None,
}

/// A certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    /// The subject, as X.509 writes it.
    pub subject: String,
    /// Its common name; empty when it has none.
    pub common_name: String,
    /// The issuer, as X.509 writes it.
    pub issuer: String,
    /// Whom the site's authority made it for; `None` in those of others.
    pub name: Option<CertifiedName>,
    /// Host names and addresses.
    pub hosts: Vec<String>,
    /// From when on it is valid.
    pub valid_from: Nanos,
    /// Until when, then included.
    pub valid_until: Nanos,
    /// Whether it may issue others.
    pub is_authority: bool,
    /// Its number at its issuer, in hexadecimal.
    pub serial: String,
    key: Vec<u8>,
}

impl Certificate {
    /// Reads DER.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(CertificateError::Large);
        }
        let form = |e: &dyn fmt::Display| CertificateError::Form(e.to_string());
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|e| form(&e))?;
        if !rest.is_empty() {
            return Err(form(&"there is something behind it"));
        }
        let (mut name, mut hosts) = (None, Vec::new());
        for extension in parsed.extensions() {
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension()
            else {
                continue;
            };
            for general in &names.general_names {
                match general {
                    GeneralName::URI(uri) if name.is_none() => name = CertifiedName::from_uri(uri),
                    GeneralName::DNSName(host) => hosts.push((*host).to_owned()),
                    GeneralName::IPAddress(bytes) => hosts.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        let nanos = |seconds: i64| seconds.saturating_mul(1_000_000_000);
        let validity = parsed.validity();
        let mut names = parsed.subject().iter_common_name();
        let common_name = names.next().and_then(|name| name.as_str().ok());
        Ok(Self {
            der: der.to_vec(),
            subject: parsed.subject().to_string(),
            common_name: common_name.unwrap_or_default().to_owned(),
            issuer: parsed.issuer().to_string(),
            name,
            hosts,
            valid_from: nanos(validity.not_before.timestamp()),
            valid_until: nanos(validity.not_after.timestamp()),
            is_authority: parsed.is_ca(),
            serial: parsed.serial.to_str_radix(16),
            key: parsed.public_key().raw.to_vec(),
        })
    }

    /// Reads all certificates of a PEM file, in their order: at least one.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, CertificateError> {
        let mut found = Vec::new();
        for der in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let der = der.map_err(|e| CertificateError::Form(e.to_string()))?;
            if found.len() == MAX_CHAIN {
                return Err(CertificateError::Large);
            }
            found.push(Self::from_der(&der)?);
        }
        match found.is_empty() {
            true => Err(CertificateError::None),
            false => Ok(found),
        }
    }

    /// Reads a file of either form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Vec<Self>, CertificateError> {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.contains("-----BEGIN") => Self::from_pem(text),
            _ => Ok(vec![Self::from_der(bytes)?]),
        }
    }

    /// DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// PEM (RFC 7468).
    pub fn to_pem(&self) -> String {
        const LINE: usize = 64;
        let text = data_encoding::BASE64.encode(&self.der);
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, next) = rest.split_at(rest.len().min(LINE));
            pem.push_str(line);
            pem.push('\n');
            rest = next;
        }
        pem + "-----END CERTIFICATE-----\n"
    }

    /// The public key as SubjectPublicKeyInfo, DER.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// SHA-256 of the public key (its SubjectPublicKeyInfo): the same after the certificate was renewed.
    pub fn key_hash(&self) -> Hash {
        sha256(&[&self.key])
    }

    /// SHA-256 of the whole certificate.
    pub fn fingerprint(&self) -> Hash {
        sha256(&[&self.der])
    }

    /// Whether it is valid at `time`.
    pub fn is_valid_at(&self, time: Nanos) -> bool {
        // The second that it ends with counts as a whole (RFC 5280, 4.1.2.5).
        self.valid_from <= time && time < self.valid_until.saturating_add(1_000_000_000)
    }

    /// Days until it expires, counted from `now`; negative when it has.
    pub fn days_left(&self, now: Nanos) -> i64 {
        self.valid_until.saturating_sub(now).div_euclid(DAY)
    }

    /// Whether it was issued by its own key, or at least says so.
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let print = self.fingerprint();
        write!(f, "Certificate({}, {print})", self.subject)
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_identities_go_there_and_back() {
        for kind in CertificateKind::ALL {
            let name = CertifiedName {
                kind,
                id: "x:1".into(),
            };
            assert_eq!(CertifiedName::from_uri(&name.uri()), Some(name));
        }
        for uri in [
            "",
            "urn:weighbridge:",
            "urn:weighbridge:king:a",
            "urn:x:user:a",
        ] {
            assert_eq!(CertifiedName::from_uri(uri), None, "{uri}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_said() {
        assert_eq!(
            Certificate::from_pem("nothing"),
            Err(CertificateError::None)
        );
        let large = vec![0x30; MAX_CERTIFICATE + 1];
        assert_eq!(Certificate::from_der(&large), Err(CertificateError::Large));
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = Certificate::from_pem(pem);
        assert!(matches!(error, Err(CertificateError::Form(_))), "{error:?}");
    }

    proptest! {
        #[test]
        fn rubbish_is_no_certificate(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Certificate::from_bytes(&bytes).is_err());
        }
    }
}

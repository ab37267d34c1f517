//! The site's own authority: an X.509 certificate (RFC 5280) and its key, which vouch for hubs, edge
//! nodes, devices, users and key centres. A corporate one can stand in its place, by its key or by
//! signing what is requested of it (PKCS #10, RFC 2986).

use super::certificate::{Certificate, CertificateError, CertifiedName};
use super::key_file::{self, KeyFileError};
use crate::model::Nanos;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber, SignatureAlgorithm, SigningKey, SubjectPublicKeyInfo,
};
use std::path::Path;
use time::OffsetDateTime;
use zeroize::{Zeroize, Zeroizing};

/// Days that an authority lives: in a plant nobody gives roots out twice in ten years.
pub const AUTHORITY_DAYS: u32 = 3653;
/// Longest id that a certificate can name (X.520: 64 characters of a common name).
pub const MAX_ID: usize = 64;
/// Most host names and addresses of a certificate.
pub const MAX_HOSTS: usize = 32;
/// Certificates begin so much before they are made, for those whose clock is behind.
const BEFORE: Nanos = 3_600_000_000_000;
const SECOND: Nanos = 1_000_000_000;
const DAY: Nanos = 86_400 * SECOND;

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The key's file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The key.
    #[error(
        "the private key cannot be used: {0}; expected PKCS#8 in PEM form (`openssl pkcs8 -topk8 -nocrypt` makes it)"
    )]
    Key(String),
    /// The certificate.
    #[error("the authority's certificate cannot be used: {0}")]
    Certificate(#[from] CertificateError),
    /// A certificate that is not an authority's.
    #[error("{0} is not the certificate of an authority (CA:TRUE)")]
    NoAuthority(String),
    /// A key that is another's.
    #[error("the key is not that of the authority {0}")]
    Pair(String),
    /// An id that cannot be named.
    #[error(
        "{0:?} cannot be named in a certificate: 1 to {MAX_ID} of letters, digits, `-`, `_`, `.` and `@`"
    )]
    Id(String),
    /// A host that cannot be named.
    #[error("{0:?} is neither a host name nor an IP address")]
    Host(String),
    /// Too many hosts.
    #[error("a certificate names at most {MAX_HOSTS} hosts")]
    Hosts,
    /// The authority's own time is over.
    #[error("the authority {0} has expired; renew it first (`weighbridge certs renew --all`)")]
    Expired(String),
    /// A certificate of somebody else.
    #[error(
        "the certificate of {0} was not made by a site's authority, so it cannot be renewed by one; request it anew"
    )]
    Foreign(String),
    /// An authority that somebody else vouches for.
    #[error("the authority {0} was made by another one, which has to renew it")]
    NotRoot(String),
    /// A name that the library cannot write.
    #[error(
        "the name {0} has parts that cannot be written as an issuer; make requests (`weighbridge certs request`) and have them signed where the authority is"
    )]
    Issuer(String),
    /// A request that does not hold.
    #[error("the request cannot be used: {0}")]
    Request(String),
    /// The library refuses.
    #[error("no certificate could be made: {0}")]
    Library(String),
}

/// A key that is wiped from memory when dropped.
struct SecretPair(KeyPair);

impl SecretPair {
    fn from_pem(pem: &str) -> Result<Self, AuthorityError> {
        let pair = KeyPair::from_pem(pem).map_err(|e| AuthorityError::Key(e.to_string()))?;
        Ok(Self(pair))
    }
}

impl Drop for SecretPair {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for SecretPair {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0)
    }
}

impl SigningKey for SecretPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        SigningKey::sign(&self.0, message)
    }
}

/// The number of a certificate: 127 random bits (RFC 5280, 4.1.2.2, wants it unique and positive).
#[derive(Clone, Copy, Debug)]
pub struct Serial(pub [u8; 16]);

impl Serial {
    /// From the operating system's randomness.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        match getrandom::fill(&mut bytes) {
            Ok(()) => Self(bytes),
            Err(error) => unreachable!("the operating system has no randomness: {error}"),
        }
    }

    fn number(self) -> SerialNumber {
        let [first, rest @ ..] = self.0;
        // Positive, and never shorter than it looks.
        SerialNumber::from([&[(first & 0x3f) | 0x40], &rest[..]].concat())
    }
}

/// What a certificate shall say.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whom it is for.
    pub name: CertifiedName,
    /// Host names and addresses under which it is reached.
    pub hosts: Vec<String>,
    /// The public key as SubjectPublicKeyInfo, DER.
    pub key: Vec<u8>,
    /// Days that it lives.
    pub days: u32,
}

/// The authority, with its key.
pub struct Authority {
    issuer: Issuer<'static, SecretPair>,
    certificate: Certificate,
}

impl Authority {
    /// Makes the authority of a site: its private key in PEM, and its certificate.
    pub fn make(
        site: &str,
        now: Nanos,
        serial: Serial,
    ) -> Result<(Zeroizing<String>, Certificate), AuthorityError> {
        let pair = SecretPair(KeyPair::generate().map_err(library)?);
        let params = root(site)?;
        let certificate = self_signed(params, &pair, now, serial)?;
        Ok((Zeroizing::new(pair.0.serialize_pem()), certificate))
    }

    /// The authority of this certificate and the key to it.
    pub fn new(certificate: Certificate, key_pem: &str) -> Result<Self, AuthorityError> {
        if !certificate.is_authority {
            return Err(AuthorityError::NoAuthority(certificate.subject));
        }
        let pair = SecretPair::from_pem(key_pem)?;
        if pair.subject_public_key_info() != certificate.key() {
            return Err(AuthorityError::Pair(certificate.subject));
        }
        let der = certificate.der().to_vec().into();
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(library)?;
        Ok(Self {
            issuer,
            certificate,
        })
    }

    /// The same, of a key in a file of mode 0600.
    pub fn load(certificate: Certificate, key: &Path) -> Result<Self, AuthorityError> {
        Self::new(certificate, &key_file::read(key)?)
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// A certificate, which lives no longer than the authority.
    pub fn issue(
        &self,
        wanted: &Wanted,
        now: Nanos,
        serial: Serial,
    ) -> Result<Certificate, AuthorityError> {
        if !self.certificate.is_valid_at(now) {
            return Err(AuthorityError::Expired(self.certificate.subject.clone()));
        }
        let mut params = params(&wanted.name, &wanted.hosts)?;
        let until = now.saturating_add(DAY.saturating_mul(wanted.days.into()));
        let until = until.min(self.certificate.valid_until);
        date(&mut params, now, until)?;
        params.serial_number = Some(serial.number());
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        let key = SubjectPublicKeyInfo::from_der(&wanted.key).map_err(library)?;
        let made = params.signed_by(&key, &self.issuer).map_err(library)?;
        let made = Certificate::from_der(made.der())?;
        // The library keeps one part of each kind of a name, and several are usual in a directory's.
        if made.issuer != self.certificate.subject {
            return Err(AuthorityError::Issuer(self.certificate.subject.clone()));
        }
        Ok(made)
    }

    /// The same certificate as `old`, for the same key, from now on.
    pub fn reissue(
        &self,
        old: &Certificate,
        now: Nanos,
        serial: Serial,
    ) -> Result<Certificate, AuthorityError> {
        let foreign = || AuthorityError::Foreign(old.subject.clone());
        let life = old.valid_until.saturating_sub(old.valid_from) / DAY;
        let wanted = Wanted {
            name: old.name.clone().ok_or_else(foreign)?,
            hosts: old.hosts.clone(),
            key: old.key().to_vec(),
            days: u32::try_from(life.max(1)).unwrap_or(AUTHORITY_DAYS),
        };
        self.issue(&wanted, now, serial)
    }

    /// The authority's own certificate from now on, for the same key: what it issued stays good.
    pub fn renewed(&self, now: Nanos, serial: Serial) -> Result<Certificate, AuthorityError> {
        let own = &self.certificate;
        if !own.is_self_issued() {
            return Err(AuthorityError::NotRoot(own.subject.clone()));
        }
        let mut params = root("")?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, ORGANIZATION);
        params
            .distinguished_name
            .push(DnType::CommonName, own.common_name.as_str());
        let renewed = self_signed(params, self.issuer.key(), now, serial)?;
        match renewed.subject == own.subject {
            true => Ok(renewed),
            // A root from elsewhere, named in another way.
            false => Err(AuthorityError::NotRoot(own.subject.clone())),
        }
    }
}

const ORGANIZATION: &str = "Weighbridge";

fn root(site: &str) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(library)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, ORGANIZATION);
    params
        .distinguished_name
        .push(DnType::CommonName, format!("authority of {site}"));
    Ok(params)
}

fn self_signed(
    mut params: CertificateParams,
    pair: &SecretPair,
    now: Nanos,
    serial: Serial,
) -> Result<Certificate, AuthorityError> {
    let until = now.saturating_add(DAY.saturating_mul(AUTHORITY_DAYS.into()));
    date(&mut params, now, until)?;
    params.serial_number = Some(serial.number());
    // It issues certificates for those who act, and no other authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let made = params.self_signed(pair).map_err(library)?;
    Ok(Certificate::from_der(made.der())?)
}

fn params(name: &CertifiedName, hosts: &[String]) -> Result<CertificateParams, AuthorityError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if name.id.is_empty() || name.id.len() > MAX_ID || !name.id.chars().all(plain) {
        return Err(AuthorityError::Id(name.id.clone()));
    }
    if hosts.len() > MAX_HOSTS {
        return Err(AuthorityError::Hosts);
    }
    let mut params = CertificateParams::new(Vec::new()).map_err(library)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, ORGANIZATION);
    subject.push(DnType::OrganizationalUnitName, name.kind.name());
    subject.push(DnType::CommonName, name.id.as_str());
    params.distinguished_name = subject;
    let uri = Ia5String::try_from(name.uri()).map_err(library)?;
    params.subject_alt_names.push(SanType::URI(uri));
    for host in hosts {
        params.subject_alt_names.push(host_name(host)?);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if name.kind.listens() {
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        params.extended_key_usages.push(server);
    }
    Ok(params)
}

fn host_name(host: &str) -> Result<SanType, AuthorityError> {
    let wrong = || AuthorityError::Host(host.to_owned());
    if let Ok(address) = host.parse() {
        return Ok(SanType::IpAddress(address));
    }
    // A name that TLS could ask for, or one with a star before it.
    super::tls::server_name(host.strip_prefix("*.").unwrap_or(host)).map_err(|_| wrong())?;
    let name = Ia5String::try_from(host).map_err(|_| wrong())?;
    Ok(SanType::DnsName(name))
}

fn date(params: &mut CertificateParams, now: Nanos, until: Nanos) -> Result<(), AuthorityError> {
    let at =
        |time: Nanos| OffsetDateTime::from_unix_timestamp(time.div_euclid(SECOND)).map_err(library);
    params.not_before = at(now.saturating_sub(BEFORE))?;
    params.not_after = at(until)?;
    Ok(())
}

/// A new private key for a certificate, in PEM: P-256.
pub fn new_key() -> Result<Zeroizing<String>, AuthorityError> {
    let pair = SecretPair(KeyPair::generate().map_err(library)?);
    Ok(Zeroizing::new(pair.0.serialize_pem()))
}

/// Writes a private key to a new file of mode 0600.
pub fn save_key(path: &Path, pem: &str) -> Result<(), KeyFileError> {
    key_file::write(path, pem)
}

/// The public key to the private key in a file of mode 0600, as SubjectPublicKeyInfo, DER.
pub fn public_key_of(path: &Path) -> Result<Vec<u8>, AuthorityError> {
    let pair = SecretPair::from_pem(&key_file::read(path)?)?;
    Ok(pair.subject_public_key_info())
}

/// Reads a private key in PEM from a file of mode 0600.
pub fn read_key(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    key_file::read(path)
}

/// Whether a certificate can name this host.
pub fn can_name(host: &str) -> bool {
    host_name(host).is_ok()
}

/// A request for a certificate (PKCS #10), in PEM, by the key in a file of mode 0600.
pub fn request(
    name: &CertifiedName,
    hosts: &[String],
    key: &Path,
) -> Result<String, AuthorityError> {
    let pair = SecretPair::from_pem(&key_file::read(key)?)?;
    let request = params(name, hosts)?.serialize_request(&pair);
    request.and_then(|r| r.pem()).map_err(library)
}

/// What a request asks for: hosts, and the public key whose owner signed it. Its subject is not looked at: whoever
/// issues says whom it is for.
pub fn read_request(pem: &str) -> Result<(Vec<String>, Vec<u8>), AuthorityError> {
    let read = CertificateSigningRequestParams::from_pem(pem);
    let read = read.map_err(|e| AuthorityError::Request(e.to_string()))?;
    let hosts = read
        .params
        .subject_alt_names
        .iter()
        .filter_map(|n| match n {
            SanType::DnsName(name) => Some(name.to_string()),
            SanType::IpAddress(address) => Some(address.to_string()),
            _ => None,
        });
    Ok((hosts.collect(), read.public_key.subject_public_key_info()))
}

fn library(error: impl std::fmt::Display) -> AuthorityError {
    AuthorityError::Library(error.to_string())
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;

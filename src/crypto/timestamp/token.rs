//! A time stamp token: CMS signed data (RFC 5652 §5) over what RFC 3161 says.

use super::form::{
    CONTENT_TYPE, EXTENDED_KEY_USAGE, MESSAGE_DIGEST, SHA_256, SHA_384, SHA_512, SIGNED_DATA,
    SIGNING_CERTIFICATE_V2, SigningCertificateV2, TIME_STAMPING, TST_INFO, TstInfo,
};
use super::{MAX_CERTIFICATES, Timestamp, TimestampAuthorities, TimestampError, integer};
use crate::model::{Nanos, parse_time};
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::{ObjectIdentifier, OctetString};
use der::{Any, Choice, Decode, DecodeValue, Encode, Tag, Tagged};
use ring::digest;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use std::time::Duration;
use webpki::ring as known;
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectKeyIdentifier};

type Algorithm = &'static dyn SignatureVerificationAlgorithm;

/// Signatures of the certificates on the path.
static ON_THE_PATH: &[Algorithm] = &[
    known::ECDSA_P256_SHA256,
    known::ECDSA_P256_SHA384,
    known::ECDSA_P384_SHA256,
    known::ECDSA_P384_SHA384,
    known::RSA_PKCS1_2048_8192_SHA256,
    known::RSA_PKCS1_2048_8192_SHA384,
    known::RSA_PKCS1_2048_8192_SHA512,
];

/// The content of id-kp-timeStamping's encoding.
const TIME_STAMPING_OID: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];

fn form(error: impl std::fmt::Display) -> TimestampError {
    TimestampError::Form(error.to_string())
}

fn wrong<T>(why: &str) -> Result<T, TimestampError> {
    Err(form(why))
}

/// A token that was read, and what its signer says.
pub(super) struct Token {
    signer: SignerInfo,
    /// The certificates that came with it, as they are and as they were read.
    certificates: Vec<(Vec<u8>, Certificate)>,
    /// The signed bytes.
    content: Vec<u8>,
    info: TstInfo,
    time: Nanos,
}

impl Token {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, TimestampError> {
        let outer = ContentInfo::from_der(bytes).map_err(form)?;
        if outer.content_type != SIGNED_DATA {
            return wrong("it is no signed data");
        }
        let data: SignedData = outer.content.decode_as().map_err(form)?;
        if data.encap_content_info.econtent_type != TST_INFO {
            return wrong("what is signed is no time stamp");
        }
        let content = data.encap_content_info.econtent;
        let content = content.ok_or_else(|| form("nothing is signed"))?;
        let content: OctetString = content.decode_as().map_err(form)?;
        let content = content.into_bytes();
        let info = TstInfo::from_der(&content).map_err(form)?;
        if info.version != 1 {
            return wrong("it is of another version");
        }
        let extensions = info.extensions.as_deref().unwrap_or_default();
        if extensions.iter().any(|extension| extension.critical) {
            return wrong("it has a critical extension that is not known here");
        }
        let mut signers = data.signer_infos.0.into_vec().into_iter();
        let (Some(signer), None) = (signers.next(), signers.next()) else {
            return wrong("it has not exactly one signer");
        };
        let set = data.certificates.map(|set| set.0.into_vec());
        let mut certificates = Vec::new();
        for choice in set.unwrap_or_default() {
            if let CertificateChoices::Certificate(certificate) = choice {
                certificates.push((certificate.to_der().map_err(form)?, certificate));
            }
        }
        if certificates.len() > MAX_CERTIFICATES {
            return wrong("it comes with too many certificates");
        }
        Ok(Self {
            signer,
            certificates,
            content,
            time: generalized_time(&info.gen_time)?,
            info,
        })
    }

    /// Whether a trusted authority signed it; what it says.
    pub(super) fn verify(
        &self,
        authorities: &TimestampAuthorities,
    ) -> Result<Timestamp, TimestampError> {
        let attributes = self.signer.signed_attrs.as_ref();
        let attributes = attributes.ok_or_else(|| form("its attributes are not signed"))?;
        let content_type: ObjectIdentifier = self.attribute(CONTENT_TYPE)?;
        if content_type != TST_INFO {
            return wrong("its signature is over something else");
        }
        let hash = digest_of(&self.signer.digest_alg.oid)?;
        let digest: OctetString = self.attribute(MESSAGE_DIGEST)?;
        if digest.as_bytes() != digest::digest(hash, &self.content).as_ref() {
            return Err(TimestampError::Signature);
        }
        let (der, certificate) = self.signing_certificate()?;
        check_usage(certificate)?;
        let of_signer = CertificateDer::from(der.as_slice());
        let entity = EndEntityCert::try_from(&of_signer);
        let entity = entity.map_err(|e| TimestampError::Authority(e.to_string()))?;
        self.check_path(&entity, der, authorities)?;
        // RFC 5652 §5.4: as a SET OF, not in the form in which they are sent.
        let message = attributes.to_der().map_err(form)?;
        let signature = self.signer.signature.as_bytes();
        let holds = |algorithm: &Algorithm| {
            let checked = entity.verify_signature(*algorithm, &message, signature);
            checked.is_ok()
        };
        if !self.algorithms()?.iter().any(holds) {
            return Err(TimestampError::Signature);
        }
        let serial = self.info.serial_number.as_bytes();
        Ok(Timestamp {
            time: self.time,
            accuracy: self.accuracy(),
            serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
            policy: self.info.policy.to_string(),
            authority: certificate.tbs_certificate.subject.to_string(),
        })
    }

    /// Whether it is what was asked for.
    pub(super) fn answers(
        &self,
        imprint: &[u8; 32],
        nonce: Option<u64>,
        policy: Option<&str>,
    ) -> Result<(), TimestampError> {
        let of = &self.info.message_imprint;
        if of.hash_algorithm.oid != SHA_256 || of.hashed_message.as_bytes() != imprint {
            return Err(TimestampError::Imprint);
        }
        if let Some(nonce) = nonce
            && self.info.nonce != Some(integer(nonce).map_err(form)?)
        {
            return Err(TimestampError::Nonce);
        }
        let made_under = self.info.policy.to_string();
        match policy {
            Some(wanted) if wanted != made_under => Err(TimestampError::Policy(made_under)),
            _ => Ok(()),
        }
    }

    /// The one value of the one signed attribute of this type (RFC 5652 §11).
    fn attribute<T>(&self, oid: ObjectIdentifier) -> Result<T, TimestampError>
    where
        T: for<'a> Choice<'a> + for<'a> DecodeValue<'a>,
    {
        let attributes = self.signer.signed_attrs.as_ref();
        let attributes = attributes.into_iter().flat_map(|set| set.iter());
        let mut values = attributes
            .filter(|attribute| attribute.oid == oid)
            .flat_map(|attribute| attribute.values.iter());
        match (values.next(), values.next()) {
            (Some(value), None) => value.decode_as::<T>().map_err(form),
            _ => Err(form(format!("it has not exactly one attribute {oid}"))),
        }
    }

    /// The certificate that the signed attribute names by its hash (RFC 5816 §2.2.1), if it is also that of
    /// the signer.
    fn signing_certificate(&self) -> Result<(&Vec<u8>, &Certificate), TimestampError> {
        let named: SigningCertificateV2 = self.attribute(SIGNING_CERTIFICATE_V2)?;
        // The first is the signer's, others may be on the way to the authority.
        let first = named.certs.first().ok_or(TimestampError::Certificate)?;
        let hash = first.hash_algorithm.as_ref().map_or(SHA_256, |h| h.oid);
        let hash = digest_of(&hash)?;
        let is_named =
            |der: &[u8]| digest::digest(hash, der).as_ref() == first.cert_hash.as_bytes();
        let found = self.certificates.iter().find(|(der, _)| is_named(der));
        let (der, certificate) = found.ok_or(TimestampError::Certificate)?;
        let tbs = &certificate.tbs_certificate;
        let same = match &self.signer.sid {
            SignerIdentifier::IssuerAndSerialNumber(id) => {
                id.issuer == tbs.issuer && id.serial_number == tbs.serial_number
            }
            SignerIdentifier::SubjectKeyIdentifier(id) => {
                let own = tbs.get::<SubjectKeyIdentifier>().map_err(form)?;
                own.is_some_and(|(_, own)| own == *id)
            }
        };
        same.then_some((der, certificate))
            .ok_or(TimestampError::Certificate)
    }

    /// Whether the certificate was an authority's when the token was made.
    fn check_path(
        &self,
        entity: &EndEntityCert<'_>,
        own: &[u8],
        authorities: &TimestampAuthorities,
    ) -> Result<(), TimestampError> {
        let refused = |e: webpki::Error| TimestampError::Authority(e.to_string());
        let anchors = authorities.0.iter().map(webpki::anchor_from_trusted_cert);
        let anchors: Result<Vec<_>, _> = anchors.collect();
        let anchors = anchors.map_err(|e| TimestampError::NoAuthority(e.to_string()))?;
        let others = self.certificates.iter().filter(|(der, _)| der != own);
        let between: Vec<_> = others
            .map(|(der, _)| CertificateDer::from(der.as_slice()))
            .collect();
        let seconds = u64::try_from(self.time.div_euclid(SECOND)).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = KeyUsage::required(TIME_STAMPING_OID);
        let path = entity.verify_for_usage(ON_THE_PATH, &anchors, &between, at, usage, None, None);
        path.map(drop).map_err(refused)
    }

    /// What the signature may be, whose algorithm names a hash or leaves it to the digest's.
    fn algorithms(&self) -> Result<Vec<Algorithm>, TimestampError> {
        let oid = self.signer.signature_algorithm.oid.to_string();
        let digest = self.signer.digest_alg.oid;
        Ok(match (&*oid, digest) {
            ("1.2.840.113549.1.1.11", _) | ("1.2.840.113549.1.1.1", SHA_256) => {
                vec![known::RSA_PKCS1_2048_8192_SHA256]
            }
            ("1.2.840.113549.1.1.12", _) | ("1.2.840.113549.1.1.1", SHA_384) => {
                vec![known::RSA_PKCS1_2048_8192_SHA384]
            }
            ("1.2.840.113549.1.1.13", _) | ("1.2.840.113549.1.1.1", SHA_512) => {
                vec![known::RSA_PKCS1_2048_8192_SHA512]
            }
            ("1.2.840.10045.4.3.2", _) => vec![known::ECDSA_P256_SHA256, known::ECDSA_P384_SHA256],
            ("1.2.840.10045.4.3.3", _) => vec![known::ECDSA_P256_SHA384, known::ECDSA_P384_SHA384],
            _ => return Err(TimestampError::Algorithm(oid)),
        })
    }

    fn accuracy(&self) -> Option<Nanos> {
        let accuracy = self.info.accuracy?;
        let part = |value: Option<u16>, unit: Nanos| Nanos::from(value.unwrap_or(0)) * unit;
        let seconds = Nanos::from(accuracy.seconds.unwrap_or(0)) * SECOND;
        Some(seconds + part(accuracy.millis, 1_000_000) + part(accuracy.micros, 1_000))
    }
}

/// In nanoseconds.
const SECOND: Nanos = 1_000_000_000;

/// RFC 3161 §2.3: the certificate is for time stamps and nothing else, and says so critically.
fn check_usage(certificate: &Certificate) -> Result<(), TimestampError> {
    let extensions = certificate.tbs_certificate.extensions.as_deref();
    let mut usages = extensions.unwrap_or_default().iter();
    let usage = usages.find(|e| e.extn_id == EXTENDED_KEY_USAGE);
    let usage = usage.filter(|e| e.critical).ok_or(TimestampError::Usage)?;
    let read = ExtendedKeyUsage::from_der(usage.extn_value.as_bytes()).map_err(form)?;
    match *read.0 == [TIME_STAMPING] {
        true => Ok(()),
        false => Err(TimestampError::Usage),
    }
}

fn digest_of(oid: &ObjectIdentifier) -> Result<&'static digest::Algorithm, TimestampError> {
    match *oid {
        SHA_256 => Ok(&digest::SHA256),
        SHA_384 => Ok(&digest::SHA384),
        SHA_512 => Ok(&digest::SHA512),
        other => Err(TimestampError::Algorithm(other.to_string())),
    }
}

/// `YYYYMMDDhhmmss[.f…]Z` (RFC 3161 §2.4.2: in UTC, with seconds, a fraction without zeros at its end).
fn generalized_time(time: &Any) -> Result<Nanos, TimestampError> {
    let not = || form("its time is not in the form of RFC 3161");
    if time.tag() != Tag::GeneralizedTime {
        return Err(not());
    }
    let text = std::str::from_utf8(time.value()).map_err(|_| not())?;
    let text = text.strip_suffix('Z').ok_or_else(not)?;
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let fine =
        fraction.is_none_or(|f| digits(f) && (1..=9).contains(&f.len()) && !f.ends_with('0'));
    if whole.len() != 14 || !digits(whole) || !fine {
        return Err(not());
    }
    let part = |from: usize, to: usize| whole.get(from..to).unwrap_or_default();
    let fraction = fraction.map_or(String::new(), |f| format!(".{f}"));
    let spelt = format!(
        "{}-{}-{}T{}:{}:{}{fraction}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14),
    );
    parse_time(&spelt).map_err(|_| not())
}

//! What a device says that it is, and the certificates between it and us.

use super::Nanos;
use std::fmt;

/// Days before its end from which on a certificate is warned of.
pub const EXPIRES_SOON: i64 = 30;

const DAY: Nanos = 86_400_000_000_000;

/// What a device says of itself: objects of Modbus function 43/14 (MODBUS Application Protocol V1.1b3,
/// 6.21), or the `BuildInfo` of an OPC UA server (OPC 10000-5, 12.4). What it does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nameplate {
    /// Who made it.
    pub manufacturer: String,
    /// What it is called.
    pub product: String,
    /// Which one of several.
    pub model: String,
    /// Version of its software.
    pub version: String,
}

impl Nameplate {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Nameplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            &self.manufacturer,
            &self.product,
            &self.model,
            &self.version,
        ];
        let said: Vec<&str> = parts.map(String::as_str).into_iter().collect();
        let said: Vec<&str> = said.into_iter().filter(|part| !part.is_empty()).collect();
        f.write_str(&said.join(" "))
    }
}

/// Whose a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The hub's, or edge node's, own.
    Ours,
    /// That of the machine or application at the other end.
    Theirs,
}

/// A certificate that a connection stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInUse {
    /// Whose it is.
    pub side: Side,
    /// Whom it names, as X.509 writes it.
    pub subject: String,
    /// SHA-1 in hexadecimal.
    pub thumbprint: String,
    /// Until when it is valid.
    pub valid_until: Nanos,
    /// The certificate folder, as `weighbridge certs --pki` takes it.
    pub folder: String,
}

impl CertificateInUse {
    /// Days until it expires, counted from `now`; negative when it has.
    pub fn days_left(&self, now: Nanos) -> i64 {
        self.valid_until.saturating_sub(now).div_euclid(DAY)
    }

    /// What is to be said of its end, and what to do; `None` while there is time.
    pub fn warning(&self, now: Nanos) -> Option<String> {
        let when = match self.days_left(now) {
            ..0 => "has expired".to_owned(),
            0 => "expires today".to_owned(),
            1 => "expires in 1 day".to_owned(),
            days @ 2..EXPIRES_SOON => format!("expires in {days} days"),
            _ => return None,
        };
        let (subject, folder) = (&self.subject, &self.folder);
        let short: String = self.thumbprint.chars().take(8).collect();
        Some(match self.side {
            Side::Ours => format!(
                "our certificate {subject} ({short}) {when}: `weighbridge certs renew --pki {folder}`, \
                 let the other side trust {folder}/own/cert.der, and restart"
            ),
            Side::Theirs => format!(
                "the other side's certificate {subject} ({short}) {when}: have it renewed there, then \
                 `weighbridge certs trust FILE --pki {folder}`"
            ),
        })
    }
}

/// What is known of a device beyond its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What it says of itself; `None` when it says nothing.
    pub nameplate: Option<Nameplate>,
    /// The certificates of its connection.
    pub certificates: Vec<CertificateInUse>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_near_is_said_with_what_to_do() {
        let certificate = |days: i64, side| CertificateInUse {
            side,
            subject: "CN=robot".into(),
            thumbprint: "ab12cd34ef".into(),
            valid_until: days * DAY + 1,
            folder: "pki/opcua-client".into(),
        };
        let said = |days, side| certificate(days, side).warning(0);
        let theirs = said(12, Side::Theirs).unwrap();
        assert!(
            theirs.contains("CN=robot (ab12cd34) expires in 12 days: "),
            "{theirs}"
        );
        assert!(
            theirs.contains("`weighbridge certs trust FILE --pki pki/opcua-client`"),
            "{theirs}"
        );
        let ours = said(-1, Side::Ours).unwrap();
        assert!(
            ours.contains("has expired: `weighbridge certs renew"),
            "{ours}"
        );
        assert!(said(0, Side::Ours).unwrap().contains("expires today"));
        assert!(said(1, Side::Ours).unwrap().contains("in 1 day:"));
        assert_eq!(said(EXPIRES_SOON, Side::Ours), None);
    }

    #[test]
    fn a_nameplate_is_what_was_said_in_one_line() {
        let plate = Nameplate {
            manufacturer: "Weighs & Co".into(),
            version: "1.2".into(),
            ..Nameplate::default()
        };
        assert_eq!(plate.to_string(), "Weighs & Co 1.2");
        assert!(!plate.is_empty() && Nameplate::default().is_empty());
    }
}

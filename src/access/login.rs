//! Whether somebody is who they say: by password and one-time code, by certificate, or by signing a
//! challenge. Says nothing of what they may do.

use super::challenge::Challenge;
use super::credentials::Credentials;
use crate::crypto::{Authorities, Certificate, CertificateKind, PasswordHash, possession};
use crate::model::Nanos;
use weighbridge_verifier::{Hash, PublicKey};

/// Digits of a one-time code.
const CODE_DIGITS: usize = 6;

/// What somebody shows.
#[derive(Clone, Copy)]
pub enum Attempt<'a> {
    /// A password, and the code that an app shows.
    Password {
        /// The password.
        password: &'a [u8],
        /// The code; asked for when the user has one-time codes.
        code: Option<&'a str>,
    },
    /// A password, and behind it and a space the code of those who have one-time codes.
    OneField(&'a str),
    /// Certificates, their own first, whose key the channel has proven: TLS by its handshake, OPC UA by the
    /// signature of the identity token. Never what somebody merely sent.
    Certificate {
        /// DER.
        chain: &'a [Vec<u8>],
        /// Who is trusted to issue them, if anybody.
        authorities: Option<&'a Authorities>,
    },
    /// A signature over a challenge that was taken from [`super::Challenges`].
    Signature {
        /// What was to be signed.
        challenge: &'a Challenge,
        /// The key that they say is theirs.
        key: &'a PublicKey,
        /// The signature.
        signature: &'a [u8],
    },
}

/// How somebody proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By a password alone.
    Password,
    /// By a password and a one-time code.
    PasswordAndCode,
    /// By a certificate.
    Certificate,
    /// By signing a challenge.
    Signature,
}

impl Method {
    /// The name used in records and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::PasswordAndCode => "password_and_code",
            Self::Certificate => "certificate",
            Self::Signature => "signature",
        }
    }
}

/// Somebody is who they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// Who: the name without `user:`.
    pub user: String,
    /// How.
    pub method: Method,
    /// The step of the code that was accepted. It must be remembered, durably and only if no later one is,
    /// before anybody is let in: else the code can be used twice.
    pub step: Option<u64>,
    /// The key that was shown, of a certificate or a signature.
    pub key: Option<Hash>,
    /// When what they showed is worth nothing any more, of a certificate.
    pub until: Option<Nanos>,
    /// Which of their passwords it was ([`PasswordHash::mark`]), of one that the hub has: another in its place
    /// ends what was begun by it.
    pub password: Option<Hash>,
}

/// Why somebody is not let in: for the hub's own log. Those outside are told [`Refused::ANSWER`] whatever it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody has this name.
    #[error("nobody has this name")]
    Unknown,
    /// They have no password.
    #[error("they have no password")]
    NoPassword,
    /// The password is wrong.
    #[error("the password is wrong")]
    Password,
    /// The code is missing.
    #[error("the one-time code is missing")]
    NoCode,
    /// The code is wrong, was used before, or the clocks differ.
    #[error(
        "the one-time code is wrong, was used before, or the clocks differ by more than a step"
    )]
    Code,
    /// They have no one-time codes.
    #[error("they have no one-time codes")]
    NoTotp,
    /// The certificate does not hold.
    #[error("the certificate does not hold: {0}")]
    Certificate(String),
    /// The certificate is somebody else's.
    #[error("the certificate names somebody else")]
    Name,
    /// The key is not theirs.
    #[error("the key is not one of theirs")]
    Key,
    /// The challenge was for somebody else, or is over.
    #[error("the challenge was for somebody else, or is over")]
    Challenge,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
}

impl Refused {
    /// What those outside are told: nothing from which they could guess on.
    pub const ANSWER: &'static str = "wrong user name, password, code or key";
}

/// Whether `attempt` proves that somebody is the user of `credentials`; `None` when there are none of
/// that name. For passwords as much is computed whoever asks, so takes tens of milliseconds: not for
/// a thread on which others wait.
pub fn verify_login(
    credentials: Option<&Credentials>,
    attempt: &Attempt<'_>,
    now: Nanos,
) -> Result<Proved, Refused> {
    match attempt {
        Attempt::Password { password, code } => by_password(credentials, password, *code, now),
        Attempt::OneField(field) => {
            let (password, code) = match credentials.and_then(|c| c.totp.as_ref()) {
                Some(_) => split_code(field),
                None => (*field, None),
            };
            by_password(credentials, password.as_bytes(), code, now)
        }
        Attempt::Certificate { chain, authorities } => {
            let credentials = credentials.ok_or(Refused::Unknown)?;
            by_certificate(credentials, chain, *authorities, now)
        }
        Attempt::Signature {
            challenge,
            key,
            signature,
        } => {
            // Looked at first, so that unknown users take as long.
            let right = challenge.is_answered_by(key, signature);
            let credentials = credentials.ok_or(Refused::Unknown)?;
            by_signature(credentials, challenge, key, right, now)
        }
    }
}

/// A password and the code behind it. The last space divides them, and only before six digits: so every password
/// can be written, one that ends in a space or in digits, too, and a forgotten code is not taken from the
/// password's own digits.
fn split_code(field: &str) -> (&str, Option<&str>) {
    match field.rsplit_once(' ') {
        Some((password, code))
            if code.len() == CODE_DIGITS && code.bytes().all(|b| b.is_ascii_digit()) =>
        {
            (password, Some(code))
        }
        _ => (field, None),
    }
}

/// The step of a right one-time code, for what is asked for again within a session: to be remembered as that of a log-in.
pub fn verify_code(credentials: &Credentials, code: &str, now: Nanos) -> Result<u64, Refused> {
    let totp = credentials.totp.as_ref().ok_or(Refused::NoTotp)?;
    let step = totp.secret.accept(code, now, totp.last_step);
    step.ok_or(Refused::Code)
}

fn by_password(
    credentials: Option<&Credentials>,
    password: &[u8],
    code: Option<&str>,
    now: Nanos,
) -> Result<Proved, Refused> {
    let known = credentials.and_then(|c| c.password.as_ref());
    let right = known.unwrap_or(PasswordHash::nobody()).matches(password);
    let credentials = credentials.ok_or(Refused::Unknown)?;
    // The code is looked at when the password is wrong as well; only both together count.
    let step = match (&credentials.totp, code) {
        (None, _) => Ok(None),
        (Some(_), None) => Err(Refused::NoCode),
        (Some(_), Some(code)) => verify_code(credentials, code, now).map(Some),
    };
    if known.is_none() {
        return Err(Refused::NoPassword);
    }
    if !right {
        return Err(Refused::Password);
    }
    let step = step?;
    Ok(Proved {
        user: credentials.name().to_owned(),
        method: match step {
            Some(_) => Method::PasswordAndCode,
            None => Method::Password,
        },
        step,
        key: None,
        until: None,
        password: known.map(PasswordHash::mark),
    })
}

fn by_certificate(
    credentials: &Credentials,
    chain: &[Vec<u8>],
    authorities: Option<&Authorities>,
    now: Nanos,
) -> Result<Proved, Refused> {
    let wrong = |reason: &dyn std::fmt::Display| Refused::Certificate(reason.to_string());
    let first = chain.first().ok_or_else(|| wrong(&"none was shown"))?;
    let shown = Certificate::from_der(first).map_err(|e| wrong(&e))?;
    if credentials.certificates().contains(&shown.fingerprint()) {
        if !shown.is_valid_at(now) {
            return Err(wrong(&"it is not valid now"));
        }
    } else {
        let authorities = authorities.ok_or_else(|| wrong(&"no authority is trusted"))?;
        authorities.check(chain, now).map_err(|e| wrong(&e))?;
        // The site's authority says who it is for: a device of that name is not the user. Others
        // do not say it, and their keys speak for themselves.
        if let Some(name) = &shown.name
            && (name.kind != CertificateKind::User || name.id != credentials.name())
        {
            return Err(Refused::Name);
        }
        if !credentials.keys().contains(&shown.key_hash()) {
            return Err(Refused::Key);
        }
    }
    Ok(Proved {
        user: credentials.name().to_owned(),
        method: Method::Certificate,
        step: None,
        key: Some(shown.key_hash()),
        until: Some(shown.valid_until),
        password: None,
    })
}

fn by_signature(
    credentials: &Credentials,
    challenge: &Challenge,
    key: &PublicKey,
    right: bool,
    now: Nanos,
) -> Result<Proved, Refused> {
    if challenge.subject != credentials.subject() || now >= challenge.expires {
        return Err(Refused::Challenge);
    }
    if !right {
        return Err(Refused::Signature);
    }
    let hash = possession::key_hash(key).ok_or(Refused::Key)?;
    if !credentials.keys().contains(&hash) {
        return Err(Refused::Key);
    }
    Ok(Proved {
        user: credentials.name().to_owned(),
        method: Method::Signature,
        step: None,
        key: Some(hash),
        until: None,
        password: None,
    })
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;

//! Passwords, kept as salted Argon2id hashes (RFC 9106) in the form that PHC strings have.

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use std::fmt;
use std::sync::LazyLock;
use weighbridge_verifier::{Hash, sha256};

/// Longest password that is looked at: hashing a long one takes longer, and anybody may send one.
pub const MAX_PASSWORD: usize = 1024;

/// The hash of a password that nobody has, of the parameters that all others have.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$d2VpZ2hicmlkZ2Utbm9ib2R5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Before a hash of a hash that tells passwords apart.
const MARK_DOMAIN: &[u8] = b"weighbridge/password-mark/v1\0";

/// Why a password has no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It is too long.
    #[error("a password has at most {MAX_PASSWORD} bytes")]
    Long,
    /// The library refuses.
    #[error("{0}")]
    Library(String),
    /// Not a hash.
    #[error("it is not an Argon2 hash as PHC strings have it")]
    Form,
}

/// The salted hash of a password. What is printed for debugging does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Phc);

impl PasswordHash {
    /// Hashes a password with a salt from the operating system's randomness. Takes 19 MiB and some
    /// tens of milliseconds.
    pub fn new(password: &[u8]) -> Result<Self, PasswordError> {
        bounded(password)?;
        let hash = argon2().hash_password(password);
        hash.map(Self).map_err(library)
    }

    /// The same with this salt.
    pub fn with_salt(password: &[u8], salt: &[u8; 16]) -> Result<Self, PasswordError> {
        bounded(password)?;
        let hash = argon2().hash_password_with_salt(password, salt);
        hash.map(Self).map_err(library)
    }

    /// Reads a hash that was made before, here or elsewhere.
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        match Phc::new(text) {
            Ok(hash) if text.starts_with("$argon2") => Ok(Self(hash)),
            _ => Err(PasswordError::Form),
        }
    }

    /// A hash that no password has, to be compared for a user who does not exist: it takes the same time.
    pub fn nobody() -> &'static Self {
        static HASH: LazyLock<PasswordHash> = LazyLock::new(|| match PasswordHash::parse(NOBODY) {
            Ok(hash) => hash,
            Err(error) => unreachable!("a test reads this hash: {error}"),
        });
        &HASH
    }

    /// Whether it is the hash of `password`. Compares in constant time.
    pub fn matches(&self, password: &[u8]) -> bool {
        bounded(password).is_ok() && argon2().verify_password(password, &self.0).is_ok()
    }

    /// What tells this password from the one that takes its place, and says nothing else of it.
    pub fn mark(&self) -> Hash {
        sha256(&[MARK_DOMAIN, self.to_phc().as_bytes()])
    }

    /// The PHC string.
    pub fn to_phc(&self) -> String {
        self.0.to_string()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// OWASP's first choice for Argon2id: 19 MiB, two passes, one lane.
fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

fn bounded(password: &[u8]) -> Result<(), PasswordError> {
    match password.len() {
        0..=MAX_PASSWORD => Ok(()),
        _ => Err(PasswordError::Long),
    }
}

fn library(error: impl fmt::Display) -> PasswordError {
    PasswordError::Library(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_matches_and_the_hash_can_be_kept() {
        let hash = PasswordHash::new(b"open sesame").unwrap();
        assert!(hash.to_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let again = PasswordHash::parse(&hash.to_phc()).unwrap();
        assert_eq!(hash, again);
        assert!(again.matches(b"open sesame"));
        for wrong in ["", "open sesam", "open sesame ", "Open sesame"] {
            assert!(!again.matches(wrong.as_bytes()), "{wrong:?}");
        }
        assert!(!format!("{hash:?}").contains("argon2"));
    }

    #[test]
    fn two_salts_make_two_hashes() {
        let hash = |salt| PasswordHash::with_salt(b"p", &[salt; 16]).unwrap();
        assert_ne!(hash(1), hash(2));
        assert_eq!(hash(1), hash(1));
        assert_ne!(PasswordHash::new(b"p"), PasswordHash::new(b"p"));
    }

    /// Made by the reference implementation (github.com/P-H-C/phc-winner-argon2, src/test.c, version 0x13):
    /// Argon2id, 64 MiB, two passes, one lane.
    #[test]
    fn a_hash_of_the_reference_implementation() {
        let text = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let hash = PasswordHash::parse(text).unwrap();
        assert!(hash.matches(b"password"));
        assert!(!hash.matches(b"Password"));
    }

    #[test]
    fn nobody_has_the_parameters_of_everybody() {
        let parameters = |hash: &PasswordHash| {
            let text = hash.to_phc();
            let (parameters, _) = text.split_at(text.find("p=1$").unwrap());
            parameters.to_owned()
        };
        let somebody = PasswordHash::new(b"p").unwrap();
        assert_eq!(parameters(PasswordHash::nobody()), parameters(&somebody));
        assert!(!PasswordHash::nobody().matches(b""));
    }

    #[test]
    fn what_is_no_hash_or_too_long_is_refused() {
        for text in ["", "secret", "$2b$10$abcdefghijklmnopqrstuv", "$argon2id$"] {
            assert_eq!(PasswordHash::parse(text), Err(PasswordError::Form));
        }
        let long = vec![b'x'; MAX_PASSWORD + 1];
        assert_eq!(PasswordHash::new(&long), Err(PasswordError::Long));
        assert!(!PasswordHash::nobody().matches(&long));
    }
}

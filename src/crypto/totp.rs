//! One-time codes by the clock (TOTP, RFC 6238, over HOTP, RFC 4226), as authenticator apps show them.
//!
//! A code holds for its step of 30 s and one step either way, so that a clock may be half a minute
//! wrong. The step of the last accepted code is remembered, and a code of that step or one before is
//! refused: it was seen, perhaps by others (RFC 6238, 5.2).

use crate::model::Nanos;
use data_encoding::BASE32_NOPAD;
use ring::hmac;
use std::fmt::{self, Write};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

/// Seconds that a code is shown for (RFC 6238, 4.1: the recommended 30).
pub const STEP_SECONDS: u64 = 30;
/// Steps that a clock may be ahead or behind.
pub const DRIFT_STEPS: u64 = 1;
/// Digits of a code (RFC 4226, 5.3: at least six; apps that show more are rare).
pub const DIGITS: usize = 6;
/// Bytes of a new secret (RFC 4226, 4, R6: 160 bits).
const SECRET_BYTES: usize = 20;
/// Shortest secret that is taken from elsewhere (RFC 4226, 4, R6: 128 bits).
const SHORTEST: usize = 16;
/// Longest.
const LONGEST: usize = 64;

/// The hash under the codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TotpHash {
    /// What every app knows; several ignore that they are told another one. HMAC-SHA-1 is not broken
    /// by what breaks SHA-1.
    #[default]
    Sha1,
    /// For apps that are known to do it.
    Sha256,
}

impl TotpHash {
    fn algorithm(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }
}

/// Why a secret cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TotpError {
    /// It has another length.
    #[error("a secret for one-time codes has {SHORTEST} to {LONGEST} bytes, this one has {0}")]
    Length(usize),
    /// It is no base32.
    #[error("the secret is not base32 (A to Z and 2 to 7, RFC 4648)")]
    Base32,
}

/// What a person's authenticator app and the hub both know. Wiped from memory when dropped, and not
/// shown when printed for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpSecret {
    bytes: Zeroizing<Vec<u8>>,
    hash: TotpHash,
}

impl TotpSecret {
    /// A new one from the operating system's randomness.
    pub fn generate(hash: TotpHash) -> Self {
        let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES]);
        match getrandom::fill(&mut bytes) {
            Ok(()) => Self { bytes, hash },
            Err(error) => unreachable!("the operating system has no randomness: {error}"),
        }
    }

    /// One from elsewhere.
    pub fn from_bytes(bytes: &[u8], hash: TotpHash) -> Result<Self, TotpError> {
        match bytes.len() {
            SHORTEST..=LONGEST => Ok(Self {
                bytes: Zeroizing::new(bytes.to_vec()),
                hash,
            }),
            length => Err(TotpError::Length(length)),
        }
    }

    /// Reads the base32 form; spaces, small letters and `=` at the end are taken as people type them.
    pub fn from_base32(text: &str, hash: TotpHash) -> Result<Self, TotpError> {
        let plain = text.trim_end_matches('=').chars();
        let plain = plain.filter(|c| !matches!(c, ' ' | '-'));
        let mut letters = Zeroizing::new(Vec::with_capacity(text.len()));
        for letter in plain {
            let letter = u8::try_from(letter).map_err(|_| TotpError::Base32)?;
            letters.push(letter.to_ascii_uppercase());
        }
        let bytes = BASE32_NOPAD.decode(&letters);
        let bytes = Zeroizing::new(bytes.map_err(|_| TotpError::Base32)?);
        Self::from_bytes(&bytes, hash)
    }

    /// The base32 form, for apps that are typed into.
    pub fn to_base32(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE32_NOPAD.encode(&self.bytes))
    }

    /// The hash under the codes.
    pub fn hash(&self) -> TotpHash {
        self.hash
    }

    /// What the QR code says: the URI that apps take, of `account` at `issuer`.
    pub fn uri(&self, issuer: &str, account: &str) -> Zeroizing<String> {
        let (issuer, account) = (percent(issuer), percent(account));
        Zeroizing::new(format!(
            "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm={}&digits={DIGITS}&period={STEP_SECONDS}",
            *self.to_base32(),
            self.hash.name(),
        ))
    }

    /// The step of an accepted code: to be remembered as `last`, before anybody is let in.
    ///
    /// `last` is the step of the code that was accepted before; codes of that step and of earlier ones
    /// are refused. All steps are looked at whatever is found, in constant time.
    pub fn accept(&self, code: &str, now: Nanos, last: Option<u64>) -> Option<u64> {
        let mut typed = [0; DIGITS];
        let digits = code.bytes().filter(|b| *b != b' ');
        if digits.clone().count() != DIGITS || !digits.clone().all(|b| b.is_ascii_digit()) {
            return None;
        }
        for (place, digit) in typed.iter_mut().zip(digits) {
            *place = digit;
        }
        let middle = step_at(now);
        let first = middle.saturating_sub(DRIFT_STEPS);
        let first = first.max(last.map_or(0, |last| last.saturating_add(1)));
        let (mut found, mut step) = (subtle::Choice::from(0), 0);
        // A code that two steps have counts for the later one, so that it is not taken twice.
        for candidate in first..=middle.saturating_add(DRIFT_STEPS) {
            let right = self.code(candidate).as_bytes().ct_eq(&typed);
            step = u64::conditional_select(&step, &candidate, right);
            found |= right;
        }
        bool::from(found).then_some(step)
    }

    /// The code that an app shows at `now`.
    pub fn shown(&self, now: Nanos) -> Zeroizing<String> {
        self.code(step_at(now))
    }

    fn code(&self, step: u64) -> Zeroizing<String> {
        let number = self.number(step) % 10_u32.pow(DIGITS as u32);
        Zeroizing::new(format!("{number:0DIGITS$}"))
    }

    /// The truncated HMAC of a step (RFC 4226, 5.3).
    fn number(&self, step: u64) -> u32 {
        let key = hmac::Key::new(self.hash.algorithm(), &self.bytes);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let bytes = tag.as_ref();
        let at = usize::from(bytes.last().copied().unwrap_or(0) & 0x0f);
        let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
        // Both hashes have more than 19 bytes.
        u32::from_be_bytes(four.copied().unwrap_or_default()) & 0x7fff_ffff
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(…)")
    }
}

/// The step that `time` is in.
pub fn step_at(time: Nanos) -> u64 {
    u64::try_from(time / 1_000_000_000).unwrap_or(0) / STEP_SECONDS
}

/// Percent encoding (RFC 3986, 2.1) of everything but unreserved characters.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Nanos = 1_000_000_000;

    fn rfc(hash: TotpHash) -> TotpSecret {
        let bytes: &[u8] = match hash {
            TotpHash::Sha1 => b"12345678901234567890",
            TotpHash::Sha256 => b"12345678901234567890123456789012",
        };
        TotpSecret::from_bytes(bytes, hash).unwrap()
    }

    /// RFC 4226, appendix D: the truncated numbers and the codes of the first ten counts.
    #[test]
    fn the_numbers_of_rfc_4226() {
        let numbers: [u32; 10] = [
            1284755224, 1094287082, 137359152, 1726969429, 1640338314, 868254676, 1918287922,
            82162583, 673399871, 645520489,
        ];
        let codes = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583",
            "399871", "520489",
        ];
        let secret = rfc(TotpHash::Sha1);
        for (count, (number, code)) in (0..).zip(numbers.into_iter().zip(codes)) {
            assert_eq!(secret.number(count), number);
            assert_eq!(secret.code(count).as_str(), code);
        }
    }

    /// RFC 6238, appendix B, whose codes have eight digits.
    #[test]
    fn the_codes_of_rfc_6238() {
        let table: [(i64, u32, u32); 6] = [
            (59, 94287082, 46119246),
            (1111111109, 7081804, 68084774),
            (1111111111, 14050471, 67062674),
            (1234567890, 89005924, 91819424),
            (2000000000, 69279037, 90698825),
            (20000000000, 65353130, 77737706),
        ];
        for (seconds, sha1, sha256) in table {
            // The last is beyond the years that nanoseconds can say.
            let step = (seconds / 30) as u64;
            if let Some(time) = seconds.checked_mul(SECOND) {
                assert_eq!(step_at(time), step);
            }
            let eight = |hash| rfc(hash).number(step) % 100_000_000;
            assert_eq!(eight(TotpHash::Sha1), sha1, "{seconds}");
            assert_eq!(eight(TotpHash::Sha256), sha256, "{seconds}");
        }
    }

    #[test]
    fn a_clock_may_be_one_step_wrong_and_no_more() {
        let secret = rfc(TotpHash::Sha1);
        let at = 1_000_000;
        let code = secret.code(at);
        let table = [(-2, false), (-1, true), (0, true), (1, true), (2, false)];
        for (off, taken) in table {
            let now = (at as i64 + off) * 30 * SECOND;
            for now in [now, now + 30 * SECOND - 1] {
                let got = secret.accept(&code, now, None);
                assert_eq!(got, taken.then_some(at), "{off}");
            }
        }
    }

    #[test]
    fn a_code_counts_once_and_older_ones_no_more() {
        let secret = rfc(TotpHash::Sha1);
        let at = 1_000_000_u64;
        let now = at as i64 * 30 * SECOND;
        let accept = |step: u64, last| secret.accept(&secret.code(step), now, last);
        assert_eq!(accept(at, None), Some(at));
        assert_eq!(accept(at, Some(at)), None);
        assert_eq!(accept(at - 1, Some(at)), None);
        assert_eq!(accept(at + 1, Some(at)), Some(at + 1));
        assert_eq!(accept(at, Some(at + 1)), None);
        assert_eq!(accept(at, Some(u64::MAX)), None);
    }

    #[test]
    fn only_six_digits_are_a_code() {
        let secret = rfc(TotpHash::Sha1);
        let now = 59 * SECOND;
        assert_eq!(secret.accept("287082", now, None), Some(1));
        assert_eq!(secret.accept(" 287 082", now, None), Some(1));
        for wrong in [
            "",
            "28708",
            "2870821",
            "94287082",
            "28708x",
            "+28708",
            "２８７０８２",
        ] {
            assert_eq!(secret.accept(wrong, now, None), None, "{wrong:?}");
        }
        // Times at which a step more or less is none.
        for now in [i64::MIN, -1, 0, i64::MAX] {
            secret.accept("000000", now, None);
        }
    }

    #[test]
    fn secrets_as_people_type_them() {
        let secret = rfc(TotpHash::Sha1);
        assert_eq!(
            secret.to_base32().as_str(),
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
        );
        for text in [
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
            "gezd gnbv gy3t qojq gezd gnbv gy3t qojq",
            "GEZDGNBVGY3TQOJQ-GEZDGNBVGY3TQOJQ====",
        ] {
            assert_eq!(
                TotpSecret::from_base32(text, TotpHash::Sha1).unwrap(),
                secret
            );
        }
        let read = |text: &str| TotpSecret::from_base32(text, TotpHash::Sha1).unwrap_err();
        assert_eq!(read("GEZDGNBVGY3TQOJ1GEZDGNBVGY3TQOJQ"), TotpError::Base32);
        assert_eq!(read("ü"), TotpError::Base32);
        assert_eq!(read("GEZDGNBV"), TotpError::Length(5));
    }

    #[test]
    fn the_uri_that_apps_take() {
        let uri = rfc(TotpHash::Sha1).uri("Works 7", "ann:x@example");
        assert_eq!(
            uri.as_str(),
            "otpauth://totp/Works%207:ann%3Ax%40example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Works%207&algorithm=SHA1&digits=6&period=30"
        );
        assert_eq!(format!("{:?}", rfc(TotpHash::Sha1)), "TotpSecret(…)");
    }

    proptest! {
        #[test]
        fn no_code_is_taken_twice(
            bytes in proptest::collection::vec(any::<u8>(), 16..=64),
            moves in proptest::collection::vec((0_i64..120, -2_i64..=2), 1..40),
        ) {
            let secret = TotpSecret::from_bytes(&bytes, TotpHash::Sha256).unwrap();
            let (mut now, mut last) = (1_700_000_000 * SECOND, None);
            let mut taken = std::collections::BTreeSet::new();
            for (later, off) in moves {
                now += later * SECOND;
                let step = step_at(now).checked_add_signed(off).unwrap();
                if let Some(accepted) = secret.accept(&secret.code(step), now, last) {
                    prop_assert!(accepted.abs_diff(step_at(now)) <= DRIFT_STEPS);
                    prop_assert!(taken.insert(accepted), "step {accepted} twice");
                    last = Some(accepted);
                }
            }
        }
    }
}

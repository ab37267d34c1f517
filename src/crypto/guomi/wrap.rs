//! Wrapping a secret to an SM2 key: GB/T 32918.4, the ciphertext as C1 ‖ C3 ‖ C2.
//!
//! The standard has no associated data, so what a wrap is bound to is encrypted before the secret, and
//! compared when it is opened: C3, a hash over all of the plaintext, keeps anyone from changing it.

use crate::crypto::envelope::OpenError;
use crate::crypto::sealing::WrappedKey;
use getrandom::SysRng;
use sm2::pke::{DecryptingKey, EncryptingKey, Mode};
use sm2::{PublicKey, SecretKey};
use weighbridge_verifier::encode;
use zeroize::Zeroizing;

/// Length of C1: an uncompressed point.
const POINT: usize = 65;

/// The secret for the owner of `reader`.
pub(in crate::crypto) fn seal(
    reader: &PublicKey,
    secret: &[u8; 32],
    info: &[u8],
    associated: &[u8],
) -> Result<WrappedKey, OpenError> {
    let plain = Zeroizing::new([&bound(info, associated), &secret[..]].concat());
    let key = EncryptingKey::new_with_mode(*reader, Mode::C1C3C2);
    let sealed = key.encrypt(&mut SysRng, &plain);
    let mut enc = sealed.map_err(|_| OpenError::Form)?;
    let ciphertext = enc.split_off(POINT.min(enc.len()));
    Ok(WrappedKey { enc, ciphertext })
}

/// The secret of a wrap that is bound to `info` and `associated`.
pub(in crate::crypto) fn open(
    key: &SecretKey,
    wrapped: &WrappedKey,
    info: &[u8],
    associated: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    // One form only: the point is not compressed.
    if wrapped.enc.len() != POINT || wrapped.enc.first() != Some(&4) {
        return Err(OpenError::Form);
    }
    let sealed = [&wrapped.enc[..], &wrapped.ciphertext].concat();
    let key = DecryptingKey::new_with_mode(key.to_nonzero_scalar(), Mode::C1C3C2);
    let plain = key.decrypt(&sealed).map(Zeroizing::new);
    let plain = plain.map_err(|_| OpenError::Authentication)?;
    let secret = plain.strip_prefix(&bound(info, associated)[..]);
    let secret = secret.ok_or(OpenError::Authentication)?;
    Ok(Zeroizing::new(secret.to_vec()))
}

fn bound(info: &[u8], associated: &[u8]) -> Vec<u8> {
    encode(&(info, associated))
}

//! Passwords and other words that somebody else gave us, as files.

use super::key_file::{self, KeyFileError};
use std::path::Path;
use zeroize::Zeroizing;

/// What is in `path`, which nobody but its owner may read, without the end of its line.
///
/// # Errors
/// When it cannot be read, or others may read it.
pub fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let text = key_file::read(path)?;
    let word = text.trim_end_matches(['\r', '\n']);
    Ok(Zeroizing::new(word.to_owned()))
}

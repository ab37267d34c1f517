//! How an edge node reads who a hub is by now: over a connection on which nothing else comes.

use crate::crypto::{Introduction, IntroductionError};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest introduction, in bytes.
const MAX_INTRODUCTION: u64 = 4 << 20;

impl Introduction {
    /// Reads one from a connection on which nothing else comes.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Self, IntroductionError> {
        let mut bytes = Vec::new();
        let read = from.take(MAX_INTRODUCTION).read_to_end(&mut bytes).await;
        // Many end a connection without saying so once they have said all.
        match read {
            Err(error) if bytes.is_empty() => Err(IntroductionError::Read(error.to_string())),
            _ => Self::from_bytes(&bytes),
        }
    }
}

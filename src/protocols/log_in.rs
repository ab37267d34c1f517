//! Who somebody is, asked the same way by every face: the port, and what is shown at it.

use crate::access::{Challenge, ChallengeError, Nonce, Proved, TooEarly};
use crate::crypto::PasswordHash;
use async_trait::async_trait;
use std::net::IpAddr;
use std::sync::Arc;
use weighbridge_verifier::{Hash, PublicKey};
use zeroize::Zeroizing;

/// What somebody shows; owned, because it is looked at on another thread.
pub enum Proof {
    /// A password, and the code that an app shows.
    Password(Zeroizing<String>, Option<String>),
    /// Both in one field, for protocols that have no other: the code after the password and a space.
    OneField(Zeroizing<String>),
    /// A password that is compared with this hash, which the face has of its own; nobody's when there is none.
    Own(Zeroizing<String>, Option<Box<PasswordHash>>),
    /// Certificates (DER), their own first, whose key the channel has proven.
    Certificate(Vec<Vec<u8>>),
    /// A signature: over which challenge, by which key.
    Signature(Nonce, PublicKey, Vec<u8>),
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotIn {
    /// They have to wait.
    TooEarly(TooEarly),
    /// They did not prove who they are; why is in the log only.
    Refused,
    /// Too much is going on.
    Busy,
}

impl NotIn {
    /// For the sums of those who were turned away.
    pub fn in_short(&self) -> &'static str {
        match self {
            Self::TooEarly(_) => "too early after a wrong log-in",
            Self::Refused => "wrong log-in",
            Self::Busy => "too many log in",
        }
    }
}

/// Says who somebody is. One for all faces of a hub: what is guessed wrong at one slows down at the others.
#[async_trait]
pub trait LogInPort: Send + Sync + 'static {
    /// Who proves at `face`, from `from`, to be somebody: `user`, or whoever the certificate is for when no
    /// name was said.
    async fn log_in(
        &self,
        face: &'static str,
        user: Option<&str>,
        proof: Proof,
        from: IpAddr,
    ) -> Result<Proved, NotIn>;

    /// A challenge to `user`, whether there is one or not, who asks from `from`.
    fn challenge(&self, user: &str, from: IpAddr) -> Result<Challenge, ChallengeError>;

    /// Whether `user` could log in by this certificate (DER) now; nothing is counted.
    async fn holds(&self, user: &str, certificate: &[u8]) -> bool {
        let _ = (user, certificate);
        true
    }

    /// Whether the password of `user` still is the one with this [mark](PasswordHash::mark); nothing is counted.
    async fn has_password(&self, user: &str, mark: &Hash) -> bool {
        let _ = (user, mark);
        true
    }

    /// The certificates (DER) of users that this hub has seen, for protocols that show no more than the
    /// hash of one. To have seen a certificate is not to trust it.
    async fn certificates(&self) -> Arc<[Vec<u8>]>;
}

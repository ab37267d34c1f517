//! Keys and envelopes of both suites. `nist`: P-256 ECDSA (low-s) and SHA-256 for signatures,
//! AES-256-GCM for batches, HPKE (RFC 9180) for the keys they are sealed under. `guomi`: SM2 and SM3,
//! SM4-GCM, SM2's public-key encryption. And what identities show: passwords, one-time codes,
//! certificates of the site's authority. The cryptography crates are used here only.

pub mod authority;
pub mod certificate;
mod chain;
mod checkpoint_key;
pub mod envelope;
pub mod guomi;
mod hub_key;
pub mod identity;
mod introduction;
mod key_file;
pub mod mesh_tls;
mod network_key;
pub mod password;
pub mod pinned_tls;
pub mod possession;
mod quick_check;
mod quick_p256;
mod replaceable;
mod salts;
pub mod sealing;
mod sealing_files;
mod sealing_ring;
mod sealing_word;
pub mod secret_file;
mod served;
pub mod signer;
mod stamp;
mod symmetric;
pub mod timestamp;
pub mod tls;
pub mod totp;

pub use authority::{Authority, AuthorityError};
pub use certificate::{Certificate, CertificateError, CertificateKind, CertifiedName};
pub use chain::{Authorities, ChainError};
pub use checkpoint_key::{CheckpointKey, ed25519_holds};
pub use envelope::{EpochKey, OpenError};
pub use hub_key::{HubKey, NextKeyError};
pub use identity::{Identity, PeerKey};
pub use introduction::{Introduction, IntroductionError};
pub use key_file::KeyFileError;
pub use network_key::NetworkSeed;
pub use password::{PasswordError, PasswordHash};
pub use quick_check::QuickCheck;
pub use replaceable::{NoSuccessor, ReplaceableKey};
pub use salts::SaltSeed;
pub use sealing::{SealingKey, SealingPublicKey, WrappedKey};
pub use sealing_ring::{MAX_FORMER, NextSealingKeyError, SealingRing};
pub use sealing_word::SealingWord;
pub use served::ServedCertificate;
pub use signer::Signer;
pub use stamp::ChangedFiles;
pub use tls::{TlsError, TlsFiles, TlsPair, TlsServerConfig};
pub use totp::{TotpError, TotpHash, TotpSecret};

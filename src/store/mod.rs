//! Implementations of [`crate::ledger::store::Store`], the signed head outside of it, and the durable
//! queue for what cannot go on yet; and the small files beside the ledger: users' credentials, the
//! site's certificates.

pub mod archive;
pub mod batches;
mod buffered;
pub mod credentials;
mod faulty;
mod fjall_store;
mod head;
mod key_slots;
mod legacy_keys;
mod lock;
mod manifest;
pub mod site_certificates;
mod small_file;
pub mod spool;

pub use archive::{ArchiveDir, ArchiveError};
pub use buffered::{BufferStatus, BufferedStore, buffered_puts};
pub use credentials::{CredentialFiles, CredentialStoreError, MAX_USERS};
pub use faulty::{FaultyDisk, FaultyHead, FaultyStore};
pub use fjall_store::FjallStore;
pub use head::HeadFile;
pub use site_certificates::{Issued, SiteCertificates, SiteError};
pub(crate) use small_file::replace as replace_file;

// The same tests, once for each suite.
#[cfg(test)]
#[path = "tests"]
mod nist {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Nist;
    #[path = "mod.rs"]
    mod tests;
}
#[cfg(test)]
#[allow(clippy::duplicate_mod)]
#[path = "tests"]
mod guomi {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Guomi;
    #[path = "mod.rs"]
    mod tests;
}

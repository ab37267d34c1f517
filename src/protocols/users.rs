//! What the faces ask of whoever keeps the users' credentials: the port.

use super::ports::AccessError;
use crate::access::Caller;
use crate::crypto::{Certificate, TotpHash, TotpSecret};
use crate::model::Nanos;
use async_trait::async_trait;
use std::collections::BTreeSet;
use weighbridge_verifier::Hash;
use zeroize::Zeroizing;

/// By what a user logs in; nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownUser {
    /// The name, without `user:`.
    pub name: String,
    /// Whether they have a password.
    pub password: bool,
    /// The hash under their one-time codes; `None` where none are asked for.
    pub codes: Option<TotpHash>,
    /// SHA-256 of their public keys.
    pub keys: BTreeSet<Hash>,
    /// SHA-256 of their pinned certificates.
    pub certificates: BTreeSet<Hash>,
}

/// Somebody may choose a password, once.
pub struct Invited {
    /// What they need for that: it is nowhere else.
    pub invitation: Zeroizing<String>,
    /// Until when, then included no more.
    pub until: Nanos,
}

/// What is done to a user's credentials by somebody else.
#[derive(Clone, Debug)]
pub enum Amendment {
    /// A key of theirs, by the hash of it, or by a certificate that shows it.
    AddKey(Hash, Option<Certificate>),
    /// A certificate that is trusted whoever issued it.
    Pin(Certificate),
    /// A key or a certificate is theirs no more.
    Forget(Hash),
    /// They have no password any more.
    RemovePassword,
    /// They are asked for no codes any more.
    RemoveCodes,
}

/// How somebody comes to be a user, or to be one again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewUser {
    /// Their roles; those that they have, or had, when `None`.
    pub roles: Option<BTreeSet<String>>,
    /// From when on they are nobody; `None` for never.
    pub expires: Option<Nanos>,
}

/// Who is invited, and what is asked of them.
pub struct Welcome {
    /// The name.
    pub user: String,
    /// Until when.
    pub until: Nanos,
    /// The secret of the codes that they are to set up, if they are.
    pub codes: Option<TotpSecret>,
}

/// Why credentials are not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersFault {
    /// By the rules of access, or it cannot be recorded.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No invitation that is open: wrong, taken, over, or of somebody who may not come in.
    #[error("this invitation is not open: it was taken already, is over, or never was one")]
    NotInvited,
    /// The one-time code of a new secret is missing or wrong.
    #[error("the one-time code is wrong, or the clocks differ by more than half a minute")]
    Code,
    /// Nothing was begun, or it is over.
    #[error("there are no new one-time codes to be confirmed: begin again")]
    NotBegun,
    /// It cannot be.
    #[error("{0}")]
    Impossible(String),
    /// The files cannot be read or written.
    #[error("the credentials cannot be read or written: {0}")]
    Files(String),
}

/// Keeps the users' credentials. Every change is durable in the record before it is in force, and so is a refusal;
/// no record holds a secret.
#[async_trait]
pub trait UsersPort: Send + Sync + 'static {
    /// Everybody who has credentials.
    async fn users(&self) -> Result<Vec<KnownUser>, UsersFault>;

    /// Enrols somebody new, who is invited to choose a password, and to set up `codes`.
    async fn add(
        &self,
        caller: &Caller,
        user: &str,
        new: NewUser,
        codes: bool,
    ) -> Result<Invited, UsersFault>;

    /// Invites a user who is in to choose another password, and to set up `codes`. What they have holds until then.
    async fn invite(&self, caller: &Caller, user: &str, codes: bool)
    -> Result<Invited, UsersFault>;

    /// Takes all credentials of a user away, and invites them to choose new ones; who was withdrawn or has expired is in
    /// again.
    async fn reissue(
        &self,
        caller: &Caller,
        user: &str,
        new: NewUser,
        codes: bool,
    ) -> Result<Invited, UsersFault>;

    /// Changes one thing.
    async fn amend(
        &self,
        caller: &Caller,
        user: &str,
        amendment: Amendment,
    ) -> Result<(), UsersFault>;

    /// Withdraws a user, and takes the credentials away.
    async fn revoke(&self, caller: &Caller, user: &str) -> Result<(), UsersFault>;

    /// Who an invitation is for.
    async fn invited(&self, invitation: &str) -> Result<Welcome, UsersFault>;

    /// Takes an invitation: the user, who has this password from now on, and codes of which `code` is the first.
    async fn accept(
        &self,
        invitation: &str,
        password: Zeroizing<String>,
        code: Option<&str>,
    ) -> Result<String, UsersFault>;

    /// Gives the caller, who has just proven who they are, another password.
    async fn set_password(
        &self,
        caller: &Caller,
        password: Zeroizing<String>,
    ) -> Result<(), UsersFault>;

    /// Begins to give the caller, who has just proven who they are, other one-time codes.
    async fn begin_codes(&self, caller: &Caller, hash: TotpHash) -> Result<TotpSecret, UsersFault>;

    /// Ends it: from now on they are asked for codes, of which `code` is the first.
    async fn confirm_codes(&self, caller: &Caller, code: &str) -> Result<(), UsersFault>;
}

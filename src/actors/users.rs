//! The desk of the users' credentials: given, changed and taken away on record.
//!
//! Not an actor, but the way to one, as the [`AccessDesk`] is. A change is recorded first, as what the user is known by
//! from then on ([`KnownBy`]), and then written into the user's file. Files are changed beside the hub as well
//! (`weighbridge user` on a stopped one); what a file says otherwise than the record is recorded before anybody is let
//! in by it ([`UserDesk::settle`]).

mod travel;

use super::access::{AccessDesk, By};
use crate::access::{
    AccessState, Caller, Change, Credentials, CredentialsError, Invitation, KnownBy, Side, Subject,
    Totp, user_name,
};
use crate::crypto::{PasswordHash, TotpHash, TotpSecret};
use crate::model::{Nanos, now};
use crate::protocols::ports::AccessPort;
use crate::protocols::users::{
    Amendment, Invited, KnownUser, NewUser, UsersFault, UsersPort, Welcome,
};
use crate::store::{CredentialFiles, CredentialStoreError};
use async_trait::async_trait;
use data_encoding::BASE64URL_NOPAD;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use weighbridge_verifier::IdentityKind;
use zeroize::Zeroizing;

/// For how long an invitation is open: over a weekend.
const INVITED_FOR: Nanos = 3 * 24 * 3600 * 1_000_000_000;
/// For how long new one-time codes wait for their first code.
const PENDING_FOR: Nanos = 15 * 60 * 1_000_000_000;
/// New one-time codes that wait at a time.
const MAX_PENDING: usize = 256;
/// New passwords that are hashed at a time: each takes 19 MiB.
const AT_A_TIME: usize = 2;
/// What records call the session of who takes an invitation.
const BY_INVITATION: &str = "invitation";

/// What is done to credentials. It may be done twice: to find out what becomes of them, and to what is in the file.
type Edit = Box<dyn Fn(&mut Credentials) -> Result<(), CredentialsError> + Send + Sync>;

/// Secrets of codes of which nobody has shown one yet, by whose they are, and when they were made.
type Pending = BTreeMap<String, (Nanos, TotpSecret)>;

/// The desk. Cheap to clone.
#[derive(Clone)]
pub struct UserDesk(Arc<Inner>);

struct Inner {
    access: AccessDesk,
    files: CredentialFiles,
    /// Held from the record of a change until it is in the file.
    changing: AsyncMutex<()>,
    pending: Mutex<Pending>,
    hashing: Semaphore,
}

impl UserDesk {
    /// A desk for the users in `files`, which records by `access`.
    pub fn new(access: AccessDesk, files: CredentialFiles) -> Self {
        Self(Arc::new(Inner {
            access,
            files,
            changing: AsyncMutex::default(),
            pending: Mutex::default(),
            hashing: Semaphore::new(AT_A_TIME),
        }))
    }

    /// Records what differs between the files and the record, for all users.
    ///
    /// # Errors
    /// When the files cannot be read, or it cannot be recorded.
    pub async fn settle_all(&self) -> Result<(), UsersFault> {
        let files = self.0.files.clone();
        let there = blocking(move || files.names()).await?;
        let state = self.0.access.gate().state();
        let recorded = state.with_credentials().filter_map(name_of);
        let gone = recorded.filter(|name| !there.iter().any(|user| user == name));
        for user in there.iter().map(String::as_str).chain(gone) {
            match self.load(user).await {
                Ok(found)
                    if self
                        .0
                        .check_is_here((&state, user), found.as_ref())
                        .is_err() =>
                {
                    tracing::info!(user, "a user's credentials are to come from another hub");
                }
                Ok(found) => self.settle(user, found.as_ref()).await?,
                // Nobody logs in by it either.
                Err(error) => tracing::error!(user, %error, "a user's credentials cannot be read"),
            }
        }
        Ok(())
    }

    /// Sees to it that the record says of `user` what was `found` in the file, before anybody is let in by it.
    ///
    /// # Errors
    /// When it cannot be recorded, or was changed meanwhile.
    pub async fn settle(&self, user: &str, found: Option<&Credentials>) -> Result<(), UsersFault> {
        let id = format!("user:{user}");
        if difference(&self.0.access.gate().state(), &id, found).is_none() {
            return Ok(());
        }
        let _one_at_a_time = self.0.changing.lock().await;
        let state = self.0.access.gate().state();
        let Some(what) = difference(&state, &id, found) else {
            return Ok(());
        };
        self.0.check_is_here((&state, user), found)?;
        let file = self.load(user).await?;
        if difference(&state, &id, file.as_ref()).is_none() {
            // Changed by this desk between the look into the file and now.
            let why = "the credentials were changed at this moment";
            return Err(UsersFault::Impossible(why.to_owned()));
        }
        self.record_found(&state, &id, (found, &what)).await
    }

    async fn record_found(
        &self,
        state: &AccessState,
        id: &str,
        (found, what): (Option<&Credentials>, &str),
    ) -> Result<(), UsersFault> {
        let invitation = state
            .known_by(id)
            .and_then(|known| known.invitation.clone());
        let known = found.map(|found| KnownBy::new(found, salt(), invitation));
        let why = format!("credentials of {id} {what} in their file");
        tracing::warn!(id, "{why}");
        let change = Change::Credentials(id.to_owned(), known);
        let recorded = self.0.access.change(By::Hub(&why), vec![change]).await;
        Ok(recorded?)
    }

    async fn load(&self, user: &str) -> Result<Option<Credentials>, UsersFault> {
        let (files, user) = (self.0.files.clone(), user.to_owned());
        blocking(move || files.load(&user)).await
    }

    /// Makes `changes` together with what `edit` makes of the user's credentials, on record first. `fresh`: of
    /// credentials that say nothing yet, whatever there is.
    async fn change(
        &self,
        by: By<'_>,
        (user, fresh): (&str, bool),
        changes: Vec<Change>,
        (edit, invitation): (Edit, Option<Invitation>),
    ) -> Result<(), UsersFault> {
        let id = subject(user)?;
        let before = self.load(user).await?;
        if !fresh {
            let state = self.0.access.gate().state();
            self.0.check_is_here((&state, user), before.as_ref())?;
        }
        let new = || Credentials::new(user).map_err(impossible);
        let mut after = match &before {
            Some(before) if !fresh => before.clone(),
            _ => new()?,
        };
        edit(&mut after).map_err(impossible)?;
        let known = KnownBy::new(&after, salt(), invitation);
        let changes = changes.into_iter();
        let changes = changes.chain([Change::Credentials(id.clone(), Some(known))]);
        self.0.access.change(by, changes.collect()).await?;
        let (files, name) = (self.0.files.clone(), user.to_owned());
        let there = before.is_some();
        let written = blocking(move || match there {
            false => files.add(&after),
            true => files.change(&name, |credentials| {
                // What is in the file by now: a code may have been used meanwhile.
                if fresh {
                    *credentials = Credentials::new(&name).map_err(CredentialStoreError::Name)?;
                }
                edit(credentials).map_err(CredentialStoreError::Name)
            }),
        });
        self.written(&id, written.await).await
    }

    /// After a file could not be written the record ends with what it says.
    async fn written(&self, id: &str, written: Result<(), UsersFault>) -> Result<(), UsersFault> {
        if let Err(error) = &written {
            tracing::error!(id, %error, "credentials that are on record cannot be written");
            let file = match name_of(id) {
                Some(user) => self.load(user).await?,
                None => None,
            };
            let state = self.0.access.gate().state();
            if let Some(what) = difference(&state, id, file.as_ref()) {
                self.record_found(&state, id, (file.as_ref(), &what))
                    .await?;
            }
        }
        written
    }

    /// The subject of a user who is in, or was.
    fn known(&self, user: &str) -> Result<Subject, UsersFault> {
        let id = subject(user)?;
        let state = self.0.access.gate().state();
        let known = state.subjects().get(&id).cloned();
        known.ok_or_else(|| UsersFault::Impossible(format!("there is no user {user}")))
    }

    /// Who takes an invitation, and the invitation, when it is open for somebody who may come in.
    fn open(&self, invitation: &str) -> Result<(String, Invitation, String), UsersFault> {
        let found = || {
            let (user, secret) = invitation.trim().split_once(':')?;
            let (id, time) = (format!("user:{}", user_name(user).ok()?), now());
            let state = self.0.access.gate().state();
            let open = state.known_by(&id)?.invitation.clone()?;
            let taken = open.is_taken_by(secret, time) && state.admits(&id, time).is_ok();
            taken.then(|| (user.to_owned(), open, format!("invitation {id}")))
        };
        found().ok_or(UsersFault::NotInvited)
    }

    /// The secret of codes that wait for their first one.
    fn pending(&self, whose: &str) -> Option<TotpSecret> {
        let pending = self.0.pending.lock();
        let (since, secret) = pending.get(whose)?;
        let age = now().saturating_sub(*since);
        (0..PENDING_FOR).contains(&age).then(|| secret.clone())
    }

    /// A new secret that waits for its first code; who waits longest makes room.
    fn begin(&self, whose: &str, hash: TotpHash) -> TotpSecret {
        let secret = TotpSecret::generate(hash);
        let mut pending = self.0.pending.lock();
        if pending.len() >= MAX_PENDING && !pending.contains_key(whose) {
            let oldest = pending.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(oldest) = oldest.map(|(whose, _)| whose.clone()) {
                pending.remove(&oldest);
            }
        }
        pending.insert(whose.to_owned(), (now(), secret.clone()));
        secret
    }

    async fn hashed(&self, password: Zeroizing<String>) -> Result<PasswordHash, UsersFault> {
        let _turn = self.0.hashing.acquire().await;
        let hashed = tokio::task::spawn_blocking(move || PasswordHash::new(password.as_bytes()));
        let hashed = hashed.await.map_err(|e| UsersFault::Files(e.to_string()))?;
        hashed.map_err(|error| UsersFault::Impossible(error.to_string()))
    }

    /// Enrols, or lets in again, who is to be a user, and invites them.
    async fn issue(
        &self,
        caller: &Caller,
        user: &str,
        (new, codes): (NewUser, bool),
    ) -> Result<Invited, UsersFault> {
        let id = subject(user)?;
        let _one_at_a_time = self.0.changing.lock().await;
        let state = self.0.access.gate().state();
        let known = state.subjects().get(&id);
        let mut changes = Vec::new();
        match known.filter(|known| !known.revoked) {
            Some(known) => {
                if known.expires != new.expires {
                    changes.push(Change::Renew(id.clone(), new.expires));
                }
                let other = new.roles.filter(|roles| *roles != known.roles);
                changes.extend(other.map(|roles| Change::Assign(id.clone(), roles)));
            }
            None => {
                let mut subject = Subject::new(IdentityKind::User);
                let before = known.map(|known| known.roles.clone());
                subject.roles = new.roles.or(before).unwrap_or_default();
                subject.expires = new.expires;
                subject.declared = known.and_then(|known| known.declared.clone());
                changes.push(Change::Enrol(id.clone(), subject));
            }
        }
        if !state.lists(Side::Extranet).white.contains(&id) {
            changes.push(Change::White(Side::Extranet, id, true));
        }
        let (invited, invitation) = invitation(user, codes);
        let edit: Edit = Box::new(|_| Ok(()));
        let by = By::User(caller);
        self.change(by, (user, true), changes, (edit, Some(invitation)))
            .await?;
        Ok(invited)
    }
}

#[async_trait]
impl UsersPort for UserDesk {
    async fn users(&self) -> Result<Vec<KnownUser>, UsersFault> {
        let files = self.0.files.clone();
        blocking(move || {
            let mut users = Vec::new();
            for name in files.names()? {
                let Some(found) = files.load(&name)? else {
                    continue;
                };
                users.push(KnownUser {
                    name,
                    password: found.password.is_some(),
                    codes: found.totp.as_ref().map(|totp| totp.secret.hash()),
                    keys: found.keys().clone(),
                    certificates: found.certificates().clone(),
                });
            }
            Ok(users)
        })
        .await
    }

    async fn add(
        &self,
        caller: &Caller,
        user: &str,
        new: NewUser,
        codes: bool,
    ) -> Result<Invited, UsersFault> {
        let state = self.0.access.gate().state();
        let there = state.subjects().get(&subject(user)?);
        if there.is_some_and(|there| !there.revoked) || self.load(user).await?.is_some() {
            return Err(UsersFault::Impossible(format!(
                "there is a user {user} already, or there are credentials of this name: invite or reissue them"
            )));
        }
        self.issue(caller, user, (new, codes)).await
    }

    async fn invite(
        &self,
        caller: &Caller,
        user: &str,
        codes: bool,
    ) -> Result<Invited, UsersFault> {
        if self.known(user)?.revoked {
            return Err(UsersFault::Impossible(format!(
                "{user} was withdrawn: reissue them"
            )));
        }
        let _one_at_a_time = self.0.changing.lock().await;
        let (invited, invitation) = invitation(user, codes);
        let edit: Edit = Box::new(|_| Ok(()));
        let by = By::User(caller);
        self.change(by, (user, false), Vec::new(), (edit, Some(invitation)))
            .await?;
        Ok(invited)
    }

    async fn reissue(
        &self,
        caller: &Caller,
        user: &str,
        new: NewUser,
        codes: bool,
    ) -> Result<Invited, UsersFault> {
        self.known(user)?;
        self.issue(caller, user, (new, codes)).await
    }

    async fn amend(
        &self,
        caller: &Caller,
        user: &str,
        amendment: Amendment,
    ) -> Result<(), UsersFault> {
        let _one_at_a_time = self.0.changing.lock().await;
        let found = self.load(user).await?;
        let none = || UsersFault::Impossible(format!("there are no credentials of {user}"));
        let found = found.ok_or_else(none)?;
        let mut kept = None;
        let edit: Edit = match amendment {
            Amendment::AddKey(hash, certificate) => {
                kept = certificate;
                Box::new(move |c| c.add_key(hash))
            }
            Amendment::Pin(certificate) => {
                let hash = certificate.fingerprint();
                kept = Some(certificate);
                Box::new(move |c| c.pin(hash))
            }
            Amendment::Forget(hash) => {
                if !found.keys().contains(&hash) && !found.certificates().contains(&hash) {
                    let why = format!("{user} has no key or certificate of this hash");
                    return Err(UsersFault::Impossible(why));
                }
                Box::new(move |c| {
                    c.forget(&hash);
                    Ok(())
                })
            }
            Amendment::RemovePassword => Box::new(|c| {
                c.password = None;
                Ok(())
            }),
            Amendment::RemoveCodes => Box::new(|c| {
                c.totp = None;
                Ok(())
            }),
        };
        let invitation = self.invitation_of(user);
        let by = By::User(caller);
        self.change(by, (user, false), Vec::new(), (edit, invitation))
            .await?;
        if let Some(certificate) = kept {
            // It says nothing of whom it belongs to: the credentials do.
            let files = self.0.files.clone();
            blocking(move || files.keep_certificate(&certificate)).await?;
        }
        Ok(())
    }

    async fn revoke(&self, caller: &Caller, user: &str) -> Result<(), UsersFault> {
        let id = subject(user)?;
        let _one_at_a_time = self.0.changing.lock().await;
        let changes = vec![
            Change::Revoke(id.clone()),
            Change::Credentials(id.clone(), None),
        ];
        self.0.access.change(By::User(caller), changes).await?;
        let (files, name) = (self.0.files.clone(), user.to_owned());
        let removed = blocking(move || match files.remove(&name) {
            Err(CredentialStoreError::Unknown(_)) => Ok(()),
            other => other,
        });
        self.written(&id, removed.await).await
    }

    async fn invited(&self, invitation: &str) -> Result<Welcome, UsersFault> {
        let (user, open, whose) = self.open(invitation)?;
        // Who asks again sees the same code.
        let pending = open.codes.then(|| self.pending(&whose));
        let codes = pending.map(|p| p.unwrap_or_else(|| self.begin(&whose, TotpHash::Sha1)));
        Ok(Welcome {
            user,
            until: open.until,
            codes,
        })
    }

    async fn accept(
        &self,
        invitation: &str,
        password: Zeroizing<String>,
        code: Option<&str>,
    ) -> Result<String, UsersFault> {
        let (user, open, whose) = self.open(invitation)?;
        let new = Credentials::new(&user).map_err(impossible)?;
        new.check_new_password(&password).map_err(impossible)?;
        let totp = match open.codes {
            true => Some(first_code(self.pending(&whose), code)?),
            false => None,
        };
        let hash = self.hashed(password).await?;
        let _one_at_a_time = self.0.changing.lock().await;
        // Somebody may have been quicker.
        self.open(invitation)?;
        let edit: Edit = Box::new(move |credentials| {
            credentials.password = Some(hash.clone());
            if let Some(totp) = &totp {
                credentials.totp = Some(totp.clone());
            }
            Ok(())
        });
        let caller = Caller::new(user.as_str(), BY_INVITATION);
        self.change(By::Owner(&caller), (&user, false), Vec::new(), (edit, None))
            .await?;
        self.0.pending.lock().remove(&whose);
        Ok(user)
    }

    async fn set_password(
        &self,
        caller: &Caller,
        password: Zeroizing<String>,
    ) -> Result<(), UsersFault> {
        let user = &caller.user;
        let new = Credentials::new(user).map_err(impossible)?;
        new.check_new_password(&password).map_err(impossible)?;
        let hash = self.hashed(password).await?;
        let edit: Edit = Box::new(move |credentials| {
            credentials.password = Some(hash.clone());
            Ok(())
        });
        let _one_at_a_time = self.0.changing.lock().await;
        // Whoever chose a password themself needs no invitation any more.
        self.change(By::Owner(caller), (user, false), Vec::new(), (edit, None))
            .await
    }

    async fn begin_codes(&self, caller: &Caller, hash: TotpHash) -> Result<TotpSecret, UsersFault> {
        subject(&caller.user)?;
        Ok(self.begin(&caller.session, hash))
    }

    async fn confirm_codes(&self, caller: &Caller, code: &str) -> Result<(), UsersFault> {
        let pending = self.pending(&caller.session);
        let totp = first_code(pending, Some(code))?;
        let edit: Edit = Box::new(move |credentials| {
            credentials.totp = Some(totp.clone());
            Ok(())
        });
        let _one_at_a_time = self.0.changing.lock().await;
        let user = &caller.user;
        let invitation = self.invitation_of(user);
        let by = By::Owner(caller);
        self.change(by, (user, false), Vec::new(), (edit, invitation))
            .await?;
        self.0.pending.lock().remove(&caller.session);
        Ok(())
    }
}

impl UserDesk {
    fn invitation_of(&self, user: &str) -> Option<Invitation> {
        let state = self.0.access.gate().state();
        state.known_by(&format!("user:{user}"))?.invitation.clone()
    }
}

/// The codes of a secret, of which `code` is the first.
fn first_code(pending: Option<TotpSecret>, code: Option<&str>) -> Result<Totp, UsersFault> {
    let secret = pending.ok_or(UsersFault::NotBegun)?;
    let step = code.and_then(|code| secret.accept(code.trim(), now(), None));
    let last_step = Some(step.ok_or(UsersFault::Code)?);
    Ok(Totp { secret, last_step })
}

/// A new invitation, and what is kept of it.
fn invitation(user: &str, codes: bool) -> (Invited, Invitation) {
    let secret = Zeroizing::new(BASE64URL_NOPAD.encode(&*Zeroizing::new(salt())));
    let until = now().saturating_add(INVITED_FOR);
    let kept = Invitation::new(&secret, until, codes);
    let invitation = Zeroizing::new(format!("{user}:{}", *secret));
    (Invited { invitation, until }, kept)
}

/// How what was found differs from what is on record; `None`: not at all.
fn difference(state: &AccessState, id: &str, found: Option<&Credentials>) -> Option<String> {
    match (state.known_by(id), found) {
        (None, None) => None,
        (Some(_), None) => Some("removed".to_owned()),
        (None, Some(found)) => {
            let parts = KnownBy::new(found, [0; 32], None).has();
            let parts = match parts.is_empty() {
                true => "nothing yet".to_owned(),
                false => parts.join(", "),
            };
            Some(format!("found ({parts})"))
        }
        (Some(known), Some(found)) => {
            let parts = known.differs(found);
            (!parts.is_empty()).then(|| format!("changed ({})", parts.join(", ")))
        }
    }
}

fn subject(user: &str) -> Result<String, UsersFault> {
    Ok(format!("user:{}", user_name(user).map_err(impossible)?))
}

fn name_of(id: &str) -> Option<&str> {
    id.strip_prefix("user:")
}

fn impossible(error: CredentialsError) -> UsersFault {
    UsersFault::Impossible(error.to_string())
}

/// 32 bytes that nobody can foresee.
fn salt() -> [u8; 32] {
    let mut bytes = [0; 32];
    match getrandom::fill(&mut bytes) {
        Ok(()) => bytes,
        Err(error) => unreachable!("the operating system has no randomness: {error}"),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CredentialStoreError> + Send + 'static,
) -> Result<T, UsersFault> {
    let done = tokio::task::spawn_blocking(work).await;
    let failed = |error: &dyn std::fmt::Display| UsersFault::Files(error.to_string());
    done.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
}

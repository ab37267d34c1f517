//! Users of a site with several hubs: what they are known by travels to where they log in, sealed, and counts there
//! only if it is what the record commits to. A one-time code that was used at one hub counts at none any more.

use super::{Inner, UserDesk, blocking, difference, impossible, name_of};
use crate::access::{AccessState, Change, Credentials, Parcel};
use crate::actors::access::By;
use crate::crypto::{Certificate, SealingPublicKey, SealingRing};
use crate::protocols::ports::{AccessError, AccessPort};
use crate::protocols::users::UsersFault;
use crate::store::{CredentialFiles, CredentialStoreError};

/// Credentials asked for at a time.
const MOST: usize = 256;

impl UserDesk {
    /// Users who changed what they are known by at another hub, and whose credentials are not here yet: to be asked
    /// for, some at a time. Where credentials were taken away there, so they are here.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub async fn wanted(&self) -> Result<Vec<String>, UsersFault> {
        let state = self.0.access.gate().state();
        let elsewhere = state
            .with_credentials()
            .filter(|id| self.0.is_elsewhere(id));
        let users: Vec<String> = elsewhere.filter_map(name_of).map(str::to_owned).collect();
        self.follow_withdrawals().await?;
        let files = self.0.files.clone();
        blocking(move || {
            let mut wanted = Vec::new();
            for user in users {
                if wanted.len() >= MOST {
                    break;
                }
                // One that cannot be read is asked for, too.
                let file = files.load(&user).unwrap_or_default();
                if is_stale(&state, &user, file.as_ref()) {
                    wanted.push(user);
                }
            }
            Ok(wanted)
        })
        .await
    }

    /// Takes away the files of users whose credentials were taken away at another hub.
    async fn follow_withdrawals(&self) -> Result<(), UsersFault> {
        let _one_at_a_time = self.0.changing.lock().await;
        let files = self.0.files.clone();
        let there = blocking(move || files.names()).await?;
        let state = self.0.access.gate().state();
        for user in there {
            let id = format!("user:{user}");
            if state.known_by(&id).is_some() || !self.0.is_elsewhere(&id) {
                continue;
            }
            tracing::info!(user, "credentials were taken away at another hub");
            let files = self.0.files.clone();
            blocking(move || match files.remove(&user) {
                Err(CredentialStoreError::Unknown(_)) => Ok(()),
                other => other,
            })
            .await?;
        }
        Ok(())
    }

    /// The credentials of a user, sealed for the hub whose key this is; none where this hub does not have those that
    /// are on record.
    ///
    /// # Errors
    /// When they cannot be read or sealed.
    pub async fn parcel(
        &self,
        user: &str,
        to: &SealingPublicKey,
    ) -> Result<Option<Vec<u8>>, UsersFault> {
        let state = self.0.access.gate().state();
        let (files, user) = (self.0.files.clone(), user.to_owned());
        let found = blocking(move || {
            let found = files.load(&user)?;
            let Some(credentials) = found.filter(|found| !is_stale(&state, &user, Some(found)))
            else {
                return Ok(None);
            };
            let certificates = files.certificates()?;
            let certificates = certificates
                .into_iter()
                .filter(|der| is_of(&credentials, der));
            let certificates = certificates.collect();
            Ok(Some(Parcel {
                credentials,
                certificates,
            }))
        });
        let Some(parcel) = found.await? else {
            return Ok(None);
        };
        let mut number = [0; 16];
        let failed = |error: &dyn std::fmt::Display| UsersFault::Files(error.to_string());
        getrandom::fill(&mut number).map_err(|e| failed(&e))?;
        parcel.seal(to, number).map(Some).map_err(|e| failed(&e))
    }

    /// Takes credentials that another hub sent, if they are what the record commits to; whose they are.
    ///
    /// # Errors
    /// When they are not, or cannot be opened or written.
    pub async fn take(&self, keys: &SealingRing, parcel: &[u8]) -> Result<String, UsersFault> {
        let parcel = Parcel::open(parcel, keys);
        let parcel = parcel.map_err(|e| UsersFault::Impossible(e.to_string()))?;
        let Parcel {
            credentials,
            certificates,
        } = parcel;
        let user = credentials.name().to_owned();
        let _one_at_a_time = self.0.changing.lock().await;
        let state = self.0.access.gate().state();
        if state.known_by(&credentials.subject()).is_none()
            || is_stale(&state, &user, Some(&credentials))
        {
            let why = format!("these credentials of {user} are not those on record");
            return Err(UsersFault::Impossible(why));
        }
        let files = self.0.files.clone();
        blocking(move || {
            write(&files, &credentials)?;
            for der in certificates.iter().filter(|der| is_of(&credentials, der)) {
                if let Ok(certificate) = Certificate::from_der(der) {
                    files.keep_certificate(&certificate)?;
                }
            }
            Ok(())
        })
        .await?;
        tracing::info!(user, "credentials came from another hub");
        Ok(user)
    }

    /// Has it on record that a one-time code was used, where several hubs could be shown it, before anybody is let in
    /// by it; `false` when it was used before.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn use_code(&self, user: &str, step: u64) -> Result<bool, UsersFault> {
        let desk = &self.0.access;
        if !desk.is_shared() {
            return Ok(true);
        }
        let id = format!("user:{user}");
        if desk
            .gate()
            .state()
            .subjects()
            .get(&id)
            .is_none_or(|s| s.revoked)
        {
            // Whoever is not in is not let in for other reasons.
            return Ok(true);
        }
        let used = vec![Change::UsedCode(id, step)];
        match desk.change(By::Hub("a one-time code was used"), used).await {
            Ok(()) => Ok(true),
            Err(AccessError::Impossible(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Inner {
    /// Whether what a user is known by was recorded by another hub last.
    pub(super) fn is_elsewhere(&self, id: &str) -> bool {
        self.access.is_elsewhere(&format!("credentials/{id}"))
    }

    /// What differs between a file and the record is not this hub's to record while the record is another hub's: the
    /// file is what it was before.
    pub(super) fn check_is_here(
        &self,
        (state, user): (&AccessState, &str),
        file: Option<&Credentials>,
    ) -> Result<(), UsersFault> {
        if self.is_elsewhere(&format!("user:{user}")) && is_stale(state, user, file) {
            let why =
                "what they log in by was changed at another hub, and has not come from there yet";
            return Err(UsersFault::Impossible(why.to_owned()));
        }
        Ok(())
    }
}

/// Whether the record says something else of a user than a file does.
fn is_stale(state: &AccessState, user: &str, file: Option<&Credentials>) -> bool {
    let id = format!("user:{user}");
    let nothing = Credentials::new(user).map_err(impossible).ok();
    let Some(found) = file.or(nothing.as_ref()) else {
        return false;
    };
    // Who is invited and has nothing yet needs no file.
    let known = state.known_by(&id).map(|known| known.differs(found));
    known.map_or_else(
        || difference(state, &id, file).is_some(),
        |parts| !parts.is_empty(),
    )
}

/// Whether a certificate is one that credentials name.
fn is_of(credentials: &Credentials, der: &[u8]) -> bool {
    Certificate::from_der(der).is_ok_and(|certificate| {
        credentials
            .certificates()
            .contains(&certificate.fingerprint())
            || credentials.keys().contains(&certificate.key_hash())
    })
}

/// In place of what is there; of two that know the same codes, the later one used counts.
fn write(files: &CredentialFiles, new: &Credentials) -> Result<(), CredentialStoreError> {
    if matches!(files.load(new.name()), Ok(None)) {
        return files.add(new);
    }
    files.change(new.name(), |there| {
        let mut new = new.clone();
        if let (Some(totp), Some(before)) = (&mut new.totp, &there.totp)
            && totp.secret == before.secret
        {
            totp.last_step = totp.last_step.max(before.last_step);
        }
        *there = new;
        Ok(())
    })
}

//! The log-in desk: one place where all faces ask who somebody is.
//!
//! Every attempt passes [`LoginGuard`] before anything is computed, whichever face it comes from; those outside
//! learn from a refusal nothing but that it is one. Passwords are compared on threads of their own, two at a
//! time: each takes 19 MiB, and anybody may ask for one.

use super::users::UserDesk;
use crate::access::{
    Attempt, Challenge, ChallengeError, Challenges, Credentials, GuardLimits, LoginGuard, Method,
    Proved, Refused, verify_login,
};
use crate::crypto::{Authorities, Certificate, CertificateKind, PasswordHash};
use crate::model::{Nanos, now};
use crate::protocols::log_in::{LogInPort, NotIn, Proof};
use crate::store::{CredentialFiles, site_certificates};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use weighbridge_verifier::Hash;

/// Passwords that are compared at a time.
const AT_A_TIME: usize = 2;
/// How long somebody waits for their turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long it is not looked again which certificates there are.
const FRESH: Duration = Duration::from_secs(1);
/// What the log shows of a name that somebody sent.
const MAX_SHOWN: usize = 64;

/// Certificates of users, and when they were read.
type Seen = (Instant, Arc<[Vec<u8>]>);

/// Where it is looked up who somebody is.
#[derive(Clone, Debug)]
struct Known {
    files: CredentialFiles,
    /// The file with the authorities that may issue certificates for users, and beside it what was issued.
    authority: Option<PathBuf>,
}

/// The desk. One for all faces of a hub.
pub struct LogInDesk {
    known: Option<Known>,
    turns: Arc<Semaphore>,
    guard: Mutex<LoginGuard>,
    challenges: Mutex<Challenges>,
    /// Where what files say otherwise than the record is recorded.
    users: Option<UserDesk>,
    /// Certificates of users, as they were a moment ago.
    seen: AsyncMutex<Option<Seen>>,
}

impl LogInDesk {
    /// The desk of `hub`, whose users are in `files`; those in the file `authority`, if there is one, may issue
    /// certificates for them.
    pub fn new(hub: &str, files: CredentialFiles, authority: Option<PathBuf>) -> Self {
        Self::of(hub, Some(Known { files, authority }))
    }

    /// A desk that knows nobody, for faces with passwords of their own.
    pub fn without_users(hub: &str) -> Self {
        Self::of(hub, None)
    }

    fn of(hub: &str, known: Option<Known>) -> Self {
        Self {
            known,
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            guard: Mutex::new(LoginGuard::new(GuardLimits::default())),
            challenges: Mutex::new(Challenges::new(hub)),
            users: None,
            seen: AsyncMutex::default(),
        }
    }

    /// From now on nobody is let in by credentials of which the record does not tell: `users` records them.
    pub fn recorded_by(self, users: UserDesk) -> Self {
        Self {
            users: Some(users),
            ..self
        }
    }

    /// Whether the one-time code by which somebody proved who they are was used at no hub of the site before.
    async fn is_new(&self, proved: &Proved) -> Result<bool, NotIn> {
        let (Some(users), Some(step)) = (&self.users, proved.step) else {
            return Ok(true);
        };
        let new = users.use_code(&proved.user, step).await;
        new.map_err(|error| {
            let user = &proved.user;
            tracing::error!(user, %error, "that a code was used cannot be recorded, so nobody is let in");
            NotIn::Busy
        })
    }

    /// Whether the record tells of the credentials by which somebody proved who they are.
    async fn on_record(&self, used: Option<Credentials>) -> bool {
        let (Some(users), Some(used)) = (&self.users, used) else {
            return true;
        };
        let settled = users.settle(used.name(), Some(&used)).await;
        if let Err(error) = &settled {
            let user = used.name();
            tracing::error!(user, %error, "credentials of which no record tells let nobody in");
        }
        settled.is_ok()
    }
}

#[async_trait]
impl LogInPort for LogInDesk {
    async fn log_in(
        &self,
        face: &'static str,
        user: Option<&str>,
        proof: Proof,
        from: IpAddr,
    ) -> Result<Proved, NotIn> {
        // A certificate says by itself whose it is, or at least which: that is what attempts are counted by.
        let claimed = match (user, &proof) {
            (Some(user), _) => user.to_owned(),
            (None, Proof::Certificate(chain)) => claimed(chain),
            (None, _) => String::new(),
        };
        let begun = self.guard.lock().begin(&claimed, from, now());
        if let Err(early) = begun {
            // Not logged: whoever floods the hub would flood the log.
            return Err(NotIn::TooEarly(early));
        }
        // Taken whatever comes of it, so that one challenge is one attempt.
        let challenge = match &proof {
            Proof::Signature(nonce, ..) => self.challenges.lock().take(nonce, now()),
            _ => None,
        };
        let turn = self.turns.clone().acquire_owned();
        let Ok(Ok(turn)) = tokio::time::timeout(PATIENCE, turn).await else {
            return Err(NotIn::Busy);
        };
        let (known, name) = (self.known.clone(), user.map(str::to_owned));
        let look = move || {
            // Held here, so that whoever hangs up does not make room for one more.
            let _turn = turn;
            verify(known.as_ref(), name.as_deref(), &proof, challenge.as_ref())
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok((proved, used))) => {
                if !self.on_record(used).await {
                    return Err(NotIn::Busy);
                }
                if !self.is_new(&proved).await? {
                    let user = &proved.user;
                    tracing::warn!(face, user, %from, "the one-time code was used at another hub");
                    return Err(NotIn::Refused);
                }
                self.guard.lock().succeeded(&claimed, from, now());
                Ok(proved)
            }
            Ok(Err(why)) => {
                let user: String = claimed.chars().take(MAX_SHOWN).collect();
                tracing::warn!(face, user, %from, %why, "wrong log-in");
                Err(NotIn::Refused)
            }
            Err(_) => Err(NotIn::Busy),
        }
    }

    fn challenge(&self, user: &str, from: IpAddr) -> Result<Challenge, ChallengeError> {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|_| ChallengeError::Nonce)?;
        let subject = format!("user:{user}");
        self.challenges.lock().open(&subject, from, nonce, now())
    }

    async fn holds(&self, user: &str, certificate: &[u8]) -> bool {
        let Some(known) = self.known.clone() else {
            return false;
        };
        let (user, chain) = (user.to_owned(), vec![certificate.to_vec()]);
        let look = move || verify_certificate(&known, Some(&user), &chain, now());
        // What cannot be looked at is not said to be over.
        let looked = tokio::task::spawn_blocking(look).await;
        looked.is_err() || looked.is_ok_and(|held| held.is_ok())
    }

    async fn has_password(&self, user: &str, mark: &Hash) -> bool {
        let Some(known) = self.known.clone() else {
            return false;
        };
        let (user, mark) = (user.to_owned(), *mark);
        let look = move || {
            let found = credentials(&known, &user);
            let password = found.as_ref().and_then(|c| c.password.as_ref());
            password.is_some_and(|password| password.mark() == mark)
        };
        // What cannot be looked at is not said to be over.
        tokio::task::spawn_blocking(look).await.unwrap_or(true)
    }

    async fn certificates(&self) -> Arc<[Vec<u8>]> {
        let Some(known) = self.known.clone() else {
            return Arc::default();
        };
        // One reads at a time, for all who ask at that moment: nobody has shown anything yet.
        let mut seen = self.seen.lock().await;
        if let Some((when, certificates)) = &*seen
            && when.elapsed() < FRESH
        {
            return certificates.clone();
        }
        let look = move || {
            let mut all = known.files.certificates().unwrap_or_else(|error| {
                tracing::error!(%error, "certificates of users cannot be read");
                Vec::new()
            });
            let issued = known.authority.as_ref().and_then(|file| file.parent());
            let issued = issued.map(|pki| pki.join("issued").join(CertificateKind::User.name()));
            all.extend(issued.iter().flat_map(|dir| first_of_each(dir)));
            all
        };
        let found: Arc<[_]> = tokio::task::spawn_blocking(look)
            .await
            .unwrap_or_default()
            .into();
        *seen = Some((Instant::now(), found.clone()));
        found
    }
}

/// Whom a certificate is for, as it says itself; its fingerprint when it says nothing.
fn claimed(chain: &[Vec<u8>]) -> String {
    let first = chain
        .first()
        .and_then(|der| Certificate::from_der(der).ok());
    let Some(first) = first else {
        return "certificate".to_owned();
    };
    match &first.name {
        Some(name) if name.kind == CertificateKind::User => name.id.clone(),
        _ => format!("certificate {}", first.fingerprint()),
    }
}

/// The first certificate of every file in a folder, as far as there are any.
fn first_of_each(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let paths = paths.filter(|path| path.extension().is_some_and(|e| e == "crt"));
    let read = |path: PathBuf| site_certificates::read(&path).ok()?.into_iter().next();
    let found = paths.take(crate::store::MAX_USERS).filter_map(read);
    found.map(|c| c.der().to_vec()).collect()
}

/// Who somebody is, and the credentials that say it, where the hub has them.
type Verified = (Proved, Option<Credentials>);

/// Reads the user's credentials, compares, and remembers a code as used. Blocking.
fn verify(
    known: Option<&Known>,
    user: Option<&str>,
    proof: &Proof,
    challenge: Option<&Challenge>,
) -> Result<Verified, Refused> {
    if let Proof::Own(password, hash) = proof {
        return Ok((verify_own(user, password, hash.as_deref())?, None));
    }
    let known = known.ok_or(Refused::Unknown)?;
    let attempt = match (proof, challenge) {
        (Proof::Certificate(chain), _) => return verify_certificate(known, user, chain, now()),
        (Proof::Password(password, code), _) => Attempt::Password {
            password: password.as_bytes(),
            code: code.as_deref(),
        },
        (Proof::OneField(field), _) => Attempt::OneField(field),
        (Proof::Signature(_, key, signature), Some(challenge)) => Attempt::Signature {
            challenge,
            key,
            signature,
        },
        (Proof::Signature(..), None) => return Err(Refused::Challenge),
        (Proof::Own(..), _) => unreachable!("looked at above"),
    };
    let user = user.ok_or(Refused::Unknown)?;
    let found = credentials(known, user);
    let proved = verify_login(found.as_ref(), &attempt, now())?;
    if let Some(step) = proved.step {
        let new = known.files.use_step(user, step).unwrap_or_else(|error| {
            tracing::error!(%error, "that a code was used cannot be written, so nobody is let in");
            false
        });
        if !new {
            return Err(Refused::Code);
        }
    }
    Ok((proved, found))
}

fn verify_own(
    user: Option<&str>,
    password: &str,
    hash: Option<&PasswordHash>,
) -> Result<Proved, Refused> {
    // Compared for who does not exist, too, so that the time tells nothing.
    let right = hash
        .unwrap_or(PasswordHash::nobody())
        .matches(password.as_bytes());
    match (user, hash) {
        (Some(user), Some(_)) if right => Ok(Proved {
            user: user.to_owned(),
            method: Method::Password,
            step: None,
            key: None,
            until: None,
            password: None,
        }),
        (Some(_), Some(_)) => Err(Refused::Password),
        _ => Err(Refused::Unknown),
    }
}

fn verify_certificate(
    known: &Known,
    user: Option<&str>,
    chain: &[Vec<u8>],
    now: Nanos,
) -> Result<Verified, Refused> {
    let wrong = |reason: &dyn std::fmt::Display| Refused::Certificate(reason.to_string());
    let first = chain.first().ok_or_else(|| wrong(&"none was shown"))?;
    let shown = Certificate::from_der(first).map_err(|e| wrong(&e))?;
    let owner = match (user, &shown.name) {
        (Some(user), _) => credentials(known, user).ok_or(Refused::Unknown)?,
        (None, Some(name)) if name.kind == CertificateKind::User => {
            credentials(known, &name.id).ok_or(Refused::Unknown)?
        }
        (None, _) => owner(known, &shown)?,
    };
    // Read each time: who renewed or replaced the authority need not restart the hub.
    let authorities = known.authority.as_ref().filter(|file| file.exists());
    let authorities = authorities.map(|file| {
        let trusted = site_certificates::read(file).map_err(|e| wrong(&e))?;
        Authorities::new(&trusted).map_err(|e| wrong(&e))
    });
    let authorities = authorities.transpose()?;
    let attempt = Attempt::Certificate {
        chain,
        authorities: authorities.as_ref(),
    };
    let proved = verify_login(Some(&owner), &attempt, now)?;
    Ok((proved, Some(owner)))
}

/// The one user whose certificate or key it is, when it does not say so itself.
fn owner(known: &Known, shown: &Certificate) -> Result<Credentials, Refused> {
    let (fingerprint, key) = (shown.fingerprint(), shown.key_hash());
    let names = known.files.names().unwrap_or_else(|error| {
        tracing::error!(%error, "the users cannot be listed");
        Vec::new()
    });
    let users = names.iter().filter_map(|name| credentials(known, name));
    let mut owners = users
        .filter(|user| user.certificates().contains(&fingerprint) || user.keys().contains(&key));
    match (owners.next(), owners.next()) {
        (Some(owner), None) => Ok(owner),
        // Which of them it is, they have to say.
        _ => Err(Refused::Key),
    }
}

fn credentials(known: &Known, user: &str) -> Option<Credentials> {
    known.files.load(user).unwrap_or_else(|error| {
        tracing::error!(%error, "a user's credentials cannot be read");
        None
    })
}

#[cfg(test)]
#[path = "log_in_tests.rs"]
mod tests;

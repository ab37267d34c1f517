//! What the record says of the credentials by which a user logs in: commitments, by which another password, another
//! one-time code, key or certificate is seen, and none of them can be found.
//!
//! Each is SHA-256 over 32 random bytes, which are new each time, the name of the part, and the part: the Argon2id hash
//! of the password, the secret of the codes, the hashes of keys and of certificates. So two records do not even tell
//! whether the password is the same. Which code was used last is no part of it.

use super::change::ChangeError;
use super::credentials::{Credentials, MAX_KEYS};
use super::state::{AccessState, MAX_ENTRIES};
use crate::model::Nanos;
use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use weighbridge_verifier::{Hash, sha256};

/// What every commitment begins with.
const CONTEXT: &[u8] = b"weighbridge credentials v1\n";
/// What the hash of an invitation begins with.
const INVITATION: &[u8] = b"weighbridge invitation v1\n";

/// Leave to choose a password once. Only the hash of its secret is kept.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// The hash of the secret.
    secret: Hash,
    /// Until when, then included no more.
    pub until: Nanos,
    /// Whether whoever takes it sets up one-time codes as well.
    pub codes: bool,
}

impl Invitation {
    /// One that whoever has `secret` may take.
    pub fn new(secret: &str, until: Nanos, codes: bool) -> Self {
        Self {
            secret: hash(secret),
            until,
            codes,
        }
    }

    /// Whether it is taken by `secret` at `time`.
    pub fn is_taken_by(&self, secret: &str, time: Nanos) -> bool {
        let right = self.secret.0.ct_eq(&hash(secret).0);
        bool::from(right) && time < self.until
    }
}

fn hash(secret: &str) -> Hash {
    sha256(&[INVITATION, secret.as_bytes()])
}

/// What a user was known by when it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownBy {
    salt: Hash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<Hash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    codes: Option<Hash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<Hash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificates: Option<Hash>,
    /// The invitation that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<Invitation>,
}

impl KnownBy {
    /// What is recorded of `credentials`, with 32 random bytes that were never used before.
    pub fn new(credentials: &Credentials, salt: [u8; 32], invitation: Option<Invitation>) -> Self {
        let commit =
            |part: &str, content: &[u8]| sha256(&[CONTEXT, &salt, part.as_bytes(), b"\n", content]);
        let all = |part: &str, hashes: &std::collections::BTreeSet<Hash>| {
            let mut bytes = Vec::with_capacity(32 * MAX_KEYS);
            hashes.iter().for_each(|hash| bytes.extend(hash.0));
            (!bytes.is_empty()).then(|| commit(part, &bytes))
        };
        let password = credentials.password.as_ref();
        let codes = credentials.totp.as_ref().map(|totp| {
            let secret = totp.secret.to_base32();
            let name = format!("codes {:?}", totp.secret.hash());
            commit(&name, secret.as_bytes())
        });
        Self {
            password: password.map(|hash| commit("password", hash.to_phc().as_bytes())),
            codes,
            keys: all("keys", credentials.keys()),
            certificates: all("certificates", credentials.certificates()),
            salt: Hash(salt),
            invitation,
        }
    }

    /// Which parts of `credentials` are others than were recorded; none when nothing was changed since.
    pub fn differs(&self, credentials: &Credentials) -> Vec<&'static str> {
        let now = Self::new(credentials, self.salt.0, None);
        let pairs = self.parts().into_iter().zip(now.parts());
        let changed = pairs.filter(|((_, before), (_, now))| before != now);
        changed.map(|((name, _), _)| name).collect()
    }

    /// The parts that are there.
    pub fn has(&self) -> Vec<&'static str> {
        let there = self.parts().into_iter().filter(|(_, part)| part.is_some());
        there.map(|(name, _)| name).collect()
    }

    fn parts(&self) -> [(&'static str, Option<Hash>); 4] {
        [
            ("password", self.password),
            ("code", self.codes),
            ("keys", self.keys),
            ("certificates", self.certificates),
        ]
    }
}

impl AccessState {
    /// What subject `id` is known by, as it was recorded last.
    pub fn known_by(&self, id: &str) -> Option<&KnownBy> {
        self.credentials.get(id)
    }

    /// Everybody of whom credentials were recorded.
    pub fn with_credentials(&self) -> impl Iterator<Item = &str> {
        self.credentials.keys().map(String::as_str)
    }

    /// What it is recorded by that the open invitation of `id` is over, if there is one.
    pub(super) fn uninvited(&self, id: &str) -> Option<KnownBy> {
        let known = self.known_by(id)?;
        known.invitation.as_ref()?;
        Some(KnownBy {
            invitation: None,
            ..known.clone()
        })
    }

    pub(super) fn know_by(
        &mut self,
        id: String,
        known: Option<KnownBy>,
    ) -> Result<(), ChangeError> {
        let Some(known) = known else {
            self.credentials.remove(&id);
            return Ok(());
        };
        if self.credentials.len() >= MAX_ENTRIES && !self.credentials.contains_key(&id) {
            return Err(ChangeError::Full);
        }
        self.credentials.insert(id, known);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Change, Role, Subject, Totp};
    use crate::crypto::{PasswordHash, TotpHash, TotpSecret};
    use weighbridge_verifier::IdentityKind;

    fn hash(text: &[u8]) -> PasswordHash {
        PasswordHash::with_salt(text, &[7; 16]).unwrap()
    }

    fn totp(byte: u8, hash: TotpHash) -> Totp {
        let secret = TotpSecret::from_bytes(&[byte; 20], hash).unwrap();
        let last_step = Some(5);
        Totp { secret, last_step }
    }

    fn ann() -> Credentials {
        let mut ann = Credentials::new("ann").unwrap();
        ann.password = Some(hash(b"open sesame"));
        ann.totp = Some(totp(1, TotpHash::Sha1));
        ann.add_key(sha256(&[b"key"])).unwrap();
        ann
    }

    #[test]
    fn every_part_that_changes_is_named_and_a_used_code_is_no_change() {
        let known = KnownBy::new(&ann(), [3; 32], None);
        assert_eq!(known.differs(&ann()), [""; 0]);
        type Edit = fn(&mut Credentials);
        let table: [(Edit, &[&str]); 8] = [
            (|c| c.totp.as_mut().unwrap().last_step = Some(9), &[]),
            (|c| c.password = Some(hash(b"open sesame!")), &["password"]),
            (|c| c.password = None, &["password"]),
            (|c| c.totp = None, &["code"]),
            (|c| c.totp = Some(totp(2, TotpHash::Sha1)), &["code"]),
            (|c| c.totp = Some(totp(1, TotpHash::Sha256)), &["code"]),
            (|c| c.add_key(sha256(&[b"other"])).unwrap(), &["keys"]),
            (
                |c| {
                    c.password = None;
                    c.pin(sha256(&[b"certificate"])).unwrap();
                },
                &["password", "certificates"],
            ),
        ];
        for (edit, wanted) in table {
            let mut changed = ann();
            edit(&mut changed);
            assert_eq!(known.differs(&changed), wanted);
        }
        assert_eq!(known.has(), ["password", "code", "keys"]);
    }

    /// A key's hash is no secret, so without the salt whoever reads two records could tell who shares one.
    #[test]
    fn what_is_recorded_is_another_each_time_and_shows_nothing() {
        let (a, b) = (
            KnownBy::new(&ann(), [3; 32], None),
            KnownBy::new(&ann(), [4; 32], None),
        );
        for ((name, a), (_, b)) in a.parts().iter().zip(b.parts()) {
            assert!(a.is_none() || *a != b, "{name}");
        }
        let text = serde_json::to_string(&a).unwrap();
        let key = sha256(&[b"key"]).to_string();
        for secret in [&key, "argon2", "AEAQCAIB", "open"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn an_invitation_is_taken_by_its_secret_in_time() {
        let invitation = Invitation::new("s3cret", 100, true);
        for (secret, time, taken) in [
            ("s3cret", 99, true),
            ("s3cret", 100, false),
            ("S3cret", 0, false),
            ("", 0, false),
        ] {
            assert_eq!(
                invitation.is_taken_by(secret, time),
                taken,
                "{secret} {time}"
            );
        }
        assert!(!format!("{invitation:?}").contains("s3cret"));
    }

    #[test]
    fn who_is_withdrawn_is_invited_no_more() {
        let mut state = AccessState::default();
        let id = || "user:ann".to_owned();
        let subject = Subject::new(IdentityKind::User);
        state.apply(Change::Enrol(id(), subject.clone())).unwrap();
        let invitation = Some(Invitation::new("s", 100, false));
        let known = KnownBy::new(&ann(), [3; 32], invitation);
        state.apply(Change::Credentials(id(), Some(known))).unwrap();
        for change in state.unfold(Change::Revoke(id())) {
            state.apply(change).unwrap();
        }
        state.apply(Change::Enrol(id(), subject)).unwrap();
        let known = state.known_by("user:ann").unwrap();
        assert_eq!(known.invitation, None);
        assert_eq!(known.differs(&ann()), [""; 0]);
    }

    /// Whoever gives somebody another password could use it: that needs what giving their roles needs.
    #[test]
    fn new_credentials_need_the_right_to_every_role_of_their_owner() {
        use crate::access::Right;
        let mut state = AccessState::default();
        let mut subject = Subject::new(IdentityKind::User);
        subject.roles = [Role::Supervisor.name().to_owned()].into();
        state
            .apply(Change::Enrol("user:ann".into(), subject))
            .unwrap();
        let own = (Right::Enrol, "identity:user:ann".to_owned());
        let role = (Right::Assign, "role:supervisor".to_owned());
        let known = Some(KnownBy::new(&ann(), [3; 32], None));
        let given = Change::Credentials("user:ann".into(), known);
        assert_eq!(given.needs(&state), [own.clone(), role]);
        let taken = Change::Credentials("user:ann".into(), None);
        assert_eq!(taken.needs(&state), [own]);
    }
}

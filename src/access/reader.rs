//! Who may open what was recorded by themselves: readers with a public key, and the spans of time of the
//! devices that they were granted. Keys of epochs are wrapped to them; that happens where the keys are.
//!
//! A grant's span is of source times, as samples have them, and not of the time at which somebody reads:
//! whoever was granted last May reads last May for as long as the grant is there.

use super::decide::{Denied, Request, decide};
use super::level::{Level, Mode};
use super::pattern::Pattern;
use super::permit::Permit;
use super::role::Right;
use super::state::AccessState;
use crate::model::Nanos;
use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};
use weighbridge_verifier::PublicKey;

/// Grants that one reader can have.
pub(super) const MAX_GRANTS: usize = 64;
/// Readers that a site can have: each new key is wrapped to all that it concerns.
pub(super) const MAX_READERS: usize = 256;

/// Somebody who opens what was recorded by themselves.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    /// The public key that keys of epochs are wrapped to.
    pub key: PublicKey,
    /// What they were granted.
    pub grants: Vec<ReadGrant>,
}

/// A span of time of some devices.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadGrant {
    /// Which devices, for example `device:press-*`.
    pub devices: Pattern,
    /// From this source time on; from the beginning when none is said.
    #[serde(default)]
    pub from: Option<Nanos>,
    /// Up to this source time, not included; for ever when none is said.
    #[serde(default)]
    pub until: Option<Nanos>,
}

impl ReadGrant {
    /// The span: from the first time up to the second, not included.
    pub fn span(&self) -> (Nanos, Nanos) {
        let until = self.until.unwrap_or(Nanos::MAX);
        (self.from.unwrap_or(Nanos::MIN), until)
    }
}

impl Reader {
    /// The spans of `object`, for example `device:press-1`, that the reader was granted.
    pub fn spans<'a>(&'a self, object: &'a str) -> impl Iterator<Item = (Nanos, Nanos)> + 'a {
        let of = self.grants.iter().filter(|g| g.devices.matches(object));
        of.map(ReadGrant::span)
    }
}

impl AccessState {
    /// The readers, by id.
    pub fn readers(&self) -> impl Iterator<Item = (&String, &Reader)> {
        self.readers.iter()
    }

    /// Reader `id`.
    pub fn reader(&self, id: &str) -> Option<&Reader> {
        self.readers.get(id)
    }

    /// The readers who are let in at `time`: to whom keys are wrapped.
    pub fn readers_in(&self, time: Nanos) -> impl Iterator<Item = (&String, &Reader)> {
        let readers = self.readers.iter();
        readers.filter(move |(id, _)| self.admits(id, time).is_ok())
    }

    /// The keys that every epoch's key is wrapped to besides, by name: see [`escrow_name`].
    pub fn escrow(&self) -> impl Iterator<Item = (&String, &PublicKey)> {
        self.escrow.iter()
    }

    /// The levels that objects have of their own.
    pub fn levels(&self) -> impl Iterator<Item = (&String, &Level)> {
        self.levels.iter()
    }

    /// The spans of `object` that a reader was granted, if `hub` may read there at all at `time`: a grant reaches no
    /// further up than the hub that wraps for it.
    pub fn spans_by(
        &self,
        reader: &Reader,
        object: &str,
        (hub, time): (&str, Nanos),
    ) -> Vec<(Nanos, Nanos)> {
        let request = Request {
            subject: hub,
            right: Right::History,
            object,
            time,
        };
        let spans: Vec<_> = reader.spans(object).collect();
        match spans.is_empty() || decide(self, &request).is_err() {
            true => Vec::new(),
            false => spans,
        }
    }

    /// The spans of `object` that user `id` may take away sealed, to open them with their own key: on the
    /// lists, enrolled, granted, within a permit to read, from a hub that may read there. It takes no role: the
    /// grant says what and to whom.
    ///
    /// # Errors
    /// By which rule they may not.
    pub fn sealed_for(
        &self,
        id: &str,
        object: &str,
        (hub, time): (&str, Nanos),
    ) -> Result<(Permit, Vec<(Nanos, Nanos)>), Denied> {
        self.admits(id, time)?;
        let spans: Vec<_> = self.reader(id).map_or(Vec::new(), |reader| {
            self.spans_by(reader, object, (hub, time))
        });
        if spans.is_empty() {
            return Err(Denied::NoGrant);
        }
        match self.permit(id, Mode::Read) {
            Some(permit) if permit.holds(time) => Ok((*permit, spans)),
            Some(permit) if time < permit.from => Err(Denied::TooEarly(Mode::Read, permit.from)),
            Some(permit) => Err(Denied::PermitExpired(Mode::Read, permit.until)),
            None => Err(Denied::NoPermit(Mode::Read)),
        }
    }
}

/// The name of a key of escrow, which is told from its digits: nobody can say later that it was another.
pub fn escrow_name(key: &PublicKey) -> String {
    let digits = key.suite().hash(&[b"weighbridge/escrow/v1\0", &key.0]);
    let digits = digits.to_string();
    format!("escrow:{}", digits.get(..32).unwrap_or(&digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Change, ChangeError, Side, Subject};
    use crate::crypto::SealingKey;
    use weighbridge_verifier::IdentityKind;

    fn grant(devices: &str, from: Option<Nanos>, until: Option<Nanos>) -> ReadGrant {
        ReadGrant {
            devices: Pattern::new(devices).unwrap(),
            from,
            until,
        }
    }

    fn key() -> PublicKey {
        SealingKey::generate().public().compressed()
    }

    fn with_anna() -> AccessState {
        let mut state = AccessState::default();
        let anna = || "user:anna".to_owned();
        for change in [
            Change::Enrol("hub:h".into(), Subject::new(IdentityKind::Hub)),
            Change::White(Side::Intranet, "hub:h".into(), true),
            Change::Enrol(anna(), Subject::new(IdentityKind::User)),
            Change::White(Side::Extranet, anna(), true),
            Change::ReaderKey(anna(), Some(key())),
            Change::Permit(
                anna(),
                Mode::Read,
                Some(Permit {
                    from: 0,
                    until: 100,
                }),
            ),
        ] {
            state.apply(change).unwrap();
        }
        state
    }

    fn spans(state: &AccessState, object: &str) -> Result<Vec<(Nanos, Nanos)>, Denied> {
        let found = state.sealed_for("user:anna", object, ("hub:h", 50));
        found.map(|(_, spans)| spans)
    }

    #[test]
    fn a_reader_gets_what_was_granted_and_each_rule_denies_by_itself() {
        let mut state = with_anna();
        let press = "device:press-1";
        assert_eq!(spans(&state, press), Err(Denied::NoGrant));
        for given in [
            grant("device:press-*", Some(5), Some(9)),
            grant("device:press-1", None, Some(3)),
            grant("device:lathe", None, None),
        ] {
            let change = Change::Grant("user:anna".into(), given);
            state.apply(change).unwrap();
        }
        assert_eq!(spans(&state, press), Ok(vec![(5, 9), (Nanos::MIN, 3)]));
        assert_eq!(spans(&state, "device:press-2"), Ok(vec![(5, 9)]));
        assert_eq!(spans(&state, "device:mill"), Err(Denied::NoGrant));
        assert_eq!(
            state
                .sealed_for("user:bob", press, ("hub:h", 50))
                .unwrap_err(),
            Denied::Unknown
        );

        let denied = |change: Change| {
            let mut state = state.clone();
            for change in state.unfold(change) {
                state.apply(change).unwrap();
            }
            (spans(&state, press).unwrap_err(), state)
        };
        let anna = || "user:anna".to_owned();
        let black = denied(Change::Black(Side::Extranet, anna(), true));
        assert_eq!(black.0, Denied::Blacklisted(Side::Extranet));
        assert_eq!(black.1.readers_in(50).count(), 0);
        assert_eq!(black.1.readers().count(), 1);
        let off = denied(Change::White(Side::Extranet, anna(), false));
        assert_eq!(off.0, Denied::NotListed(Side::Extranet));
        let ended = denied(Change::Permit(anna(), Mode::Read, None));
        assert_eq!(ended.0, Denied::NoPermit(Mode::Read));
        // What lies above the hub is nobody's by way of it.
        let above = denied(Change::Classify(press.into(), Some(Level(9))));
        assert_eq!(above.0, Denied::NoGrant);
        // Who is withdrawn is no reader when they come again.
        let gone = denied(Change::Revoke(anna()));
        assert_eq!((gone.0, gone.1.readers().count()), (Denied::Revoked, 0));
        let ended = Change::EndGrant(anna(), Pattern::new("device:press-*").unwrap());
        state.apply(ended).unwrap();
        assert_eq!(spans(&state, press), Ok(vec![(Nanos::MIN, 3)]));
    }

    #[test]
    fn what_can_be_no_grant_is_refused() {
        let mut state = with_anna();
        let bob = || "user:bob".to_owned();
        let to = |id: String, given| Change::Grant(id, given);
        let all = || grant("device:*", None, None);
        let nobody = state.apply(to(bob(), all()));
        assert_eq!(nobody, Err(ChangeError::Unknown(bob())));
        let subject = Subject::new(IdentityKind::User);
        state.apply(Change::Enrol(bob(), subject)).unwrap();
        let no_key = state.apply(to(bob(), all()));
        assert_eq!(no_key, Err(ChangeError::NoKey(bob())));
        let anna = || "user:anna".to_owned();
        let backwards = grant("device:*", Some(5), Some(5));
        assert_eq!(state.apply(to(anna(), backwards)), Err(ChangeError::Span));
        let none = Change::EndGrant(anna(), Pattern::new("device:x").unwrap());
        assert!(matches!(state.apply(none), Err(ChangeError::NoGrant(..))));
        for n in 0..MAX_GRANTS as i64 {
            let given = grant("device:*", Some(n), None);
            state.apply(to(anna(), given)).unwrap();
        }
        assert_eq!(state.apply(to(anna(), all())), Err(ChangeError::Grants));
    }

    #[test]
    fn a_key_of_escrow_is_named_by_its_digits() {
        let (one, other) = (key(), key());
        assert_ne!(escrow_name(&one), escrow_name(&other));
        assert_eq!(escrow_name(&one).len(), "escrow:".len() + 32);
    }
}

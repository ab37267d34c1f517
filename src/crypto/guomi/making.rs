//! The making of a certificateless key as a file that goes round: from the applicant to every centre and
//! back, three times, each adding what is due from it.
//!
//! What each party keeps between its turns stays with it ([`Kept`]): its random number, and for which
//! commitments it has opened. It is on the disk before anything that depends on it is shown.

use super::centre::{CentreKey, Centres};
use super::certificateless::{
    Applicant, Commitments, Fault, Helper, Openings, Party, Session, UserKey,
};
use super::point::Point;
use super::recorded::number;
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};
use sm2::elliptic_curve::PrimeField;
use sm2::{NonZeroScalar, Scalar};
use std::collections::BTreeMap;
use weighbridge_verifier::{Hash, PublicKey, Suite};
use zeroize::Zeroizing;

/// The applicant's name among the parties.
const APPLICANT: &str = "";

/// What has been said so far in the making of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Making {
    /// Whose key: the name that it is made for.
    pub name: String,
    /// Version of the centres.
    pub version: u32,
    /// Chosen by the applicant at random.
    pub nonce: Hash,
    /// Commitments by party; the applicant's name is empty.
    pub commitments: BTreeMap<String, Hash>,
    /// What they have opened.
    pub openings: BTreeMap<String, PublicKey>,
    /// The centres' parts of the key.
    pub parts: BTreeMap<String, Hash>,
}

/// What a party keeps to itself while a key is made.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    name: String,
    version: u32,
    nonce: Hash,
    secret: Hidden,
    seen: Option<BTreeMap<String, Hash>>,
}

/// A number that is wiped from memory.
struct Hidden(Zeroizing<[u8; 32]>);

impl Serialize for Hidden {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&Zeroizing::new(HEXLOWER_PERMISSIVE.encode(&*self.0)))
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = Zeroizing::new(String::deserialize(from)?);
        let bytes = HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .map(Zeroizing::new);
        let bytes = bytes.map_err(D::Error::custom)?;
        let bytes = bytes.as_slice().try_into();
        let bytes = bytes.map_err(|_| D::Error::custom("expected 32 bytes"))?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

/// What came of a turn.
pub enum Turn {
    /// Something was added; the others are due.
    Said,
    /// There was nothing to add: these are due.
    Waits(Vec<String>),
    /// A centre has given its part: it keeps nothing any more.
    Done,
}

/// Why a turn came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    /// Somebody kept the key from being made.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// What is kept is of another making.
    #[error("what is kept here is of the making of another key")]
    Other,
    /// It is of another version of the centres.
    #[error("it is of version {0} of the centres, and the set given of version {1}")]
    Version(u32, u64),
}

fn point(key: &PublicKey) -> Point {
    Point(key.to_sec1())
}

impl Making {
    /// Begins to make a key for `name` with `centres`; `nonce` is random and never used twice.
    pub fn begin(centres: &Centres, name: &str, nonce: [u8; 32]) -> Result<(Self, Kept), Fault> {
        let id = name.to_owned();
        let applicant = Applicant::new(centres, Session { id, nonce })?;
        let mut making = Self {
            name: name.to_owned(),
            version: u32::try_from(centres.version()).unwrap_or(u32::MAX),
            nonce: Hash(nonce),
            commitments: BTreeMap::new(),
            openings: BTreeMap::new(),
            parts: BTreeMap::new(),
        };
        let committed = Hash(applicant.committed());
        making.commitments.insert(APPLICANT.to_owned(), committed);
        let kept = making.keep(&applicant.0);
        Ok((making, kept))
    }

    fn session(&self) -> Session {
        Session {
            id: self.name.clone(),
            nonce: self.nonce.0,
        }
    }

    fn keep(&self, party: &Party) -> Kept {
        let seen = party.seen.as_ref();
        let seen = seen.map(|seen| seen.iter().map(|(n, c)| (n.clone(), Hash(*c))).collect());
        Kept {
            name: self.name.clone(),
            version: self.version,
            nonce: self.nonce,
            secret: Hidden(Zeroizing::new(party.secret.to_repr().into())),
            seen,
        }
    }

    fn restore(&self, centres: &Centres, name: &str, kept: &Kept) -> Result<Party, TurnError> {
        let ours = (&kept.name, kept.version, kept.nonce);
        if ours != (&self.name, self.version, self.nonce) {
            return Err(TurnError::Other);
        }
        let secret = Option::<Scalar>::from(Scalar::from_repr((*kept.secret.0).into()));
        let secret = secret.and_then(|s| Option::<NonZeroScalar>::from(NonZeroScalar::new(s)));
        let seen = kept.seen.as_ref();
        Ok(Party {
            session: self.session(),
            centres: centres.clone(),
            name: name.to_owned(),
            secret: Zeroizing::new(secret.ok_or(TurnError::Other)?),
            seen: seen.map(|seen| seen.iter().map(|(n, c)| (n.clone(), c.0)).collect()),
        })
    }

    fn check_version(&self, centres: &Centres) -> Result<(), TurnError> {
        match u64::from(self.version) == centres.version() {
            true => Ok(()),
            false => Err(TurnError::Version(self.version, centres.version())),
        }
    }

    fn committed(&self) -> Commitments {
        let commitments = self.commitments.iter();
        commitments.map(|(n, c)| (n.clone(), c.0)).collect()
    }

    fn opened(&self) -> Openings {
        let openings = self.openings.iter();
        openings.map(|(n, key)| (n.clone(), point(key))).collect()
    }

    /// Those of whom `said` has nothing; the applicant gives no part.
    fn missing<T>(centres: &Centres, said: &BTreeMap<String, T>, applicant: bool) -> Vec<String> {
        let applicant = applicant.then_some(APPLICANT).into_iter();
        let names = applicant.chain(centres.members().keys().map(String::as_str));
        let missing = names.filter(|name| !said.contains_key(*name));
        missing.map(str::to_owned).collect()
    }

    fn open(&mut self, centres: &Centres, party: &mut Party) -> Result<Turn, TurnError> {
        let missing = Self::missing(centres, &self.commitments, true);
        if !missing.is_empty() {
            return Ok(Turn::Waits(missing));
        }
        let opened = party.open(&self.committed())?;
        let opened = PublicKey::from_sec1(Suite::Guomi, &opened.0).ok_or(Fault::Nothing)?;
        self.openings.insert(party.name.clone(), opened);
        Ok(Turn::Said)
    }

    /// The turn of the centre with `key`. `kept` is to be kept, or gone when it is none any more, before
    /// what was said is shown.
    pub fn answer(
        &mut self,
        centres: &Centres,
        key: &CentreKey,
        kept: &mut Option<Kept>,
    ) -> Result<Turn, TurnError> {
        self.check_version(centres)?;
        let Some(mine) = kept.as_ref() else {
            if self.commitments.contains_key(key.name()) {
                return Err(TurnError::Other);
            }
            let helper = Helper::new(key, centres, self.session())?;
            let committed = Hash(helper.committed());
            self.commitments.insert(key.name().to_owned(), committed);
            *kept = Some(self.keep(&helper.party));
            return Ok(Turn::Said);
        };
        let mut party = self.restore(centres, key.name(), mine)?;
        if !self.openings.contains_key(key.name()) {
            let turn = self.open(centres, &mut party)?;
            *kept = Some(self.keep(&party));
            return Ok(turn);
        }
        let missing = Self::missing(centres, &self.openings, true);
        if !missing.is_empty() {
            return Ok(Turn::Waits(missing));
        }
        let part = Helper { party, key }.part(&self.opened())?;
        *kept = None;
        self.parts
            .insert(key.name().to_owned(), Hash(part.to_repr().into()));
        Ok(Turn::Done)
    }

    /// The applicant's turn; the key, once all parts are there and fit.
    pub fn go_on(
        &mut self,
        centres: &Centres,
        kept: &mut Kept,
    ) -> Result<Result<UserKey, Turn>, TurnError> {
        self.check_version(centres)?;
        let mut party = self.restore(centres, APPLICANT, kept)?;
        if !self.openings.contains_key(APPLICANT) {
            let turn = self.open(centres, &mut party)?;
            *kept = self.keep(&party);
            return Ok(Err(turn));
        }
        for missing in [
            Self::missing(centres, &self.openings, true),
            Self::missing(centres, &self.parts, false),
        ] {
            if !missing.is_empty() {
                return Ok(Err(Turn::Waits(missing)));
            }
        }
        let mut parts = BTreeMap::new();
        for (name, part) in &self.parts {
            let part = number(&part.0).ok_or_else(|| Fault::Part(name.clone()))?;
            parts.insert(name.clone(), part);
        }
        Ok(Ok(Applicant(party).finish(&self.opened(), &parts)?))
    }

    /// Who keeps the key from being made, as far as anybody can see; nobody when all have said what is due.
    pub fn judge(&self, centres: &Centres) -> Result<(), TurnError> {
        self.check_version(centres)?;
        let first = |missing: Vec<String>| match missing.into_iter().next() {
            Some(name) => Err(Fault::Missing(name)),
            None => Ok(()),
        };
        first(Self::missing(centres, &self.commitments, true))?;
        let seen = Kept {
            name: self.name.clone(),
            version: self.version,
            nonce: self.nonce,
            // It is of nobody, and opens nothing.
            secret: Hidden(Zeroizing::new(Scalar::ONE.to_repr().into())),
            seen: Some(self.commitments.clone()),
        };
        let onlooker = self.restore(centres, APPLICANT, &seen)?;
        // Who lies is named before who is late.
        for (name, key) in &self.openings {
            let committed = self.commitments.get(name).map(|c| c.0);
            if committed != Some(onlooker.commitment(name, &point(key))) {
                return Err(Fault::Opening(name.clone()).into());
            }
        }
        first(Self::missing(centres, &self.openings, true))?;
        let openings = self.opened();
        let (_, lambda) = onlooker.joined(&openings)?;
        for (name, part) in &self.parts {
            let fits = number(&part.0).is_some_and(|part| {
                super::certificateless::fits(centres, &openings, name, (&part, &lambda))
            });
            if !fits {
                return Err(Fault::Part(name.clone()).into());
            }
        }
        Ok(first(Self::missing(centres, &self.parts, false))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Site {
        keys: Vec<CentreKey>,
        set: Centres,
        kept: Vec<Option<Kept>>,
    }

    impl Site {
        fn new() -> Self {
            let keys: Vec<_> = ["a", "b", "c"].map(CentreKey::generate).into();
            let members: Vec<_> = keys.iter().map(|k| k.member(1)).collect();
            Self {
                set: Centres::new(1, &members).unwrap(),
                kept: keys.iter().map(|_| None).collect(),
                keys,
            }
        }

        /// What is kept goes through its file each time.
        fn round(&mut self, making: &mut Making) -> Result<Vec<Turn>, TurnError> {
            let mut turns = Vec::new();
            for (key, kept) in self.keys.iter().zip(&mut self.kept) {
                let text = kept.as_ref().map(|k| serde_json::to_string(k).unwrap());
                *kept = text.map(|t| serde_json::from_str(&t).unwrap());
                turns.push(making.answer(&self.set, key, kept)?);
            }
            Ok(turns)
        }
    }

    fn through_a_file(making: &Making) -> Making {
        serde_json::from_str(&serde_json::to_string(making).unwrap()).unwrap()
    }

    #[test]
    fn it_goes_round_three_times_and_is_a_key() {
        let mut site = Site::new();
        let (mut making, mut kept) =
            Making::begin(&site.set, "plant/edge:edge-1", [7; 32]).unwrap();
        site.round(&mut making).unwrap();
        making = through_a_file(&making);
        // Out of turn nothing comes of it.
        assert!(matches!(
            making.judge(&site.set),
            Err(TurnError::Fault(Fault::Missing(_)))
        ));
        assert!(matches!(
            making.go_on(&site.set, &mut kept),
            Ok(Err(Turn::Said))
        ));
        site.round(&mut making).unwrap();
        assert!(
            matches!(making.go_on(&site.set, &mut kept), Ok(Err(Turn::Waits(who))) if who.len() == 3)
        );
        let turns = site.round(&mut through_a_file(&making).clone()).unwrap();
        assert!(turns.iter().all(|turn| matches!(turn, Turn::Done)));
        // It has given its part, and gives no other.
        assert!(site.kept.iter().all(Option::is_none));
        let again = making.answer(&site.set, &site.keys[0], &mut None);
        assert!(matches!(again, Err(TurnError::Other)));
    }

    #[test]
    fn who_cheats_is_named_by_the_applicant_and_by_whoever_looks() {
        let name = "plant/edge:edge-1";
        let whole = |site: &mut Site| {
            let (mut making, mut kept) = Making::begin(&site.set, name, [8; 32]).unwrap();
            site.round(&mut making).unwrap();
            assert!(matches!(
                making.go_on(&site.set, &mut kept),
                Ok(Err(Turn::Said))
            ));
            site.round(&mut making).unwrap();
            site.round(&mut making).unwrap();
            (making, kept)
        };
        let mut site = Site::new();
        let (making, mut kept) = whole(&mut site);
        making.judge(&site.set).unwrap();
        let key = making
            .clone()
            .go_on(&site.set, &mut kept)
            .unwrap()
            .ok()
            .unwrap();
        assert_eq!((&*key.id, key.version), (name, 1));

        let b = || "b".to_owned();
        let mut lied = making.clone();
        lied.openings.insert(b(), making.openings["c"]);
        let mut bent = making.clone();
        bent.parts.insert(b(), making.parts["c"]);
        let mut silent = making.clone();
        silent.parts.remove("b");
        let cases = [
            (lied, Fault::Opening(b())),
            (bent, Fault::Part(b())),
            (silent, Fault::Missing(b())),
        ];
        for (mut making, fault) in cases {
            assert_eq!(making.judge(&site.set), Err(fault.clone().into()));
            match making.go_on(&site.set, &mut kept) {
                Err(error) => assert_eq!(error, fault.into()),
                Ok(Err(Turn::Waits(who))) => assert_eq!(who, ["b"]),
                Ok(_) => panic!("a key was made"),
            }
        }
        let other = Making {
            nonce: Hash([9; 32]),
            ..making
        };
        assert!(matches!(
            other.clone().go_on(&site.set, &mut kept),
            Err(TurnError::Other)
        ));
    }
}

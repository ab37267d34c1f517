//! Challenge and response: whoever signs what nobody could foresee has the key, now.
//!
//! The hub makes 32 random bytes and remembers them for a minute; the other side signs a few lines of
//! text that name the purpose, the hub, itself, these bytes and the end of the minute, by ECDSA over
//! P-256 with SHA-256. An answer is looked at once, right or wrong. The lines begin as nothing else
//! does that such keys sign (records, notes, TLS), so that an answer is good for nothing else.

use crate::crypto::possession;
use crate::model::Nanos;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use weighbridge_verifier::{Hash, PublicKey};

/// Bytes nobody could foresee.
pub type Nonce = [u8; 32];

/// What the signed text begins with.
const CONTEXT: &str = "weighbridge login v1";
/// How long a challenge is open.
pub const OPEN_FOR: Nanos = 60_000_000_000;
/// Challenges open at a time.
const MAX_OPEN: usize = 4_096;
/// Challenges open at a time of one address.
const MAX_OPEN_EACH: usize = 16;
/// Longest name of a subject.
const MAX_SUBJECT: usize = 128;

/// What shall be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The hub that asks.
    pub hub: String,
    /// Who answers: `user:ann`, `edge:edge-1`.
    pub subject: String,
    /// The random bytes.
    pub nonce: Nonce,
    /// Until when, then included no more.
    pub expires: Nanos,
}

impl Challenge {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!(
            "{CONTEXT}\nhub {}\nsubject {}\nnonce {}\nexpires {}\n",
            self.hub,
            self.subject,
            Hash(self.nonce),
            self.expires
        )
    }

    /// The challenge whose text this is, and nothing else: whoever signs looks at this first, so that what they sign is
    /// good for a log-in alone.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let mut after = |word: &str| lines.next()?.strip_prefix(word);
        let challenge = Self {
            hub: after("hub ")?.to_owned(),
            subject: after("subject ")?.to_owned(),
            nonce: after("nonce ")?.parse::<Hash>().ok()?.0,
            expires: after("expires ")?.parse().ok()?,
        };
        (challenge.text() == text).then_some(challenge)
    }

    /// Whether `signature` is the answer of the owner of `key`: `r ‖ s`, or in ASN.1's form.
    pub fn is_answered_by(&self, key: &PublicKey, signature: &[u8]) -> bool {
        possession::proves(key, self.text().as_bytes(), signature)
    }
}

/// Why there is no challenge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// A name that cannot be in the text.
    #[error("the name is empty, longer than {MAX_SUBJECT} bytes or of more than one line")]
    Subject,
    /// The random bytes were used before: the source of randomness is broken.
    #[error("the random bytes are not new")]
    Nonce,
}

/// The open challenges of a hub.
#[derive(Debug)]
pub struct Challenges {
    hub: String,
    open: BTreeMap<Nonce, (IpAddr, Challenge)>,
    /// By asker, the oldest first.
    askers: BTreeMap<IpAddr, VecDeque<Nonce>>,
}

impl Challenges {
    /// None yet, of `hub`.
    pub fn new(hub: &str) -> Self {
        Self {
            hub: hub.to_owned(),
            open: BTreeMap::new(),
            askers: BTreeMap::new(),
        }
    }

    /// A challenge to `subject`, whether there is one or not, asked for from `asker`. An asker who has
    /// too many loses the oldest; when there are too many of all, who has most of them does.
    pub fn open(
        &mut self,
        subject: &str,
        asker: IpAddr,
        nonce: Nonce,
        now: Nanos,
    ) -> Result<Challenge, ChallengeError> {
        let named = !subject.is_empty() && subject.len() <= MAX_SUBJECT;
        if !named || subject.chars().any(char::is_control) {
            return Err(ChallengeError::Subject);
        }
        if self.open.contains_key(&nonce) {
            return Err(ChallengeError::Nonce);
        }
        self.forget(now);
        if self
            .askers
            .get(&asker)
            .is_some_and(|own| own.len() >= MAX_OPEN_EACH)
        {
            self.drop_oldest(asker);
        } else if self.open.len() >= MAX_OPEN {
            let most = self.askers.iter().max_by_key(|(_, own)| own.len());
            if let Some(most) = most.map(|(asker, _)| *asker) {
                self.drop_oldest(most);
            }
        }
        let challenge = Challenge {
            hub: self.hub.clone(),
            subject: subject.to_owned(),
            nonce,
            expires: now.saturating_add(OPEN_FOR),
        };
        self.askers.entry(asker).or_default().push_back(nonce);
        self.open.insert(nonce, (asker, challenge.clone()));
        Ok(challenge)
    }

    /// The challenge that is answered: open no more, whatever the answer is worth. `None` when it was never made, was
    /// taken before, or is over.
    pub fn take(&mut self, nonce: &Nonce, now: Nanos) -> Option<Challenge> {
        let (asker, challenge) = self.open.remove(nonce)?;
        if let Some(own) = self.askers.get_mut(&asker) {
            own.retain(|other| other != nonce);
            if own.is_empty() {
                self.askers.remove(&asker);
            }
        }
        // One from a later time than now is there after the clock was put back.
        let age = OPEN_FOR.saturating_sub(challenge.expires.saturating_sub(now));
        (0..OPEN_FOR).contains(&age).then_some(challenge)
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    fn forget(&mut self, now: Nanos) {
        let over = |c: &Challenge| now >= c.expires || now < c.expires.saturating_sub(OPEN_FOR);
        let over = self.open.iter().filter(|(_, (_, c))| over(c));
        let over: Vec<_> = over.map(|(nonce, _)| *nonce).collect();
        for nonce in over {
            self.take(&nonce, now);
        }
    }

    fn drop_oldest(&mut self, asker: IpAddr) {
        let oldest = self.askers.get_mut(&asker).and_then(VecDeque::pop_front);
        if let Some(oldest) = oldest {
            self.open.remove(&oldest);
        }
        if self.askers.get(&asker).is_some_and(VecDeque::is_empty) {
            self.askers.remove(&asker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Identity, Signer};
    use proptest::prelude::*;
    use weighbridge_verifier::sha256;

    const NOW: Nanos = 1_767_225_600_000_000_000;

    fn at(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn nonce(number: u32) -> Nonce {
        sha256(&[&number.to_be_bytes()]).0
    }

    #[test]
    fn the_text_is_what_the_manual_says() {
        let mut challenges = Challenges::new("hub-1");
        let challenge = challenges.open("user:ann", at(1), [7; 32], NOW).unwrap();
        let wanted = format!(
            "weighbridge login v1\nhub hub-1\nsubject user:ann\nnonce {}\nexpires 1767225660000000000\n",
            "07".repeat(32)
        );
        assert_eq!(challenge.text(), wanted);
        assert_eq!(Challenge::from_text(&wanted), Some(challenge));
    }

    #[test]
    fn nothing_else_is_read_as_a_challenge() {
        let mut challenges = Challenges::new("hub-1");
        let challenge = challenges.open("user:ann", at(1), [7; 32], NOW).unwrap();
        let good = challenge.text();
        for (part, other) in [
            ("login v1", "login v2"),
            ("weighbridge", "wiegebruecke"),
            ("hub-1\n", "hub-1\r\n"),
            (
                "expires 1767225660000000000\n",
                "expires 1767225660000000000",
            ),
            ("expires 1", "expires 01"),
            ("0707\n", "070g\n"),
            ("subject", "Subject"),
        ] {
            assert!(good.contains(part), "{part:?}");
            let text = good.replace(part, other);
            assert_eq!(Challenge::from_text(&text), None, "{text}");
        }
        for more in [format!("{good}x"), format!("x\n{good}"), String::new()] {
            assert_eq!(Challenge::from_text(&more), None, "{more}");
        }
    }

    #[test]
    fn an_answer_is_good_for_its_challenge_alone() {
        let mut challenges = Challenges::new("hub-1");
        let identity = Identity::from_byte("edge-1", 7);
        let mine = challenges
            .open("edge:edge-1", at(1), nonce(1), NOW)
            .unwrap();
        let answer = identity.sign(&sha256(&[mine.text().as_bytes()])).0;
        assert!(mine.is_answered_by(&identity.public_key(), &answer));
        let stranger = Identity::from_byte("edge-1", 8).public_key();
        assert!(!mine.is_answered_by(&stranger, &answer));
        let others = [
            Challenge {
                hub: "hub-2".into(),
                ..mine.clone()
            },
            Challenge {
                subject: "edge:edge-2".into(),
                ..mine.clone()
            },
            Challenge {
                nonce: nonce(2),
                ..mine.clone()
            },
            Challenge {
                expires: mine.expires + 1,
                ..mine.clone()
            },
        ];
        for other in others {
            assert!(
                !other.is_answered_by(&identity.public_key(), &answer),
                "{other:?}"
            );
        }
    }

    #[test]
    fn a_challenge_is_taken_once_and_in_time() {
        let table = [
            (-1, false),
            (0, true),
            (OPEN_FOR - 1, true),
            (OPEN_FOR, false),
        ];
        for (later, taken) in table {
            let mut challenges = Challenges::new("hub-1");
            let made = challenges.open("user:ann", at(1), nonce(1), NOW).unwrap();
            let got = challenges.take(&made.nonce, NOW + later);
            assert_eq!(got, taken.then_some(made.clone()), "{later}");
            assert_eq!(challenges.take(&made.nonce, NOW + later), None);
            assert_eq!((challenges.count(), challenges.askers.len()), (0, 0));
        }
        let mut challenges = Challenges::new("hub-1");
        assert_eq!(challenges.take(&nonce(1), NOW), None);
    }

    #[test]
    fn names_that_would_make_another_text_are_refused() {
        let mut challenges = Challenges::new("hub-1");
        let long = "x".repeat(MAX_SUBJECT + 1);
        for subject in ["", "user:ann\nnonce 00", "a\r", "a\0", &long] {
            let refused = challenges.open(subject, at(1), nonce(1), NOW);
            assert_eq!(refused, Err(ChallengeError::Subject), "{subject:?}");
        }
        challenges.open("user:ann", at(1), nonce(1), NOW).unwrap();
        let again = challenges.open("user:ann", at(1), nonce(1), NOW);
        assert_eq!(again, Err(ChallengeError::Nonce));
    }

    #[test]
    fn a_flood_takes_neither_endless_room_nor_the_challenges_of_others() {
        let mut challenges = Challenges::new("hub-1");
        let mine = challenges.open("user:ann", at(1), nonce(0), NOW).unwrap();
        for i in 1..=100 {
            challenges.open("user:bob", at(66), nonce(i), NOW).unwrap();
        }
        assert_eq!(challenges.count(), 1 + MAX_OPEN_EACH);
        // From many addresses, each of which has a few.
        for i in 0..8_000_u32 {
            let [_, _, c, d] = (i % 4_000).to_be_bytes();
            let from = IpAddr::from([10, 0, c, d]);
            challenges
                .open("user:bob", from, nonce(1_000 + i), NOW)
                .unwrap();
        }
        assert_eq!(challenges.count(), MAX_OPEN);
        assert_eq!(challenges.take(&mine.nonce, NOW), Some(mine));
        // A minute later they are gone by themselves.
        challenges
            .open("user:bob", at(1), nonce(1), NOW + OPEN_FOR)
            .unwrap();
        assert_eq!(challenges.count(), 1);
    }

    proptest! {
        #[test]
        fn none_is_taken_twice_or_lost(
            moves in proptest::collection::vec((0..40_u32, 0..3_u8, 0..30_i64, any::<bool>()), 1..200),
        ) {
            let mut challenges = Challenges::new("hub-1");
            let mut open = BTreeMap::new();
            let mut now = NOW;
            for (number, asker, later, take) in moves {
                now += later * 1_000_000_000;
                let nonce = nonce(number);
                if take {
                    let wanted = open.remove(&number).filter(|expires| now < *expires);
                    let got = challenges.take(&nonce, now).map(|c| c.expires);
                    prop_assert_eq!(got, wanted);
                } else if let Ok(made) = challenges.open("user:x", at(asker), nonce, now) {
                    open.insert(number, made.expires);
                }
                let listed: usize = challenges.askers.values().map(VecDeque::len).sum();
                prop_assert_eq!(listed, challenges.count());
                // Sixteen of each of three: some of the model may have been dropped.
                open.retain(|n, expires| {
                    now >= *expires || challenges.open.contains_key(&self::nonce(*n))
                });
            }
        }
    }
}

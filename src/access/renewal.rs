//! The renewal of a permit by whoever signs what a device says: an edge node, or a device with a key of its
//! own. Beside fresh data the hub asks for a signature over what nobody could foresee.
//!
//! The text names the purpose, the chain, the hub, the device, who signs, the key epoch, 32 random bytes
//! and an end. Nothing else that such keys sign begins like it. A challenge is answered once.

use super::challenge::Nonce;
use crate::model::Nanos;
use borsh::{BorshDeserialize, BorshSerialize};
use weighbridge_verifier::{Hash, PublicKey, Signature, Suite};

/// What the signed text begins with.
const CONTEXT: &str = "weighbridge renewal v1";
/// How long a challenge is open.
pub const RENEWAL_OPEN_FOR: Nanos = 30_000_000_000;

/// What shall be signed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RenewalChallenge {
    /// The chain that the device's data are recorded in.
    pub chain: String,
    /// The hub that asks.
    pub hub: String,
    /// The device whose permit is to be renewed.
    pub device: String,
    /// Who answers.
    pub signer: String,
    /// Fencing epoch of the device's newest batch.
    pub epoch: u64,
    /// The random bytes.
    pub nonce: Nonce,
    /// Until when, then included no more.
    pub expires: Nanos,
}

impl RenewalChallenge {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!(
            "{CONTEXT}\nchain {}\nhub {}\ndevice {}\nsigner {}\nepoch {}\nnonce {}\nexpires {}\n",
            self.chain,
            self.hub,
            self.device,
            self.signer,
            self.epoch,
            Hash(self.nonce),
            self.expires
        )
    }

    /// What a key of `suite` signs of it.
    pub fn hash(&self, suite: Suite) -> Hash {
        suite.hash(&[self.text().as_bytes()])
    }

    fn is_answered_by(&self, key: &PublicKey, signature: &Signature) -> bool {
        key.verify(&self.hash(key.suite()), signature).is_ok()
    }
}

/// Why a permit is not renewed by an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewalError {
    /// No challenge of these bytes is open: it was never made, or was answered before.
    #[error("nobody was asked that, or it was answered before")]
    NotOpen,
    /// It came too late.
    #[error("the answer came too late")]
    Late,
    /// Another key, or another text.
    #[error("the signature is not that of its key")]
    Signature,
}

/// The renewals of one device's permit.
#[derive(Debug, Default)]
pub struct Renewals {
    open: Option<RenewalChallenge>,
    proved: Option<RenewalChallenge>,
}

impl Renewals {
    /// Asks, unless somebody was asked and can still answer, or has answered.
    pub fn ask(&mut self, challenge: RenewalChallenge, now: Nanos) -> Option<RenewalChallenge> {
        let waits = |c: &RenewalChallenge| {
            let left = c.expires.saturating_sub(now);
            (1..=RENEWAL_OPEN_FOR).contains(&left)
        };
        if self.proved.is_some() || self.open.as_ref().is_some_and(waits) {
            return None;
        }
        self.open = Some(challenge.clone());
        Some(challenge)
    }

    /// Takes an answer of the owner of `key`. Right or wrong, the challenge is open no more.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn answer(
        &mut self,
        nonce: &Nonce,
        signature: &Signature,
        key: &PublicKey,
        now: Nanos,
    ) -> Result<(), RenewalError> {
        let asked = self.open.take_if(|open| open.nonce == *nonce);
        let asked = asked.ok_or(RenewalError::NotOpen)?;
        let left = asked.expires.saturating_sub(now);
        if !(1..=RENEWAL_OPEN_FOR).contains(&left) {
            return Err(RenewalError::Late);
        }
        if !asked.is_answered_by(key, signature) {
            return Err(RenewalError::Signature);
        }
        self.proved = Some(asked);
        Ok(())
    }

    /// Asks again: whoever was asked cannot answer any more.
    pub fn forget(&mut self) {
        self.open = None;
    }

    /// Whether the permit may be renewed once.
    pub fn is_proved(&self) -> bool {
        self.proved.is_some()
    }

    /// The proof that the permit is renewed by.
    pub fn spend(&mut self) -> Option<RenewalChallenge> {
        self.proved.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Identity, Signer};

    const NOW: Nanos = 1_767_225_600_000_000_000;

    fn challenge(number: u8) -> RenewalChallenge {
        RenewalChallenge {
            chain: "main".into(),
            hub: "hub-1".into(),
            device: "press-1".into(),
            signer: "edge-1".into(),
            epoch: 3,
            nonce: [number; 32],
            expires: NOW + RENEWAL_OPEN_FOR,
        }
    }

    fn signed(challenge: &RenewalChallenge, identity: &Identity) -> Signature {
        identity.sign(&challenge.hash(identity.suite()))
    }

    #[test]
    fn the_text_is_what_the_manual_says() {
        let wanted = format!(
            "weighbridge renewal v1\nchain main\nhub hub-1\ndevice press-1\nsigner edge-1\nepoch 3\n\
             nonce {}\nexpires 1767225630000000000\n",
            "07".repeat(32)
        );
        assert_eq!(challenge(7).text(), wanted);
    }

    #[test]
    fn an_answer_is_good_once_in_time_and_for_its_own_text() {
        for suite in Suite::ALL {
            let own = Identity::generate_of(suite, "edge-1");
            let answer = |renewals: &mut Renewals, of: &RenewalChallenge, at| {
                let nonce = challenge(1).nonce;
                renewals.answer(&nonce, &signed(of, &own), &own.public_key(), at)
            };
            let asked = || {
                let mut renewals = Renewals::default();
                assert!(renewals.ask(challenge(1), NOW).is_some());
                renewals
            };
            let mut renewals = asked();
            assert_eq!(renewals.ask(challenge(2), NOW + 1), None, "one at a time");
            assert_eq!(answer(&mut renewals, &challenge(1), NOW + 1), Ok(()));
            let again = answer(&mut renewals, &challenge(1), NOW + 2);
            assert_eq!(again, Err(RenewalError::NotOpen), "a replay");
            assert_eq!(renewals.ask(challenge(2), NOW + 2), None, "it is proved");
            assert_eq!(renewals.spend(), Some(challenge(1)));
            assert_eq!(renewals.spend(), None);
            assert!(renewals.ask(challenge(2), NOW + 2).is_some());

            let late = answer(&mut asked(), &challenge(1), NOW + RENEWAL_OPEN_FOR);
            assert_eq!(late, Err(RenewalError::Late));
            let others: [fn(&mut RenewalChallenge); 6] = [
                |c| c.chain = "other".into(),
                |c| c.hub = "hub-2".into(),
                |c| c.device = "press-2".into(),
                |c| c.signer = "edge-2".into(),
                |c| c.epoch = 4,
                |c| c.expires += 1,
            ];
            for other in others {
                let mut of = challenge(1);
                other(&mut of);
                let mut renewals = asked();
                let refused = answer(&mut renewals, &of, NOW);
                assert_eq!(refused, Err(RenewalError::Signature), "{of:?}");
                assert!(!renewals.is_proved());
                // It was looked at once.
                let again = answer(&mut renewals, &challenge(1), NOW);
                assert_eq!(again, Err(RenewalError::NotOpen));
            }
            let stranger = Identity::generate_of(suite, "edge-1");
            let (nonce, mut renewals) = (challenge(1).nonce, asked());
            let forged = signed(&challenge(1), &stranger);
            let refused = renewals.answer(&nonce, &forged, &own.public_key(), NOW);
            assert_eq!(refused, Err(RenewalError::Signature));
        }
    }

    #[test]
    fn who_does_not_answer_is_asked_again() {
        let mut renewals = Renewals::default();
        assert!(renewals.ask(challenge(1), NOW).is_some());
        assert_eq!(renewals.ask(challenge(2), NOW + RENEWAL_OPEN_FOR - 1), None);
        assert!(renewals.ask(challenge(2), NOW + RENEWAL_OPEN_FOR).is_some());
        renewals.forget();
        assert!(renewals.ask(challenge(3), NOW).is_some());
    }
}

//! What may follow what on a relay chain: which headers of other chains count, and whose step is due in an exchange.
//!
//! [`Relay`] is the one counter of it, for hubs, replays and auditors alike, as [`crate::succession`] is of who signs. It
//! trusts nobody who records: a header counts by the signatures of its chain's hubs, a step by that of a hub of the side
//! whose step it is. Of each chain it knows by which block it began, who signs now, and its newest headers.

mod error;
mod leads;
mod vouched;

pub use error::RelayError;
pub use vouched::vouched;

use crate::block::ValidatorSet;
use crate::exchange::{AnchorContent, ExchangeContent, ExchangeStep};
use crate::hash::Hash;
use crate::signature::SignatureCheck;
use crate::suite::Suite;
use borsh::{BorshDeserialize, BorshSerialize};
use leads::led;
use std::collections::BTreeMap;

/// Chains that a relay knows at most.
pub const MAX_CHAINS: usize = 1_024;

/// Exchanges that one chain has open at most.
pub const MAX_OPEN: usize = 256;

/// Newest headers of a chain that answers may end in.
pub const MAX_HEADERS: usize = 16;

/// Longest evidence of how a set of hubs came to be, in bytes.
pub const MAX_LEADS: usize = 128 << 10;

/// What a relay knows of a chain.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Anchored {
    /// Its privacy grade.
    pub grade: u8,
    /// Hash of its first block.
    pub began: Hash,
    /// Who signs.
    pub set: ValidatorSet,
    /// Height of its newest header here.
    pub height: u64,
    /// When that was made.
    pub time: i64,
    /// Whether several hubs decided it.
    pub shared: bool,
    /// Hashes of its newest headers here, the newest last.
    pub headers: Vec<Hash>,
    /// Number of the newest exchange that it asked for.
    pub asked: u64,
}

impl Anchored {
    /// The chain's suite.
    pub fn suite(&self) -> Suite {
        let hub = self.set.validators.first();
        hub.map_or(Suite::Nist, |hub| hub.key.suite())
    }
}

/// An exchange that is not over.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Open {
    /// The chain that is asked.
    pub ceid: String,
    /// The highest grade of what is asked for.
    pub grade: u8,
    /// When it was asked.
    pub t_timestamp: i64,
    /// Whether it was answered.
    pub answered: bool,
}

/// The chains, by name.
pub type Chains = BTreeMap<String, Anchored>;

/// The exchanges that are not over, by the chain that asks and its number.
pub type Exchanges = BTreeMap<(String, u64), Open>;

/// What a relay knows.
#[derive(Clone, Copy, Debug)]
pub struct Relay<'a> {
    /// Name of the relay's own chain.
    pub name: &'a str,
    /// The chains.
    pub chains: &'a Chains,
    /// The exchanges that are not over.
    pub open: &'a Exchanges,
}

impl Relay<'_> {
    /// What is known of a chain after this anchor; an error where it does not count.
    pub fn anchored(
        &self,
        anchor: &AnchorContent,
        check: &dyn SignatureCheck,
    ) -> Result<Anchored, RelayError> {
        let header = &anchor.header;
        let chain = || header.chain.clone();
        if header.chain == self.name {
            return Err(RelayError::Itself(chain()));
        }
        let of_header = |why| RelayError::Header {
            chain: chain(),
            why,
        };
        header.check_version().map_err(of_header)?;
        let known = self.chains.get(&header.chain);
        match known {
            None if self.chains.len() >= MAX_CHAINS => return Err(RelayError::TooManyChains),
            Some(known) if header.height <= known.height || header.time <= known.time => {
                return Err(RelayError::Old(chain()));
            }
            Some(known) if known.shared && !header.is_shared() => {
                return Err(RelayError::Old(chain()));
            }
            Some(known) if known.grade != anchor.grade => {
                return Err(RelayError::Grade {
                    chain: chain(),
                    grade: known.grade,
                });
            }
            _ => {}
        }
        let (began, set) = match known {
            Some(known) if anchor.leads.is_empty() => (known.began, known.set.clone()),
            _ => led(anchor, known, check)?,
        };
        let signed = anchor.certificate.verify_with(header, &set, check);
        signed.map_err(of_header)?;
        let mut headers = known.map_or_else(Vec::new, |known| known.headers.clone());
        headers.push(header.hash());
        let over = headers.len().saturating_sub(MAX_HEADERS);
        headers.drain(..over);
        Ok(Anchored {
            grade: anchor.grade,
            began,
            set,
            height: header.height,
            time: header.time,
            shared: header.is_shared(),
            headers,
            asked: known.map_or(0, |known| known.asked),
        })
    }

    /// Whether this step may come next; an error says why not.
    pub fn check_step(
        &self,
        said: &ExchangeContent,
        check: &dyn SignatureCheck,
    ) -> Result<(), RelayError> {
        if said.acid == said.ceid {
            return Err(RelayError::Alone(said.acid.clone()));
        }
        let known = |chain: &String| {
            let known = self.chains.get(chain);
            known.ok_or_else(|| RelayError::Unknown(chain.clone()))
        };
        let (asks, asked) = (known(&said.acid)?, known(&said.ceid)?);
        let open = self.open.get(&(said.acid.clone(), said.number));
        let theirs = match said.step {
            ExchangeStep::Request => {
                self.check_request(said, asks)?;
                false
            }
            step => {
                let same = |open: &&Open| {
                    (&open.ceid, open.grade, open.t_timestamp)
                        == (&said.ceid, said.grade, said.t_timestamp)
                };
                let open = open.filter(same).ok_or_else(|| RelayError::NotOpen {
                    acid: said.acid.clone(),
                    number: said.number,
                    ceid: said.ceid.clone(),
                })?;
                check_turn(said, open, asked)?;
                // The chain that was asked answers or refuses; after that it is the other's turn.
                matches!(step, ExchangeStep::Answer | ExchangeStep::Refuse) && !open.answered
            }
        };
        let (chain, side) = match theirs {
            true => (&said.ceid, asked),
            false => (&said.acid, asks),
        };
        let hub = side.set.get(&said.hub);
        let hub = hub.ok_or_else(|| RelayError::Stranger {
            chain: chain.clone(),
            hub: said.hub.clone(),
        })?;
        let message = said.message(side.suite(), self.name);
        let held = check.check(&hub.key, &message, &said.signature);
        held.map_err(|why| RelayError::Signature {
            chain: chain.clone(),
            hub: said.hub.clone(),
            why,
        })
    }

    fn check_request(&self, said: &ExchangeContent, asks: &Anchored) -> Result<(), RelayError> {
        if asks.asked.checked_add(1) != Some(said.number) {
            return Err(RelayError::Number {
                acid: said.acid.clone(),
                wanted: asks.asked.saturating_add(1),
                got: said.number,
            });
        }
        if said.header.is_some() || said.t_confirm.is_some() {
            return Err(step(said, "a request names no header and confirms nothing"));
        }
        let from = (said.acid.clone(), 0)..=(said.acid.clone(), u64::MAX);
        match self.open.range(from).count() < MAX_OPEN {
            true => Ok(()),
            false => Err(RelayError::TooManyOpen(said.acid.clone())),
        }
    }
}

/// Makes a step that was checked.
pub fn enter_step(chains: &mut Chains, open: &mut Exchanges, said: &ExchangeContent) {
    let key = (said.acid.clone(), said.number);
    match said.step {
        ExchangeStep::Request => {
            if let Some(asks) = chains.get_mut(&said.acid) {
                asks.asked = said.number;
            }
            let new = Open {
                ceid: said.ceid.clone(),
                grade: said.grade,
                t_timestamp: said.t_timestamp,
                answered: false,
            };
            open.insert(key, new);
        }
        ExchangeStep::Answer => {
            if let Some(open) = open.get_mut(&key) {
                open.answered = true;
            }
        }
        ExchangeStep::Confirm | ExchangeStep::Refuse => {
            open.remove(&key);
        }
    }
}

fn step(said: &ExchangeContent, why: &'static str) -> RelayError {
    RelayError::Step {
        acid: said.acid.clone(),
        number: said.number,
        why,
    }
}

/// Whether a step that is no request is due.
fn check_turn(said: &ExchangeContent, open: &Open, asked: &Anchored) -> Result<(), RelayError> {
    let wrong = |why| Err(step(said, why));
    match (said.step, said.header, said.t_confirm) {
        (ExchangeStep::Answer, ..) if open.answered => wrong("it was answered already"),
        (ExchangeStep::Answer, Some(header), None) => match asked.headers.contains(&header) {
            true => Ok(()),
            false => wrong("the header of the answer is none of the newest that are anchored"),
        },
        (ExchangeStep::Answer, ..) => wrong("an answer names a header and confirms nothing"),
        (ExchangeStep::Confirm, ..) if !open.answered => wrong("it was not answered yet"),
        (ExchangeStep::Confirm, None, Some(confirmed)) => match confirmed >= open.t_timestamp {
            true => Ok(()),
            false => wrong("it is confirmed before it was asked"),
        },
        (ExchangeStep::Confirm, ..) => wrong("a confirmation says when, and names no header"),
        (ExchangeStep::Refuse, None, None) => Ok(()),
        (ExchangeStep::Refuse, ..) => wrong("a refusal names no header and confirms nothing"),
        (ExchangeStep::Request, ..) => wrong("it was asked already"),
    }
}

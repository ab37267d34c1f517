//! What may follow what on a relay chain: which headers of other chains count, and whose step is due in an exchange.
//!
//! [`Relay`] is the one counter of it, for hubs, replays and auditors alike, as [`crate::succession`] is of who signs. It
//! trusts nobody who records: a header counts by the signatures of its chain's hubs, a step by that of a hub of the side
//! whose step it is. Of each chain it knows by which block it began, who signs now, and its newest headers.

use crate::block::{BlockError, ValidatorSet};
use crate::evidence::{Evidence, EvidenceError, genesis_set};
use crate::exchange::{AnchorContent, ExchangeContent, ExchangeStep};
use crate::hash::Hash;
use crate::signature::{SignatureCheck, SignatureError};
use crate::succession::Succession;
use crate::suite::Suite;
use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::BTreeMap;

/// Chains that a relay knows at most.
pub const MAX_CHAINS: usize = 1_024;

/// Exchanges that one chain has open at most.
pub const MAX_OPEN: usize = 256;

/// Newest headers of a chain that answers may end in.
pub const MAX_HEADERS: usize = 16;

/// Longest evidence of how a set of hubs came to be, in bytes.
pub const MAX_LEADS: usize = 256 << 10;

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

/// Why a relay does not take an anchor or a step.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A relay does not anchor itself.
    #[error("`{0}` is the relay itself")]
    Itself(String),
    /// It has no anchor.
    #[error("the chain `{0}` has no anchor here")]
    Unknown(String),
    /// There are too many.
    #[error("the relay knows {MAX_CHAINS} chains, and no more")]
    TooManyChains,
    /// Heights and times only grow.
    #[error("the header of `{0}` is not after the one that is anchored")]
    Old(String),
    /// Its first anchor said another.
    #[error("the grade of `{chain}` is {grade}")]
    Grade {
        /// The chain.
        chain: String,
        /// Its grade.
        grade: u8,
    },
    /// What shows its hubs does not hold.
    #[error("what shows the hubs of `{chain}` does not hold: {why}")]
    Leads {
        /// The chain.
        chain: String,
        /// Why.
        why: Box<EvidenceError>,
    },
    /// What shows its hubs is about something else, or leaves something out.
    #[error("what shows the hubs of `{chain}` {why}")]
    Astray {
        /// The chain.
        chain: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The header's certificate does not hold.
    #[error("the header of `{chain}` does not hold: {why}")]
    Header {
        /// The chain.
        chain: String,
        /// Why.
        why: BlockError,
    },
    /// Nobody exchanges with itself.
    #[error("`{0}` asks itself")]
    Alone(String),
    /// Not the next of the chain that asks.
    #[error("exchange {got} of `{acid}` came where its exchange {wanted} was due")]
    Number {
        /// The chain that asks.
        acid: String,
        /// The number that was due.
        wanted: u64,
        /// The number that came.
        got: u64,
    },
    /// Too many at once.
    #[error("`{0}` has {MAX_OPEN} exchanges open, and no more")]
    TooManyOpen(String),
    /// There is no such exchange, or it is over.
    #[error("there is no exchange {number} of `{acid}` with `{ceid}` of this grade and time open")]
    NotOpen {
        /// The chain that asks.
        acid: String,
        /// The number.
        number: u64,
        /// The chain that is asked.
        ceid: String,
    },
    /// Another step is due.
    #[error("exchange {number} of `{acid}`: {why}")]
    Step {
        /// The chain that asks.
        acid: String,
        /// The number.
        number: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// Who says so is no hub of the chain whose step it is.
    #[error("`{hub}` is no hub of `{chain}`, whose step it is")]
    Stranger {
        /// The chain.
        chain: String,
        /// Who said so.
        hub: String,
    },
    /// The signature does not hold.
    #[error("the signature of `{hub}` of `{chain}` does not hold: {why}")]
    Signature {
        /// The chain.
        chain: String,
        /// Its hub.
        hub: String,
        /// Why.
        why: SignatureError,
    },
}

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

/// The first block of the anchor's chain, and the set of hubs that the evidence of the anchor leads to.
fn led(
    anchor: &AnchorContent,
    known: Option<&Anchored>,
    check: &dyn SignatureCheck,
) -> Result<(Hash, ValidatorSet), RelayError> {
    let chain = || anchor.header.chain.clone();
    let astray = |why| RelayError::Astray {
        chain: chain(),
        why,
    };
    let broken = |why| RelayError::Leads {
        chain: chain(),
        why: Box::new(why),
    };
    if anchor.leads.len() > MAX_LEADS {
        return Err(astray("is too long"));
    }
    let evidence = Evidence::from_bytes(&anchor.leads).map_err(broken)?;
    evidence.verify_with(&[], check).map_err(broken)?;
    let first = evidence.blocks.first().filter(|_| evidence.from_genesis());
    let first = first.ok_or_else(|| astray("does not begin with its first block"))?;
    let began = first.header.hash();
    if known.is_some_and(|known| known.began != began) {
        return Err(astray("begins with another first block"));
    }
    let mut succession = Succession::new(evidence.validators.clone());
    // Who signed at the anchor before: hubs of long ago must not begin another history from there.
    let other = "does not lead through the hubs that are known here";
    let mut due = known;
    for block in &evidence.blocks {
        let passed = due.take_if(|known| block.header.height > known.height);
        if passed.is_some_and(|known| *succession.set() != known.set) {
            return Err(astray(other));
        }
        for shown in &block.records {
            let body = &shown.record.body;
            let told = shown.opened.is_none() && shown.samples.is_empty();
            let counts =
                Succession::concerns(&body.content) || genesis_set(&shown.record).is_some();
            if !told || !counts {
                return Err(astray("shows more than who signs"));
            }
            succession.apply(body);
        }
    }
    if due.is_some_and(|known| *succession.set() != known.set) {
        return Err(astray(other));
    }
    let header = &anchor.header;
    let last = evidence
        .blocks
        .last()
        .map_or(&first.header, |last| &last.header);
    let next = last.height.checked_add(1) == Some(header.height);
    let follows = last.height < header.height
        && last.time < header.time
        && last.chain == header.chain
        && last.suite() == header.suite()
        && (header.is_shared() || !last.is_shared())
        && (!next || header.previous_hash == last.hash());
    match follows {
        true => Ok((began, succession.into_parts().0)),
        false => Err(astray("does not end before the header")),
    }
}

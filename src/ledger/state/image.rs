//! The whole state as bytes, for a snapshot: every section, with the one that is in no hash.

use super::State;
use crate::ledger::section::Section;
use borsh::BorshDeserialize;
use weighbridge_verifier::{DecodeError, Suite, decode, encode};

impl State {
    /// The canonical bytes of all sections.
    pub(in crate::ledger) fn to_image(&self) -> Vec<u8> {
        let keys = (&*self.former_keys, &*self.centres, &*self.derivations);
        let who = (&**self.chain, &*self.validators, &*self.identities, keys);
        let where_it_stands = (&*self.hubs, &*self.devices, &*self.attested);
        let in_force = (&*self.documents, &*self.alarms, &*self.access);
        let mut image = encode(&(who, where_it_stands, in_force, &*self.totals));
        // Chains of one hub have none of these, and images as before.
        let relay = !self.chains.is_empty() || !self.exchanges.is_empty();
        if relay || !self.votes.is_empty() || !self.leases.is_empty() {
            image.extend(encode(&(&*self.votes, &*self.leases)));
        }
        // Only a relay has these.
        if relay {
            image.extend(encode(&(&*self.chains, &*self.exchanges)));
        }
        image
    }

    /// The state of a chain of `suite` whose bytes these are.
    pub(in crate::ledger) fn of_image(suite: Suite, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut rest = bytes;
        let first = BorshDeserialize::deserialize(&mut rest).map_err(unreadable)?;
        let (who, (hubs, devices, attested), (documents, alarms, access), totals) = first;
        let (votes, leases) = match rest.is_empty() {
            true => Default::default(),
            false => BorshDeserialize::deserialize(&mut rest).map_err(unreadable)?,
        };
        let (chains, exchanges) = match rest.is_empty() {
            true => Default::default(),
            false => decode("state", rest)?,
        };
        let (chain, validators, identities, (former_keys, centres, derivations)) = who;
        let state = Self {
            suite,
            chain: Section::new(chain),
            validators: Section::new(validators),
            identities: Section::new(identities),
            hubs: Section::new(hubs),
            devices: Section::new(devices),
            documents: Section::new(documents),
            alarms: Section::new(alarms),
            access: Section::new(access),
            totals: Section::new(totals),
            former_keys: Section::new(former_keys),
            centres: Section::new(centres),
            derivations: Section::new(derivations),
            votes: Section::new(votes),
            leases: Section::new(leases),
            chains: Section::new(chains),
            exchanges: Section::new(exchanges),
            attested: Section::new(attested),
        };
        // borsh takes maps in any order; only one order is written.
        if state.to_image() == bytes {
            return Ok(state);
        }
        let reason = "it is not written in the one way it can be".to_owned();
        Err(DecodeError {
            what: "state",
            reason,
        })
    }
}

fn unreadable(error: std::io::Error) -> DecodeError {
    DecodeError {
        what: "state",
        reason: error.to_string(),
    }
}

//! The whole state as bytes, for a snapshot: every section, with the one that is in no hash.

use super::State;
use crate::ledger::section::Section;
use weighbridge_verifier::{DecodeError, Suite, decode, encode};

impl State {
    /// The canonical bytes of all sections.
    pub(in crate::ledger) fn to_image(&self) -> Vec<u8> {
        let keys = (&*self.former_keys, &*self.centres, &*self.derivations);
        let who = (&**self.chain, &*self.validators, &*self.identities, keys);
        let where_it_stands = (&*self.hubs, &*self.devices, &*self.attested);
        let in_force = (&*self.documents, &*self.alarms, &*self.access);
        encode(&(who, where_it_stands, in_force, &*self.totals))
    }

    /// The state of a chain of `suite` whose bytes these are.
    pub(in crate::ledger) fn of_image(suite: Suite, bytes: &[u8]) -> Result<Self, DecodeError> {
        let (who, (hubs, devices, attested), (documents, alarms, access), totals) =
            decode("state", bytes)?;
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

//! What a relay knows: the chains whose headers it anchors, and the exchanges between them.
//!
//! What counts is decided by [`Relay`], which an auditor asks, too. Decided here beside it: a relay holds nothing else.
//! A chain that has anchors takes no batch and no document, and one that has some of these takes no anchor.

use super::super::shape::ApplyError;
use super::State;
use weighbridge_verifier::relay::{Chains, Exchanges, Relay, RelayError, enter_step};
use weighbridge_verifier::signature::DirectCheck;
use weighbridge_verifier::{AnchorContent, Content, ExchangeContent};

impl State {
    /// The chains that are anchored here, by name.
    pub fn chains(&self) -> &Chains {
        &self.chains
    }

    /// The exchanges between them that are not over, by the chain that asks and its number.
    pub fn exchanges(&self) -> &Exchanges {
        &self.exchanges
    }

    fn relay(&self) -> Relay<'_> {
        Relay {
            name: &self.chain,
            chains: &self.chains,
            open: &self.exchanges,
        }
    }

    /// Whether such a thing belongs into this chain.
    pub(super) fn check_purpose(&self, content: &Content) -> Result<(), ApplyError> {
        let relay = !self.chains.is_empty();
        let refused = match content {
            Content::Batch(_) | Content::Document(_) if relay => {
                "a relay holds neither batches nor documents"
            }
            Content::Anchor(_) if !self.devices.is_empty() || !self.documents.is_empty() => {
                "a chain that holds batches or documents is no relay"
            }
            _ => return Ok(()),
        };
        Err(ApplyError::Relay(refused.to_owned()))
    }

    pub(super) fn check_anchor(&self, anchor: &AnchorContent) -> Result<(), ApplyError> {
        let counts = self.relay().anchored(anchor, &DirectCheck);
        counts.map(|_| ()).map_err(refused)
    }

    pub(super) fn enter_anchor(&mut self, anchor: &AnchorContent) {
        if let Ok(known) = self.relay().anchored(anchor, &DirectCheck) {
            let chain = anchor.header.chain.clone();
            self.chains.change().insert(chain, known);
        }
    }

    pub(super) fn check_exchange(&self, said: &ExchangeContent) -> Result<(), ApplyError> {
        let counts = self.relay().check_step(said, &DirectCheck);
        counts.map_err(refused)
    }

    pub(super) fn enter_exchange(&mut self, said: &ExchangeContent) {
        enter_step(self.chains.change(), self.exchanges.change(), said);
    }
}

fn refused(why: RelayError) -> ApplyError {
    ApplyError::Relay(why.to_string())
}

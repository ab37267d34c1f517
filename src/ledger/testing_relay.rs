//! What relays are tested with: anchors of chains of several hubs, and steps that their hubs sign.

use super::proof::{Exhibits, genesis_validators};
use super::testing_hubs::Hubs;
use weighbridge_verifier::evidence::genesis_set;
use weighbridge_verifier::succession::Succession;
use weighbridge_verifier::{AnchorContent, ExchangeContent, ExchangeStep, Hash, Signature, Suite};

/// The name of the relay.
pub(crate) const RELAY: &str = "relay";

impl Hubs {
    /// The anchor of the block at `height`; with what leads to its hubs from the first block on, or without.
    pub(crate) fn anchor(&self, height: usize, led: bool) -> AnchorContent {
        let block = &self.blocks[height - 1];
        AnchorContent {
            grade: 2,
            header: block.header.clone(),
            certificate: block.certificate.clone(),
            leads: match led {
                true => self.leads(height),
                false => Vec::new(),
            },
        }
    }

    /// Evidence of every record before `height` that says who signs.
    pub(crate) fn leads(&self, height: usize) -> Vec<u8> {
        let mut exhibits = Exhibits::new(genesis_validators(&self.blocks[0]).unwrap());
        for block in &self.blocks[..height - 1] {
            for (index, record) in block.records.iter().enumerate() {
                let content = &record.body.content;
                if Succession::concerns(content) || genesis_set(record).is_some() {
                    exhibits.show_record(block, index).unwrap();
                }
            }
        }
        exhibits.into_evidence().unwrap().to_bytes()
    }
}

/// A step of exchange `number` between `acme` and `bolt`, not signed yet.
pub(crate) fn step(number: u64, step: ExchangeStep) -> ExchangeContent {
    ExchangeContent {
        acid: "acme".to_owned(),
        number,
        ceid: "bolt".to_owned(),
        grade: 1,
        step,
        sealed: Hash([7; 32]),
        header: None,
        t_timestamp: 1_000,
        t_confirm: (step == ExchangeStep::Confirm).then_some(1_047),
        hub: String::new(),
        signature: Signature([0; 64]),
    }
}

/// The step, said by the hub `name` of a chain of this suite.
pub(crate) fn signed(
    mut said: ExchangeContent,
    (hubs, suite, name): (&mut Hubs, Suite, &str),
) -> ExchangeContent {
    said.hub = format!("hub-{name}");
    said.signature = hubs.sign(name, &said.message(suite, RELAY));
    said
}

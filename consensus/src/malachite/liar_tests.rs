//! A hub that signs two things where it may sign one: three honest ones see it, and whoever gets their
//! evidence can check it.

use super::codec::Forms;
use super::context::{
    Address, Context, Height, OrderedSignature, Proposal, Value, Vote, core_types,
};
use super::start::{multiaddr, network_config, opened_network};
use super::test_keys::public;
use super::values::Values;
use crate::malachite::site::{CHAIN, Key, Site, setup};
use crate::{Faults, Peer, Sign, check_evidence};
use arc_malachitebft_app::engine::network::{NetworkEvent, NetworkMsg, NetworkRef};
use arc_malachitebft_app::metrics::{Registry, SharedRegistry};
use arc_malachitebft_app::types::SignedConsensusMsg;
use core_types::{NilOrVal, Round, SignedMessage, VoteType};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use weighbridge_verifier::{Hash, Suite};

/// Votes and proposes twice in every round that it hears of.
struct Liar;

struct Lies {
    network: NetworkRef<Context>,
    key: Key,
    told: BTreeSet<(u64, Round)>,
    listens: watch::Sender<Option<String>>,
}

struct Heard(NetworkEvent<Context>);

impl From<NetworkEvent<Context>> for Heard {
    fn from(event: NetworkEvent<Context>) -> Self {
        Self(event)
    }
}

impl Lies {
    fn vote(&self, height: Height, round: Round, value: NilOrVal<Value>) {
        let vote = Vote {
            kind: VoteType::Prevote,
            height,
            round,
            value,
            address: Address(self.key.public_key()),
        };
        let message = vote.signed().unwrap().message(Suite::Nist, CHAIN);
        let signature = OrderedSignature(self.key.sign(&message).unwrap());
        let signed = SignedConsensusMsg::Vote(SignedMessage::new(vote, signature));
        self.network
            .cast(NetworkMsg::PublishConsensusMsg(signed))
            .unwrap();
    }

    fn propose(&self, height: Height, round: Round, value: Value) {
        let proposal = Proposal {
            height,
            round,
            value,
            pol_round: Round::Nil,
            address: Address(self.key.public_key()),
        };
        let message = proposal.signed().unwrap().message(Suite::Nist, CHAIN);
        let signature = OrderedSignature(self.key.sign(&message).unwrap());
        let signed = SignedConsensusMsg::Proposal(SignedMessage::new(proposal, signature));
        self.network
            .cast(NetworkMsg::PublishConsensusMsg(signed))
            .unwrap();
    }
}

#[async_trait::async_trait]
impl Actor for Liar {
    type Msg = Heard;
    type State = Lies;
    type Arguments = Lies;

    async fn pre_start(&self, _: ActorRef<Heard>, lies: Lies) -> Result<Lies, ActorProcessingErr> {
        Ok(lies)
    }

    async fn handle(
        &self,
        _: ActorRef<Heard>,
        Heard(event): Heard,
        lies: &mut Lies,
    ) -> Result<(), ActorProcessingErr> {
        let (height, round) = match event {
            NetworkEvent::Listening(address) => {
                lies.listens.send_replace(Some(address.to_string()));
                return Ok(());
            }
            NetworkEvent::Vote(_, vote) => (vote.height, vote.round),
            NetworkEvent::Proposal(_, proposal) => (proposal.height, proposal.round),
            _ => return Ok(()),
        };
        if lies.told.insert((height.0, round)) {
            lies.vote(height, round, NilOrVal::Nil);
            lies.vote(height, round, NilOrVal::Val(Value(Hash([0xaa; 32]))));
            // Where it is not this hub's turn, nobody takes them.
            lies.propose(height, round, Value(Hash([0xbb; 32])));
            lies.propose(height, round, Value(Hash([0xcc; 32])));
        }
        Ok(())
    }
}

#[test]
fn a_liar_is_proved_one() {
    let mut site = Site::of(3, 4, Faults::Byzantine);
    let liar = 3;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (listens, listening) = watch::channel(None);
    let directory = tempfile::TempDir::new().unwrap();
    let setup = setup(liar, directory.path(), site.peers.clone(), site.faults);
    let id = runtime.block_on(async {
        let peers = setup.peers.iter().map(|peer| multiaddr(peer).unwrap());
        let config = network_config(&setup, peers.collect()).unwrap();
        let registry = SharedRegistry::new(Registry::default(), None);
        let forms = Forms::new(Arc::new(Values::default()), setup.max_value);
        let (network, id) = opened_network(&setup, config, forms, registry)
            .await
            .unwrap();
        let lies = Lies {
            network: network.clone(),
            key: Key::new(liar),
            told: BTreeSet::new(),
            listens,
        };
        let (ears, _) = Actor::spawn(None, Liar, lies).await.unwrap();
        network.cast(NetworkMsg::Subscribe(Box::new(ears))).unwrap();
        id
    });
    let address = site.wait(listening, Option::is_some).unwrap();
    let port = address.rsplit('/').next().unwrap().parse().unwrap();
    let peer = Peer {
        address: ([127, 0, 0, 1], port).into(),
        id,
    };
    for hub in &site.hubs {
        hub.chain().add_peer(&peer).unwrap();
    }
    for number in 0..3 {
        site.wait_progress(number, |progress| progress.peers == 3);
    }

    // Heights go on until everybody has seen it lie in both ways, or the test hangs.
    let mut height = 0;
    let seen = |site: &Site| {
        site.hubs.iter().all(|hub| {
            let evidence = hub.ledger.evidence.borrow();
            let lengths: BTreeSet<_> = evidence.iter().map(Vec::len).collect();
            lengths.len() == 2
        })
    };
    while !seen(&site) && height < 100 {
        height += 1;
        site.record(height.to_string());
        site.wait_tip(height);
    }
    site.wait_parked();
    for hub in &site.hubs {
        let evidence = hub.ledger.evidence.borrow();
        assert!(!evidence.is_empty());
        for piece in evidence.iter() {
            let offence = check_evidence(CHAIN, piece).unwrap();
            assert_eq!(offence.key, Key::new(liar).public_key());
            assert!((1..=height).contains(&offence.height));
            assert!(check_evidence("another", piece).is_err());
        }
    }
    assert!(seen(&site), "votes and proposals");
    assert_eq!(Key::new(liar).public_key(), public(4));

    // Voted out: the three decide with three, and the liar's messages count no more.
    let honest = crate::malachite::site::validators(0..3);
    for hub in &site.hubs {
        hub.ledger.set_validators(honest.clone());
        hub.chain().remove_peer(&peer).unwrap();
    }
    height += 1;
    site.record("decided by four");
    site.wait_tip(height);
    height += 1;
    site.record("decided by three");
    site.wait_tip(height);
    for hub in &site.hubs {
        let decided = hub.ledger.decided();
        let last = &decided.last().unwrap().certificate;
        last.verify(CHAIN, &honest, Faults::Byzantine).unwrap();
    }
    for number in 0..3 {
        site.stop(number);
    }
}

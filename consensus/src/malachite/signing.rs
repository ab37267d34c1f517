//! Signing through whoever holds the key, verifying with `ring`: an engine checks every message of every
//! hub, and `ring` is four times as fast at it as what the verifier uses.
//!
//! Both accept the same signatures. `ring` takes high s, the verifier does not; a relay could turn one
//! into the other without the key, and a certificate would not hold for an auditor. So s is checked here.

use super::context::{Address, Context, OrderedSignature, Proposal, Vote, core_types};
use crate::engine::Sign;
use arc_malachitebft_signing::{Error, Signer, VerificationResult, Verifier};
use async_trait::async_trait;
use bytes::Bytes;
use core_types::{SignedMessage, ValidatorProof, VoteExtensionScope};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use weighbridge_verifier::equivocation::Signed;
use weighbridge_verifier::{Hash, PublicKey, Signature, Suite, encode, sha256, vote};

/// Half of the order of P-256's group, rounded down: the greatest s that is low (SEC 2, 2.4.2).
const GREATEST_LOW_S: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];
/// More points than this are not kept: keys come from outside, too.
const POINTS_KEPT: usize = 1024;
const PEER_DOMAIN: &[u8] = b"weighbridge/consensus-peer/v1\0";

/// Checks P-256 signatures over messages, and keeps the points of the keys it has seen.
#[derive(Debug, Default)]
pub struct Verify {
    points: RwLock<BTreeMap<PublicKey, Vec<u8>>>,
}

impl Verify {
    /// Whether `signature` is `key`'s over SHA-256 of `message`.
    pub fn holds(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let low = signature
            .0
            .last_chunk::<32>()
            .is_some_and(|s| *s <= GREATEST_LOW_S);
        low && key.suite() == Suite::Nist && self.matches(key, message, signature)
    }

    fn matches(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let check = |point: &Vec<u8>| {
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
            key.verify(message, &signature.0).is_ok()
        };
        // A poisoned lock only means that another thread panicked while it looked up a key.
        let points = self.points.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(point) = points.get(key) {
            return check(point);
        }
        drop(points);
        let Some(point) = key.uncompressed() else {
            return false;
        };
        let held = check(&point);
        let mut points = self.points.write().unwrap_or_else(PoisonError::into_inner);
        if points.len() < POINTS_KEPT {
            points.insert(*key, point);
        }
        held
    }
}

/// The signatures of one chain.
#[derive(Clone)]
pub struct Signing {
    chain: Arc<str>,
    verify: Arc<Verify>,
    signer: Arc<dyn Sign>,
}

/// A signature that cannot be made, as the engine has errors.
fn failed(reason: impl ToString) -> Error {
    Error::from_source(reason.to_string())
}

/// What says that a peer of the network is a hub: made of the bytes that the engine gives for it, with
/// the chain, so that what is said on one chain holds on no other.
fn peer_bytes(chain: &str, given: &[u8]) -> Vec<u8> {
    [PEER_DOMAIN, &encode(&(chain, given))].concat()
}

impl Signing {
    /// For this chain, with this key.
    pub fn new(chain: &str, signer: Arc<dyn Sign>) -> Self {
        Self {
            chain: chain.into(),
            verify: Arc::default(),
            signer,
        }
    }

    /// Who this is.
    pub fn address(&self) -> Address {
        Address(self.signer.public_key())
    }

    /// What a proposal says, if the hub that it names signed it.
    pub fn claimed(
        &self,
        claim: &SignedMessage<Context, Proposal>,
    ) -> Option<Signed<vote::Proposal>> {
        let (message, signature) = (claim.message.signed()?, claim.signature.0);
        let bytes = message.bytes(&self.chain);
        let key = &claim.message.address.0;
        let holds = self.verify.holds(key, &bytes, &signature);
        holds.then_some(Signed { message, signature })
    }

    fn sign(&self, message: &Hash) -> Result<OrderedSignature, Error> {
        self.signer
            .sign(message)
            .map(OrderedSignature)
            .map_err(failed)
    }

    fn check(
        &self,
        bytes: Option<Vec<u8>>,
        sig: &OrderedSignature,
        key: &PublicKey,
    ) -> VerificationResult {
        let held = bytes.is_some_and(|bytes| self.verify.holds(key, &bytes, &sig.0));
        VerificationResult::from_bool(held)
    }
}

#[async_trait]
impl Signer<Context> for Signing {
    async fn sign_vote(&self, vote: Vote) -> Result<SignedMessage<Context, Vote>, Error> {
        let signed = vote.signed().ok_or_else(|| failed("a vote of no round"))?;
        let signature = self.sign(&signed.message(Suite::Nist, &self.chain))?;
        Ok(SignedMessage::new(vote, signature))
    }

    async fn sign_proposal(
        &self,
        proposal: Proposal,
    ) -> Result<SignedMessage<Context, Proposal>, Error> {
        let signed = proposal.signed();
        let signed = signed.ok_or_else(|| failed("a proposal of no round"))?;
        let signature = self.sign(&signed.message(Suite::Nist, &self.chain))?;
        Ok(SignedMessage::new(proposal, signature))
    }

    async fn sign_vote_extension(
        &self,
        _: VoteExtensionScope<Context>,
        _: Bytes,
    ) -> Result<SignedMessage<Context, Bytes>, Error> {
        Err(failed("votes have no extensions here"))
    }

    async fn sign_validator_proof(
        &self,
        public_key: Vec<u8>,
        peer: Vec<u8>,
    ) -> Result<ValidatorProof<Context>, Error> {
        let given = ValidatorProof::<Context>::signing_bytes(&public_key, &peer);
        let signature = self.sign(&sha256(&[&peer_bytes(&self.chain, &given)]))?;
        Ok(ValidatorProof::new(public_key, peer, signature))
    }
}

#[async_trait]
impl Verifier<Context> for Signing {
    async fn verify_signed_vote(
        &self,
        vote: &Vote,
        signature: &OrderedSignature,
        key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        let bytes = vote.signed().map(|signed| signed.bytes(&self.chain));
        Ok(self.check(bytes, signature, key))
    }

    async fn verify_signed_proposal(
        &self,
        proposal: &Proposal,
        signature: &OrderedSignature,
        key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        let bytes = proposal.signed().map(|signed| signed.bytes(&self.chain));
        Ok(self.check(bytes, signature, key))
    }

    async fn verify_signed_vote_extension(
        &self,
        _: &VoteExtensionScope<Context>,
        _: &Bytes,
        _: &OrderedSignature,
        _: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(VerificationResult::Invalid)
    }

    async fn verify_validator_proof(
        &self,
        proof: &ValidatorProof<Context>,
    ) -> Result<VerificationResult, Error> {
        let Ok(key) = proof.decoded_public_key() else {
            return Ok(VerificationResult::Invalid);
        };
        let bytes = peer_bytes(&self.chain, &proof.preimage());
        Ok(self.check(Some(bytes), &proof.signature, &key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_keys::TestKey;
    use super::*;

    /// What the engine counts, an auditor must be able to count.
    #[test]
    fn the_same_signatures_hold_here_and_for_the_verifier() {
        let verify = Verify::default();
        let message = b"weighbridge/vote/v1\0 and so on";
        let digest = sha256(&[message]);
        let key = TestKey::new(3);
        let good = key.signature(&digest);
        let mut cases = vec![good, TestKey::new(4).signature(&digest)];
        cases.push(key.signature(&sha256(&[b"another"])));
        let parsed = p256::ecdsa::Signature::from_slice(&good.0).unwrap();
        let (r, s) = parsed.split_scalars();
        let high = p256::ecdsa::Signature::from_scalars(r, -*s).unwrap();
        cases.push(Signature(high.to_bytes().into()));
        for bit in 0..512 {
            let mut changed = good;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            cases.push(changed);
        }
        for zero in [0..32, 32..64] {
            let mut broken = good;
            broken.0[zero].fill(0);
            cases.push(broken);
        }
        let mut held = 0;
        for signature in cases {
            let public = key.public_key();
            let here = verify.holds(&public, message, &signature);
            assert_eq!(here, public.verify(&digest, &signature).is_ok());
            held += usize::from(here);
        }
        assert_eq!(held, 1);
    }

    #[test]
    fn what_is_no_key_of_p256_signs_nothing() {
        let digest = sha256(&[b"message"]);
        let key = TestKey::new(3);
        let (public, signature) = (key.public_key(), key.signature(&digest));
        for tag in 0..=255 {
            let mut other = public;
            other.0[0] = tag;
            let held = Verify::default().holds(&other, b"message", &signature);
            assert_eq!(held, tag == public.0[0], "tag {tag}");
        }
    }

    #[test]
    fn the_greatest_low_s_is_half_of_the_order() {
        let bytes = |s: [u8; 32]| [[1; 32], s].concat();
        let parsed = |s| p256::ecdsa::Signature::from_slice(&bytes(s)).unwrap();
        let low = parsed(GREATEST_LOW_S);
        assert_eq!(low.normalize_s(), low);
        let mut above = GREATEST_LOW_S;
        above[31] += 1;
        let high = parsed(above);
        assert_ne!(high.normalize_s(), high);
    }
}

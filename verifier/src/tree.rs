//! The tree over a whole chain, and the proof that a later tree extends an earlier one.
//!
//! Leaf *i* of the chain's tree is the hash of the block of height *i* + 1
//! ([`BlockHeader::leaf`](crate::BlockHeader::leaf)); its shape is that of RFC 6962 §2.1, so that every
//! witness of transparency logs can check it. For the same reason it is SHA-256 in every suite ([`LOG`]). The right edge of a tree is all that is needed to add
//! leaves and to tell the root: at most one hash for each bit of the size.

use crate::hash::Hash;
use crate::merkle;
use crate::suite::Suite;
use std::ops::Range;

/// The suite of this tree, whatever the chain's: RFC 6962 and the witnesses know SHA-256.
pub const LOG: Suite = Suite::Nist;

/// Most hashes in a consistency proof that a witness takes (c2sp.org/tlog-witness).
pub const MAX_PROOF: usize = 63;

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    merkle::node_hash(LOG, left, right)
}

fn empty_root() -> Hash {
    merkle::empty_root(LOG)
}

/// A growing tree, as far as it is needed to grow on: the roots of its complete subtrees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeEdge {
    size: u64,
    /// One for each bit of `size` that is set, the largest subtree first.
    peaks: Vec<Hash>,
}

impl TreeEdge {
    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; amortised, that is one hash of a node.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Root over all leaves.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(smallest) = peaks.next() else {
            return empty_root();
        };
        peaks.fold(*smallest, |right, left| node_hash(left, &right))
    }

    /// The root of the complete subtree over these leaves, if it is one of the edge.
    fn peak(&self, leaves: &Range<u64>) -> Option<Hash> {
        let mut start = 0;
        for peak in &self.peaks {
            let width = 1 << (self.size - start).ilog2();
            if *leaves == (start..start + width) {
                return Some(*peak);
            }
            start += width;
        }
        None
    }
}

/// Makes the proof that a tree of some size extends the one of an earlier size, in one pass over the
/// leaves between the two.
#[derive(Clone, Debug)]
pub struct ConsistencyProver {
    /// The leaves under each hash of the proof, with what is known of that hash.
    parts: Vec<(Range<u64>, TreeEdge)>,
    done: Vec<Option<Hash>>,
    next: u64,
}

impl ConsistencyProver {
    /// From the tree with edge `old` to one of `new` leaves; `None` when that has fewer.
    pub fn new(old: &TreeEdge, new: u64) -> Option<Self> {
        let subtrees = consistency_subtrees(old.size, new)?;
        let done = subtrees.iter().map(|leaves| old.peak(leaves)).collect();
        let parts = subtrees.into_iter().map(|s| (s, TreeEdge::default()));
        Some(Self {
            parts: parts.collect(),
            done,
            next: old.size,
        })
    }

    /// The next leaf, beginning with the first one that the earlier tree does not have.
    pub fn push(&mut self, leaf: Hash) {
        let at = self.next;
        if let Some((_, edge)) = self.parts.iter_mut().find(|(s, _)| s.contains(&at)) {
            edge.push(leaf);
        }
        self.next += 1;
    }

    /// The proof, in the order of RFC 6962 §2.1.2; `None` when leaves are missing.
    pub fn finish(self) -> Option<Vec<Hash>> {
        let parts = self.parts.into_iter().zip(self.done);
        parts
            .map(|((leaves, edge), done)| {
                let whole = edge.size == leaves.end - leaves.start;
                done.or_else(|| whole.then(|| edge.root()))
            })
            .collect()
    }
}

/// Which leaves are under each hash of the proof from `old` to `new` leaves: PROOF of RFC 6962 §2.1.2.
/// `None` when `new` is less than `old`; nothing when they are equal or `old` is 0.
fn consistency_subtrees(old: u64, new: u64) -> Option<Vec<Range<u64>>> {
    if old > new {
        return None;
    }
    let mut subtrees = Vec::new();
    if old == 0 || old == new {
        return Some(subtrees);
    }
    // SUBPROOF descends to where the earlier tree ends, and names the sibling at every step.
    let mut whole = 0..new;
    let mut known = true;
    while whole.end != old {
        let leaves = whole.end - whole.start;
        let split = whole.start + (1 << (leaves - 1).ilog2());
        if old <= split {
            subtrees.push(split..whole.end);
            whole.end = split;
        } else {
            subtrees.push(whole.start..split);
            whole.start = split;
            known = false;
        }
    }
    // What is left is the earlier tree itself, which the checker knows, or a part of it.
    if !known {
        subtrees.push(whole);
    }
    subtrees.reverse();
    Some(subtrees)
}

/// Whether `proof` shows that the tree of `new` leaves with root `new_root` begins with the `old`
/// leaves of the one with root `old_root` (RFC 9162 §2.1.4.2). Every tree extends the empty one.
pub fn is_consistent(
    (old, old_root): (u64, &Hash),
    (new, new_root): (u64, &Hash),
    proof: &[Hash],
) -> bool {
    if old == 0 {
        return proof.is_empty()
            && *old_root == empty_root()
            && (new > 0 || *new_root == empty_root());
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old > new || proof.len() > MAX_PROOF {
        return false;
    }
    // A complete earlier tree is itself the first node, and not sent.
    let own = old.is_power_of_two().then_some(old_root);
    let mut path = own.into_iter().chain(proof);
    let Some(first) = path.next() else {
        return false;
    };
    let (mut at, mut last) = (old - 1, new - 1);
    let complete = at.trailing_ones();
    at >>= complete;
    last >>= complete;
    let (mut earlier, mut later) = (*first, *first);
    for node in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            earlier = node_hash(node, &earlier);
            later = node_hash(node, &later);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            later = node_hash(&later, node);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && earlier == *old_root && later == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaf_hash(data: &[u8]) -> Hash {
        merkle::leaf_hash(LOG, data)
    }

    fn root(leaves: &[Hash]) -> Hash {
        merkle::root(LOG, leaves)
    }

    fn edge(leaves: &[Hash]) -> TreeEdge {
        let mut edge = TreeEdge::default();
        leaves.iter().for_each(|leaf| edge.push(*leaf));
        edge
    }

    fn proof(leaves: &[Hash], old: usize) -> Vec<Hash> {
        let old = edge(&leaves[..old]);
        let mut prover = ConsistencyProver::new(&old, leaves.len() as u64).unwrap();
        let later = leaves.iter().skip(old.size as usize);
        later.for_each(|leaf| prover.push(*leaf));
        prover.finish().unwrap()
    }

    fn leaves(n: usize) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    /// SUBPROOF of RFC 6962 §2.1.2, written as the RFC does.
    fn subproof(m: usize, leaves: &[Hash], known: bool) -> Vec<Hash> {
        let n = leaves.len();
        if m == n {
            return if known { vec![] } else { vec![root(leaves)] };
        }
        let k = n.next_power_of_two() / 2;
        if m <= k {
            let mut proof = subproof(m, &leaves[..k], known);
            proof.push(root(&leaves[k..]));
            proof
        } else {
            let mut proof = subproof(m - k, &leaves[k..], false);
            proof.push(root(&leaves[..k]));
            proof
        }
    }

    /// The leaves of the reference vectors of Certificate Transparency
    /// (google/certificate-transparency, `merkle_tree_test`).
    fn reference_leaves() -> Vec<Hash> {
        let data: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        data.into_iter().map(leaf_hash).collect()
    }

    #[test]
    fn roots_are_those_of_the_reference_vectors() {
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let leaves = reference_leaves();
        for (n, root) in (1..).zip(roots) {
            assert_eq!(edge(&leaves[..n]).root().to_string(), root, "{n} leaves");
        }
        assert_eq!(edge(&[]).root(), empty_root());
    }

    #[test]
    fn proofs_are_those_of_the_reference_vectors() {
        let leaves = reference_leaves();
        let published: [(usize, usize, &[&str]); 4] = [
            (1, 1, &[]),
            (
                1,
                8,
                &[
                    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
                ],
            ),
            (
                6,
                8,
                &[
                    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                ],
            ),
            (
                2,
                5,
                &[
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                ],
            ),
        ];
        for (old, new, expected) in published {
            let made = proof(&leaves[..new], old);
            let made: Vec<_> = made.iter().map(Hash::to_string).collect();
            assert_eq!(made, expected, "{old} to {new}");
        }
    }

    #[test]
    fn every_pair_of_sizes_is_proven_as_the_rfc_writes_it() {
        for new in 0..70 {
            let leaves = leaves(new);
            let new_root = root(&leaves);
            assert_eq!(edge(&leaves).root(), new_root);
            for old in 0..=new {
                let made = proof(&leaves, old);
                if old > 0 {
                    assert_eq!(made, subproof(old, &leaves, true), "{old} to {new}");
                }
                let old_root = root(&leaves[..old]);
                let (old, new) = (old as u64, new as u64);
                assert!(is_consistent((old, &old_root), (new, &new_root), &made));
            }
        }
    }

    #[test]
    fn the_longest_chain_needs_no_more_than_a_witness_takes() {
        for old in [1, 2, 3, (1 << 61) + 1, (1 << 62) - 1] {
            let subtrees = consistency_subtrees(old, 1 << 62).unwrap();
            assert!(subtrees.len() <= MAX_PROOF, "{old}: {}", subtrees.len());
        }
        assert!(consistency_subtrees(2, 1).is_none());
    }

    #[test]
    fn a_proof_with_leaves_missing_is_none() {
        let leaves = leaves(9);
        let mut prover = ConsistencyProver::new(&edge(&leaves[..3]), 9).unwrap();
        leaves[3..8].iter().for_each(|leaf| prover.push(*leaf));
        assert_eq!(prover.finish(), None);
    }

    proptest! {
        #[test]
        fn nothing_else_is_proven(
            new in 1usize..300,
            pick: prop::sample::Index,
            change in 0usize..6,
            at: prop::sample::Index,
            bit in 0usize..256,
        ) {
            let leaves = leaves(new);
            let old = pick.index(new) + 1;
            let (mut old_root, mut new_root) = (root(&leaves[..old]), root(&leaves));
            let mut path = proof(&leaves, old);
            let (mut m, mut n) = (old as u64, new as u64);
            prop_assert!(is_consistent((m, &old_root), (n, &new_root), &path));
            let flip = |hash: &mut Hash| hash.0[bit / 8] ^= 1 << (bit % 8);
            match change {
                0 => flip(&mut old_root),
                1 => flip(&mut new_root),
                2 => path.push(Hash::ZERO),
                // A size alone does not tell the shape of the proof; its root does.
                3 => m = n + 1,
                4 if !path.is_empty() => { path.pop(); }
                5 if !path.is_empty() => { let i = at.index(path.len()); flip(&mut path[i]); }
                _ => { n = m.saturating_sub(1); }
            }
            prop_assert!(!is_consistent((m, &old_root), (n, &new_root), &path));
        }

        #[test]
        fn another_history_is_not_consistent(new in 2usize..200, pick: prop::sample::Index, changed: prop::sample::Index) {
            let honest = leaves(new);
            let old = pick.index(new - 1) + 1;
            let mut forged = honest.clone();
            forged[changed.index(old)] = leaf_hash(b"other");
            let (old_root, forged_root) = (root(&honest[..old]), root(&forged));
            let path = proof(&forged, old);
            prop_assert!(!is_consistent((old as u64, &old_root), (new as u64, &forged_root), &path));
        }
    }
}

//! Merkle trees of RFC 6962 §2.1: leaf `H(0x00 ‖ data)`, node `H(0x01 ‖ left ‖ right)`.
//!
//! Both trees of the ledger have this shape: the inner one over the salted samples of a batch, the
//! outer one over the records of a block (the double Merkle root of Wan et al. 2019). `H` is the hash of
//! the chain's suite.

use crate::compress::{BLOCK, State, pad};
use crate::hash::Hash;
use crate::suite::Suite;
use sm3::{Digest, Sm3};

/// Root of the tree without leaves (RFC 6962: the hash of the empty string).
pub fn empty_root(suite: Suite) -> Hash {
    suite.hash(&[])
}

/// Hash of a leaf's bytes.
pub fn leaf_hash(suite: Suite, data: &[u8]) -> Hash {
    suite.hash(&[&[0], data])
}

/// Hash of an inner node.
pub fn node_hash(suite: Suite, left: &Hash, right: &Hash) -> Hash {
    node_of(suite)(left, right)
}

/// How a suite makes a node of two.
type NodeHash = fn(&Hash, &Hash) -> Hash;

fn node_of(suite: Suite) -> NodeHash {
    match suite {
        Suite::Nist => sha256_node,
        Suite::Guomi => sm3_node,
    }
}

fn sm3_node(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Hash(Sm3::digest(bytes).into())
}

fn sha256_node(left: &Hash, right: &Hash) -> Hash {
    // 65 bytes: one more than a block, so its last byte stands alone in the second.
    let (most, last) = right.0.split_at(31);
    let mut blocks = [[0; BLOCK]; 2];
    blocks[0][0] = 1;
    blocks[0][1..33].copy_from_slice(&left.0);
    blocks[0][33..].copy_from_slice(most);
    blocks[1][..1].copy_from_slice(last);
    pad(&mut blocks[1], 1, 65);
    State::INITIAL.after(&blocks).digest()
}

/// Root over leaf hashes, in order.
///
/// Pairing level by level and carrying an odd last node upwards unchanged gives the tree of RFC 6962.
pub fn root(suite: Suite, leaves: &[Hash]) -> Hash {
    root_of(suite, leaves.to_vec())
}

/// The same for leaves that are not needed afterwards.
pub fn root_of(suite: Suite, leaves: Vec<Hash>) -> Hash {
    // Chosen once, not for every node: the loop over the nodes is compiled for each.
    let root = match suite {
        Suite::Nist => folded(leaves, sha256_node),
        Suite::Guomi => folded(leaves, sm3_node),
    };
    root.unwrap_or_else(|| empty_root(suite))
}

fn folded(mut leaves: Vec<Hash>, node: impl Fn(&Hash, &Hash) -> Hash) -> Option<Hash> {
    while leaves.len() > 1 {
        fold_level(&mut leaves, &node);
    }
    leaves.first().copied()
}

/// Inclusion path of leaf `index`, lowest sibling first; `None` when there is no such leaf.
pub fn inclusion_path(suite: Suite, leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    let mut level = leaves.to_vec();
    let mut at = index;
    while level.len() > 1 {
        if let Some(sibling) = level.get(at ^ 1) {
            path.push(*sibling);
        }
        fold_level(&mut level, node_of(suite));
        at /= 2;
    }
    Some(path)
}

/// Root that leaf hash `leaf` at `index` of a tree of `size` leaves has under `path`
/// (RFC 9162 §2.1.3.2); `None` when index, size and path do not fit together.
pub fn root_from_path(
    suite: Suite,
    leaf: Hash,
    index: u64,
    size: u64,
    path: &[Hash],
) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let node = node_of(suite);
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf;
    let mut path = path.iter();
    while last > 0 {
        if at & 1 == 1 {
            hash = node(path.next()?, &hash);
        } else if at < last {
            hash = node(&hash, path.next()?);
        }
        at >>= 1;
        last >>= 1;
    }
    path.next().is_none().then_some(hash)
}

/// What the leaves at `positions` (ascending) need besides themselves to give the root: the siblings that
/// follow from none of them, level by level from the leaves up, each level from left to right. For one
/// leaf it is its inclusion path. `None` for positions that are none, out of order or out of the tree.
pub fn multi_path(suite: Suite, leaves: &[Hash], positions: &[usize]) -> Option<Vec<Hash>> {
    let ascending = positions.is_sorted_by(|a, b| a < b);
    if !ascending || *positions.last()? >= leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    let mut level = leaves.to_vec();
    let mut known = positions.to_vec();
    while level.len() > 1 {
        let lone = |at: &usize| known.binary_search(&(at ^ 1)).is_err();
        let siblings = known.iter().filter(|at| lone(at));
        path.extend(siblings.filter_map(|at| level.get(at ^ 1)));
        fold_level(&mut level, node_of(suite));
        known.iter_mut().for_each(|at| *at /= 2);
        known.dedup();
    }
    Some(path)
}

/// Root that the leaf hashes `known`, by ascending index, of a tree of `size` leaves have under `path`;
/// `None` when they do not fit together.
pub fn root_from_multi_path(
    suite: Suite,
    known: &[(u64, Hash)],
    size: u64,
    path: &[Hash],
) -> Option<Hash> {
    let ascending = known.is_sorted_by(|a, b| a.0 < b.0);
    if !ascending || known.last()?.0 >= size {
        return None;
    }
    let node = node_of(suite);
    let mut last = size - 1;
    let mut path = path.iter();
    let mut level = known.to_vec();
    while last > 0 {
        let mut above = Vec::with_capacity(level.len().div_ceil(2) + 1);
        let mut nodes = level.into_iter().peekable();
        while let Some((at, hash)) = nodes.next() {
            let parent = if at & 1 == 1 {
                node(path.next()?, &hash)
            } else if let Some((_, right)) = nodes.next_if(|(next, _)| *next == at + 1) {
                node(&hash, &right)
            } else if at < last {
                node(&hash, path.next()?)
            } else {
                hash
            };
            above.push((at >> 1, parent));
        }
        level = above;
        last >>= 1;
    }
    let (_, root) = level.first()?;
    path.next().is_none().then_some(*root)
}

fn fold_level(level: &mut Vec<Hash>, node: impl Fn(&Hash, &Hash) -> Hash) {
    let pairs = level.len() / 2;
    for i in 0..pairs {
        level[i] = node(&level[2 * i], &level[2 * i + 1]);
    }
    if level.len() % 2 == 1 {
        level[pairs] = level[level.len() - 1];
        level.truncate(pairs + 1);
    } else {
        level.truncate(pairs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// MTH of RFC 6962 §2.1, written as the RFC does: split at the largest power of two below n.
    fn mth(suite: Suite, leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(suite),
            [one] => *one,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(split);
                node_hash(suite, &mth(suite, left), &mth(suite, right))
            }
        }
    }

    fn leaves(suite: Suite, n: usize) -> Vec<Hash> {
        let leaf = |i: usize| leaf_hash(suite, &i.to_be_bytes());
        (0..n).map(leaf).collect()
    }

    #[test]
    fn empty_tree_is_the_hash_of_nothing() {
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(root(Suite::Nist, &[]).to_string(), expected);
        let expected = "1ab21d8355cfa17f8e61194831e81a8f22bec8c728fefb747ed035eb5082aa2b";
        assert_eq!(root(Suite::Guomi, &[]).to_string(), expected);
    }

    #[test]
    fn root_has_the_shape_of_the_rfc() {
        for (n, suite) in (0..130).flat_map(|n| Suite::ALL.map(|suite| (n, suite))) {
            let leaves = leaves(suite, n);
            assert_eq!(root(suite, &leaves), mth(suite, &leaves), "{n} leaves");
        }
    }

    proptest! {
        #[test]
        fn a_node_is_the_hash_of_the_documented_bytes(left: [u8; 32], right: [u8; 32]) {
            for suite in Suite::ALL {
                let expected = suite.hash(&[&[1], &left, &right]);
                prop_assert_eq!(node_hash(suite, &Hash(left), &Hash(right)), expected);
            }
        }

        #[test]
        fn every_leaf_is_proven_and_no_other(
            suite in prop::sample::select(&Suite::ALL[..]),
            n in 1usize..200, pick: prop::sample::Index, flip in 0usize..256,
        ) {
            let leaves = leaves(suite, n);
            let at = pick.index(n);
            let path = inclusion_path(suite, &leaves, at).unwrap();
            let (at64, n64) = (at as u64, n as u64);
            prop_assert_eq!(root_from_path(suite, leaves[at], at64, n64, &path), Some(root(suite, &leaves)));
            let mut other = leaves[at];
            other.0[flip / 8] ^= 1 << (flip % 8);
            prop_assert_ne!(root_from_path(suite, other, at64, n64, &path), Some(root(suite, &leaves)));
            let mut long = path.clone();
            long.push(Hash::ZERO);
            prop_assert_eq!(root_from_path(suite, leaves[at], at64, n64, &long), None);
            prop_assert_eq!(root_from_path(suite, leaves[at], n64, n64, &path), None);
            prop_assert_eq!(multi_path(suite, &leaves, &[at]), Some(path));
        }

        #[test]
        fn several_leaves_are_proven_and_no_others(
            suite in prop::sample::select(&Suite::ALL[..]),
            n in 1usize..200,
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
            flip in 0usize..256,
        ) {
            let leaves = leaves(suite, n);
            let at: std::collections::BTreeSet<usize> = picks.iter().map(|p| p.index(n)).collect();
            let at: Vec<usize> = at.into_iter().collect();
            let path = multi_path(suite, &leaves, &at).unwrap();
            let known: Vec<_> = at.iter().map(|i| (*i as u64, leaves[*i])).collect();
            let n = n as u64;
            let expected = Some(root(suite, &leaves));
            prop_assert_eq!(root_from_multi_path(suite, &known, n, &path), expected);
            let mut other = known.clone();
            other[flip % at.len()].1.0[flip / 8] ^= 1;
            prop_assert_ne!(root_from_multi_path(suite, &other, n, &path), expected);
            let mut long = path.clone();
            long.push(Hash::ZERO);
            prop_assert_eq!(root_from_multi_path(suite, &known, n, &long), None);
            let mut twice = known.clone();
            twice.push(known[known.len() - 1]);
            prop_assert_eq!(root_from_multi_path(suite, &twice, n, &path), None);
            prop_assert_eq!(root_from_multi_path(suite, &[], n, &path), None);
        }
    }
}

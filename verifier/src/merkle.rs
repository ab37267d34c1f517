//! Merkle trees of RFC 6962 §2.1: leaf `H(0x00 ‖ data)`, node `H(0x01 ‖ left ‖ right)`.
//!
//! Both trees of the ledger have this shape: the inner one over the salted samples of a batch, the
//! outer one over the records of a block (the double Merkle root of Wan et al. 2019).

use crate::compress::{BLOCK, State, pad};
use crate::hash::{Hash, sha256};

/// Root of the tree without leaves (RFC 6962: the hash of the empty string).
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// Hash of a leaf's bytes.
pub fn leaf_hash(data: &[u8]) -> Hash {
    sha256(&[&[0], data])
}

/// Hash of an inner node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
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
pub fn root(leaves: &[Hash]) -> Hash {
    root_of(leaves.to_vec())
}

/// The same for leaves that are not needed afterwards.
pub fn root_of(mut leaves: Vec<Hash>) -> Hash {
    while leaves.len() > 1 {
        fold_level(&mut leaves);
    }
    leaves.first().copied().unwrap_or_else(empty_root)
}

/// Inclusion path of leaf `index`, lowest sibling first; `None` when there is no such leaf.
pub fn inclusion_path(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
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
        fold_level(&mut level);
        at /= 2;
    }
    Some(path)
}

/// Root that leaf hash `leaf` at `index` of a tree of `size` leaves has under `path`
/// (RFC 9162 §2.1.3.2); `None` when index, size and path do not fit together.
pub fn root_from_path(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf;
    let mut path = path.iter();
    while last > 0 {
        if at & 1 == 1 {
            hash = node_hash(path.next()?, &hash);
        } else if at < last {
            hash = node_hash(&hash, path.next()?);
        }
        at >>= 1;
        last >>= 1;
    }
    path.next().is_none().then_some(hash)
}

/// What the leaves at `positions` (ascending) need besides themselves to give the root: the siblings that
/// follow from none of them, level by level from the leaves up, each level from left to right. For one
/// leaf it is its inclusion path. `None` for positions that are none, out of order or out of the tree.
pub fn multi_path(leaves: &[Hash], positions: &[usize]) -> Option<Vec<Hash>> {
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
        fold_level(&mut level);
        known.iter_mut().for_each(|at| *at /= 2);
        known.dedup();
    }
    Some(path)
}

/// Root that the leaf hashes `known`, by ascending index, of a tree of `size` leaves have under `path`;
/// `None` when they do not fit together.
pub fn root_from_multi_path(known: &[(u64, Hash)], size: u64, path: &[Hash]) -> Option<Hash> {
    let ascending = known.is_sorted_by(|a, b| a.0 < b.0);
    if !ascending || known.last()?.0 >= size {
        return None;
    }
    let mut last = size - 1;
    let mut path = path.iter();
    let mut level = known.to_vec();
    while last > 0 {
        let mut above = Vec::with_capacity(level.len().div_ceil(2) + 1);
        let mut nodes = level.into_iter().peekable();
        while let Some((at, hash)) = nodes.next() {
            let parent = if at & 1 == 1 {
                node_hash(path.next()?, &hash)
            } else if let Some((_, right)) = nodes.next_if(|(next, _)| *next == at + 1) {
                node_hash(&hash, &right)
            } else if at < last {
                node_hash(&hash, path.next()?)
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

fn fold_level(level: &mut Vec<Hash>) {
    let pairs = level.len() / 2;
    for i in 0..pairs {
        level[i] = node_hash(&level[2 * i], &level[2 * i + 1]);
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
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node_hash(&mth(&leaves[..split]), &mth(&leaves[split..]))
            }
        }
    }

    fn leaves(n: usize) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn empty_tree_is_the_hash_of_nothing() {
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(root(&[]).to_string(), expected);
    }

    #[test]
    fn root_has_the_shape_of_the_rfc() {
        for n in 0..130 {
            assert_eq!(root(&leaves(n)), mth(&leaves(n)), "{n} leaves");
        }
    }

    proptest! {
        #[test]
        fn a_node_is_the_hash_of_the_documented_bytes(left: [u8; 32], right: [u8; 32]) {
            let expected = sha256(&[&[1], &left, &right]);
            prop_assert_eq!(node_hash(&Hash(left), &Hash(right)), expected);
        }

        #[test]
        fn every_leaf_is_proven_and_no_other(n in 1usize..200, pick: prop::sample::Index, flip in 0usize..256) {
            let leaves = leaves(n);
            let at = pick.index(n);
            let path = inclusion_path(&leaves, at).unwrap();
            let (at64, n64) = (at as u64, n as u64);
            prop_assert_eq!(root_from_path(leaves[at], at64, n64, &path), Some(root(&leaves)));
            let mut other = leaves[at];
            other.0[flip / 8] ^= 1 << (flip % 8);
            prop_assert_ne!(root_from_path(other, at64, n64, &path), Some(root(&leaves)));
            let mut long = path.clone();
            long.push(Hash::ZERO);
            prop_assert_eq!(root_from_path(leaves[at], at64, n64, &long), None);
            prop_assert_eq!(root_from_path(leaves[at], n64, n64, &path), None);
            prop_assert_eq!(multi_path(&leaves, &[at]), Some(path));
        }

        #[test]
        fn several_leaves_are_proven_and_no_others(
            n in 1usize..200,
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
            flip in 0usize..256,
        ) {
            let leaves = leaves(n);
            let at: std::collections::BTreeSet<usize> = picks.iter().map(|p| p.index(n)).collect();
            let at: Vec<usize> = at.into_iter().collect();
            let path = multi_path(&leaves, &at).unwrap();
            let known: Vec<_> = at.iter().map(|i| (*i as u64, leaves[*i])).collect();
            let n = n as u64;
            let expected = Some(root(&leaves));
            prop_assert_eq!(root_from_multi_path(&known, n, &path), expected);
            let mut other = known.clone();
            other[flip % at.len()].1.0[flip / 8] ^= 1;
            prop_assert_ne!(root_from_multi_path(&other, n, &path), expected);
            let mut long = path.clone();
            long.push(Hash::ZERO);
            prop_assert_eq!(root_from_multi_path(&known, n, &long), None);
            let mut twice = known.clone();
            twice.push(known[known.len() - 1]);
            prop_assert_eq!(root_from_multi_path(&twice, n, &path), None);
            prop_assert_eq!(root_from_multi_path(&[], n, &path), None);
        }
    }
}

//! Writes into requests: as few as their order allows. Pure.
//!
//! Machines are started by writing: first the recipe, then the switch. So a request never carries a
//! later write past an earlier one; writes share a request only when they stand side by side both in
//! the list and in the device.

use super::encode::Cell;
use super::point::Table;
use std::ops::Range;

/// What one write does to the cells of one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    /// Which write.
    pub write: usize,
    pub table: Table,
    pub address: u16,
    pub cells: Vec<Cell>,
}

/// A piece of a patch: whole cells, or one register of which a part is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The writes it belongs to.
    pub writes: Vec<usize>,
    pub address: u16,
    pub cells: Vec<Cell>,
}

impl Piece {
    fn end(&self) -> u32 {
        u32::from(self.address) + self.cells.len() as u32
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteRequest {
    /// Function 5.
    Coil(u16, bool),
    /// Function 15.
    Coils(u16, Vec<bool>),
    /// Function 6.
    Register(u16, u16),
    /// Function 16.
    Registers(u16, Vec<u16>),
    /// Function 22: what is not in `and` is set as in `or`.
    Mask { address: u16, and: u16, or: u16 },
    /// Function 23: written and read back.
    ReadWrite(u16, Vec<u16>),
}

/// Pieces that one request writes: cells in a row, or a part of one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub table: Table,
    /// In the order of the writes; never empty.
    pub pieces: Vec<Piece>,
}

impl Block {
    /// Its first cell.
    pub(super) fn address(&self) -> u16 {
        let addresses = self.pieces.iter().map(|p| p.address);
        addresses.min().unwrap_or_default()
    }

    /// Its cells, by address.
    pub(super) fn cells(&self) -> Vec<Cell> {
        let mut pieces: Vec<&Piece> = self.pieces.iter().collect();
        pieces.sort_by_key(|p| p.address);
        pieces.into_iter().flat_map(|p| p.cells.clone()).collect()
    }

    /// The writes it belongs to.
    pub(super) fn writes(&self) -> impl Iterator<Item = usize> + '_ {
        self.pieces.iter().flat_map(|p| p.writes.iter().copied())
    }

    /// The part of a register that it is, when it is that.
    pub(super) fn part(&self) -> Option<(u16, Cell)> {
        match self.pieces.as_slice() {
            [piece] => match piece.cells.as_slice() {
                [cell] if !cell.is_whole() => Some((piece.address, *cell)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Two blocks that do the same in the same order; `None` for a single piece. Both are cells in a
    /// row again only if they happen to be, so they are grouped anew.
    pub(super) fn split(mut self, limits: WriteLimits) -> Option<Vec<Self>> {
        if self.pieces.len() < 2 {
            return None;
        }
        let right = self.pieces.split_off(self.pieces.len() / 2);
        let half = |pieces| grouped(self.table, pieces, limits);
        Some([half(self.pieces), half(right)].concat())
    }
}

/// What one writing request may span.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteLimits {
    pub registers: usize,
    pub coils: usize,
}

impl WriteLimits {
    fn cells(self, table: Table) -> usize {
        if table.is_bits() {
            self.coils
        } else {
            self.registers
        }
    }
}

/// Groups patches into the fewest blocks that keep their order.
pub(super) fn blocks(patches: Vec<Patch>, limits: WriteLimits) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(Table, Vec<Piece>)> = None;
    for patch in patches {
        let table = patch.table;
        match &mut open {
            Some((of, pieces)) if *of == table => pieces.extend(pieces_of(patch)),
            _ => {
                let before = open.replace((table, pieces_of(patch)));
                blocks.extend(before.into_iter().flat_map(|(t, p)| grouped(t, p, limits)));
            }
        }
    }
    blocks.extend(open.into_iter().flat_map(|(t, p)| grouped(t, p, limits)));
    blocks
}

fn pieces_of(patch: Patch) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (cell, address) in patch.cells.into_iter().zip(patch.address..) {
        match pieces.last_mut() {
            Some(last) if cell.is_whole() && last.cells.iter().all(|c| c.is_whole()) => {
                last.cells.push(cell);
            }
            _ => pieces.push(Piece {
                writes: vec![patch.write],
                address,
                cells: vec![cell],
            }),
        }
    }
    pieces
}

fn grouped(table: Table, pieces: Vec<Piece>, limits: WriteLimits) -> Vec<Block> {
    let pieces = parts_joined(pieces);
    let limit = limits.cells(table);
    // best[i]: the fewest blocks from piece i on, and where the first of them ends.
    let mut best: Vec<(usize, usize)> = vec![(0, pieces.len()); pieces.len() + 1];
    for from in (0..pieces.len()).rev() {
        let mut fewest = (usize::MAX, from + 1);
        for to in ends(&pieces, from, limit) {
            let rest = best.get(to).map_or(0, |b| b.0);
            if rest + 1 < fewest.0 {
                fewest = (rest + 1, to);
            }
        }
        if let Some(slot) = best.get_mut(from) {
            *slot = fewest;
        }
    }
    let mut blocks = Vec::new();
    let mut from = 0;
    while let Some(found) = pieces.get(from) {
        let to = best.get(from).map_or(from + 1, |b| b.1).max(from + 1);
        let pieces = pieces.get(from..to).map(<[Piece]>::to_vec);
        blocks.push(Block {
            table,
            pieces: pieces.unwrap_or_else(|| vec![found.clone()]),
        });
        from = to;
    }
    blocks
}

/// Parts of one register that follow one another become one part of it.
fn parts_joined(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        if let (Some(last), [part]) = (joined.last_mut(), piece.cells.as_slice())
            && let [before] = last.cells.as_mut_slice()
            && !part.is_whole()
            && !before.is_whole()
            && last.address == piece.address
        {
            *before = before.then(*part);
            last.writes.extend(piece.writes);
        } else {
            joined.push(piece);
        }
    }
    joined
}

/// Where a block that begins with piece `from` can end: after pieces that together are cells in a row,
/// each once. The first is always one.
fn ends(pieces: &[Piece], from: usize, limit: usize) -> Vec<usize> {
    let mut ends = vec![from + 1];
    let Some(first) = pieces.get(from) else {
        return ends;
    };
    if !first.cells.iter().all(|c| c.is_whole()) {
        return ends;
    }
    let (mut start, mut end) = (u32::from(first.address), first.end());
    let mut taken: Vec<Range<u32>> = std::iter::once(start..end).collect();
    for (index, piece) in pieces.iter().enumerate().skip(from + 1) {
        let cells = u32::from(piece.address)..piece.end();
        let twice = taken
            .iter()
            .any(|t| t.start < cells.end && cells.start < t.end);
        start = start.min(cells.start);
        end = end.max(cells.end);
        if twice || (end - start) as usize > limit || !piece.cells.iter().all(|c| c.is_whole()) {
            break;
        }
        taken.push(cells);
        let covered: usize = taken.iter().map(|t| t.len()).sum();
        if covered == (end - start) as usize {
            ends.push(index + 1);
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const LIMITS: WriteLimits = WriteLimits {
        registers: 123,
        coils: 1968,
    };

    fn whole(value: u16) -> Cell {
        Cell {
            value,
            mask: u16::MAX,
        }
    }

    fn patch(write: usize, address: u16, width: u16) -> Patch {
        Patch {
            write,
            table: Table::HoldingRegister,
            address,
            cells: (0..width).map(|i| whole(write as u16 * 16 + i)).collect(),
        }
    }

    /// First address and number of cells of each block.
    fn spans(patches: Vec<Patch>, limits: WriteLimits) -> Vec<(u16, usize)> {
        let blocks = blocks(patches, limits);
        blocks
            .iter()
            .map(|b| (b.address(), b.cells().len()))
            .collect()
    }

    #[test]
    fn neighbours_share_a_request_whatever_their_order() {
        let patches = vec![patch(0, 12, 2), patch(1, 10, 1), patch(2, 11, 1)];
        assert_eq!(spans(patches, LIMITS), [(10, 4)]);
        let hundred = (0..100).map(|i| patch(i, 500 + i as u16, 1)).collect();
        assert_eq!(spans(hundred, LIMITS), [(500, 100)]);
    }

    #[test]
    fn a_trigger_is_never_carried_before_what_it_triggers() {
        let patches = vec![
            patch(0, 10, 1),
            patch(1, 11, 1),
            patch(2, 0, 1),
            patch(3, 12, 1),
        ];
        assert_eq!(spans(patches, LIMITS), [(10, 2), (0, 1), (12, 1)]);
        // The trigger is among the registers of the recipe: one request writes them all at once.
        let patches = vec![patch(0, 11, 1), patch(1, 12, 1), patch(2, 10, 1)];
        assert_eq!(spans(patches, LIMITS), [(10, 3)]);
    }

    #[test]
    fn limits_are_kept_and_a_cell_is_written_once_a_request() {
        let patches: Vec<Patch> = (0..5).map(|i| patch(i, i as u16, 1)).collect();
        let narrow = WriteLimits {
            registers: 2,
            ..LIMITS
        };
        assert_eq!(spans(patches, narrow).len(), 3);
        assert_eq!(spans(vec![patch(0, 5, 1), patch(1, 5, 1)], LIMITS).len(), 2);
    }

    #[test]
    fn bits_of_one_register_are_one_request() {
        let bit = |write: usize, bit: u16, on: bool| Patch {
            write,
            table: Table::HoldingRegister,
            address: 7,
            cells: vec![Cell {
                value: u16::from(on) << bit,
                mask: 1 << bit,
            }],
        };
        let found = blocks(
            vec![bit(0, 3, true), bit(1, 0, false), bit(2, 3, false)],
            LIMITS,
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].part(), Some((7, Cell { value: 0, mask: 9 })));
        assert_eq!(found[0].writes().collect::<Vec<_>>(), [0, 1, 2]);
    }

    proptest! {
        /// Whatever is written: doing the blocks in order leaves the device as doing the writes in
        /// order would, no block breaks a limit, and each is cells in a row.
        #[test]
        fn blocks_do_what_the_writes_do(
            places in prop::collection::vec((0u16..40, 1u16..5, any::<bool>()), 1..30),
            registers in 5usize..20,
        ) {
            let patches: Vec<Patch> = places.iter().enumerate().map(|(i, (address, width, coil))| {
                let mut patch = patch(i, *address, *width);
                if *coil {
                    patch.table = Table::Coil;
                }
                patch
            }).collect();
            let mut wanted = BTreeMap::new();
            for patch in &patches {
                for (i, cell) in patch.cells.iter().enumerate() {
                    wanted.insert((patch.table, patch.address + i as u16), cell.value);
                }
            }
            let limits = WriteLimits { registers, coils: 7 };
            let count = patches.len();
            let mut got = BTreeMap::new();
            let mut order = Vec::new();
            for block in blocks(patches, limits) {
                let cells = block.cells();
                prop_assert!(cells.len() <= limits.cells(block.table));
                for (i, cell) in cells.iter().enumerate() {
                    got.insert((block.table, block.address() + i as u16), cell.value);
                }
                order.extend(block.writes());
            }
            prop_assert_eq!(got, wanted);
            prop_assert_eq!(order, (0..count).collect::<Vec<_>>());
        }
    }
}

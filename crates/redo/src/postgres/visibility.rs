//! The visibility map: two bits for every heap block, which heap records clear, many without naming the map's block.
//! Ported from `src/backend/access/heap/visibilitymap.c`.

use super::decode::record::{BlockReference, BlockTag, FORK_MAIN, FORK_VISIBILITY, Record};
use super::error::Underivable;
use super::major::Major;
use super::outcome::Outcome;
use super::page::{PAGE_HEADER_LEN, Page};
use super::position::BLOCK_LEN;
use super::{heap, heap2, manager};

/// All tuples of the block are visible to everyone.
pub const ALL_VISIBLE: u8 = 0x01;
/// All tuples of the block are frozen.
pub const ALL_FROZEN: u8 = 0x02;
/// Both.
pub const BOTH: u8 = ALL_VISIBLE | ALL_FROZEN;

const MAP_BYTES: u32 = (BLOCK_LEN - PAGE_HEADER_LEN) as u32;
/// Heap blocks to a block of the map.
pub const HEAP_BLOCKS_PER_MAP: u32 = MAP_BYTES * 4;

/// The block of the map that holds the bits of a heap block.
#[must_use]
pub fn map_of(heap: BlockTag) -> BlockTag {
    BlockTag { fork: FORK_VISIBILITY, block: heap.block / HEAP_BLOCKS_PER_MAP, ..heap }
}

/// Where a heap block's bits are: the byte in the map's page, and how far left in it.
fn place(heap_block: u32) -> (usize, u32) {
    let byte = heap_block % HEAP_BLOCKS_PER_MAP / 4;
    (PAGE_HEADER_LEN + byte as usize, heap_block % 4 * 2)
}

/// The first of the four heap blocks whose bits are in that byte of a page of the map.
#[must_use]
pub fn first_heap_block(map_block: u32, byte: usize) -> u32 {
    map_block * HEAP_BLOCKS_PER_MAP + (byte.saturating_sub(PAGE_HEADER_LEN)) as u32 * 4
}

/// A heap block whose bits a record clears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clear {
    /// The heap's block.
    pub heap: BlockTag,
    /// Which bits: [`ALL_FROZEN`] or [`BOTH`].
    pub bits: u8,
}

impl Clear {
    /// The block of the map that changes.
    #[must_use]
    pub fn map(&self) -> BlockTag {
        map_of(self.heap)
    }
}

/// Clears the bits in a page of the map; says whether any was set. The page's LSN stays as it is. An absent page has
/// no bits to clear. Follows `visibilitymap_clear`.
pub fn clear(page: &mut Page<'_>, clear: Clear) -> bool {
    let (at, shift) = place(clear.heap.block);
    let byte = &mut page.block_mut()[at];
    let before = *byte;
    *byte &= !(clear.bits << shift);
    *byte != before
}

/// Sets a heap block's bits in a page of the map; says whether that changed any. Follows `visibilitymap_set`.
pub fn set(page: &mut Page<'_>, heap_block: u32, bits: u8) -> bool {
    let (at, shift) = place(heap_block);
    let byte = &mut page.block_mut()[at];
    let changes = (*byte >> shift) & BOTH != bits;
    if changes {
        *byte |= bits << shift;
    }
    changes
}

/// Zeroes the bits of the heap blocks from `heap_blocks` on in the page of the map that holds the first of them.
/// Follows `visibilitymap_prepare_truncate`.
pub fn truncate_tail(page: &mut Page<'_>, heap_blocks: u32) {
    let (at, shift) = place(heap_blocks);
    let block = page.block_mut();
    block[at] &= (1_u8 << shift) - 1;
    block[at + 1..].fill(0);
}

/// What differs by version: the first reference of a heap record that is a page of the map. From 17.11 and 18.6 on, a
/// record names the pages whose bits it clears; a record of an older server, or one that found them cleared, names none.
fn first_map_reference(record: &Record<'_>) -> Option<u8> {
    match record.major {
        Major::V14 | Major::V15 | Major::V16 => None,
        Major::V17 | Major::V18 if heap::is_update(record) => Some(2),
        Major::V17 | Major::V18 => Some(1),
    }
}

/// The heap blocks whose bits a record says that it clears: the old tuple's, and the new one's or the only one.
fn clears(record: &Record<'_>) -> [Option<Clear>; 2] {
    let bits = match record.manager {
        manager::HEAP => heap::cleared_bits(record),
        manager::HEAP2 => heap2::cleared_bits(record),
        _ => None,
    };
    let Some((new, old)) = bits.filter(|(new, old)| new | old != 0) else { return [None, None] };
    let new_tag = record.reference(0).map(|reference| reference.tag);
    let old_tag = record
        .reference(1)
        .filter(|reference| reference.tag.fork == FORK_MAIN)
        .map(|reference| reference.tag)
        .or(new_tag);
    let clear = |tag: Option<BlockTag>, bits: u8| {
        tag.filter(|tag| bits != 0 && tag.fork == FORK_MAIN).map(|heap| Clear { heap, bits })
    };
    [clear(old_tag, old), clear(new_tag, new)]
}

/// The bits that a record clears without a block reference for them, at most two. They are to be cleared even where
/// the heap's block needs no redo. A record that cannot be read clears nothing; its redo says why.
///
/// Follows the uses of `visibilitymap_clear` in the redo routines of `access/heap/heapam.c`.
#[must_use]
pub fn implicit_clears(record: &Record<'_>) -> [Option<Clear>; 2] {
    let clears = clears(record);
    let is_named = |first: u8| record.references.iter().any(|reference| reference.id >= first);
    if clears != [None, None] && first_map_reference(record).is_some_and(is_named) {
        return [None, None];
    }
    clears
}

/// A page of the map that a heap record names, after it: the bits of all blocks are cleared that it says and that are
/// in the page. Follows `heap_xlog_vm_clear` and the map's part of `heap_xlog_update` in `access/heap/heapam.c`.
pub(crate) fn clear_named(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<Outcome, Underivable> {
    let (manager, operation, id) = (record.manager, record.operation(), reference.id);
    let first = first_map_reference(record).filter(|&first| (first..first * 2).contains(&id));
    let first = first.ok_or(Underivable::UnknownReference { manager, operation, id })?;
    // An update names the new tuple's page first; the second is the old one's, which the first holds as well or not.
    let [old, new] = clears(record);
    let here = if id == first { [old, new] } else { [old, None] };
    let mut here = here.into_iter().flatten().filter(|clear| clear.map() == reference.tag).peekable();
    if here.peek().is_none() {
        return Err(Underivable::BadRecord("it clears no bit in the page of the map that it names"));
    }
    let mut changed = false;
    for bits in here {
        changed |= clear(page, bits);
    }
    Ok(if changed { Outcome::Changed } else { Outcome::LockOnly })
}

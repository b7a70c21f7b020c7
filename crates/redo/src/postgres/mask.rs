//! What may differ between a derived page and the server's own: fields that change without a record. Ported from
//! `src/backend/access/common/bufmask.c` and the resource managers' `rm_mask` functions.
//!
//! [`mask`] zeroes those fields in a copy of a page, so that copies can be compared byte by byte. Unlike `heap_mask` it
//! leaves the contents of the visibility map alone: they are to be equal.

use super::decode::record::FORK_VISIBILITY;
use super::error::Underivable;
use super::fields::align8;
use super::page::{ItemState, PAGE_HEADER_LEN, PD_ALL_VISIBLE, PD_HAS_FREE_LINES, PD_PAGE_FULL, Page};
use super::tuple::{Tuple, XACT_MASK, XMAX_COMMITTED, XMAX_INVALID, XMIN_FROZEN};
use super::{brin, btree, gin, gist, hash, manager};

/// Masks a page that a record of `manager` changed; `fork` and `block` say which one it is.
pub fn mask(manager: u8, fork: u8, block: u32, page: &mut Page<'_>) -> Result<(), Underivable> {
    lsn_and_checksum(page);
    match manager {
        manager::HEAP | manager::HEAP2 if fork == FORK_VISIBILITY => {
            hints(page);
            Ok(())
        }
        manager::HEAP | manager::HEAP2 => heap(page, block),
        manager::BTREE => btree_page(page),
        manager::HASH => hash_page(page),
        manager::GIN => gin_page(page),
        manager::GIST => gist_page(page),
        manager::SPGIST => spgist_page(page),
        manager::BRIN => brin_page(page),
        manager::SEQ | manager::GENERIC => unused_space(page),
        _ => Ok(()),
    }
}

/// Follows `mask_page_lsn_and_checksum`.
fn lsn_and_checksum(page: &mut Page<'_>) {
    page.block_mut()[..10].fill(0);
}

/// Follows `mask_page_hint_bits`: what may be pruned, whether the page is full or has free line pointers or only
/// visible tuples.
fn hints(page: &mut Page<'_>) {
    page.set_prune_xid(0);
    page.change_flags(0, PD_PAGE_FULL | PD_HAS_FREE_LINES | PD_ALL_VISIBLE);
}

/// Follows `mask_unused_space`: the hole.
fn unused_space(page: &mut Page<'_>) -> Result<(), Underivable> {
    page.check_pointers()?;
    let hole = page.lower()..page.upper();
    page.block_mut()[hole].fill(0);
    Ok(())
}

/// Follows `mask_lp_flags`: a line pointer in use says so, but not how.
fn line_pointer_flags(page: &mut Page<'_>) -> Result<(), Underivable> {
    for number in 1..=page.item_count() {
        let mut pointer = page.line_pointer(number)?;
        pointer.state = ItemState::Unused;
        page.set_line_pointer(number, pointer)?;
    }
    Ok(())
}

/// Follows `mask_page_content`: all but the header, and of that where items begin and end.
fn content(page: &mut Page<'_>) {
    page.block_mut()[PAGE_HEADER_LEN..].fill(0);
    page.set_lower(0);
    page.set_upper(0);
}

/// Follows `heap_mask` in `access/heap/heapam.c`.
fn heap(page: &mut Page<'_>, block: u32) -> Result<(), Underivable> {
    hints(page);
    unused_space(page)?;
    for number in 1..=page.item_count() {
        let pointer = page.line_pointer(number)?;
        if pointer.state == ItemState::Normal {
            heap_tuple(&mut Tuple::new(page.item_mut(number)?)?, block, number);
        }
        // Padding after an item whose length is not a multiple of eight.
        let end = pointer.offset + pointer.len;
        let padding = end..pointer.offset + align8(pointer.len);
        if pointer.len != 0 {
            let padding = page.block_mut().get_mut(padding);
            padding.ok_or(Underivable::BadPage("an item lies outside"))?.fill(0);
        }
    }
    Ok(())
}

fn heap_tuple(tuple: &mut Tuple<'_>, block: u32, number: u16) {
    let bits = tuple.infomask();
    // Hint bits are set without a record; a frozen xmin is logged, hints about xmax are not.
    let hidden = if bits & XMIN_FROZEN == XMIN_FROZEN { XMAX_INVALID | XMAX_COMMITTED } else { XACT_MASK };
    tuple.set_infomask(bits & !hidden);
    // Redo sets the command id to the first one.
    tuple.set_field3(0);
    // Redo of a speculative insertion points the tuple to itself; its token is not logged.
    if tuple.is_speculative() {
        tuple.set_ctid(block, number);
    }
}

/// Follows `btree_mask` in `access/nbtree/nbtxlog.c`.
fn btree_page(page: &mut Page<'_>) -> Result<(), Underivable> {
    hints(page);
    unused_space(page)?;
    let flags = btree::Opaque::of(page)?.flags();
    if flags & btree::LEAF != 0 {
        // `_bt_killitems` and `_bt_check_unique` mark items dead without a record.
        line_pointer_flags(page)?;
    }
    let mut opaque = btree::Opaque::of(page)?;
    // A hint, and two fields that only VACUUM of the running server needs.
    opaque.set_flags(flags & !(btree::HAS_GARBAGE | btree::SPLIT_END));
    opaque.set_cycle_id(0);
    Ok(())
}

/// Follows `hash_mask` in `access/hash/hash_xlog.c`.
fn hash_page(page: &mut Page<'_>) -> Result<(), Underivable> {
    hints(page);
    unused_space(page)?;
    match hash::Opaque::of(page)?.flags() & hash::TYPE_MASK {
        // What a freed page held does not matter.
        0 => content(page),
        // `_hash_kill_items` marks items dead without a record.
        hash::BUCKET | hash::OVERFLOW => line_pointer_flags(page)?,
        _ => {}
    }
    // A hint that goes with dead items.
    hash::Opaque::of(page)?.clear_flag(hash::HAS_DEAD_TUPLES);
    Ok(())
}

/// Follows `gin_mask` in `access/gin/ginxlog.c`.
fn gin_page(page: &mut Page<'_>) -> Result<(), Underivable> {
    let deleted = gin::Opaque::of(page)?.flags() & gin::DELETED != 0;
    hints(page);
    if deleted {
        content(page);
    } else if page.lower() > PAGE_HEADER_LEN {
        unused_space(page)?;
    }
    Ok(())
}

/// Follows `gist_mask` in `access/gist/gistxlog.c`.
fn gist_page(page: &mut Page<'_>) -> Result<(), Underivable> {
    hints(page);
    unused_space(page)?;
    let mut opaque = gist::Opaque::of(page)?;
    // The image was taken before the record's own position was known, which redo sets; and an unlogged index build
    // has positions of its own.
    opaque.set_nsn(super::WalPosition(0));
    opaque.change_flags(gist::FOLLOW_RIGHT, gist::HAS_GARBAGE);
    let is_leaf = opaque.flags() & gist::LEAF != 0;
    // `gistkillitems` marks items dead without a record.
    if is_leaf { line_pointer_flags(page) } else { Ok(()) }
}

/// Follows `spg_mask` in `access/spgist/spgxlog.c`.
fn spgist_page(page: &mut Page<'_>) -> Result<(), Underivable> {
    hints(page);
    if page.lower() >= PAGE_HEADER_LEN { unused_space(page) } else { Ok(()) }
}

/// Follows `brin_mask` in `access/brin/brin_xlog.c`.
fn brin_page(page: &mut Page<'_>) -> Result<(), Underivable> {
    hints(page);
    let kind = brin::page_type(page);
    if kind == brin::TYPE_REGULAR || kind == brin::TYPE_META && page.lower() > PAGE_HEADER_LEN {
        unused_space(page)?;
    }
    // `brin_start_evacuating_page` says that a page is being emptied without a record.
    brin::clear_evacuate(page)
}

/// The first byte that differs between two masked pages.
#[must_use]
pub fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    one.iter().zip(other).position(|(one, other)| one != other)
}

//! Redo of resource manager Btree. Ported from `src/backend/access/nbtree/nbtxlog.c`.
//!
//! * [`tuple`]: index tuples and posting lists;
//! * [`split`], [`dedup`], [`delete`]: the records that rearrange a page;
//! * here: insertions, the metapage, and the records that rebuild a page from nothing.

mod dedup;
mod delete;
mod split;
pub(crate) mod tuple;

use super::decode::record::{BlockReference, Record};
use super::error::Underivable;
use super::fields::{Fields, align8, u16_at};
use super::outcome::Outcome;
use super::page::Page;
use tuple::{IndexTuple, TUPLE_HEADER_LEN};

const INSERT_LEAF: u8 = 0x00;
const INSERT_UPPER: u8 = 0x10;
const INSERT_META: u8 = 0x20;
const SPLIT_L: u8 = 0x30;
const SPLIT_R: u8 = 0x40;
const INSERT_POST: u8 = 0x50;
const DEDUP: u8 = 0x60;
const DELETE: u8 = 0x70;
const UNLINK_PAGE: u8 = 0x80;
const UNLINK_PAGE_META: u8 = 0x90;
const NEWROOT: u8 = 0xa0;
const MARK_PAGE_HALFDEAD: u8 = 0xb0;
const VACUUM: u8 = 0xc0;
const META_CLEANUP: u8 = 0xe0;

/// Bytes of a page's special space (`BTPageOpaqueData`).
pub(crate) const OPAQUE_LEN: usize = 16;
const AT_PREV: usize = 0;
const AT_NEXT: usize = 4;
const AT_LEVEL: usize = 8;
const AT_FLAGS: usize = 12;
const AT_CYCLE: usize = 14;

pub(crate) const LEAF: u16 = 1;
const ROOT: u16 = 1 << 1;
const DELETED: u16 = 1 << 2;
const META: u16 = 1 << 3;
const HALF_DEAD: u16 = 1 << 4;
/// The last page of a split group, for VACUUM: not logged.
pub(crate) const SPLIT_END: u16 = 1 << 5;
/// There are dead items: a hint.
pub(crate) const HAS_GARBAGE: u16 = 1 << 6;
const INCOMPLETE_SPLIT: u16 = 1 << 7;
const HAS_FULLXID: u16 = 1 << 8;

const METAPAGE_MAGIC: u32 = 0x0005_3162;
const META_AT: usize = super::page::PAGE_HEADER_LEN;
const META_LEN: usize = 48;
const HIGH_KEY: u16 = 1;

/// The block of a reference after the record. Follows `btree_redo`.
pub(crate) fn redo(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<Outcome, Underivable> {
    let operation = record.operation();
    match (operation, reference.id) {
        (INSERT_LEAF | INSERT_UPPER | INSERT_META, 0) => insert(record, reference, page)?,
        (INSERT_POST, 0) => insert_post(record, reference, page)?,
        (INSERT_UPPER | INSERT_META | NEWROOT, 1) | (SPLIT_L | SPLIT_R, 3) => clear_incomplete_split(page)?,
        (INSERT_META | NEWROOT, 2) | (UNLINK_PAGE_META, 4) | (META_CLEANUP, 0) => {
            restore_meta(record, reference, page)?;
        }
        (SPLIT_L | SPLIT_R, 0) => split::left(record, reference, operation == SPLIT_L, page)?,
        (SPLIT_L | SPLIT_R, 1) => split::right(record, reference, page)?,
        (SPLIT_L | SPLIT_R, 2) => set_prev(page, record.block_of(1)?)?,
        (DEDUP, 0) => dedup::dedup(record, reference, page)?,
        (VACUUM, 0) => delete::vacuum(record, reference, page)?,
        (DELETE, 0) => delete::delete(record, reference, page)?,
        (MARK_PAGE_HALFDEAD, _) => mark_halfdead(record, reference, page)?,
        (UNLINK_PAGE | UNLINK_PAGE_META, 0..=3) => unlink(record, reference, page)?,
        (NEWROOT, 0) => new_root(record, reference, page)?,
        (INSERT_LEAF..=META_CLEANUP, id) => {
            return Err(Underivable::UnknownReference { manager: record.manager, operation, id });
        }
        _ => return Err(Underivable::UnknownRecord { manager: record.manager, operation }),
    }
    Ok(Outcome::Changed)
}

/// The special space of an index page.
pub(crate) struct Opaque<'a>(&'a mut [u8]);

impl<'a> Opaque<'a> {
    pub(crate) fn of(page: &'a mut Page<'_>) -> Result<Self, Underivable> {
        Ok(Self(page.special_space(OPAQUE_LEN)?))
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_le_bytes([self.0[AT_FLAGS], self.0[AT_FLAGS + 1]])
    }

    pub(crate) fn set_flags(&mut self, flags: u16) {
        self.0[AT_FLAGS..AT_FLAGS + 2].copy_from_slice(&flags.to_le_bytes());
    }

    pub(crate) fn cycle_id(&self) -> u16 {
        u16::from_le_bytes([self.0[AT_CYCLE], self.0[AT_CYCLE + 1]])
    }

    pub(crate) fn set_cycle_id(&mut self, id: u16) {
        self.0[AT_CYCLE..AT_CYCLE + 2].copy_from_slice(&id.to_le_bytes());
    }

    pub(crate) fn set_next(&mut self, block: u32) {
        self.put_u32(AT_NEXT, block);
    }

    pub(crate) fn is_rightmost(&self) -> bool {
        self.0[AT_NEXT..AT_NEXT + 4] == [0; 4]
    }
}

/// Makes an empty index page. Follows `_bt_pageinit` and the filling of the special space after it.
fn init(page: &mut Page<'_>, prev: u32, next: u32, level: u32, flags: u16) -> Result<(), Underivable> {
    page.init(OPAQUE_LEN);
    let mut opaque = Opaque::of(page)?;
    opaque.put_u32(AT_PREV, prev);
    opaque.put_u32(AT_NEXT, next);
    opaque.put_u32(AT_LEVEL, level);
    opaque.set_flags(flags);
    Ok(())
}

/// Follows `_bt_clear_incomplete_split`.
fn clear_incomplete_split(page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut opaque = Opaque::of(page)?;
    let flags = opaque.flags();
    opaque.set_flags(flags & !INCOMPLETE_SPLIT);
    Ok(())
}

fn set_prev(page: &mut Page<'_>, block: u32) -> Result<(), Underivable> {
    Opaque::of(page)?.put_u32(AT_PREV, block);
    Ok(())
}

/// Follows `btree_xlog_insert` without a posting list split.
fn insert(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let number = record.fields().u16()?;
    page.add_item(number, record.data(reference))
}

/// Follows `btree_xlog_insert` with a posting list split.
fn insert_post(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let number = record.fields().u16()?;
    let mut data = Fields(record.data(reference));
    let split_at = usize::from(data.u16()?);
    let posting = number.checked_sub(1).ok_or(Underivable::BadRecord("no posting list before the item"))?;
    let tid = tuple::swap_posting(page.item_mut(posting)?, data.0, split_at)?;
    let room = page.reserve_item(number, data.0.len(), false)?;
    room.copy_from_slice(data.0);
    room[..tid.len()].copy_from_slice(&tid);
    Ok(())
}

/// Follows `_bt_restore_page`: the items lie in the data as in the page, the last one first.
fn restore_items(page: &mut Page<'_>, data: &[u8]) -> Result<(), Underivable> {
    let mut count: u16 = 0;
    let mut starts = [0_u16; super::position::BLOCK_LEN / 8];
    let mut at = 0;
    while at < data.len() {
        let len = align8(IndexTuple::new(&data[at..])?.size());
        if len == 0 || at + len > data.len() || usize::from(count) == starts.len() {
            return Err(Underivable::BadRecord("its items do not fill its data"));
        }
        starts[usize::from(count)] = at as u16;
        count += 1;
        at += len;
    }
    let mut end = data.len();
    for &start in starts[..usize::from(count)].iter().rev() {
        page.push_item(&data[usize::from(start)..end])?;
        end = usize::from(start);
    }
    Ok(())
}

/// Follows `_bt_restore_meta`.
fn restore_meta(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let mut data = Fields(record.data(reference));
    let mut meta = [0_u8; META_LEN];
    meta[..4].copy_from_slice(&METAPAGE_MAGIC.to_le_bytes());
    // Version, root, level, fast root, fast level, deleted pages: in the same order in record and page.
    meta[4..28].copy_from_slice(data.bytes(24)?);
    meta[32..40].copy_from_slice(&(-1.0_f64).to_le_bytes());
    meta[40] = data.u8()?;
    init(page, 0, 0, 0, META)?;
    page.block_mut()[META_AT..META_AT + META_LEN].copy_from_slice(&meta);
    page.set_lower(META_AT + META_LEN);
    Ok(())
}

/// Follows `btree_xlog_mark_page_halfdead`.
fn mark_halfdead(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let mut main = record.fields();
    let parent_item = main.u16()?;
    main.skip(6)?;
    let (left, right, top_parent) = (main.u32()?, main.u32()?, main.u32()?);
    match reference.id {
        0 => init_halfdead(page, left, right, top_parent),
        1 => {
            let next = parent_item.checked_add(1).ok_or(Underivable::BadRecord("no item after the last"))?;
            let right_sibling = tuple::block_number(page.item(next)?)?;
            tuple::set_block_number(page.item_mut(parent_item)?, right_sibling)?;
            page.delete_item(next)
        }
        id => {
            let operation = record.operation();
            Err(Underivable::UnknownReference { manager: record.manager, operation, id })
        }
    }
}

/// A leaf that is being removed: empty but for a high key that leads to the top parent.
fn init_halfdead(page: &mut Page<'_>, left: u32, right: u32, top_parent: u32) -> Result<(), Underivable> {
    init(page, left, right, 0, HALF_DEAD | LEAF)?;
    page.add_item(HIGH_KEY, &tuple::top_parent(top_parent))
}

/// Follows `btree_xlog_unlink_page`.
fn unlink(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let (left, right, level) = (main.u32()?, main.u32()?, main.u32()?);
    main.skip(4)?;
    let safe_xid = main.u64()?;
    let (leaf_left, leaf_right, leaf_top_parent) = (main.u32()?, main.u32()?, main.u32()?);
    match reference.id {
        0 => {
            let leaf = if level == 0 { LEAF } else { 0 };
            init(page, left, right, level, DELETED | HAS_FULLXID | leaf)?;
            page.block_mut()[META_AT..META_AT + 8].copy_from_slice(&safe_xid.to_le_bytes());
            page.set_lower(META_AT + 8);
        }
        1 => Opaque::of(page)?.set_next(right),
        2 => set_prev(page, left)?,
        _ => init_halfdead(page, leaf_left, leaf_right, leaf_top_parent)?,
    }
    Ok(())
}

/// Follows `btree_xlog_newroot`.
fn new_root(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    main.skip(4)?;
    let level = main.u32()?;
    init(page, 0, 0, level, if level == 0 { ROOT | LEAF } else { ROOT })?;
    if level > 0 { restore_items(page, record.data(reference)) } else { Ok(()) }
}

/// The first item that is not a high key (`P_FIRSTDATAKEY`).
fn first_data_item(page: &mut Page<'_>) -> Result<u16, Underivable> {
    Ok(if Opaque::of(page)?.is_rightmost() { HIGH_KEY } else { HIGH_KEY + 1 })
}

/// The aligned length of the index tuple at the front of `data`.
fn front_tuple<'a>(data: &mut Fields<'a>) -> Result<&'a [u8], Underivable> {
    let len = align8(IndexTuple::new(data.0)?.size());
    debug_assert!(u16_at(data.0, TUPLE_HEADER_LEN - 2).is_some());
    data.bytes(len)
}

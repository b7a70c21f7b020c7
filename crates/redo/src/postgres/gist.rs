//! Redo of resource manager Gist. Ported from `src/backend/access/gist/gistxlog.c`.

use super::btree::tuple::IndexTuple;
use super::decode::record::{BlockReference, Record};
use super::error::Underivable;
use super::fields::{Fields, Offsets};
use super::major::Major;
use super::outcome::{Outcome, Settings};
use super::page::{PAGE_HEADER_LEN, Page};
use super::position::WalPosition;

const PAGE_UPDATE: u8 = 0x00;
const DELETE: u8 = 0x10;
const PAGE_REUSE: u8 = 0x20;
const PAGE_SPLIT: u8 = 0x30;
const PAGE_DELETE: u8 = 0x60;
const ASSIGN_LSN: u8 = 0x70;

/// Bytes of a page's special space (`GISTPageOpaqueData`).
const OPAQUE_LEN: usize = 16;
const PAGE_ID: u16 = 0xff81;
const ROOT_BLOCK: u32 = 0;
const NO_BLOCK: u32 = u32::MAX;

pub(crate) const LEAF: u16 = 1;
const DELETED: u16 = 1 << 1;
const TUPLES_DELETED: u16 = 1 << 2;
pub(crate) const FOLLOW_RIGHT: u16 = 1 << 3;
pub(crate) const HAS_GARBAGE: u16 = 1 << 4;

/// The block of a reference after the record. Follows `gist_redo`.
pub(crate) fn redo(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
    settings: Settings,
) -> Result<Outcome, Underivable> {
    let operation = record.operation();
    match (operation, reference.id) {
        (PAGE_UPDATE, 0) => page_update(record, reference, page, settings)?,
        (PAGE_UPDATE, 1) | (PAGE_SPLIT, 0) => clear_follow_right(record, page)?,
        (DELETE, 0) => delete(record, page, settings)?,
        (PAGE_SPLIT, _) => page_split(record, reference, page)?,
        (PAGE_DELETE, 0) => {
            let xid = record.fields().u64()?;
            set_deleted(page, xid)?;
        }
        (PAGE_DELETE, 1) => {
            let mut main = record.fields();
            main.skip(8)?;
            page.delete_item(main.u16()?)?;
        }
        (PAGE_UPDATE | DELETE | PAGE_REUSE | PAGE_DELETE | ASSIGN_LSN, id) => {
            return Err(Underivable::UnknownReference { manager: record.manager, operation, id });
        }
        _ => return Err(Underivable::UnknownRecord { manager: record.manager, operation }),
    }
    Ok(Outcome::Changed)
}

/// Whether redo changes the block even after its image was restored: the image lacks what depends on the record's
/// own position.
pub(crate) fn changes_image(record: &Record<'_>, id: u8) -> bool {
    matches!((record.operation(), id), (PAGE_UPDATE, 1) | (PAGE_SPLIT, 0))
}

/// The special space of a page.
pub(crate) struct Opaque<'a>(&'a mut [u8]);

impl<'a> Opaque<'a> {
    pub(crate) fn of(page: &'a mut Page<'_>) -> Result<Self, Underivable> {
        Ok(Self(page.special_space(OPAQUE_LEN)?))
    }

    /// The position of the split that the page came from: two numbers of 32 bits, the high one first.
    pub(crate) fn set_nsn(&mut self, position: WalPosition) {
        self.0[..4].copy_from_slice(&((position.0 >> 32) as u32).to_le_bytes());
        self.0[4..8].copy_from_slice(&(position.0 as u32).to_le_bytes());
    }

    fn set_right(&mut self, block: u32) {
        self.0[8..12].copy_from_slice(&block.to_le_bytes());
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_le_bytes([self.0[12], self.0[13]])
    }

    pub(crate) fn change_flags(&mut self, set: u16, clear: u16) {
        let flags = self.flags() & !clear | set;
        self.0[12..14].copy_from_slice(&flags.to_le_bytes());
    }
}

/// Follows `gistinitpage`.
fn init(page: &mut Page<'_>, flags: u16) -> Result<(), Underivable> {
    page.init(OPAQUE_LEN);
    let mut opaque = Opaque::of(page)?;
    opaque.set_right(NO_BLOCK);
    opaque.change_flags(flags, 0);
    opaque.0[14..].copy_from_slice(&PAGE_ID.to_le_bytes());
    Ok(())
}

/// Follows `gistRedoClearFollowRight`.
fn clear_follow_right(record: &Record<'_>, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut opaque = Opaque::of(page)?;
    opaque.set_nsn(record.end);
    opaque.change_flags(0, FOLLOW_RIGHT);
    Ok(())
}

/// Follows `gistRedoPageUpdateRecord`.
fn page_update(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
    settings: Settings,
) -> Result<(), Underivable> {
    let mut main = record.fields();
    let (deleted, inserted) = (main.u16()?, main.u16()?);
    let mut data = Fields(record.data(reference));
    if (deleted, inserted) == (1, 1) {
        let number = data.u16()?;
        page.overwrite_item(number, next_tuple(&mut data)?)?;
    } else if deleted > 0 {
        page.delete_items(data.offsets(deleted.into())?.iter())?;
        mark_tuples_deleted(page, settings)?;
    }
    while !data.0.is_empty() {
        page.push_item(next_tuple(&mut data)?)?;
    }
    Ok(())
}

/// On a leaf, remembers that tuples were deleted. Follows `GistMarkTuplesDeleted`.
fn mark_tuples_deleted(page: &mut Page<'_>, settings: Settings) -> Result<(), Underivable> {
    let mut opaque = Opaque::of(page)?;
    if settings.marks_gist_deletions && opaque.flags() & LEAF != 0 {
        opaque.change_flags(TUPLES_DELETED, 0);
    }
    Ok(())
}

fn next_tuple<'a>(data: &mut Fields<'a>) -> Result<&'a [u8], Underivable> {
    let len = IndexTuple::new(data.0)?.size();
    if len == 0 {
        return Err(Underivable::BadRecord("an index tuple without length"));
    }
    data.bytes(len)
}

/// What differs by version: since 16 a deletion says before its offsets whether it concerns a catalog, for standbys.
const fn delete_padding(major: Major) -> usize {
    match major {
        Major::V14 | Major::V15 => 0,
        Major::V16 | Major::V17 | Major::V18 => 2,
    }
}

/// Follows `gistRedoDeleteRecord`.
fn delete(record: &Record<'_>, page: &mut Page<'_>, settings: Settings) -> Result<(), Underivable> {
    let mut main = record.fields();
    main.skip(4)?;
    let count = usize::from(main.u16()?);
    main.skip(delete_padding(record.major))?;
    if !main.0.is_empty() {
        page.delete_items(Offsets::all(main.bytes(count * 2)?).iter())?;
    }
    let mark = if settings.marks_gist_deletions { TUPLES_DELETED } else { 0 };
    Opaque::of(page)?.change_flags(mark, HAS_GARBAGE);
    Ok(())
}

/// One of the pages of a split, from nothing: reference 0 is the child, 1 and on are the pages from left to right.
/// Follows `gistRedoPageSplitRecord`.
fn page_split(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let mut main = record.fields();
    let original_right = main.u32()?;
    main.skip(4)?;
    let (original_nsn, was_leaf) = (WalPosition(main.u64()?), main.u8()? != 0);
    main.skip(1)?;
    let (pages, mark_follow_right) = (main.u16()?, main.u8()? != 0);
    let is_root = reference.tag.block == ROOT_BLOCK;
    let is_last = u16::from(reference.id) >= pages;
    let is_root_split = record.reference(1).is_some_and(|first| first.tag.block == ROOT_BLOCK);

    init(page, if was_leaf && !is_root { LEAF } else { 0 })?;
    let mut data = Fields(record.data(reference));
    for _ in 0..data.u32()? {
        page.push_item(next_tuple(&mut data)?)?;
    }
    let right = match (is_root, is_last) {
        (true, _) => NO_BLOCK,
        (_, true) => original_right,
        _ => {
            let next = record.reference(reference.id + 1);
            next.ok_or(Underivable::BadRecord("a page of the split is missing"))?.tag.block
        }
    };
    let mut opaque = Opaque::of(page)?;
    opaque.set_right(right);
    opaque.set_nsn(original_nsn);
    if !is_root && !is_last && !is_root_split && mark_follow_right {
        opaque.change_flags(FOLLOW_RIGHT, 0);
    }
    Ok(())
}

/// Follows `GistPageSetDeleted`.
fn set_deleted(page: &mut Page<'_>, xid: u64) -> Result<(), Underivable> {
    Opaque::of(page)?.change_flags(DELETED, 0);
    page.block_mut()[PAGE_HEADER_LEN..PAGE_HEADER_LEN + 8].copy_from_slice(&xid.to_le_bytes());
    page.set_lower(PAGE_HEADER_LEN + 8);
    Ok(())
}

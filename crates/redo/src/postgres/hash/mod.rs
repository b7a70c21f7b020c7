//! Redo of resource manager Hash. Ported from `src/backend/access/hash/hash_xlog.c`.
//!
//! * [`meta`]: the metapage and the bitmaps of free overflow pages;
//! * here: bucket and overflow pages.

mod meta;

use super::btree::tuple::IndexTuple;
use super::decode::record::{BlockReference, Record};
use super::error::Underivable;
use super::fields::{Fields, Offsets, align8};
use super::major::Major;
use super::outcome::Outcome;
use super::page::Page;

const INIT_META_PAGE: u8 = 0x00;
const INIT_BITMAP_PAGE: u8 = 0x10;
const INSERT: u8 = 0x20;
const ADD_OVFL_PAGE: u8 = 0x30;
const SPLIT_ALLOCATE_PAGE: u8 = 0x40;
const SPLIT_PAGE: u8 = 0x50;
const SPLIT_COMPLETE: u8 = 0x60;
const MOVE_PAGE_CONTENTS: u8 = 0x70;
const SQUEEZE_PAGE: u8 = 0x80;
const DELETE: u8 = 0x90;
const SPLIT_CLEANUP: u8 = 0xa0;
const UPDATE_META_PAGE: u8 = 0xb0;
const VACUUM_ONE_PAGE: u8 = 0xc0;

/// Bytes of a page's special space (`HashPageOpaqueData`).
const OPAQUE_LEN: usize = 16;
const PAGE_ID: u16 = 0xff80;
const NONE: u32 = u32::MAX;

pub(crate) const OVERFLOW: u16 = 1;
pub(crate) const BUCKET: u16 = 1 << 1;
const BITMAP: u16 = 1 << 2;
const META: u16 = 1 << 3;
/// The bits of a page's type; none of them: unused.
pub(crate) const TYPE_MASK: u16 = OVERFLOW | BUCKET | BITMAP | META;
const NEEDS_SPLIT_CLEANUP: u16 = 1 << 6;
pub(crate) const HAS_DEAD_TUPLES: u16 = 1 << 7;

/// The block of a reference after the record. Follows `hash_redo`.
pub(crate) fn redo(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<Outcome, Underivable> {
    let operation = record.operation();
    let mut main = record.fields();
    let data = record.data(reference);
    match (operation, reference.id) {
        // Locked while another page changes, so that scans of the bucket wait.
        (MOVE_PAGE_CONTENTS | SQUEEZE_PAGE | DELETE, 0) => return Ok(Outcome::LockOnly),
        (INIT_META_PAGE, 0) => meta::init_meta(main, page)?,
        (INIT_BITMAP_PAGE, 0) => meta::init_bitmap(main, page)?,
        (INIT_BITMAP_PAGE, 1) => meta::add_first_bitmap(page)?,
        (INSERT, 0) => page.add_item(main.u16()?, data)?,
        (INSERT, 1) => meta::add_tuples(page, 1.0)?,
        (ADD_OVFL_PAGE, 0) => {
            let bucket = Fields(data).u32()?;
            init(page, record.block_of(1)?, bucket, OVERFLOW)?;
        }
        (ADD_OVFL_PAGE, 1) => Opaque::of(page)?.set_next(record.block_of(0)?),
        (ADD_OVFL_PAGE, 2) => meta::set_bitmap_bit(page, Fields(data).u32()?, true)?,
        (ADD_OVFL_PAGE, 3) => meta::init_bitmap(main, page)?,
        (ADD_OVFL_PAGE, 4) => meta::add_overflow(record, data, page)?,
        (SPLIT_ALLOCATE_PAGE, 0..=2) => split_allocate(record, reference, page)?,
        (SPLIT_PAGE, 0) => return Err(Underivable::BadImage("the record should have brought one")),
        (SPLIT_COMPLETE, 0) => Opaque::of(page)?.set_flags(main.u16()?),
        (SPLIT_COMPLETE, 1) => {
            main.skip(2)?;
            Opaque::of(page)?.set_flags(main.u16()?);
        }
        (MOVE_PAGE_CONTENTS, 1) => add_moved(page, main.u16()?, data)?,
        (MOVE_PAGE_CONTENTS, 2) => delete_items(page, data)?,
        (SQUEEZE_PAGE, 1..=6) => return squeeze(record, reference, page),
        (DELETE, 1) => {
            delete_items(page, data)?;
            if main.u8()? != 0 {
                Opaque::of(page)?.clear_flag(HAS_DEAD_TUPLES);
            }
        }
        (SPLIT_CLEANUP, 0) => Opaque::of(page)?.clear_flag(NEEDS_SPLIT_CLEANUP),
        (UPDATE_META_PAGE, 0) => meta::set_tuples(page, f64::from_bits(main.u64()?))?,
        (VACUUM_ONE_PAGE, _) => vacuum_one_page(record, reference, page)?,
        (INIT_META_PAGE..=VACUUM_ONE_PAGE, id) => {
            return Err(Underivable::UnknownReference { manager: record.manager, operation, id });
        }
        _ => return Err(Underivable::UnknownRecord { manager: record.manager, operation }),
    }
    Ok(Outcome::Changed)
}

/// Whether redo changes the block even after its image was restored.
pub(crate) fn changes_image(record: &Record<'_>, id: u8) -> bool {
    matches!((record.operation(), id), (SPLIT_ALLOCATE_PAGE, 0) | (SPLIT_COMPLETE, 0 | 1))
}

/// The special space of a page.
pub(crate) struct Opaque<'a>(&'a mut [u8]);

impl<'a> Opaque<'a> {
    pub(crate) fn of(page: &'a mut Page<'_>) -> Result<Self, Underivable> {
        Ok(Self(page.special_space(OPAQUE_LEN)?))
    }

    fn set_prev(&mut self, block: u32) {
        self.0[..4].copy_from_slice(&block.to_le_bytes());
    }

    fn set_next(&mut self, block: u32) {
        self.0[4..8].copy_from_slice(&block.to_le_bytes());
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_le_bytes([self.0[12], self.0[13]])
    }

    fn set_flags(&mut self, flags: u16) {
        self.0[12..14].copy_from_slice(&flags.to_le_bytes());
    }

    pub(crate) fn clear_flag(&mut self, flag: u16) {
        let flags = self.flags();
        self.set_flags(flags & !flag);
    }
}

/// Makes an empty page. Follows `_hash_initbuf` and the like: in a bucket's first page `prev` is the highest bucket.
fn init(page: &mut Page<'_>, prev: u32, bucket: u32, flags: u16) -> Result<(), Underivable> {
    page.init(OPAQUE_LEN);
    let mut opaque = Opaque::of(page)?;
    opaque.set_prev(prev);
    opaque.set_next(NONE);
    opaque.0[8..12].copy_from_slice(&bucket.to_le_bytes());
    opaque.set_flags(flags);
    opaque.0[14..].copy_from_slice(&PAGE_ID.to_le_bytes());
    Ok(())
}

/// Follows `hash_xlog_split_allocate_page`: 0 the old bucket, 1 the new one, 2 the metapage.
fn split_allocate(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let mut main = record.fields();
    let (bucket, old_flags, new_flags, changes) = (main.u32()?, main.u16()?, main.u16()?, main.u8()?);
    match reference.id {
        0 => {
            let mut opaque = Opaque::of(page)?;
            opaque.set_flags(old_flags);
            opaque.set_prev(bucket);
            Ok(())
        }
        1 => init(page, bucket, bucket, new_flags),
        _ => meta::split(page, bucket, changes, record.data(reference)),
    }
}

/// Adds tuples at the given numbers. Follows the middle of `hash_xlog_move_page_contents`.
fn add_moved(page: &mut Page<'_>, count: u16, data: &[u8]) -> Result<(), Underivable> {
    if count == 0 {
        return Ok(());
    }
    let mut data = Fields(data);
    let numbers = data.offsets(count.into())?;
    for number in numbers.iter() {
        let len = align8(IndexTuple::new(data.0)?.size());
        page.add_item(number, data.bytes(len)?)?;
    }
    if data.0.is_empty() {
        Ok(())
    } else {
        Err(Underivable::BadRecord("it moves more tuples than it counts"))
    }
}

fn delete_items(page: &mut Page<'_>, data: &[u8]) -> Result<(), Underivable> {
    let numbers = Offsets::all(data);
    if numbers.len() > 0 { page.delete_items(numbers.iter()) } else { Ok(()) }
}

/// What differs by version: until 16 the page that takes the tuples gets the record's position even if it takes none and
/// nothing in it changes.
const fn marks_unchanged(major: Major) -> bool {
    match major {
        Major::V14 | Major::V15 | Major::V16 => true,
        Major::V17 | Major::V18 => false,
    }
}

/// Follows `hash_xlog_squeeze_page`: 1 takes the tuples, 2 is freed, 3 and 4 are its neighbours, 5 the bitmap, 6 the
/// metapage.
fn squeeze(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<Outcome, Underivable> {
    let mut main = record.fields();
    let (prev, next, count) = (main.u32()?, main.u32()?, main.u16()?);
    let (_is_primary, is_previous) = (main.u8()? != 0, main.u8()? != 0);
    let data = record.data(reference);
    match reference.id {
        1 if count == 0 && !is_previous && !marks_unchanged(record.major) => return Ok(Outcome::LockOnly),
        1 => {
            add_moved(page, count, data)?;
            if is_previous {
                Opaque::of(page)?.set_next(next);
            }
        }
        2 => init(page, NONE, NONE, 0)?,
        3 => Opaque::of(page)?.set_next(next),
        4 => Opaque::of(page)?.set_prev(prev),
        5 => meta::set_bitmap_bit(page, Fields(data).u32()?, false)?,
        _ => meta::set_first_free(page, Fields(data).u32()?)?,
    }
    Ok(Outcome::Changed)
}

/// What differs by version: since 16 the number of tuples has two bytes less, which say whether it concerns a catalog,
/// for standbys.
fn vacuumed_count(major: Major, main: &mut Fields<'_>) -> Result<u32, Underivable> {
    match major {
        Major::V14 | Major::V15 => main.u32(),
        Major::V16 | Major::V17 | Major::V18 => {
            let count = main.u16()?;
            main.skip(2)?;
            Ok(count.into())
        }
    }
}

/// Follows `hash_xlog_vacuum_one_page`.
fn vacuum_one_page(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let mut main = record.fields();
    main.skip(4)?;
    let count = vacuumed_count(record.major, &mut main)?;
    match reference.id {
        0 => {
            if !main.0.is_empty() {
                let len = (count as usize).checked_mul(2).ok_or(Underivable::ShortRecord)?;
                delete_items(page, main.bytes(len)?)?;
            }
            Opaque::of(page)?.clear_flag(HAS_DEAD_TUPLES);
            Ok(())
        }
        1 => meta::add_tuples(page, -f64::from(count)),
        id => {
            let operation = record.operation();
            Err(Underivable::UnknownReference { manager: record.manager, operation, id })
        }
    }
}

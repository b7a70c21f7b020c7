//! The metapage of a hash index and its bitmaps of free overflow pages (`access/hash.h`).

use super::{BITMAP, META, NONE, init};
use crate::postgres::decode::record::Record;
use crate::postgres::error::Underivable;
use crate::postgres::fields::{Fields, align8, u32_at, u64_at};
use crate::postgres::page::{PAGE_HEADER_LEN, Page};
use crate::postgres::position::BLOCK_LEN;

const MAGIC: u32 = 0x0644_0640;
const VERSION: u32 = 4;
const MAX_SPLITPOINTS: u32 = 98;
const MAX_BITMAPS: u32 = 1024;
const GROUPS_WITH_ONE_PHASE: u32 = 10;
const PHASE_BITS: u32 = 2;
const PHASE_MASK: u32 = 3;
const MAX_BUCKETS: u32 = 0x4000_0000;

// Places in the page, from its beginning.
const AT_TUPLES: usize = PAGE_HEADER_LEN + 8;
const AT_FILL_FACTOR: usize = PAGE_HEADER_LEN + 16;
const AT_MAX_BUCKET: usize = PAGE_HEADER_LEN + 24;
const AT_HIGH_MASK: usize = PAGE_HEADER_LEN + 28;
const AT_LOW_MASK: usize = PAGE_HEADER_LEN + 32;
const AT_OVERFLOW_POINT: usize = PAGE_HEADER_LEN + 36;
const AT_FIRST_FREE: usize = PAGE_HEADER_LEN + 40;
const AT_BITMAPS: usize = PAGE_HEADER_LEN + 44;
const AT_PROCEDURE: usize = PAGE_HEADER_LEN + 48;
const AT_SPARES: usize = PAGE_HEADER_LEN + 52;
const AT_BITMAP_BLOCKS: usize = AT_SPARES + MAX_SPLITPOINTS as usize * 4;
const META_END: usize = align8(AT_BITMAP_BLOCKS + MAX_BITMAPS as usize * 4);

const SPLIT_CHANGES_MASKS: u8 = 1;
const SPLIT_CHANGES_POINT: u8 = 2;

fn get(page: &Page<'_>, at: usize) -> u32 {
    u32_at(page.block(), at).unwrap_or_default()
}

fn put(page: &mut Page<'_>, at: usize, value: u32) {
    page.block_mut()[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// The place of a number in an array; an index beyond it is a page that does not fit.
fn place(array: usize, index: u32, count: u32) -> Result<usize, Underivable> {
    if index < count {
        Ok(array + index as usize * 4)
    } else {
        Err(Underivable::BadPage("an index beyond its array"))
    }
}

/// The number of splitpoints for so many buckets. Follows `_hash_spareindex` in `hashutil.c`.
fn spare_index(buckets: u32) -> u32 {
    let group = buckets.max(1).next_power_of_two().trailing_zeros();
    if group < GROUPS_WITH_ONE_PHASE {
        return group;
    }
    let phase = (buckets - 1) >> (group - (PHASE_BITS + 1)) & PHASE_MASK;
    GROUPS_WITH_ONE_PHASE + ((group - GROUPS_WITH_ONE_PHASE) << PHASE_BITS) + phase
}

/// The number of buckets up to a splitpoint. Follows `_hash_get_totalbuckets` in `hashutil.c`.
fn total_buckets(splitpoint: u32) -> u32 {
    if splitpoint < GROUPS_WITH_ONE_PHASE {
        return 1 << splitpoint;
    }
    let beyond = splitpoint - GROUPS_WITH_ONE_PHASE;
    let before = 1_u32 << (GROUPS_WITH_ONE_PHASE + (beyond >> PHASE_BITS) - 1);
    before + (before >> PHASE_BITS) * ((beyond & PHASE_MASK) + 1)
}

/// How many buckets an index begins with. Follows `_hash_init_metabuffer` in `hashpage.c`.
fn first_buckets(tuples: f64, fill_factor: u16) -> u32 {
    let wanted = tuples / f64::from(fill_factor);
    if wanted >= f64::from(MAX_BUCKETS) {
        MAX_BUCKETS
    } else if wanted > 2.0 {
        total_buckets(spare_index(wanted as u32))
    } else {
        2
    }
}

/// The metapage of a new index. Follows `_hash_init_metabuffer` in `hashpage.c`.
pub(super) fn init_meta(mut main: Fields<'_>, page: &mut Page<'_>) -> Result<(), Underivable> {
    let (tuples, procedure, fill_factor) = (f64::from_bits(main.u64()?), main.u32()?, main.u16()?);
    let buckets = first_buckets(tuples, fill_factor);
    let spare = spare_index(buckets);
    init(page, NONE, NONE, META)?;
    put(page, PAGE_HEADER_LEN, MAGIC);
    put(page, PAGE_HEADER_LEN + 4, VERSION);
    // Fill factor, room of a bitmap page, the power of two in it, and that power's logarithm in bits.
    let room = (BLOCK_LEN - PAGE_HEADER_LEN - super::OPAQUE_LEN) as u16;
    let shift = room.ilog2();
    for (index, value) in [fill_factor, room, 1 << shift, shift as u16 + 3].into_iter().enumerate() {
        let at = AT_FILL_FACTOR + index * 2;
        page.block_mut()[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    let high_mask = (buckets + 1).next_power_of_two() - 1;
    put(page, AT_MAX_BUCKET, buckets - 1);
    put(page, AT_HIGH_MASK, high_mask);
    put(page, AT_LOW_MASK, high_mask >> 1);
    put(page, AT_OVERFLOW_POINT, spare);
    put(page, AT_PROCEDURE, procedure);
    put(page, place(AT_SPARES, spare, MAX_SPLITPOINTS)?, 1);
    page.set_lower(META_END);
    Ok(())
}

/// A bitmap page with all bits set. Follows `_hash_initbitmapbuffer` in `hashovfl.c`.
pub(super) fn init_bitmap(mut main: Fields<'_>, page: &mut Page<'_>) -> Result<(), Underivable> {
    let len = usize::from(main.u16()?);
    init(page, NONE, NONE, BITMAP)?;
    let bits = page.block_mut().get_mut(PAGE_HEADER_LEN..PAGE_HEADER_LEN + len);
    bits.filter(|bits| bits.len() <= BLOCK_LEN - PAGE_HEADER_LEN - super::OPAQUE_LEN)
        .ok_or(Underivable::BadRecord("a bitmap longer than its page"))?
        .fill(0xff);
    page.set_lower(PAGE_HEADER_LEN + len);
    Ok(())
}

/// Follows the second half of `hash_xlog_init_bitmap_page`.
pub(super) fn add_first_bitmap(page: &mut Page<'_>) -> Result<(), Underivable> {
    let block = get(page, AT_MAX_BUCKET).wrapping_add(2);
    add_bitmap(page, block)
}

fn add_bitmap(page: &mut Page<'_>, block: u32) -> Result<(), Underivable> {
    let count = get(page, AT_BITMAPS);
    put(page, place(AT_BITMAP_BLOCKS, count, MAX_BITMAPS)?, block);
    put(page, AT_BITMAPS, count + 1);
    Ok(())
}

/// Adds to the number of tuples.
pub(super) fn add_tuples(page: &mut Page<'_>, count: f64) -> Result<(), Underivable> {
    let before = f64::from_bits(u64_at(page.block(), AT_TUPLES).unwrap_or_default());
    set_tuples(page, before + count)
}

/// Sets the number of tuples. Follows `hash_xlog_update_meta_page`.
pub(super) fn set_tuples(page: &mut Page<'_>, count: f64) -> Result<(), Underivable> {
    page.block_mut()[AT_TUPLES..AT_TUPLES + 8].copy_from_slice(&count.to_le_bytes());
    Ok(())
}

/// Follows the metapage's part of `hash_xlog_squeeze_page`.
pub(super) fn set_first_free(page: &mut Page<'_>, bit: u32) -> Result<(), Underivable> {
    put(page, AT_FIRST_FREE, bit);
    Ok(())
}

/// Sets or clears a bit in a bitmap page (`SETBIT`, `CLRBIT`).
pub(super) fn set_bitmap_bit(page: &mut Page<'_>, bit: u32, used: bool) -> Result<(), Underivable> {
    let at = PAGE_HEADER_LEN + bit as usize / 8;
    let byte = page.block_mut().get_mut(at).ok_or(Underivable::BadRecord("a bit beyond the page"))?;
    let mask = 1 << (bit % 8);
    *byte = if used { *byte | mask } else { *byte & !mask };
    Ok(())
}

/// Follows the metapage's part of `hash_xlog_add_ovfl_page`.
pub(super) fn add_overflow(record: &Record<'_>, data: &[u8], page: &mut Page<'_>) -> Result<(), Underivable> {
    let found_free = *record.main().get(2).ok_or(Underivable::ShortRecord)? != 0;
    put(page, AT_FIRST_FREE, Fields(data).u32()?);
    if found_free {
        return Ok(());
    }
    let spares = place(AT_SPARES, get(page, AT_OVERFLOW_POINT), MAX_SPLITPOINTS)?;
    let mut added = 1;
    if let Some(bitmap) = record.reference(3) {
        add_bitmap(page, bitmap.tag.block)?;
        added += 1;
    }
    let before = get(page, spares);
    put(page, spares, before.wrapping_add(added));
    Ok(())
}

/// Follows the metapage's part of `hash_xlog_split_allocate_page`.
pub(super) fn split(page: &mut Page<'_>, bucket: u32, changes: u8, data: &[u8]) -> Result<(), Underivable> {
    if changes & !(SPLIT_CHANGES_MASKS | SPLIT_CHANGES_POINT) != 0 {
        return Err(Underivable::UnknownFlags(changes.into()));
    }
    let mut data = Fields(data);
    put(page, AT_MAX_BUCKET, bucket);
    if changes & SPLIT_CHANGES_MASKS != 0 {
        put(page, AT_LOW_MASK, data.u32()?);
        put(page, AT_HIGH_MASK, data.u32()?);
    }
    if changes & SPLIT_CHANGES_POINT != 0 {
        let point = data.u32()?;
        put(page, place(AT_SPARES, point, MAX_SPLITPOINTS)?, data.u32()?);
        put(page, AT_OVERFLOW_POINT, point);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{first_buckets, spare_index, total_buckets};

    #[test]
    fn splitpoints_and_buckets_are_those_of_postgresql() {
        assert_eq!((spare_index(1), spare_index(2), spare_index(3), spare_index(4)), (0, 1, 2, 2));
        assert_eq!(
            (spare_index(512), spare_index(513), spare_index(641), spare_index(1024)),
            (9, 10, 11, 13)
        );
        assert_eq!((total_buckets(9), total_buckets(10), total_buckets(13)), (512, 640, 1024));
        assert_eq!((first_buckets(0.0, 75), first_buckets(1000.0, 0)), (2, 0x4000_0000));
        assert_eq!(first_buckets(f64::NAN, 1), 2);
    }
}

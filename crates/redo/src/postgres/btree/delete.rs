//! Removal of items and of single pointers from posting lists.

use super::tuple::{IndexTuple, TID_LEN};
use super::{HAS_GARBAGE, Opaque};
use crate::postgres::decode::record::{BlockReference, Record};
use crate::postgres::error::Underivable;
use crate::postgres::fields::Fields;
use crate::postgres::major::Major;
use crate::postgres::page::Page;
use crate::postgres::position::BLOCK_LEN;

/// Follows `btree_xlog_vacuum`.
pub(super) fn vacuum(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    remove(record.fields(), record.data(reference), page)?;
    if clears_cycle_id(record.major) {
        Opaque::of(page)?.set_cycle_id(0);
    }
    Ok(())
}

/// What differs by version: since 18 redo of a vacuum also ends what it marked for itself.
const fn clears_cycle_id(major: Major) -> bool {
    match major {
        Major::V14 | Major::V15 | Major::V16 | Major::V17 => false,
        Major::V18 => true,
    }
}

/// Follows `btree_xlog_delete`: as a vacuum, behind a horizon for standbys. What 16 added for them comes last.
pub(super) fn delete(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let mut main = record.fields();
    main.skip(4)?;
    remove(main, record.data(reference), page)
}

fn remove(mut counts: Fields<'_>, data: &[u8], page: &mut Page<'_>) -> Result<(), Underivable> {
    let (deleted, updated) = (usize::from(counts.u16()?), usize::from(counts.u16()?));
    let mut data = Fields(data);
    let deleted = data.offsets(deleted)?;
    for number in data.offsets(updated)?.iter() {
        let count = usize::from(data.u16()?);
        update_posting(page, number, data.bytes(count * 2)?)?;
    }
    if deleted.len() > 0 {
        page.delete_items(deleted.iter())?;
    }
    let mut opaque = Opaque::of(page)?;
    let flags = opaque.flags();
    opaque.set_flags(flags & !HAS_GARBAGE);
    Ok(())
}

/// Takes pointers, named by their ascending indexes, out of a posting list. Follows `btree_xlog_updates` and
/// `_bt_update_posting` in `nbtdedup.c`.
fn update_posting(page: &mut Page<'_>, number: u16, indexes: &[u8]) -> Result<(), Underivable> {
    let original = IndexTuple::new(page.item(number)?)?;
    let mut indexes = crate::postgres::fields::Offsets::all(indexes).iter().peekable();
    let (mut tids, mut len) = ([0; BLOCK_LEN], 0);
    for (index, tid) in original.tids()?.chunks_exact(TID_LEN).enumerate() {
        if indexes.next_if_eq(&(index as u16)).is_none() {
            tids[len..len + TID_LEN].copy_from_slice(tid);
            len += TID_LEN;
        }
    }
    if indexes.next().is_some() {
        return Err(Underivable::BadRecord("a posting list has no pointer of that index"));
    }
    let mut out = [0; BLOCK_LEN];
    let size = original.with_tids(&tids[..len], &mut out)?;
    page.overwrite_item(number, &out[..size])
}

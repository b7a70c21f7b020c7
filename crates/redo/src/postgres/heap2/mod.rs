//! Redo of resource manager Heap2. Ported from the `heap_xlog_*` functions of `src/backend/access/heap/heapam.c`.
//!
//! * [`prune`]: what takes tuples and line pointers out of a page, or freezes them;
//! * here: insertions of many tuples, locks along chains of versions, bits of the visibility map.

mod prune;

use super::decode::record::{BlockReference, Record};
use super::error::Underivable;
use super::fields::Fields;
use super::heap::{
    INIT_PAGE, INSERT_CLEARS_VISIBLE, INSERT_FLAGS, INSERT_SETS_FROZEN, LoggedHeader, OPERATION_MASK,
    check_flags, normal_tuple,
};
use super::major::Major;
use super::outcome::{Outcome, Settings};
use super::page::{PD_ALL_VISIBLE, Page};
use super::tuple::TUPLE_HEADER_LEN;
use super::visibility::{self, ALL_FROZEN, BOTH};

pub(crate) const REWRITE: u8 = 0x00;
pub(crate) const VISIBLE: u8 = 0x40;
pub(crate) const MULTI_INSERT: u8 = 0x50;
pub(crate) const LOCK_UPDATED: u8 = 0x60;
pub(crate) const NEW_CID: u8 = 0x70;

const LOCK_CLEARS_FROZEN: u8 = 0x01;

/// What differs by version: beside the map's bits, since 16 one that says that the heap is a catalog, for standbys.
const fn visible_flags(major: Major) -> u8 {
    const IS_CATALOG: u8 = 0x04;
    match major {
        Major::V14 | Major::V15 => BOTH,
        Major::V16 | Major::V17 | Major::V18 => BOTH | IS_CATALOG,
    }
}

/// The block of a reference after the record. Follows `heap2_redo`.
pub(crate) fn redo(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
    settings: Settings,
) -> Result<Outcome, Underivable> {
    let operation = record.operation() & OPERATION_MASK;
    match (operation, reference.id) {
        (prune::FIRST..=prune::LAST, 0) => prune::redo(record, operation, reference, page)?,
        (VISIBLE, 0) => return visible_map(record, page),
        (VISIBLE, 1) => return visible_heap(page, settings),
        (MULTI_INSERT, 0) => multi_insert(record, reference, page)?,
        (LOCK_UPDATED, 0) => lock_updated(record, page)?,
        (MULTI_INSERT | LOCK_UPDATED, 1) => return visibility::clear_named(record, reference, page),
        (REWRITE..=NEW_CID, id) => {
            return Err(Underivable::UnknownReference { manager: record.manager, operation, id });
        }
        _ => return Err(Underivable::UnknownRecord { manager: record.manager, operation }),
    }
    Ok(Outcome::Changed)
}

/// The bits of the visibility map that the record clears for its block.
pub(crate) fn cleared_bits(record: &Record<'_>) -> Option<(u8, u8)> {
    let main = record.main();
    Some(match record.operation() & OPERATION_MASK {
        MULTI_INSERT => (if main.first()? & INSERT_CLEARS_VISIBLE != 0 { BOTH } else { 0 }, 0),
        LOCK_UPDATED => (if main.get(7)? & LOCK_CLEARS_FROZEN != 0 { ALL_FROZEN } else { 0 }, 0),
        _ => return None,
    })
}

/// The map's part of `heap_xlog_visible`: the page may be missing, the block number is that of reference 1.
fn visible_map(record: &Record<'_>, page: &mut Page<'_>) -> Result<Outcome, Underivable> {
    let mut main = record.fields();
    main.skip(4)?;
    let flags = main.u8()?;
    check_flags(flags, visible_flags(record.major))?;
    let map = record.reference(0).map(|reference| reference.tag);
    let heap = record.reference(1).ok_or(Underivable::BadRecord("no heap block"))?.tag;
    if map != Some(visibility::map_of(heap)) {
        return Err(Underivable::BadRecord("the map's block is not that of the heap's"));
    }
    if page.is_new() {
        page.init(0);
    }
    let changed = visibility::set(page, heap.block, flags & BOTH);
    Ok(if changed { Outcome::Changed } else { Outcome::ChangedKeepingLsn })
}

/// The heap's part of `heap_xlog_visible`: its LSN moves only where hint bits are logged.
fn visible_heap(page: &mut Page<'_>, settings: Settings) -> Result<Outcome, Underivable> {
    page.check_pointers()?;
    page.change_flags(PD_ALL_VISIBLE, 0);
    Ok(if settings.hints_logged { Outcome::Changed } else { Outcome::ChangedKeepingLsn })
}

/// Follows `heap_xlog_multi_insert`.
fn multi_insert(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let mut main = record.fields();
    let flags = main.u8()?;
    main.skip(1)?;
    let count = main.u16()?;
    check_flags(flags, INSERT_FLAGS)?;
    let init = record.operation() & INIT_PAGE != 0;
    if init {
        page.init(0);
    }
    let data = record.data(reference);
    let mut tuples = Fields(data);
    for index in 0..count {
        let number = if init { index + 1 } else { main.u16()? };
        // Each tuple's header is aligned to two bytes.
        tuples.skip((data.len() - tuples.0.len()) % 2)?;
        let len = usize::from(tuples.u16()?);
        let header = LoggedHeader::read(&mut tuples)?;
        let columns = tuples.bytes(len)?;
        let room = header.reserve(page, number, len, record.xid, reference.tag.block)?;
        room[TUPLE_HEADER_LEN..].copy_from_slice(columns);
    }
    if !tuples.0.is_empty() {
        return Err(Underivable::BadRecord("its tuples have another total length"));
    }
    if flags & INSERT_CLEARS_VISIBLE != 0 {
        page.change_flags(0, PD_ALL_VISIBLE);
    }
    if flags & INSERT_SETS_FROZEN != 0 {
        page.change_flags(PD_ALL_VISIBLE, 0);
    }
    Ok(())
}

/// Follows `heap_xlog_lock_updated`, which leaves the command id alone.
fn lock_updated(record: &Record<'_>, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let (xmax, number, infobits, flags) = (main.u32()?, main.u16()?, main.u8()?, main.u8()?);
    check_flags(flags, LOCK_CLEARS_FROZEN)?;
    let mut tuple = normal_tuple(page, number)?;
    tuple.set_infobits(infobits)?;
    tuple.set_xmax(xmax);
    Ok(())
}

//! Redo of resource manager Heap2. Ported from the `heap_xlog_*` functions of `src/backend/access/heap/heapam.c`.

use super::decode::record::{BlockReference, Record};
use super::error::Underivable;
use super::fields::{Fields, Offsets};
use super::heap::{
    INIT_PAGE, INSERT_CLEARS_VISIBLE, INSERT_FLAGS, INSERT_SETS_FROZEN, LoggedHeader, OPERATION_MASK,
    check_flags, normal_tuple,
};
use super::outcome::{Outcome, Settings};
use super::page::{ItemState, LinePointer, PD_ALL_VISIBLE, Page, UNUSED};
use super::tuple::{TUPLE_HEADER_LEN, Tuple};
use super::visibility::{self, ALL_FROZEN, BOTH};

pub(crate) const REWRITE: u8 = 0x00;
pub(crate) const PRUNE: u8 = 0x10;
pub(crate) const VACUUM: u8 = 0x20;
pub(crate) const FREEZE_PAGE: u8 = 0x30;
pub(crate) const VISIBLE: u8 = 0x40;
pub(crate) const MULTI_INSERT: u8 = 0x50;
pub(crate) const LOCK_UPDATED: u8 = 0x60;
pub(crate) const NEW_CID: u8 = 0x70;

const FREEZE_XVAC_FROZEN: u8 = 0x02;
const FREEZE_XVAC_INVALID: u8 = 0x04;
const FROZEN_XID: u32 = 2;

const LOCK_CLEARS_FROZEN: u8 = 0x01;

/// The block of a reference after the record. Follows `heap2_redo`.
pub(crate) fn redo(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
    settings: Settings,
) -> Result<Outcome, Underivable> {
    let operation = record.operation() & OPERATION_MASK;
    match (operation, reference.id) {
        (PRUNE, 0) => prune(record, reference, page)?,
        (VACUUM, 0) => vacuum(record, reference, page)?,
        (FREEZE_PAGE, 0) => freeze_page(record, reference, page)?,
        (VISIBLE, 0) => return visible_map(record, page),
        (VISIBLE, 1) => return visible_heap(page, settings),
        (MULTI_INSERT, 0) => multi_insert(record, reference, page)?,
        (LOCK_UPDATED, 0) => lock_updated(record, page)?,
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

/// Follows `heap_xlog_prune` and `heap_page_prune_execute` in `pruneheap.c`.
fn prune(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    main.skip(4)?;
    let (redirected, dead) = (usize::from(main.u16()?), usize::from(main.u16()?));
    let mut data = Fields(record.data(reference));
    let redirected = data.offsets(redirected * 2)?;
    for index in (0..redirected.len()).step_by(2) {
        let pair = redirected.get(index).zip(redirected.get(index + 1));
        let (from, to) = pair.ok_or(Underivable::ShortRecord)?;
        let redirect = LinePointer { offset: to.into(), state: ItemState::Redirect, len: 0 };
        page.set_line_pointer(from, redirect)?;
    }
    for number in data.offsets(dead)?.iter() {
        page.set_line_pointer(number, LinePointer { offset: 0, state: ItemState::Dead, len: 0 })?;
    }
    for number in Offsets::all(data.0).iter() {
        page.set_line_pointer(number, UNUSED)?;
    }
    page.repair_fragmentation()
}

/// Follows `heap_xlog_vacuum`.
fn vacuum(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let count = usize::from(record.fields().u16()?);
    for number in Fields(record.data(reference)).offsets(count)?.iter() {
        page.set_line_pointer(number, UNUSED)?;
    }
    page.truncate_line_pointers()
}

/// Follows `heap_xlog_freeze_page` and `heap_execute_freeze_tuple`.
fn freeze_page(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let mut main = record.fields();
    main.skip(4)?;
    let count = main.u16()?;
    let mut plans = Fields(record.data(reference));
    for _ in 0..count {
        let (xmax, number, infomask2) = (plans.u32()?, plans.u16()?, plans.u16()?);
        let (infomask, flags) = (plans.u16()?, plans.u8()?);
        plans.skip(1)?;
        check_flags(flags, FREEZE_XVAC_FROZEN | FREEZE_XVAC_INVALID)?;
        let mut tuple = Tuple::new(page.item_mut(number)?)?;
        tuple.set_xmax(xmax);
        if flags & FREEZE_XVAC_FROZEN != 0 {
            tuple.set_field3(FROZEN_XID);
        }
        if flags & FREEZE_XVAC_INVALID != 0 {
            tuple.set_field3(0);
        }
        tuple.set_infomask(infomask);
        tuple.set_infomask2(infomask2);
    }
    Ok(())
}

/// The map's part of `heap_xlog_visible`: the page may be missing, the block number is that of reference 1.
fn visible_map(record: &Record<'_>, page: &mut Page<'_>) -> Result<Outcome, Underivable> {
    let mut main = record.fields();
    main.skip(4)?;
    let flags = main.u8()?;
    check_flags(flags, BOTH)?;
    let map = record.reference(0).map(|reference| reference.tag);
    let heap = record.reference(1).ok_or(Underivable::BadRecord("no heap block"))?.tag;
    if map != Some(visibility::map_of(heap)) {
        return Err(Underivable::BadRecord("the map's block is not that of the heap's"));
    }
    if page.is_new() {
        page.init(0);
    }
    let changed = visibility::set(page, heap.block, flags);
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

//! Redo of resource manager Heap. Ported from the `heap_xlog_*` functions of `src/backend/access/heap/heapam.c`.

use super::decode::record::{BlockReference, Record};
use super::error::Underivable;
use super::fields::Fields;
use super::manager;
use super::outcome::Outcome;
use super::page::{ItemState, MAX_HEAP_ITEMS, PD_ALL_VISIBLE, Page};
use super::tuple::{TUPLE_HEADER_LEN, Tuple, xid_precedes};
use super::visibility::{self, ALL_FROZEN, BOTH};

pub(crate) const INSERT: u8 = 0x00;
pub(crate) const DELETE: u8 = 0x10;
pub(crate) const UPDATE: u8 = 0x20;
pub(crate) const TRUNCATE: u8 = 0x30;
pub(crate) const HOT_UPDATE: u8 = 0x40;
pub(crate) const CONFIRM: u8 = 0x50;
pub(crate) const LOCK: u8 = 0x60;
pub(crate) const INPLACE: u8 = 0x70;
/// The operations' bits; the one above says that the page is initialised first.
pub(crate) const OPERATION_MASK: u8 = 0x70;
pub(crate) const INIT_PAGE: u8 = 0x80;

/// Of an insertion: the page's bits in the visibility map are cleared.
pub(crate) const INSERT_CLEARS_VISIBLE: u8 = 0x01;
/// Of an insertion: the page is all frozen.
pub(crate) const INSERT_SETS_FROZEN: u8 = 0x20;
/// All flags of insertions, with those for logical decoding only.
pub(crate) const INSERT_FLAGS: u8 = 0x3f;

const UPDATE_CLEARS_OLD: u8 = 0x01;
const UPDATE_CLEARS_NEW: u8 = 0x02;
const UPDATE_PREFIX_FROM_OLD: u8 = 0x20;
const UPDATE_SUFFIX_FROM_OLD: u8 = 0x40;
const UPDATE_FLAGS: u8 = 0x7f;

const DELETE_CLEARS_VISIBLE: u8 = 0x01;
const DELETE_IS_SPECULATIVE: u8 = 0x08;
const DELETE_MOVES_PARTITION: u8 = 0x10;
const DELETE_FLAGS: u8 = 0x1f;

const LOCK_CLEARS_FROZEN: u8 = 0x01;

/// The block of a reference after the record. Follows `heap_redo`.
pub(crate) fn redo(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<Outcome, Underivable> {
    if record.operation() & INIT_PAGE != 0 && reference.id == 0 {
        page.init(0);
    }
    let operation = record.operation() & OPERATION_MASK;
    match (operation, reference.id) {
        (INSERT, 0) => insert(record, reference, page)?,
        (DELETE, 0) => delete(record, reference, page)?,
        (UPDATE | HOT_UPDATE, _) => return update(record, reference, page),
        (CONFIRM, 0) => confirm(record, reference, page)?,
        (LOCK, 0) => lock(record, reference, page)?,
        (INPLACE, 0) => inplace(record, reference, page)?,
        (INSERT | DELETE | LOCK, 1) => return visibility::clear_named(record, reference, page),
        (INSERT | DELETE | TRUNCATE | CONFIRM | LOCK | INPLACE, id) => {
            return Err(Underivable::UnknownReference { manager: record.manager, operation, id });
        }
        _ => return Err(Underivable::UnknownRecord { manager: record.manager, operation }),
    }
    Ok(Outcome::Changed)
}

/// The bits of the visibility map that the record clears for the new and the old block.
pub(crate) fn cleared_bits(record: &Record<'_>) -> Option<(u8, u8)> {
    let main = record.main();
    let both = |flags: u8, flag: u8| if flags & flag != 0 { BOTH } else { 0 };
    Some(match record.operation() & OPERATION_MASK {
        INSERT => (both(*main.get(2)?, INSERT_CLEARS_VISIBLE), 0),
        DELETE => (both(*main.get(7)?, DELETE_CLEARS_VISIBLE), 0),
        UPDATE | HOT_UPDATE => {
            let flags = *main.get(7)?;
            (both(flags, UPDATE_CLEARS_NEW), both(flags, UPDATE_CLEARS_OLD))
        }
        LOCK => (if main.get(7)? & LOCK_CLEARS_FROZEN != 0 { ALL_FROZEN } else { 0 }, 0),
        _ => return None,
    })
}

/// Whether the record is an update: it can name two blocks of the heap, others one.
pub(crate) fn is_update(record: &Record<'_>) -> bool {
    record.manager == manager::HEAP && matches!(record.operation() & OPERATION_MASK, UPDATE | HOT_UPDATE)
}

/// Fails on flags that this version does not know.
pub(crate) fn check_flags(flags: u8, known: u8) -> Result<(), Underivable> {
    if flags & !known == 0 { Ok(()) } else { Err(Underivable::UnknownFlags(flags.into())) }
}

/// The tuple of a normal line pointer. Follows the checks before every "invalid lp" of `heapam.c`.
pub(crate) fn normal_tuple<'a>(page: &'a mut Page<'_>, number: u16) -> Result<Tuple<'a>, Underivable> {
    if page.line_pointer(number)?.state != ItemState::Normal {
        return Err(Underivable::BadPage("the item is not a tuple"));
    }
    Tuple::new(page.item_mut(number)?)
}

/// Lowers the page's hint of what may be pruned. Follows `PageSetPrunable`.
fn hint_prunable(page: &mut Page<'_>, xid: u32) {
    let hinted = page.prune_xid();
    if hinted == 0 || xid_precedes(xid, hinted) {
        page.set_prune_xid(xid);
    }
}

/// The parts of a tuple's header that records carry (`xl_heap_header`).
pub(crate) struct LoggedHeader {
    pub(crate) infomask2: u16,
    pub(crate) infomask: u16,
    pub(crate) hoff: u8,
}

impl LoggedHeader {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Result<Self, Underivable> {
        Ok(Self { infomask2: fields.u16()?, infomask: fields.u16()?, hoff: fields.u8()? })
    }

    /// Makes room for a tuple with `len` bytes behind its fixed header and writes that header. Returns the tuple.
    pub(crate) fn reserve<'a>(
        &self,
        page: &'a mut Page<'_>,
        number: u16,
        len: usize,
        xmin: u32,
        block: u32,
    ) -> Result<&'a mut [u8], Underivable> {
        if number > MAX_HEAP_ITEMS {
            return Err(Underivable::BadPage("a heap page cannot have that many items"));
        }
        let room = page.reserve_item(number, TUPLE_HEADER_LEN + len, true)?;
        room[..TUPLE_HEADER_LEN].fill(0);
        let mut tuple = Tuple::new(room)?;
        tuple.set_xmin(xmin);
        tuple.set_infomask2(self.infomask2);
        tuple.set_infomask(self.infomask);
        tuple.set_hoff(self.hoff);
        tuple.reset_cid();
        tuple.set_ctid(block, number);
        Ok(room)
    }
}

/// Follows `heap_xlog_insert`.
fn insert(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let (number, flags) = (main.u16()?, main.u8()?);
    check_flags(flags, INSERT_FLAGS & !INSERT_SETS_FROZEN)?;
    let mut data = Fields(record.data(reference));
    let header = LoggedHeader::read(&mut data)?;
    let room = header.reserve(page, number, data.0.len(), record.xid, reference.tag.block)?;
    room[TUPLE_HEADER_LEN..].copy_from_slice(data.0);
    if flags & INSERT_CLEARS_VISIBLE != 0 {
        page.change_flags(0, PD_ALL_VISIBLE);
    }
    Ok(())
}

/// Follows `heap_xlog_delete`.
fn delete(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let (xmax, number, infobits, flags) = (main.u32()?, main.u16()?, main.u8()?, main.u8()?);
    check_flags(flags, DELETE_FLAGS)?;
    let mut tuple = normal_tuple(page, number)?;
    tuple.set_infobits(infobits)?;
    tuple.set_hot_updated(false);
    if flags & DELETE_IS_SPECULATIVE != 0 {
        tuple.set_xmin(0);
    } else {
        tuple.set_xmax(xmax);
    }
    tuple.reset_cid();
    if flags & DELETE_MOVES_PARTITION != 0 {
        tuple.set_moved_partitions();
    } else {
        tuple.set_ctid(reference.tag.block, number);
    }
    hint_prunable(page, record.xid);
    if flags & DELETE_CLEARS_VISIBLE != 0 {
        page.change_flags(0, PD_ALL_VISIBLE);
    }
    Ok(())
}

/// The main data of an update (`xl_heap_update`).
struct Update {
    old_xmax: u32,
    old_number: u16,
    old_infobits: u8,
    flags: u8,
    new_xmax: u32,
    new_number: u16,
}

/// Follows `heap_xlog_update`: reference 0 is the new tuple's block, 1 the old one's if that is another; further ones are
/// pages of the map.
fn update(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<Outcome, Underivable> {
    let mut main = record.fields();
    let update = Update {
        old_xmax: main.u32()?,
        old_number: main.u16()?,
        old_infobits: main.u8()?,
        flags: main.u8()?,
        new_xmax: main.u32()?,
        new_number: main.u16()?,
    };
    check_flags(update.flags, UPDATE_FLAGS)?;
    let same_page = record.reference(1).is_none();
    match reference.id {
        0 if same_page => {
            update_old(record, &update, reference.tag.block, page)?;
            update_new(record, reference, &update, true, page)?;
        }
        0 => update_new(record, reference, &update, false, page)?,
        1 => {
            let new = record.reference(0).ok_or(Underivable::BadRecord("an update without a new block"))?;
            update_old(record, &update, new.tag.block, page)?;
        }
        _ => return visibility::clear_named(record, reference, page),
    }
    Ok(Outcome::Changed)
}

fn update_old(
    record: &Record<'_>,
    update: &Update,
    new_block: u32,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let mut tuple = normal_tuple(page, update.old_number)?;
    tuple.set_infobits(update.old_infobits)?;
    tuple.set_hot_updated(record.operation() & OPERATION_MASK == HOT_UPDATE);
    tuple.set_xmax(update.old_xmax);
    tuple.reset_cid();
    tuple.set_ctid(new_block, update.new_number);
    hint_prunable(page, record.xid);
    if update.flags & UPDATE_CLEARS_OLD != 0 {
        page.change_flags(0, PD_ALL_VISIBLE);
    }
    Ok(())
}

fn update_new(
    record: &Record<'_>,
    reference: &BlockReference,
    update: &Update,
    same_page: bool,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let from_old = update.flags & (UPDATE_PREFIX_FROM_OLD | UPDATE_SUFFIX_FROM_OLD) != 0;
    if from_old && !same_page {
        return Err(Underivable::BadRecord("a tuple's ends come from another page"));
    }
    let mut data = Fields(record.data(reference));
    let mut shared = |flag: u8| if update.flags & flag != 0 { data.u16().map(usize::from) } else { Ok(0) };
    let prefix = shared(UPDATE_PREFIX_FROM_OLD)?;
    let suffix = shared(UPDATE_SUFFIX_FROM_OLD)?;
    let header = LoggedHeader::read(&mut data)?;
    // The null bitmap, before the columns, is never shared with the old tuple.
    let bitmap_len = if prefix > 0 {
        usize::from(header.hoff)
            .checked_sub(TUPLE_HEADER_LEN)
            .ok_or(Underivable::BadRecord("columns begin in the header"))?
    } else {
        0
    };
    let bitmap = data.bytes(bitmap_len)?;
    let old = old_ends(page, update.old_number, prefix, suffix)?;
    let len = bitmap_len + prefix + data.0.len() + suffix;
    let room = header.reserve(page, update.new_number, len, record.xid, reference.tag.block)?;
    Tuple::new(room)?.set_xmax(update.new_xmax);
    let columns = TUPLE_HEADER_LEN + bitmap_len;
    room[TUPLE_HEADER_LEN..columns].copy_from_slice(bitmap);
    room[columns + prefix..columns + prefix + data.0.len()].copy_from_slice(data.0);
    let start = page.line_pointer(update.new_number)?.offset;
    let end = start + TUPLE_HEADER_LEN + len;
    let block = page.block_mut();
    block.copy_within(old.prefix, start + columns);
    block.copy_within(old.suffix, end - suffix);
    if update.flags & UPDATE_CLEARS_NEW != 0 {
        page.change_flags(0, PD_ALL_VISIBLE);
    }
    Ok(())
}

/// Where in the page the old tuple's ends are that the new one shares.
struct OldEnds {
    prefix: std::ops::Range<usize>,
    suffix: std::ops::Range<usize>,
}

fn old_ends(page: &mut Page<'_>, number: u16, prefix: usize, suffix: usize) -> Result<OldEnds, Underivable> {
    if prefix == 0 && suffix == 0 {
        return Ok(OldEnds { prefix: 0..0, suffix: 0..0 });
    }
    let hoff = normal_tuple(page, number)?.hoff();
    let pointer = page.line_pointer(number)?;
    let columns = pointer.offset + hoff;
    let end = pointer.offset + pointer.len;
    if columns + prefix > end || suffix > pointer.len {
        return Err(Underivable::BadRecord("the old tuple is shorter than what the new one shares"));
    }
    Ok(OldEnds { prefix: columns..columns + prefix, suffix: end - suffix..end })
}

/// Follows `heap_xlog_confirm`.
fn confirm(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let number = record.fields().u16()?;
    normal_tuple(page, number)?.set_ctid(reference.tag.block, number);
    Ok(())
}

/// Follows `heap_xlog_lock`.
fn lock(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let (xid, number, infobits, flags) = (main.u32()?, main.u16()?, main.u8()?, main.u8()?);
    check_flags(flags, LOCK_CLEARS_FROZEN)?;
    let mut tuple = normal_tuple(page, number)?;
    tuple.set_infobits(infobits)?;
    if tuple.is_locked_only() {
        tuple.set_hot_updated(false);
        tuple.set_ctid(reference.tag.block, number);
    }
    tuple.set_xmax(xid);
    tuple.reset_cid();
    Ok(())
}

/// Follows `heap_xlog_inplace`.
fn inplace(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let number = record.fields().u16()?;
    let new = record.data(reference);
    let mut tuple = normal_tuple(page, number)?;
    let columns = tuple.columns()?;
    if columns.len() != new.len() {
        return Err(Underivable::BadPage("the tuple has another length"));
    }
    columns.copy_from_slice(new);
    Ok(())
}

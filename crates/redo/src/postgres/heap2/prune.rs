//! Pruning, freezing and vacuuming of heap pages. Until PostgreSQL 15 these are three records; 16 writes two of them
//! otherwise; since 17 they are one, for three occasions, which holds what there is to do in parts.

use crate::postgres::decode::record::{BlockReference, Record};
use crate::postgres::error::Underivable;
use crate::postgres::fields::{Fields, Offsets};
use crate::postgres::heap::check_flags;
use crate::postgres::major::Major;
use crate::postgres::page::{ItemState, LinePointer, Page, UNUSED};
use crate::postgres::tuple::Tuple;

const PRUNE: u8 = 0x10;
const VACUUM: u8 = 0x20;
/// The first and the last of the three operations. Since 17 they say when it was done: on access, and by the two phases of
/// VACUUM.
pub(super) const FIRST: u8 = PRUNE;
pub(super) const LAST: u8 = 0x30;

const IS_CATALOG: u8 = 1 << 1;
/// Items move; else line pointers at the end are dropped only.
const TAKES_CLEANUP_LOCK: u8 = 1 << 2;
const HAS_HORIZON: u8 = 1 << 3;
const HAS_FREEZE_PLANS: u8 = 1 << 4;
const HAS_REDIRECTIONS: u8 = 1 << 5;
const HAS_DEAD: u8 = 1 << 6;
const HAS_UNUSED: u8 = 1 << 7;
const ALL_FLAGS: u8 = IS_CATALOG
    | TAKES_CLEANUP_LOCK
    | HAS_HORIZON
    | HAS_FREEZE_PLANS
    | HAS_REDIRECTIONS
    | HAS_DEAD
    | HAS_UNUSED;

const FREEZE_XVAC_FROZEN: u8 = 0x02;
const FREEZE_XVAC_INVALID: u8 = 0x04;
const FROZEN_XID: u32 = 2;

/// What differs by version: which record it is, and its form.
pub(super) fn redo(
    record: &Record<'_>,
    operation: u8,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    match record.major {
        Major::V14 | Major::V15 => match operation {
            PRUNE => prune(record, reference, page),
            VACUUM => vacuum(record, reference, page),
            _ => freeze_page(record, reference, page),
        },
        // Pruning says for standbys whether it concerns a catalog; a plan of freezing is for many tuples.
        Major::V16 => Err(Underivable::NotWritten(record.major)),
        Major::V17 | Major::V18 => prune_and_freeze(record, reference, page),
    }
}

/// Until 15. Follows `heap_xlog_prune` in `heapam.c`.
fn prune(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    main.skip(4)?;
    let (redirected, dead) = (usize::from(main.u16()?), usize::from(main.u16()?));
    let mut data = Fields(record.data(reference));
    let redirected = data.offsets(redirected * 2)?;
    let dead = data.offsets(dead)?;
    set_pointers(page, redirected, dead, Offsets::all(data.0))?;
    page.repair_fragmentation()
}

/// Until 16. Follows `heap_xlog_vacuum` in `heapam.c`.
fn vacuum(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let count = usize::from(record.fields().u16()?);
    for number in Fields(record.data(reference)).offsets(count)?.iter() {
        page.set_line_pointer(number, UNUSED)?;
    }
    page.truncate_line_pointers()
}

/// Until 15: a plan for every tuple. Follows `heap_xlog_freeze_page` in `heapam.c`.
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
        let plan = Plan { xmax, infomask2, infomask: plans.u16()?, flags: plans.u8()? };
        plans.skip(1)?;
        plan.freeze(page, number)?;
    }
    Ok(())
}

/// Since 17. Follows `heap_xlog_prune_freeze` in `heapam.c` and `heap_xlog_deserialize_prune_and_freeze` in
/// `rmgrdesc/heapdesc.c`: line pointers first, then tuples.
fn prune_and_freeze(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    const PLAN_LEN: usize = 12;
    let mut main = record.fields();
    let (_reason, flags) = (main.u8()?, main.u8()?);
    check_flags(flags, ALL_FLAGS)?;
    let mut data = Fields(record.data(reference));
    let mut plans = Fields(&[]);
    if flags & HAS_FREEZE_PLANS != 0 {
        let count = usize::from(data.u16()?);
        data.skip(2)?;
        plans = Fields(data.bytes(count * PLAN_LEN)?);
    }
    let mut items = |flag: u8, numbers: usize| {
        let count = if flags & flag != 0 { usize::from(data.u16()?) } else { 0 };
        data.offsets(count * numbers)
    };
    let (redirected, dead, unused) =
        (items(HAS_REDIRECTIONS, 2)?, items(HAS_DEAD, 1)?, items(HAS_UNUSED, 1)?);
    if flags & (HAS_REDIRECTIONS | HAS_DEAD | HAS_UNUSED) != 0 {
        set_pointers(page, redirected, dead, unused)?;
        if flags & TAKES_CLEANUP_LOCK != 0 {
            page.repair_fragmentation()?;
        } else {
            page.truncate_line_pointers()?;
        }
    }
    while !plans.0.is_empty() {
        let (xmax, infomask2, infomask) = (plans.u32()?, plans.u16()?, plans.u16()?);
        let plan = Plan { xmax, infomask2, infomask, flags: plans.u8()? };
        plans.skip(1)?;
        let count = usize::from(plans.u16()?);
        data.offsets(count)?.iter().try_for_each(|number| plan.freeze(page, number))?;
    }
    if data.0.is_empty() { Ok(()) } else { Err(Underivable::BadRecord("there is data behind its offsets")) }
}

/// Follows `heap_page_prune_execute` in `pruneheap.c`, without its last step.
fn set_pointers(
    page: &mut Page<'_>,
    redirected: Offsets<'_>,
    dead: Offsets<'_>,
    unused: Offsets<'_>,
) -> Result<(), Underivable> {
    for index in (0..redirected.len()).step_by(2) {
        let pair = redirected.get(index).zip(redirected.get(index + 1));
        let (from, to) = pair.ok_or(Underivable::ShortRecord)?;
        let redirect = LinePointer { offset: to.into(), state: ItemState::Redirect, len: 0 };
        page.set_line_pointer(from, redirect)?;
    }
    for number in dead.iter() {
        page.set_line_pointer(number, LinePointer { offset: 0, state: ItemState::Dead, len: 0 })?;
    }
    for number in unused.iter() {
        page.set_line_pointer(number, UNUSED)?;
    }
    Ok(())
}

/// How to freeze a tuple.
struct Plan {
    xmax: u32,
    infomask2: u16,
    infomask: u16,
    flags: u8,
}

impl Plan {
    /// Follows `heap_execute_freeze_tuple`.
    fn freeze(&self, page: &mut Page<'_>, number: u16) -> Result<(), Underivable> {
        check_flags(self.flags, FREEZE_XVAC_FROZEN | FREEZE_XVAC_INVALID)?;
        let mut tuple = Tuple::new(page.item_mut(number)?)?;
        tuple.set_xmax(self.xmax);
        if self.flags & FREEZE_XVAC_FROZEN != 0 {
            tuple.set_field3(FROZEN_XID);
        }
        if self.flags & FREEZE_XVAC_INVALID != 0 {
            tuple.set_field3(0);
        }
        tuple.set_infomask(self.infomask);
        tuple.set_infomask2(self.infomask2);
        Ok(())
    }
}

//! Deduplication of index pages.

use super::tuple::{IndexTuple, TID_LEN};
use super::{HAS_GARBAGE, HIGH_KEY, Opaque, first_data_item};
use crate::postgres::decode::record::{BlockReference, Record};
use crate::postgres::error::Underivable;
use crate::postgres::fields::{Fields, Offsets};
use crate::postgres::page::Page;
use crate::postgres::position::BLOCK_LEN;

/// Merges items into posting lists as the record's intervals say: (first item, number of items) each. Follows
/// `btree_xlog_dedup` and `_bt_dedup_finish_pending` in `nbtdedup.c`.
pub(super) fn dedup(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let count = usize::from(record.fields().u16()?);
    let intervals = Fields(record.data(reference)).offsets(count * 2)?;
    let original = &mut page.block().clone();
    let original = &mut Page::new(original);
    original.check_pointers()?;
    let first = first_data_item(original)?;
    page.init_like(original);
    if first > HIGH_KEY {
        page.add_item(HIGH_KEY, original.item(HIGH_KEY)?)?;
    }
    let mut merged = Merged { next: 0, intervals, tids: [0; BLOCK_LEN], out: [0; BLOCK_LEN] };
    let mut number = first;
    while number <= original.item_count() {
        number = merged.add(original, number, page)?;
    }
    if merged.next != count {
        return Err(Underivable::BadRecord("not every interval begins at an item"));
    }
    let mut opaque = Opaque::of(page)?;
    let flags = opaque.flags();
    opaque.set_flags(flags & !HAS_GARBAGE);
    Ok(())
}

struct Merged<'a> {
    /// How many intervals are done.
    next: usize,
    intervals: Offsets<'a>,
    tids: [u8; BLOCK_LEN],
    out: [u8; BLOCK_LEN],
}

impl Merged<'_> {
    /// Adds the item `number`, with those that are merged into it, to `page`. Returns the number after them.
    fn add(&mut self, original: &Page<'_>, number: u16, page: &mut Page<'_>) -> Result<u16, Underivable> {
        let begins = self.intervals.get(self.next * 2) == Some(number);
        let items = if begins { self.intervals.get(self.next * 2 + 1).unwrap_or(1) } else { 1 };
        let base = IndexTuple::new(original.item(number)?)?;
        if items <= 1 {
            let size = base.size();
            page.push_item(original.item(number)?.get(..size).ok_or(SHORT)?)?;
            return Ok(number + 1);
        }
        self.next += 1;
        let end =
            number.checked_add(items).ok_or(Underivable::BadRecord("an interval ends beyond the page"))?;
        let mut len = 0;
        for number in number..end {
            let tids = IndexTuple::new(original.item(number)?)?.tids()?;
            self.tids.get_mut(len..len + tids.len()).ok_or(SHORT)?.copy_from_slice(tids);
            len += tids.len();
        }
        debug_assert_eq!(len % TID_LEN, 0);
        let size = base.with_tids(&self.tids[..len], &mut self.out)?;
        page.push_item(&self.out[..size])?;
        Ok(end)
    }
}

const SHORT: Underivable = Underivable::BadPage("an index tuple ends beyond its item");

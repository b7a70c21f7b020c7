//! Splits of index pages.

use super::tuple::swap_posting;
use super::{HIGH_KEY, INCOMPLETE_SPLIT, LEAF, Opaque, first_data_item, front_tuple, init, restore_items};
use crate::postgres::decode::record::{BlockReference, Record};
use crate::postgres::error::Underivable;
use crate::postgres::fields::Fields;
use crate::postgres::page::Page;
use crate::postgres::position::BLOCK_LEN;

/// The main data of a split (`xl_btree_split`).
struct Split {
    level: u32,
    first_right: u16,
    new_item: u16,
    posting_offset: u16,
}

impl Split {
    fn read(record: &Record<'_>) -> Result<Self, Underivable> {
        let mut main = record.fields();
        Ok(Self {
            level: main.u32()?,
            first_right: main.u16()?,
            new_item: main.u16()?,
            posting_offset: main.u16()?,
        })
    }

    fn leaf_flag(&self) -> u16 {
        if self.level == 0 { LEAF } else { 0 }
    }
}

/// The right half, from nothing. Follows `btree_xlog_split`.
pub(super) fn right(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let split = Split::read(record)?;
    let next = record.reference(2).map_or(0, |reference| reference.tag.block);
    init(page, record.block_of(0)?, next, split.level, split.leaf_flag())?;
    restore_items(page, record.data(reference))
}

/// What of the new items goes to the left half.
struct Left<'a> {
    /// The new item, if it goes left.
    new: Option<&'a [u8]>,
    /// The posting list that was split, in its new form, and its number.
    posting: Option<(u16, &'a [u8])>,
}

/// The left half, out of the page and the record. Follows `btree_xlog_split`.
pub(super) fn left(
    record: &Record<'_>,
    reference: &BlockReference,
    new_goes_left: bool,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let split = Split::read(record)?;
    let mut data = Fields(record.data(reference));
    let has_new = new_goes_left || split.posting_offset != 0;
    let new = if has_new { front_tuple(&mut data)? } else { &[] };
    let high_key = front_tuple(&mut data)?;
    if !data.0.is_empty() {
        return Err(Underivable::BadRecord("there is data behind the high key"));
    }

    let (mut new_copy, mut posting_copy) = ([0; BLOCK_LEN], [0; BLOCK_LEN]);
    let mut left = Left { new: new_goes_left.then_some(new), posting: None };
    if split.posting_offset != 0 {
        let number =
            split.new_item.checked_sub(1).ok_or(Underivable::BadRecord("no item before the new one"))?;
        let old = page.item(number)?;
        let (posting, new_copy) = (&mut posting_copy[..old.len()], &mut new_copy[..new.len()]);
        posting.copy_from_slice(old);
        new_copy.copy_from_slice(new);
        let tid = swap_posting(posting, new, split.posting_offset.into())?;
        new_copy[..tid.len()].copy_from_slice(&tid);
        left = Left { new: new_goes_left.then_some(new_copy), posting: Some((number, posting)) };
    }
    rebuild(page, &split, &left, high_key)?;

    let mut opaque = Opaque::of(page)?;
    opaque.set_flags(INCOMPLETE_SPLIT | split.leaf_flag());
    opaque.set_next(record.block_of(1)?);
    opaque.set_cycle_id(0);
    Ok(())
}

/// Fills a fresh page item by item, which keeps the physical order that the original had.
fn rebuild(page: &mut Page<'_>, split: &Split, left: &Left<'_>, high_key: &[u8]) -> Result<(), Underivable> {
    let original = &mut page.block().clone();
    let original = &mut Page::new(original);
    original.check_pointers()?;
    page.init_like(original);
    page.add_item(HIGH_KEY, high_key)?;
    for number in first_data_item(original)?..split.first_right {
        match left.posting {
            Some((replaced, posting)) if replaced == number => {
                page.push_item(posting)?;
                continue;
            }
            _ => {}
        }
        if let Some(new) = left.new.filter(|_| number == split.new_item) {
            page.push_item(new)?;
        }
        page.push_item(original.item(number)?)?;
    }
    match left.new.filter(|_| split.first_right == split.new_item) {
        Some(new) => page.push_item(new),
        None => Ok(()),
    }
}

//! Items that are removed leave gaps, which the other items close up. This is where redo of heap pages spends most of
//! its time: pages that are updated again and again are pruned as often.

use std::ops::Range;

use super::{BLOCK_LEN, ItemState, LINE_POINTER_LEN, LinePointer, PAGE_HEADER_LEN, Page, UNUSED};
use crate::postgres::error::Underivable;
use crate::postgres::fields::align8;

impl Page<'_> {
    /// Removes items, whose numbers ascend, with their line pointers. Follows `PageIndexMultiDelete`.
    pub fn delete_items(
        &mut self,
        numbers: impl DoubleEndedIterator<Item = u16> + ExactSizeIterator,
    ) -> Result<(), Underivable> {
        if numbers.len() <= 2 {
            return numbers.rev().try_for_each(|number| self.delete_item(number));
        }
        self.check_aligned_pointers()?;
        let mut numbers = numbers.peekable();
        let mut kept = Kept::of(self);
        let mut count = 0;
        for number in 1..=self.item_count() {
            self.checked_item(number)?;
            if numbers.next_if_eq(&number).is_none() {
                let pointer = self.line_pointer(number)?;
                kept.add(pointer, true);
                count += 1;
                self.set_line_pointer(count, pointer)?;
            }
        }
        if numbers.next().is_some() {
            return Err(Underivable::BadRecord("the items to delete do not ascend"));
        }
        self.set_lower(PAGE_HEADER_LEN + usize::from(count) * LINE_POINTER_LEN);
        self.compactify(kept)
    }

    /// Packs the items towards the special space in the order of their line pointers, drops unused
    /// pointers at the end. Follows `PageRepairFragmentation`.
    pub fn repair_fragmentation(&mut self) -> Result<(), Underivable> {
        self.check_aligned_pointers()?;
        let lower = self.lower();
        let mut kept = Kept::of(self);
        let (mut unused, mut last_used) = (0, 0);
        let pointers = self.bytes[PAGE_HEADER_LEN..lower].as_chunks_mut::<LINE_POINTER_LEN>().0;
        for (number, bytes) in (1..).zip(&mut *pointers) {
            let pointer = LinePointer::from_bits(u32::from_le_bytes(*bytes));
            let used = pointer.state != ItemState::Unused;
            if !used && *bytes != [0; LINE_POINTER_LEN] {
                *bytes = UNUSED.bits().to_le_bytes();
            }
            unused += usize::from(!used);
            last_used = if used { number } else { last_used };
            kept.add(pointer, used);
        }
        let dropped = pointers.len() - last_used;
        self.compactify(kept)?;
        self.set_lower(lower - dropped * LINE_POINTER_LEN);
        self.hint_free_lines(unused > dropped);
        Ok(())
    }

    /// Moves the items of all line pointers up against the special space, in their order. Follows `compactify_tuples`:
    /// the first items that need not move are passed over, what lies together moves together, and where the items are
    /// in order already nothing is copied aside.
    fn compactify(&mut self, kept: Kept) -> Result<(), Underivable> {
        let (lower, upper) = (self.lower(), self.upper());
        if kept.outside {
            return Err(Underivable::BadPage("a line pointer points outside the items"));
        }
        if kept.total > kept.special.saturating_sub(lower) {
            return Err(Underivable::BadPage("its items overlap"));
        }
        let (front, items) = self.bytes.split_at_mut(lower);
        let pointers = front[PAGE_HEADER_LEN..].as_chunks_mut::<LINE_POINTER_LEN>().0;
        let (in_place, end) = count_in_place(pointers, kept.special);
        let pointers = &mut pointers[in_place..];
        let target = if kept.descending {
            pack(pointers, end, |run, to| items.copy_within(run.start - lower..run.end - lower, to - lower))?
        } else {
            let mut aside = [0; BLOCK_LEN];
            aside[upper..end].copy_from_slice(&items[upper - lower..end - lower]);
            pack(pointers, end, |run, to| items[to - lower..][..run.len()].copy_from_slice(&aside[run]))?
        };
        self.set_upper(target);
        Ok(())
    }
}

/// Gives the items of line pointers, all of which lie before `end`, new places against `end`, and calls `move_to` with
/// the runs of bytes that move there. Returns where the last item begins.
#[inline(always)]
fn pack(
    pointers: &mut [[u8; LINE_POINTER_LEN]],
    end: usize,
    mut move_to: impl FnMut(Range<usize>, usize),
) -> Result<usize, Underivable> {
    let mut target = end;
    let mut run = end..end;
    for bytes in pointers {
        let pointer = LinePointer::from_bits(u32::from_le_bytes(*bytes));
        if pointer.len == 0 {
            continue;
        }
        let len = align8(pointer.len);
        if pointer.offset + len > end {
            return Err(Underivable::BadPage("its items overlap"));
        }
        if pointer.offset + len != run.start {
            move_to(run.clone(), target);
            run.end = pointer.offset + len;
        }
        run.start = pointer.offset;
        target -= len;
        *bytes = LinePointer { offset: target, ..pointer }.bits().to_le_bytes();
    }
    move_to(run, target);
    Ok(target)
}

/// How many line pointers from the first on have items that lie where they belong, packed against `special`, and where
/// the last of those items begins.
fn count_in_place(pointers: &[[u8; LINE_POINTER_LEN]], special: usize) -> (usize, usize) {
    let mut target = special;
    for (index, bytes) in pointers.iter().enumerate() {
        let pointer = LinePointer::from_bits(u32::from_le_bytes(*bytes));
        let len = align8(pointer.len);
        if pointer.len != 0 && pointer.offset + len != target {
            return (index, target);
        }
        target -= len;
    }
    (pointers.len(), target)
}

/// What is known of the items that stay in a page, before they move.
#[derive(Clone, Copy)]
struct Kept {
    upper: usize,
    special: usize,
    /// Their bytes, aligned.
    total: usize,
    /// Whether each lies before the one of the line pointer before it.
    descending: bool,
    /// Whether one lies elsewhere than among the items.
    outside: bool,
    last: usize,
}

impl Kept {
    fn of(page: &Page<'_>) -> Self {
        let (upper, special) = (page.upper(), page.special());
        Self { upper, special, total: 0, descending: true, outside: false, last: BLOCK_LEN }
    }

    /// Adds the item of a line pointer, if that is used and has storage. Without branches: on a page that was updated
    /// for long, which pointers have items is hard to foretell.
    fn add(&mut self, LinePointer { offset, len, .. }: LinePointer, used: bool) {
        let stored = used & (len != 0);
        let size = align8(len);
        self.total += if stored { size } else { 0 };
        self.outside |= stored & ((offset < self.upper) | (offset + size > self.special));
        self.descending &= !stored | (offset < self.last);
        self.last = if stored { offset } else { self.last };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A page of items in any order of their line pointers, some of which have none unless `all_stored`.
    fn any_page(all_stored: bool) -> impl Strategy<Value = Box<[u8; BLOCK_LEN]>> {
        let items =
            prop::collection::vec((1_usize..150, if all_stored { 2_u8 } else { 0 }..6, any::<u8>()), 0..50);
        (items.clone().prop_shuffle(), any::<u64>()).prop_map(|(items, order)| {
            let mut block = Box::new([0; BLOCK_LEN]);
            let mut page = Page::new(&mut block);
            page.init(16);
            for (len, state, byte) in items {
                // Neighbours trade places now and then, so that items do not descend.
                let number = if order >> (len % 64) & 1 == 0 {
                    page.item_count() + 1
                } else {
                    page.item_count().max(1)
                };
                page.add_item(number, &vec![byte; len]).unwrap();
                let pointer = page.line_pointer(number).unwrap();
                let pointer = match state {
                    0 => UNUSED,
                    1 => LinePointer { offset: 1, state: ItemState::Redirect, len: 0 },
                    2 => LinePointer { state: ItemState::Dead, ..pointer },
                    _ => pointer,
                };
                page.set_line_pointer(number, pointer).unwrap();
            }
            block
        })
    }

    /// What the line pointers say, with the items instead of where they lie.
    fn content(page: &Page<'_>) -> Vec<(ItemState, Vec<u8>)> {
        let item = |number| match page.line_pointer(number).unwrap() {
            LinePointer { state, len: 0, offset } => (state, vec![offset as u8]),
            LinePointer { state, .. } => (state, page.item(number).unwrap().to_vec()),
        };
        (1..=page.item_count()).map(item).collect()
    }

    /// Items in the order of their line pointers, one against the other.
    fn assert_packed(page: &Page<'_>) {
        let mut end = page.special();
        for number in 1..=page.item_count() {
            let pointer = page.line_pointer(number).unwrap();
            if pointer.len != 0 {
                assert_eq!(pointer.offset + align8(pointer.len), end);
                end = pointer.offset;
            }
        }
        assert_eq!(page.upper(), end);
    }

    proptest! {
        #[test]
        fn pruned_pages_keep_their_items_and_pack_them(mut block in any_page(false)) {
            let mut page = Page::new(&mut block);
            let mut expected = content(&page);
            while expected.last().is_some_and(|(state, _)| *state == ItemState::Unused) {
                expected.pop();
            }
            page.repair_fragmentation().unwrap();
            prop_assert_eq!(content(&page), expected);
            assert_packed(&page);
        }

        #[test]
        fn deleted_items_are_gone_and_the_others_packed(mut block in any_page(true), doomed in any::<u64>()) {
            let mut page = Page::new(&mut block);
            page.repair_fragmentation().unwrap();
            let count = page.item_count();
            let doomed: Vec<u16> = (1..=count).filter(|number| doomed >> number & 1 != 0).collect();
            let mut number = 0;
            let mut expected = content(&page);
            expected.retain(|_| {
                number += 1;
                !doomed.contains(&number)
            });
            page.delete_items(doomed.into_iter()).unwrap();
            prop_assert_eq!(content(&page), expected);
            assert_packed(&page);
        }
    }
}

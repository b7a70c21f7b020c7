//! The page layout that heap and indexes share, and what redo does to it. Ported from
//! `src/backend/storage/page/bufpage.c`.
//!
//! A page is a header, line pointers that grow upwards, a hole, items that grow downwards, and the access method's
//! special space. Every access is checked against the block; a page whose pointers make no sense is
//! [`Underivable::BadPage`].

mod compaction;

use std::ops::Range;

use super::error::Underivable;
use super::fields::align8;
use super::position::{BLOCK_LEN, WalPosition};

/// A block's bytes.
pub type Block = [u8; BLOCK_LEN];

/// Bytes of the page header (`SizeOfPageHeaderData`), where the line pointers begin.
pub const PAGE_HEADER_LEN: usize = 24;
/// Bytes of a line pointer (`ItemIdData`).
pub const LINE_POINTER_LEN: usize = 4;
/// The most items of a heap page (`MaxHeapTuplesPerPage`).
pub const MAX_HEAP_ITEMS: u16 = 291;

const AT_LSN: usize = 0;
const AT_FLAGS: usize = 10;
const AT_LOWER: usize = 12;
const AT_UPPER: usize = 14;
const AT_SPECIAL: usize = 16;
const AT_SIZE_VERSION: usize = 18;
const AT_PRUNE_XID: usize = 20;

/// In the header's flags: there are unused line pointers.
pub const PD_HAS_FREE_LINES: u16 = 0x0001;
/// In the header's flags: an update found no room.
pub const PD_PAGE_FULL: u16 = 0x0002;
/// In the header's flags: all tuples are visible to everyone.
pub const PD_ALL_VISIBLE: u16 = 0x0004;

/// What a line pointer says of its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ItemState {
    /// Nothing.
    Unused = 0,
    /// It is there.
    Normal = 1,
    /// It moved to another line pointer of the page.
    Redirect = 2,
    /// It is dead, with or without storage.
    Dead = 3,
}

/// A line pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinePointer {
    /// Where the item begins in the page; for a redirect the item number it leads to.
    pub offset: usize,
    /// What it says.
    pub state: ItemState,
    /// The item's bytes; 0 without storage.
    pub len: usize,
}

impl LinePointer {
    fn from_bits(bits: u32) -> Self {
        let state = match bits >> 15 & 3 {
            0 => ItemState::Unused,
            1 => ItemState::Normal,
            2 => ItemState::Redirect,
            _ => ItemState::Dead,
        };
        Self { offset: (bits & 0x7fff) as usize, state, len: (bits >> 17) as usize }
    }

    fn bits(self) -> u32 {
        self.offset as u32 & 0x7fff | (self.state as u32) << 15 | (self.len as u32) << 17
    }
}

/// A page that is being changed.
#[derive(Debug)]
pub struct Page<'a> {
    bytes: &'a mut Block,
}

impl<'a> Page<'a> {
    /// The page in a block.
    pub fn new(bytes: &'a mut Block) -> Self {
        Self { bytes }
    }

    /// Its bytes.
    pub fn block(&self) -> &Block {
        self.bytes
    }

    /// Its bytes, to change.
    pub fn block_mut(&mut self) -> &mut Block {
        self.bytes
    }

    /// Makes it an empty page with that much special space. Follows `PageInit`.
    pub fn init(&mut self, special_len: usize) {
        self.bytes.fill(0);
        let special = BLOCK_LEN - align8(special_len);
        self.put_u16(AT_LOWER, PAGE_HEADER_LEN as u16);
        self.put_u16(AT_UPPER, special as u16);
        self.put_u16(AT_SPECIAL, special as u16);
        self.put_u16(AT_SIZE_VERSION, BLOCK_LEN as u16 | 4);
    }

    /// Makes it empty but for the header and special space of `other`. Follows `PageGetTempPageCopySpecial`: the flags
    /// and the pruning hint are reset, the LSN too, which the record sets anyway. `other` must have ordered pointers.
    pub fn init_like(&mut self, other: &Page<'_>) {
        let special = other.special();
        self.init(BLOCK_LEN - special);
        self.bytes[special..].copy_from_slice(&other.bytes[special..]);
    }

    /// Whether it was never initialised (`PageIsNew`).
    pub fn is_new(&self) -> bool {
        self.upper() == 0
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn put_u16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// The position of the last record that changed it: two numbers of 32 bits, the high one first.
    pub fn lsn(&self) -> WalPosition {
        let half = |at: usize| {
            u64::from(u32::from_le_bytes([
                self.bytes[at],
                self.bytes[at + 1],
                self.bytes[at + 2],
                self.bytes[at + 3],
            ]))
        };
        WalPosition(half(AT_LSN) << 32 | half(AT_LSN + 4))
    }

    /// Sets [`Page::lsn`].
    pub fn set_lsn(&mut self, lsn: WalPosition) {
        self.bytes[AT_LSN..AT_LSN + 4].copy_from_slice(&((lsn.0 >> 32) as u32).to_le_bytes());
        self.bytes[AT_LSN + 4..AT_LSN + 8].copy_from_slice(&(lsn.0 as u32).to_le_bytes());
    }

    /// The header's flags.
    pub fn flags(&self) -> u16 {
        self.u16(AT_FLAGS)
    }

    /// Sets and clears flags of the header.
    pub fn change_flags(&mut self, set: u16, clear: u16) {
        self.put_u16(AT_FLAGS, self.flags() & !clear | set);
    }

    /// Where the line pointers end.
    pub fn lower(&self) -> usize {
        usize::from(self.u16(AT_LOWER))
    }

    /// Sets [`Page::lower`].
    pub fn set_lower(&mut self, lower: usize) {
        self.put_u16(AT_LOWER, lower as u16);
    }

    /// Where the items begin.
    pub fn upper(&self) -> usize {
        usize::from(self.u16(AT_UPPER))
    }

    /// Sets [`Page::upper`].
    pub fn set_upper(&mut self, upper: usize) {
        self.put_u16(AT_UPPER, upper as u16);
    }

    /// Where the special space begins.
    pub fn special(&self) -> usize {
        usize::from(self.u16(AT_SPECIAL))
    }

    /// The oldest transaction whose tuples here may be pruned; 0 if none.
    pub fn prune_xid(&self) -> u32 {
        u32::from_le_bytes([self.bytes[20], self.bytes[21], self.bytes[22], self.bytes[23]])
    }

    /// Sets [`Page::prune_xid`].
    pub fn set_prune_xid(&mut self, xid: u32) {
        self.bytes[AT_PRUNE_XID..AT_PRUNE_XID + 4].copy_from_slice(&xid.to_le_bytes());
    }

    /// The special space, if it has exactly `len` bytes.
    pub fn special_space(&mut self, len: usize) -> Result<&mut [u8], Underivable> {
        let special = self.special();
        if special + len != BLOCK_LEN {
            return Err(Underivable::BadPage("its special space has another length"));
        }
        Ok(&mut self.bytes[special..])
    }

    /// The number of line pointers (`PageGetMaxOffsetNumber`).
    pub fn item_count(&self) -> u16 {
        (self.lower().saturating_sub(PAGE_HEADER_LEN) / LINE_POINTER_LEN) as u16
    }

    /// Fails unless header, items and special space lie in order within the block.
    pub fn check_pointers(&self) -> Result<(), Underivable> {
        let (lower, upper, special) = (self.lower(), self.upper(), self.special());
        let ordered = lower >= PAGE_HEADER_LEN && lower <= upper && upper <= special && special <= BLOCK_LEN;
        if ordered { Ok(()) } else { Err(Underivable::BadPage("its header's pointers are out of order")) }
    }

    fn check_aligned_pointers(&self) -> Result<(), Underivable> {
        self.check_pointers()?;
        if self.special().is_multiple_of(8) {
            Ok(())
        } else {
            Err(Underivable::BadPage("its special space is askew"))
        }
    }

    /// The line pointer of item `number`, from 1.
    pub fn line_pointer(&self, number: u16) -> Result<LinePointer, Underivable> {
        if number == 0 || number > self.item_count() {
            return Err(Underivable::BadPage("it has no item of that number"));
        }
        let at = PAGE_HEADER_LEN + usize::from(number - 1) * LINE_POINTER_LEN;
        let bytes = self
            .bytes
            .get(at..at + 4)
            .ok_or(Underivable::BadPage("its header's pointers are out of order"))?;
        Ok(LinePointer::from_bits(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
    }

    /// Overwrites the line pointer of item `number`.
    pub fn set_line_pointer(&mut self, number: u16, pointer: LinePointer) -> Result<(), Underivable> {
        self.line_pointer(number)?;
        let at = PAGE_HEADER_LEN + usize::from(number - 1) * LINE_POINTER_LEN;
        self.bytes[at..at + 4].copy_from_slice(&pointer.bits().to_le_bytes());
        Ok(())
    }

    /// The bytes of an item that has storage.
    pub fn item(&self, number: u16) -> Result<&[u8], Underivable> {
        let range = self.item_range(number)?;
        Ok(&self.bytes[range])
    }

    /// The bytes of an item that has storage, to change.
    pub fn item_mut(&mut self, number: u16) -> Result<&mut [u8], Underivable> {
        let range = self.item_range(number)?;
        Ok(&mut self.bytes[range])
    }

    fn item_range(&self, number: u16) -> Result<Range<usize>, Underivable> {
        let pointer = self.line_pointer(number)?;
        let end = pointer.offset + pointer.len;
        if pointer.len == 0 || pointer.offset < PAGE_HEADER_LEN || end > BLOCK_LEN {
            return Err(Underivable::BadPage("an item lies outside"));
        }
        Ok(pointer.offset..end)
    }

    /// Makes room for an item of `len` bytes at `number` and returns the room. Line pointers from `number` on move up
    /// by one, unless `overwrite` says that the pointer there is unused. Follows `PageAddItemExtended` with a given
    /// offset number.
    pub fn reserve_item(
        &mut self,
        number: u16,
        len: usize,
        overwrite: bool,
    ) -> Result<&mut [u8], Underivable> {
        self.check_pointers()?;
        let limit = self.item_count() + 1;
        if number == 0 || number > limit {
            return Err(Underivable::BadPage("the item's number leaves a gap"));
        }
        let mut lower = self.lower();
        let shuffle = number < limit && !overwrite;
        if number < limit && overwrite {
            let pointer = self.line_pointer(number)?;
            if pointer.state != ItemState::Unused || pointer.len != 0 {
                return Err(Underivable::BadPage("the item's line pointer is used"));
            }
        }
        if number == limit || shuffle {
            lower += LINE_POINTER_LEN;
        }
        let upper = self.upper().checked_sub(align8(len)).filter(|&upper| lower <= upper);
        let upper = upper.ok_or(Underivable::BadPage("it has no room for the item"))?;
        if shuffle {
            let from = PAGE_HEADER_LEN + usize::from(number - 1) * LINE_POINTER_LEN;
            self.bytes.copy_within(from..lower - LINE_POINTER_LEN, from + LINE_POINTER_LEN);
        }
        self.set_lower(lower);
        self.set_upper(upper);
        self.set_line_pointer(number, LinePointer { offset: upper, state: ItemState::Normal, len })?;
        Ok(&mut self.bytes[upper..upper + len])
    }

    /// Adds an item at `number`; pointers from there on move up. Follows `PageAddItem` without its flags.
    pub fn add_item(&mut self, number: u16, item: &[u8]) -> Result<(), Underivable> {
        self.reserve_item(number, item.len(), false)?.copy_from_slice(item);
        Ok(())
    }

    /// Adds an item behind the last one.
    pub fn push_item(&mut self, item: &[u8]) -> Result<(), Underivable> {
        self.add_item(self.item_count() + 1, item)
    }

    /// Removes an item that has storage and its line pointer. Follows `PageIndexTupleDelete`.
    pub fn delete_item(&mut self, number: u16) -> Result<(), Underivable> {
        let (offset, size) = self.checked_item(number)?;
        let at = PAGE_HEADER_LEN + usize::from(number - 1) * LINE_POINTER_LEN;
        let lower = self.lower();
        self.bytes.copy_within(at + LINE_POINTER_LEN..lower, at);
        self.set_lower(lower - LINE_POINTER_LEN);
        self.close_gap(offset, size)
    }

    /// Removes an item but keeps its line pointer as an unused one, unless it is the last. Follows
    /// `PageIndexTupleDeleteNoCompact`.
    pub fn delete_item_keeping_pointer(&mut self, number: u16) -> Result<(), Underivable> {
        let (offset, size) = self.checked_item(number)?;
        if number < self.item_count() {
            self.set_line_pointer(number, UNUSED)?;
        } else {
            self.set_lower(self.lower() - LINE_POINTER_LEN);
        }
        self.close_gap(offset, size)
    }

    /// Where an item lies and how much room it takes, checked as `PageIndexTupleDelete` checks it.
    fn checked_item(&self, number: u16) -> Result<(usize, usize), Underivable> {
        self.check_aligned_pointers()?;
        let LinePointer { offset, len, .. } = self.line_pointer(number)?;
        if offset < self.upper() || offset + align8(len) > self.special() || offset % 8 != 0 {
            return Err(Underivable::BadPage("a line pointer points outside the items"));
        }
        Ok((offset, align8(len)))
    }

    /// Moves the items before `offset` up by `size` and their line pointers with them.
    fn close_gap(&mut self, offset: usize, size: usize) -> Result<(), Underivable> {
        let upper = self.upper();
        self.bytes.copy_within(upper..offset, upper + size);
        self.set_upper(upper + size);
        self.shift_pointers(offset, size as isize)
    }

    fn shift_pointers(&mut self, up_to: usize, by: isize) -> Result<(), Underivable> {
        for number in 1..=self.item_count() {
            let mut pointer = self.line_pointer(number)?;
            if pointer.len != 0 && pointer.offset <= up_to {
                pointer.offset = pointer.offset.wrapping_add_signed(by) & 0x7fff;
                self.set_line_pointer(number, pointer)?;
            }
        }
        Ok(())
    }

    /// Replaces an item, moving the items before it if the length differs. Follows `PageIndexTupleOverwrite`.
    pub fn overwrite_item(&mut self, number: u16, item: &[u8]) -> Result<(), Underivable> {
        let (offset, old) = self.checked_item(number)?;
        let new = align8(item.len());
        let upper = self.upper();
        if new > old + (upper - self.lower()) {
            return Err(Underivable::BadPage("it has no room for the item"));
        }
        let shift = old as isize - new as isize;
        if shift != 0 {
            let target = upper.wrapping_add_signed(shift);
            self.bytes.copy_within(upper..offset, target);
            self.set_upper(target);
            self.shift_pointers(offset, shift)?;
        }
        let state = self.line_pointer(number)?.state;
        let offset = offset.wrapping_add_signed(shift);
        self.set_line_pointer(number, LinePointer { offset, state, len: item.len() })?;
        self.item_mut(number)?.copy_from_slice(item);
        Ok(())
    }

    /// Drops unused line pointers at the end, but never the first. Follows `PageTruncateLinePointerArray`.
    pub fn truncate_line_pointers(&mut self) -> Result<(), Underivable> {
        let mut count = self.item_count();
        while count > 1 && self.line_pointer(count)?.state == ItemState::Unused {
            count -= 1;
        }
        self.set_lower(PAGE_HEADER_LEN + usize::from(count) * LINE_POINTER_LEN);
        let mut free = false;
        for number in 1..=count {
            free |= self.line_pointer(number)?.state == ItemState::Unused;
        }
        self.hint_free_lines(free);
        Ok(())
    }

    fn hint_free_lines(&mut self, free: bool) {
        if free { self.change_flags(PD_HAS_FREE_LINES, 0) } else { self.change_flags(0, PD_HAS_FREE_LINES) }
    }
}

/// A line pointer of no use.
pub const UNUSED: LinePointer = LinePointer { offset: 0, state: ItemState::Unused, len: 0 };

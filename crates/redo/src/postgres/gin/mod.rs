//! Redo of resource manager Gin. Ported from `src/backend/access/gin/ginxlog.c`.
//!
//! * [`posting`]: the compressed lists of heap pointers in leaves of posting trees, and how records change them;
//! * here: entry pages, inner pages of posting trees, the pending list and the metapage.

mod posting;

use super::btree::tuple::IndexTuple;
use super::decode::record::{BlockReference, Record};
use super::error::Underivable;
use super::fields::{Fields, u16_at};
use super::outcome::Outcome;
use super::page::{PAGE_HEADER_LEN, Page};

const CREATE_PTREE: u8 = 0x10;
const INSERT: u8 = 0x20;
const SPLIT: u8 = 0x30;
const VACUUM_PAGE: u8 = 0x40;
const DELETE_PAGE: u8 = 0x50;
const UPDATE_META_PAGE: u8 = 0x60;
const INSERT_LISTPAGE: u8 = 0x70;
const DELETE_LISTPAGE: u8 = 0x80;
const VACUUM_DATA_LEAF_PAGE: u8 = 0x90;

const INSERT_IS_DATA: u16 = 0x01;
const INSERT_IS_LEAF: u16 = 0x02;

/// Bytes of a page's special space (`GinPageOpaqueData`).
const OPAQUE_LEN: usize = 8;
const AT_MAXOFF: usize = 4;
const AT_FLAGS: usize = 6;

const DATA: u16 = 1;
const LEAF: u16 = 1 << 1;
pub(crate) const DELETED: u16 = 1 << 2;
const META: u16 = 1 << 3;
const LIST: u16 = 1 << 4;
const LIST_FULL_ROW: u16 = 1 << 5;
const INCOMPLETE_SPLIT: u16 = 1 << 6;
const COMPRESSED: u16 = 1 << 7;

const META_LEN: usize = 56;
/// Where the data of a posting tree's page begins: behind the right bound.
const DATA_AT: usize = PAGE_HEADER_LEN + 8;
/// Bytes of an item of a posting tree's inner page: the child's block and a heap pointer.
const POSTING_ITEM_LEN: usize = 10;
const NO_BLOCK: u32 = u32::MAX;

/// The block of a reference after the record. Follows `gin_redo`.
pub(crate) fn redo(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<Outcome, Underivable> {
    let operation = record.operation();
    match (operation, reference.id) {
        (CREATE_PTREE, 0) => create_tree(record, page)?,
        (INSERT, 0) => insert(record, reference, page)?,
        (INSERT, 1) | (SPLIT, 3) => clear_incomplete_split(page)?,
        (SPLIT, 0..=2) | (VACUUM_PAGE, 0) => {
            return Err(Underivable::BadImage("the record should have brought one"));
        }
        (VACUUM_DATA_LEAF_PAGE, 0) => posting::recompress(page, record.data(reference))?,
        (DELETE_PAGE, _) => delete_page(record, reference, page)?,
        (UPDATE_META_PAGE, 0) => {
            let mut main = record.fields();
            main.skip(16)?;
            meta(page, main.bytes(META_LEN)?)?;
        }
        (UPDATE_META_PAGE, 1) => pending_tail(record, reference, page)?,
        (INSERT_LISTPAGE, 0) => insert_list_page(record, reference, page)?,
        (DELETE_LISTPAGE, 0) => meta(page, record.fields().bytes(META_LEN)?)?,
        (DELETE_LISTPAGE, _) => init(page, DELETED)?,
        (CREATE_PTREE..=VACUUM_DATA_LEAF_PAGE, id) => {
            return Err(Underivable::UnknownReference { manager: record.manager, operation, id });
        }
        _ => return Err(Underivable::UnknownRecord { manager: record.manager, operation }),
    }
    Ok(Outcome::Changed)
}

/// The special space of a page.
pub(crate) struct Opaque<'a>(&'a mut [u8]);

impl<'a> Opaque<'a> {
    pub(crate) fn of(page: &'a mut Page<'_>) -> Result<Self, Underivable> {
        Ok(Self(page.special_space(OPAQUE_LEN)?))
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn put_u16(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn flags(&self) -> u16 {
        self.u16(AT_FLAGS)
    }

    fn set_flags(&mut self, flags: u16) {
        self.put_u16(AT_FLAGS, flags);
    }

    fn max_offset(&self) -> u16 {
        self.u16(AT_MAXOFF)
    }

    fn set_max_offset(&mut self, number: u16) {
        self.put_u16(AT_MAXOFF, number);
    }

    fn set_right(&mut self, block: u32) {
        self.0[..4].copy_from_slice(&block.to_le_bytes());
    }
}

/// Follows `GinInitPage`.
fn init(page: &mut Page<'_>, flags: u16) -> Result<(), Underivable> {
    page.init(OPAQUE_LEN);
    let mut opaque = Opaque::of(page)?;
    opaque.set_flags(flags);
    opaque.set_right(NO_BLOCK);
    Ok(())
}

/// Writes the data of a posting tree's page and says how long it is. Follows `GinDataPageSetDataSize`.
fn set_data(page: &mut Page<'_>, data: &[u8]) -> Result<(), Underivable> {
    let end = DATA_AT + data.len();
    if end > page.special() || page.special() > page.block().len() {
        return Err(Underivable::BadPage("it has no room for the data"));
    }
    page.block_mut()[DATA_AT..end].copy_from_slice(data);
    page.set_lower(end);
    Ok(())
}

/// Follows `ginRedoClearIncompleteSplit`.
fn clear_incomplete_split(page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut opaque = Opaque::of(page)?;
    let flags = opaque.flags();
    opaque.set_flags(flags & !INCOMPLETE_SPLIT);
    Ok(())
}

/// Follows `ginRedoCreatePTree`.
fn create_tree(record: &Record<'_>, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let len = main.u32()? as usize;
    init(page, DATA | LEAF | COMPRESSED)?;
    set_data(page, main.bytes(len)?)
}

/// Follows `ginRedoInsert`.
fn insert(record: &Record<'_>, reference: &BlockReference, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let flags = main.u16()?;
    if flags & !(INSERT_IS_DATA | INSERT_IS_LEAF) != 0 {
        return Err(Underivable::UnknownFlags(flags));
    }
    let is_leaf = flags & INSERT_IS_LEAF != 0;
    let right_child = if is_leaf {
        None
    } else {
        main.skip(4)?;
        Some(main.bytes(4)?)
    };
    let data = record.data(reference);
    match (flags & INSERT_IS_DATA != 0, right_child) {
        (true, None) => posting::recompress(page, data),
        (true, Some(right_child)) => insert_inner(page, data, right_child),
        (false, right_child) => insert_entry(page, data, right_child),
    }
}

/// Follows `ginRedoInsertEntry`.
fn insert_entry(page: &mut Page<'_>, data: &[u8], right_child: Option<&[u8]>) -> Result<(), Underivable> {
    let mut data = Fields(data);
    let (number, is_delete) = (data.u16()?, data.u8()?);
    data.skip(1)?;
    if let Some(right_child) = right_child {
        let pointer = page.item_mut(number)?.first_chunk_mut::<6>();
        let pointer = pointer.ok_or(Underivable::BadPage("an index tuple is shorter than its header"))?;
        pointer[..4].copy_from_slice(right_child);
        pointer[4..].fill(0);
    }
    if is_delete != 0 {
        page.delete_item(number)?;
    }
    let len = IndexTuple::new(data.0)?.size();
    page.add_item(number, data.bytes(len)?)
}

/// Follows the inner half of `ginRedoInsertData`, and `GinDataPageAddPostingItem`.
fn insert_inner(page: &mut Page<'_>, data: &[u8], right_child: &[u8]) -> Result<(), Underivable> {
    let mut data = Fields(data);
    let number = data.u16()?;
    let item = data.bytes(POSTING_ITEM_LEN)?;
    let count = Opaque::of(page)?.max_offset();
    let end = DATA_AT + usize::from(count) * POSTING_ITEM_LEN;
    if number == 0 || number > count || end + POSTING_ITEM_LEN > page.special() {
        return Err(Underivable::BadPage("the item's place is not in the page"));
    }
    let at = DATA_AT + usize::from(number - 1) * POSTING_ITEM_LEN;
    let block = page.block_mut();
    block[at..at + 4].copy_from_slice(right_child);
    block.copy_within(at..end, at + POSTING_ITEM_LEN);
    block[at..at + POSTING_ITEM_LEN].copy_from_slice(item);
    page.set_lower(end + POSTING_ITEM_LEN);
    Opaque::of(page)?.set_max_offset(count + 1);
    Ok(())
}

/// Follows `ginRedoDeletePage`: 0 is deleted, 1 its parent, 2 its left sibling.
fn delete_page(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let mut main = record.fields();
    let parent_item = main.u16()?;
    main.skip(2)?;
    let (right, xid) = (main.u32()?, main.u32()?);
    match reference.id {
        0 => {
            let mut opaque = Opaque::of(page)?;
            let flags = opaque.flags();
            opaque.set_flags(flags | DELETED);
            page.set_prune_xid(xid);
            Ok(())
        }
        1 => delete_posting_item(page, parent_item),
        2 => {
            Opaque::of(page)?.set_right(right);
            Ok(())
        }
        id => {
            let operation = record.operation();
            Err(Underivable::UnknownReference { manager: record.manager, operation, id })
        }
    }
}

/// Follows `GinPageDeletePostingItem`.
fn delete_posting_item(page: &mut Page<'_>, number: u16) -> Result<(), Underivable> {
    let count = Opaque::of(page)?.max_offset();
    let end = DATA_AT + usize::from(count) * POSTING_ITEM_LEN;
    if number == 0 || number > count || end > page.special() {
        return Err(Underivable::BadPage("the item's place is not in the page"));
    }
    let at = DATA_AT + usize::from(number - 1) * POSTING_ITEM_LEN;
    page.block_mut().copy_within(at + POSTING_ITEM_LEN..end, at);
    page.set_lower(end - POSTING_ITEM_LEN);
    Opaque::of(page)?.set_max_offset(count - 1);
    Ok(())
}

/// Follows `GinInitMetabuffer` and the copying of the record's metadata.
fn meta(page: &mut Page<'_>, data: &[u8]) -> Result<(), Underivable> {
    init(page, META)?;
    page.block_mut()[PAGE_HEADER_LEN..PAGE_HEADER_LEN + META_LEN].copy_from_slice(data);
    page.set_lower(PAGE_HEADER_LEN + META_LEN);
    Ok(())
}

/// The tail of the pending list. Follows the second half of `ginRedoUpdateMetapage`.
fn pending_tail(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let mut main = record.fields();
    main.skip(16 + META_LEN)?;
    let (_previous_tail, new_right, count) = (main.u32()?, main.u32()?, main.u32()?);
    if count > 0 {
        push_tuples(page, record.data(reference), count)?;
        let mut opaque = Opaque::of(page)?;
        let heap_tuples = opaque.max_offset();
        opaque.set_max_offset(heap_tuples.wrapping_add(1));
    } else {
        Opaque::of(page)?.set_right(new_right);
    }
    Ok(())
}

/// Follows `ginRedoInsertListPage`.
fn insert_list_page(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    let mut main = record.fields();
    let (right, count) = (main.u32()?, main.u32()?);
    let is_tail = right == NO_BLOCK;
    init(page, if is_tail { LIST | LIST_FULL_ROW } else { LIST })?;
    let mut opaque = Opaque::of(page)?;
    opaque.set_right(right);
    opaque.set_max_offset(is_tail.into());
    push_tuples(page, record.data(reference), count)
}

fn push_tuples(page: &mut Page<'_>, data: &[u8], count: u32) -> Result<(), Underivable> {
    let mut data = Fields(data);
    for _ in 0..count {
        let len = IndexTuple::new(data.0)?.size();
        page.push_item(data.bytes(len)?)?;
    }
    if data.0.is_empty() {
        Ok(())
    } else {
        Err(Underivable::BadRecord("its tuples have another total length"))
    }
}

/// The length of a posting list's segment at the front of `bytes`.
fn segment_len(bytes: &[u8]) -> Result<usize, Underivable> {
    let len = u16_at(bytes, posting::SEGMENT_HEADER_LEN - 2).ok_or(Underivable::ShortRecord)?;
    Ok(posting::SEGMENT_HEADER_LEN + usize::from(len).next_multiple_of(2))
}

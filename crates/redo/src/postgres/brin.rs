//! Redo of resource manager BRIN. Ported from `src/backend/access/brin/brin_xlog.c`.

use super::decode::record::{BlockReference, Record};
use super::error::Underivable;
use super::fields::Fields;
use super::outcome::Outcome;
use super::page::{PAGE_HEADER_LEN, Page};

const CREATE_INDEX: u8 = 0x00;
const INSERT: u8 = 0x10;
const UPDATE: u8 = 0x20;
const SAMEPAGE_UPDATE: u8 = 0x30;
const REVMAP_EXTEND: u8 = 0x40;
const DESUMMARIZE: u8 = 0x50;
const OPERATION_MASK: u8 = 0x70;
const INIT_PAGE: u8 = 0x80;

/// Bytes of a page's special space (`BrinSpecialSpace`): flags and type are its last two numbers.
const SPECIAL_LEN: usize = 8;
pub(crate) const TYPE_META: u16 = 0xf091;
const TYPE_REVMAP: u16 = 0xf092;
pub(crate) const TYPE_REGULAR: u16 = 0xf093;

const META_MAGIC: u32 = 0xa810_9cfa;
const META_LEN: usize = 16;
/// Pointers in a page of the map from ranges to their summaries.
const REVMAP_ITEMS: u32 = 1360;
const TID_LEN: usize = 6;
/// A pointer to nothing.
const NO_TID: [u8; TID_LEN] = [0xff, 0xff, 0xff, 0xff, 0, 0];

/// The block of a reference after the record. Follows `brin_redo`.
pub(crate) fn redo(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<Outcome, Underivable> {
    let operation = record.operation() & OPERATION_MASK;
    let mut main = record.fields();
    match (operation, reference.id) {
        (CREATE_INDEX, 0) => create_index(main, page)?,
        (INSERT, 0) => insert(record, reference, &Insert::read(&mut main)?, page)?,
        (INSERT, 1) => point(record, &Insert::read(&mut main)?, page)?,
        (UPDATE, id) => {
            let old = main.u16()?;
            main.skip(2)?;
            let new = Insert::read(&mut main)?;
            match id {
                0 => insert(record, reference, &new, page)?,
                1 => point(record, &new, page)?,
                2 => page.delete_item_keeping_pointer(old)?,
                _ => return Err(Underivable::UnknownReference { manager: record.manager, operation, id }),
            }
        }
        (SAMEPAGE_UPDATE, 0) => page.overwrite_item(main.u16()?, record.data(reference))?,
        (REVMAP_EXTEND, 0) => {
            let last = main.u32()?;
            page.block_mut()[PAGE_HEADER_LEN + 12..PAGE_HEADER_LEN + 16].copy_from_slice(&last.to_le_bytes());
            page.set_lower(PAGE_HEADER_LEN + META_LEN);
        }
        (REVMAP_EXTEND, 1) => init(page, TYPE_REVMAP),
        (DESUMMARIZE, 0) => {
            let (pages_per_range, heap_block) = (main.u32()?, main.u32()?);
            set_pointer(page, pages_per_range, heap_block, NO_TID)?;
        }
        (DESUMMARIZE, 1) => {
            main.skip(8)?;
            page.delete_item_keeping_pointer(main.u16()?)?;
        }
        (CREATE_INDEX..=DESUMMARIZE, id) => {
            return Err(Underivable::UnknownReference { manager: record.manager, operation, id });
        }
        _ => return Err(Underivable::UnknownRecord { manager: record.manager, operation }),
    }
    Ok(Outcome::Changed)
}

/// A page's type; 0 if its special space is not that of this access method.
pub(crate) fn page_type(page: &mut Page<'_>) -> u16 {
    page.special_space(SPECIAL_LEN).map_or(0, |special| u16::from_le_bytes([special[6], special[7]]))
}

/// Clears the flag that says that the page is being emptied, which is not logged.
pub(crate) fn clear_evacuate(page: &mut Page<'_>) -> Result<(), Underivable> {
    page.special_space(SPECIAL_LEN)?[4] &= !1;
    Ok(())
}

/// Follows `brin_page_init`.
fn init(page: &mut Page<'_>, kind: u16) {
    page.init(SPECIAL_LEN);
    if let Ok(special) = page.special_space(SPECIAL_LEN) {
        special[6..].copy_from_slice(&kind.to_le_bytes());
    }
}

/// Follows `brin_xlog_createidx` and `brin_metapage_init`.
fn create_index(mut main: Fields<'_>, page: &mut Page<'_>) -> Result<(), Underivable> {
    let (pages_per_range, version) = (main.u32()?, main.u16()?);
    init(page, TYPE_META);
    let meta = &mut page.block_mut()[PAGE_HEADER_LEN..PAGE_HEADER_LEN + META_LEN];
    meta[..4].copy_from_slice(&META_MAGIC.to_le_bytes());
    meta[4..8].copy_from_slice(&u32::from(version).to_le_bytes());
    meta[8..12].copy_from_slice(&pages_per_range.to_le_bytes());
    page.set_lower(PAGE_HEADER_LEN + META_LEN);
    Ok(())
}

/// The main data of an insertion (`xl_brin_insert`).
struct Insert {
    heap_block: u32,
    pages_per_range: u32,
    number: u16,
}

impl Insert {
    fn read(main: &mut Fields<'_>) -> Result<Self, Underivable> {
        Ok(Self { heap_block: main.u32()?, pages_per_range: main.u32()?, number: main.u16()? })
    }
}

/// The page of the summary. Follows the first half of `brin_xlog_insert_update`.
fn insert(
    record: &Record<'_>,
    reference: &BlockReference,
    insert: &Insert,
    page: &mut Page<'_>,
) -> Result<(), Underivable> {
    if record.operation() & INIT_PAGE != 0 {
        init(page, TYPE_REGULAR);
    }
    let data = record.data(reference);
    page.reserve_item(insert.number, data.len(), true)?.copy_from_slice(data);
    Ok(())
}

/// The page of the map. Follows the second half of `brin_xlog_insert_update`.
fn point(record: &Record<'_>, insert: &Insert, page: &mut Page<'_>) -> Result<(), Underivable> {
    let block = record.reference(0).ok_or(Underivable::BadRecord("no page of the summary"))?.tag.block;
    let (high, low) = (((block >> 16) as u16).to_le_bytes(), (block as u16).to_le_bytes());
    let number = insert.number.to_le_bytes();
    let tid = [high[0], high[1], low[0], low[1], number[0], number[1]];
    set_pointer(page, insert.pages_per_range, insert.heap_block, tid)
}

/// Follows `brinSetHeapBlockItemptr` in `brin_revmap.c`.
fn set_pointer(
    page: &mut Page<'_>,
    pages_per_range: u32,
    heap_block: u32,
    tid: [u8; TID_LEN],
) -> Result<(), Underivable> {
    let range = heap_block.checked_div(pages_per_range).ok_or(Underivable::BadRecord("ranges of no page"))?;
    let at = PAGE_HEADER_LEN + (range % REVMAP_ITEMS) as usize * TID_LEN;
    page.block_mut()[at..at + TID_LEN].copy_from_slice(&tid);
    Ok(())
}

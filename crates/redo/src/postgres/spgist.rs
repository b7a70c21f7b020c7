//! Redo of resource manager SPGist. Ported from `src/backend/access/spgist/spgxlog.c`.

use super::btree::tuple::IndexTuple;
use super::decode::record::{BlockReference, Record};
use super::error::Underivable;
use super::fields::{Fields, Offsets, align8, u16_at, u32_at};
use super::major::Major;
use super::outcome::Outcome;
use super::page::Page;
use super::position::BLOCK_LEN;

const ADD_LEAF: u8 = 0x10;
const MOVE_LEAFS: u8 = 0x20;
const ADD_NODE: u8 = 0x30;
const SPLIT_TUPLE: u8 = 0x40;
const PICKSPLIT: u8 = 0x50;
const VACUUM_LEAF: u8 = 0x60;
const VACUUM_ROOT: u8 = 0x70;
const VACUUM_REDIRECT: u8 = 0x80;

/// Bytes of a page's special space (`SpGistPageOpaqueData`).
const OPAQUE_LEN: usize = 8;
const PAGE_ID: u16 = 0xff82;
const AT_REDIRECTS: usize = 2;
const AT_PLACEHOLDERS: usize = 4;
const LEAF: u16 = 1 << 2;
const NULLS: u16 = 1 << 3;

const STATE_MASK: u32 = 3;
const STATE_REDIRECT: u32 = 1;
const STATE_DEAD: u32 = 2;
const STATE_PLACEHOLDER: u32 = 3;

/// Bytes of a tuple without content (`SGDTSIZE`).
const DEAD_TUPLE_LEN: usize = 16;
/// Bytes of an inner tuple's header (`SGITHDRSZ`).
const INNER_HEADER_LEN: usize = 8;
const NEXT_MASK: u16 = 0x3fff;
/// A pointer to nothing.
const NO_TID: [u8; 6] = [0xff, 0xff, 0xff, 0xff, 0, 0];

/// The block of a reference after the record. Follows `spg_redo`.
pub(crate) fn redo(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<Outcome, Underivable> {
    let operation = record.operation();
    let id = reference.id;
    match (operation, id) {
        (ADD_LEAF, 0 | 1) => add_leaf(record, id, page)?,
        (MOVE_LEAFS, 0..=2) => move_leafs(record, id, page)?,
        (ADD_NODE, 0..=2) => add_node(record, id, page)?,
        (SPLIT_TUPLE, 0 | 1) => split_tuple(record, id, page)?,
        (PICKSPLIT, 0..=3) => pick_split(record, id, page)?,
        (VACUUM_LEAF, 0) => vacuum_leaf(record, page)?,
        (VACUUM_ROOT, 0) => {
            let mut main = record.fields();
            let count = usize::from(main.u16()?);
            main.skip(10)?;
            page.delete_items(main.offsets(count)?.iter())?;
        }
        (VACUUM_REDIRECT, 0) => vacuum_redirect(record, page)?,
        (ADD_LEAF..=VACUUM_REDIRECT, id) => {
            return Err(Underivable::UnknownReference { manager: record.manager, operation, id });
        }
        _ => return Err(Underivable::UnknownRecord { manager: record.manager, operation }),
    }
    Ok(Outcome::Changed)
}

/// Follows `SpGistInitPage`.
fn init(page: &mut Page<'_>, flags: u16) -> Result<(), Underivable> {
    page.init(OPAQUE_LEN);
    let special = page.special_space(OPAQUE_LEN)?;
    special[..2].copy_from_slice(&flags.to_le_bytes());
    special[6..].copy_from_slice(&PAGE_ID.to_le_bytes());
    Ok(())
}

fn leaf_flags(stores_nulls: bool) -> u16 {
    if stores_nulls { LEAF | NULLS } else { LEAF }
}

/// Adds to one of the two counters in the special space.
fn count(page: &mut Page<'_>, at: usize, by: i32) -> Result<(), Underivable> {
    let special = page.special_space(OPAQUE_LEN)?;
    let before = u16_at(special, at).unwrap_or_default();
    let after = before.wrapping_add_signed(by as i16);
    special[at..at + 2].copy_from_slice(&after.to_le_bytes());
    Ok(())
}

fn pointer(block: u32, number: u16) -> [u8; 6] {
    let (high, low, number) =
        (((block >> 16) as u16).to_le_bytes(), (block as u16).to_le_bytes(), number.to_le_bytes());
    [high[0], high[1], low[0], low[1], number[0], number[1]]
}

fn tuple_state(item: &[u8]) -> u32 {
    u32_at(item, 0).unwrap_or_default() & STATE_MASK
}

/// The leaf tuple at the front of `data`.
fn next_leaf<'a>(data: &mut Fields<'a>) -> Result<&'a [u8], Underivable> {
    let len = u32_at(data.0, 0).ok_or(Underivable::ShortRecord)? >> 2;
    data.bytes(len as usize)
}

/// The inner tuple at the front of `data`.
fn next_inner<'a>(data: &mut Fields<'a>) -> Result<&'a [u8], Underivable> {
    let len = u16_at(data.0, 4).ok_or(Underivable::ShortRecord)?;
    data.bytes(len.into())
}

/// Adds a tuple at `number`, in place of a placeholder if one is there. Follows `addOrReplaceTuple`.
fn add_or_replace(page: &mut Page<'_>, number: u16, tuple: &[u8]) -> Result<(), Underivable> {
    if number <= page.item_count() {
        if tuple_state(page.item(number)?) != STATE_PLACEHOLDER {
            return Err(Underivable::BadPage("the tuple to replace is no placeholder"));
        }
        count(page, AT_PLACEHOLDERS, -1)?;
        page.delete_item(number)?;
    }
    page.add_item(number, tuple)
}

/// Replaces the tuple at `number`.
fn replace(page: &mut Page<'_>, number: u16, tuple: &[u8]) -> Result<(), Underivable> {
    page.delete_item(number)?;
    page.add_item(number, tuple)
}

/// Sets the next tuple of a leaf tuple's chain (`SGLT_SET_NEXTOFFSET`).
fn set_next(page: &mut Page<'_>, number: u16, next: u16) -> Result<(), Underivable> {
    let item = page.item_mut(number)?;
    let info = u16_at(item, 4).ok_or(Underivable::BadPage("a leaf tuple is shorter than its header"))?;
    item[4..6].copy_from_slice(&(info & !NEXT_MASK | next & NEXT_MASK).to_le_bytes());
    Ok(())
}

/// Points a node of an inner tuple to a tuple below. Follows `spgUpdateNodeLink` in `spgdoinsert.c`.
fn set_node_link(page: &mut Page<'_>, number: u16, node: u16, to: [u8; 6]) -> Result<(), Underivable> {
    const SHORT: Underivable = Underivable::BadPage("an inner tuple ends before the node");
    let item = page.item_mut(number)?;
    let header = u32_at(item, 0).ok_or(SHORT)?;
    let (nodes, prefix_len) = (header >> 3 & 0x1fff, (header >> 16) as usize);
    if u32::from(node) >= nodes {
        return Err(SHORT);
    }
    let mut at = INNER_HEADER_LEN + prefix_len;
    for _ in 0..node {
        at += IndexTuple::new(item.get(at..).ok_or(SHORT)?)?.size();
    }
    item.get_mut(at..at + 6).ok_or(SHORT)?.copy_from_slice(&to);
    Ok(())
}

/// Who wrote a record, and whether while building the index (`spgxlogState`).
#[derive(Clone, Copy)]
struct Writer {
    xid: u32,
    is_build: bool,
}

impl Writer {
    fn read(main: &mut Fields<'_>) -> Result<Self, Underivable> {
        let writer = Self { xid: main.u32()?, is_build: main.u8()? != 0 };
        main.skip(3)?;
        Ok(writer)
    }

    /// A tuple without content. Follows `spgFormDeadTuple` in `spgutils.c`.
    fn dead_tuple(self, state: u32, to: [u8; 6]) -> [u8; DEAD_TUPLE_LEN] {
        let mut tuple = [0; DEAD_TUPLE_LEN];
        tuple[..4].copy_from_slice(&((DEAD_TUPLE_LEN as u32) << 2 | state).to_le_bytes());
        let redirects = state == STATE_REDIRECT;
        tuple[6..12].copy_from_slice(if redirects { &to } else { &NO_TID });
        tuple[12..].copy_from_slice(&(if redirects { self.xid } else { 0 }).to_le_bytes());
        tuple
    }

    /// Puts tuples without content in place of others: the first of `numbers` becomes `first`, the rest `rest`.
    /// Follows `spgPageIndexMultiDelete` in `spgdoinsert.c`.
    fn delete(
        self,
        page: &mut Page<'_>,
        numbers: Offsets<'_>,
        (first, rest): (u32, u32),
        to: [u8; 6],
    ) -> Result<(), Underivable> {
        let Some(first_number) = numbers.get(0) else { return Ok(()) };
        let mut sorted = [0; BLOCK_LEN / 4];
        let sorted =
            sorted.get_mut(..numbers.len()).ok_or(Underivable::BadRecord("it deletes too many tuples"))?;
        sorted.iter_mut().zip(numbers.iter()).for_each(|(place, number)| *place = number);
        sorted.sort_unstable();
        page.delete_items(sorted.iter().copied())?;
        for &mut number in sorted {
            let state = if number == first_number { first } else { rest };
            page.add_item(number, &self.dead_tuple(state, to))?;
            match state {
                STATE_REDIRECT => count(page, AT_REDIRECTS, 1)?,
                STATE_PLACEHOLDER => count(page, AT_PLACEHOLDERS, 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// What tuples that moved become: while building nobody can have followed a link to them.
    fn moved(self) -> (u32, u32) {
        (if self.is_build { STATE_PLACEHOLDER } else { STATE_REDIRECT }, STATE_PLACEHOLDER)
    }
}

/// Follows `spgRedoAddLeaf`: 0 the leaf, 1 its parent.
fn add_leaf(record: &Record<'_>, id: u8, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let (new_page, nulls) = (main.u8()? != 0, main.u8()? != 0);
    let (leaf, head, parent, node) = (main.u16()?, main.u16()?, main.u16()?, main.u16()?);
    if id == 1 {
        return set_node_link(page, parent, node, pointer(record.block_of(0)?, leaf));
    }
    if new_page {
        init(page, leaf_flags(nulls))?;
    }
    let tuple = next_leaf(&mut main)?;
    if leaf == head {
        return replace(page, leaf, tuple);
    }
    add_or_replace(page, leaf, tuple)?;
    if head == 0 { Ok(()) } else { set_next(page, head, leaf) }
}

/// Follows `spgRedoMoveLeafs`: 0 the source, 1 the destination, 2 the parent.
fn move_leafs(record: &Record<'_>, id: u8, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let moves = usize::from(main.u16()?);
    let (new_page, replace_dead, nulls) = (main.u8()? != 0, main.u8()? != 0, main.u8()? != 0);
    main.skip(1)?;
    let (parent, node) = (main.u16()?, main.u16()?);
    main.skip(2)?;
    let writer = Writer::read(&mut main)?;
    let inserts = if replace_dead { 1 } else { moves + 1 };
    let deleted = main.offsets(moves)?;
    let inserted = main.offsets(inserts)?;
    let last = inserted.get(inserts - 1).ok_or(Underivable::ShortRecord)?;
    let to = pointer(record.block_of(1)?, last);
    match id {
        0 => writer.delete(page, deleted, writer.moved(), to),
        1 => {
            if new_page {
                init(page, leaf_flags(nulls))?;
            }
            inserted.iter().try_for_each(|number| add_or_replace(page, number, next_leaf(&mut main)?))
        }
        _ => set_node_link(page, parent, node, to),
    }
}

/// Follows `spgRedoAddNode`: 0 the tuple's page, 1 its new page if it moves, 2 the parent's if that is another.
fn add_node(record: &Record<'_>, id: u8, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let (number, new_number, new_page) = (main.u16()?, main.u16()?, main.u8()? != 0);
    let (parent_block, parent, node) = (main.u8()?, main.u16()?, main.u16()?);
    main.skip(2)?;
    let writer = Writer::read(&mut main)?;
    let tuple = next_inner(&mut main)?;
    let Some(new) = record.reference(1) else { return replace(page, number, tuple) };
    let to = pointer(new.tag.block, new_number);
    match id {
        0 => {
            let (state, _) = writer.moved();
            replace(page, number, &writer.dead_tuple(state, to))?;
            count(page, if writer.is_build { AT_PLACEHOLDERS } else { AT_REDIRECTS }, 1)?;
        }
        1 => {
            if new_page {
                init(page, 0)?;
            }
            add_or_replace(page, new_number, tuple)?;
        }
        _ => {}
    }
    if parent_block == id { set_node_link(page, parent, node, to) } else { Ok(()) }
}

/// Follows `spgRedoSplitTuple`: 0 takes the prefix, 1 the postfix unless that stays with it.
fn split_tuple(record: &Record<'_>, id: u8, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let (prefix_number, postfix_number) = (main.u16()?, main.u16()?);
    let (new_page, same_block) = (main.u8()? != 0, main.u8()? != 0);
    let prefix = next_inner(&mut main)?;
    let postfix = next_inner(&mut main)?;
    if id == 0 {
        replace(page, prefix_number, prefix)?;
        return if same_block { add_or_replace(page, postfix_number, postfix) } else { Ok(()) };
    }
    if new_page {
        init(page, 0)?;
    }
    add_or_replace(page, postfix_number, postfix)
}

/// The main data of a pick-split (`spgxlogPickSplit`).
struct PickSplit {
    is_root: bool,
    deletes: usize,
    inserts: usize,
    init_source: bool,
    init_destination: bool,
    inner: u16,
    init_inner: bool,
    nulls: bool,
    inner_is_parent: bool,
    parent: u16,
    node: u16,
    writer: Writer,
}

impl PickSplit {
    fn read(main: &mut Fields<'_>) -> Result<Self, Underivable> {
        let is_root = main.u8()? != 0;
        main.skip(1)?;
        let (deletes, inserts) = (main.u16()?.into(), main.u16()?.into());
        let (init_source, init_destination, inner) = (main.u8()? != 0, main.u8()? != 0, main.u16()?);
        let (init_inner, nulls, inner_is_parent) = (main.u8()? != 0, main.u8()? != 0, main.u8()? != 0);
        main.skip(1)?;
        let (parent, node) = (main.u16()?, main.u16()?);
        main.skip(2)?;
        let writer = Writer::read(main)?;
        Ok(Self {
            is_root,
            deletes,
            inserts,
            init_source,
            init_destination,
            inner,
            init_inner,
            nulls,
            inner_is_parent,
            parent,
            node,
            writer,
        })
    }
}

/// Follows `spgRedoPickSplit`: 0 the source, 1 the other leaf page, 2 the inner tuple's page, 3 the parent's.
fn pick_split(record: &Record<'_>, id: u8, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let split = PickSplit::read(&mut main)?;
    let deleted = main.offsets(split.deletes)?;
    let inserted = main.offsets(split.inserts)?;
    let selected = main.bytes(split.inserts)?;
    let inner = next_inner(&mut main)?;
    let to = pointer(record.block_of(2)?, split.inner);
    match id {
        0 if split.is_root => return Err(Underivable::BadRecord("a split of the root has no source")),
        0 if split.init_source => init(page, leaf_flags(split.nulls))?,
        0 => split.writer.delete(page, deleted, split.writer.moved(), to)?,
        1 if split.init_destination => init(page, leaf_flags(split.nulls))?,
        2 => {
            if split.init_inner {
                init(page, if split.nulls { NULLS } else { 0 })?;
            }
            add_or_replace(page, split.inner, inner)?;
            if split.inner_is_parent {
                set_node_link(page, split.parent, split.node, to)?;
            }
        }
        3 => set_node_link(page, split.parent, split.node, to)?,
        _ => {}
    }
    if id > 1 {
        return Ok(());
    }
    for (number, &page_number) in inserted.iter().zip(selected) {
        let tuple = next_leaf(&mut main)?;
        if u8::from(page_number != 0) == id {
            add_or_replace(page, number, tuple)?;
        }
    }
    Ok(())
}

/// Follows `spgRedoVacuumLeaf`.
fn vacuum_leaf(record: &Record<'_>, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let mut next_count = || main.u16().map(usize::from);
    let (dead, placeholders, moves, chains) = (next_count()?, next_count()?, next_count()?, next_count()?);
    let writer = Writer::read(&mut main)?;
    writer.delete(page, main.offsets(dead)?, (STATE_DEAD, STATE_DEAD), NO_TID)?;
    let gone = (STATE_PLACEHOLDER, STATE_PLACEHOLDER);
    writer.delete(page, main.offsets(placeholders)?, gone, NO_TID)?;
    let (sources, targets) = (main.offsets(moves)?, main.offsets(moves)?);
    for (source, target) in sources.iter().zip(targets.iter()) {
        let (from, to) = (page.line_pointer(source)?, page.line_pointer(target)?);
        page.set_line_pointer(source, to)?;
        page.set_line_pointer(target, from)?;
    }
    writer.delete(page, sources, gone, NO_TID)?;
    let (links, nexts) = (main.offsets(chains)?, main.offsets(chains)?);
    links.iter().zip(nexts.iter()).try_for_each(|(number, next)| set_next(page, number, next))
}

/// What differs by version: how much the record says for standbys before its offsets. Since 16 also whether it concerns a
/// catalog.
const fn horizon_len(major: Major) -> usize {
    match major {
        Major::V14 | Major::V15 => 4,
        Major::V16 | Major::V17 | Major::V18 => 6,
    }
}

/// Follows `spgRedoVacuumRedirect`.
fn vacuum_redirect(record: &Record<'_>, page: &mut Page<'_>) -> Result<(), Underivable> {
    let mut main = record.fields();
    let (redirects, first_placeholder) = (main.u16()?, main.u16()?);
    main.skip(horizon_len(record.major))?;
    for number in main.offsets(redirects.into())?.iter() {
        let item = page.item_mut(number)?;
        let header = u32_at(item, 0).filter(|_| item.len() >= align8(DEAD_TUPLE_LEN));
        let header = header.ok_or(Underivable::BadPage("a redirect is shorter than its header"))?;
        item[..4].copy_from_slice(&(header & !STATE_MASK | STATE_PLACEHOLDER).to_le_bytes());
        item[6..12].copy_from_slice(&NO_TID);
    }
    count(page, AT_REDIRECTS, -i32::from(redirects))?;
    count(page, AT_PLACEHOLDERS, redirects.into())?;
    if first_placeholder == 0 {
        return Ok(());
    }
    let last = page.item_count();
    count(page, AT_PLACEHOLDERS, -(i32::from(last) - i32::from(first_placeholder) + 1))?;
    page.delete_items(first_placeholder..last + 1)
}

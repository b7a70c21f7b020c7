//! Compressed lists of heap pointers. Ported from `src/backend/access/gin/ginpostinglist.c` and `ginRedoRecompress`.
//!
//! A leaf of a posting tree holds segments: the first pointer whole, the length of the rest, and for each further
//! pointer the distance from the one before, seven bits a byte.

use super::{COMPRESSED, DATA_AT, Opaque, segment_len, set_data};
use crate::postgres::error::Underivable;
use crate::postgres::fields::Fields;
use crate::postgres::page::Page;
use crate::postgres::position::BLOCK_LEN;

/// Bytes before a segment's distances: a pointer and a length.
pub(super) const SEGMENT_HEADER_LEN: usize = 8;
const TID_LEN: usize = 6;
const ITEM_NUMBER_BITS: u32 = 11;
/// The longest distance, in bytes.
const MAX_DISTANCE_LEN: u32 = 7;

const SEGMENT_DELETE: u8 = 1;
const SEGMENT_INSERT: u8 = 2;
const SEGMENT_REPLACE: u8 = 3;
const SEGMENT_ADD_ITEMS: u8 = 4;

/// The most pointers that a page can hold, one byte each.
const MAX_POINTERS: usize = BLOCK_LEN;

/// Pointers as ascending numbers, without a heap allocation.
struct Pointers {
    numbers: [u64; MAX_POINTERS],
    count: usize,
}

impl Pointers {
    fn new() -> Self {
        Self { numbers: [0; MAX_POINTERS], count: 0 }
    }

    fn push(&mut self, number: u64) -> Result<(), Underivable> {
        let place = self.numbers.get_mut(self.count);
        *place.ok_or(Underivable::BadRecord("a posting list has too many pointers"))? = number;
        self.count += 1;
        Ok(())
    }

    fn all(&self) -> &[u64] {
        &self.numbers[..self.count]
    }
}

/// Follows `itemptr_to_uint64`.
fn pointer_number(tid: &[u8]) -> u64 {
    let half = |at: usize| u64::from(u16::from_le_bytes([tid[at], tid[at + 1]]));
    (half(0) << 16 | half(2)) << ITEM_NUMBER_BITS | half(4) & ((1 << ITEM_NUMBER_BITS) - 1)
}

/// Follows `uint64_to_itemptr`.
fn pointer(number: u64) -> [u8; TID_LEN] {
    let block = number >> ITEM_NUMBER_BITS;
    let (high, low) = (((block >> 16) as u16).to_le_bytes(), (block as u16).to_le_bytes());
    let item = ((number & ((1 << ITEM_NUMBER_BITS) - 1)) as u16).to_le_bytes();
    [high[0], high[1], low[0], low[1], item[0], item[1]]
}

/// The pointers of a segment. Follows `ginPostingListDecodeAllSegments` for one.
fn decode(segment: &[u8], into: &mut Pointers) -> Result<(), Underivable> {
    let mut fields = Fields(segment);
    let mut number = pointer_number(fields.bytes(TID_LEN)?);
    let len = usize::from(fields.u16()?);
    let mut distances = Fields(fields.bytes(len)?);
    into.push(number)?;
    while !distances.0.is_empty() {
        let mut distance = 0;
        for index in 0..MAX_DISTANCE_LEN {
            let byte = distances.u8()?;
            distance |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                break;
            }
        }
        number = number.wrapping_add(distance);
        into.push(number)?;
    }
    Ok(())
}

/// Bytes that are written front to back into a page's worth of room.
struct Output {
    bytes: [u8; BLOCK_LEN],
    len: usize,
}

impl Output {
    fn new() -> Self {
        Self { bytes: [0; BLOCK_LEN], len: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Underivable> {
        let place = self.bytes.get_mut(self.len..self.len + bytes.len());
        place.ok_or(Underivable::BadRecord("a posting list does not fit a page"))?.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// Appends a segment of ascending pointers. Follows `ginCompressPostingList` with room for all.
    fn put_segment(&mut self, pointers: &[u64]) -> Result<(), Underivable> {
        let (&first, rest) = pointers.split_first().ok_or(Underivable::BadRecord("an empty posting list"))?;
        self.put(&pointer(first))?;
        let length_at = self.len;
        self.put(&[0; 2])?;
        let mut previous = first;
        for &number in rest {
            let mut distance = number.wrapping_sub(previous);
            while distance > 0x7f {
                self.put(&[0x80 | (distance & 0x7f) as u8])?;
                distance >>= 7;
            }
            self.put(&[distance as u8])?;
            previous = number;
        }
        let len = self.len - length_at - 2;
        self.bytes[length_at..length_at + 2].copy_from_slice(&(len as u16).to_le_bytes());
        if len % 2 == 1 { self.put(&[0]) } else { Ok(()) }
    }
}

/// Changes the segments of a leaf as the record's actions say. Follows `ginRedoRecompress`.
pub(super) fn recompress(page: &mut Page<'_>, data: &[u8]) -> Result<(), Underivable> {
    compress_old_format(page)?;
    page.check_pointers()?;
    let original = *page.block();
    let old = original.get(DATA_AT..page.lower()).ok_or(Underivable::BadPage("a posting list has no end"))?;
    let (mut old, mut out, mut segment) = (Fields(old), Output::new(), 0_u8);
    let mut actions = Fields(data);
    for _ in 0..actions.u16()? {
        let (target, action) = (actions.u8()?, actions.u8()?);
        while segment < target {
            out.put(next_segment(&mut old)?)?;
            segment += 1;
        }
        match action {
            SEGMENT_DELETE => {
                next_segment(&mut old)?;
                segment = segment.wrapping_add(1);
            }
            SEGMENT_INSERT => out.put(next_segment(&mut actions)?)?,
            SEGMENT_REPLACE => {
                out.put(next_segment(&mut actions)?)?;
                next_segment(&mut old)?;
                segment = segment.wrapping_add(1);
            }
            SEGMENT_ADD_ITEMS => {
                let count = usize::from(actions.u16()?);
                let added = actions.bytes(count * TID_LEN)?;
                out.put_segment(merge(next_segment(&mut old)?, added)?.all())?;
                segment = segment.wrapping_add(1);
            }
            _ => return Err(Underivable::BadRecord("an unknown action on a posting list")),
        }
    }
    out.put(old.0)?;
    set_data(page, &out.bytes[..out.len])
}

fn next_segment<'a>(segments: &mut Fields<'a>) -> Result<&'a [u8], Underivable> {
    let len = segment_len(segments.0)?;
    segments.bytes(len)
}

/// Follows `ginMergeItemPointers`: both ascend, and what is in both comes once.
fn merge(segment: &[u8], added: &[u8]) -> Result<Pointers, Underivable> {
    let (mut old, mut merged) = (Pointers::new(), Pointers::new());
    decode(segment, &mut old)?;
    let mut added = added.chunks_exact(TID_LEN).map(pointer_number).peekable();
    for &number in old.all() {
        while let Some(before) = added.next_if(|&added| added < number) {
            merged.push(before)?;
        }
        added.next_if_eq(&number);
        merged.push(number)?;
    }
    added.try_for_each(|number| merged.push(number))?;
    Ok(merged)
}

/// Turns a leaf of the format before PostgreSQL 9.4, a plain array of pointers, into a compressed one.
fn compress_old_format(page: &mut Page<'_>) -> Result<(), Underivable> {
    let opaque = Opaque::of(page)?;
    let (flags, count) = (opaque.flags(), usize::from(opaque.max_offset()));
    if flags & COMPRESSED != 0 {
        return Ok(());
    }
    let mut out = Output::new();
    if count > 0 {
        let plain = page.block().get(DATA_AT..DATA_AT + count * TID_LEN);
        let plain = plain.ok_or(Underivable::BadPage("a posting list has no end"))?;
        let mut pointers = Pointers::new();
        plain.chunks_exact(TID_LEN).try_for_each(|tid| pointers.push(pointer_number(tid)))?;
        out.put_segment(pointers.all())?;
    }
    set_data(page, &out.bytes[..out.len])?;
    let mut opaque = Opaque::of(page)?;
    opaque.set_flags(flags | COMPRESSED);
    opaque.set_max_offset(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Output, Pointers, decode, pointer, pointer_number};

    #[test]
    fn a_segment_decodes_to_the_pointers_that_it_was_made_of() {
        let numbers = [1_u64 << 11 | 1, 1 << 11 | 2, 1 << 11 | 300, 5 << 11 | 7, (0xffff_fffe << 11) | 291];
        let mut out = Output::new();
        out.put_segment(&numbers).unwrap();
        assert_eq!(out.len % 2, 0);
        let mut pointers = Pointers::new();
        decode(&out.bytes[..out.len], &mut pointers).unwrap();
        assert_eq!(pointers.all(), numbers);
        assert_eq!(pointer_number(&pointer(numbers[4])), numbers[4]);
    }
}

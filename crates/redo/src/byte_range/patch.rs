//! One key's part of a payload, and how it changes a block.
//!
//! The part of a block is a list of ranges within it: gap since the end of the range before, length, bytes; the
//! numbers as LEB128.

use bytes::{Bytes, BytesMut};
use zorya_types::{BLOCK_SIZE, Key};

use super::decode::{Cursor, Head, Malformed};
use crate::{Extract, Underivable, varint};

/// The part of `payload` that the touch of `key` at `reference` needs.
pub(crate) fn extract(payload: &Bytes, reference: u32, key: Key) -> Result<Extract, Underivable> {
    let untouched = Underivable::NotTouched { reference, key };
    let mut cursor = Cursor::new(payload, reference as usize);
    let Some(head) = cursor.next_op()? else { return Err(untouched) };
    let mut ranges = match head {
        Head::Put { key: put, value } if put == key => return Ok(Extract::Image(payload.slice_ref(value))),
        Head::Write { file, ranges } if file == key.file() => ranges,
        _ => return Err(untouched),
    };
    // In 128 bits, so that the last block of the largest file needs no care.
    let start = u128::from(key.lo) * BLOCK_SIZE as u128;
    let end = start + BLOCK_SIZE as u128;
    let (mut delta, mut last) = (Vec::new(), start);
    while let Some((offset, data)) = ranges.next_in(&mut cursor)? {
        let (from, to) = (u128::from(offset), u128::from(offset) + data.len() as u128);
        if from >= end {
            break;
        }
        if to <= start {
            continue;
        }
        let (low, high) = (from.max(start), to.min(end));
        let part = &data[(low - from) as usize..(high - from) as usize];
        if part.len() == BLOCK_SIZE {
            return Ok(Extract::Image(payload.slice_ref(part)));
        }
        varint::put(&mut delta, (low - last) as u64);
        varint::put(&mut delta, part.len() as u64);
        delta.extend_from_slice(part);
        last = high;
    }
    if delta.is_empty() { Err(untouched) } else { Ok(Extract::Delta(delta.into())) }
}

/// Writes the ranges of `delta` into the block; an absent block is zeroes.
pub(crate) fn apply_delta(
    mut delta: &[u8],
    key: Key,
    base: Option<BytesMut>,
) -> Result<BytesMut, Underivable> {
    let mut block = base.unwrap_or_else(|| BytesMut::zeroed(BLOCK_SIZE));
    if block.len() != BLOCK_SIZE {
        return Err(Underivable::BadBase { key, len: block.len() });
    }
    let (total, mut at) = (delta.len(), 0_usize);
    while !delta.is_empty() {
        let op_at = total - delta.len();
        let cut_off = Malformed::Truncated(op_at);
        let gap = varint::take(&mut delta).ok_or(cut_off)?;
        let len = varint::take(&mut delta).ok_or(cut_off)?;
        let outside = Malformed::BadField { at: op_at, field: "range" };
        if gap > BLOCK_SIZE as u64 || len > BLOCK_SIZE as u64 {
            return Err(outside.into());
        }
        let (from, to) = (at + gap as usize, at + gap as usize + len as usize);
        let (data, rest) = delta.split_at_checked(len as usize).ok_or(cut_off)?;
        block.get_mut(from..to).ok_or(outside)?.copy_from_slice(data);
        (delta, at) = (rest, to);
    }
    Ok(block)
}

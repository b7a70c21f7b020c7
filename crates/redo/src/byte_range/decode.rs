//! Reading a payload without trusting it.

use bytes::Bytes;
use zorya_types::{BLOCK_SIZE, FileKey, Key};

use super::{MAX_VALUE_LEN, OP_CLEAR, OP_DELETE, OP_PUT, OP_WRITE};
use crate::{Effect, Touch, varint};

const BLOCK: u64 = BLOCK_SIZE as u64;

/// An operation of a payload. Bytes share the payload's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Gives an entry a value.
    Put {
        /// The entry.
        key: Key,
        /// Its value.
        value: Bytes,
    },
    /// Removes an entry.
    Delete {
        /// The entry.
        key: Key,
    },
    /// Writes bytes of a file; may span blocks.
    Write {
        /// The file.
        file: FileKey,
        /// Where in the file, in bytes.
        offset: u64,
        /// What, at least one byte.
        data: Bytes,
    },
    /// Removes every key in `from..to`.
    Clear {
        /// The first key.
        from: Key,
        /// The exclusive end, above `from`.
        to: Key,
    },
}

/// Why bytes are not a payload of this codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside an operation.
    #[error("the payload ends inside the operation at byte {0}")]
    Truncated(usize),
    /// No operation has that number.
    #[error("byte {at} starts an operation {op}, which does not exist")]
    UnknownOp {
        /// Where.
        at: usize,
        /// The number.
        op: u8,
    },
    /// A field of the operation has a value that it cannot have.
    #[error("the operation at byte {at} has an impossible {field}")]
    BadField {
        /// Where the operation starts.
        at: usize,
        /// Which field.
        field: &'static str,
    },
}

/// Every operation of a payload, in order.
pub fn decode(payload: &Bytes) -> Result<Vec<Op>, Malformed> {
    let mut ops = Vec::new();
    let mut cursor = Cursor::new(payload, 0);
    while let Some(head) = cursor.next_op()? {
        match head {
            Head::Put { key, value } => ops.push(Op::Put { key, value: payload.slice_ref(value) }),
            Head::Delete { key } => ops.push(Op::Delete { key }),
            Head::Clear { from, to } => ops.push(Op::Clear { from, to }),
            Head::Write { file, mut ranges } => {
                while let Some((offset, data)) = ranges.next_in(&mut cursor)? {
                    ops.push(Op::Write { file, offset, data: payload.slice_ref(data) });
                }
            }
        }
    }
    Ok(ops)
}

pub(crate) fn touches_into(payload: &[u8], out: &mut Vec<Touch>) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(payload, 0);
    loop {
        let reference = cursor.at() as u32;
        let Some(head) = cursor.next_op()? else { return Ok(()) };
        match head {
            Head::Put { key, .. } => out.push(Touch { key, effect: Effect::Image, reference }),
            Head::Delete { key } => out.push(Touch { key, effect: Effect::Delete, reference }),
            Head::Clear { from, to } => {
                out.push(Touch { key: from, effect: Effect::Clear { to }, reference })
            }
            Head::Write { file, mut ranges } => {
                let first = out.len();
                while let Some((offset, data)) = ranges.next_in(&mut cursor)? {
                    touch_blocks(file, offset, data.len() as u64, reference, first, out);
                }
            }
        }
    }
}

/// Adds the blocks of one range of a group whose touches start at `first`. Ranges ascend, so only the newest touch
/// can be of the same block.
fn touch_blocks(file: FileKey, offset: u64, len: u64, reference: u32, first: usize, out: &mut Vec<Touch>) {
    let end = offset + len;
    for block in offset / BLOCK..=(end - 1) / BLOCK {
        let key = Key::block(file, block);
        let start = block * BLOCK;
        if out.len() > first && out.last().is_some_and(|touch| touch.key == key) {
            continue;
        }
        let whole = offset <= start && end - start >= BLOCK;
        let effect = if whole { Effect::Image } else { Effect::Delta };
        out.push(Touch { key, effect, reference });
    }
}

/// The fixed part of an operation. Of a write only the file is read; its ranges follow.
pub(super) enum Head<'a> {
    Put { key: Key, value: &'a [u8] },
    Delete { key: Key },
    Write { file: FileKey, ranges: Ranges },
    Clear { from: Key, to: Key },
}

/// The ranges of a write group that are still to be read, in ascending order.
pub(super) struct Ranges {
    left: u16,
    end: u64,
    op_at: usize,
}

impl Ranges {
    /// The next range: its offset in the file and its bytes (at least one).
    pub(super) fn next_in<'a>(
        &mut self,
        cursor: &mut Cursor<'a>,
    ) -> Result<Option<(u64, &'a [u8])>, Malformed> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let at = self.op_at;
        let gap = varint::take(&mut cursor.rest).ok_or(Malformed::Truncated(at))?;
        let len = varint::take(&mut cursor.rest).ok_or(Malformed::Truncated(at))?;
        let offset = self.end.checked_add(gap).ok_or(Malformed::BadField { at, field: "offset" })?;
        self.end = offset.checked_add(len).ok_or(Malformed::BadField { at, field: "length" })?;
        if len == 0 {
            return Err(Malformed::BadField { at, field: "length" });
        }
        let data = cursor.take(usize::try_from(len).map_err(|_| Malformed::Truncated(at))?, at)?;
        Ok(Some((offset, data)))
    }
}

/// Walks a payload. Positions are bytes of the payload.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at byte `at` (beyond the end: at the end).
    pub(super) fn new(payload: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor { rest: payload.get(at..).unwrap_or_default(), len: payload.len() }
    }

    pub(super) fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    fn take(&mut self, len: usize, op_at: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated(op_at))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, op_at: usize) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, op_at)?);
        Ok(array)
    }

    fn key(&mut self, op_at: usize) -> Result<Key, Malformed> {
        Ok(Key::decode(&self.array(op_at)?))
    }

    /// The next operation, `None` at the end. The ranges of a write have to be read before the next call.
    pub(super) fn next_op(&mut self) -> Result<Option<Head<'a>>, Malformed> {
        let at = self.at();
        let Some((&op, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        Ok(Some(match op {
            OP_PUT => self.put(at)?,
            OP_DELETE => Head::Delete { key: self.key(at)? },
            OP_WRITE => self.write(at)?,
            OP_CLEAR => {
                let (from, to) = (self.key(at)?, self.key(at)?);
                if from >= to {
                    return Err(Malformed::BadField { at, field: "range" });
                }
                Head::Clear { from, to }
            }
            op => return Err(Malformed::UnknownOp { at, op }),
        }))
    }

    fn put(&mut self, at: usize) -> Result<Head<'a>, Malformed> {
        let key = self.key(at)?;
        if key.is_block() {
            return Err(Malformed::BadField { at, field: "key" });
        }
        let len = varint::take(&mut self.rest).ok_or(Malformed::Truncated(at))?;
        if len > MAX_VALUE_LEN as u64 {
            return Err(Malformed::BadField { at, field: "value length" });
        }
        Ok(Head::Put { key, value: self.take(len as usize, at)? })
    }

    fn write(&mut self, at: usize) -> Result<Head<'a>, Malformed> {
        let file = FileKey(u128::from_be_bytes(self.array(at)?));
        if !Key::block(file, 0).is_block() {
            return Err(Malformed::BadField { at, field: "file" });
        }
        let left = u16::from_le_bytes(self.array(at)?);
        if left == 0 {
            return Err(Malformed::BadField { at, field: "range count" });
        }
        Ok(Head::Write { file, ranges: Ranges { left, end: 0, op_at: at } })
    }
}

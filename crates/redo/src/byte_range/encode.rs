//! Building a payload.

use zorya_types::{FileKey, Key};

use super::{MAX_VALUE_LEN, OP_CLEAR, OP_DELETE, OP_PUT, OP_WRITE};
use crate::varint;

/// A write group that can still take a write.
#[derive(Clone, Copy, Debug)]
struct OpenGroup {
    file: FileKey,
    /// Where its number of ranges stands in the buffer.
    count_at: usize,
    count: u16,
    /// The file offset after its last range.
    end: u64,
}

/// Builds the payload of one record. The operations take effect in the order of the calls.
///
/// [`Encoder::clear`] keeps the buffer for the next record.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
    /// `None` unless the last operation was a write.
    group: Option<OpenGroup>,
}

impl Encoder {
    /// An empty payload.
    #[must_use]
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// The payload so far.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.out
    }

    /// The payload as a buffer of its own; the encoder starts anew.
    #[must_use]
    pub fn finish(&mut self) -> bytes::Bytes {
        self.group = None;
        std::mem::take(&mut self.out).into()
    }

    /// Bytes of the payload so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Starts a new payload in the same buffer.
    pub fn reset(&mut self) {
        self.out.clear();
        self.group = None;
    }

    /// Gives an entry a value.
    ///
    /// # Panics
    /// If `key` names a data block (those are written) or the value is longer than [`MAX_VALUE_LEN`].
    pub fn put(&mut self, key: Key, value: &[u8]) -> &mut Encoder {
        assert!(!key.is_block(), "{key:?} is a block: write it");
        assert!(value.len() <= MAX_VALUE_LEN, "a value of {} bytes for {key:?}", value.len());
        self.start(OP_PUT);
        self.out.extend_from_slice(&key.encode());
        varint::put(&mut self.out, value.len() as u64);
        self.out.extend_from_slice(value);
        self
    }

    /// Removes an entry.
    pub fn delete(&mut self, key: Key) -> &mut Encoder {
        self.start(OP_DELETE);
        self.out.extend_from_slice(&key.encode());
        self
    }

    /// Writes bytes of a file. No bytes are no operation.
    ///
    /// # Panics
    /// If `file` is not a file's data, or the write ends above `u64::MAX`.
    pub fn write(&mut self, file: FileKey, offset: u64, data: &[u8]) -> &mut Encoder {
        if data.is_empty() {
            return self;
        }
        assert!(Key::block(file, 0).is_block(), "{file:?} has no blocks");
        let end = offset.checked_add(data.len() as u64);
        let end = end.unwrap_or_else(|| panic!("a write of {} bytes at {offset}", data.len()));
        let mut group = match self.group {
            Some(group) if group.file == file && group.end <= offset && group.count < u16::MAX => group,
            _ => self.start_group(file),
        };
        group.count += 1;
        self.out[group.count_at..group.count_at + 2].copy_from_slice(&group.count.to_le_bytes());
        varint::put(&mut self.out, offset - group.end);
        varint::put(&mut self.out, data.len() as u64);
        self.out.extend_from_slice(data);
        self.group = Some(OpenGroup { end, ..group });
        self
    }

    /// Removes every key in `from..to`: entries are deleted, blocks become absent, which reads as zeroes. An empty
    /// range is no operation.
    pub fn clear(&mut self, from: Key, to: Key) -> &mut Encoder {
        if from >= to {
            return self;
        }
        self.start(OP_CLEAR);
        self.out.extend_from_slice(&from.encode());
        self.out.extend_from_slice(&to.encode());
        self
    }

    fn start(&mut self, op: u8) {
        self.group = None;
        self.out.push(op);
    }

    fn start_group(&mut self, file: FileKey) -> OpenGroup {
        self.start(OP_WRITE);
        self.out.extend_from_slice(&file.0.to_be_bytes());
        let count_at = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        OpenGroup { file, count_at, count: 0, end: 0 }
    }
}

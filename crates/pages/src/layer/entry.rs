//! The entries of a block.

use bytes::Bytes;
use zorya_redo::varint;
use zorya_types::{Key, Lsn};

use crate::chain::{At, Change};

const KIND_IMAGE: u8 = 1;
const KIND_DELTA: u8 = 2;
const KIND_DELETE: u8 = 3;
const KIND_MASK: u8 = 3;
/// The key is that of the entry before.
const SAME_KEY: u8 = 4;

/// Appends an entry. `before` is the key of the entry before it in the block; `after` the layer's lower end.
pub(super) fn put(out: &mut Vec<u8>, before: Option<Key>, after: Lsn, key: Key, at: At, change: &Change) {
    let kind = match change {
        Change::Image(_) => KIND_IMAGE,
        Change::Delta { .. } => KIND_DELTA,
        Change::Delete => KIND_DELETE,
    };
    if before == Some(key) {
        out.push(kind | SAME_KEY);
    } else {
        out.push(kind);
        out.extend_from_slice(&key.encode());
    }
    varint::put(out, at.lsn.since(after));
    varint::put(out, u64::from(at.reference));
    match change {
        Change::Image(bytes) => put_bytes(out, bytes),
        Change::Delta { codec, delta } => {
            varint::put(out, u64::from(*codec));
            put_bytes(out, delta);
        }
        Change::Delete => {}
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// An entry, its value still inside the block.
pub(super) struct RawEntry<'a> {
    pub key: Key,
    pub at: At,
    kind: u8,
    codec: u16,
    value: &'a [u8],
}

impl RawEntry<'_> {
    /// The change, sharing the block's buffer.
    pub(super) fn change(&self, block: &Bytes) -> Change {
        match self.kind {
            KIND_IMAGE => Change::Image(block.slice_ref(self.value)),
            KIND_DELTA => Change::Delta { codec: self.codec, delta: block.slice_ref(self.value) },
            _ => Change::Delete,
        }
    }
}

/// Walks the entries of a block's content.
pub(super) struct Entries<'a> {
    rest: &'a [u8],
    key: Option<Key>,
    after: Lsn,
}

impl<'a> Entries<'a> {
    pub(super) fn new(content: &'a [u8], after: Lsn) -> Entries<'a> {
        Entries { rest: content, key: None, after }
    }

    /// Goes on at byte `at` of the content, after an entry of `key`.
    pub(super) fn resume(content: &'a [u8], at: usize, key: Option<Key>, after: Lsn) -> Entries<'a> {
        Entries { rest: content.get(at..).unwrap_or_default(), key, after }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next entry; `None` at the end; `Some(None)` if the bytes are no entry.
    pub(super) fn next(&mut self) -> Option<Option<RawEntry<'a>>> {
        if self.rest.is_empty() { None } else { Some(self.parse()) }
    }

    fn parse(&mut self) -> Option<RawEntry<'a>> {
        let (&tag, rest) = self.rest.split_first()?;
        self.rest = rest;
        if tag & SAME_KEY == 0 {
            let (key, rest) = self.rest.split_first_chunk::<{ Key::ENCODED_LEN }>()?;
            self.rest = rest;
            self.key = Some(Key::decode(key));
        }
        let key = self.key?;
        let lsn = Lsn(self.after.0.checked_add(varint::take(&mut self.rest)?)?);
        let reference = u32::try_from(varint::take(&mut self.rest)?).ok()?;
        let kind = tag & KIND_MASK;
        let codec = match kind {
            KIND_DELTA => u16::try_from(varint::take(&mut self.rest)?).ok()?,
            _ => 0,
        };
        let value = match kind {
            KIND_IMAGE | KIND_DELTA => {
                let len = usize::try_from(varint::take(&mut self.rest)?).ok()?;
                let (value, rest) = self.rest.split_at_checked(len)?;
                self.rest = rest;
                value
            }
            KIND_DELETE => &[],
            _ => return None,
        };
        Some(RawEntry { key, at: At { lsn, reference }, kind, codec, value })
    }
}

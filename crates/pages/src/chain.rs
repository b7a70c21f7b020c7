//! The versions that one value is made of.

use bytes::{Bytes, BytesMut};
use zorya_redo::{Extract, Underivable};
use zorya_types::{Key, Lsn};

/// The place of an effect in its log: by record, then within the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    /// The record.
    pub lsn: Lsn,
    /// Where in the record, as its codec says.
    pub reference: u32,
}

impl At {
    /// The first place of a record.
    pub(crate) fn first(lsn: Lsn) -> At {
        At { lsn, reference: 0 }
    }

    /// The last place of a record.
    pub(crate) fn last(lsn: Lsn) -> At {
        At { lsn, reference: u32::MAX }
    }
}

/// What a version does to its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The whole value.
    Image(Bytes),
    /// A change of the version before, in its codec's form (`zorya_redo::extract`).
    Delta {
        /// The codec.
        codec: u16,
        /// The key's part of the record.
        delta: Bytes,
    },
    /// The key is gone.
    Delete,
}

impl Change {
    /// Bytes of its value or delta.
    pub(crate) fn len(&self) -> usize {
        match self {
            Change::Image(bytes) | Change::Delta { delta: bytes, .. } => bytes.len(),
            Change::Delete => 0,
        }
    }

    pub(crate) fn from_extract(codec: u16, extract: Extract) -> Change {
        match extract {
            Extract::Image(value) => Change::Image(value),
            Extract::Delta(delta) => Change::Delta { codec, delta },
        }
    }
}

/// The changes that lead to a key's value, collected from the newest back to one that needs nothing before it.
#[derive(Debug, Default)]
pub struct Chain {
    /// Deltas, newest first.
    deltas: Vec<(u16, Bytes)>,
    /// What they apply to: `None` until it was found, `Some(None)` if the key was absent.
    base: Option<Option<Bytes>>,
}

impl Chain {
    /// Adds the next older change. Further changes are ignored once the chain [`Chain::is_complete`].
    pub fn push(&mut self, change: Change) {
        if self.is_complete() {
            return;
        }
        match change {
            Change::Image(value) => self.base = Some(Some(value)),
            Change::Delta { codec, delta } => self.deltas.push((codec, delta)),
            Change::Delete => self.base = Some(None),
        }
    }

    /// Says that the key was absent before the changes so far.
    pub fn end(&mut self) {
        self.base.get_or_insert(None);
    }

    /// Whether nothing older can matter.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.base.is_some()
    }

    /// The value; `None` if the key is absent. A chain that was not completed starts from an absent key.
    pub fn resolve(self, key: Key) -> Result<Option<Bytes>, Underivable> {
        let base = self.base.flatten();
        if self.deltas.is_empty() {
            return Ok(base);
        }
        let mut value = base.map(|value| BytesMut::from(&value[..]));
        for (codec, delta) in self.deltas.iter().rev() {
            value = Some(zorya_redo::apply_extract(*codec, delta, key, value)?);
        }
        Ok(value.map(BytesMut::freeze))
    }
}

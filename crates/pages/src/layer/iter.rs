//! Streaming a layer in order, a block at a time, past the cache.

use std::sync::Arc;

use bytes::Bytes;
use zorya_types::Key;

use super::entry::Entries;
use super::reader::{Layer, LayerIndex};
use crate::chain::{At, Change};
use crate::error::ReadError;

/// The entries of a layer from a key on, in order of key, then time.
pub(crate) struct LayerIter {
    layer: Arc<Layer>,
    index: Arc<LayerIndex>,
    from: Key,
    /// The next block to read.
    next_block: usize,
    block: Bytes,
    /// Bytes of `block` that were consumed.
    at: usize,
    /// The key of the entry before `at`.
    key: Option<Key>,
}

impl LayerIter {
    pub(super) fn new(layer: Arc<Layer>, index: Arc<LayerIndex>, from: Key) -> Result<LayerIter, ReadError> {
        let next_block = index.block_before(from);
        Ok(LayerIter { layer, index, from, next_block, block: Bytes::new(), at: 0, key: None })
    }

    /// The next entry, `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(Key, At, Change)>, ReadError> {
        loop {
            let mut entries = Entries::resume(&self.block, self.at, self.key, self.layer.desc.after);
            while let Some(entry) = entries.next() {
                let entry = entry.ok_or_else(|| self.layer.damaged("an impossible entry"))?;
                if entry.key >= self.from {
                    self.at = self.block.len() - entries.left();
                    self.key = Some(entry.key);
                    return Ok(Some((entry.key, entry.at, entry.change(&self.block))));
                }
            }
            if self.next_block == self.index.blocks.len() {
                return Ok(None);
            }
            self.block = self.layer.read_block(&self.index, self.next_block)?;
            self.next_block += 1;
            (self.at, self.key) = (0, None);
        }
    }
}

//! The page segment of one protection group.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use zorya_redo::Touch;
use zorya_types::{Key, Lsn};

use crate::chain::Chain;
use crate::config::NodeMemory;
use crate::error::ReadError;
use crate::layer_set::LayerSet;
use crate::lineage::Window;
use crate::memory::MemTable;

/// A group's versions. Readers take the lock for the newest index only; everything older is immutable and shared.
#[derive(Debug)]
pub(crate) struct Group {
    state: RwLock<State>,
    node: Arc<NodeMemory>,
}

#[derive(Debug)]
struct State {
    /// The interval that is being applied.
    active: MemTable,
    /// Closed intervals that are not in layers yet, oldest first.
    frozen: Vec<Arc<MemTable>>,
    layers: Arc<LayerSet>,
}

impl Group {
    /// A group with these layers whose next interval ends at `to`.
    pub(crate) fn new(to: Lsn, layers: LayerSet, node: Arc<NodeMemory>) -> Group {
        let active = MemTable::new(to, Arc::clone(&node));
        let state = State { active, frozen: Vec::new(), layers: Arc::new(layers) };
        Group { state: RwLock::new(state), node }
    }

    /// The layers now.
    pub(crate) fn layers(&self) -> Arc<LayerSet> {
        Arc::clone(&self.state.read().layers)
    }

    /// The closed interval that ends at `end`, if it touched this group.
    pub(crate) fn frozen(&self, end: Lsn) -> Option<Arc<MemTable>> {
        self.state.read().frozen.iter().find(|table| table.to() == end).cloned()
    }

    /// Puts other layers in place; the intervals up to `flushed` are in them.
    pub(crate) fn install(&self, layers: LayerSet, flushed: Lsn) {
        let mut state = self.state.write();
        state.layers = Arc::new(layers);
        state.frozen.retain(|table| table.to() > flushed);
    }

    /// Bytes of the index over the newest log.
    pub(crate) fn memory_bytes(&self) -> usize {
        let state = self.state.read();
        state.active.bytes() + state.frozen.iter().map(|table| table.bytes()).sum::<usize>()
    }

    pub(crate) fn add<'a>(
        &self,
        lsn: Lsn,
        codec: u16,
        payload: &Bytes,
        touches: impl Iterator<Item = &'a Touch>,
    ) {
        self.state.write().active.add(lsn, codec, payload, touches);
    }

    /// Closes the interval; the next one ends at `to`.
    pub(crate) fn freeze(&self, to: Lsn) {
        let mut state = self.state.write();
        let closed = std::mem::replace(&mut state.active, MemTable::new(to, Arc::clone(&self.node)));
        if !closed.is_empty() {
            state.frozen.push(Arc::new(closed));
        }
    }

    /// See [`crate::VersionSource::collect`].
    pub(crate) fn collect(&self, window: Window, key: Key, chain: &mut Chain) -> Result<(), ReadError> {
        let (frozen, layers) = {
            let state = self.state.read();
            state.active.collect(window, key, chain)?;
            if chain.is_complete() {
                return Ok(());
            }
            (state.frozen.clone(), Arc::clone(&state.layers))
        };
        for table in frozen.iter().rev() {
            if chain.is_complete() {
                return Ok(());
            }
            table.collect(window, key, chain)?;
        }
        if chain.is_complete() { Ok(()) } else { layers.collect(window, key, chain) }
    }

    /// See [`crate::VersionSource::keys`].
    pub(crate) fn keys(
        &self,
        window: Window,
        range: (Key, Key),
        limit: usize,
    ) -> Result<(Vec<Key>, Key), ReadError> {
        let (mut keys, mut known_to, frozen, layers) = {
            let state = self.state.read();
            let (keys, known_to) = state.active.keys(range, limit);
            (keys, known_to, state.frozen.clone(), Arc::clone(&state.layers))
        };
        for table in &frozen {
            let (some, upto) = table.keys(range, limit);
            keys.extend(some);
            known_to = known_to.min(upto);
        }
        let (some, upto) = layers.keys(window, range, limit)?;
        keys.extend(some);
        Ok((keys, known_to.min(upto)))
    }
}

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
    /// A group with these layers.
    pub(crate) fn new(layers: LayerSet, node: Arc<NodeMemory>) -> Group {
        let active = MemTable::new(Arc::clone(&node));
        let state = State { active, frozen: Vec::new(), layers: Arc::new(layers) };
        Group { state: RwLock::new(state), node }
    }

    /// The layers now.
    pub(crate) fn layers(&self) -> Arc<LayerSet> {
        Arc::clone(&self.state.read().layers)
    }

    /// The closed interval that ends at `end`, if it touched this group.
    pub(crate) fn frozen(&self, end: Lsn) -> Option<Arc<MemTable>> {
        self.state.read().frozen.iter().find(|table| table.interval().1 == end).cloned()
    }

    /// Puts other layers in place; the intervals up to `flushed` are in them.
    pub(crate) fn install(&self, layers: LayerSet, flushed: Lsn) {
        let mut state = self.state.write();
        let before = std::mem::replace(&mut state.layers, Arc::new(layers));
        let (done, kept) = state.frozen.drain(..).partition(|table| table.interval().1 <= flushed);
        state.frozen = kept;
        // An index of many entries takes milliseconds to free: not while readers wait.
        drop(state);
        drop::<(Vec<_>, _)>((done, before));
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

    /// Closes the interval that is being applied as `(after, to]`.
    pub(crate) fn freeze(&self, after: Lsn, to: Lsn) {
        let mut state = self.state.write();
        if !state.active.is_empty() {
            let next = MemTable::new(Arc::clone(&self.node));
            let mut closed = std::mem::replace(&mut state.active, next);
            closed.close(after, to);
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

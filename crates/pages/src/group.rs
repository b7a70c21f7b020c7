//! The page segment of one protection group.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use zorya_redo::Touch;
use zorya_types::{Key, Lsn};

use crate::chain::Chain;
use crate::config::NodeMemory;
use crate::error::ReadError;
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
}

impl Group {
    /// A group whose first interval ends at `to`.
    pub(crate) fn new(to: Lsn, node: Arc<NodeMemory>) -> Group {
        let active = MemTable::new(to, Arc::clone(&node));
        Group { state: RwLock::new(State { active, frozen: Vec::new() }), node }
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
        let frozen = {
            let state = self.state.read();
            state.active.collect(window, key, chain)?;
            state.frozen.clone()
        };
        for table in frozen.iter().rev() {
            if chain.is_complete() {
                return Ok(());
            }
            table.collect(window, key, chain)?;
        }
        Ok(())
    }

    /// See [`crate::VersionSource::keys`].
    pub(crate) fn keys(&self, range: (Key, Key), limit: usize) -> Result<(Vec<Key>, Key), ReadError> {
        let (mut keys, mut known_to, frozen) = {
            let state = self.state.read();
            let (keys, known_to) = state.active.keys(range, limit);
            (keys, known_to, state.frozen.clone())
        };
        for table in &frozen {
            let (some, upto) = table.keys(range, limit);
            keys.extend(some);
            known_to = known_to.min(upto);
        }
        Ok((keys, known_to))
    }
}

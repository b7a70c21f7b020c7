//! The node's cache of layer blocks and indexes: least recently used first out, bounded in bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::layer::LayerIndex;

/// A part of a layer, by the layer's number in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    Index(u64),
    Block(u64, u32),
}

#[derive(Clone, Debug)]
pub(crate) enum Cached {
    Index(Arc<LayerIndex>),
    Block(Bytes),
}

#[derive(Debug)]
struct Entry {
    value: Cached,
    bytes: usize,
    used: u64,
}

#[derive(Debug, Default)]
struct Held {
    entries: HashMap<Part, Entry>,
    /// By last use.
    order: BTreeMap<u64, Part>,
    bytes: usize,
    clock: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache {
    limit: usize,
    held: Mutex<Held>,
}

impl Cache {
    pub(crate) fn new(limit: usize) -> Cache {
        Cache { limit, held: Mutex::default() }
    }

    pub(crate) fn get(&self, part: Part) -> Option<Cached> {
        let mut held = self.held.lock();
        held.clock += 1;
        let clock = held.clock;
        let entry = held.entries.get_mut(&part)?;
        let before = std::mem::replace(&mut entry.used, clock);
        let value = entry.value.clone();
        held.order.remove(&before);
        held.order.insert(clock, part);
        Some(value)
    }

    pub(crate) fn put(&self, part: Part, value: Cached, bytes: usize) {
        let mut held = self.held.lock();
        held.remove(part);
        held.clock += 1;
        let used = held.clock;
        held.bytes += bytes;
        held.order.insert(used, part);
        held.entries.insert(part, Entry { value, bytes, used });
        while held.bytes > self.limit {
            let Some((_, oldest)) = held.order.pop_first() else { break };
            held.remove(oldest);
        }
    }

    /// Lets go of a part that nobody will ask for again.
    pub(crate) fn forget(&self, part: Part) {
        self.held.lock().remove(part);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.held.lock().bytes
    }
}

impl Held {
    fn remove(&mut self, part: Part) {
        if let Some(entry) = self.entries.remove(&part) {
            self.bytes -= entry.bytes;
            self.order.remove(&entry.used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_the_limit_holds() {
        let cache = Cache::new(250);
        let block = || Cached::Block(Bytes::from_static(b"x"));
        cache.put(Part::Block(1, 0), block(), 100);
        cache.put(Part::Block(1, 1), block(), 100);
        assert!(cache.get(Part::Block(1, 0)).is_some());
        cache.put(Part::Block(1, 2), block(), 100);
        assert!(cache.get(Part::Block(1, 1)).is_none());
        assert!(cache.get(Part::Block(1, 0)).is_some());
        cache.put(Part::Block(1, 0), block(), 150);
        assert_eq!(cache.bytes(), 250);
        cache.put(Part::Block(2, 0), block(), 1000);
        assert_eq!(cache.bytes(), 0);
    }
}

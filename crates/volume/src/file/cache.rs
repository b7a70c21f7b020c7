//! The newest version of blocks, bounded, replaced by the CLOCK algorithm.
//!
//! A version that is not yet durable cannot be read from storage, so it is pinned: the cache may exceed its bound by
//! what the log's allocation limit admits, never by more.

use std::collections::HashMap;

use bytes::Bytes;
use zorya_types::{FileKey, Key, Lsn};

/// Where most slots are pinned, searching through them for every insertion would cost more than their memory.
const PINNED_STEPS: usize = 4096;

#[derive(Debug)]
struct Slot {
    key: Key,
    data: Bytes,
    /// The record that made this version; what is at or below VDL can be read again.
    lsn: Lsn,
    referenced: bool,
}

/// The cache. Every version in it is the newest.
#[derive(Debug)]
pub struct BlockCache {
    slots: Vec<Slot>,
    places: HashMap<Key, usize>,
    capacity: usize,
    hand: usize,
    hits: u64,
    misses: u64,
}

/// How the cache is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CacheUse {
    /// Blocks held.
    pub blocks: u64,
    /// Blocks that it may hold without pinned ones.
    pub capacity: u64,
    /// Lookups answered.
    pub hits: u64,
    /// Lookups not answered.
    pub misses: u64,
}

impl BlockCache {
    /// A cache of at most `capacity` blocks.
    #[must_use]
    pub fn new(capacity: usize) -> BlockCache {
        BlockCache { slots: Vec::new(), places: HashMap::new(), capacity, hand: 0, hits: 0, misses: 0 }
    }

    /// The newest version of a block, if it is at hand.
    pub fn get(&mut self, key: Key) -> Option<Bytes> {
        match self.places.get(&key) {
            Some(&place) => {
                self.hits += 1;
                let slot = &mut self.slots[place];
                slot.referenced = true;
                Some(slot.data.clone())
            }
            None => {
                self.misses += 1;
                None
            }
        }
    }

    /// Whether a block's newest version is at hand. Counts as no use of it.
    #[must_use]
    pub fn contains(&self, key: Key) -> bool {
        self.places.contains_key(&key)
    }

    /// Whether so many more blocks would drive none out.
    #[must_use]
    pub fn has_room_for(&self, blocks: usize) -> bool {
        self.slots.len() + blocks <= self.capacity
    }

    /// Takes in the newest version of a block, made by the record at `lsn`.
    pub fn insert(&mut self, key: Key, data: Bytes, lsn: Lsn, vdl: Lsn) {
        if let Some(&place) = self.places.get(&key) {
            let slot = &mut self.slots[place];
            slot.data = data;
            slot.lsn = slot.lsn.max(lsn);
            slot.referenced = true;
            return;
        }
        let slot = Slot { key, data, lsn, referenced: true };
        let place = if self.slots.len() < self.capacity { None } else { self.victim(vdl) };
        match place {
            Some(place) => {
                self.places.remove(&self.slots[place].key);
                self.slots[place] = slot;
                self.places.insert(key, place);
            }
            None => {
                self.places.insert(key, self.slots.len());
                self.slots.push(slot);
            }
        }
    }

    /// Forgets the blocks `from..to` of a file: they are absent now.
    pub fn remove(&mut self, file: FileKey, from: u64, to: u64) {
        if to.saturating_sub(from) <= self.slots.len() as u64 {
            for block in from..to {
                self.remove_key(Key::block(file, block));
            }
        } else {
            let range = Key::block(file, from)..Key::block(file, to);
            let gone: Vec<Key> = self.places.keys().filter(|key| range.contains(key)).copied().collect();
            for key in gone {
                self.remove_key(key);
            }
        }
    }

    fn remove_key(&mut self, key: Key) {
        let Some(place) = self.places.remove(&key) else { return };
        self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.key, place);
        }
    }

    /// Gives back what the cache holds beyond its bound and what has become durable since.
    pub fn shrink(&mut self, vdl: Lsn) {
        while self.slots.len() > self.capacity {
            let Some(place) = self.victim(vdl) else { return };
            self.remove_key(self.slots[place].key);
        }
    }

    /// A durable slot that was not used since the hand last passed; `None` if two rounds, or many pinned slots in a
    /// row, do not show one.
    fn victim(&mut self, vdl: Lsn) -> Option<usize> {
        let mut pinned = 0;
        for _ in 0..2 * self.slots.len() {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let place = self.hand;
            self.hand += 1;
            let slot = &mut self.slots[place];
            if slot.lsn > vdl {
                pinned += 1;
                if pinned > PINNED_STEPS {
                    return None;
                }
            } else if slot.referenced {
                slot.referenced = false;
            } else {
                return Some(place);
            }
        }
        None
    }

    /// How it is used.
    #[must_use]
    pub fn usage(&self) -> CacheUse {
        CacheUse {
            blocks: self.slots.len() as u64,
            capacity: self.capacity as u64,
            hits: self.hits,
            misses: self.misses,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(block: u64) -> Key {
        Key::block(FileKey::inode(5), block)
    }

    fn data(byte: u8) -> Bytes {
        Bytes::from(vec![byte; 4])
    }

    #[test]
    fn the_bound_holds_for_durable_versions() {
        let mut cache = BlockCache::new(8);
        for block in 0..100 {
            cache.insert(key(block), data(block as u8), Lsn(1), Lsn(1));
            assert!(cache.usage().blocks <= 8);
        }
        assert_eq!(cache.get(key(99)), Some(data(99)));
    }

    #[test]
    fn what_is_not_durable_stays_and_goes_once_it_is() {
        let mut cache = BlockCache::new(4);
        for block in 0..20 {
            cache.insert(key(block), data(block as u8), Lsn(10 + block), Lsn(9));
        }
        assert_eq!(cache.usage().blocks, 20);
        for block in 0..20 {
            assert_eq!(cache.get(key(block)), Some(data(block as u8)));
        }
        cache.shrink(Lsn(100));
        assert_eq!(cache.usage().blocks, 4);
    }

    #[test]
    fn a_removed_range_is_gone_whether_walked_or_searched() {
        let mut cache = BlockCache::new(100);
        for block in 0..20 {
            cache.insert(key(block), data(block as u8), Lsn(1), Lsn(1));
        }
        cache.remove(FileKey::inode(5), 10, 12);
        cache.remove(FileKey::inode(5), 15, u64::MAX);
        for block in 0..20 {
            let there = !(10..12).contains(&block) && block < 15;
            assert_eq!(cache.get(key(block)), there.then(|| data(block as u8)), "{block}");
        }
    }
}

//! Which protection group holds which extent of a file, and where new extents go.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use zorya_types::{FileKey, GroupId};

use super::BLOCK;

/// Blocks in one extent: 64 MiB.
pub const EXTENT_BLOCKS: u64 = (64 << 20) / BLOCK;
/// A group takes new extents until its files have grown by this many bytes: 10 GiB.
const GROUP_BYTES: u64 = 10 << 30;

/// The map of allocated extents.
#[derive(Debug, Default)]
pub struct Extents {
    groups: BTreeMap<(FileKey, u64), GroupId>,
    /// How many extents a key range has; ranges without any are left out.
    counts: HashMap<FileKey, u64>,
    /// The highest group in use. Group 0 also holds the namespace.
    newest: GroupId,
    /// Bytes by which files in the newest group have grown.
    newest_bytes: u64,
}

/// The extent of a block.
#[must_use]
pub fn extent_of(block: u64) -> u64 {
    block / EXTENT_BLOCKS
}

impl Extents {
    /// The group of a block, if its extent is allocated. Where it is not, no block was ever written.
    #[must_use]
    pub fn group(&self, file: FileKey, block: u64) -> Option<GroupId> {
        self.groups.get(&(file, extent_of(block))).copied()
    }

    /// Where a new extent goes.
    #[must_use]
    pub fn next_group(&self) -> GroupId {
        if self.newest_bytes < GROUP_BYTES { self.newest } else { GroupId(self.newest.0 + 1) }
    }

    /// Takes in an allocated extent.
    pub fn insert(&mut self, file: FileKey, extent: u64, group: GroupId) {
        if group > self.newest {
            self.newest = group;
            self.newest_bytes = 0;
        }
        if self.groups.insert((file, extent), group).is_none() {
            *self.counts.entry(file).or_default() += 1;
        }
    }

    /// Counts the growth of a file whose end is in this block.
    pub fn count_growth(&mut self, file: FileKey, block: u64, bytes: u64) {
        if self.group(file, block) == Some(self.newest) {
            self.newest_bytes += bytes;
        }
    }

    /// The allocated extents that hold any block of `from..to`.
    pub fn covering(&self, file: FileKey, from: u64, to: u64) -> impl Iterator<Item = (u64, GroupId)> {
        let last =
            if to > from { Bound::Included((file, extent_of(to - 1))) } else { Bound::Excluded((file, 0)) };
        let first =
            if to > from { Bound::Included((file, extent_of(from))) } else { Bound::Included((file, 0)) };
        self.groups.range((first, last)).map(|(&(_, extent), &group)| (extent, group))
    }

    /// Forgets the extents in `from..to` (extent numbers).
    pub fn remove(&mut self, file: FileKey, from: u64, to: u64) {
        let keys: Vec<_> = self.groups.range((file, from)..(file, to)).map(|(&key, _)| key).collect();
        for key in &keys {
            self.groups.remove(key);
        }
        if let Some(count) = self.counts.get_mut(&file) {
            *count -= keys.len() as u64;
            if *count == 0 {
                self.counts.remove(&file);
            }
        }
    }

    /// How many bytes of a file are there: those of its allocated extents, up to the end of its last block. `shared`:
    /// other files have blocks in the same key range.
    #[must_use]
    pub fn allocated(&self, file: FileKey, first: u64, size: u64, shared: bool) -> u64 {
        let blocks = size.div_ceil(BLOCK);
        let end = first + blocks;
        if blocks == 0 {
            return 0;
        }
        let extents = if shared {
            self.covering(file, first, end).count() as u64
        } else {
            self.counts.get(&file).copied().unwrap_or(0)
        };
        // The last extent counts up to the end of the file. A file begins with an extent.
        let beyond = (extent_of(end - 1) + 1) * EXTENT_BLOCKS - end;
        let last = self.groups.contains_key(&(file, extent_of(end - 1)));
        (extents * EXTENT_BLOCKS - if last { beyond } else { 0 }) * BLOCK
    }

    /// Counts a loaded file's bytes in the newest group. `first` is the file's first block in its key range.
    pub fn count_loaded(&mut self, file: FileKey, first: u64, size: u64) {
        let blocks = size.div_ceil(BLOCK);
        let held: u64 = self
            .covering(file, first, first + blocks)
            .filter(|&(_, group)| group == self.newest)
            .map(|(extent, _)| {
                let start = (extent * EXTENT_BLOCKS).max(first);
                ((extent + 1) * EXTENT_BLOCKS).min(first + blocks).saturating_sub(start) * BLOCK
            })
            .sum();
        self.newest_bytes += held;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_group_sends_new_extents_to_the_next() {
        let file = FileKey::inode(9);
        let mut extents = Extents::default();
        assert_eq!(extents.next_group(), GroupId(0));
        extents.insert(file, 0, GroupId(0));
        extents.count_growth(file, 5, GROUP_BYTES - 1);
        assert_eq!(extents.next_group(), GroupId(0));
        extents.count_growth(file, 5, 1);
        assert_eq!(extents.next_group(), GroupId(1));
        extents.insert(file, 1, GroupId(1));
        assert_eq!(extents.next_group(), GroupId(1));
        extents.count_growth(file, 5, GROUP_BYTES);
        assert_eq!(extents.next_group(), GroupId(1), "growth in an older group does not fill the newest");
    }

    #[test]
    fn covering_is_exact() {
        let (file, other) = (FileKey::inode(9), FileKey::inode(10));
        let mut extents = Extents::default();
        for extent in [0, 1, 3] {
            extents.insert(file, extent, GroupId(0));
            extents.insert(other, extent, GroupId(0));
        }
        let covering =
            |from, to| extents.covering(file, from, to).map(|(extent, _)| extent).collect::<Vec<_>>();
        assert_eq!(covering(0, u64::MAX), [0, 1, 3]);
        assert_eq!(covering(0, EXTENT_BLOCKS), [0]);
        assert_eq!(covering(EXTENT_BLOCKS - 1, EXTENT_BLOCKS + 1), [0, 1]);
        assert_eq!(covering(5, 5), [] as [u64; 0]);
        assert_eq!(covering(2 * EXTENT_BLOCKS, 3 * EXTENT_BLOCKS), [] as [u64; 0]);
    }

    #[test]
    fn only_extents_that_are_there_count() {
        let file = FileKey::inode(9);
        let mut extents = Extents::default();
        let size = 200 * BLOCK + 1;
        assert_eq!(extents.allocated(file, 0, size, false), 0);
        extents.insert(file, 0, GroupId(0));
        assert_eq!(extents.allocated(file, 0, size, false), 201 * BLOCK);
        extents.insert(file, 5, GroupId(0));
        let far = 5 * EXTENT_BLOCKS * BLOCK + 1;
        for shared in [false, true] {
            assert_eq!(extents.allocated(file, 0, far, shared), (EXTENT_BLOCKS + 1) * BLOCK);
            assert_eq!(extents.allocated(file, 0, far * 2, shared), 2 * EXTENT_BLOCKS * BLOCK);
        }
        // Another segment of the same relation.
        assert_eq!(extents.allocated(file, 3 * EXTENT_BLOCKS, 3 * BLOCK, true), 0);
        assert_eq!(extents.allocated(file, 5 * EXTENT_BLOCKS, 3 * BLOCK, true), 3 * BLOCK);
        extents.remove(file, 0, 5);
        assert_eq!(extents.allocated(file, 0, far, false), BLOCK);
    }

    #[test]
    fn loading_counts_what_the_newest_group_holds() {
        let file = FileKey::inode(9);
        let mut extents = Extents::default();
        extents.insert(file, 0, GroupId(0));
        extents.insert(file, 1, GroupId(1));
        extents.count_loaded(file, 0, (64 << 20) + 10);
        assert_eq!(extents.newest_bytes, BLOCK);
    }
}

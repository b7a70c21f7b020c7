//! What the volume's lock guards, and how a record gets into the log.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use zorya_redo::byte_range::Encoder;
use zorya_storage::store::{AppendRefused, NewRecord, VolumeStore};
use zorya_types::{FileKey, GroupId, Key, Lsn};
use zorya_wire::record::CODEC_BYTE_RANGE;

use super::queue::{Chore, Parked, Task, Wakeup};
use crate::errno::FsError;
use crate::file::cache::BlockCache;
use crate::file::extents::{EXTENT_BLOCKS, Extents, extent_of};
use crate::file::reassembly::Head;
use crate::local::LocalFiles;
use crate::namespace::{Change, Kind, Namespace, Placement};
use crate::path_class::SEGMENT_BLOCKS;

/// Why a change did not happen. Nothing of it did.
#[derive(Debug)]
pub enum Stop {
    /// It cannot happen.
    Failed(FsError),
    /// It has to wait.
    Wait(Wait),
}

/// What a change waits for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wait {
    /// Room below the log's allocation limit.
    Room,
    /// Blocks that it changes in part.
    Blocks(Vec<(GroupId, Key)>),
}

impl<E: Into<FsError>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

/// A file that is open.
#[derive(Default)]
pub struct OpenFile {
    /// Handles.
    pub count: u32,
    /// The first part of a split page write.
    pub head: Option<Head>,
    /// Ranges of the kernel's cache that are being invalidated.
    pub invalidating: u32,
    /// Requests that wait until there is neither a head nor an invalidation.
    pub gated: Vec<Task>,
    /// Times differ from what the log says.
    pub times_dirty: bool,
    /// The content of a local file.
    pub local: Option<Arc<File>>,
}

/// A block that is being fetched.
#[derive(Debug, Default)]
pub struct Fetch {
    /// Fetches under way.
    pub readers: u32,
    /// The block was changed meanwhile: what comes back is old.
    pub stale: bool,
}

/// What to do once the lock is released.
#[derive(Default)]
pub struct Effects {
    /// For the housekeeping thread.
    pub chores: Vec<Chore>,
    /// Requests that can go on.
    pub tasks: Vec<Task>,
}

/// Everything that the volume's lock guards.
pub struct State {
    /// Inodes and directories.
    pub namespace: Namespace,
    /// Open files by inode.
    pub open: HashMap<u64, OpenFile>,
    /// Inodes by file handle.
    pub handles: HashMap<u64, u64>,
    pub(super) next_handle: u64,
    /// Newest blocks.
    pub cache: BlockCache,
    /// Where blocks live.
    pub extents: Extents,
    /// Blocks being fetched.
    pub fetches: HashMap<Key, Fetch>,
    /// Cleared ranges that storage still has: they read as zeroes.
    clears: VecDeque<(Lsn, Range<Key>)>,
    /// Parked changes, in order.
    pub(super) queue: VecDeque<Box<dyn Parked>>,
    pub(super) wakeup: Wakeup,
    /// The last record of this mount.
    pub last_lsn: Lsn,
    pub(super) effects: Effects,
    pub(super) store: Arc<dyn VolumeStore>,
    pub(super) local_files: LocalFiles,
    pub(super) encoder: Encoder,
    groups: Vec<GroupId>,
    pub(super) ranges: Vec<Range<usize>>,
    /// Bytes that are there, over all shipped files.
    used_bytes: u64,
}

/// A block's version before a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// At hand.
    Known(Bytes),
    /// Never written, or cleared since.
    Zero,
    /// Only in storage.
    Stored(GroupId),
}

impl State {
    pub(super) fn new(
        namespace: Namespace,
        extents: Extents,
        cache: BlockCache,
        store: Arc<dyn VolumeStore>,
        local_files: LocalFiles,
    ) -> State {
        let mut state = State {
            namespace,
            open: HashMap::new(),
            handles: HashMap::new(),
            next_handle: 1,
            cache,
            extents,
            fetches: HashMap::new(),
            clears: VecDeque::new(),
            queue: VecDeque::new(),
            wakeup: Wakeup::Idle,
            last_lsn: store.vdl(),
            effects: Effects::default(),
            store,
            local_files,
            encoder: Encoder::new(),
            groups: Vec::new(),
            ranges: Vec::new(),
            used_bytes: 0,
        };
        let all: Vec<u64> = state.namespace.inodes().map(|(ino, _)| ino).collect();
        state.used_bytes = state.allocated_by(&all);
        state
    }

    /// How many bytes of a shipped file are there: holes count where they share 64 MiB with something that is.
    #[must_use]
    pub fn allocated(&self, ino: u64) -> u64 {
        match self.namespace.inode(ino) {
            Ok(inode) if inode.kind == Kind::Regular && !inode.local => {
                let Placement { file, first } = inode.placement;
                self.extents.allocated(file, first, inode.size, inode.is_relation())
            }
            _ => 0,
        }
    }

    /// How many bytes are there, over all shipped files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub(super) fn allocated_by(&self, inodes: &[u64]) -> u64 {
        inodes.iter().map(|&ino| self.allocated(ino)).sum()
    }

    /// Counts what became of inodes, each named once, that had `before` bytes.
    pub(super) fn recount(&mut self, inodes: &[u64], before: u64) {
        self.used_bytes = self.used_bytes + self.allocated_by(inodes) - before;
    }

    /// Changes that wait in the queue.
    #[must_use]
    pub fn parked(&self) -> u64 {
        self.queue.len() as u64
    }

    /// Starts a record.
    pub(super) fn begin_record(&mut self) {
        self.encoder.reset();
        self.groups.clear();
    }

    /// Says that the record touches a group.
    pub(super) fn touch_group(&mut self, group: GroupId) {
        if !self.groups.contains(&group) {
            self.groups.push(group);
        }
    }

    /// Says that the record touches the namespace or the extent map.
    pub(super) fn touch_entries(&mut self) {
        self.touch_group(GroupId(0));
    }

    /// Appends the record; an empty one is no record.
    pub(super) fn append(&mut self) -> Result<Lsn, Stop> {
        if self.encoder.is_empty() {
            return Ok(self.last_lsn);
        }
        let payload = [self.encoder.payload()];
        let record = NewRecord { codec: CODEC_BYTE_RANGE, payload: &payload, groups: &self.groups };
        match self.store.append(record) {
            Ok(lsn) => {
                assert!(lsn > self.last_lsn, "a record at {lsn} after one at {}", self.last_lsn);
                self.last_lsn = lsn;
                Ok(lsn)
            }
            Err(AppendRefused::AtAllocationLimit) => Err(Stop::Wait(Wait::Room)),
            Err(AppendRefused::Lost(lost)) => Err(lost.into()),
        }
    }

    /// Logs a change of the namespace as one record and makes it true.
    pub(super) fn commit(&mut self, change: &Change) -> Result<(), Stop> {
        self.begin_record();
        if change.is_logged() {
            self.touch_entries();
        }
        change.encode(&mut self.encoder);
        for &placement in &change.dropped {
            self.encode_clear(placement, 0..max_blocks(placement));
        }
        let lsn = self.append()?;
        let inodes = change.inodes();
        let before = self.allocated_by(&inodes);
        self.namespace.apply(change);
        for &placement in &change.dropped {
            self.forget_blocks(placement, 0..max_blocks(placement), lsn);
        }
        self.recount(&inodes, before);
        for &ino in &change.dropped_local {
            self.local_files.remove(ino);
        }
        Ok(())
    }

    /// Adds to the record that blocks of a file are gone, extents that are wholly gone included.
    pub(super) fn encode_clear(&mut self, placement: Placement, blocks: Range<u64>) {
        let file = placement.file;
        let (from, end) = in_key_range(placement, &blocks);
        let covered: Vec<_> = self.extents.covering(file, from, end).collect();
        if covered.is_empty() {
            return;
        }
        for &(_, group) in &covered {
            self.touch_group(group);
        }
        self.encoder.clear(Key::block(file, from), Key::block(file, end));
        let whole = whole_extents(from, end);
        if covered.iter().any(|(extent, _)| whole.contains(extent)) {
            self.touch_entries();
            self.encoder.clear(Key::extent(file, whole.start), Key::extent(file, whole.end));
        }
    }

    /// Makes true in memory what [`State::encode_clear`] logged.
    pub(super) fn forget_blocks(&mut self, placement: Placement, blocks: Range<u64>, lsn: Lsn) {
        let file = placement.file;
        let (from, end) = in_key_range(placement, &blocks);
        if self.extents.covering(file, from, end).next().is_none() {
            return;
        }
        let whole = whole_extents(from, end);
        self.extents.remove(file, whole.start, whole.end);
        self.clear_in_memory(file, from..end, lsn);
    }

    /// Blocks of a file (by number in its key range) became absent with the record at `lsn`.
    fn clear_in_memory(&mut self, file: FileKey, blocks: Range<u64>, lsn: Lsn) {
        self.cache.remove(file, blocks.start, blocks.end);
        let range = Key::block(file, blocks.start)..Key::block(file, blocks.end);
        for (key, fetch) in &mut self.fetches {
            fetch.stale |= range.contains(key);
        }
        let vdl = self.store.vdl();
        while self.clears.front().is_some_and(|(at, _)| *at <= vdl) {
            self.clears.pop_front();
        }
        if lsn > vdl {
            self.clears.push_back((lsn, range));
        }
    }

    /// Takes the new version of a block into the cache.
    pub(super) fn put_block(&mut self, key: Key, data: Bytes, lsn: Lsn, vdl: Lsn) {
        if !self.fetches.is_empty()
            && let Some(fetch) = self.fetches.get_mut(&key)
        {
            fetch.stale = true;
        }
        self.cache.insert(key, data, lsn, vdl);
    }

    /// The newest logged version of a block, by its number in the key range.
    pub(super) fn base(&mut self, file: FileKey, block: u64) -> Base {
        let key = Key::block(file, block);
        let Some(group) = self.extents.group(file, block) else { return Base::Zero };
        if let Some(data) = self.cache.get(key) {
            return Base::Known(data);
        }
        if self.is_cleared(key) { Base::Zero } else { Base::Stored(group) }
    }

    /// The group of a block that storage alone has.
    pub(super) fn only_stored(&self, file: FileKey, block: u64) -> Option<GroupId> {
        let key = Key::block(file, block);
        let group = self.extents.group(file, block)?;
        (!self.cache.contains(key) && !self.is_cleared(key)).then_some(group)
    }

    /// Whether a block was cleared by a record that is not durable yet.
    fn is_cleared(&self, key: Key) -> bool {
        if self.clears.is_empty() {
            return false;
        }
        let vdl = self.store.vdl();
        self.clears.iter().any(|(lsn, range)| *lsn > vdl && range.contains(&key))
    }

    /// The size that the kernel sees: a held head counts.
    pub fn visible_size(&self, ino: u64) -> Result<u64, FsError> {
        let size = self.namespace.inode(ino)?.size;
        let head = self.open.get(&ino).and_then(|file| file.head.as_ref());
        Ok(head.map_or(size, |head| size.max(head.end())))
    }
}

/// Blocks of a file as numbers in its key range: the first and the exclusive end.
fn in_key_range(placement: Placement, blocks: &Range<u64>) -> (u64, u64) {
    (placement.first + blocks.start, placement.first.saturating_add(blocks.end))
}

/// The most blocks that a file can have: a relation segment must not reach into the next.
pub(super) fn max_blocks(placement: Placement) -> u64 {
    match Key::block(placement.file, 0).class() {
        Some(zorya_types::KeyClass::RelationBlock) => SEGMENT_BLOCKS,
        _ => (i64::MAX as u64) / crate::file::BLOCK,
    }
}

/// The extents all of whose blocks lie in `from..end` of a key range.
fn whole_extents(from: u64, end: u64) -> Range<u64> {
    let start = from.div_ceil(EXTENT_BLOCKS);
    start..extent_of(end).max(start)
}

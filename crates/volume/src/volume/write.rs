//! WRITE: split page writes held back, each block reduced to what changes, everything in one record.

use bytes::Bytes;
use zorya_types::{BLOCK_SIZE, FileKey, GroupId, Key, Lsn, planted};

use super::now_ns;
use super::queue::Chore;
use super::state::{Base, State, Stop, Wait, max_blocks};
use crate::errno::FsError;
use crate::file::diff;
use crate::file::extents::extent_of;
use crate::file::reassembly::{self, Head};
use crate::file::{BLOCK, zero_block};
use crate::namespace::{Inode, Kind};

/// A block whose changed bytes reach this many is logged whole: a version that needs no base is cheaper to read.
const WHOLE_FROM: usize = BLOCK_SIZE / 2;

/// A write prepared for the log: what memory will hold once it is appended.
#[derive(Default)]
pub(super) struct Staged {
    blocks: Vec<(Key, Bytes, bool)>,
    extents: Vec<(FileKey, u64, GroupId)>,
}

impl State {
    /// Writes bytes to a shipped file. `handle`: who writes; `None` for pages changed through a mapping.
    pub(super) fn write(
        &mut self,
        handle: Option<u64>,
        ino: u64,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Stop> {
        let inode = self.namespace.inode(ino)?;
        if inode.kind != Kind::Regular || inode.local {
            return Err(FsError::Invalid.into());
        }
        let (paged, size, placement) = (inode.paged, inode.size, inode.placement);
        let limit = max_blocks(placement) * BLOCK;
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > limit) {
            return Err(FsError::TooLarge { limit }.into());
        }
        if data.is_empty() {
            return Ok(());
        }
        match handle {
            Some(handle) if paged => self.write_page_fragment(handle, ino, size, offset, data),
            _ => self.log_write(ino, offset, data),
        }
    }

    /// A WRITE to a file written in pages: see [`reassembly`].
    fn write_page_fragment(
        &mut self,
        handle: u64,
        ino: u64,
        size: u64,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Stop> {
        let head = self.open.get(&ino).and_then(|file| file.head.as_ref());
        let part = reassembly::fragment(head, handle, offset, data.len() as u64);
        let joined: Vec<u8>;
        let (bytes, old_size) = match head {
            Some(head) if part.continues => {
                joined = [head.bytes.as_slice(), data].concat();
                (joined.as_slice(), head.old_size)
            }
            Some(_) => {
                self.drop_head(ino)?;
                (data, size)
            }
            None => (data, size),
        };
        let split = (part.log_to - part.log_from) as usize;
        if split > 0 {
            self.log_write(ino, part.log_from, &bytes[..split])?;
        }
        let held = (part.hold_to > part.log_to).then(|| Head {
            handle,
            start: part.log_to,
            bytes: bytes[split..].to_vec(),
            old_size,
        });
        if held.is_some() || part.continues {
            self.open.entry(ino).or_default().head = held;
            self.open_gates(ino);
        }
        Ok(())
    }

    /// Ends a head whose writer is gone: the page keeps what it was, and the kernel forgets what it cached.
    pub(super) fn drop_head(&mut self, ino: u64) -> Result<(), Stop> {
        let Some(head) = self.open.get(&ino).and_then(|file| file.head.clone()) else { return Ok(()) };
        if planted::is_planted(planted::PlantedBug::HeadNotDropped) {
            return self.log_head(ino);
        }
        tracing::info!(
            ino,
            offset = head.start,
            len = head.bytes.len(),
            "an unfinished page write is dropped"
        );
        if let Some(file) = self.open.get_mut(&ino) {
            file.head = None;
            file.invalidating += 1;
        }
        self.effects.chores.push(Chore::Invalidate { ino, offset: head.start, len: BLOCK });
        Ok(())
    }

    /// Ends a head by logging it as generic bytes.
    pub(super) fn log_head(&mut self, ino: u64) -> Result<(), Stop> {
        let Some(head) = self.open.get(&ino).and_then(|file| file.head.clone()) else { return Ok(()) };
        self.log_write(ino, head.start, &head.bytes)?;
        if let Some(file) = self.open.get_mut(&ino) {
            file.head = None;
        }
        self.open_gates(ino);
        Ok(())
    }

    /// Logs bytes of a file as one record and makes them true. Logs nothing if nothing changes.
    pub(super) fn log_write(&mut self, ino: u64, offset: u64, data: &[u8]) -> Result<(), Stop> {
        let inode = self.namespace.inode(ino)?.clone();
        let end = offset + data.len() as u64;
        let bases = self.bases_of_write(&inode, offset, data.len())?;
        let changed = self.changed_inode(&inode, end);
        self.begin_record();
        if let Some(inode) = &changed {
            self.touch_entries();
            self.encoder.put(Key::inode(ino), &inode.encode());
        }
        let staged = self.stage_blocks(&inode, offset, data, bases);
        let lsn = self.append()?;
        self.take_in(ino, &inode, changed, staged, lsn);
        Ok(())
    }

    /// The versions that a write changes in part or extends; `None` where it replaces a stored block whole.
    pub(super) fn bases_of_write(
        &mut self,
        inode: &Inode,
        offset: u64,
        len: usize,
    ) -> Result<Vec<Option<Bytes>>, Stop> {
        let end = offset + len as u64;
        let mut missing = Vec::new();
        let mut bases = Vec::with_capacity(len / BLOCK_SIZE + 2);
        for block in offset / BLOCK..=(end - 1) / BLOCK {
            let number = inode.placement.first + block;
            let beyond = block * BLOCK >= inode.size;
            let base = if beyond { Base::Zero } else { self.base(inode.placement.file, number) };
            match base {
                Base::Known(data) => bases.push(Some(data)),
                Base::Zero => bases.push(Some(zero_block())),
                Base::Stored(group) => {
                    let whole = offset <= block * BLOCK && end >= (block + 1) * BLOCK;
                    if !whole {
                        missing.push((group, Key::block(inode.placement.file, number)));
                    }
                    bases.push(None);
                }
            }
        }
        if missing.is_empty() { Ok(bases) } else { Err(Stop::Wait(Wait::Blocks(missing))) }
    }

    /// The inode as the write's record has to say it, if it has to: longer, or without its set-id bits.
    fn changed_inode(&self, inode: &Inode, end: u64) -> Option<Inode> {
        let mode = inode.mode_without_set_id();
        if end <= inode.size && inode.mode == mode {
            return None;
        }
        let now = now_ns();
        Some(Inode { size: inode.size.max(end), mode, mtime: now, ctime: now, ..inode.clone() })
    }

    /// Encodes the changed ranges of every block, new extents first.
    pub(super) fn stage_blocks(
        &mut self,
        inode: &Inode,
        offset: u64,
        data: &[u8],
        bases: Vec<Option<Bytes>>,
    ) -> Staged {
        let mut staged = Staged::default();
        let mut ranges = std::mem::take(&mut self.ranges);
        let file = inode.placement.file;
        let mut at = 0;
        for base in bases {
            let position = offset + at as u64;
            let within = (position % BLOCK) as usize;
            let len = (BLOCK_SIZE - within).min(data.len() - at);
            let piece = &data[at..at + len];
            at += len;
            let number = inode.placement.first + position / BLOCK;
            let block_start = number * BLOCK;
            let key = Key::block(file, number);
            let Some(base) = base else {
                self.log_range(file, number, block_start, piece, &mut staged);
                staged.blocks.push((key, Bytes::copy_from_slice(piece), true));
                continue;
            };
            let changed = diff::differing(&base[within..within + len], piece, &mut ranges);
            if changed == 0 {
                staged.blocks.push((key, base, false));
                continue;
            }
            let mut version = Vec::with_capacity(BLOCK_SIZE);
            version.extend_from_slice(&base);
            version[within..within + len].copy_from_slice(piece);
            if changed >= WHOLE_FROM {
                self.log_range(file, number, block_start, &version, &mut staged);
            } else {
                for range in &ranges {
                    let from = block_start + (within + range.start) as u64;
                    self.log_range(file, number, from, &piece[range.clone()], &mut staged);
                }
            }
            staged.blocks.push((key, version.into(), true));
        }
        self.ranges = ranges;
        staged
    }

    fn log_range(&mut self, file: FileKey, block: u64, at: u64, bytes: &[u8], staged: &mut Staged) {
        let group = self.group_for(file, extent_of(block), block, staged);
        self.touch_group(group);
        self.encoder.write(file, at, bytes);
    }

    /// The group of a block's extent; a new one is logged in the same record.
    fn group_for(&mut self, file: FileKey, extent: u64, block: u64, staged: &mut Staged) -> GroupId {
        if let Some(group) = self.extents.group(file, block) {
            return group;
        }
        if let Some(&(.., group)) = staged.extents.iter().find(|&&(of, at, _)| of == file && at == extent) {
            return group;
        }
        let group = self.extents.next_group();
        self.touch_entries();
        self.encoder.put(Key::extent(file, extent), &crate::namespace::inode::encode_group(group.0));
        staged.extents.push((file, extent, group));
        group
    }

    /// Makes a staged write true in memory.
    pub(super) fn keep(&mut self, staged: Staged, lsn: Lsn) {
        for (file, extent, group) in staged.extents {
            self.extents.insert(file, extent, group);
        }
        let vdl = self.store.vdl();
        for (key, data, is_new) in staged.blocks {
            if is_new {
                self.put_block(key, data, lsn, vdl);
            } else if self.extents.group(key.file(), key.lo).is_some() {
                self.cache.insert(key, data, Lsn::ZERO, vdl);
            }
        }
    }

    fn take_in(&mut self, ino: u64, old: &Inode, changed: Option<Inode>, staged: Staged, lsn: Lsn) {
        let before = self.allocated(ino);
        self.keep(staged, lsn);
        match changed {
            Some(inode) => {
                let grown = inode.size - old.size;
                let last = old.placement.first + inode.size.saturating_sub(1) / BLOCK;
                self.extents.count_growth(old.placement.file, last, grown);
                self.namespace.apply(&crate::namespace::Change {
                    edits: vec![crate::namespace::Edit::PutInode(ino, inode)],
                    ..Default::default()
                });
                self.set_times_dirty(ino, false);
            }
            None => {
                let now = now_ns();
                self.namespace.touch(ino, |inode| (inode.mtime, inode.ctime) = (now, now));
                self.set_times_dirty(ino, true);
            }
        }
        self.recount(&[ino], before);
    }

    pub(super) fn set_times_dirty(&mut self, ino: u64, dirty: bool) {
        if let Some(file) = self.open.get_mut(&ino) {
            file.times_dirty = dirty;
        }
    }
}

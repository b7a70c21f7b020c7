//! Truncation, extension and holes.

use zorya_types::{BLOCK_SIZE, Key, Lsn};

use super::state::{Base, State, Stop, Wait, max_blocks};
use crate::errno::FsError;
use crate::file::BLOCK;
use crate::namespace::{Change, Edit, Inode, Kind, Placement};

/// A range of a block that becomes zeroes, with the version before.
struct Zeroed {
    block: u64,
    from: usize,
    to: usize,
    base: bytes::Bytes,
}

impl State {
    /// Sets the size of a shipped file, and other attributes that `inode` already has changed, as one record.
    pub(super) fn resize(&mut self, ino: u64, mut inode: Inode, size: u64) -> Result<(), Stop> {
        let limit = max_blocks(inode.placement) * BLOCK;
        if size > limit {
            return Err(FsError::TooLarge { limit }.into());
        }
        let old = inode.size;
        inode.size = size;
        self.begin_record();
        self.touch_entries();
        self.encoder.put(Key::inode(ino), &inode.encode());
        let mut zeroed = None;
        let first_gone = size.div_ceil(BLOCK);
        if size < old {
            zeroed = self.zeroed(inode.placement, size, (first_gone * BLOCK).min(old))?;
            self.encode_clear(inode.placement, first_gone..max_blocks(inode.placement));
            self.encode_zeroed(inode.placement, zeroed.as_ref());
        }
        let lsn = self.append()?;
        let placement = inode.placement;
        let before = self.allocated(ino);
        self.namespace.apply(&Change { edits: vec![Edit::PutInode(ino, inode)], ..Change::default() });
        if size < old {
            self.forget_blocks(placement, first_gone..max_blocks(placement), lsn);
            self.take_in_zeroed(placement, zeroed, lsn);
        }
        self.recount(&[ino], before);
        Ok(())
    }

    /// Makes `offset..offset + len` of a file zeroes, extending it if `extend`.
    pub(super) fn zero_range(&mut self, ino: u64, offset: u64, len: u64, extend: bool) -> Result<(), Stop> {
        let mut inode = self.namespace.inode(ino)?.clone();
        if inode.kind != Kind::Regular || inode.local {
            return Err(FsError::NotSupported.into());
        }
        let limit = max_blocks(inode.placement) * BLOCK;
        let end = offset.checked_add(len).filter(|&end| end <= limit).ok_or(FsError::TooLarge { limit })?;
        let placement = inode.placement;
        let (from, to) = (offset.min(inode.size), end.min(inode.size));
        self.begin_record();
        let (whole_from, whole_to) = (from.div_ceil(BLOCK), to / BLOCK);
        let head = self.zeroed(placement, from, to.min(whole_from * BLOCK))?;
        let tail = if whole_to >= whole_from { self.zeroed(placement, whole_to * BLOCK, to)? } else { None };
        if whole_from < whole_to {
            self.encode_clear(placement, whole_from..whole_to);
        }
        self.encode_zeroed(placement, head.as_ref());
        self.encode_zeroed(placement, tail.as_ref());
        let now = super::now_ns();
        (inode.mtime, inode.ctime) = (now, now);
        if extend {
            inode.size = inode.size.max(end);
        }
        self.touch_entries();
        self.encoder.put(Key::inode(ino), &inode.encode());
        let lsn = self.append()?;
        let before = self.allocated(ino);
        self.namespace.apply(&Change { edits: vec![Edit::PutInode(ino, inode)], ..Change::default() });
        if whole_from < whole_to {
            self.forget_blocks(placement, whole_from..whole_to, lsn);
        }
        self.take_in_zeroed(placement, head, lsn);
        self.take_in_zeroed(placement, tail, lsn);
        self.recount(&[ino], before);
        Ok(())
    }

    /// What zeroing `from..to` (bytes, within one block) changes; `None` if nothing.
    fn zeroed(&mut self, placement: Placement, from: u64, to: u64) -> Result<Option<Zeroed>, Stop> {
        if from >= to {
            return Ok(None);
        }
        let block = placement.first + from / BLOCK;
        let within = (from % BLOCK) as usize;
        let until = within + (to - from) as usize;
        assert!(until <= BLOCK_SIZE, "{from}..{to} is in one block");
        match self.base(placement.file, block) {
            Base::Zero => Ok(None),
            Base::Known(base) => Ok(Some(Zeroed { block, from: within, to: until, base })),
            Base::Stored(group) => {
                Err(Stop::Wait(Wait::Blocks(vec![(group, Key::block(placement.file, block))])))
            }
        }
    }

    fn encode_zeroed(&mut self, placement: Placement, zeroed: Option<&Zeroed>) {
        let Some(zeroed) = zeroed else { return };
        if let Some(group) = self.extents.group(placement.file, zeroed.block) {
            self.touch_group(group);
        }
        let at = zeroed.block * BLOCK + zeroed.from as u64;
        let zeroes = crate::file::zero_block().slice(..zeroed.to - zeroed.from);
        self.encoder.write(placement.file, at, &zeroes);
    }

    fn take_in_zeroed(&mut self, placement: Placement, zeroed: Option<Zeroed>, lsn: Lsn) {
        let Some(Zeroed { block, from, to, base }) = zeroed else { return };
        let mut version = base.to_vec();
        version[from..to].fill(0);
        let vdl = self.store.vdl();
        self.put_block(Key::block(placement.file, block), version.into(), lsn, vdl);
    }
}

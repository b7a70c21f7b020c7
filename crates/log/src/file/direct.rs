//! A file that is written past the kernel's page cache: what the log writes is hardly ever read again, and a sync then
//! has nothing left to write back.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use parking_lot::Mutex;

use super::disk::DiskFile;

/// What the file system wants offsets, lengths and memory to be multiples of.
const BLOCK: usize = 4096;
/// The most bytes in one write. Every file of the log that was written to keeps so much memory.
const CHUNK: usize = 256 << 10;

/// A file opened twice: for reads through the page cache, for writes past it.
pub(super) struct DirectFile {
    reads: File,
    writes: File,
    staging: Mutex<Staging>,
}

struct Staging {
    /// Empty until the first write.
    memory: Vec<u8>,
    /// Where the aligned part of `memory` starts.
    start: usize,
    /// The last block written, which the next write may have to complete: where, and what it holds.
    last: Option<(u64, Box<[u8; BLOCK]>)>,
}

impl DirectFile {
    /// Opens an existing file. Fails with `InvalidInput` where the file system cannot do this.
    pub(super) fn open(path: &Path) -> io::Result<DirectFile> {
        let writes = OpenOptions::new().write(true).custom_flags(nix::libc::O_DIRECT).open(path)?;
        let reads = OpenOptions::new().read(true).write(true).open(path)?;
        let staging = Staging { memory: Vec::new(), start: 0, last: None };
        Ok(DirectFile { reads, writes, staging: Mutex::new(staging) })
    }

    /// Writes `len` staged bytes at `place`, both aligned.
    fn write_staged(&self, staging: &mut Staging, place: u64, len: usize) -> io::Result<()> {
        let bytes = &staging.memory[staging.start..staging.start + len];
        self.writes.write_all_at(bytes, place)?;
        let last = staging.last.get_or_insert_with(|| (0, Box::new([0; BLOCK])));
        last.0 = place + (len - BLOCK) as u64;
        last.1.copy_from_slice(&bytes[len - BLOCK..]);
        Ok(())
    }

    /// Puts the content of the block at `place` into the staging memory, at its byte `at`.
    fn stage_block(&self, staging: &mut Staging, place: u64, at: usize) -> io::Result<()> {
        let range = staging.start + at..staging.start + at + BLOCK;
        match &staging.last {
            Some((last, block)) if *last == place => staging.memory[range].copy_from_slice(&block[..]),
            _ => match self.reads.read_exact_at(&mut staging.memory[range.clone()], place) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => staging.memory[range].fill(0),
                done => done?,
            },
        }
        Ok(())
    }
}

impl DiskFile for DirectFile {
    fn length(&self) -> io::Result<u64> {
        self.reads.length()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        DiskFile::read_at(&self.reads, offset, bytes)
    }

    fn write_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut staging = self.staging.lock();
        let staging = &mut *staging;
        if staging.memory.is_empty() {
            staging.memory = vec![0; CHUNK + 2 * BLOCK];
            staging.start = staging.memory.as_ptr().align_offset(BLOCK);
        }
        let mut place = offset - offset % BLOCK as u64;
        let mut filled = (offset - place) as usize;
        if filled > 0 {
            self.stage_block(staging, place, 0)?;
        }
        for slice in slices.iter() {
            let mut rest: &[u8] = slice;
            while !rest.is_empty() {
                let some = rest.len().min(CHUNK - filled);
                let at = staging.start + filled;
                staging.memory[at..at + some].copy_from_slice(&rest[..some]);
                filled += some;
                rest = &rest[some..];
                if filled == CHUNK {
                    self.write_staged(staging, place, CHUNK)?;
                    place += CHUNK as u64;
                    filled = 0;
                }
            }
        }
        if filled == 0 {
            return Ok(());
        }
        let whole = filled.next_multiple_of(BLOCK);
        if whole > filled {
            // The rest of the last block stays as it is on disk.
            let block_at = whole - BLOCK;
            let kept: Vec<u8> = staging.memory[staging.start + block_at..staging.start + filled].to_vec();
            self.stage_block(staging, place + block_at as u64, block_at)?;
            let at = staging.start + block_at;
            staging.memory[at..at + kept.len()].copy_from_slice(&kept);
        }
        self.write_staged(staging, place, whole)
    }

    fn sync(&self) -> io::Result<()> {
        self.writes.sync_data()
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.reads.forget_cached()
    }
}

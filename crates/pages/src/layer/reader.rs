//! Reading a layer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use zorya_types::{Key, LogId, VolumeId};

use super::entry::{Entries, RawEntry};
use super::format::{
    BadHeader, BlockRef, FOOTER_LEN, Footer, HEADER_LEN, SECTION_HEAD_LEN, Section, decode_clears,
    decode_header, decode_index,
};
use super::{LayerDesc, LayerIdentity, LayerIter, LayerKind, filter};
use crate::cache::{Cached, Part};
use crate::chain::{At, Chain};
use crate::clears::Clears;
use crate::config::NodeMemory;
use crate::error::ReadError;
use crate::lineage::Window;

/// Numbers the layers of this process, for the cache.
static NEXT_LAYER: AtomicU64 = AtomicU64::new(0);

/// A layer that a manifest names. Its file is removed with the last reader once it is doomed.
#[derive(Debug)]
pub(crate) struct Layer {
    pub desc: LayerDesc,
    identity: LayerIdentity,
    path: PathBuf,
    number: u64,
    node: Arc<NodeMemory>,
    doomed: AtomicBool,
    damaged: AtomicBool,
}

/// What is kept of an open layer: everything but its blocks.
#[derive(Debug)]
pub(crate) struct LayerIndex {
    file: File,
    pub(super) blocks: Vec<BlockRef>,
    pub(crate) clears: Clears,
    filter: Bytes,
}

impl Layer {
    pub(crate) fn new(
        dir: &Path,
        volume: VolumeId,
        log: LogId,
        desc: LayerDesc,
        node: Arc<NodeMemory>,
    ) -> Layer {
        let LayerDesc { kind, group, after, upto, .. } = desc;
        Layer {
            path: dir.join(desc.file_name(log)),
            identity: LayerIdentity { kind, volume, log, group, after, upto },
            desc,
            number: NEXT_LAYER.fetch_add(1, Ordering::Relaxed),
            node,
            doomed: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
        }
    }

    /// Removes the file when the last reader is done.
    pub(crate) fn doom(&self) {
        self.doomed.store(true, Ordering::Relaxed);
    }

    /// Adds the changes of `key` in the window to the chain. Of an image layer the caller has checked that its LSN lies
    /// in the window.
    pub(crate) fn collect(&self, window: Window, key: Key, chain: &mut Chain) -> Result<(), ReadError> {
        let index = self.index()?;
        let cleared = index.clears.newest(key, window.after, window.upto);
        if filter::may_contain(&index.filter, key) {
            for number in index.blocks_of(key).rev() {
                if chain.is_complete() {
                    return Ok(());
                }
                self.collect_block(&index, number, window, key, cleared, chain)?;
            }
        }
        if cleared.is_some() || self.desc.kind == LayerKind::Image {
            chain.end();
        }
        Ok(())
    }

    fn collect_block(
        &self,
        index: &LayerIndex,
        number: usize,
        window: Window,
        key: Key,
        cleared: Option<At>,
        chain: &mut Chain,
    ) -> Result<(), ReadError> {
        let block = self.block(index, number)?;
        let mut entries = Entries::new(&block, self.desc.after);
        let mut found = Vec::new();
        let visible = |entry: &RawEntry<'_>| {
            let image = self.desc.kind == LayerKind::Image;
            image || (entry.at.lsn > window.after && entry.at.lsn <= window.upto && Some(entry.at) > cleared)
        };
        while let Some(entry) = entries.next() {
            let entry = entry.ok_or_else(|| self.damaged("an impossible entry"))?;
            if entry.key > key {
                break;
            }
            if entry.key == key && visible(&entry) {
                found.push(entry);
            }
        }
        for entry in found.iter().rev() {
            chain.push(entry.change(&block));
        }
        Ok(())
    }

    /// The index, from the cache or the file.
    pub(crate) fn index(&self) -> Result<Arc<LayerIndex>, ReadError> {
        if let Some(Cached::Index(index)) = self.node.cache.get(Part::Index(self.number)) {
            return Ok(index);
        }
        let index = Arc::new(self.load_index()?);
        let bytes = index.bytes();
        self.node.cache.put(Part::Index(self.number), Cached::Index(Arc::clone(&index)), bytes);
        Ok(index)
    }

    fn load_index(&self) -> Result<LayerIndex, ReadError> {
        let file = File::open(&self.path).map_err(|error| self.io(&error))?;
        let mut header = [0; HEADER_LEN];
        self.read_exact(&file, &mut header, 0)?;
        match decode_header(&header) {
            Ok(identity) if identity == self.identity => {}
            Ok(_) => return Err(self.damaged("it is another layer than its manifest says")),
            Err(BadHeader::Damaged(reason)) => return Err(self.damaged(reason)),
            Err(BadHeader::NewerFormat(version)) => {
                return Err(
                    self.damaged(&format!("format {version} is newer than this binary: use a newer zorya"))
                );
            }
        }
        let mut footer = [0; FOOTER_LEN];
        let end = self.desc.bytes.checked_sub(FOOTER_LEN as u64).ok_or_else(|| self.damaged("too short"))?;
        self.read_exact(&file, &mut footer, end)?;
        let footer = Footer::decode(&footer).map_err(|reason| self.damaged(reason))?;
        if footer.hash != self.desc.hash {
            return Err(self.damaged("its hash is not the manifest's"));
        }
        let impossible = |_| self.damaged("an impossible index");
        let clears = match self.section(&file, footer.clears)? {
            content if content.is_empty() => Clears::default(),
            content => decode_clears(content).map_err(impossible)?,
        };
        let filter = self.section(&file, footer.filter)?;
        let blocks = decode_index(self.section(&file, footer.index)?).map_err(impossible)?;
        Ok(LayerIndex { file, blocks, clears, filter })
    }

    /// A block's content, from the cache or the file.
    fn block(&self, index: &LayerIndex, number: usize) -> Result<Bytes, ReadError> {
        let part = Part::Block(self.number, number as u32);
        if let Some(Cached::Block(block)) = self.node.cache.get(part) {
            return Ok(block);
        }
        let block = self.read_block(index, number)?;
        self.node.cache.put(part, Cached::Block(block.clone()), block.len());
        Ok(block)
    }

    /// A block's content from the file, checked.
    pub(super) fn read_block(&self, index: &LayerIndex, number: usize) -> Result<Bytes, ReadError> {
        let BlockRef { at, len, crc, .. } = index.blocks[number];
        let (stored, content) = self.checked(&index.file, Section { at, len })?;
        if stored != crc {
            return Err(self.damaged("a block is not the one of the index"));
        }
        Ok(content)
    }

    fn section(&self, file: &File, section: Section) -> Result<Bytes, ReadError> {
        if section.len == 0 {
            return Ok(Bytes::new());
        }
        self.checked(file, section).map(|(_, content)| content)
    }

    /// A section's checksum, which is that of its content, and its content.
    fn checked(&self, file: &File, section: Section) -> Result<(u32, Bytes), ReadError> {
        let end = section.at.checked_add(SECTION_HEAD_LEN as u64 + u64::from(section.len));
        if end.is_none_or(|end| end > self.desc.bytes) {
            return Err(self.damaged("a section lies outside the file"));
        }
        let bytes = self.read_section(file, section.at, SECTION_HEAD_LEN + section.len as usize)?;
        let (head, content) = bytes.split_at(SECTION_HEAD_LEN);
        let crc = crc32c::crc32c(content);
        if head[..4] != section.len.to_le_bytes() || head[4..] != crc.to_le_bytes() {
            return Err(self.damaged("a checksum differs"));
        }
        Ok((crc, Bytes::from(bytes).slice(SECTION_HEAD_LEN..)))
    }

    /// Every entry at or above `from`.
    pub(crate) fn iter_from(self: &Arc<Self>, from: Key) -> Result<LayerIter, ReadError> {
        LayerIter::new(Arc::clone(self), self.index()?, from)
    }

    /// Checks block `number` in the file; `false` if there is none.
    pub(crate) fn verify_block(&self, number: usize) -> Result<bool, ReadError> {
        let index = self.index()?;
        if number >= index.blocks.len() {
            return Ok(false);
        }
        self.read_block(&index, number).map(|_| true)
    }

    /// Whether damage was found since the process started.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(super) fn damaged(&self, reason: &str) -> ReadError {
        self.damaged.store(true, Ordering::Relaxed);
        ReadError::Damaged { file: self.path.clone(), reason: reason.to_owned() }
    }

    fn io(&self, error: &io::Error) -> ReadError {
        ReadError::Io { file: self.path.clone(), reason: error.to_string() }
    }

    /// Reads into memory that nobody zeroed first: for a block of a page or two that takes as long as reading it.
    fn read_section(&self, file: &File, at: u64, len: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let here = at + bytes.len() as u64;
            match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), here) {
                Ok(0) => return Err(self.damaged("the file is cut off")),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.io(&error.into())),
            }
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    fn read_exact(&self, file: &File, out: &mut [u8], at: u64) -> Result<(), ReadError> {
        file.read_exact_at(out, at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("the file is cut off"),
            _ => self.io(&error),
        })
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        if *self.doomed.get_mut() {
            // It has the file open, which would keep the file's room as long as the cache has room for the index.
            self.node.cache.forget(Part::Index(self.number));
            // No manifest names it; if it cannot be removed now, the next open removes it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl LayerIndex {
    /// The blocks that may hold entries of a key.
    fn blocks_of(&self, key: Key) -> std::ops::Range<usize> {
        let end = self.blocks.partition_point(|block| block.first <= key);
        let start = self.blocks.partition_point(|block| block.first < key);
        start.saturating_sub(1)..end
    }

    /// The block from which entries at or above a key are found.
    pub(super) fn block_before(&self, key: Key) -> usize {
        self.blocks.partition_point(|block| block.first < key).saturating_sub(1)
    }

    /// About how many bytes of entries lie in `from..to`: of the blocks that start there.
    pub(crate) fn bytes_in(&self, from: Key, to: Key) -> u64 {
        let start = self.blocks.partition_point(|block| block.first < from);
        let end = self.blocks.partition_point(|block| block.first < to);
        self.blocks.get(start..end).unwrap_or_default().iter().map(|block| u64::from(block.len)).sum()
    }

    fn bytes(&self) -> usize {
        let clears = self.clears.iter().count() * 80;
        self.blocks.len() * size_of::<BlockRef>() + clears + self.filter.len() + 512
    }
}

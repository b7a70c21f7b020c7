//! Writing a layer.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zorya_types::{Key, Lsn};

use super::format::{
    BLOCK_BYTES, BlockRef, Footer, HEADER_LEN, SECTION_HEAD_LEN, Section, encode_clears, encode_header,
    encode_index, plaintext_hash,
};
use super::{LayerDesc, LayerIdentity, LayerKind, entry, file_name, filter};
use crate::chain::{At, Change};
use crate::clears::Clears;
use crate::error::WorkError;

/// Dirty bytes are synced in portions, so that no flush at the end stalls the log's.
const SYNC_EVERY_BYTES: u64 = 8 << 20;
/// Bytes are handed to the system in portions of about this size.
const WRITE_BYTES: usize = 256 << 10;

/// Writes one layer, entries in order of key, then time. Dropped before [`LayerWriter::finish`] it removes the file.
pub(crate) struct LayerWriter {
    identity: LayerIdentity,
    header: [u8; HEADER_LEN],
    number: u64,
    path: PathBuf,
    file: File,
    /// Closed blocks that are not handed to the system yet.
    pending: Vec<u8>,
    /// Bytes before `pending`.
    written: u64,
    synced: u64,
    block: Vec<u8>,
    block_first: Option<(Key, Lsn)>,
    blocks: Vec<BlockRef>,
    first: Option<Key>,
    last: Option<Key>,
    /// Of every key once; empty for images.
    hashes: Vec<u64>,
    entries: u64,
    finished: bool,
}

impl LayerWriter {
    /// Starts file `number` in `dir`.
    pub(crate) fn create(dir: &Path, identity: LayerIdentity, number: u64) -> Result<LayerWriter, WorkError> {
        let name =
            file_name(identity.log, identity.group, identity.kind, identity.after, identity.upto, number);
        let path = dir.join(name);
        let file = File::create(&path).map_err(|source| io_error("create", &path, source))?;
        let header = encode_header(&identity);
        Ok(LayerWriter {
            identity,
            header,
            number,
            path,
            file,
            pending: header.to_vec(),
            written: 0,
            synced: 0,
            block: Vec::new(),
            block_first: None,
            blocks: Vec::new(),
            first: None,
            last: None,
            hashes: Vec::new(),
            entries: 0,
            finished: false,
        })
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.written + (self.pending.len() + self.block.len()) as u64
    }

    /// Adds an entry, which is above all before it.
    pub(crate) fn push(&mut self, key: Key, at: At, change: &Change) -> Result<(), WorkError> {
        debug_assert!(self.last.is_none_or(|last| last <= key), "{key:?} after {:?}", self.last);
        if self.block.len() >= BLOCK_BYTES {
            self.close_block()?;
        }
        let before = match self.block_first {
            Some(_) => self.last,
            None => None,
        };
        if self.last != Some(key) && self.identity.kind == LayerKind::Delta {
            self.hashes.push(filter::hash(key));
        }
        self.block_first.get_or_insert((key, at.lsn));
        entry::put(&mut self.block, before, self.identity.after, key, at, change);
        self.first.get_or_insert(key);
        self.last = Some(key);
        self.entries += 1;
        Ok(())
    }

    /// Writes the rest and syncs the file. `range` is what the layer answers for; without one, what is in it.
    pub(crate) fn finish(
        mut self,
        clears: &Clears,
        range: Option<(Key, Key)>,
    ) -> Result<LayerDesc, WorkError> {
        self.close_block()?;
        let filter = if self.hashes.is_empty() { Vec::new() } else { filter::build(&self.hashes) };
        let clears_content = if clears.is_empty() { Vec::new() } else { encode_clears(clears).to_vec() };
        let index = encode_index(&self.blocks);
        let footer = Footer {
            clears: self.section(&clears_content),
            filter: self.section(&filter),
            index: self.section(&index),
            entries: self.entries + clears.iter().count() as u64,
            hash: plaintext_hash(&self.header, [&clears_content, &filter, &index]),
        };
        self.pending.extend_from_slice(&footer.encode());
        self.write_pending()?;
        self.file.sync_all().map_err(|source| io_error("sync", &self.path, source))?;
        self.finished = true;
        let (from, to) = range.unwrap_or_else(|| self.span(clears));
        let LayerIdentity { kind, group, after, upto, .. } = self.identity;
        let (entries, hash) = (footer.entries, footer.hash);
        Ok(LayerDesc {
            file: self.number,
            kind,
            level: 0,
            group,
            after,
            upto,
            from,
            to,
            superseded: None,
            entries,
            bytes: self.written,
            hash,
        })
    }

    fn span(&self, clears: &Clears) -> (Key, Key) {
        let own = self.first.zip(self.last.map(Key::successor));
        match (own, clears.span()) {
            (Some((from, to)), Some((low, high))) => (from.min(low), to.max(high)),
            (Some(span), None) | (None, Some(span)) => span,
            (None, None) => (Key::MIN, Key::MIN),
        }
    }

    fn close_block(&mut self) -> Result<(), WorkError> {
        let Some((first, first_lsn)) = self.block_first.take() else { return Ok(()) };
        let block = std::mem::take(&mut self.block);
        let Section { at, len } = self.section(&block);
        let crc = crc32c::crc32c(&block);
        self.blocks.push(BlockRef { first, first_lsn, at, len, crc });
        self.block = block;
        self.block.clear();
        if self.pending.len() >= WRITE_BYTES { self.write_pending() } else { Ok(()) }
    }

    /// Appends a section and says where; nothing for an empty one.
    fn section(&mut self, content: &[u8]) -> Section {
        if content.is_empty() {
            return Section::default();
        }
        let at = self.written + self.pending.len() as u64;
        self.pending.reserve(SECTION_HEAD_LEN + content.len());
        self.pending.extend_from_slice(&(content.len() as u32).to_le_bytes());
        self.pending.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
        self.pending.extend_from_slice(content);
        Section { at, len: content.len() as u32 }
    }

    fn write_pending(&mut self) -> Result<(), WorkError> {
        self.file.write_all(&self.pending).map_err(|source| io_error("write", &self.path, source))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        if self.written - self.synced >= SYNC_EVERY_BYTES {
            self.file.sync_data().map_err(|source| io_error("sync", &self.path, source))?;
            self.synced = self.written;
        }
        Ok(())
    }
}

impl Drop for LayerWriter {
    fn drop(&mut self) {
        if !self.finished {
            // No manifest names it; if it cannot be removed now, the next open removes it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> WorkError {
    WorkError::Io { action, path: path.to_owned(), source }
}

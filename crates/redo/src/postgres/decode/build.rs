//! Records and pages of the log, built for tests.

use super::record::{BlockTag, RECORD_HEADER_LEN};
use super::stream::{LogFormat, crc_of};
use crate::postgres::position::{BLOCK_LEN, WalPosition};

/// The format of the logs that are built.
pub(crate) const FORMAT: LogFormat = LogFormat { page_magic: 0xd110, segment_len: 1 << 20 };

/// A block of a record.
#[derive(Debug)]
pub(crate) struct Block {
    pub id: u8,
    pub tag: BlockTag,
    pub will_init: bool,
    pub data: Vec<u8>,
    /// The image's header (length, hole offset, flags, and the hole's length if compressed) and its bytes.
    pub image: Option<(Vec<u8>, Vec<u8>)>,
}

/// A record without its link and checksum.
#[derive(Debug)]
pub(crate) struct Content {
    pub xid: u32,
    pub manager: u8,
    pub info: u8,
    pub blocks: Vec<Block>,
    pub main: Vec<u8>,
}

impl Content {
    /// The record's bytes.
    pub(crate) fn record(&self, prev: WalPosition) -> Vec<u8> {
        let mut headers = Vec::new();
        let mut bodies = Vec::new();
        for block in &self.blocks {
            let image = if block.image.is_some() { 0x10 } else { 0 };
            let data = if block.data.is_empty() { 0 } else { 0x20 };
            let init = if block.will_init { 0x40 } else { 0 };
            headers.extend_from_slice(&[block.id, block.tag.fork | image | data | init]);
            headers.extend_from_slice(&(block.data.len() as u16).to_le_bytes());
            if let Some((header, bytes)) = &block.image {
                headers.extend_from_slice(header);
                bodies.extend_from_slice(bytes);
            }
            let relation = block.tag.relation;
            for word in [relation.tablespace, relation.database, relation.number, block.tag.block] {
                headers.extend_from_slice(&word.to_le_bytes());
            }
            bodies.extend_from_slice(&block.data);
        }
        if !self.main.is_empty() {
            headers.push(254);
            headers.extend_from_slice(&(self.main.len() as u32).to_le_bytes());
            bodies.extend_from_slice(&self.main);
        }
        let len = RECORD_HEADER_LEN + headers.len() + bodies.len();
        let mut bytes = (len as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.xid.to_le_bytes());
        bytes.extend_from_slice(&prev.0.to_le_bytes());
        bytes.extend_from_slice(&[self.info, self.manager, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&headers);
        bytes.extend_from_slice(&bodies);
        let crc = crc_of(&bytes).to_le_bytes();
        bytes[20..24].copy_from_slice(&crc);
        bytes
    }
}

/// A log that is written record by record.
pub(crate) struct Log {
    pub start: WalPosition,
    pub bytes: Vec<u8>,
    prev: WalPosition,
}

impl Log {
    /// A log that begins with a segment.
    pub(crate) fn new() -> Self {
        Self {
            start: WalPosition(FORMAT.segment_len),
            bytes: Vec::new(),
            prev: WalPosition(FORMAT.segment_len - 8),
        }
    }

    fn end(&self) -> WalPosition {
        self.start.after(self.bytes.len())
    }

    /// Appends a record and returns where it begins.
    pub(crate) fn append(&mut self, content: &Content) -> WalPosition {
        let record = content.record(self.prev);
        self.page_header(0);
        let start = self.end();
        self.prev = start;
        let mut rest = &record[..];
        while !rest.is_empty() {
            self.page_header(rest.len());
            let room = BLOCK_LEN - self.end().page_offset();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend_from_slice(now);
            rest = later;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        start
    }

    /// At the beginning of a page, its header; `missing` bytes of a record follow it.
    fn page_header(&mut self, missing: usize) {
        let page = self.end();
        if page.page_offset() != 0 {
            return;
        }
        let long = page.0.is_multiple_of(FORMAT.segment_len);
        let flags = u16::from(missing > 0) | if long { 2 } else { 0 };
        self.bytes.extend_from_slice(&FORMAT.page_magic.to_le_bytes());
        self.bytes.extend_from_slice(&flags.to_le_bytes());
        self.bytes.extend_from_slice(&1_u32.to_le_bytes());
        self.bytes.extend_from_slice(&page.0.to_le_bytes());
        self.bytes.extend_from_slice(&(missing as u64).to_le_bytes());
        if long {
            self.bytes.extend_from_slice(&7_u64.to_le_bytes());
            self.bytes.extend_from_slice(&(FORMAT.segment_len as u32).to_le_bytes());
            self.bytes.extend_from_slice(&(BLOCK_LEN as u32).to_le_bytes());
        }
    }
}

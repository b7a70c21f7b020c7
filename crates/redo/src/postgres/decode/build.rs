//! Records and pages of the log, built for tests.

use super::record::{BlockTag, RECORD_HEADER_LEN};
use super::stream::{LogFormat, RawRecord, crc_of};
use super::write::{LogWriter, PageOrigin};
use crate::postgres::major::Major;
use crate::postgres::position::WalPosition;

/// The format of the logs that are built.
pub(crate) const FORMAT: LogFormat = LogFormat { major: Major::V15, segment_len: 1 << 20 };
/// Where records begin that lie in no log.
pub(crate) const START: WalPosition = WalPosition(0x0100_0000);

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

/// The record at those bytes, as if it lay in the log of [`FORMAT`].
pub(crate) fn raw(bytes: &[u8]) -> RawRecord<'_> {
    raw_of(Major::V15, bytes)
}

/// The same in a log of another version.
pub(crate) fn raw_of(major: Major, bytes: &[u8]) -> RawRecord<'_> {
    RawRecord { major, start: START, end: START.after(bytes.len().next_multiple_of(8)), bytes }
}

/// A log that is written record by record.
pub(crate) struct Log(LogWriter);

impl Log {
    /// A log that begins with a segment.
    pub(crate) fn new() -> Self {
        let origin = PageOrigin { format: FORMAT, system_identifier: 7, timeline: 1 };
        let start = WalPosition(FORMAT.segment_len);
        Self(LogWriter::new(origin, start, WalPosition(start.0 - 8)))
    }

    /// Where it begins.
    pub(crate) fn start(&self) -> WalPosition {
        self.0.start()
    }

    /// What was written.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Appends a record and returns where it begins.
    pub(crate) fn append(&mut self, content: &Content) -> WalPosition {
        self.0.append(&mut content.record(WalPosition(0)))
    }
}

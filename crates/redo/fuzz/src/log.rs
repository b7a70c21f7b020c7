//! A log, written as PostgreSQL writes it.

use zorya_redo::postgres::decode::stream::{LogFormat, crc_of};
use zorya_redo::postgres::{BLOCK_LEN, WalPosition};

/// PostgreSQL 15's format, with small segments.
pub const FORMAT: LogFormat = LogFormat { page_magic: 0xd110, segment_len: 1 << 20 };

/// A log that is being written.
pub struct Log {
    /// Where it begins.
    pub start: WalPosition,
    /// What was written.
    pub bytes: Vec<u8>,
    prev: WalPosition,
}

impl Log {
    /// A log that begins there, with a page or inside of one.
    pub fn new(start: WalPosition) -> Self {
        Self { start, bytes: Vec::new(), prev: WalPosition(start.0 - 8) }
    }

    /// Where the next byte goes.
    pub fn end(&self) -> WalPosition {
        self.start.after(self.bytes.len())
    }

    /// Links a record to the one before and appends it; returns where it begins, and it.
    pub fn append(&mut self, mut record: Vec<u8>) -> (WalPosition, Vec<u8>) {
        self.page_header(0);
        let start = self.end();
        record[8..16].copy_from_slice(&self.prev.0.to_le_bytes());
        let crc = crc_of(&record).to_le_bytes();
        record[20..24].copy_from_slice(&crc);
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
        (start, record)
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

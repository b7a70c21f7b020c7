//! Records into the pages of a log, as PostgreSQL writes them.

use super::record::RECORD_HEADER_LEN;
use super::stream::{
    LONG_PAGE_HEADER_LEN, LogFormat, PAGE_CONTINUES_RECORD, PAGE_LONG_HEADER, SHORT_PAGE_HEADER_LEN, crc_of,
};
use crate::postgres::position::{BLOCK_LEN, WalPosition};

/// What the headers of a log's pages repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageOrigin {
    /// The log's format.
    pub format: LogFormat,
    /// The cluster's identity.
    pub system_identifier: u64,
    /// The timeline.
    pub timeline: u32,
}

/// A log that is being written.
#[derive(Clone, Debug)]
pub struct LogWriter {
    origin: PageOrigin,
    start: WalPosition,
    last: WalPosition,
    bytes: Vec<u8>,
}

impl LogWriter {
    /// Goes on at `start`, a multiple of eight, in a log whose last record begins at `last`.
    #[must_use]
    pub fn new(origin: PageOrigin, start: WalPosition, last: WalPosition) -> Self {
        Self { origin, start, last, bytes: Vec::new() }
    }

    /// Where the bytes that were written begin.
    #[must_use]
    pub fn start(&self) -> WalPosition {
        self.start
    }

    /// Where the next byte goes.
    #[must_use]
    pub fn end(&self) -> WalPosition {
        self.start.after(self.bytes.len())
    }

    /// What was written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the next record begins: behind the page's header, which is written if it is due.
    pub fn begin(&mut self) -> WalPosition {
        self.header_if_due(0);
        self.end()
    }

    /// Links a record to the one before, puts its checksum right and appends it. Returns where it begins.
    ///
    /// # Panics
    /// If the record is shorter than its header.
    pub fn append(&mut self, record: &mut [u8]) -> WalPosition {
        assert!(record.len() >= RECORD_HEADER_LEN, "{} bytes are no record", record.len());
        let start = self.begin();
        record[8..16].copy_from_slice(&self.last.0.to_le_bytes());
        let crc = crc_of(record).to_le_bytes();
        record[20..24].copy_from_slice(&crc);
        self.last = start;
        let mut rest = &record[..];
        while !rest.is_empty() {
            self.header_if_due(rest.len());
            let room = BLOCK_LEN - self.end().page_offset();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend_from_slice(now);
            rest = later;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        start
    }

    /// At the beginning of a page, its header (`XLogPageHeaderData`); `missing` bytes of a record follow it.
    fn header_if_due(&mut self, missing: usize) {
        let page = self.end();
        if page.page_offset() != 0 {
            return;
        }
        let PageOrigin { format, system_identifier, timeline } = self.origin;
        let long = page.0.is_multiple_of(format.segment_len);
        let continues = if missing > 0 { PAGE_CONTINUES_RECORD } else { 0 };
        let flags = continues | if long { PAGE_LONG_HEADER } else { 0 };
        let mut header = [0; LONG_PAGE_HEADER_LEN];
        header[..2].copy_from_slice(&format.major.page_magic().to_le_bytes());
        header[2..4].copy_from_slice(&flags.to_le_bytes());
        header[4..8].copy_from_slice(&timeline.to_le_bytes());
        header[8..16].copy_from_slice(&page.0.to_le_bytes());
        header[16..20].copy_from_slice(&(missing as u32).to_le_bytes());
        header[24..32].copy_from_slice(&system_identifier.to_le_bytes());
        header[32..36].copy_from_slice(&(format.segment_len as u32).to_le_bytes());
        header[36..40].copy_from_slice(&(BLOCK_LEN as u32).to_le_bytes());
        let len = if long { LONG_PAGE_HEADER_LEN } else { SHORT_PAGE_HEADER_LEN };
        self.bytes.extend_from_slice(&header[..len]);
    }
}

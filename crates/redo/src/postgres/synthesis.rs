//! The end that a log gets so that a server starts from it without replay: the record of a shutdown checkpoint, in the
//! pages of the log.

use super::checkpoint::{CHECKPOINT_LEN, CHECKPOINT_SHUTDOWN, Checkpoint};
use super::decode::record::RECORD_HEADER_LEN;
use super::decode::stream::{LONG_PAGE_HEADER_LEN, LogFormat, SHORT_PAGE_HEADER_LEN, crc_of};
use super::manager;
use super::position::{BLOCK_LEN, WalPosition};

const ID_DATA_SHORT: u8 = 255;
const PAGE_CONTINUES_RECORD: u16 = 1;
const PAGE_LONG_HEADER: u16 = 2;

/// A log's end and what the headers of its pages repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The log's format.
    pub format: LogFormat,
    /// The cluster's identity.
    pub system_identifier: u64,
    /// Where the last record begins.
    pub last: WalPosition,
    /// Where it ends: a multiple of eight.
    pub end: WalPosition,
}

/// The bytes to append to a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The checkpoint, with its own position as where redo begins.
    pub checkpoint: Checkpoint,
    /// Where its record begins: behind a page header if the log ended with a page.
    pub start: WalPosition,
    /// What to write at the log's end.
    pub bytes: Vec<u8>,
}

/// Appends a shutdown checkpoint. Its link to the record before is exact, since replicas check it.
#[must_use]
pub fn shutdown_checkpoint(log: &LogEnd, mut checkpoint: Checkpoint) -> Appended {
    let mut pages = Pages { log, timeline: checkpoint.timeline, bytes: Vec::new() };
    pages.header_if_due(0);
    let start = pages.end();
    checkpoint.redo = start;
    checkpoint.oldest_active_xid = 0;
    let record = record(log.last, &checkpoint);
    let mut rest = &record[..];
    while !rest.is_empty() {
        pages.header_if_due(rest.len());
        let room = BLOCK_LEN - pages.end().page_offset();
        let (now, later) = rest.split_at(room.min(rest.len()));
        pages.bytes.extend_from_slice(now);
        rest = later;
    }
    let padded = pages.bytes.len().next_multiple_of(8);
    pages.bytes.resize(padded, 0);
    Appended { checkpoint, start, bytes: pages.bytes }
}

fn record(prev: WalPosition, checkpoint: &Checkpoint) -> Vec<u8> {
    let len = RECORD_HEADER_LEN + 2 + CHECKPOINT_LEN;
    let mut record = (len as u32).to_le_bytes().to_vec();
    record.extend_from_slice(&0_u32.to_le_bytes());
    record.extend_from_slice(&prev.0.to_le_bytes());
    record.extend_from_slice(&[CHECKPOINT_SHUTDOWN, manager::XLOG, 0, 0, 0, 0, 0, 0]);
    record.extend_from_slice(&[ID_DATA_SHORT, CHECKPOINT_LEN as u8]);
    record.extend_from_slice(&checkpoint.bytes());
    let crc = crc_of(&record).to_le_bytes();
    record[20..24].copy_from_slice(&crc);
    record
}

struct Pages<'a> {
    log: &'a LogEnd,
    timeline: u32,
    bytes: Vec<u8>,
}

impl Pages<'_> {
    fn end(&self) -> WalPosition {
        self.log.end.after(self.bytes.len())
    }

    /// At the beginning of a page, its header (`XLogPageHeaderData`); `missing` bytes of a record follow it.
    fn header_if_due(&mut self, missing: usize) {
        let page = self.end();
        if page.page_offset() != 0 {
            return;
        }
        let long = page.0.is_multiple_of(self.log.format.segment_len);
        let continues = if missing > 0 && !self.bytes.is_empty() { PAGE_CONTINUES_RECORD } else { 0 };
        let flags = continues | if long { PAGE_LONG_HEADER } else { 0 };
        let len = if long { LONG_PAGE_HEADER_LEN } else { SHORT_PAGE_HEADER_LEN };
        let mut header = vec![0; len];
        header[..2].copy_from_slice(&self.log.format.page_magic.to_le_bytes());
        header[2..4].copy_from_slice(&flags.to_le_bytes());
        header[4..8].copy_from_slice(&self.timeline.to_le_bytes());
        header[8..16].copy_from_slice(&page.0.to_le_bytes());
        header[16..20].copy_from_slice(&(missing as u32).to_le_bytes());
        if long {
            header[24..32].copy_from_slice(&self.log.system_identifier.to_le_bytes());
            header[32..36].copy_from_slice(&(self.log.format.segment_len as u32).to_le_bytes());
            header[36..40].copy_from_slice(&(BLOCK_LEN as u32).to_le_bytes());
        }
        self.bytes.extend_from_slice(&header);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::checkpoint::Counters;
    use crate::postgres::decode::build::{Content, FORMAT, Log};
    use crate::postgres::decode::record::decode;
    use crate::postgres::decode::stream::{Next, WalStream};

    /// Logs that end at every place of the last 200 bytes of a page, and at the page's end.
    #[test]
    fn the_record_is_read_back_wherever_the_log_ends() {
        let counters = Counters { next_xid: 800, next_oid: 16384, ..Counters::default() };
        let checkpoint = Checkpoint { timeline: 1, previous_timeline: 1, counters, ..Checkpoint::default() };
        for len in (7850..8200).step_by(3).chain([1, 100]) {
            let mut log = Log::new();
            let last =
                log.append(&Content { xid: 700, manager: 10, info: 0, blocks: vec![], main: vec![1; len] });
            let end = log.start.after(log.bytes.len());
            let ended = LogEnd { format: FORMAT, system_identifier: 7, last, end };
            let appended = shutdown_checkpoint(&ended, checkpoint);
            let bytes = [&log.bytes[..], &appended.bytes].concat();
            let mut stream = WalStream::new(FORMAT, log.start);
            let mut input = &bytes[..];
            let mut found = None;
            while let Next::Record(raw) = stream.next(&mut input).unwrap() {
                let mut references = Vec::new();
                let record = decode(raw.bytes, raw.start, raw.end, &mut references).unwrap();
                found = Checkpoint::of(&record).unwrap().map(|found| (found, record.start, record.prev));
            }
            assert_eq!(found, Some(((appended.checkpoint, true), appended.start, last)), "{len}");
            assert_eq!(appended.checkpoint.redo, appended.start);
        }
    }
}

//! The end that a log gets so that a server starts from it without replay: the record of a shutdown checkpoint, in the
//! pages of the log.

use super::checkpoint::{CHECKPOINT_LEN, CHECKPOINT_SHUTDOWN, Checkpoint};
use super::decode::record::RECORD_HEADER_LEN;
use super::decode::stream::LogFormat;
use super::decode::write::{LogWriter, PageOrigin};
use super::manager;
use super::position::WalPosition;

const ID_DATA_SHORT: u8 = 255;

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
    let LogEnd { format, system_identifier, last, end } = *log;
    let origin = PageOrigin { format, system_identifier, timeline: checkpoint.timeline };
    let mut writer = LogWriter::new(origin, end, last);
    let start = writer.begin();
    checkpoint.redo = start;
    checkpoint.oldest_active_xid = 0;
    writer.append(&mut record(&checkpoint));
    Appended { checkpoint, start, bytes: writer.bytes().to_vec() }
}

/// The checkpoint's record, without link and checksum.
fn record(checkpoint: &Checkpoint) -> Vec<u8> {
    let len = RECORD_HEADER_LEN + 2 + CHECKPOINT_LEN;
    let mut record = vec![0; RECORD_HEADER_LEN];
    record[..4].copy_from_slice(&(len as u32).to_le_bytes());
    record[16..18].copy_from_slice(&[CHECKPOINT_SHUTDOWN, manager::XLOG]);
    record.extend_from_slice(&[ID_DATA_SHORT, CHECKPOINT_LEN as u8]);
    record.extend_from_slice(&checkpoint.bytes());
    record
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
            let end = log.start().after(log.bytes().len());
            let ended = LogEnd { format: FORMAT, system_identifier: 7, last, end };
            let appended = shutdown_checkpoint(&ended, checkpoint);
            let bytes = [log.bytes(), &appended.bytes].concat();
            let mut stream = WalStream::new(FORMAT, log.start());
            let mut input = &bytes[..];
            let mut found = None;
            while let Next::Record(raw) = stream.next(&mut input).unwrap() {
                let mut references = Vec::new();
                let record = decode(raw, &mut references).unwrap();
                found = Checkpoint::of(&record).unwrap().map(|found| (found, record.start, record.prev));
            }
            assert_eq!(found, Some(((appended.checkpoint, true), appended.start, last)), "{len}");
            assert_eq!(appended.checkpoint.redo, appended.start);
        }
    }
}

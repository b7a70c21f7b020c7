//! A log, written as PostgreSQL writes it.

use zorya_redo::postgres::WalPosition;
use zorya_redo::postgres::decode::stream::LogFormat;
use zorya_redo::postgres::decode::write::{LogWriter, PageOrigin};
use zorya_redo::postgres::major::Major;

/// PostgreSQL 15's format, with small segments.
pub const FORMAT: LogFormat = LogFormat { major: Major::V15, segment_len: 1 << 20 };

/// A log that begins there, with a page or inside of one.
pub fn log_from(start: WalPosition) -> LogWriter {
    let origin = PageOrigin { format: FORMAT, system_identifier: 7, timeline: 1 };
    LogWriter::new(origin, start, WalPosition(start.0 - 8))
}

//! The log in a directory that `scripts/postgres-log` made.

use std::path::Path;

use zorya_redo::postgres::WalPosition;
use zorya_redo::postgres::decode::record::{BlockReference, Record, decode};
use zorya_redo::postgres::decode::stream::{LogFormat, Next, WalStream};
use zorya_redo::postgres::major::Major;

/// The format of PostgreSQL 15's log with segments of the default size.
pub const FORMAT: LogFormat = LogFormat { major: Major::V15, segment_len: 16 << 20 };

/// A position that the directory names.
pub fn position(directory: &Path, name: &str) -> Result<WalPosition, Box<dyn std::error::Error>> {
    Ok(std::fs::read_to_string(directory.join(name))?.parse()?)
}

/// The log's bytes from `start` on: segments in the order of their names.
pub fn read(directory: &Path, start: WalPosition) -> std::io::Result<Vec<u8>> {
    let mut names: Vec<_> = std::fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    names.retain(|entry| entry.file_name().len() == 24);
    names.sort_by_key(std::fs::DirEntry::file_name);
    let number = start.0 / FORMAT.segment_len;
    let first = format!("{:08X}{:08X}{:08X}", 1, number / 256, number % 256);
    let mut log = Vec::new();
    for entry in names.iter().filter(|entry| *entry.file_name().to_string_lossy() >= *first) {
        log.extend_from_slice(&std::fs::read(entry.path())?);
    }
    log.drain(..(start.0 % FORMAT.segment_len) as usize);
    Ok(log)
}

/// Visits the records from `start` on. Returns where the last one ends; recycled segments may follow.
pub fn each(
    log: &[u8],
    start: WalPosition,
    mut visit: impl FnMut(&Record<'_>),
) -> Result<WalPosition, Box<dyn std::error::Error>> {
    let mut stream = WalStream::new(FORMAT, start);
    let mut references: Vec<BlockReference> = Vec::new();
    let mut input = log;
    let mut end = start;
    while let Ok(Next::Record(raw)) = stream.next(&mut input) {
        end = raw.end;
        visit(&decode(raw, &mut references)?);
    }
    Ok(end)
}

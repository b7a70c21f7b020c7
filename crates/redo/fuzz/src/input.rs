//! How inputs hold records and blocks. Any bytes are an input; what is missing is empty or zero.

use zorya_redo::postgres::decode::stream::RawRecord;
use zorya_redo::postgres::major::Major;
use zorya_redo::postgres::page::Block;
use zorya_redo::postgres::{BLOCK_LEN, WalPosition};

/// Where records begin that were cut out of their log.
pub const START: WalPosition = WalPosition(0x0100_0000);
/// The versions whose redo is written: every input is one for each of them.
pub const MAJORS: [Major; 2] = [Major::V15, Major::V17];
/// Bytes of a record's header, and where its length and its resource manager are.
pub const HEADER_LEN: usize = 24;
const MANAGER_AT: usize = 17;

/// The next byte; 0 at the end.
pub fn byte(input: &mut &[u8]) -> u8 {
    bytes(input, 1).first().copied().unwrap_or(0)
}

/// The next number of two bytes.
pub fn number(input: &mut &[u8]) -> usize {
    usize::from(byte(input)) | usize::from(byte(input)) << 8
}

/// The next `len` bytes, or as many as there are.
pub fn bytes<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (front, rest) = input.split_at(len.min(input.len()));
    *input = rest;
    front
}

/// A record behind its length of two bytes. Its own length is put right, and its manager if it is none of `managers`:
/// redo of any record is asked for, not whether a changed one passes for whole.
pub fn record(input: &mut &[u8], managers: &[u8]) -> Option<Vec<u8>> {
    let len = number(input);
    let mut record = bytes(input, len).to_vec();
    let whole = record.len() as u32;
    record.get_mut(..HEADER_LEN)?[..4].copy_from_slice(&whole.to_le_bytes());
    if !managers.is_empty() && !managers.contains(&record[MANAGER_AT]) {
        record[MANAGER_AT] = managers[usize::from(record[MANAGER_AT]) % managers.len()];
    }
    Some(record)
}

/// The record at those bytes, as a server of that version wrote it.
pub fn raw(major: Major, bytes: &[u8]) -> RawRecord<'_> {
    RawRecord { major, start: START, end: START.after(bytes.len().next_multiple_of(8)), bytes }
}

/// A block without its hole: the length of its front in two bytes, its front, its back.
pub fn block(input: &mut &[u8]) -> Box<Block> {
    let mut block = Box::new([0; BLOCK_LEN]);
    let front = number(input).min(BLOCK_LEN);
    let front = bytes(input, front);
    block[..front.len()].copy_from_slice(front);
    let back = bytes(input, BLOCK_LEN - front.len());
    block[BLOCK_LEN - back.len()..].copy_from_slice(back);
    block
}

//! The log's bytes: whatever they are, and well-formed ones that were cut into chunks.

use zorya_redo::postgres::decode::image;
use zorya_redo::postgres::decode::record::decode;
use zorya_redo::postgres::decode::stream::{LogFormat, Next, WalStream, crc_of};
use zorya_redo::postgres::{BLOCK_LEN, WalPosition};

use super::input;

const FORMAT: LogFormat = LogFormat { page_magic: 0xd110, segment_len: 1 << 20 };

/// Reads the input as a log, as records to write a log of, or as one record.
pub fn decoder(mut input: &[u8]) {
    let kind = input::byte(&mut input);
    match kind % 3 {
        0 => any_log(input),
        1 => well_formed_log(input),
        _ => one_record(input),
    }
}

/// Any bytes, from a page on or from the middle of one, in chunks. The stream must not take more than there is, and
/// every step takes something or is the last.
fn any_log(mut input: &[u8]) {
    let offset = input::number(&mut input) % BLOCK_LEN;
    let chunk = input::number(&mut input) + 1;
    let start = WalPosition(3 * FORMAT.segment_len - (BLOCK_LEN - offset) as u64);
    let mut stream = WalStream::new(FORMAT, start);
    let mut references = Vec::new();
    for mut chunk in input.chunks(chunk) {
        let mut most = chunk.len() / input::HEADER_LEN + 2;
        loop {
            match stream.next(&mut chunk) {
                Ok(Next::Record(raw)) => {
                    assert!(raw.start < raw.end && raw.bytes.len() >= input::HEADER_LEN);
                    let _ = decode(raw.bytes, raw.start, raw.end, &mut references);
                }
                Ok(Next::More) => break assert!(chunk.is_empty()),
                Ok(Next::End(_)) | Err(_) => return,
            }
            assert!(most > 0, "more records than bytes");
            most -= 1;
        }
    }
}

/// Records of any content, written as PostgreSQL writes them, come out as they went in.
fn well_formed_log(mut input: &[u8]) {
    let chunk = input::number(&mut input) % 9000 + 1;
    let offset = input::number(&mut input) % BLOCK_LEN / 8 * 8;
    let mut log = Log::new(WalPosition(2 * FORMAT.segment_len - (4 * BLOCK_LEN - offset.max(24)) as u64));
    let mut records = Vec::new();
    while let Some(record) = input::record(&mut input, &[]) {
        // A switch leaves the rest of its segment empty.
        if (record[17], record[16] & 0xf0) != (0, 0x40) {
            records.push(log.append(record));
        }
    }
    let mut stream = WalStream::new(FORMAT, log.start);
    let mut expected = records.iter();
    for mut chunk in log.bytes.chunks(chunk) {
        loop {
            match stream.next(&mut chunk) {
                Ok(Next::Record(raw)) => {
                    let (start, bytes) = expected.next().expect("no more records than were written");
                    assert_eq!(raw.start, *start);
                    assert!(raw.bytes == bytes);
                }
                Ok(Next::More) => break,
                other => panic!("{other:?} in a log without damage"),
            }
        }
    }
    assert!(expected.next().is_none(), "all records that were written");
    assert_eq!(stream.position(), log.end());
}

/// A record is taken apart into parts of itself, and its images are pages or not.
fn one_record(mut input: &[u8]) {
    let Some(bytes) = input::record(&mut input, &[]) else { return };
    let mut references = Vec::new();
    let Ok(record) = decode(&bytes, input::START, input::START.after(bytes.len()), &mut references) else {
        return;
    };
    let mut parts = record.main().len();
    for reference in record.references {
        parts += record.data(reference).len() + record.image_bytes(reference).len();
        let mut block = [0; BLOCK_LEN];
        let restored = image::restore(&record, reference, &mut block);
        assert!(reference.image.is_some() || restored.is_err());
    }
    assert!(parts <= bytes.len() - input::HEADER_LEN, "no byte belongs to two parts");
}

/// A log that is being written.
struct Log {
    start: WalPosition,
    bytes: Vec<u8>,
    prev: WalPosition,
}

impl Log {
    fn new(start: WalPosition) -> Self {
        Self { start, bytes: Vec::new(), prev: WalPosition(start.0 - 8) }
    }

    fn end(&self) -> WalPosition {
        self.start.after(self.bytes.len())
    }

    /// Links a record to the one before and appends it; returns where it begins, and it.
    fn append(&mut self, mut record: Vec<u8>) -> (WalPosition, Vec<u8>) {
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

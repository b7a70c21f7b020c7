//! The log's bytes: whatever they are, and well-formed ones that were cut into chunks.

use zorya_redo::postgres::decode::image;
use zorya_redo::postgres::decode::record::decode;
use zorya_redo::postgres::decode::stream::{Next, WalStream};
use zorya_redo::postgres::major::Major;
use zorya_redo::postgres::{BLOCK_LEN, WalPosition};

use super::input;
use super::log::{FORMAT, log_from};

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
                    let _ = decode(raw, &mut references);
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
    let mut log = log_from(WalPosition(2 * FORMAT.segment_len - (4 * BLOCK_LEN - offset.max(24)) as u64));
    let mut records = Vec::new();
    while let Some(mut record) = input::record(&mut input, &[]) {
        // A switch leaves the rest of its segment empty.
        if (record[17], record[16] & 0xf0) != (0, 0x40) {
            records.push((log.append(&mut record), record));
        }
    }
    let mut stream = WalStream::new(FORMAT, log.start());
    let mut expected = records.iter();
    for mut chunk in log.bytes().chunks(chunk) {
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
    input::MAJORS.into_iter().for_each(|major| parts_of(major, &bytes));
}

fn parts_of(major: Major, bytes: &[u8]) {
    let mut references = Vec::new();
    let Ok(record) = decode(input::raw(major, bytes), &mut references) else { return };
    let mut parts = record.main().len();
    for reference in record.references {
        parts += record.data(reference).len() + record.image_bytes(reference).len();
        let mut block = [0; BLOCK_LEN];
        let restored = image::restore(&record, reference, &mut block);
        assert!(reference.image.is_some() || restored.is_err());
    }
    assert!(parts <= bytes.len() - input::HEADER_LEN, "no byte belongs to two parts");
}

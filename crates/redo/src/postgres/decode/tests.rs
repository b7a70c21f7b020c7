use proptest::prelude::*;

use super::build::{Block, Content, FORMAT, Log, raw};
use super::image;
use super::record::{BlockTag, FORK_MAIN, Malformed, Relation, decode};
use super::stream::{Damage, Next, WalStream};
use crate::postgres::position::{BLOCK_LEN, WalPosition};

const RELATION: Relation = Relation { tablespace: 1663, database: 5, number: 16384 };

fn content(main: Vec<u8>) -> Content {
    Content { xid: 700, manager: 10, info: 0, blocks: Vec::new(), main }
}

fn block(id: u8, data: Vec<u8>, image: Option<(Vec<u8>, Vec<u8>)>) -> Block {
    Block {
        id,
        tag: BlockTag { relation: RELATION, fork: FORK_MAIN, block: 9 },
        will_init: false,
        data,
        image,
    }
}

/// Where a record begins, and its bytes.
type Found = (WalPosition, Vec<u8>);

/// What a stream finds in chunks of the given length: records, and how it ends.
fn read(log: &Log, bytes: &[u8], chunk_len: usize) -> (Vec<Found>, Result<&'static str, Damage>) {
    let mut stream = WalStream::new(FORMAT, log.start());
    let mut found = Vec::new();
    for mut chunk in bytes.chunks(chunk_len) {
        loop {
            match stream.next(&mut chunk) {
                Ok(Next::Record(raw)) => found.push((raw.start, raw.bytes.to_vec())),
                Ok(Next::More) => break,
                Ok(Next::End(_)) => return (found, Ok("end")),
                Err(damage) => return (found, Err(damage)),
            }
        }
    }
    (found, Ok("more"))
}

fn log_of(lengths: &[usize]) -> (Log, Vec<WalPosition>) {
    let mut log = Log::new();
    let starts = lengths.iter().map(|&len| log.append(&content(vec![0xab; len]))).collect();
    (log, starts)
}

#[test]
fn records_are_found_whatever_the_chunks() {
    let (log, starts) = log_of(&[10, 8100, 5, 30_000, 1, 8150, 8128, 64, 100]);
    let (whole, _) = read(&log, log.bytes(), usize::MAX);
    assert_eq!(whole.iter().map(|(start, _)| *start).collect::<Vec<_>>(), starts);
    for chunk_len in [1, 3, 7, 8, 24, 1000, 8192, 8200] {
        assert_eq!(read(&log, log.bytes(), chunk_len), (whole.clone(), Ok("more")), "{chunk_len}");
    }
}

#[test]
fn a_cut_is_an_end_and_never_damage() {
    let (log, starts) = log_of(&[10, 9000, 20_000, 50]);
    for len in 0..log.bytes().len() {
        let (found, end) = read(&log, &log.bytes()[..len], usize::MAX);
        assert_eq!(end, Ok("more"), "cut at {len}");
        let whole = starts.iter().filter(|start| start.0 < log.start().0 + len as u64).count();
        assert!(found.len() == whole || found.len() + 1 == whole, "cut at {len}");
    }
}

#[test]
fn zeroes_are_an_end_where_nothing_was_written() {
    let (log, starts) = log_of(&[10, 9000]);
    let mut bytes = log.bytes().to_vec();
    bytes.resize(bytes.len() + 20_000, 0);
    let (found, end) = read(&log, &bytes, 1000);
    assert_eq!((found.len(), end), (starts.len(), Ok("end")));
}

#[test]
fn every_flipped_byte_of_a_record_or_header_is_found() {
    let (log, _) = log_of(&[10, 9000, 40]);
    let padding: Vec<usize> = (0..log.bytes().len()).filter(|&at| is_unchecked(&log, at)).collect();
    for at in (0..log.bytes().len()).filter(|at| !padding.contains(at)) {
        let mut bytes = log.bytes().to_vec();
        bytes[at] ^= 0x40;
        let (found, end) = read(&log, &bytes, usize::MAX);
        let quiet = end == Ok("more") && found.len() == 3;
        assert!(!quiet, "byte {at} was flipped, and nobody noticed");
    }
}

/// Bytes that the log's format leaves open: padding, timeline, unused flags and the system's identity.
fn is_unchecked(log: &Log, at: usize) -> bool {
    let in_page = log.start().after(at).page_offset();
    let first = at < BLOCK_LEN;
    let header = matches!(in_page, 4..8 | 20..24) || (first && matches!(in_page, 24..32 | 36..40));
    // The first record begins at 40 and has 39 bytes; the others end at multiples of eight but the last.
    let record_end =
        |start: usize, len: usize| (start + len..(start + len).next_multiple_of(8)).contains(&at);
    let first_len = 24 + 5 + 10;
    header || record_end(40, first_len) || {
        let second = (40 + first_len).next_multiple_of(8);
        let second_len = 24 + 5 + 9000 + 24;
        let third = (second + second_len).next_multiple_of(8);
        record_end(second, second_len) || record_end(third, 24 + 5 + 40)
    }
}

#[test]
fn a_record_comes_apart_into_what_it_was_made_of() {
    let page: Vec<u8> =
        (0..BLOCK_LEN).map(|at| if (100..8000).contains(&at) { 0 } else { at as u8 }).collect();
    let kept = [&page[..100], &page[8000..]].concat();
    let mut header = (kept.len() as u16).to_le_bytes().to_vec();
    header.extend_from_slice(&100_u16.to_le_bytes());
    header.push(0x01 | 0x02);
    let content = Content {
        blocks: vec![block(0, vec![1, 2, 3], None), block(3, Vec::new(), Some((header, kept)))],
        ..content(vec![9; 300])
    };
    let bytes = content.record(WalPosition(64));
    let mut references = Vec::new();
    let record = decode(raw(&bytes), &mut references).unwrap();
    assert_eq!((record.xid, record.manager, record.prev), (700, 10, WalPosition(64)));
    assert_eq!(record.main(), vec![9; 300]);
    let first = record.reference(0).unwrap();
    assert_eq!((record.data(first), first.tag.block), (&[1, 2, 3][..], 9));
    let second = record.reference(3).unwrap();
    assert!(second.image.as_ref().unwrap().apply);
    let mut restored = [0xff; BLOCK_LEN];
    image::restore(&record, second, &mut restored).unwrap();
    assert_eq!(&restored[..], &page[..]);
    assert!(record.reference(1).is_none());
}

#[test]
fn contradictions_and_unknown_flags_are_refused() {
    let decode_of = |content: &Content| {
        let bytes = content.record(WalPosition(64));
        decode(raw(&bytes), &mut Vec::new()).map(|_| ())
    };
    let out_of_order =
        Content { blocks: vec![block(1, vec![1], None), block(1, vec![1], None)], ..content(vec![]) };
    assert_eq!(decode_of(&out_of_order), Err(Malformed::Order(1)));
    let info = Content { info: 0x04, ..content(vec![1]) };
    assert!(matches!(decode_of(&info), Err(Malformed::UnknownFlags { .. })));
    let image = |len: u16, hole: u16, flags: u8| {
        let header = [&len.to_le_bytes()[..], &hole.to_le_bytes(), &[flags]].concat();
        Content { blocks: vec![block(0, vec![], Some((header, vec![0; len.into()])))], ..content(vec![]) }
    };
    assert_eq!(decode_of(&image(8192, 0, 0x02)), Ok(()));
    assert_eq!(decode_of(&image(8000, 0, 0x02)), Err(Malformed::Image));
    assert_eq!(decode_of(&image(8000, 8100, 0x03)), Err(Malformed::Image));
    assert!(matches!(decode_of(&image(8000, 24, 0x23)), Err(Malformed::UnknownFlags { .. })));
}

proptest! {
    #[test]
    fn any_bytes_do_not_panic_the_stream(bytes in prop::collection::vec(any::<u8>(), 0..20_000), chunk in 1_usize..9000) {
        let log = Log::new();
        let _ = read(&log, &bytes, chunk);
    }

    #[test]
    fn any_changes_of_a_log_do_not_panic_the_stream(
        changes in prop::collection::vec((0_usize..40_000, any::<u8>()), 1..20),
        chunk in 1_usize..9000,
    ) {
        let (log, _) = log_of(&[10, 8100, 5, 20_000, 1]);
        let mut bytes = log.bytes().to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = read(&log, &bytes, chunk);
    }

    #[test]
    fn any_record_bytes_do_not_panic_the_decoder(mut bytes in prop::collection::vec(any::<u8>(), 24..600)) {
        let len = (bytes.len() as u32).to_le_bytes();
        bytes[..4].copy_from_slice(&len);
        bytes[16] &= 0xf3;
        let mut references = Vec::new();
        let mut restored = [0; BLOCK_LEN];
        if let Ok(record) = decode(raw(&bytes), &mut references) {
            for reference in record.references {
                let _ = image::restore(&record, reference, &mut restored);
            }
        }
    }
}

//! How fast records are decoded and applied on one core: `speed DIR START`, where DIR holds the segments of a log
//! written with `full_page_writes = off` and START is a record's position.
//!
//! The first pass only decodes; the second one decodes and applies, and times what it applies.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use zorya_redo::postgres::decode::record::{BlockReference, BlockTag, Record, decode};
use zorya_redo::postgres::decode::stream::{LogFormat, Next, WalStream};
use zorya_redo::postgres::page::Block;
use zorya_redo::postgres::{BLOCK_LEN, Outcome, Settings, WalPosition, redo};

const FORMAT: LogFormat = LogFormat { page_magic: 0xd110, segment_len: 16 << 20 };
const SETTINGS: Settings = Settings { hints_logged: true };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("speed DIR START")?;
    let start: WalPosition = arguments.next().ok_or("speed DIR START")?.parse()?;
    let log = read(Path::new(&directory), start)?;

    let mut records = 0_u64;
    let began = Instant::now();
    each(&log, start, |_| records += 1)?;
    let decoding = began.elapsed();
    println!("decode: {records} records in {decoding:?}: {:.2} million/s", millions(records, decoding));

    let mut blocks: HashMap<BlockTag, Box<Block>> = HashMap::new();
    let (mut changes, mut underivable) = (0_u64, 0_u64);
    let mut applying = std::time::Duration::ZERO;
    each(&log, start, |record| {
        for reference in record.references {
            let block = blocks.entry(reference.tag).or_insert_with(|| Box::new([0; BLOCK_LEN]));
            let began = Instant::now();
            let outcome = redo(record, reference, block, SETTINGS);
            applying += began.elapsed();
            match outcome {
                Ok(Outcome::Changed | Outcome::ChangedKeepingLsn) => changes += 1,
                Ok(_) => {}
                Err(_) => underivable += 1,
            }
        }
    })?;
    println!(
        "redo: {changes} block changes in {applying:?} (with two clock readings each): {:.2} million/s; {underivable} \
         without a base",
        millions(changes, applying)
    );
    Ok(())
}

fn millions(count: u64, time: std::time::Duration) -> f64 {
    count as f64 / time.as_secs_f64() / 1e6
}

/// The log's bytes from `start` on: segments in the order of their names.
fn read(directory: &Path, start: WalPosition) -> std::io::Result<Vec<u8>> {
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

fn each(
    log: &[u8],
    start: WalPosition,
    mut visit: impl FnMut(&Record<'_>),
) -> Result<(), Box<dyn std::error::Error>> {
    let mut stream = WalStream::new(FORMAT, start);
    let mut references: Vec<BlockReference> = Vec::new();
    let mut input = log;
    // Recycled segments follow the end; their pages say that they are others.
    while let Ok(Next::Record(raw)) = stream.next(&mut input) {
        visit(&decode(raw.bytes, raw.start, raw.end, &mut references)?);
    }
    Ok(())
}

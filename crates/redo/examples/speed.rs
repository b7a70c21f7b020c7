//! How fast records are decoded and applied on one core: `speed DIR START FROM`, where DIR holds the segments of a log
//! written with `full_page_writes = off`, START is the position of a record from which all blocks can be derived, and
//! FROM that of the first record to measure.
//!
//! One pass only decodes. Another one applies all records up to FROM, and then times the rest as a whole: what it takes
//! longer than decoding is redo, with the look-up of each block.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

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
    let from: WalPosition = arguments.next().ok_or("speed DIR START FROM")?.parse()?;
    let log = read(Path::new(&directory), start)?;
    let rest = &log[(from.0 - start.0) as usize..];

    let mut records = 0_u64;
    let began = cpu_time()?;
    let end = each(rest, from, |_| records += 1)?;
    let decoding = cpu_time()? - began;
    let bytes = end.0 - from.0;
    println!(
        "decode: {records} records of {} bytes on average in {decoding:?}: {:.2} million/s",
        bytes / records.max(1),
        millions(records, decoding)
    );

    let mut derived = Derived::default();
    each(&log[..(from.0 - start.0) as usize], start, |record| derived.apply(record))?;
    let before = std::mem::take(&mut derived.changes);
    derived.underivable = 0;
    let began = cpu_time()?;
    each(rest, from, |record| derived.apply(record))?;
    let applying = (cpu_time()? - began).saturating_sub(decoding);
    let Derived { changes, underivable, .. } = derived;
    println!(
        "redo: {changes} block changes in {applying:?}: {:.2} million/s; {underivable} without a base; {before} before",
        millions(changes, applying)
    );
    Ok(())
}

/// All blocks, and how redo went.
#[derive(Default)]
struct Derived {
    blocks: HashMap<BlockTag, Box<Block>>,
    changes: u64,
    underivable: u64,
}

impl Derived {
    fn apply(&mut self, record: &Record<'_>) {
        for reference in record.references {
            let block = self.blocks.entry(reference.tag).or_insert_with(|| Box::new([0; BLOCK_LEN]));
            match redo(record, reference, block, SETTINGS) {
                Ok(Outcome::Changed | Outcome::ChangedKeepingLsn) => self.changes += 1,
                Ok(_) => {}
                Err(_) => self.underivable += 1,
            }
        }
    }
}

/// What this thread has computed so far: other load on the machine does not count.
fn cpu_time() -> Result<Duration, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(text.split_whitespace().next().ok_or("no schedstat")?.parse()?))
}

fn millions(count: u64, time: Duration) -> f64 {
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
) -> Result<WalPosition, Box<dyn std::error::Error>> {
    let mut stream = WalStream::new(FORMAT, start);
    let mut references: Vec<BlockReference> = Vec::new();
    let mut input = log;
    let mut end = start;
    // Recycled segments follow the end; their pages say that they are others.
    while let Ok(Next::Record(raw)) = stream.next(&mut input) {
        end = raw.end;
        visit(&decode(raw.bytes, raw.start, raw.end, &mut references)?);
    }
    Ok(end)
}

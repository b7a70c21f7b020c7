//! How fast one core decodes and applies the log of a real server, which `scripts/postgres-log pgbench DIRECTORY` makes;
//! `ZORYA_REDO_LOG` names the directory, whose log was written with `full_page_writes = off`.
//!
//! * `decode`: all records of pgbench's transactions with their block references. The rate is that of records;
//! * `redo`: the same with redo of every block, which is looked up among all blocks of the database. The rate is that of
//!   block changes, and the time what it takes longer than decoding;
//! * `blocks`: the same changes in the order of blocks, as layers keyed (block, LSN) hold them: of each block the records are
//!   decoded and applied to it, decoding included;
//! * `page`: 61 records of one page, decoded and applied to the page as it was before them.

mod log;

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use zorya_redo::postgres::decode::record::{BlockReference, BlockTag, FORK_MAIN, Record, Relation, decode};
use zorya_redo::postgres::decode::stream::RawRecord;
use zorya_redo::postgres::page::Block;
use zorya_redo::postgres::{BLOCK_LEN, Outcome, Settings, WalPosition, manager, redo};

const SETTINGS: Settings = Settings { hints_logged: true, marks_gist_deletions: true };
/// Records of a page that is measured by itself.
const PAGE_RECORDS: usize = 61;
/// Copies of that page between two looks at the clock.
const BATCH: u64 = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let directory =
        std::env::var_os("ZORYA_REDO_LOG").ok_or("ZORYA_REDO_LOG is not set: use `make bench-redo`")?;
    let log = Log::read(Path::new(&directory))?;
    let mut criterion =
        Criterion::default().configure_from_args().sample_size(10).warm_up_time(Duration::from_millis(500));
    whole_log(&mut criterion, &log);
    single_pages(&mut criterion, &log);
    criterion.final_summary();
    Ok(())
}

/// A log and the blocks before the part of it that is measured.
struct Log {
    from: WalPosition,
    measured: Vec<u8>,
    base: Blocks,
}

impl Log {
    fn read(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let start = log::position(directory, "start")?;
        let from = log::position(directory, "from")?;
        let mut bytes = log::read(directory, start)?;
        let measured = bytes.split_off((from.0 - start.0) as usize);
        let mut base = Blocks::default();
        log::each(&bytes, start, |record| base.apply(record))?;
        base.changes = 0;
        Ok(Self { from, measured, base })
    }

    /// Visits the records that are measured. Returns how long this thread computed: other load on the machine does not
    /// count.
    fn each(&self, visit: impl FnMut(&Record<'_>)) -> Duration {
        let began = cpu_time();
        log::each(&self.measured, self.from, visit).expect("a log that was read before");
        cpu_time() - began
    }
}

fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a kernel with schedstat");
    let nanoseconds = text.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the time on a processor comes first"))
}

/// All blocks, and how many changes led to them.
#[derive(Clone, Default)]
struct Blocks {
    blocks: HashMap<BlockTag, Box<Block>>,
    changes: u64,
}

impl Blocks {
    fn apply(&mut self, record: &Record<'_>) {
        for reference in record.references {
            let block = self.blocks.entry(reference.tag).or_insert_with(|| Box::new([0; BLOCK_LEN]));
            match redo(record, reference, block, SETTINGS) {
                Ok(Outcome::Changed | Outcome::ChangedKeepingLsn) => self.changes += 1,
                Ok(_) => {}
                // A block that initdb wrote, without records.
                Err(_) => drop(self.blocks.remove(&reference.tag)),
            }
        }
    }
}

fn decode_all(log: &Log) -> Duration {
    log.each(|record| {
        std::hint::black_box(record.references.len());
    })
}

fn whole_log(criterion: &mut Criterion, log: &Log) {
    let mut records = 0;
    log.each(|_| records += 1);
    let mut after = log.base.clone();
    log.each(|record| after.apply(record));
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(records));
    group.bench_function("decode", |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| decode_all(log)).sum());
    });
    group.throughput(Throughput::Elements(after.changes));
    group.bench_function("redo", |bencher| {
        bencher.iter_custom(|times| {
            (0..times)
                .map(|_| {
                    let mut blocks = log.base.clone();
                    let decoding = decode_all(log);
                    log.each(|record| blocks.apply(record)).saturating_sub(decoding)
                })
                .sum()
        });
    });
    let changes = Changes::of(log);
    group.bench_function("blocks", |bencher| {
        bencher.iter_custom(|times| {
            (0..times)
                .map(|_| {
                    let began = cpu_time();
                    assert_eq!(changes.apply(&log.base), after.changes);
                    cpu_time() - began
                })
                .sum()
        });
    });
    group.finish();
}

/// A log's records in the order of the blocks that they change, and for each block in their own.
struct Changes {
    order: Vec<Change>,
    bytes: Vec<u8>,
}

struct Change {
    tag: BlockTag,
    end: WalPosition,
    /// Of the record within the bytes.
    place: std::ops::Range<usize>,
}

impl Changes {
    fn of(log: &Log) -> Self {
        let mut found = Vec::new();
        log.each(|record| {
            found.extend(record.references.iter().map(|at| (at.tag, record.end, record.bytes().to_vec())));
        });
        found.sort_by_key(|(tag, end, _)| (*tag, *end));
        let mut bytes = Vec::new();
        let order = found.into_iter().map(|(tag, end, record)| {
            let start = bytes.len();
            bytes.extend(record);
            Change { tag, end, place: start..bytes.len() }
        });
        Self { order: order.collect(), bytes }
    }

    /// Derives every block, one after the other. Returns how many changes there were.
    fn apply(&self, base: &Blocks) -> u64 {
        let mut changed = 0;
        let mut references = Vec::new();
        for history in self.order.chunk_by(|one, next| one.tag == next.tag) {
            let tag = history[0].tag;
            let mut block = base.blocks.get(&tag).map_or([0; BLOCK_LEN], |block| **block);
            for Change { end, place, .. } in history {
                let bytes = &self.bytes[place.clone()];
                let raw = RawRecord { major: log::FORMAT.major, start: WalPosition(0), end: *end, bytes };
                let record = decode(raw, &mut references).expect("a record that was read before");
                for reference in record.references.iter().filter(|reference| reference.tag == tag) {
                    match redo(&record, reference, &mut block, SETTINGS) {
                        Ok(Outcome::Changed | Outcome::ChangedKeepingLsn) => changed += 1,
                        Ok(_) => {}
                        Err(_) => block = [0; BLOCK_LEN],
                    }
                }
            }
            std::hint::black_box(&block);
        }
        changed
    }
}

/// The first records of a page, where each ends, and the page before them.
struct History {
    tag: BlockTag,
    block: Block,
    records: Vec<(WalPosition, Vec<u8>)>,
}

impl History {
    /// How many of the records prune the page, and how many are insertions; the others are updates.
    fn name(&self) -> String {
        let prunes = self.records.iter().filter(|(_, bytes)| bytes[17] == manager::HEAP2).count();
        let inserts =
            self.records.iter().filter(|(_, bytes)| bytes[17] == manager::HEAP && bytes[16] & 0x70 == 0);
        let inserts = inserts.count();
        format!("{inserts} insertions, {} updates, {prunes} prunes", PAGE_RECORDS - inserts - prunes)
    }

    fn apply(&self, block: &mut Block, references: &mut Vec<BlockReference>) -> usize {
        let mut changes = 0;
        for (end, bytes) in &self.records {
            let raw = RawRecord { major: log::FORMAT.major, start: WalPosition(0), end: *end, bytes };
            let record = decode(raw, references).expect("a record that was read before");
            for reference in record.references.iter().filter(|reference| reference.tag == self.tag) {
                changes += usize::from(redo(&record, reference, block, SETTINGS) == Ok(Outcome::Changed));
            }
        }
        changes
    }
}

fn single_pages(criterion: &mut Criterion, log: &Log) {
    let mut group = criterion.benchmark_group("page");
    let histories: BTreeMap<_, _> =
        histories(log).into_iter().map(|history| (history.name(), history)).collect();
    for (name, history) in histories {
        let mut references = Vec::new();
        let changes = history.apply(&mut history.block.clone(), &mut references);
        assert_eq!(changes, PAGE_RECORDS, "all records change the page");
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                (0..times.div_ceil(BATCH))
                    .map(|_| {
                        let mut blocks = vec![history.block; BATCH as usize];
                        let began = cpu_time();
                        for block in &mut blocks {
                            std::hint::black_box(history.apply(block, &mut references));
                        }
                        cpu_time() - began
                    })
                    .sum::<Duration>()
                    .mul_f64(times as f64 / (times.div_ceil(BATCH) * BATCH) as f64)
            });
        });
    }
    group.finish();
}

/// Of every table the page that is the first to have so many records.
fn histories(log: &Log) -> Vec<History> {
    let is_heap = |record: &Record<'_>| matches!(record.manager, manager::HEAP | manager::HEAP2);
    let mut counts = HashMap::<BlockTag, usize>::new();
    let mut found = BTreeMap::<Relation, BlockTag>::new();
    log.each(|record| {
        for tag in record.references.iter().map(|reference| reference.tag) {
            if is_heap(record) && tag.fork == FORK_MAIN {
                let count = counts.entry(tag).or_default();
                *count += 1;
                if *count == PAGE_RECORDS {
                    found.entry(tag.relation).or_insert(tag);
                }
            }
        }
    });
    let block = |tag| log.base.blocks.get(tag).map_or([0; BLOCK_LEN], |block| **block);
    let mut histories: Vec<_> =
        found.values().map(|tag| History { tag: *tag, block: block(tag), records: Vec::new() }).collect();
    log.each(|record| {
        for history in &mut histories {
            let concerned = record.references.iter().any(|reference| reference.tag == history.tag);
            if concerned && history.records.len() < PAGE_RECORDS {
                history.records.push((record.end, record.bytes().to_vec()));
            }
        }
    });
    histories
}

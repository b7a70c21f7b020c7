//! Readers beside applying and background work.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use support::{LogWriter, scratch};
use zorya_pages::{NodeMemory, PagesConfig, ReadError, VolumePages};
use zorya_types::{FileKey, GroupId, Key, Lineage, LogId, Lsn, VolumeId};

const GROUPS: [GroupId; 2] = [GroupId(0), GroupId(1)];
const BLOCKS: u64 = 16;

/// Record `n` writes `n` into every block; a reader at its LSN sees `n` everywhere.
fn log(records: u64) -> LogWriter {
    let mut log = LogWriter::default();
    for number in 1..=records {
        log.ops(&GROUPS, |ops| {
            for block in 0..BLOCKS {
                ops.write(FileKey::inode(block), block * 8192 + 100, &number.to_le_bytes());
            }
            ops
        });
    }
    log
}

fn number_at(pages: &VolumePages, lsn: Lsn, block: u64) -> Result<u64, ReadError> {
    let key = Key::block(FileKey::inode(block), block);
    let value = pages.read(&Lineage::root(LogId(1)), lsn, GROUPS[(block % 2) as usize], key)?;
    Ok(value.map_or(0, |value| u64::from_le_bytes(value[100..108].try_into().unwrap())))
}

#[test]
fn a_reader_never_sees_a_mixture_while_layers_come_and_go() {
    let dir = scratch();
    let node = NodeMemory::new(1 << 20, 1 << 16);
    let config =
        PagesConfig { flush_bytes: 20_000, flush_us: 150_000, max_deltas: 2, layer_bytes: 50_000, node };
    let pages = VolumePages::open(dir.path(), VolumeId(1), LogId(1), config).unwrap();
    let log = log(3000);
    let number_of = |lsn: Lsn| log.records.partition_point(|record| record.header.lsn <= lsn) as u64;
    let (done, checked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let lsn = pages.applied();
                    for block in 0..BLOCKS {
                        match number_at(&pages, lsn, block) {
                            Ok(number) => assert_eq!(number, number_of(lsn), "block {block} at {lsn}"),
                            Err(ReadError::BelowHorizon { gc }) => assert!(gc > lsn),
                            Err(error) => panic!("{error}"),
                        }
                    }
                    checked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                pages.work().unwrap();
            }
        });
        for (index, record) in log.records.iter().enumerate() {
            while let Err(error) = pages.apply(record) {
                assert_eq!(error, zorya_pages::ApplyError::Backlog);
                std::thread::yield_now();
            }
            if index >= 200 {
                pages.set_gc(log.records[index - 200].header.lsn);
            }
            while index % 100 == 0 && checked.load(Ordering::Relaxed) < index as u64 / 100 {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Release);
    });
    assert!(pages.usage().images.layers > 0 && checked.into_inner() >= 29);
}

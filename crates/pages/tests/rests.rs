//! A compaction goes on in pieces, so that others can go first.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use support::{LogWriter, scratch};
use zorya_pages::{NodeMemory, PagesConfig, VolumePages};
use zorya_types::{BLOCK_SIZE, FileKey, GroupId, Key, Lineage, LogId, Lsn, VolumeId};

const GROUP: GroupId = GroupId(0);
const FLUSH_BYTES: u64 = 1 << 20;

/// Applies whole blocks, each with its own number, until the log has reached `upto`.
fn write_upto(pages: &VolumePages, log: &mut LogWriter, upto: u64) {
    while log.prev.0 < upto {
        let block = log.records.len() as u64;
        let data: Vec<u8> = (0..BLOCK_SIZE / 8).flat_map(|_| block.to_le_bytes()).collect();
        log.ops(&[GROUP], |ops| ops.write(FileKey::inode(3), block * BLOCK_SIZE as u64, &data));
        pages.apply(log.records.last().unwrap()).unwrap();
    }
}

fn is_compacted(pages: &VolumePages) -> bool {
    pages.layers().iter().any(|layer| layer.level > 0)
}

#[test]
fn a_compaction_rests_less_the_further_it_is_behind_and_a_flush_does_not_wait_for_it() {
    let dir = scratch();
    let node = NodeMemory::new(64 << 20, 16 << 20);
    let config = PagesConfig { flush_bytes: FLUSH_BYTES, max_deltas: 4, node, ..PagesConfig::default() };
    let pages = VolumePages::open(dir.path(), VolumeId(1), LogId(1), config).unwrap();
    let mut log = LogWriter::default();

    write_upto(&pages, &mut log, 4 * FLUSH_BYTES + 20_000);
    assert_eq!(pages.may_rest(), Duration::ZERO, "flushes do not rest");
    for _ in 0..4 {
        assert!(pages.work().unwrap());
    }
    assert_eq!(pages.persisted(), Lsn(4 * FLUSH_BYTES));
    assert!(pages.work().unwrap());
    let at_first = pages.may_rest();
    assert!(at_first > Duration::ZERO && !is_compacted(&pages), "{at_first:?}: one piece is not all of it");

    write_upto(&pages, &mut log, 5 * FLUSH_BYTES + 20_000);
    assert_eq!(pages.may_rest(), Duration::ZERO, "an interval waits to be flushed");
    assert!(pages.work().unwrap());
    assert_eq!(pages.persisted(), Lsn(5 * FLUSH_BYTES));
    let behind = pages.may_rest();
    assert!(behind > Duration::ZERO && behind < at_first && !is_compacted(&pages), "{behind:?}");

    write_upto(&pages, &mut log, 8 * FLUSH_BYTES + 20_000);
    for _ in 0..3 {
        assert!(pages.work().unwrap());
    }
    assert!(!is_compacted(&pages));
    assert_eq!(pages.may_rest(), Duration::ZERO, "the next compaction is due as well");

    let mut steps = 0;
    while pages.work().unwrap() {
        steps += 1;
    }
    assert!(is_compacted(&pages) && steps > 20, "{steps} steps for 8 MiB in pieces of 256 KiB");
    let lineage = Lineage::root(LogId(1));
    for (block, record) in log.records.iter().enumerate() {
        let key = Key::block(FileKey::inode(3), block as u64);
        assert!(record.header.lsn <= pages.applied());
        let value = pages.read(&lineage, pages.applied(), GROUP, key).unwrap().unwrap();
        assert_eq!(value[..8], (block as u64).to_le_bytes());
    }
}

//! What a reader gets and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::LogWriter;
use zorya_pages::{ApplyError, PagesConfig, ReadError, VolumePages};
use zorya_types::{BLOCK_SIZE, FileKey, GroupId, Key, Lineage, LogId, Lsn, VolumeId};

const GROUP: GroupId = GroupId(0);

fn open(dir: &std::path::Path) -> VolumePages {
    VolumePages::open(dir, VolumeId(1), LogId(1), PagesConfig::default()).unwrap()
}

#[test]
fn a_reader_sees_its_own_position_and_nothing_newer() {
    let dir = tempfile::tempdir().unwrap();
    let pages = open(dir.path());
    let (file, mut log) = (FileKey::inode(5), LogWriter::default());
    let key = Key::block(file, 0);
    let written = log.ops(&[GROUP], |ops| ops.write(file, 10, b"abc"));
    let cleared = log.ops(&[GROUP], |ops| ops.clear(key, key.successor()));
    let again = log.ops(&[GROUP], |ops| ops.write(file, 11, b"x").put(Key::inode(5), b"v"));
    log.records.iter().for_each(|record| pages.apply(record).unwrap());
    let lineage = Lineage::root(LogId(1));
    let read = |lsn| pages.read(&lineage, lsn, GROUP, key).unwrap();
    let block = |at: usize, data: &[u8]| {
        let mut block = vec![0; BLOCK_SIZE];
        block[at..at + data.len()].copy_from_slice(data);
        block
    };
    assert_eq!(read(written).unwrap(), block(10, b"abc"));
    assert_eq!(read(cleared), None);
    assert_eq!(read(again).unwrap(), block(11, b"x"));
    assert_eq!(read(Lsn::ZERO), None);
    let (entries, more) = pages.scan(&lineage, again, GROUP, Key::MIN, Key::MAX, 10).unwrap();
    assert_eq!((entries.len(), entries[0].0, more), (1, Key::inode(5), Some(key)));
    assert_eq!(pages.tails(again), [(GROUP, again)]);
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pages = open(dir.path());
    let mut log = LogWriter::default();
    let last = (0..3).map(|_| log.ops(&[GROUP], |ops| ops.put(Key::inode(5), b"v"))).last().unwrap();
    assert!(matches!(pages.apply(&log.records[1]), Err(ApplyError::Gap { .. })));
    log.records.iter().for_each(|record| pages.apply(record).unwrap());
    pages.apply(&log.records[0]).unwrap();
    pages.set_gc(last);
    let lineage = Lineage::root(LogId(1));
    let read = |lineage: &Lineage, lsn| pages.read(lineage, lsn, GROUP, Key::inode(5));
    assert_eq!(read(&lineage, last.plus(1)), Err(ReadError::NotApplied { applied: last }));
    assert_eq!(read(&lineage, log.records[1].header.lsn), Err(ReadError::BelowHorizon { gc: last }));
    assert_eq!(read(&lineage, Lsn::ZERO), Err(ReadError::BelowHorizon { gc: last }));
    assert_eq!(read(&Lineage::root(LogId(2)), last), Err(ReadError::UnknownLog { log: LogId(2) }));
    let group_gap = LogWriter { prev: last, ..LogWriter::default() };
    let mut log = group_gap;
    log.ops(&[GROUP], |ops| ops.delete(Key::inode(5)));
    assert!(matches!(pages.apply(&log.records[0]), Err(ApplyError::GroupGap { .. })));
    assert_eq!(pages.applied(), last);
}

#[test]
fn a_branch_reads_its_parent_up_to_the_branch_point() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let parent = std::sync::Arc::new(open(dirs[0].path()));
    let child = VolumePages::open(dirs[1].path(), VolumeId(2), LogId(2), PagesConfig::default()).unwrap();
    child.set_parents(vec![std::sync::Arc::clone(&parent)]);
    let (file, mut log) = (FileKey::inode(5), LogWriter::default());
    let branched = log.ops(&[GROUP], |ops| ops.write(file, 0, b"aaaa"));
    let mut own = log.clone();
    own.records.clear();
    log.ops(&[GROUP], |ops| ops.write(file, 0, b"bbbb"));
    log.records.iter().for_each(|record| parent.apply(record).unwrap());
    own.tails.clear();
    let written = own.ops(&[GROUP], |ops| ops.write(file, 1, b"c"));
    child.advance(branched);
    own.records.iter().for_each(|record| child.apply(record).unwrap());
    let lineage = Lineage::root(LogId(1)).branch(branched, LogId(2)).unwrap();
    let value = child.read(&lineage, written, GROUP, Key::block(file, 0)).unwrap().unwrap();
    assert_eq!(value[..5], *b"acaa\0");
    let (found, more) = child.scan(&lineage, branched, GROUP, Key::MIN, Key::MAX, 100).unwrap();
    assert_eq!((found[0].1[..4].to_vec(), found.len(), more), (b"aaaa".to_vec(), 1, None));
}

#[test]
fn a_volume_that_is_hardly_written_is_persisted_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let config = PagesConfig { flush_us: 2000, ..PagesConfig::default() };
    let pages = VolumePages::open(dir.path(), VolumeId(1), LogId(1), config).unwrap();
    let mut log = LogWriter::default();
    let written = log.ops(&[GROUP], |ops| ops.put(Key::inode(5), b"v"));
    let heartbeats: Vec<Lsn> = (0..3).map(|_| log.append(&[], b"")).collect();
    log.records.iter().for_each(|record| pages.apply(record).unwrap());
    while pages.work().unwrap() {}
    assert_eq!(pages.persisted(), heartbeats[0]);
    drop(pages);
    let pages = open(dir.path());
    assert_eq!((pages.applied(), pages.tails(Lsn::MAX)), (heartbeats[0], vec![(GROUP, written)]));
    let value = pages.read(&Lineage::root(LogId(1)), written, GROUP, Key::inode(5)).unwrap();
    assert_eq!(value.unwrap(), b"v"[..]);
}

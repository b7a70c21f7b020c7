//! Damaged, foreign, newer and missing files, and disks without room.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{LogWriter, Model, scratch};
use zorya_pages::{NodeMemory, OpenError, PagesConfig, ReadError, VolumePages};
use zorya_types::{FileKey, GroupId, Key, Lineage, LogId, Lsn, VolumeId};

const GROUP: GroupId = GroupId(0);
const BLOCKS: u64 = 24;

/// Without a cache, so that every read meets the files.
fn config() -> PagesConfig {
    PagesConfig {
        flush_bytes: 20_000,
        flush_us: 300_000_000,
        max_deltas: 3,
        layer_bytes: 100_000,
        node: NodeMemory::new(1 << 20, 0),
    }
}

fn open(dir: &Path) -> Result<VolumePages, OpenError> {
    VolumePages::open(dir, VolumeId(1), LogId(1), config())
}

fn drain(pages: &VolumePages) {
    while pages.work().unwrap() {}
}

/// Some intervals' worth of small writes, clears and entries, applied and drained.
fn filled(pages: &VolumePages) -> (LogWriter, Model) {
    let (mut log, mut model) = (LogWriter::default(), Model::default());
    for round in 0..600_u64 {
        let file = FileKey::inode(2);
        log.ops(&[GROUP], |ops| match round % 50 {
            0 => ops.clear(Key::block(file, round % BLOCKS), Key::block(file, round % BLOCKS + 2)),
            1 => ops.put(Key::inode(round % 7), &round.to_le_bytes()),
            _ => ops.write(file, (round * 4099) % (BLOCKS * 8192), &[round as u8; 300]),
        });
        let record = log.records.last().unwrap();
        model.apply(record);
        pages.apply(record).unwrap();
        if round % 100 == 0 {
            drain(pages);
        }
    }
    drain(pages);
    (log, model)
}

fn files(dir: &Path, part: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.to_string_lossy().contains(part)).collect();
    paths.sort();
    paths
}

fn keys() -> impl Iterator<Item = Key> {
    (0..7).map(Key::inode).chain((0..BLOCKS).map(|block| Key::block(FileKey::inode(2), block)))
}

/// Reads every key; gives how many reads found damage. A value that is given is the right one.
fn damaged_reads(pages: &VolumePages, lsn: Lsn, model: &Model) -> usize {
    let (expected, lineage) = (model.at(lsn), Lineage::root(LogId(1)));
    let damaged = |key: Key| match pages.read(&lineage, lsn, GROUP, key) {
        Ok(value) => {
            assert_eq!(value.as_ref(), expected.get(&key), "{key:?}");
            false
        }
        Err(ReadError::Damaged { file, .. }) => {
            assert!(file.exists());
            true
        }
        Err(error) => panic!("{error}"),
    };
    keys().filter(|key| damaged(*key)).count()
}

#[test]
fn a_flipped_bit_is_an_error_that_names_the_file_and_never_wrong_bytes() {
    let dir = scratch();
    let pages = open(dir.path()).unwrap();
    let (_, model) = filled(&pages);
    let at = pages.persisted();
    drop(pages);
    let layers = files(dir.path(), ".layer");
    assert!(layers.len() > 5);
    let mut caught = 0;
    for path in layers {
        let good = fs::read(&path).unwrap();
        for place in (0..40).map(|part| part * (good.len() - 1) / 39) {
            let mut bad = good.clone();
            bad[place] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            match open(dir.path()) {
                Ok(pages) => caught += usize::from(damaged_reads(&pages, at, &model) > 0),
                Err(OpenError::NewerFormat { .. }) => assert!(place == 8 || place == 9),
                Err(error) => panic!("{error}"),
            }
        }
        fs::write(&path, &good[..good.len() / 2]).unwrap();
        damaged_reads(&open(dir.path()).unwrap(), at, &model);
        fs::write(&path, &good).unwrap();
    }
    assert!(caught > 40, "{caught}");
    assert_eq!(damaged_reads(&open(dir.path()).unwrap(), at, &model), 0);
}

#[test]
fn the_scrub_finds_damage_that_nobody_reads() {
    let dir = scratch();
    let pages = open(dir.path()).unwrap();
    filled(&pages);
    let path = files(dir.path(), "image").pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[200] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(pages.usage().damaged_layers, 0);
    for _ in 0..1000 {
        pages.work().unwrap();
    }
    assert_eq!(pages.usage().damaged_layers, 1);
}

#[test]
fn newer_and_foreign_files_are_refused() {
    let dir = scratch();
    let pages = open(dir.path()).unwrap();
    filled(&pages);
    drop(pages);
    let foreign = VolumePages::open(dir.path(), VolumeId(2), LogId(1), config());
    assert!(matches!(foreign, Err(OpenError::OtherVolume { .. })));
    let layer = files(dir.path(), ".layer").pop().unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    bytes[8] = 2;
    fs::write(&layer, &bytes).unwrap();
    let refused = open(dir.path()).err().unwrap();
    assert!(
        matches!(&refused, OpenError::NewerFormat { path, found: 2, known: 1 } if *path == layer),
        "{refused}"
    );
    fs::remove_file(&layer).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Damaged { .. })));
}

#[test]
fn a_crash_between_layer_and_manifest_leaves_only_files_to_remove() {
    let dir = scratch();
    let pages = open(dir.path()).unwrap();
    let (log, model) = filled(&pages);
    let (persisted, before) = (pages.persisted(), pages.layers());
    drop(pages);
    let some = files(dir.path(), ".layer").pop().unwrap();
    let orphans = [
        dir.path().join("00000001-00000000-delta-0000000000000000-0000000000004e20-0000ffff.layer"),
        dir.path().join("manifest-00000000000fffff.tmp"),
    ];
    for orphan in &orphans {
        fs::copy(&some, orphan).unwrap();
    }
    let pages = open(dir.path()).unwrap();
    assert!(orphans.iter().all(|orphan| !orphan.exists()));
    assert_eq!((pages.persisted(), pages.layers()), (persisted, before));
    log.records.iter().for_each(|record| pages.apply(record).unwrap());
    assert_eq!(damaged_reads(&pages, log.prev, &model), 0);
}

/// A file system of its own, which can be full.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount(bytes: u64) -> Option<SmallDisk> {
        let dir = scratch();
        let options = format!("size={bytes}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).status();
        mounted.is_ok_and(|status| status.success()).then_some(SmallDisk { dir })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

#[test]
fn a_full_disk_is_an_error_that_passes_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(300_000) else {
        println!("skipped: mounting a small file system needs root");
        return;
    };
    let ballast = disk.dir.path().join("ballast");
    let dir = disk.dir.path().join("pages");
    let pages = open(&dir).unwrap();
    fs::write(&ballast, vec![1; 270_000]).unwrap();
    let (mut log, mut model, mut full) = (LogWriter::default(), Model::default(), 0);
    for round in 0..300_u64 {
        log.ops(&[GROUP], |ops| ops.write(FileKey::inode(2), (round * 4099) % 60_000, &[round as u8; 300]));
        model.apply(&log.records[round as usize]);
        pages.apply(&log.records[round as usize]).unwrap();
        if let Err(error) = pages.work() {
            assert!(error.is_disk_full(), "{error:?}");
            full += 1;
        }
    }
    assert!(full > 10 && pages.persisted() < log.prev, "{full}");
    assert_eq!(damaged_reads(&pages, log.prev, &model), 0);
    fs::remove_file(&ballast).unwrap();
    pages.set_gc(pages.applied());
    drain(&pages);
    assert_eq!(damaged_reads(&pages, log.prev, &model), 0);
    let (persisted, layers) = (pages.persisted(), pages.layers().len());
    assert!(persisted.plus(20_000) > log.prev);
    drop(pages);
    let pages = open(&dir).unwrap();
    assert_eq!((pages.persisted(), files(&dir, ".layer").len()), (persisted, layers));
}

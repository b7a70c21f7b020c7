//! A removed layer gives its room back. The cache once kept the indexes of removed layers, and with them their open files:
//! a node whose cache never filled up ran out of disk with half of it held by files without a name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use support::{LogWriter, scratch};
use zorya_pages::{NodeMemory, PagesConfig, VolumePages};
use zorya_types::{FileKey, GroupId, Key, Lineage, LogId, Lsn, VolumeId};

const GROUPS: [GroupId; 2] = [GroupId(0), GroupId(1)];

/// Files below `dir` that this process holds open although they have no name any more.
fn removed_but_open(dir: &Path) -> Vec<String> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let names = targets.map(|target| target.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&*dir.to_string_lossy()) && name.ends_with(" (deleted)")).collect()
}

#[test]
fn no_file_of_a_removed_layer_stays_open() {
    let dir = scratch();
    let node = NodeMemory::new(1 << 20, 16 << 20);
    let config =
        PagesConfig { flush_bytes: 20_000, flush_us: 150_000, max_deltas: 2, layer_bytes: 50_000, node };
    let pages = VolumePages::open(dir.path(), VolumeId(1), LogId(1), config).unwrap();
    let mut log = LogWriter::default();
    let key = Key::block(FileKey::inode(3), 0);
    let mut made = std::collections::BTreeSet::new();
    for number in 1..=2000_u64 {
        log.ops(&GROUPS, |ops| ops.write(FileKey::inode(3), 100, &number.to_le_bytes()));
        pages.apply(log.records.last().unwrap()).unwrap();
        while pages.work().unwrap() {}
        let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        made.extend(files.filter(|name| name.to_string_lossy().ends_with(".layer")));
        // A read that has to look into the layers keeps their indexes in the cache.
        pages.read(&Lineage::root(LogId(1)), pages.applied(), GROUPS[1], key).unwrap().unwrap();
        pages.set_gc(Lsn(pages.persisted().0));
    }
    while pages.work().unwrap() {}
    let left = made.iter().filter(|name| dir.path().join(name).exists()).count();
    assert!(made.len() > 20 && left < made.len() / 2, "{left} of {} layers are left", made.len());
    assert_eq!(removed_but_open(dir.path()), [] as [String; 0]);
}

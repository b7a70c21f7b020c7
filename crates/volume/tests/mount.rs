//! A real mount over a store in memory: what programs see.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, symlink};
use std::sync::Arc;

use support::harness::{TestMount, can_mount, own_namespace};
use support::memory_store::MemoryStore;
use zorya_volume::EngineClass;

fn mounted(class: EngineClass) -> Option<(TestMount, MemoryStore)> {
    if !can_mount() {
        return None;
    }
    own_namespace();
    let store = MemoryStore::new();
    Some((TestMount::new(Arc::new(store.clone()), class), store))
}

#[test]
fn files_keep_what_is_written_across_mounts() {
    let Some((mount, store)) = mounted(EngineClass::None) else { return };
    let content: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7 / 3) as u8).collect();
    fs::write(mount.path("a"), &content).unwrap();
    fs::create_dir_all(mount.path("d/e")).unwrap();
    fs::write(mount.path("d/e/b"), b"small").unwrap();
    assert_eq!(fs::read(mount.path("a")).unwrap(), content);
    mount.stop().unwrap();
    let mount = TestMount::new(Arc::new(store), EngineClass::None);
    assert_eq!(fs::read(mount.path("a")).unwrap(), content);
    assert_eq!(fs::read(mount.path("d/e/b")).unwrap(), b"small");
    assert_eq!(fs::metadata(mount.path("d/e/b")).unwrap().len(), 5);
}

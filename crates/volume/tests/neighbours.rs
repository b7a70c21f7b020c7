//! What a small read takes along from storage while the cache has room.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::mpsc::channel;

use bytes::Bytes;
use support::harness::{TestMount, mounted};
use support::memory_store::MemoryStore;
use zorya_types::Key;
use zorya_volume::EngineClass;
use zorya_volume::errno::FsError;

const PAGE: usize = 8192;
const PAGES: u64 = 20;

/// A file of 20 pages, each full of its number, in a volume that was just opened; with its inode.
fn cold(cache_bytes: u64) -> Option<(TestMount, MemoryStore, u64)> {
    let (mount, store) = mounted(EngineClass::None)?;
    let content: Vec<u8> = (0..PAGES).flat_map(|page| [page as u8; PAGE]).collect();
    fs::write(mount.path("f"), content).unwrap();
    mount.stop().unwrap();
    let mount = TestMount::with_cache(Arc::new(store.clone()), EngineClass::None, cache_bytes);
    let ino = mount.volume.look(|state| state.namespace.lookup(1, b"f").unwrap());
    Some((mount, store, ino))
}

fn read_pages(mount: &TestMount, ino: u64, first: u64, count: u64) -> Result<Bytes, FsError> {
    let (answer, answered) = channel();
    let len = count as u32 * PAGE as u32;
    mount.volume.read(ino, first * PAGE as u64, len, move |read| answer.send(read).unwrap());
    answered.recv().unwrap()
}

fn assert_pages(mount: &TestMount, ino: u64, pages: std::ops::Range<u64>) {
    for page in pages {
        assert_eq!(read_pages(mount, ino, page, 1).unwrap()[..], [page as u8; PAGE], "page {page}");
    }
}

#[test]
fn a_small_read_takes_its_neighbours_along() {
    let Some((mount, store, ino)) = cold(64 << 20) else { return };
    let before = store.reads();
    assert_pages(&mount, ino, 11..12);
    assert_eq!(store.reads(), before + 1);
    assert_pages(&mount, ino, 8..16);
    assert_eq!(store.reads(), before + 1, "pages 8 to 15 came together");
    assert_pages(&mount, ino, 19..20);
    assert_pages(&mount, ino, 16..20);
    assert_eq!(store.reads(), before + 2, "there are no neighbours beyond the end");
    let across = read_pages(&mount, ino, 7, 2).unwrap();
    assert_eq!((across[0], across[PAGE]), (7, 8));
    assert_pages(&mount, ino, 0..8);
    assert_eq!(store.reads(), before + 3);
}

#[test]
fn neighbours_drive_nothing_out_of_a_full_cache() {
    const CACHE: u64 = 8 << 20;
    let Some((mount, store, ino)) = cold(CACHE) else { return };
    fs::write(mount.path("large"), vec![1; 2 * CACHE as usize]).unwrap();
    fs::File::open(mount.path("large")).unwrap().sync_all().unwrap();
    let before = store.reads();
    assert_pages(&mount, ino, 3..4);
    assert_pages(&mount, ino, 4..5);
    assert_eq!(store.reads(), before + 2);
}

#[test]
fn a_neighbour_that_cannot_be_read_fails_its_own_readers_only() {
    let Some((mount, store, ino)) = cold(64 << 20) else { return };
    let placement = mount.volume.look(|state| state.namespace.inode(ino).unwrap().placement);
    store.damage(Key::block(placement.file, placement.first + 2));
    assert_pages(&mount, ino, 1..2);
    assert_pages(&mount, ino, 3..4);
    assert!(matches!(read_pages(&mount, ino, 2, 1), Err(FsError::Unreadable(_))));
    assert!(read_pages(&mount, ino, 1, 3).is_err());
}

#[test]
fn a_neighbour_written_while_it_is_fetched_is_never_the_old_one() {
    let Some((mount, store, ino)) = cold(64 << 20) else { return };
    store.hold_reads();
    let (answer, answered) = channel();
    mount.volume.read(ino, 0, PAGE as u32, move |read| answer.send(read.unwrap()).unwrap());
    assert_eq!(store.held_reads(), 1);
    mount.volume.write(0, ino, 5 * PAGE as u64, &[99; PAGE], |written| written.unwrap());
    store.answer_reads();
    assert_eq!(answered.recv().unwrap()[..], [0; PAGE]);
    assert_eq!(read_pages(&mount, ino, 5, 1).unwrap()[..], [99; PAGE]);
    assert_pages(&mount, ino, 6..8);
}

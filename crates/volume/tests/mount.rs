//! A real mount over a store in memory: what programs see.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, RenameFlags, fallocate, renameat2};
use support::harness::{TestMount, can_mount, mounted, own_namespace};
use support::memory_store::MemoryStore;
use support::raw::open_unnamed;
use zorya_volume::EngineClass;

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

fn read_write(mount: &TestMount, path: &str) -> File {
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).to_owned();
    options.open(mount.path(path)).unwrap()
}

#[test]
fn files_keep_what_is_written_across_mounts() {
    let Some((mount, store)) = mounted(EngineClass::None) else { return };
    let content: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7 / 3) as u8).collect();
    fs::write(mount.path("a"), &content).unwrap();
    fs::create_dir_all(mount.path("d/e")).unwrap();
    fs::write(mount.path("d/e/b"), b"small").unwrap();
    symlink("d/e", mount.path("s")).unwrap();
    assert_eq!(fs::read(mount.path("a")).unwrap(), content);
    mount.stop().unwrap();
    let mount = TestMount::new(Arc::new(store), EngineClass::None);
    assert_eq!(fs::read(mount.path("a")).unwrap(), content);
    assert_eq!(fs::read(mount.path("s/b")).unwrap(), b"small");
    assert_eq!(fs::metadata(mount.path("d/e/b")).unwrap().len(), 5);
    assert_eq!(fs::metadata(mount.path("d")).unwrap().nlink(), 3);
}

#[test]
fn attributes_are_set_and_kept() {
    let Some((mount, store)) = mounted(EngineClass::None) else { return };
    fs::write(mount.path("a"), b"x").unwrap();
    fs::set_permissions(mount.path("a"), PermissionsExt::from_mode(0o4640)).unwrap();
    std::os::unix::fs::chown(mount.path("a"), Some(7), Some(8)).unwrap();
    let file = read_write(&mount, "a");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_890_123_456_789);
    file.set_modified(time).unwrap();
    drop(file);
    mount.stop().unwrap();
    let mount = TestMount::new(Arc::new(store), EngineClass::None);
    let meta = fs::metadata(mount.path("a")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (7, 8));
    assert_eq!(meta.mode() & 0o7777, 0o640, "chown takes the set-id bits");
    assert_eq!(meta.modified().unwrap(), time);
}

#[test]
fn names_are_created_renamed_linked_and_removed() {
    let Some((mount, _store)) = mounted(EngineClass::None) else { return };
    fs::write(mount.path("a"), b"one").unwrap();
    fs::write(mount.path("b"), b"two").unwrap();
    fs::rename(mount.path("a"), mount.path("b")).unwrap();
    assert_eq!(fs::read(mount.path("b")).unwrap(), b"one");
    assert_eq!(errno(fs::metadata(mount.path("a"))), libc::ENOENT);
    fs::hard_link(mount.path("b"), mount.path("c")).unwrap();
    assert_eq!(fs::metadata(mount.path("c")).unwrap().nlink(), 2);
    fs::remove_file(mount.path("b")).unwrap();
    assert_eq!(fs::read(mount.path("c")).unwrap(), b"one");
    fs::create_dir(mount.path("d")).unwrap();
    fs::rename(mount.path("c"), mount.path("d/c")).unwrap();
    assert_eq!(errno(fs::remove_dir(mount.path("d"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::rename(mount.path("d"), mount.path("d/in"))), libc::EINVAL);
    assert_eq!(errno(fs::create_dir(mount.path("d"))), libc::EEXIST);
    assert_eq!(errno(fs::remove_file(mount.path("d"))), libc::EISDIR);
    assert_eq!(errno(fs::write(mount.path("x".repeat(256).as_str()), b"")), libc::ENAMETOOLONG);
    fs::create_dir(mount.path("empty")).unwrap();
    fs::rename(mount.path("d"), mount.path("empty")).unwrap();
    assert_eq!(fs::read(mount.path("empty/c")).unwrap(), b"one");
    let both = |flags| {
        renameat2(nix::fcntl::AT_FDCWD, &mount.path("empty/c"), nix::fcntl::AT_FDCWD, &mount.path("z"), flags)
    };
    fs::write(mount.path("z"), b"z").unwrap();
    assert_eq!(both(RenameFlags::RENAME_NOREPLACE), Err(nix::errno::Errno::EEXIST));
    assert_eq!(both(RenameFlags::RENAME_EXCHANGE), Err(nix::errno::Errno::EINVAL));
    fs::remove_file(mount.path("z")).unwrap();
    assert_eq!(both(RenameFlags::RENAME_NOREPLACE), Ok(()));
}

#[test]
fn an_unlinked_open_file_lives_until_it_is_closed() {
    let Some((mount, store)) = mounted(EngineClass::None) else { return };
    let file = read_write(&mount, "a");
    file.write_all_at(&[7; 20_000], 0).unwrap();
    fs::remove_file(mount.path("a")).unwrap();
    file.write_all_at(b"more", 20_000).unwrap();
    let mut content = Vec::new();
    (&file).read_to_end(&mut content).unwrap();
    assert_eq!((content.len(), file.metadata().unwrap().nlink()), (20_004, 0));
    assert!(store.block_count() > 0);
    drop(file);
    support::harness::eventually("the orphan's blocks are gone", || store.block_count() == 0);
}

#[test]
fn an_orphan_of_a_crashed_mount_is_reaped_at_the_next() {
    let Some((mount, store)) = mounted(EngineClass::None) else { return };
    let file = read_write(&mount, "a");
    file.write_all_at(&[7; 20_000], 0).unwrap();
    fs::remove_file(mount.path("a")).unwrap();
    let crashed = MemoryStore::from_log(&store.log());
    assert!(crashed.block_count() > 0);
    drop(file);
    drop(mount);
    let mount = TestMount::new(Arc::new(crashed.clone()), EngineClass::None);
    assert_eq!(crashed.block_count(), 0);
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
}

#[test]
fn sizes_holes_and_zeroes() {
    let Some((mount, store)) = mounted(EngineClass::None) else { return };
    let file = read_write(&mount, "a");
    file.write_all_at(&[1; 50_000], 0).unwrap();
    file.set_len(10_000).unwrap();
    file.set_len(40_000).unwrap();
    file.write_all_at(&[2; 10], 100_000).unwrap();
    fallocate(&file, FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE, 5, 3)
        .unwrap();
    fallocate(&file, FallocateFlags::FALLOC_FL_ZERO_RANGE, 8000, 1000).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, 200_000).unwrap();
    fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 300_000).unwrap();
    let mut expected = vec![0; 200_000];
    expected[..10_000].fill(1);
    expected[5..8].fill(0);
    expected[8000..9000].fill(0);
    expected[100_000..100_010].fill(2);
    assert_eq!(fs::read(mount.path("a")).unwrap(), expected);
    mount.stop().unwrap();
    let mount = TestMount::new(Arc::new(store), EngineClass::None);
    assert_eq!(fs::read(mount.path("a")).unwrap(), expected);
    fs::write(mount.path("a"), b"short").unwrap();
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"short");
}

#[test]
fn appending_seeking_and_odd_offsets() {
    let Some((mount, _store)) = mounted(EngineClass::None) else { return };
    let mut file = OpenOptions::new().append(true).create(true).open(mount.path("log")).unwrap();
    for line in 0..500 {
        writeln!(file, "line {line}").unwrap();
    }
    assert_eq!(fs::read_to_string(mount.path("log")).unwrap().lines().count(), 500);
    let mut file = read_write(&mount, "log");
    assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), file.metadata().unwrap().len());
    let mut byte = [0];
    assert_eq!(file.read(&mut byte).unwrap(), 0, "at the end there is nothing");
}

#[test]
fn what_is_refused() {
    let Some((mount, _store)) = mounted(EngineClass::Postgres) else { return };
    assert_eq!(errno(open_unnamed(&mount.root)), libc::EOPNOTSUPP);
    fs::create_dir(mount.path("pg_tblspc")).unwrap();
    assert_eq!(errno(symlink("/elsewhere", mount.path("pg_tblspc/16400"))), libc::EPERM);
    assert_eq!(errno(symlink("../../elsewhere", mount.path("pg_tblspc/16400"))), libc::EPERM);
    symlink("/anywhere", mount.path("a_link")).unwrap();
    let renamed = fs::rename(mount.path("a_link"), mount.path("pg_tblspc/16400"));
    assert_eq!(errno(renamed), libc::EPERM);
    let linked = fs::hard_link(mount.path("a_link"), mount.path("pg_tblspc/16400"));
    assert_eq!(errno(linked), libc::EPERM);
    assert_eq!(fs::read_link(mount.path("a_link")).unwrap(), Path::new("/anywhere"));
    let file = read_write(&mount, "base");
    assert_eq!(errno(file.write_all_at(b"x", i64::MAX as u64 - 10)), libc::EFBIG);
}

#[test]
fn a_table_of_mariadbs_stays_in_the_volume() {
    let Some((mount, _store)) = mounted(EngineClass::Mariadb) else { return };
    fs::create_dir_all(mount.path("mysqldata/d")).unwrap();
    assert_eq!(errno(symlink("/elsewhere/t.ibd", mount.path("mysqldata/d/t.ibd"))), libc::EPERM);
    assert_eq!(errno(symlink("/elsewhere", mount.path("mysqldata/e"))), libc::EPERM);
    symlink("t.ibd", mount.path("mysqldata/d/u.ibd")).unwrap();
}

#[test]
fn a_relation_segment_does_not_reach_into_the_next() {
    let Some((mount, _store)) = mounted(EngineClass::Postgres) else { return };
    fs::create_dir_all(mount.path("base/5")).unwrap();
    let (first, second) = (read_write(&mount, "base/5/16384"), read_write(&mount, "base/5/16384.1"));
    second.write_all_at(&[2; 8192], 0).unwrap();
    first.write_all_at(&[1; 8192], (1 << 30) - 8192).unwrap();
    assert_eq!(errno(first.write_all_at(&[1; 8192], 1 << 30)), libc::EFBIG);
    fs::remove_file(mount.path("base/5/16384")).unwrap();
    drop(first);
    assert_eq!(fs::read(mount.path("base/5/16384.1")).unwrap(), [2; 8192]);
}

#[test]
fn a_relation_created_anew_never_shows_the_old_blocks() {
    let Some((mount, store)) = mounted(EngineClass::Postgres) else { return };
    fs::create_dir_all(mount.path("base/5")).unwrap();
    let old = read_write(&mount, "base/5/16384");
    old.write_all_at(&[1; 16384], 0).unwrap();
    fs::remove_file(mount.path("base/5/16384")).unwrap();
    let new = read_write(&mount, "base/5/16384");
    new.set_len(16384).unwrap();
    new.write_all_at(&[2; 8192], 8192).unwrap();
    let mut content = [9; 16384];
    old.read_exact_at(&mut content, 0).unwrap();
    assert_eq!(content, [1; 16384]);
    drop(old);
    new.read_exact_at(&mut content, 0).unwrap();
    assert_eq!((&content[..8192], &content[8192..]), (&[0; 8192][..], &[2; 8192][..]));
    drop(new);
    mount.stop().unwrap();
    let mount = TestMount::new(Arc::new(store), EngineClass::Postgres);
    assert_eq!(fs::read(mount.path("base/5/16384")).unwrap(), content);
}

#[test]
fn local_names_are_gone_with_the_mount_and_shipped_when_renamed() {
    let Some((mount, store)) = mounted(EngineClass::Postgres) else { return };
    fs::create_dir_all(mount.path("pg_stat_tmp")).unwrap();
    fs::write(mount.path("postmaster.pid"), b"77").unwrap();
    let content: Vec<u8> = (0..2_500_000u32).map(|i| (i / 3) as u8).collect();
    let before = store.records().1;
    fs::write(mount.path("pg_stat_tmp/x"), &content).unwrap();
    assert!(store.records().1 - before < 1000, "local content is not shipped");
    assert_eq!(fs::read(mount.path("pg_stat_tmp/x")).unwrap(), content);
    fs::rename(mount.path("pg_stat_tmp/x"), mount.path("kept")).unwrap();
    fs::write(mount.path("pg_stat_tmp/y"), b"y").unwrap();
    fs::hard_link(mount.path("pg_stat_tmp/y"), mount.path("linked")).unwrap();
    assert_eq!(fs::read(mount.path("pg_stat_tmp/y")).unwrap(), b"y");
    symlink("target", mount.path("pg_stat_tmp/link")).unwrap();
    fs::hard_link(mount.path("pg_stat_tmp/link"), mount.path("link")).unwrap();
    let is_whole = |path: PathBuf| {
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("target"));
        assert_eq!(fs::symlink_metadata(&path).unwrap().len(), 6);
    };
    is_whole(mount.path("pg_stat_tmp/link"));
    let socket = UnixListener::bind(mount.path("socket")).unwrap();
    assert!(fs::metadata(mount.path("socket")).unwrap().file_type().is_socket());
    drop(socket);
    mount.stop().unwrap();
    let mount = TestMount::new(Arc::new(store), EngineClass::Postgres);
    let names: BTreeSet<String> = fs::read_dir(&mount.root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["kept", "link", "linked", "pg_stat_tmp"].map(String::from).into());
    is_whole(mount.path("link"));
    assert_eq!(fs::read(mount.path("kept")).unwrap(), content);
    assert_eq!(fs::read(mount.path("linked")).unwrap(), b"y");
    assert_eq!(fs::read_dir(mount.path("pg_stat_tmp")).unwrap().count(), 0);
}

#[test]
fn a_hundred_thousand_entries() {
    let Some((mount, store)) = mounted(EngineClass::None) else { return };
    for i in 0..100_000 {
        File::create(mount.path(&format!("f{i}"))).unwrap();
    }
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 100_000);
    // Removing while listing skips nothing and repeats nothing.
    let mut removed = 0;
    for entry in fs::read_dir(&mount.root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().ends_with('7') {
            fs::remove_file(entry.path()).unwrap();
            removed += 1;
        }
    }
    assert_eq!(removed, 10_000);
    mount.stop().unwrap();
    let mount = TestMount::new(Arc::new(store), EngineClass::None);
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 90_000);
    assert!(fs::metadata(mount.path("f99998")).is_ok());
}

#[test]
fn the_cache_keeps_its_bound_and_reads_come_from_storage() {
    if !can_mount() {
        return;
    }
    own_namespace();
    let store = MemoryStore::new();
    let mount = TestMount::with_cache(Arc::new(store.clone()), EngineClass::None, 8 << 20);
    let content: Vec<u8> = (0..40 << 20).map(|i: u32| (i / 8192) as u8 ^ i as u8).collect();
    fs::write(mount.path("big"), &content).unwrap();
    mount.volume.look(|state| assert!(state.cache.usage().blocks <= 1024));
    mount.stop().unwrap();
    let mount = TestMount::with_cache(Arc::new(store.clone()), EngineClass::None, 8 << 20);
    assert!(fs::read(mount.path("big")).unwrap() == content);
    assert!(store.reads() > 0);
    mount.volume.look(|state| assert!(state.cache.usage().blocks <= 1024));
    // A partial write to a block that is only in storage.
    let file = read_write(&mount, "big");
    file.write_all_at(b"abc", 12_345_678).unwrap();
    drop(file);
    mount.stop().unwrap();
    let mount = TestMount::new(Arc::new(store), EngineClass::None);
    let mut expected = content;
    expected[12_345_678..12_345_681].copy_from_slice(b"abc");
    assert!(fs::read(mount.path("big")).unwrap() == expected);
}

#[test]
fn rewriting_the_same_bytes_logs_nothing_and_changing_one_logs_little() {
    let Some((mount, store)) = mounted(EngineClass::None) else { return };
    let file = read_write(&mount, "a");
    let mut page = [5; 8192];
    file.write_all_at(&page, 0).unwrap();
    let before = store.records();
    file.write_all_at(&page, 0).unwrap();
    assert_eq!(store.records(), before);
    page[100] = 6;
    file.write_all_at(&page, 0).unwrap();
    let after = store.records();
    assert_eq!(after.0, before.0 + 1);
    assert!(after.1 - before.1 < 100, "{} bytes", after.1 - before.1);
}

#[test]
fn a_volume_of_another_engine_is_refused() {
    let Some((mount, store)) = mounted(EngineClass::None) else { return };
    mount.stop().unwrap();
    let (chores, _list) = std::sync::mpsc::channel();
    let dir = tempfile::tempdir().unwrap();
    let options = zorya_volume::volume::VolumeOptions {
        class: EngineClass::Postgres,
        cache_bytes: 0,
        local_dir: dir.path().join("local"),
        owner: (0, 0),
    };
    let error = zorya_volume::volume::Volume::open(&options, Arc::new(store), chores).err().unwrap();
    assert!(error.to_string().contains("formatted for None"), "{error}");
}

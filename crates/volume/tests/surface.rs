//! What data directories ask of a file system beyond reading and writing: holes and room, small synced writes, direct
//! I/O at depth, locks between processes, times and set-id bits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::fcntl::{FallocateFlags, FcntlArg, Flock, FlockArg, fallocate, fcntl};
use support::aio::{Aio, AlignedBuffer};
use support::harness::{TestMount, eventually, mounted};
use support::memory_store::MemoryStore;
use support::raw::write_mapped;
use zorya_volume::EngineClass;

fn read_write(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// What the next mount finds after `records` records, or after all.
fn reopened(store: &MemoryStore, records: Option<usize>, class: EngineClass) -> TestMount {
    let log = store.log();
    let records = records.unwrap_or(log.len());
    TestMount::new(Arc::new(MemoryStore::from_log(&log[..records])), class)
}

#[test]
fn small_redo_writes_survive_power_cuts_in_order() {
    let Some((mount, store)) = mounted(EngineClass::Mariadb) else { return };
    const SECTOR: usize = 512;
    let path = mount.path("ib_logfile0");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.set_len(96 << 10).unwrap();
    file.sync_all().unwrap();
    // Each group begins with the sector that the one before it ended in, as InnoDB's does.
    let mut at = 0;
    let mut synced = Vec::new();
    for group in 1..=60u8 {
        let sectors = 1 + usize::from(group) * 7 % 5;
        let bytes: Vec<u8> = (0..sectors).flat_map(|n| vec![group + 100 * (n as u8 % 2); SECTOR]).collect();
        file.write_all_at(&bytes, at).unwrap();
        file.sync_data().unwrap();
        let mut content = vec![0; 96 << 10];
        file.read_exact_at(&mut content, 0).unwrap();
        synced.push((store.log_len(), content));
        at += (sectors as u64 - 1).max(1) * SECTOR as u64;
    }
    let before_last = synced.windows(2).map(|pair| (&pair[0], &pair[1]));
    for ((records, content), (next, _)) in before_last {
        assert_eq!(next - records, 1, "a redo write is one record: there all at once or not");
        let after_cut = reopened(&store, Some(*records), EngineClass::Mariadb);
        assert!(fs::read(after_cut.path("ib_logfile0")).unwrap() == *content, "after {records} records");
    }
}

#[test]
fn direct_io_64_deep_reads_what_was_written() {
    let Some((mount, _)) = mounted(EngineClass::Mariadb) else { return };
    const PAGE: usize = 16 << 10;
    const PAGES: u64 = 512;
    let options = OpenOptions::new().read(true).write(true).create_new(true).to_owned();
    let file = options.clone().custom_flags(libc::O_DIRECT).open(mount.path("t.ibd")).unwrap();
    file.set_len(PAGES * PAGE as u64).unwrap();
    let mut aio = Aio::new(64).unwrap();
    // Number of the request -> (page, version written, or the one that a read must find).
    let mut requests: HashMap<u64, (u64, bool, u64)> = HashMap::new();
    let mut versions = vec![0u64; PAGES as usize];
    let mut busy = vec![false; PAGES as usize];
    let (mut random, mut deepest) = (1u64, 0);
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    let fill = |buffer: &mut [u8], page: u64, version: u64| {
        for (n, word) in buffer.chunks_exact_mut(8).enumerate() {
            let value = if version == 0 { 0 } else { page << 40 ^ version << 16 ^ n as u64 };
            word.copy_from_slice(&value.to_le_bytes());
        }
    };
    for _ in 0..20_000 {
        while aio.in_flight() < 64 {
            let page = next(PAGES);
            if std::mem::replace(&mut busy[page as usize], true) {
                continue;
            }
            let write = next(2) == 0;
            let mut buffer = AlignedBuffer::new(PAGE);
            if write {
                versions[page as usize] += 1;
                fill(buffer.bytes(), page, versions[page as usize]);
            }
            let number = aio.submit(&file, write, buffer, page * PAGE as u64).unwrap();
            requests.insert(number, (page, write, versions[page as usize]));
        }
        deepest = deepest.max(aio.in_flight());
        let mut ended = aio.wait().unwrap();
        assert_eq!(ended.result, PAGE as i64);
        let (page, write, version) = requests.remove(&ended.number).unwrap();
        busy[page as usize] = false;
        if !write {
            let mut expected = vec![0; PAGE];
            fill(&mut expected, page, version);
            assert!(ended.buffer.bytes() == expected, "page {page} is not of version {version}");
        }
    }
    assert_eq!(deepest, 64);
    while aio.in_flight() > 0 {
        aio.wait().unwrap();
    }
    drop(aio);
    for (page, version) in versions.iter().enumerate() {
        let (mut content, mut expected) = (AlignedBuffer::new(PAGE), vec![0; PAGE]);
        file.read_exact_at(content.bytes(), (page * PAGE) as u64).unwrap();
        fill(&mut expected, page as u64, *version);
        assert!(content.bytes() == expected, "page {page} at the end");
    }
}

fn lock(kind: i32, start: i64, len: i64) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: len, l_pid: 0 }
}

/// The process with which [`locks_hold_between_processes`] competes.
#[test]
#[ignore = "only as a child of another test"]
fn another_process_tries_locks() {
    let path = std::env::var("ZORYA_TEST_LOCKED").unwrap();
    let file = read_write(Path::new(&path));
    for command in std::io::stdin().lines() {
        let taken = match command.unwrap().as_str() {
            "range 0" => fcntl(file.as_fd(), FcntlArg::F_SETLK(&lock(libc::F_WRLCK, 0, 100))).is_ok(),
            "range 100" => fcntl(file.as_fd(), FcntlArg::F_SETLK(&lock(libc::F_WRLCK, 100, 100))).is_ok(),
            "shared range 0" => fcntl(file.as_fd(), FcntlArg::F_SETLK(&lock(libc::F_RDLCK, 0, 100))).is_ok(),
            "flock" => Flock::lock(read_write(Path::new(&path)), FlockArg::LockExclusiveNonblock).is_ok(),
            "shared flock" => Flock::lock(read_write(Path::new(&path)), FlockArg::LockSharedNonblock).is_ok(),
            other => panic!("{other}"),
        };
        println!("answer: {taken}");
    }
}

#[test]
fn locks_hold_between_processes() {
    let Some((mount, _)) = mounted(EngineClass::Mariadb) else { return };
    let path = mount.path("aria_log_control");
    let file = read_write(&path);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "another_process_tries_locks"])
        .env("ZORYA_TEST_LOCKED", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut commands = child.stdin.take().unwrap();
    let mut answers = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut other = |command: &str| {
        writeln!(commands, "{command}").unwrap();
        let answer =
            answers.find_map(|line| line.unwrap().rsplit_once("answer: ").map(|(_, a)| a.to_owned()));
        answer.unwrap() == "true"
    };
    fcntl(file.as_fd(), FcntlArg::F_SETLK(&lock(libc::F_WRLCK, 0, 100))).unwrap();
    assert!(!other("range 0"), "the range is locked by this process");
    assert!(!other("shared range 0"));
    assert!(other("range 100"), "another range is not");
    fcntl(file.as_fd(), FcntlArg::F_SETLK(&lock(libc::F_RDLCK, 0, 100))).unwrap();
    assert!(other("shared range 0"), "readers share");
    let taken = fcntl(file.as_fd(), FcntlArg::F_SETLK(&lock(libc::F_WRLCK, 0, 300)));
    assert_eq!(taken, Err(nix::errno::Errno::EAGAIN), "the other process holds two ranges");
    let whole = Flock::lock(read_write(&path), FlockArg::LockExclusive).unwrap();
    assert!(!other("flock") && !other("shared flock"));
    drop(whole);
    assert!(other("flock"), "a lock ends with its file");
    let shared = Flock::lock(read_write(&path), FlockArg::LockShared).unwrap();
    assert!(other("shared flock") && !other("flock"));
    drop(shared);
    drop(commands);
    assert!(child.wait().unwrap().success());
    fcntl(file.as_fd(), FcntlArg::F_SETLK(&lock(libc::F_WRLCK, 0, 300)))
        .expect("locks end with their process");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_directorys_set_group_id_bit_survives_a_change_of_owner() {
    let Some((mount, _)) = mounted(EngineClass::None) else { return };
    let (directory, file) = (mount.path("d"), mount.path("f"));
    fs::create_dir(&directory).unwrap();
    fs::write(&file, b"").unwrap();
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o2775)).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o6755)).unwrap();
    std::os::unix::fs::chown(&directory, Some(7), Some(8)).unwrap();
    std::os::unix::fs::chown(&file, Some(7), Some(8)).unwrap();
    assert_eq!((mode(&directory), mode(&file)), (0o2775, 0o755));
    fs::create_dir(directory.join("below")).unwrap();
    let below = fs::metadata(directory.join("below")).unwrap();
    assert_eq!((below.gid(), below.mode() & 0o2000), (8, 0o2000), "handed down");
    // Set-group-id without execution is no set-id bit, but a mark of mandatory locking.
    fs::set_permissions(&file, PermissionsExt::from_mode(0o2644)).unwrap();
    std::os::unix::fs::chown(&file, Some(9), None).unwrap();
    assert_eq!(mode(&file), 0o2644);
}

fn old() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1000)
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

#[test]
fn truncation_changes_a_files_time_as_it_should() {
    let Some((mount, _)) = mounted(EngineClass::None) else { return };
    let path = mount.path("f");
    read_write(&path).set_modified(old()).unwrap();
    File::create(&path).unwrap();
    assert!(modified(&path) > old(), "O_TRUNC counts as a change of an empty file too");
    let file = read_write(&path);
    file.set_modified(old()).unwrap();
    nix::unistd::truncate(&path, 0).unwrap();
    assert_eq!(modified(&path), old(), "truncate(2) to the size that it has changes nothing");
    file.set_len(0).unwrap();
    assert!(modified(&path) > old(), "ftruncate(2) always does");
}

#[test]
fn fsync_keeps_the_time_of_the_last_write() {
    let Some((mount, store)) = mounted(EngineClass::None) else { return };
    let path = mount.path("f");
    let file = read_write(&path);
    file.write_all_at(&[1; 8192], 0).unwrap();
    file.set_modified(old()).unwrap();
    file.write_all_at(&[2; 8192], 0).unwrap();
    let before = store.log_len();
    file.sync_data().unwrap();
    assert_eq!(store.log_len(), before, "fdatasync needs no times");
    file.sync_all().unwrap();
    let now = modified(&path);
    assert_eq!(store.log_len(), before + 1);
    file.sync_all().unwrap();
    assert_eq!(store.log_len(), before + 1, "once");
    let after_crash = reopened(&store, None, EngineClass::None);
    assert_eq!(modified(&after_crash.path("f")), now);
}

#[test]
fn a_link_out_of_a_local_name_counts_once_after_the_mount() {
    let Some((mount, store)) = mounted(EngineClass::Postgres) else { return };
    fs::create_dir(mount.path("pg_stat_tmp")).unwrap();
    fs::write(mount.path("pg_stat_tmp/y"), [7; 20_000]).unwrap();
    fs::hard_link(mount.path("pg_stat_tmp/y"), mount.path("linked")).unwrap();
    assert_eq!(fs::metadata(mount.path("linked")).unwrap().nlink(), 2);
    mount.stop().unwrap();
    let mount = TestMount::new(Arc::new(store.clone()), EngineClass::Postgres);
    assert_eq!(fs::metadata(mount.path("linked")).unwrap().nlink(), 1, "the local name is gone");
    fs::remove_file(mount.path("linked")).unwrap();
    eventually("the last name's end frees the blocks", || store.block_count() == 0);
}

#[test]
fn a_file_whose_last_name_was_local_is_gone_after_the_mount() {
    let Some((mount, store)) = mounted(EngineClass::Postgres) else { return };
    fs::create_dir(mount.path("pg_stat_tmp")).unwrap();
    fs::write(mount.path("pg_stat_tmp/y"), [7; 20_000]).unwrap();
    fs::hard_link(mount.path("pg_stat_tmp/y"), mount.path("linked")).unwrap();
    fs::remove_file(mount.path("linked")).unwrap();
    assert_eq!(fs::read(mount.path("pg_stat_tmp/y")).unwrap(), [7; 20_000]);
    mount.stop().unwrap();
    assert!(store.block_count() > 0);
    let _mount = TestMount::new(Arc::new(store.clone()), EngineClass::Postgres);
    assert_eq!(store.block_count(), 0);
}

#[test]
fn a_removed_directory_lives_as_long_as_it_is_open() {
    let Some((mount, store)) = mounted(EngineClass::Postgres) else { return };
    for path in ["removed", "replaced", "other"] {
        fs::create_dir(mount.path(path)).unwrap();
    }
    let opened = ["removed", "replaced"].map(|path| File::open(mount.path(path)).unwrap());
    fs::remove_dir(mount.path("removed")).unwrap();
    fs::rename(mount.path("other"), mount.path("replaced")).unwrap();
    for directory in opened {
        let found = directory.metadata().unwrap();
        assert!(found.is_dir() && found.nlink() == 0, "{found:?}");
    }
    assert_eq!(fs::metadata(mount.path("replaced")).unwrap().nlink(), 2);
    let after_crash = reopened(&store, None, EngineClass::Postgres);
    assert_eq!(fs::read_dir(&after_crash.root).unwrap().count(), 1);
}

#[test]
fn directories_are_counted_where_shipped_and_local_ones_replace_each_other() {
    let Some((mount, store)) = mounted(EngineClass::Postgres) else { return };
    let links = |path: &str| fs::metadata(mount.path(path)).unwrap().nlink();
    for path in ["pg_stat_tmp", "pg_stat_tmp/a", "pg_stat_tmp/b", "d"] {
        fs::create_dir(mount.path(path)).unwrap();
    }
    assert_eq!(links("pg_stat_tmp"), 2, "local directories are not counted");
    fs::rename(mount.path("d"), mount.path("pg_stat_tmp/a")).unwrap();
    assert_eq!(links("pg_stat_tmp"), 3, "a shipped one replaced a local one");
    fs::rename(mount.path("pg_stat_tmp/b"), mount.path("pg_stat_tmp/a")).unwrap();
    assert_eq!(links("pg_stat_tmp"), 2, "and the other way round");
    let after_crash = reopened(&store, None, EngineClass::Postgres);
    let found = fs::metadata(after_crash.path("pg_stat_tmp")).unwrap();
    assert_eq!((found.nlink(), fs::read_dir(after_crash.path("pg_stat_tmp")).unwrap().count()), (2, 0));
}

#[test]
fn holes_take_no_blocks_and_statfs_tells_what_is_there() {
    let Some((mount, store)) = mounted(EngineClass::None) else { return };
    let used = |mount: &TestMount| {
        let said = nix::sys::statvfs::statvfs(&mount.root).unwrap();
        assert_eq!(said.blocks_available(), said.blocks_free());
        (said.blocks() - said.blocks_free()) * said.fragment_size()
    };
    let blocks = |mount: &TestMount| fs::metadata(mount.path("f")).unwrap().blocks() * 512;
    let file = read_write(&mount.path("f"));
    let (mib, end) = (1u64 << 20, (1u64 << 40) + 8192);
    file.set_len(1 << 40).unwrap();
    assert_eq!((blocks(&mount), used(&mount)), (0, 0), "a hole of 1 TiB");
    file.write_all_at(&[1; 8192], 1 << 40).unwrap();
    assert_eq!((blocks(&mount), used(&mount)), (8192, 8192));
    for extent in 0..3 {
        file.write_all_at(b"x", extent * 64 * mib).unwrap();
    }
    let three = 3 * 64 * mib + 8192;
    assert_eq!((blocks(&mount), used(&mount)), (three, three), "an extent with anything in it counts whole");
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, hole, (60 * mib) as i64, (70 * mib) as i64).unwrap();
    let two = 2 * 64 * mib + 8192;
    assert_eq!((blocks(&mount), used(&mount)), (two, two), "a wholly punched extent is gone");
    assert_eq!(file.metadata().unwrap().len(), end);
    let mut byte = [9];
    file.read_exact_at(&mut byte, 64 * mib).unwrap();
    assert_eq!(byte, [0]);

    let said = nix::sys::statvfs::statvfs(&mount.root).unwrap();
    assert!(said.blocks() * said.fragment_size() > 100 << 40, "storage has not said anything");
    store.has_free(100 * mib);
    let said = nix::sys::statvfs::statvfs(&mount.root).unwrap();
    assert_eq!(said.blocks_available() * said.fragment_size(), 100 * mib);
    assert_eq!(said.blocks() * said.fragment_size(), two + 100 * mib);
    store.hold();
    store.hold_reads();
    assert_eq!(used(&mount), two, "it waits for nothing");
    store.unhold();
    store.answer_reads();

    let after_crash = reopened(&store, None, EngineClass::None);
    assert_eq!((blocks(&after_crash), used(&after_crash)), (two, two));
    drop(file);
    fs::remove_file(mount.path("f")).unwrap();
    assert_eq!(used(&mount), 0);
}

#[test]
fn a_local_file_takes_room_and_holes() {
    let Some((mount, _)) = mounted(EngineClass::Postgres) else { return };
    fs::create_dir_all(mount.path("base/5")).unwrap();
    let path = mount.path("base/5/t3_16390");
    let file = read_write(&path);
    fallocate(&file, FallocateFlags::empty(), 0, 50_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 50_000);
    file.write_all_at(&[1; 50_000], 0).unwrap();
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, hole, 8192, 16_384).unwrap();
    let mut expected = vec![1; 50_000];
    expected[8192..24_576].fill(0);
    assert!(fs::read(&path).unwrap() == expected);
    fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 100_000).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 50_000);
}

#[test]
fn a_mapped_write_to_a_relation_is_kept_whoever_syncs_it() {
    let Some((mount, store)) = mounted(EngineClass::Postgres) else { return };
    fs::create_dir_all(mount.path("base/5")).unwrap();
    let path = mount.path("base/5/16384");
    fs::write(&path, [1; 16_384]).unwrap();
    // The kernel writes a mapping's pages back through any handle that is open for writing.
    let (first, second, third) = (read_write(&path), read_write(&path), read_write(&path));
    write_mapped(&second, 9).unwrap();
    third.sync_all().unwrap();
    let after_crash = reopened(&store, None, EngineClass::Postgres);
    assert_eq!(fs::read(after_crash.path("base/5/16384")).unwrap()[..2], [9, 1]);
    drop((first, second, third));
}

#[test]
fn data_and_holes_are_found_as_the_kernel_emulates_it() {
    let Some((mount, _)) = mounted(EngineClass::None) else { return };
    let file = read_write(&mount.path("f"));
    file.write_all_at(b"x", 1 << 20).unwrap();
    let end = (1 << 20) + 1;
    let seek = |offset, whence| nix::unistd::lseek(&file, offset, whence);
    assert_eq!(seek(5, nix::unistd::Whence::SeekData), Ok(5), "everything counts as data");
    assert_eq!(seek(5, nix::unistd::Whence::SeekHole), Ok(end), "up to the end");
    assert_eq!(seek(end, nix::unistd::Whence::SeekData), Err(nix::errno::Errno::ENXIO));
    let mut hole = vec![9; 1 << 20];
    file.read_exact_at(&mut hole, 0).unwrap();
    assert!(hole.iter().all(|byte| *byte == 0));
}

//! On a directory of the operating system.

use super::*;

fn open(dir: &std::path::Path) -> Result<Opened, OpenError> {
    open_on(Arc::new(disk::Directory::open(dir)?), small_files())
}

fn payload(number: usize) -> Vec<u8> {
    (0..number * 37 % 5000).map(|at| (at * 7 + number) as u8).collect()
}

#[test]
fn what_was_appended_is_found_again_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for round in 0..4 {
        let opened = open(dir.path()).unwrap();
        assert_eq!((opened.tail, &opened.found), (Tail::Clean, &all), "round {round}");
        all.extend((0..60).map(|number| opened.append(&payload(round * 60 + number), number % 7 == 0)));
        opened.settle();
        for entry in &all {
            assert_eq!(&opened.log.read(entry.position).unwrap(), entry);
        }
        assert!(opened.log.usage().files > round);
        opened.log.shutdown();
    }
}

#[test]
fn parts_of_an_entry_are_read_from_memory_and_from_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path()).unwrap();
    let entry = opened.append(b"one entry of the log", true);
    assert_eq!(&opened.log.read_range(entry.position, 4, 5).unwrap()[..], b"entry");
    opened.log.shutdown();
    let opened = open(dir.path()).unwrap();
    assert_eq!(&opened.log.read_range(entry.position, 4, 5).unwrap()[..], b"entry");
    assert_eq!(opened.log.read(entry.position).unwrap(), entry);
    let too_much = opened.log.read_range(entry.position, 4, 50).unwrap_err();
    assert!(matches!(too_much, ReadError::OutOfRange { len: 20, .. }), "{too_much}");
    assert!(matches!(opened.log.read(Position(1 << 40)), Err(ReadError::NotThere(_))));
    assert!(matches!(opened.log.read(Position(entry.position.0 + 8)), Err(ReadError::Damaged(_))));
}

#[test]
fn a_second_opener_is_refused_and_told_who_has_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let _opened = open(dir.path()).unwrap();
    let refused = open(dir.path()).err().unwrap();
    assert!(refused.to_string().contains(&format!("pid {}", std::process::id())), "{refused}");
}

#[test]
fn released_files_are_recycled_and_positions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path()).unwrap();
    let mut last = Position(0);
    for number in 0..400 {
        let entry = opened.append(&payload(number), false);
        assert!(entry.position > last);
        last = entry.position;
        opened.settle();
        opened.log.release_below(last);
    }
    assert_eq!(opened.log.usage().files, 1);
    opened.log.shutdown();
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(files <= 6, "{files} files are left");
    let opened = open(dir.path()).unwrap();
    assert_eq!(opened.tail, Tail::Clean);
    assert_eq!(opened.found.last().map(|entry| entry.position), Some(last));
    assert!(matches!(opened.log.read(Position(4096)), Err(ReadError::NotThere(_))));
}

#[test]
fn entries_that_are_too_long_and_impossible_settings_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path()).unwrap();
    let refused = opened.log.append(VolumeId(1), 1, &[Bytes::from(vec![0; 64 << 10])], true).unwrap_err();
    assert!(matches!(refused, NodeLogError::TooLong { len: 65536, .. }), "{refused}");
    opened.append(&vec![1; (64 << 10) - 4096 - 64], true);
    opened.settle();
    let other = tempfile::tempdir().unwrap();
    let config = FileConfig { file_bytes: 1000, ..small_files() };
    assert!(matches!(NodeLog::open(other.path(), config, drop, drop), Err(OpenError::BadFileBytes { .. })));
}

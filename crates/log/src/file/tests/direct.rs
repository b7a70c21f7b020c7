//! Files written past the page cache: any offset and length, what lies around stays, reads see all.

use std::io::{ErrorKind, IoSlice};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::file::direct::DirectFile;
use crate::file::disk::DiskFile;

const FILE: usize = 2 << 20;

/// `None` where the file system cannot do it.
fn file_of(bytes: &[u8]) -> Option<(tempfile::TempDir, DirectFile)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    match DirectFile::open(&path) {
        Ok(file) => Some((dir, file)),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            eprintln!("skipped: {} has no direct I/O", dir.path().display());
            None
        }
    }
}

#[test]
fn any_writes_leave_what_the_same_writes_to_memory_do() {
    for seed in 0..8 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut model: Vec<u8> = (0..FILE).map(|at| at as u8).collect();
        let Some((_dir, file)) = file_of(&model) else { return };
        let mut end = 0;
        for _ in 0..40 {
            let longest = if random.random_ratio(1, 8) { 700_000 } else { 9_000 };
            let len = random.random_range(1..longest);
            // Mostly where the last write ended, as a log does.
            let offset = if random.random_ratio(3, 4) { end } else { random.random_range(0..FILE) };
            let offset = if offset + len > FILE { 0 } else { offset };
            let bytes: Vec<u8> = (0..len).map(|_| random.random()).collect();
            let (first, second) = bytes.split_at(random.random_range(0..=len));
            file.write_at(offset as u64, &mut [IoSlice::new(first), IoSlice::new(second)]).unwrap();
            model[offset..offset + len].copy_from_slice(&bytes);
            end = offset + len;
            let mut read = vec![0; len];
            file.read_at(offset as u64, &mut read).unwrap();
            assert!(read == bytes, "seed {seed}, {len} bytes at {offset}");
        }
        file.sync().unwrap();
        let mut all = vec![0; FILE];
        file.read_at(0, &mut all).unwrap();
        assert!(all == model, "seed {seed}");
        assert_eq!(file.length().unwrap(), FILE as u64);
    }
}

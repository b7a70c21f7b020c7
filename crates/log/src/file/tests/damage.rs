//! Damage to what was synced is noticed, or does not matter; it is never taken for content.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::sim_disk::Image;
use super::*;

/// A log of several files that was shut down, and what is in it.
fn image(rng: &mut StdRng) -> (Image, Vec<Found>) {
    let disk = SimDisk::default();
    let opened = open_sim(&disk, small_files()).unwrap();
    let entries = (0..120)
        .map(|_| {
            let payload: Vec<u8> = (0..rng.random_range(0..3000)).map(|_| rng.random()).collect();
            let entry = opened.append(&payload, true);
            if rng.random_bool(0.5) {
                opened.settle();
            }
            entry
        })
        .collect();
    opened.settle();
    opened.log.shutdown();
    (disk.now(), entries)
}

/// As [`check`], for a log that was shut down: what is missing from it is damage, never a torn end.
fn check_marked(image: Image, entries: &[Found], what: &str) -> Tail {
    let disk = SimDisk::of(image.clone());
    let opened = open_sim(&disk, small_files()).unwrap_or_else(|error| panic!("{what}: {error}"));
    if opened.found.len() < entries.len() {
        assert_eq!(opened.tail, Tail::Damaged, "{what}: {} of {} entries", opened.found.len(), entries.len());
    }
    check(image, entries, what)
}

/// Opens the damaged log twice: the content must be a proven prefix, and go on from there.
fn check(image: Image, entries: &[Found], what: &str) -> Tail {
    let disk = SimDisk::of(image);
    let opened = open_sim(&disk, small_files()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(entries.starts_with(&opened.found), "{what}: something else was found");
    if opened.found.len() < entries.len() {
        assert_ne!(opened.tail, Tail::Clean, "{what}: {} of {} entries", opened.found.len(), entries.len());
    }
    assert_eq!(opened.tail == Tail::Damaged, opened.log.scars().damaged.is_some());
    for position in opened.log.beyond_damage() {
        let entry = opened.log.read(*position).unwrap();
        assert!(entries[opened.found.len()..].contains(&entry), "{what}: {position:?} is not an entry");
    }
    let mut expected = opened.found.clone();
    expected.push(opened.append(b"after the damage", true));
    opened.settle();
    let (tail, scars, beyond) = (opened.tail, opened.log.scars(), opened.log.beyond_damage().to_vec());
    opened.log.shutdown();
    let again = open_sim(&disk, small_files()).unwrap();
    assert_eq!((again.tail, again.log.scars()), (Tail::Clean, scars), "{what}");
    assert_eq!(again.found, expected, "{what}");
    assert_eq!(again.log.beyond_damage(), beyond, "{what}");
    tail
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let rng = &mut StdRng::seed_from_u64(3);
    let (whole, entries) = image(rng);
    assert_eq!(check(whole.clone(), &entries, "undamaged"), Tail::Clean);
    let mut damaged = 0;
    for round in 0..300 {
        let mut image = whole.clone();
        let mut files = image.log_files();
        let file = rng.random_range(0..files.len());
        let bytes = files.values_mut().nth(file).unwrap();
        let bit = rng.random_range(0..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let what = format!("round {round}: bit {bit} of file {file}");
        let tail = check_marked(image, &entries, &what);
        damaged += u32::from(tail == Tail::Damaged);
    }
    assert!(damaged > 100, "{damaged} of 300 were damage");
}

#[test]
fn a_lost_sector_is_noticed() {
    let rng = &mut StdRng::seed_from_u64(4);
    let (whole, entries) = image(rng);
    let last = entries.last().unwrap().position.0 as usize;
    for round in 0..200 {
        let mut image = whole.clone();
        let mut files = image.log_files();
        let any = rng.random_range(0..last / 512);
        let (file, sector) = (any * 512 / (64 << 10), any % 128);
        files.values_mut().nth(file).unwrap()[sector * 512..][..512].fill(0);
        check_marked(image, &entries, &format!("round {round}: sector {sector} of file {file}"));
    }
}

#[test]
fn once_all_is_quiet_damage_to_the_last_entry_is_told_from_a_torn_end() {
    let disk = SimDisk::default();
    let opened = open_sim(&disk, small_files()).unwrap();
    let entry = opened.append(b"the last", true);
    opened.settle();
    while opened.log.usage().fsyncs < 2 {
        std::thread::yield_now();
    }
    let rng = &mut StdRng::seed_from_u64(11);
    let (settled, _) = disk.cut_after(disk.calls_until_durable(), rng);
    let (marked, _) = disk.cut_after(disk.calls(), rng);
    for (mut image, expected) in [(settled, Tail::Torn), (marked, Tail::Damaged)] {
        let mut files = image.log_files();
        files.values_mut().next().unwrap()[entry.position.0 as usize + 70] ^= 1;
        assert_eq!(check(image, std::slice::from_ref(&entry), "the last entry"), expected);
    }
}

#[test]
fn files_of_two_logs_are_not_mixed() {
    let rng = &mut StdRng::seed_from_u64(10);
    let (mut one, _) = image(rng);
    let (mut other, _) = image(rng);
    let foreign = other.log_files().into_values().nth(1).unwrap().clone();
    *one.log_files().into_values().nth(1).unwrap() = foreign;
    let refused = open_sim(&SimDisk::of(one), small_files()).err().unwrap();
    assert!(matches!(refused, OpenError::OtherLog { .. }), "{refused}");
}

#[test]
fn a_missing_file_is_damage() {
    let rng = &mut StdRng::seed_from_u64(5);
    let (whole, entries) = image(rng);
    let names: Vec<String> = whole.clone().log_files().into_keys().collect();
    assert!(names.len() > 3);
    for name in &names[1..names.len() - 1] {
        let mut image = whole.clone();
        image.remove(name);
        assert_eq!(check(image, &entries, name), Tail::Damaged);
    }
}

#[test]
fn an_unreadable_header_is_damage_and_no_position_is_used_twice() {
    let rng = &mut StdRng::seed_from_u64(6);
    let (whole, entries) = image(rng);
    for file in 0..whole.clone().log_files().len() {
        let mut image = whole.clone();
        image.log_files().values_mut().nth(file).unwrap()[..4096].fill(0xaa);
        assert_eq!(check(image, &entries, &format!("file {file}")), Tail::Damaged);
    }
}

#[test]
fn the_oldest_file_is_missed_also_when_older_ones_were_released() {
    let rng = &mut StdRng::seed_from_u64(9);
    let (mut image, entries) = image(rng);
    let names: Vec<String> = image.log_files().into_keys().collect();
    image.remove(&names[0]);
    image.log_files().values_mut().next().unwrap()[..4096].fill(0);
    let disk = SimDisk::of(image);
    let opened = open_sim(&disk, small_files()).unwrap();
    assert_eq!((opened.tail, opened.found.len()), (Tail::Damaged, 0));
    assert_eq!(opened.log.scars().damaged, Some(Position((64 << 10) + 4096)));
    assert!(opened.append(b"on", true).position > entries.last().unwrap().position);
    opened.settle();
    opened.log.shutdown();
    let again = open_sim(&disk, small_files()).unwrap();
    assert_eq!((again.tail, again.found.len()), (Tail::Clean, 1));
}

#[test]
fn a_shortened_file_is_damage() {
    let rng = &mut StdRng::seed_from_u64(7);
    let (whole, entries) = image(rng);
    for file in 0..whole.clone().log_files().len() {
        let mut image = whole.clone();
        image.log_files().values_mut().nth(file).unwrap().truncate(8192);
        assert_eq!(check(image, &entries, &format!("file {file}")), Tail::Damaged);
    }
}

#[test]
fn a_log_without_any_readable_header_is_refused() {
    let rng = &mut StdRng::seed_from_u64(8);
    let (mut image, _) = image(rng);
    image.log_files().values_mut().for_each(|bytes| bytes[..4096].fill(0));
    let refused = open_sim(&SimDisk::of(image), small_files()).err().unwrap();
    assert!(matches!(refused, OpenError::NothingReadable), "{refused}");
}

//! A power cut at any moment loses nothing that was reported durable and brings back nothing that never was.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use zorya_types::planted::{PlantedBug, plant};

use super::sim_disk::Image;
use super::*;

/// One life of a log: what it has, and the disk that recorded how it came to that.
struct Life {
    disk: SimDisk,
    /// Entries in order, the found ones first.
    entries: Vec<Found>,
    /// How many were found.
    found: usize,
    /// The highest position below which files were released.
    released: Position,
}

/// Opens the log on `image` and appends to it.
fn live(image: Image, rng: &mut StdRng, released: Position) -> Result<(Life, Tail), OpenError> {
    let disk = SimDisk::of(image);
    let opened = open_sim(&disk, small_files())?;
    let mut life = Life { disk, found: opened.found.len(), entries: opened.found.clone(), released };
    for _ in 0..rng.random_range(0..40) {
        let len = if rng.random_bool(0.1) { rng.random_range(0..20_000) } else { rng.random_range(0..900) };
        let payload: Vec<u8> = (0..len).map(|_| rng.random()).collect();
        life.entries.push(opened.append(&payload, rng.random_bool(0.3)));
        if rng.random_bool(0.1) {
            opened.settle();
        }
        if rng.random_bool(0.05) {
            life.released = life.released.max(life.entries[life.entries.len() / 2].position);
            opened.log.release_below(life.released);
        }
    }
    opened.settle();
    let tail = opened.tail;
    opened.log.shutdown();
    Ok((life, tail))
}

impl Life {
    /// What an open after a power cut may find: every durable entry and then any number of the others, in order.
    fn check(&self, found: &[Found], durable: Position) -> Result<(), String> {
        if let Some(pair) = found.windows(2).find(|pair| pair[0].position >= pair[1].position) {
            return Err(format!("{:?} came before {:?}", pair[0].position, pair[1].position));
        }
        if let Some(wrong) = found.iter().find(|entry| !self.entries.contains(entry)) {
            return Err(format!("{:?} is not what was appended", wrong.position));
        }
        let known = |entry: &&Found| entry.position >= self.released;
        let expected: Vec<&Found> = self.entries.iter().filter(known).collect();
        let found: Vec<&Found> = found.iter().filter(known).collect();
        if let Some(wrong) = (0..found.len()).find(|at| expected.get(*at) != Some(&found[*at])) {
            return Err(format!("entry {wrong} is not what was appended: {:?}", found[wrong].position));
        }
        let before = self.entries.iter().enumerate();
        let must = before
            .filter(|(at, entry)| (*at < self.found || entry.position < durable) && known(entry))
            .count();
        if found.len() < must {
            return Err(format!("{} of {must} durable entries are left", found.len()));
        }
        Ok(())
    }
}

/// Several lives, each ended by a power cut.
fn lives(seed: u64) -> Result<[u32; 2], String> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut image = Image::default();
    let mut before: Option<(Life, Position)> = None;
    let mut tails = [0; 2];
    for _ in 0..5 {
        let released = before.as_ref().map_or(Position(0), |(life, _)| life.released);
        let (life, tail) = live(image.clone(), rng, released).map_err(|error| format!("refused: {error}"))?;
        if let Some((before, durable)) = &before {
            before.check(&life.entries[..life.found], *durable)?;
        }
        match tail {
            Tail::Clean => tails[0] += 1,
            Tail::Torn => tails[1] += 1,
            Tail::Damaged => return Err("a power cut was taken for damage".to_owned()),
        }
        let cut = rng.random_range(0..=life.disk.calls());
        let (next, durable) = life.disk.cut_after(cut, rng);
        image = next;
        before = Some((life, durable));
    }
    Ok(tails)
}

#[test]
fn many_power_cuts_one_after_another() {
    let mut tails = [0; 2];
    for seed in 0..400 {
        let counted = lives(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        tails = [tails[0] + counted[0], tails[1] + counted[1]];
    }
    assert!(tails.iter().all(|count| *count > 50), "clean and torn ends: {tails:?}");
}

#[test]
fn a_power_cut_at_every_call() {
    let rng = &mut StdRng::seed_from_u64(1);
    let (life, _) = live(Image::default(), rng, Position(0)).unwrap();
    for calls in 0..=life.disk.calls() {
        for _ in 0..4 {
            let (image, durable) = life.disk.cut_after(calls, rng);
            let opened = open_sim(&SimDisk::of(image), small_files()).unwrap();
            assert_ne!(opened.tail, Tail::Damaged, "after {calls} calls");
            life.check(&opened.found, durable).unwrap_or_else(|error| panic!("after {calls} calls: {error}"));
        }
    }
}

#[test]
fn a_log_that_does_not_sync_is_caught() {
    plant(Some(PlantedBug::NoFdatasync));
    let caught = (0..100).any(|seed| lives(seed).is_err());
    plant(None);
    assert!(caught);
}

#[test]
fn a_torn_end_stays_on_record() {
    let rng = &mut StdRng::seed_from_u64(2);
    let (life, _) = live(Image::default(), rng, Position(0)).unwrap();
    let torn = (0..1000).find_map(|_| {
        let (image, _) = life.disk.cut_after(rng.random_range(0..life.disk.calls()), rng);
        let disk = SimDisk::of(image);
        let opened = open_sim(&disk, small_files()).unwrap();
        (opened.tail == Tail::Torn).then(|| (disk, opened.log.scars()))
    });
    let (disk, scars) = torn.unwrap();
    let opened = open_sim(&SimDisk::of(disk.now()), small_files()).unwrap();
    assert_eq!((opened.tail, opened.log.scars()), (Tail::Clean, scars));
    assert_eq!(scars.tail_above(Position(0)), Tail::Torn);
    assert_eq!(scars.tail_above(opened.append(b"later", true).position), Tail::Clean);
}

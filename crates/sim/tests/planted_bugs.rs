//! The simulation can fail: each bug that is planted in the log is caught within a few seeds, by seeds that pass
//! without it.

use zorya_sim::{Config, Simulation};
use zorya_types::planted::PlantedBug;

/// Whether one of so many seeds catches the bug; the seed that does must pass without it.
fn is_caught(bug: PlantedBug, seeds: u64) -> bool {
    for seed in 0..seeds {
        let config = Config { bug: Some(bug), ..Config::of_seed(seed) };
        if let Some(violation) = Simulation::run(seed, config).violation {
            println!("{}: seed {seed}: {violation}", bug.name());
            let sound = Simulation::run(seed, Config::of_seed(seed));
            assert_eq!(sound.violation, None, "seed {seed} fails without the bug, too");
            return true;
        }
    }
    false
}

#[test]
fn a_writer_that_counts_three_of_six_is_caught() {
    assert!(is_caught(PlantedBug::AckAtThree, 20));
}

#[test]
fn a_replica_that_does_not_sync_is_caught() {
    assert!(is_caught(PlantedBug::NoFdatasync, 10));
}

#[test]
fn a_replica_that_forgets_a_truncation_is_caught() {
    assert!(is_caught(PlantedBug::TruncationNotPersisted, 100));
}

#[test]
fn an_opening_that_counts_from_before_the_promise_is_caught() {
    assert!(is_caught(PlantedBug::SclBeforePromise, 200));
}

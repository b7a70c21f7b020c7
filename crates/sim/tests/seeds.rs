//! Hundreds of seeds hold every invariant, and a seed gives the same run every time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use zorya_sim::{Config, Simulation};

const SEEDS: u64 = 400;

#[test]
fn hundreds_of_seeds_hold_every_invariant() {
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let durable = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS {
                        return;
                    }
                    let report = Simulation::run(seed, Config::of_seed(seed));
                    durable.fetch_add(report.durable_records as u64, Ordering::Relaxed);
                    if let Some(violation) = report.violation {
                        failures.lock().unwrap().push(format!(
                            "{violation}\n  cargo run -p zorya-sim --release -- --seed {seed} --verbose"
                        ));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), failures.join("\n"));
    assert!(durable.into_inner() > 100 * SEEDS, "the runs hardly wrote anything");
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for seed in [3, 57, 1_234] {
        let one = Simulation::run(seed, Config::of_seed(seed));
        let other = Simulation::run(seed, Config::of_seed(seed));
        assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
        assert_eq!(one.durable_records, other.durable_records, "seed {seed}");
    }
    let (one, other) = (Simulation::run(1, Config::of_seed(1)), Simulation::run(2, Config::of_seed(2)));
    assert_ne!(one.trace_hash, other.trace_hash);
}

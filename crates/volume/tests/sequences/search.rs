//! Looking for a sequence with a finding: seed by seed, and from a finding to the shortest sequence that shows it.

use std::path::Path;
use std::time::Instant;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::run::{Sabotage, Tally, run};
use super::{Sequence, sequence};

/// Shorter sequences that are tried.
const SHRINKING: u32 = 400;

/// A sequence that shows something.
#[derive(Debug)]
pub struct Finding {
    pub seed: u64,
    pub sequence: Sequence,
    pub what: String,
}

/// The sequence of a seed.
fn grown(seed: u64) -> impl ValueTree<Value = Sequence> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    sequence().new_tree(&mut runner).expect("no strategy here rejects anything")
}

/// Runs the sequence of a seed; a finding is made as short as it gets in a few hundred tries.
pub fn try_seed(seed: u64, references: &Path, sabotage: Sabotage, tally: &mut Tally) -> Result<(), Finding> {
    let mut tree = grown(seed);
    let Err(mut what) = run(&tree.current(), references, sabotage, tally) else { return Ok(()) };
    eprintln!("seed {seed}: {what}\nmaking it shorter");
    let mut shortest = tree.current();
    let mut tries = 0;
    let started = Instant::now();
    let mut moved = tree.simplify();
    while moved && tries < SHRINKING && started.elapsed().as_secs() < 300 {
        tries += 1;
        match run(&tree.current(), references, sabotage, &mut Tally::default()) {
            Err(other) if kind(&other) == kind(&what) => {
                what = other;
                shortest = tree.current();
                moved = tree.simplify();
            }
            _ => moved = tree.complicate(),
        }
    }
    Err(Finding { seed, sequence: shortest, what })
}

/// What kind of finding it is, so that a shorter sequence with another is not taken for the same.
fn kind(what: &str) -> String {
    let words: Vec<&str> = what.split(": ").filter(|part| !part.contains(char::is_numeric)).collect();
    let first = words.first().copied().unwrap_or(what);
    first.chars().filter(|c| !c.is_numeric()).take(24).collect()
}

impl std::fmt::Display for Finding {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "{}", self.what)?;
        writeln!(out, "{:?}, room for {} bytes", self.sequence.class, self.sequence.room)?;
        for segment in &self.sequence.segments {
            for operation in &segment.operations {
                writeln!(out, "  {operation:?}")?;
            }
            writeln!(out, "  {:?}", segment.end)?;
        }
        write!(
            out,
            "again: ZORYA_REFERENCE_SEED={} ZORYA_REFERENCE_SEQUENCES=1 cargo test -p zorya-volume \
             --test against_reference -- --nocapture random_operations",
            self.seed
        )
    }
}

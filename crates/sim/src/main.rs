//! Replays a seed of the simulation, or soaks through many.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use zorya_sim::{Config, Simulation};
use zorya_types::planted::PlantedBug;

/// Simulates the quorum log.
#[derive(Parser)]
struct Arguments {
    /// Replays this seed and prints what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs these seeds: FIRST..END.
    #[arg(long, default_value = "0..200")]
    seeds: String,
    /// Goes on with further seeds for so many minutes.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// Runs branches and rewinds of page stores instead of the log.
    #[arg(long)]
    lineage: bool,
    /// Plants a bug.
    #[arg(long)]
    bug: Option<String>,
    /// Prints every event of a replayed seed.
    #[arg(long)]
    verbose: bool,
    /// How many threads run seeds.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let bug = arguments.bug.as_deref().map(bug_named).transpose()?;
    if arguments.lineage {
        return lineages(&arguments);
    }
    if let Some(seed) = arguments.seed {
        let config = Config { bug, verbose: arguments.verbose, ..Config::of_seed(seed) };
        let report = Simulation::run(seed, config);
        println!("{report:#?}");
        return match report.violation {
            None => Ok(()),
            Some(violation) => bail!("{violation}"),
        };
    }
    let (first, end) = range(&arguments.seeds)?;
    soak(first, end, Duration::from_secs(arguments.minutes * 60), bug, arguments.threads)
}

fn range(seeds: &str) -> anyhow::Result<(u64, u64)> {
    let (first, end) = seeds.split_once("..").context("--seeds takes FIRST..END, as in 0..200")?;
    Ok((first.parse()?, end.parse()?))
}

fn lineages(arguments: &Arguments) -> anyhow::Result<()> {
    let (first, end) = match arguments.seed {
        Some(seed) => (seed, seed + 1),
        None => range(&arguments.seeds)?,
    };
    let mut reads = 0;
    for seed in first..end {
        let dir = tempfile::tempdir()?;
        match zorya_sim::lineage::run(seed, dir.path()) {
            Ok(compared) => reads += compared,
            Err(violation) => bail!("seed {seed}: {violation}"),
        }
    }
    println!("{} seeds, {reads} reads as written", end - first);
    Ok(())
}

fn bug_named(name: &str) -> anyhow::Result<PlantedBug> {
    let names = || PlantedBug::ALL.map(PlantedBug::name).join(", ");
    let bug = PlantedBug::ALL.into_iter().find(|bug| bug.name() == name);
    bug.with_context(|| format!("there is no bug {name:?}: use one of {}", names()))
}

fn soak(
    first: u64,
    end: u64,
    at_least: Duration,
    bug: Option<PlantedBug>,
    threads: u64,
) -> anyhow::Result<()> {
    let (started, next, failed) = (Instant::now(), AtomicU64::new(first), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end && started.elapsed() >= at_least {
                        return;
                    }
                    failed.fetch_add(u64::from(!passes(seed, bug)), Ordering::Relaxed);
                }
            });
        }
    });
    let (run, failed) = (next.load(Ordering::Relaxed) - first, failed.load(Ordering::Relaxed));
    println!(
        "{} seeds, {failed} failed, {:.1} s",
        run.saturating_sub(threads),
        started.elapsed().as_secs_f64()
    );
    if failed > 0 {
        bail!("{failed} seeds failed");
    }
    Ok(())
}

/// Runs a seed and says how to replay it if it fails.
fn passes(seed: u64, bug: Option<PlantedBug>) -> bool {
    let config = Config { bug, ..Config::of_seed(seed) };
    let what = match catch_unwind(AssertUnwindSafe(|| Simulation::run(seed, config))) {
        Ok(report) => match report.violation {
            None => return true,
            Some(violation) => violation.to_string(),
        },
        Err(_) => "it panicked".to_owned(),
    };
    let bug = bug.map_or(String::new(), |bug| format!(" --bug {}", bug.name()));
    println!(
        "seed {seed}: {what}\n  replay: cargo run -p zorya-sim --release -- --seed {seed}{bug} --verbose"
    );
    false
}

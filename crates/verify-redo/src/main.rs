//! Verifies the redo of PostgreSQL's WAL against PostgreSQL itself.
//!
//! A server runs with `wal_consistency_checking = all` and `full_page_writes = off`: every record carries the changed
//! blocks as they are on the server, and none of those images shortens redo. The log is taken from the server as it
//! writes it; each record is decoded and applied, and the outcome compared with the image, after masking what changes
//! without a record. At the end the derived blocks are compared with the files of the stopped server.

mod check;
mod coverage;
mod installation;
mod metadata;
mod plant;
mod receive;
mod relation_files;
mod scenario;
mod segments;
mod sequence;
mod server;
mod standby;
mod start;
mod store;
mod timelines;
mod totals;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use zorya_redo::postgres::major::Major;

use plant::Plants;
use scenario::Scenario;
use totals::Totals;

/// Bytes of a segment of the log, by default.
const SEGMENT_LEN: u64 = 16 << 20;

/// Verifies PostgreSQL's redo in Rust against PostgreSQL's own images of every changed block.
#[derive(Parser)]
struct Arguments {
    /// The major version of PostgreSQL, which is installed as the distribution does it.
    #[arg(long, default_value = "15", value_parser = written_major)]
    major: Major,
    /// Only what takes less than three minutes: the coverage scripts, a short pgbench, crashes, wraparounds.
    #[arg(long)]
    quick: bool,
    /// PostgreSQL's source tree, with src/test/regress built, whose suites to run.
    #[arg(long)]
    sources: Option<PathBuf>,
    /// Only these scenarios; whether everything was seen is not asked then.
    #[arg(long)]
    only: Vec<Scenario>,
    /// Seconds of pgbench among the suites.
    #[arg(long, default_value_t = 15)]
    pgbench_seconds: u32,
    /// pgbench's scale in the mixed scenario.
    #[arg(long, default_value_t = 10)]
    mixed_scale: u32,
    /// Seconds of pgbench in the mixed scenario.
    #[arg(long, default_value_t = 60)]
    mixed_seconds: u32,
    /// Positions at which the mixed scenario compares with a standby.
    #[arg(long, default_value_t = 20)]
    positions: u32,
    /// What those positions are computed from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// More lines for postgresql.conf.
    #[arg(long, default_value = "")]
    settings: String,
    /// Without data checksums, so that hint bits are not logged.
    #[arg(long)]
    no_checksums: bool,
    /// Print how often each kind of record was seen.
    #[arg(long)]
    counts: bool,
    /// Plant bugs into every handler and require that each is noticed. No server is started on what is derived.
    #[arg(long)]
    plant: bool,
    /// Leave the servers' directories behind.
    #[arg(long)]
    keep: bool,
}

/// A major version whose redo is written.
fn written_major(number: &str) -> Result<Major, String> {
    let found = Major::ALL.into_iter().find(|major| major.number().to_string() == number);
    let major = found.ok_or_else(|| format!("{number} is no version of PostgreSQL that is known"))?;
    major.check_written().map(|()| major).map_err(|refused| refused.to_string())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match verify(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs it all; says whether everything was equal and everything was seen.
fn verify(arguments: &Arguments) -> Result<bool> {
    let started = Instant::now();
    let mut totals = Totals { plants: arguments.plant.then(Plants::default), ..Totals::default() };
    let is_whole = arguments.only.is_empty();
    let scenarios = if is_whole { Scenario::all(arguments) } else { &arguments.only };
    for scenario in scenarios {
        let begun = Instant::now();
        scenario.run(arguments, &mut totals)?;
        println!("scenario {scenario:?}: {} s", begun.elapsed().as_secs());
    }
    if arguments.counts {
        for (entry, count) in &totals.tally.seen {
            println!("{count:>10} {entry}");
        }
    }
    Ok(totals.conclude(arguments, is_whole, started.elapsed().as_secs()))
}

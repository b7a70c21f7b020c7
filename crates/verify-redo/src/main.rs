//! Verifies the redo of PostgreSQL's WAL against PostgreSQL itself.
//!
//! A server runs with `wal_consistency_checking = all` and `full_page_writes = off`: every record carries the changed
//! blocks as they are on the server, and none of those images shortens redo. The log is taken from the server as it
//! writes it; each record is decoded and applied, and the outcome compared with the image, after masking what changes
//! without a record. At the end the derived blocks are compared with the files of the stopped server.

mod check;
mod coverage;
mod metadata;
mod plant;
mod receive;
mod sequence;
mod server;
mod start;
mod store;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use zorya_redo::postgres::decode::stream::LogFormat;
use zorya_redo::postgres::{Settings, manager};

use check::{Checker, Tally};
use metadata::Metadata;
use plant::Plants;
use receive::Receiver;
use server::Server;
use store::Store;

/// The page magic of PostgreSQL 15 and the default segment size.
const FORMAT: LogFormat = LogFormat { page_magic: 0xd110, segment_len: 16 << 20 };

/// Bytes of the log after which a server is started on what was derived.
const START_INTERVAL: u64 = 4 << 30;
const QUICK_START_INTERVAL: u64 = 5 << 30;

/// Whether the record of a multixact writes the next one's offset too: from 15.16 on.
const NEXT_OFFSET: bool = true;

/// Verifies PostgreSQL's redo in Rust against PostgreSQL's own images of every changed block.
#[derive(Parser)]
struct Arguments {
    /// Only the coverage scripts and a short pgbench.
    #[arg(long)]
    quick: bool,
    /// PostgreSQL's source tree, with src/test/regress built, whose suites to run.
    #[arg(long)]
    sources: Option<PathBuf>,
    /// Seconds of pgbench.
    #[arg(long, default_value_t = 15)]
    pgbench_seconds: u32,
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
    /// Leave the server's directory behind.
    #[arg(long)]
    keep: bool,
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
    let dir = tempfile::Builder::new().prefix("zorya-verify-redo-").tempdir()?;
    let mut server = Server::create(dir.path(), !arguments.no_checksums, &arguments.settings)?;
    let redo_position = server.redo_position()?;
    server.start()?;
    let receiver = Receiver::start(&server.socket(), redo_position)?;
    let settings = Settings { hints_logged: !arguments.no_checksums };
    let base = server.base();
    let metadata = Metadata::over(&base, NEXT_OFFSET)?;
    let mut checker = Checker::new(Store::over(&base), metadata, FORMAT, redo_position, settings);
    let directory = server.dir().to_owned();
    let interval = if arguments.quick { QUICK_START_INTERVAL } else { START_INTERVAL };
    checker.plants = arguments.plant.then(Plants::default);
    let interval = if arguments.plant { u64::MAX } else { interval };
    let checking = thread::spawn(move || take_all(receiver, checker, &directory, interval));

    workload::run(&server, arguments.sources.as_deref(), arguments.quick, arguments.pgbench_seconds)?;
    server.stop()?;
    let mut checker = checking.join().map_err(|_| anyhow!("the checker panicked"))??;
    checker.compare_files(&server.data())?;
    if !arguments.plant {
        for finding in start::compare(&mut server, &mut checker, FORMAT)? {
            checker.report(format_args!("{finding}"));
        }
    }

    let tally = &checker.tally;
    if arguments.counts {
        for (entry, count) in &tally.seen {
            println!("{count:>10} {entry}");
        }
    }
    let missing = missing(tally, arguments.quick);
    for entry in &missing {
        println!("NOT SEEN {entry}");
    }
    let silent: Vec<_> = checked_entries(tally).filter(|entry| !tally.telling.contains(entry)).collect();
    let (equivalent, silent): (Vec<_>, Vec<_>) = silent.into_iter().partition(coverage::changes_nothing);
    for entry in &silent {
        println!("NOT TELLING {entry}");
    }
    println!(
        "{} kinds of block changes would be noticed if left out, {} change nothing, {} would not be noticed",
        tally.telling.len(),
        equivalent.len(),
        silent.len()
    );
    if arguments.keep {
        println!("left behind: {}", dir.keep().display());
    }
    let missed = checker.plants.as_ref().map_or(0, |plants| plants.missed().count());
    let clean =
        tally.findings == 0 && missing.is_empty() && (silent.is_empty() || arguments.plant) && missed == 0;
    let verdict = if clean { "clean" } else { "NOT CLEAN" };
    let compared = &checker.metadata.compared;
    println!(
        "{} checkpoints' counters, {} pages of transaction files and {} other files compared",
        compared.checkpoints, compared.pages, compared.files
    );
    if let Some(plants) = &checker.plants {
        for (entry, bug) in plants.missed() {
            println!("NOT NOTICED {entry} {bug}");
        }
        println!("{} planted bugs noticed, {missed} not", plants.noticed());
    }
    println!("{} servers started on derived data directories on the way, and one at the end", tally.starts);
    println!("{verdict}: {tally}, {} not seen, {} s", missing.len(), started.elapsed().as_secs());
    Ok(clean)
}

/// Takes the log to its end. Every `interval` bytes or so a server is started on what was derived up to there; the log
/// waits meanwhile.
fn take_all(mut receiver: Receiver, mut checker: Checker, original: &Path, interval: u64) -> Result<Checker> {
    let mut next_start = interval / 2;
    while let Some(bytes) = receiver.next()? {
        checker.feed(bytes).with_context(|| format!("at {}", checker.position()))?;
        if checker.tally.bytes >= next_start && checker.can_start() {
            next_start += interval;
            for finding in start::on_the_way(original, &mut checker, FORMAT)? {
                checker.report(format_args!("{finding}"));
            }
            checker.tally.starts += 1;
        }
    }
    Ok(checker)
}

/// The entries with a reference that were seen.
fn checked_entries(tally: &Tally) -> impl Iterator<Item = coverage::Entry> + '_ {
    tally.seen.keys().copied().filter(|entry| entry.reference.is_some())
}

/// The entries of the list that were not seen.
fn missing(tally: &Tally, quick: bool) -> Vec<coverage::Entry> {
    let mut entries = coverage::entries(manager::XLOG..=manager::LOGICALMSG);
    let seen =
        |entry: &coverage::Entry| tally.seen.contains_key(entry) || (quick && coverage::is_long(entry));
    entries.retain(|entry| !seen(entry));
    entries
}

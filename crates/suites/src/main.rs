//! The engines' own suites, on a volume of a region of its own and on the disk below it.
//!
//! PostgreSQL's suites run against a cluster's server; MariaDB's start servers of their own, whose files lie in the mount.
//! Either way the same runs on the disk, and what comes out is compared test by test. Every run leaves a file in
//! `--results`, so that a long one can be made in parts and resumed; `report` puts them together.

mod mariadb;
mod outcome;
mod postgres;
mod report;
mod scratch;
mod tests_of_suite;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs the engines' own suites.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where outcomes are kept
    #[arg(long, default_value = "target/suites")]
    results: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// PostgreSQL's regression and isolation suites
    Postgres(postgres::Options),
    /// MariaDB's
    Mariadb(mariadb::Options),
    /// Puts the outcomes together
    Report(report::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.results)?;
    let store = outcome::Store::at(arguments.results.canonicalize()?);
    let well = match arguments.command {
        Command::Postgres(options) => postgres::run(&options, &store)?,
        Command::Mariadb(options) => mariadb::run(&options, &store)?,
        Command::Report(options) => report::run(&options, &store)?,
    };
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

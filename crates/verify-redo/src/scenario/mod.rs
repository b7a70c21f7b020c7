//! What servers are made to do so that every kind of record is seen, each with a cluster of its own.

mod crash;
mod leg;
mod mixed;
mod overflow;
mod suites;
mod wraparound;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::Arguments;
use crate::server::Server;
use crate::totals::Totals;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Scripts for every family of records, pgbench, and PostgreSQL's own suites.
    Suites,
    /// Crashes, one of them in the middle of a record, and a promotion.
    Crash,
    /// Counters that go around their ends.
    Wraparound,
    /// A hash index that needs a second bitmap of its overflow pages.
    Overflow,
    /// Everything that a server does, side by side; compared at random positions with a stock standby.
    Mixed,
}

impl Scenario {
    /// Those that a run consists of.
    pub fn all(arguments: &Arguments) -> &'static [Self] {
        match (arguments.plant, arguments.quick) {
            // Where blocks change in a way that no other scenario makes.
            (true, _) => &[Self::Suites, Self::Overflow],
            (false, true) => &[Self::Suites, Self::Crash, Self::Wraparound],
            (false, false) => &[Self::Suites, Self::Crash, Self::Wraparound, Self::Overflow, Self::Mixed],
        }
    }

    /// Runs it in a directory of its own.
    pub fn run(self, arguments: &Arguments, totals: &mut Totals) -> Result<()> {
        let dir = tempfile::Builder::new().prefix("zorya-verify-redo-").tempdir()?;
        let server =
            Server::create(arguments.major, dir.path(), !arguments.no_checksums, &arguments.settings)?;
        let run = match self {
            Self::Suites => suites::run,
            Self::Crash => crash::run,
            Self::Wraparound => wraparound::run,
            Self::Overflow => overflow::run,
            Self::Mixed => mixed::run,
        };
        let result = run(server, arguments, totals).with_context(|| format!("scenario {self:?}"));
        if arguments.keep {
            println!("left behind: {}", dir.keep().display());
        }
        result
    }
}

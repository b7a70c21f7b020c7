//! What is done to servers, by the engines' own clients.
//!
//! * [`postgres`]: psql and pgbench, whose reports [`pgbench`] reads.
//! * [`mariadb`]: mariadb and sysbench, whose reports [`sysbench`] reads.

pub mod mariadb;
pub mod pgbench;
pub mod postgres;
pub mod sysbench;

use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::stop::ChildError;
use crate::target::Side;

/// The database that works run on.
pub const DATABASE: &str = "bench";
/// Beyond its length a slice may take this long, then the server counts as stuck.
const SLACK: Duration = Duration::from_secs(60);
/// The longest that a load or a checkpoint may take.
const STATEMENT_LIMIT: Duration = Duration::from_secs(600);
/// How long a database is run in after it was filled.
const RUN_IN: Duration = Duration::from_secs(2);

/// What a run of a work gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Done {
    /// Committed transactions; 1 for a load.
    pub transactions: u64,
    /// Transactions that ended in an error.
    pub failed: u64,
    /// Transactions per second; for a load its inverse.
    pub rate: f64,
    /// Median latency; `None` for a load.
    pub p50_us: Option<u64>,
    /// 99th percentile of the latency.
    pub p99_us: Option<u64>,
}

/// An engine's own counters of its log: PostgreSQL's write-ahead log, InnoDB's redo log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wal {
    /// Records; of InnoDB mini-transactions that were written.
    pub records: u64,
    /// Bytes of records.
    pub bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Syncs: on a volume, waits for the quorum. InnoDB's are those of its other files too.
    pub syncs: u64,
}

impl Wal {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Wal) -> Wal {
        Wal {
            records: self.records.saturating_sub(earlier.records),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            writes: self.writes.saturating_sub(earlier.writes),
            syncs: self.syncs.saturating_sub(earlier.syncs),
        }
    }
}

/// A client that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It failed.
    #[error("{work} on {}: {source}", side.word())]
    Failed {
        /// What was done.
        work: String,
        /// Where.
        side: Side,
        /// The cause.
        source: ChildError,
    },
    /// Its report is not understood.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A file or directory for it could not be made.
    #[error("cannot make {path} for a client")]
    Scratch {
        /// The file or directory.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

impl ClientError {
    /// Whether it was the operator who ended it.
    #[must_use]
    pub fn is_interrupt(&self) -> bool {
        matches!(self, ClientError::Failed { source: ChildError::Interrupted, .. })
    }
}

/// Output that is not of the client's form.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A line is missing, as when the client was stopped or is of an unknown version.
    #[error("{program}'s output has no line {line:?}: is it {version}?")]
    MissingLine {
        /// The client.
        program: &'static str,
        /// How the line begins.
        line: &'static str,
        /// The version whose form is known.
        version: &'static str,
    },
    /// A number does not parse.
    #[error("{program}'s output has {text:?} where a number belongs")]
    NotANumber {
        /// The client.
        program: &'static str,
        /// What is there.
        text: String,
    },
    /// The log of single transactions could not be read.
    #[error("cannot read pgbench's log of transactions in {directory}")]
    Log {
        /// Where it should be.
        directory: String,
        /// The cause.
        source: io::Error,
    },
}

/// A client's output, and what to call it in errors.
#[derive(Clone, Copy, Debug)]
struct Report<'a> {
    program: &'static str,
    version: &'static str,
    text: &'a str,
}

impl Report<'_> {
    /// The number at the start of what follows `prefix` on the first line that begins with it, blanks left out.
    fn number_after(&self, prefix: &'static str) -> Result<f64, ReportError> {
        let rest = self.line(prefix)?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let not_a_number = |_| ReportError::NotANumber { program: self.program, text: rest.to_owned() };
        rest[..end].parse().map_err(not_a_number)
    }

    /// What follows `prefix` on the first line that begins with it, blanks left out.
    fn line(&self, prefix: &'static str) -> Result<&str, ReportError> {
        let Report { program, version, text } = *self;
        let rest = text.lines().find_map(|line| line.trim_start().strip_prefix(prefix));
        rest.map(str::trim_start).ok_or(ReportError::MissingLine { program, line: prefix, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_never_below_nothing() {
        let (earlier, later) =
            (Wal { syncs: 5, bytes: 10, ..Wal::default() }, Wal { bytes: 25, ..Wal::default() });
        assert_eq!(later.since(&earlier), Wal { bytes: 15, ..Wal::default() });
    }
}

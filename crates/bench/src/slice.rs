//! One slice: one kind of work on one side, and everything that it cost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::disk::{Disk, DiskCounters};
use crate::options::{LOAD_SCALE, SELECT_CLIENTS};
use crate::pgbench::{self, PgbenchError};
use crate::process::{self, Role, Usage, Watched};
use crate::statistics;
use crate::stop::{self, ChildError, Interrupt};
use crate::target::{Server, Side};

/// The database of TPC-B and selects.
pub const DATABASE: &str = "bench";
/// The database that loads are measured in.
const LOAD_DATABASE: &str = "load";

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Work {
    /// `pgbench -i` into an empty database, at [`LOAD_SCALE`].
    Load,
    /// `pgbench`: five statements and a commit.
    TpcB {
        /// How many connections.
        clients: u32,
    },
    /// `pgbench -S`: a lookup by primary key.
    Select {
        /// How many connections.
        clients: u32,
    },
}

impl Work {
    /// Everything that is measured, in order.
    #[must_use]
    pub fn all(tpcb_clients: &[u32]) -> Vec<Work> {
        let mut all = vec![Work::Load];
        all.extend(tpcb_clients.iter().map(|clients| Work::TpcB { clients: *clients }));
        all.push(Work::Select { clients: SELECT_CLIENTS });
        all
    }

    /// The word that figures are named with.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Work::Load => "load".to_owned(),
            Work::TpcB { clients } => format!("tpcb_c{clients}"),
            Work::Select { clients } => format!("select_c{clients}"),
        }
    }
}

/// What a process spent in a slice.
#[derive(Clone, Debug, Serialize)]
pub struct Spent {
    /// Who.
    #[serde(flatten)]
    pub process: Watched,
    /// Of what.
    #[serde(flatten)]
    pub usage: Usage,
    /// Syncs of its log; `None` but for a storage node.
    pub syncs: Option<u64>,
    /// The most memory that it had since it was started.
    pub peak_memory_bytes: Option<u64>,
}

/// PostgreSQL's own counters of its write-ahead log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wal {
    /// Records.
    pub records: u64,
    /// Bytes of records.
    pub bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Syncs: on a volume, waits for the quorum.
    pub syncs: u64,
}

/// What a slice gave and took.
#[derive(Clone, Debug, Serialize)]
pub struct Slice {
    /// What was done.
    pub work: Work,
    /// Where.
    pub side: Side,
    /// In which round.
    pub round: u32,
    /// How long the client ran.
    pub seconds: f64,
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
    /// How long it took until both servers were quiet before.
    pub settled_after_ms: u64,
    /// Each of the side's processes.
    pub processes: Vec<Spent>,
    /// The whole disk, whoever used it; `None` where it has no counters.
    pub disk: Option<DiskCounters>,
    /// The engine's log.
    pub wal: Wal,
}

/// A slice that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    /// A client failed.
    #[error("{work} on {}: {source}", side.word())]
    Client {
        /// What was done.
        work: String,
        /// Where.
        side: Side,
        /// The cause.
        source: ChildError,
    },
    /// Its output is not understood.
    #[error(transparent)]
    Output(#[from] PgbenchError),
    /// One of the side's processes ended.
    #[error("{name} (pid {pid}) of {} ended during the run: see its log", side.word())]
    ProcessGone {
        /// Its name.
        name: String,
        /// Its process id.
        pid: u32,
        /// Whose.
        side: Side,
    },
    /// A scratch directory could not be made.
    #[error("cannot make a directory for pgbench's logs")]
    Scratch(#[source] std::io::Error),
}

/// Beyond its length a slice may take this long, then the server counts as stuck.
const SLACK: Duration = Duration::from_secs(60);
/// The longest that a load or a checkpoint may take.
const STATEMENT_LIMIT: Duration = Duration::from_secs(600);

/// Runs slices.
pub struct Bench<'a> {
    /// Where PostgreSQL's client programs are.
    pub bin_dir: &'a Path,
    /// Where pgbench may log.
    pub scratch: &'a Path,
    /// The scale of [`DATABASE`].
    pub scale: u32,
    /// How long a slice is.
    pub length: Duration,
    /// The disk below both servers.
    pub disk: Option<Disk>,
    /// The operator's wish to stop.
    pub interrupt: Interrupt,
}

impl Bench<'_> {
    /// Makes and fills [`DATABASE`], and runs it in for a moment.
    pub fn prepare(&self, server: &dyn Server) -> Result<(), SliceError> {
        self.sql(server, "postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        self.pgbench(
            server,
            DATABASE,
            &["-i", "-q", "-s", &self.scale.to_string()],
            STATEMENT_LIMIT,
            "prepare",
        )?;
        self.pgbench(server, DATABASE, &["-n", "-c", "8", "-j", "2", "-T", "2"], SLACK, "prepare")?;
        Ok(())
    }

    /// One slice on `server`, while `idle` has nothing to do.
    pub fn slice(
        &self,
        work: Work,
        server: &dyn Server,
        idle: &dyn Server,
        round: u32,
    ) -> Result<Slice, SliceError> {
        if work == Work::Load {
            self.sql(server, "postgres", &format!("DROP DATABASE IF EXISTS {LOAD_DATABASE}"))?;
            self.sql(server, "postgres", &format!("CREATE DATABASE {LOAD_DATABASE}"))?;
        }
        self.sql(server, "postgres", "CHECKPOINT")?;
        let settled_after_ms = self.settle(&[server.watched(), idle.watched()].concat());
        let told_before = self.ask(server)?;
        let before = self.observe(server)?;
        let started = Instant::now();
        let done = self.work(work, server)?;
        let seconds = started.elapsed().as_secs_f64();
        let after = self.observe(server)?;
        let told = self.ask(server)?;
        Ok(Slice {
            work,
            side: server.side(),
            round,
            seconds,
            transactions: done.transactions,
            failed: done.failed,
            rate: done.rate,
            p50_us: done.p50_us,
            p99_us: done.p99_us,
            settled_after_ms,
            processes: after.processes_since(&before, |name| told.syncs_since(&told_before, name)),
            disk: after.disk.zip(before.disk).map(|(after, before)| after.since(&before)),
            wal: told.wal.since(&told_before.wal),
        })
    }

    fn work(&self, work: Work, server: &dyn Server) -> Result<Done, SliceError> {
        let clients = match work {
            Work::Load => {
                let arguments = ["-i", "-q", "-s", &LOAD_SCALE.to_string()];
                let output =
                    self.pgbench(server, LOAD_DATABASE, &arguments, STATEMENT_LIMIT, &work.name())?;
                let rate = 1.0 / pgbench::parse_load_seconds(&output.stderr)?;
                return Ok(Done { transactions: 1, failed: 0, rate, p50_us: None, p99_us: None });
            }
            Work::TpcB { clients } | Work::Select { clients } => clients,
        };
        let logs = tempfile::tempdir_in(self.scratch).map_err(SliceError::Scratch)?;
        let prefix = logs.path().join("transactions").display().to_string();
        let (clients, seconds) = (clients.to_string(), self.length.as_secs().to_string());
        let threads = if clients == "1" { "1" } else { "2" };
        let mut arguments =
            vec!["-n", "-c", &clients, "-j", threads, "-T", &seconds, "--log", "--log-prefix", &prefix];
        if matches!(work, Work::Select { .. }) {
            // Tens of thousands a second: writing them all down would be work of its own.
            arguments.extend(["-S", "--sampling-rate=0.05"]);
        }
        let output = self.pgbench(server, DATABASE, &arguments, self.length + SLACK, &work.name())?;
        let outcome = pgbench::parse_outcome(&output.stdout)?;
        let mut latencies = pgbench::read_latencies(logs.path())?;
        Ok(Done {
            transactions: outcome.transactions,
            failed: outcome.failed,
            rate: outcome.tps,
            p50_us: statistics::percentile(&mut latencies, 50.0),
            p99_us: statistics::percentile(&mut latencies, 99.0),
        })
    }

    /// Waits until the processes hardly use the CPU, but not for ever: a server may have background work without end.
    fn settle(&self, watched: &[Watched]) -> u64 {
        const WINDOW: Duration = Duration::from_millis(250);
        const LIMIT: Duration = Duration::from_secs(5);
        const QUIET_SHARE: f64 = 0.06;
        let cpu = || -> f64 {
            watched
                .iter()
                .filter_map(|one| process::usage(one.pid, true).ok())
                .map(|usage| usage.cpu_seconds())
                .sum()
        };
        let started = Instant::now();
        let mut earlier = cpu();
        while started.elapsed() < LIMIT && !self.interrupt.is_raised() {
            std::thread::sleep(WINDOW);
            let now = cpu();
            if now - earlier <= WINDOW.as_secs_f64() * QUIET_SHARE {
                break;
            }
            earlier = now;
        }
        u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What the kernel knows of the side's processes and of the client.
    fn observe(&self, server: &dyn Server) -> Result<Observation, SliceError> {
        let client = Watched { role: Role::Client, name: "client".to_owned(), pid: std::process::id() };
        let mut processes = Vec::new();
        for one in server.watched().into_iter().chain([client]) {
            let gone =
                |_| SliceError::ProcessGone { name: one.name.clone(), pid: one.pid, side: server.side() };
            let usage = match one.role {
                Role::Engine => process::usage(one.pid, true),
                // Its children are also the servers themselves, but of those only what has ended counts here.
                Role::Client | Role::Mount | Role::Node | Role::Agent => process::usage(one.pid, false),
            };
            let usage = usage.map_err(gone)?;
            processes.push((one, usage));
        }
        Ok(Observation { processes, disk: self.disk.as_ref().and_then(|disk| disk.counters().ok()) })
    }

    /// What the servers know of themselves. Asking costs them something, hence not within what is observed.
    fn ask(&self, server: &dyn Server) -> Result<Told, SliceError> {
        let wal = self.sql(
            server,
            "postgres",
            "SELECT wal_records, wal_bytes, wal_write, wal_sync FROM pg_stat_wal",
        )?;
        Ok(Told { wal: Wal::parse(&wal), syncs: server.node_syncs().into_iter().collect() })
    }

    fn pgbench(
        &self,
        server: &dyn Server,
        database: &str,
        arguments: &[&str],
        limit: Duration,
        work: &str,
    ) -> Result<stop::Output, SliceError> {
        let mut command = server.endpoint().client(&self.bin_dir.join("pgbench"), database);
        let output = stop::run(command.args(arguments), limit, &self.interrupt);
        output.map_err(|source| SliceError::Client { work: work.to_owned(), side: server.side(), source })
    }

    /// Runs a statement and returns what psql prints, columns separated by `|`.
    pub fn sql(&self, server: &dyn Server, database: &str, statement: &str) -> Result<String, SliceError> {
        let mut command = server.endpoint().client(&self.bin_dir.join("psql"), database);
        let output = stop::run(command.args(["-XAtqc", statement]), STATEMENT_LIMIT, &self.interrupt);
        output.map(|output| output.stdout).map_err(|source| SliceError::Client {
            work: statement.to_owned(),
            side: server.side(),
            source,
        })
    }
}

struct Done {
    transactions: u64,
    failed: u64,
    rate: f64,
    p50_us: Option<u64>,
    p99_us: Option<u64>,
}

struct Observation {
    processes: Vec<(Watched, Usage)>,
    disk: Option<DiskCounters>,
}

impl Observation {
    fn processes_since(&self, earlier: &Observation, syncs: impl Fn(&str) -> Option<u64>) -> Vec<Spent> {
        let pairs = self.processes.iter().zip(&earlier.processes);
        let spent = |((process, after), (_, before)): (&(Watched, Usage), &(Watched, Usage))| Spent {
            process: process.clone(),
            usage: after.since(before),
            syncs: syncs(&process.name),
            peak_memory_bytes: process::peak_memory_bytes(process.pid),
        };
        pairs.map(spent).collect()
    }
}

struct Told {
    wal: Wal,
    syncs: BTreeMap<String, u64>,
}

impl Told {
    fn syncs_since(&self, earlier: &Told, node: &str) -> Option<u64> {
        Some(self.syncs.get(node)?.saturating_sub(*earlier.syncs.get(node)?))
    }
}

impl Wal {
    /// Reads `records|bytes|writes|syncs`.
    fn parse(row: &str) -> Wal {
        let mut columns = row.trim().split('|').map(|column| column.parse().unwrap_or_default());
        let mut next = || columns.next().unwrap_or_default();
        Wal { records: next(), bytes: next(), writes: next(), syncs: next() }
    }

    fn since(&self, earlier: &Wal) -> Wal {
        Wal {
            records: self.records.saturating_sub(earlier.records),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            writes: self.writes.saturating_sub(earlier.writes),
            syncs: self.syncs.saturating_sub(earlier.syncs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_has_a_name_of_its_own() {
        let names: Vec<String> = Work::all(&[1, 8]).into_iter().map(Work::name).collect();
        assert_eq!(names, ["load", "tpcb_c1", "tpcb_c8", "select_c8"]);
    }

    #[test]
    fn wal_counters_are_read() {
        assert_eq!(Wal::parse("10|2000|3|4\n"), Wal { records: 10, bytes: 2000, writes: 3, syncs: 4 });
        assert_eq!(Wal::parse(""), Wal::default());
    }

    #[test]
    fn a_node_restarted_meanwhile_has_no_syncs() {
        let at = |syncs: &[(&str, u64)]| Told {
            syncs: syncs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            wal: Wal::default(),
        };
        assert_eq!(at(&[("a", 9)]).syncs_since(&at(&[("a", 4)]), "a"), Some(5));
        assert_eq!(at(&[("a", 9)]).syncs_since(&at(&[]), "a"), None);
    }
}

//! One slice: one kind of work on one side, and everything that it cost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use zorya_compute::region::Engine;

use crate::clients::mariadb::MariadbClients;
use crate::clients::postgres::{PostgresClients, Script};
use crate::clients::{ClientError, Done, Wal};
use crate::disk::{Disk, DiskCounters};
use crate::options::{READ_WRITE_CLIENTS, SELECT_CLIENTS};
use crate::process::{self, Role, Usage, Watched};
use crate::stop::Interrupt;
use crate::target::{Server, Side};

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Work {
    /// `pgbench -i` into an empty database, at [`crate::options::LOAD_SCALE`].
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
    /// sysbench's `oltp_read_write`, on MariaDB: fourteen selects, four changes and a commit.
    ReadWrite {
        /// How many connections.
        clients: u32,
    },
}

impl Work {
    /// Everything that is measured of some engines, in order.
    #[must_use]
    pub fn all(engines: &[Engine], tpcb_clients: &[u32]) -> Vec<Work> {
        let mut all = vec![Work::Load];
        all.extend(tpcb_clients.iter().map(|clients| Work::TpcB { clients: *clients }));
        all.push(Work::Select { clients: SELECT_CLIENTS });
        all.push(Work::ReadWrite { clients: READ_WRITE_CLIENTS });
        all.retain(|work| engines.contains(&work.engine()));
        all
    }

    /// Whose servers do it.
    #[must_use]
    pub fn engine(self) -> Engine {
        match self {
            Work::Load | Work::TpcB { .. } | Work::Select { .. } => Engine::Postgres,
            Work::ReadWrite { .. } => Engine::Mariadb,
        }
    }

    /// The word that figures are named with.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Work::Load => "load".to_owned(),
            Work::TpcB { clients } => format!("tpcb_c{clients}"),
            Work::Select { clients } => format!("select_c{clients}"),
            Work::ReadWrite { clients } => format!("mariadb_rw_c{clients}"),
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
    #[error(transparent)]
    Client(#[from] ClientError),
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
}

impl SliceError {
    /// Whether it was the operator who ended it.
    #[must_use]
    pub fn is_interrupt(&self) -> bool {
        matches!(self, SliceError::Client(error) if error.is_interrupt())
    }
}

/// Runs slices.
pub struct Bench {
    /// What is done to PostgreSQL.
    pub postgres: PostgresClients,
    /// What is done to MariaDB.
    pub mariadb: MariadbClients,
    /// The disk below both servers.
    pub disk: Option<Disk>,
    /// The operator's wish to stop.
    pub interrupt: Interrupt,
}

impl Bench {
    /// Makes and fills what the works run on, and runs it in for a moment.
    pub fn prepare(&self, server: &dyn Server) -> Result<(), ClientError> {
        match server.endpoint().engine {
            Engine::Postgres => self.postgres.prepare(server),
            Engine::Mariadb => self.mariadb.prepare(server),
        }
    }

    /// Lets a server do what it has put off.
    fn rest(&self, server: &dyn Server) -> Result<(), ClientError> {
        match server.endpoint().engine {
            Engine::Postgres => self.postgres.rest(server),
            Engine::Mariadb => self.mariadb.rest(server),
        }
    }

    fn work(&self, work: Work, server: &dyn Server) -> Result<Done, ClientError> {
        match work {
            Work::Load => self.postgres.load(server),
            Work::TpcB { clients } => self.postgres.transactions(server, clients, Script::TpcB),
            Work::Select { clients } => self.postgres.transactions(server, clients, Script::Select),
            Work::ReadWrite { clients } => self.mariadb.transactions(server, clients),
        }
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
            self.postgres.prepare_load(server)?;
        }
        self.rest(server)?;
        let settled_after_ms = self.settle(&[server.watched(), idle.watched()].concat());
        let told_before = self.ask(server)?;
        let before = self.observe(server)?;
        let started = Instant::now();
        let done = self.work(work, server)?;
        let seconds = started.elapsed().as_secs_f64();
        let after = self.observe(server)?;
        let told = self.ask(server)?;
        // Before the next slice, which may be another server's.
        self.rest(server)?;
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
    fn ask(&self, server: &dyn Server) -> Result<Told, ClientError> {
        let wal = match server.endpoint().engine {
            Engine::Postgres => self.postgres.wal(server)?,
            Engine::Mariadb => self.mariadb.wal(server)?,
        };
        Ok(Told { wal, syncs: server.node_syncs().into_iter().collect() })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_has_a_name_of_its_own() {
        let names = |engines: &[Engine]| -> Vec<String> {
            Work::all(engines, &[1, 8]).into_iter().map(Work::name).collect()
        };
        let all = ["load", "tpcb_c1", "tpcb_c8", "select_c8", "mariadb_rw_c8"];
        assert_eq!(names(&[Engine::Postgres, Engine::Mariadb]), all);
        assert_eq!(names(&[Engine::Mariadb]), all[4..]);
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

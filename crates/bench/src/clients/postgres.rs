//! psql and pgbench.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{ClientError, DATABASE, Done, RUN_IN, SLACK, STATEMENT_LIMIT, Wal, pgbench};
use crate::options::LOAD_SCALE;
use crate::statistics;
use crate::stop::{self, Interrupt};
use crate::target::{Endpoint, Server};

/// The database that is there from the beginning.
const FIRST_DATABASE: &str = "postgres";
/// The database that loads are measured in.
const LOAD_DATABASE: &str = "load";

/// What a transaction of pgbench does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Five statements and a commit.
    TpcB,
    /// A lookup by primary key.
    Select,
}

/// PostgreSQL's clients.
pub struct PostgresClients {
    /// Where they are.
    pub bin_dir: PathBuf,
    /// Where pgbench may log.
    pub scratch: PathBuf,
    /// The scale of [`DATABASE`].
    pub scale: u32,
    /// How long a slice is.
    pub length: Duration,
    /// The operator's wish to stop.
    pub interrupt: Interrupt,
}

impl PostgresClients {
    /// Makes and fills [`DATABASE`], and runs it in for a moment.
    pub fn prepare(&self, server: &dyn Server) -> Result<(), ClientError> {
        self.sql(server, FIRST_DATABASE, &format!("CREATE DATABASE {DATABASE}"))?;
        let (scale, seconds) = (self.scale.to_string(), RUN_IN.as_secs().to_string());
        self.pgbench(server, DATABASE, &["-i", "-q", "-s", &scale], STATEMENT_LIMIT)?;
        self.pgbench(server, DATABASE, &["-n", "-c", "8", "-j", "2", "-T", &seconds], SLACK)?;
        Ok(())
    }

    /// Makes the empty database that [`Self::load`] fills.
    pub fn prepare_load(&self, server: &dyn Server) -> Result<(), ClientError> {
        self.sql(server, FIRST_DATABASE, &format!("DROP DATABASE IF EXISTS {LOAD_DATABASE}"))?;
        self.sql(server, FIRST_DATABASE, &format!("CREATE DATABASE {LOAD_DATABASE}"))?;
        Ok(())
    }

    /// Leaves the server nothing to write.
    pub fn rest(&self, server: &dyn Server) -> Result<(), ClientError> {
        self.sql(server, FIRST_DATABASE, "CHECKPOINT").map(drop)
    }

    /// Fills a database.
    pub fn load(&self, server: &dyn Server) -> Result<Done, ClientError> {
        let arguments = ["-i", "-q", "-s", &LOAD_SCALE.to_string()];
        let output = self.pgbench(server, LOAD_DATABASE, &arguments, STATEMENT_LIMIT)?;
        let rate = 1.0 / pgbench::parse_load_seconds(&output.stderr)?;
        Ok(Done { transactions: 1, failed: 0, rate, p50_us: None, p99_us: None })
    }

    /// A slice of transactions.
    pub fn transactions(
        &self,
        server: &dyn Server,
        clients: u32,
        script: Script,
    ) -> Result<Done, ClientError> {
        let scratch = |source| ClientError::Scratch {
            path: self.scratch.join("transactions").display().to_string(),
            source,
        };
        let logs = tempfile::tempdir_in(&self.scratch).map_err(scratch)?;
        let prefix = logs.path().join("transactions").display().to_string();
        let (clients, seconds) = (clients.to_string(), self.length.as_secs().to_string());
        let threads = if clients == "1" { "1" } else { "2" };
        let mut arguments =
            vec!["-n", "-c", &clients, "-j", threads, "-T", &seconds, "--log", "--log-prefix", &prefix];
        if script == Script::Select {
            // Tens of thousands a second: writing them all down would be work of its own.
            arguments.extend(["-S", "--sampling-rate=0.05"]);
        }
        let output = self.pgbench(server, DATABASE, &arguments, self.length + SLACK)?;
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

    /// The server's counters of its log.
    pub fn wal(&self, server: &dyn Server) -> Result<Wal, ClientError> {
        let columns = "SELECT wal_records, wal_bytes, wal_write, wal_sync FROM pg_stat_wal";
        Ok(parse_wal(&self.sql(server, FIRST_DATABASE, columns)?))
    }

    /// Runs a statement and returns what psql prints, columns separated by `|`.
    pub fn sql(&self, server: &dyn Server, database: &str, statement: &str) -> Result<String, ClientError> {
        let mut command = self.program("psql", server.endpoint(), database);
        let output = stop::run(command.args(["-XAtqc", statement]), STATEMENT_LIMIT, &self.interrupt);
        let failed = |source| ClientError::Failed { work: statement.to_owned(), side: server.side(), source };
        output.map(|output| output.stdout).map_err(failed)
    }

    fn pgbench(
        &self,
        server: &dyn Server,
        database: &str,
        arguments: &[&str],
        limit: Duration,
    ) -> Result<stop::Output, ClientError> {
        let mut command = self.program("pgbench", server.endpoint(), database);
        let failed = |source| ClientError::Failed { work: "pgbench".to_owned(), side: server.side(), source };
        stop::run(command.args(arguments), limit, &self.interrupt).map_err(failed)
    }

    /// A client that connects to `database`.
    #[must_use]
    pub fn program(&self, name: &str, endpoint: &Endpoint, database: &str) -> Command {
        client(&self.bin_dir.join(name), endpoint, database)
    }
}

/// A client that connects to `database` at `endpoint`. The password goes through the environment, not through the
/// arguments, which every user of the host can read.
#[must_use]
pub fn client(program: &std::path::Path, endpoint: &Endpoint, database: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("PGHOST", &endpoint.host)
        .env("PGPORT", endpoint.port.to_string())
        .env("PGUSER", &endpoint.user)
        .env("PGDATABASE", database)
        .env("PGAPPNAME", "zorya bench")
        .env("LC_ALL", "C");
    if let Some(password) = &endpoint.password {
        command.env("PGPASSWORD", password);
    }
    command
}

/// Reads `records|bytes|writes|syncs`.
fn parse_wal(row: &str) -> Wal {
    let mut columns = row.trim().split('|').map(|column| column.parse().unwrap_or_default());
    let mut next = || columns.next().unwrap_or_default();
    Wal { records: next(), bytes: next(), writes: next(), syncs: next() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn wal_counters_are_read() {
        assert_eq!(parse_wal("10|2000|3|4\n"), Wal { records: 10, bytes: 2000, writes: 3, syncs: 4 });
        assert_eq!(parse_wal(""), Wal::default());
    }

    #[test]
    fn a_password_is_never_an_argument() {
        let endpoint = Endpoint::parse("postgresql://postgres:secret@127.0.0.1:5433/postgres").unwrap();
        let command = client(Path::new("psql"), &endpoint, "bench");
        assert_eq!(command.get_args().count(), 0);
        assert!(command.get_envs().any(|(name, _)| name == "PGPASSWORD"));
    }
}

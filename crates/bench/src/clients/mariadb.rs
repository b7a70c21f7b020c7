//! mariadb and sysbench.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{ClientError, DATABASE, Done, RUN_IN, SLACK, STATEMENT_LIMIT, Wal, sysbench};
use crate::stop::{self, Interrupt};
use crate::target::{Endpoint, Server};

/// The program that works are done with.
const SYSBENCH: &str = "sysbench";
/// Its script: per transaction ten point selects, four range selects of 100 rows, two updates, a deletion and an insertion.
const SCRIPT: &str = "oltp_read_write";
/// How many tables it works on.
const TABLES: u32 = 4;
/// How many rows each of them has.
const ROWS: u32 = 100_000;

/// Makes InnoDB write all that is dirty at once, instead of 200 pages a second.
const HURRY: &str =
    "SET GLOBAL innodb_max_dirty_pages_pct = 0, innodb_io_capacity_max = 20000, innodb_io_capacity = 20000";
/// The stock settings again.
const NO_HURRY: &str =
    "SET GLOBAL innodb_max_dirty_pages_pct = 90, innodb_io_capacity = 200, innodb_io_capacity_max = 2000";

/// MariaDB's clients.
pub struct MariadbClients {
    /// Its command line client.
    pub mariadb: PathBuf,
    /// Where files with passwords may be.
    pub scratch: PathBuf,
    /// How long a slice is.
    pub length: Duration,
    /// The operator's wish to stop.
    pub interrupt: Interrupt,
}

/// Whether sysbench can be run.
#[must_use]
pub fn has_sysbench() -> bool {
    Command::new(SYSBENCH).arg("--version").output().is_ok_and(|output| output.status.success())
}

impl MariadbClients {
    /// Makes and fills [`DATABASE`], and runs it in for a moment.
    pub fn prepare(&self, server: &dyn Server) -> Result<(), ClientError> {
        // The servers' defaults differ, and sorting costs far more in one than in the other; this is Debian's default, and a cluster's.
        self.sql(server, &format!("CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4"))?;
        self.sysbench(server, &["--threads=2"], "prepare", STATEMENT_LIMIT)?;
        let seconds = format!("--time={}", RUN_IN.as_secs());
        self.sysbench(server, &["--threads=8", &seconds], "run", SLACK)?;
        self.rest(server)
    }

    /// Leaves the server nothing to write or to purge: InnoDB would go on in the background, for as long as another server's
    /// slice may take.
    pub fn rest(&self, server: &dyn Server) -> Result<(), ClientError> {
        const LIMIT: Duration = Duration::from_secs(20);
        const POLL: Duration = Duration::from_millis(100);
        if !self.has_work(server)? {
            return Ok(());
        }
        self.sql(server, HURRY)?;
        let started = Instant::now();
        while started.elapsed() < LIMIT && self.has_work(server)? {
            std::thread::sleep(POLL);
        }
        self.sql(server, NO_HURRY).map(drop)
    }

    fn has_work(&self, server: &dyn Server) -> Result<bool, ClientError> {
        let status = self.status(server)?;
        let count = |name: &str| status.get(name).copied().unwrap_or_default();
        Ok(count("Innodb_buffer_pool_pages_dirty") > 0 || count("Innodb_history_list_length") > 0)
    }

    /// A slice of transactions.
    pub fn transactions(&self, server: &dyn Server, clients: u32) -> Result<Done, ClientError> {
        let threads = format!("--threads={clients}");
        let seconds = format!("--time={}", self.length.as_secs());
        let arguments = [&threads, &seconds, "--histogram=on"];
        let output = self.sysbench(server, &arguments, "run", self.length + SLACK)?;
        Ok(sysbench::parse(&output.stdout)?)
    }

    /// The server's counters of its log.
    pub fn wal(&self, server: &dyn Server) -> Result<Wal, ClientError> {
        let status = self.status(server)?;
        let count = |name: &str| status.get(name).copied().unwrap_or_default();
        Ok(Wal {
            records: count("Innodb_log_write_requests"),
            bytes: count("Innodb_os_log_written"),
            writes: count("Innodb_log_writes"),
            syncs: count("Innodb_data_fsyncs"),
        })
    }

    /// InnoDB's counters.
    fn status(&self, server: &dyn Server) -> Result<BTreeMap<String, u64>, ClientError> {
        Ok(parse_status(&self.sql(server, "SHOW GLOBAL STATUS LIKE 'Innodb%'")?))
    }

    /// Runs a statement and returns what mariadb prints, columns separated by tabs.
    pub fn sql(&self, server: &dyn Server, statement: &str) -> Result<String, ClientError> {
        let options = self.options_file(server, client_options)?;
        let mut command = Command::new(&self.mariadb);
        command.arg(format!("--defaults-file={}", options.display())).args(["-NBe", statement]);
        let failed = |source| ClientError::Failed { work: statement.to_owned(), side: server.side(), source };
        let output = stop::run(&mut command, STATEMENT_LIMIT, &self.interrupt);
        output.map(|output| output.stdout).map_err(failed)
    }

    fn sysbench(
        &self,
        server: &dyn Server,
        arguments: &[&str],
        what: &str,
        limit: Duration,
    ) -> Result<stop::Output, ClientError> {
        let options = self.options_file(server, sysbench_options)?;
        let mut command = Command::new(SYSBENCH);
        command.arg(format!("--config-file={}", options.display())).args(arguments).args([SCRIPT, what]);
        let failed =
            |source| ClientError::Failed { work: format!("{SYSBENCH} {what}"), side: server.side(), source };
        stop::run(&mut command, limit, &self.interrupt).map_err(failed)
    }

    /// Writes a client's options. The password is in a file of the caller's own, not among the arguments, which every
    /// user of the host can read.
    fn options_file(
        &self,
        server: &dyn Server,
        content: impl Fn(&Endpoint) -> String,
    ) -> Result<PathBuf, ClientError> {
        let path = self.scratch.join(format!("client-{}.cnf", server.side().word()));
        let failed = |source| ClientError::Scratch { path: path.display().to_string(), source };
        write_private(&path, &content(server.endpoint())).map_err(failed)?;
        Ok(path)
    }
}

fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())
}

fn client_options(endpoint: &Endpoint) -> String {
    let Endpoint { host, port, user, .. } = endpoint;
    let password = endpoint.password.as_deref().unwrap_or_default();
    format!("[client]\nhost={host}\nport={port}\nuser={user}\npassword=\"{password}\"\n")
}

fn sysbench_options(endpoint: &Endpoint) -> String {
    let Endpoint { host, port, user, .. } = endpoint;
    let password = endpoint.password.as_deref().unwrap_or_default();
    format!(
        "db-driver=mysql\nmysql-host={host}\nmysql-port={port}\nmysql-user={user}\nmysql-password={password}\n\
         mysql-db={DATABASE}\ntables={TABLES}\ntable-size={ROWS}\n"
    )
}

/// Reads lines of a name and a number; others are left out.
fn parse_status(output: &str) -> BTreeMap<String, u64> {
    let entry = |line: &str| {
        let (name, value) = line.split_once('\t')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    output.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let status = parse_status("Innodb_data_fsyncs\t12\nInnodb_have_lz4\tOFF\n\n");
        assert_eq!(status, BTreeMap::from([("Innodb_data_fsyncs".to_owned(), 12)]));
    }

    #[test]
    fn options_with_a_password_are_for_the_caller_alone() {
        let endpoint = Endpoint::parse("mysql://root:secret@127.0.0.1:3307/").unwrap();
        assert!(client_options(&endpoint).contains("password=\"secret\"\n"));
        assert!(sysbench_options(&endpoint).contains("mysql-password=secret\n"));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("options");
        write_private(&path, &client_options(&endpoint)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

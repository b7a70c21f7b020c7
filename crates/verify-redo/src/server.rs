//! A PostgreSQL server of its own, in a directory of its own, that puts an image of every block into its log.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use zorya_redo::postgres::WalPosition;

/// Where the distribution's PostgreSQL 15 has its programs.
pub const BIN: &str = "/usr/lib/postgresql/15/bin";
/// How long a server may take to start or stop: it stops once all of its log was taken.
const PATIENCE: Duration = Duration::from_secs(600);

/// What every run sets: images for comparing and no others, and what makes records of every kind possible.
const SETTINGS: &str = "
listen_addresses = ''
fsync = off
full_page_writes = off
wal_consistency_checking = 'all'
wal_level = logical
max_wal_size = 64MB
min_wal_size = 32MB
max_prepared_transactions = 20
track_commit_timestamp = on
allow_in_place_tablespaces = on
autovacuum = off
autovacuum_naptime = 2s
log_checkpoints = off
log_min_messages = error
log_statement = none
";

/// A cluster and the server that runs on it.
pub struct Server {
    dir: PathBuf,
    process: Option<Child>,
}

impl Server {
    /// Makes a cluster under `dir` and keeps a copy of it as `initdb` left it.
    pub fn create(dir: &Path, checksums: bool, settings: &str) -> Result<Self> {
        let this = Self { dir: dir.to_owned(), process: None };
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        if geteuid().is_root() {
            let user =
                User::from_name("postgres")?.context("there is no user postgres to run the server as")?;
            chown(dir, Some(user.uid), Some(user.gid))?;
        }
        let mut initdb = this.program("initdb");
        initdb
            .args(["-U", "postgres", "--auth=trust", "--no-sync", "--no-instructions", "-D"])
            .arg(this.data());
        if checksums {
            initdb.arg("--data-checksums");
        }
        run_quietly(&mut initdb)?;
        let mut copy = as_engine("cp");
        copy.args(["-a", "--reflink=auto"]).args([this.data(), this.base()]);
        run_quietly(&mut copy)?;
        let conf = this.data().join("postgresql.conf");
        fs::write(&conf, fs::read_to_string(&conf)? + SETTINGS + settings + "\n")?;
        Ok(this)
    }

    /// Another cluster, in a directory within that of a first one: a copy of it as `initdb` left it.
    pub fn sibling(first: &Path, name: &str) -> Result<Self> {
        let dir = first.join(name);
        run_quietly(as_engine("mkdir").arg(&dir))?;
        run_quietly(
            as_engine("cp").args(["-a", "--reflink=auto"]).args([first.join("base"), dir.join("data")]),
        )?;
        Ok(Self { dir, process: None })
    }

    /// What the server said since it was started last.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.join("server.log"))?)
    }

    /// The directory of the socket.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The copy of the data directory as `initdb` left it.
    pub fn base(&self) -> PathBuf {
        self.dir.join("base")
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(".s.PGSQL.5432")
    }

    /// A program of PostgreSQL, as the engine's user, that finds the server.
    pub fn program(&self, name: &str) -> Command {
        let mut command = as_engine(&format!("{BIN}/{name}"));
        command.env("PGHOST", &self.dir).env("PGPORT", "5432").env("PGUSER", "postgres").env("LC_ALL", "C");
        command.current_dir(&self.dir);
        command
    }

    /// Where redo would begin after `initdb`: the position from which the log says everything.
    pub fn redo_position(&self) -> Result<WalPosition> {
        let output = self.program("pg_controldata").arg("-D").arg(self.base()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.strip_prefix("Latest checkpoint's REDO location:"));
        Ok(line.context("pg_controldata names no redo position")?.parse()?)
    }

    /// Starts the server and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        let log = fs::File::create(self.dir.join("server.log"))?;
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn().context("starting postgres")?);
        let deadline = Instant::now() + PATIENCE;
        while self.psql("postgres", "select 1").is_err() {
            let process = self.process.as_mut().context("no server")?;
            if let Some(status) = process.try_wait()? {
                bail!("the server ended with {status}; see {}", self.dir.join("server.log").display());
            }
            ensure!(Instant::now() < deadline, "the server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Runs a statement and returns what it answers.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let output = self
            .program("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql])
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Stops the server: a fast shutdown, which sends the rest of the log first.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        kill(Pid::from_raw(process.id() as i32), Signal::SIGINT)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = process.try_wait()? {
                ensure!(status.success(), "the server ended with {status}");
                return Ok(());
            }
            if Instant::now() > deadline {
                process.kill()?;
                bail!("the server did not stop");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // An immediate shutdown: the children of a killed postmaster would live on.
            let _ = kill(Pid::from_raw(process.id() as i32), Signal::SIGQUIT);
            let _ = process.wait();
        }
    }
}

/// A command as the engine's user: engines refuse root.
pub fn as_engine(program: &str) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", program]);
    command
}

/// Runs a command to its end; what it says matters only if it fails.
pub fn run_quietly(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, text.trim());
    Ok(())
}

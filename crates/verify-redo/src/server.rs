//! A PostgreSQL server of its own, in a directory of its own, that puts an image of every block into its log.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use zorya_redo::postgres::WalPosition;
use zorya_redo::postgres::checkpoint::Counters;
use zorya_redo::postgres::control::ControlFile;
use zorya_redo::postgres::major::Major;

use crate::installation;

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
wal_sender_timeout = 0
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
    major: Major,
    dir: PathBuf,
    process: Option<Child>,
}

impl Server {
    /// Makes a cluster under `dir`.
    pub fn create(major: Major, dir: &Path, checksums: bool, settings: &str) -> Result<Self> {
        let this = Self { major, dir: dir.to_owned(), process: None };
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
        let conf = this.data().join("postgresql.conf");
        fs::write(&conf, fs::read_to_string(&conf)? + SETTINGS + settings + "\n")?;
        Ok(this)
    }

    /// Keeps a copy of the data directory as it is now, while the server is stopped: what redo begins with. The log is
    /// no part of it.
    pub fn keep_base(&self) -> Result<()> {
        let base = self.base();
        if base.exists() {
            fs::remove_dir_all(&base)?;
        }
        copy(&self.data(), &base)?;
        for entry in fs::read_dir(base.join("pg_wal"))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Another cluster, in a directory within that of a first one: a copy of a data directory.
    pub fn copy_of(major: Major, data: &Path, first: &Path, name: &str) -> Result<Self> {
        let dir = first.join(name);
        run_quietly(as_engine("mkdir").arg(&dir))?;
        copy(data, &dir.join("data"))?;
        Ok(Self { major, dir, process: None })
    }

    /// What the server said since it was started last.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.join("server.log"))?)
    }

    /// The major version.
    pub fn major(&self) -> Major {
        self.major
    }

    /// The directory of the socket.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The copy of the data directory that redo begins with.
    pub fn base(&self) -> PathBuf {
        self.dir.join("base")
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(".s.PGSQL.5432")
    }

    /// A program of PostgreSQL, as the engine's user, that finds the server.
    pub fn program(&self, name: &str) -> Command {
        let mut command = as_engine(installation::programs(self.major).join(name));
        command.env("PGHOST", &self.dir).env("PGPORT", "5432").env("PGUSER", "postgres").env("LC_ALL", "C");
        command.current_dir(&self.dir);
        command
    }

    /// Where redo would begin after the base: the position from which the log says everything.
    pub fn redo_position(&self) -> Result<WalPosition> {
        Ok(self.control_file(&self.base())?.checkpoint()?.redo)
    }

    /// The last checkpoint's record, after the server was stopped.
    pub fn checkpoint_position(&self) -> Result<WalPosition> {
        Ok(self.control_file(&self.data())?.checkpoint_position())
    }

    /// The counters, after the server was stopped.
    pub fn counters(&self) -> Result<Counters> {
        Ok(self.control_file(&self.data())?.checkpoint()?.counters)
    }

    fn control_file(&self, data: &Path) -> Result<ControlFile> {
        Ok(ControlFile::read(self.major, &fs::read(data.join("global/pg_control"))?)?)
    }

    /// Starts the server and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// The same with arguments.
    pub fn start_with(&mut self, arguments: &[&str]) -> Result<()> {
        self.spawn(arguments)?;
        self.wait_for("the server does not answer", |server| Ok(server.psql("postgres", "select 1").is_ok()))
    }

    /// Starts the server without waiting.
    pub fn spawn(&mut self, arguments: &[&str]) -> Result<()> {
        let log = fs::File::create(self.dir.join("server.log"))?;
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.dir).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn().context("starting postgres")?);
        Ok(())
    }

    /// Waits for a condition; an error if the server ends before.
    pub fn wait_for(&mut self, otherwise: &str, mut holds: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self)? {
            let process = self.process.as_mut().context("no server")?;
            if let Some(status) = process.try_wait()? {
                bail!("the server ended with {status}: {}", self.log()?.trim());
            }
            ensure!(Instant::now() < deadline, "{otherwise}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until the server ends by itself.
    pub fn wait_for_end(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.wait()?;
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

    /// Ends the server as a crash would: nothing more is written.
    pub fn crash(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        // An immediate shutdown: the children of a killed postmaster would live on.
        kill(Pid::from_raw(process.id() as i32), Signal::SIGQUIT)?;
        process.wait()?;
        Ok(())
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
        let _ = self.crash();
    }
}

/// Copies a directory.
fn copy(from: &Path, to: &Path) -> Result<()> {
    run_quietly(as_engine("cp").args(["-a", "--reflink=auto"]).args([from, to]))
}

/// A command as the engine's user: engines refuse root.
pub fn as_engine(program: impl AsRef<OsStr>) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    command
}

/// Runs a command to its end; what it says matters only if it fails.
pub fn run_quietly(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, text.trim());
    Ok(())
}

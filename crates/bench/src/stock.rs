//! The server to compare with: PostgreSQL as the distribution ships it, with a data directory of its own on the same disk.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};

use crate::process::{Role, Watched};
use crate::stop::{self, ChildError, Interrupt};
use crate::target::{Endpoint, Server, Side};

/// A stock server that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StockError {
    /// There is no user to run it as.
    #[error("root cannot run PostgreSQL and there is no user {ENGINE_USER:?}: install postgresql-15")]
    NoUser,
    /// Its directory could not be made.
    #[error("cannot make the stock server's directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No port is free.
    #[error("cannot find a free TCP port on 127.0.0.1")]
    Port(#[source] io::Error),
    /// One of its programs failed.
    #[error("cannot make the stock server: {0}")]
    Program(#[from] ChildError),
    /// It ended or did not answer.
    #[error("the stock server did not come up: {log}")]
    NotUp {
        /// The last lines of its log.
        log: String,
    },
}

/// The distribution's user for PostgreSQL.
const ENGINE_USER: &str = "postgres";
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A running stock server; stopped when dropped.
#[derive(Debug)]
pub struct StockServer {
    postmaster: Child,
    endpoint: Endpoint,
}

impl StockServer {
    /// Makes a data directory below `directory` with `initdb`'s defaults and starts a server on it. `parameters` are all
    /// that differs from stock.
    pub fn start(
        directory: &Path,
        bin_dir: &Path,
        parameters: &[(String, String)],
        interrupt: &Interrupt,
    ) -> Result<StockServer, StockError> {
        let owner = engine_user()?;
        make_directory(directory, owner)
            .map_err(|source| StockError::Directory { path: directory.to_owned(), source })?;
        let data = directory.join("data");
        let mut initdb = as_user(&bin_dir.join("initdb"), owner);
        initdb
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "-D"])
            .arg(&data);
        stop::run(&mut initdb, START_LIMIT, interrupt)?;
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: free_port().map_err(StockError::Port)?,
            user: "postgres".to_owned(),
            password: None,
        };
        let log = directory.join("postgres.log");
        let postmaster = spawn(&data, &log, &endpoint, bin_dir, owner, parameters)?;
        let mut server = StockServer { postmaster, endpoint };
        server.wait_until_up(bin_dir, &log, interrupt)?;
        Ok(server)
    }

    fn wait_until_up(&mut self, bin_dir: &Path, log: &Path, interrupt: &Interrupt) -> Result<(), StockError> {
        let started = Instant::now();
        loop {
            let mut probe = self.endpoint.client(&bin_dir.join("psql"), "postgres");
            match stop::run(probe.args(["-XAtqc", "SELECT 1"]), START_LIMIT, interrupt) {
                Ok(_) => return Ok(()),
                Err(ChildError::Failed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let ended = !matches!(self.postmaster.try_wait(), Ok(None));
            if ended || started.elapsed() > START_LIMIT {
                let log = stop::last_lines(&fs::read_to_string(log).unwrap_or_default());
                return Err(StockError::NotUp { log });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for StockServer {
    fn drop(&mut self) {
        // The fast shutdown. Its data is about to be removed, but its processes and shared memory are to go in order.
        stop::end(&mut self.postmaster, Signal::SIGINT, STOP_LIMIT);
    }
}

impl Server for StockServer {
    fn side(&self) -> Side {
        Side::Stock
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn watched(&self) -> Vec<Watched> {
        vec![Watched { role: Role::Engine, name: "postgres".to_owned(), pid: self.postmaster.id() }]
    }

    fn node_syncs(&self) -> Vec<(String, u64)> {
        Vec::new()
    }
}

/// Root runs it as the distribution's user, anybody else as themselves.
fn engine_user() -> Result<Option<(u32, u32)>, StockError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    match User::from_name(ENGINE_USER) {
        Ok(Some(user)) => Ok(Some((user.uid.as_raw(), user.gid.as_raw()))),
        Ok(None) | Err(_) => Err(StockError::NoUser),
    }
}

fn make_directory(directory: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    fs::create_dir(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    owner.map_or(Ok(()), |(uid, gid)| chown(directory, Some(uid), Some(gid)))
}

fn as_user(program: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    // The caller's directory may be closed to the engine's user.
    command.current_dir("/").env("LC_ALL", "C");
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command
}

fn spawn(
    data: &Path,
    log: &Path,
    endpoint: &Endpoint,
    bin_dir: &Path,
    owner: Option<(u32, u32)>,
    parameters: &[(String, String)],
) -> Result<Child, StockError> {
    let program = bin_dir.join("postgres");
    let directory = |source| StockError::Directory { path: log.to_owned(), source };
    let log = fs::File::create(log).map_err(directory)?;
    let mut command = as_user(&program, owner);
    command.arg("-D").arg(data);
    let mut set = |name: &str, value: &str| {
        command.args(["-c", &format!("{name}={value}")]);
    };
    set("listen_addresses", &endpoint.host);
    set("port", &endpoint.port.to_string());
    set("unix_socket_directories", "");
    for (name, value) in parameters {
        set(name, value);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().map_err(directory)?).stderr(log).process_group(0);
    let start = |source| ChildError::Start { program: program.display().to_string(), source };
    Ok(command.spawn().map_err(start)?)
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

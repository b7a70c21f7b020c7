//! The server to compare with: an engine as the distribution ships it, with a data directory of its own on the same disk.
//!
//! What differs between the engines is in [`postgres`] and [`mariadb`].

mod mariadb;
mod postgres;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use zorya_compute::engine::Installed;
use zorya_compute::region::Engine;

use crate::process::{Role, Watched};
use crate::stop::{self, ChildError, Interrupt};
use crate::target::{Endpoint, Server, Side};

/// A stock server that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StockError {
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

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A running stock server; stopped when dropped.
#[derive(Debug)]
pub struct StockServer {
    process: Child,
    endpoint: Endpoint,
}

/// Where a stock server is.
struct Place<'a> {
    installed: &'a Installed,
    /// A directory of its own.
    directory: &'a Path,
    endpoint: &'a Endpoint,
}

impl Place<'_> {
    /// Its data directory.
    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// One of the engine's programs, as the engine's user.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.installed.program(name));
        // The caller's directory may be closed to the engine's user.
        command.current_dir("/").env("LC_ALL", "C");
        command.uid(self.installed.uid.as_raw()).gid(self.installed.gid.as_raw());
        command
    }
}

impl StockServer {
    /// Makes a data directory below `directory` with the engine's defaults and starts a server on it. `parameters` are all
    /// that differs from stock.
    pub fn start(
        installed: &Installed,
        directory: &Path,
        parameters: &[(String, String)],
        interrupt: &Interrupt,
    ) -> Result<StockServer, StockError> {
        let failed = |source| StockError::Directory { path: directory.to_owned(), source };
        make_directory(directory, installed).map_err(failed)?;
        let engine = installed.engine;
        let endpoint = Endpoint {
            engine,
            host: "127.0.0.1".to_owned(),
            port: free_port().map_err(StockError::Port)?,
            user: engine.superuser().to_owned(),
            password: None,
        };
        let place = Place { installed, directory, endpoint: &endpoint };
        let (mut initialise, serve) = match engine {
            Engine::Postgres => (postgres::initialise(&place), postgres::serve(&place, parameters)),
            Engine::Mariadb => (mariadb::initialise(&place), mariadb::serve(&place, parameters)),
        };
        stop::run(&mut initialise, START_LIMIT, interrupt)?;
        let log = directory.join("server.log");
        let process = spawn(serve, &log)?;
        let mut server = StockServer { process, endpoint: endpoint.clone() };
        server.wait_until_up(&place, &log, interrupt)?;
        Ok(server)
    }

    fn wait_until_up(
        &mut self,
        place: &Place<'_>,
        log: &Path,
        interrupt: &Interrupt,
    ) -> Result<(), StockError> {
        let started = Instant::now();
        loop {
            let mut probe = match place.installed.engine {
                Engine::Postgres => postgres::probe(place),
                Engine::Mariadb => mariadb::probe(place),
            };
            match stop::run(&mut probe, START_LIMIT, interrupt) {
                Ok(_) => return Ok(()),
                Err(ChildError::Failed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let ended = !matches!(self.process.try_wait(), Ok(None));
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
        // Its data is about to be removed, but its processes and shared memory are to go in order.
        let signal = Signal::try_from(self.endpoint.engine.stop_signal().as_raw()).unwrap_or(Signal::SIGTERM);
        stop::end(&mut self.process, signal, STOP_LIMIT);
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
        let name = self.endpoint.engine.product().server.to_owned();
        vec![Watched { role: Role::Engine, name, pid: self.process.id() }]
    }

    fn node_syncs(&self) -> Vec<(String, u64)> {
        Vec::new()
    }
}

fn make_directory(directory: &Path, installed: &Installed) -> io::Result<()> {
    fs::create_dir(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    chown(directory, Some(installed.uid.as_raw()), Some(installed.gid.as_raw()))
}

fn spawn(mut command: Command, log: &Path) -> Result<Child, StockError> {
    let failed = |source| StockError::Directory { path: log.to_owned(), source };
    let log = fs::File::create(log).map_err(failed)?;
    command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log).process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    Ok(command.spawn().map_err(|source| ChildError::Start { program, source })?)
}

/// `--name=value`.
fn option(name: &str, value: impl AsRef<OsStr>) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(format!("--{name}="));
    option.push(value);
    option
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

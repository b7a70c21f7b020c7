//! The seam between the supervisor and the engines: everything that the agent needs to know of one.
//!
//! * [`binaries`]: where the distribution keeps an engine, which version it is, as which user it runs.
//! * [`database`]: judging the data directory in a volume.
//! * [`parameters`]: refusing what an operator must not set.
//!
//! What is particular to an engine is in its adapter, [`crate::postgres`] or [`crate::mariadb`]; this module only
//! chooses between them.

pub mod binaries;
pub mod database;
pub mod parameters;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::home::Home;
use crate::region::Engine;
use crate::{mariadb, postgres};

pub use binaries::{BinariesError, Installed};
pub use database::DatabaseError;
pub use parameters::ParameterError;

/// Where one cluster's engine runs.
#[derive(Clone, Debug)]
pub struct Placement<'a> {
    /// The root of its volume.
    pub mountpoint: &'a Path,
    /// Its data directory, inside the mount.
    pub data_directory: &'a Path,
    /// Its socket's directory.
    pub socket_directory: &'a Path,
    /// The address that it listens on.
    pub host: &'a str,
    /// The port that it listens on.
    pub port: u16,
}

/// What to run: a program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// What an engine said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It answered. So does one that has no connection left, or whose password was changed.
    Alive,
    /// It is recovering or shutting down.
    NotYet,
    /// Nobody listens, the connection broke, or it took longer than the limit.
    Silent,
}

/// The prober of one engine: a connection that is kept, and a question on it.
pub enum Probe {
    /// PostgreSQL's.
    Postgres(postgres::probe::Probe),
    /// MariaDB's.
    Mariadb(mariadb::probe::Probe),
}

impl Probe {
    /// Asks, for at most `limit`. A connection that did not answer is given up.
    pub async fn ask(&mut self, limit: Duration) -> Answer {
        match self {
            Probe::Postgres(probe) => probe.ask(limit).await,
            Probe::Mariadb(probe) => probe.ask(limit).await,
        }
    }
}

impl Engine {
    /// The data directory's name within the volume.
    #[must_use]
    pub fn data(self) -> &'static str {
        match self {
            Engine::Postgres => postgres::database::DATA,
            Engine::Mariadb => mariadb::database::DATA,
        }
    }

    /// The superuser that every cluster starts with.
    #[must_use]
    pub fn superuser(self) -> &'static str {
        match self {
            Engine::Postgres => postgres::SUPERUSER,
            Engine::Mariadb => mariadb::SUPERUSER,
        }
    }

    /// The arguments by which a running engine is known: those that name its data directory.
    #[must_use]
    pub fn known_by(self, data_directory: &Path) -> Vec<OsString> {
        match self {
            Engine::Postgres => vec!["-D".into(), data_directory.into()],
            Engine::Mariadb => vec![mariadb::settings::datadir(data_directory).into()],
        }
    }

    /// A prober by the engine's own socket, so that it needs no network.
    #[must_use]
    pub fn probe(self, socket_directory: &Path, port: u16, password: &str) -> Probe {
        match self {
            Engine::Postgres => {
                Probe::Postgres(postgres::probe::Probe::new(socket_directory.to_owned(), port, password))
            }
            Engine::Mariadb => Probe::Mariadb(mariadb::probe::Probe::new(socket_directory, password)),
        }
    }

    /// The URL that the engine's clients accept.
    #[must_use]
    pub fn endpoint(self, host: &str, port: u16, password: &str) -> String {
        let user = self.superuser();
        match self {
            Engine::Postgres => format!("postgresql://{user}:{password}@{host}:{port}/{user}"),
            Engine::Mariadb => format!("mysql://{user}:{password}@{host}:{port}/"),
        }
    }

    /// The file by which the engine's own client learns the password, and its content.
    #[must_use]
    pub fn client_file(self, home: &Home, cluster: &str, password: &str) -> (PathBuf, String) {
        let user = self.superuser();
        match self {
            Engine::Postgres => (home.pgpass(cluster), format!("*:*:*:{user}:{password}\n")),
            Engine::Mariadb => {
                (home.client_options(cluster), format!("[client]\nuser={user}\npassword={password}\n"))
            }
        }
    }

    /// Brings an operator's parameters into the engine's spelling and refuses the pinned ones.
    pub fn check(self, given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ParameterError> {
        match self {
            Engine::Postgres => postgres::settings::check(given),
            Engine::Mariadb => mariadb::settings::check(given),
        }
    }

    /// The signal for an orderly shutdown that does not wait for clients.
    #[must_use]
    pub fn stop_signal(self) -> Signal {
        match self {
            Engine::Postgres => Signal::INT,
            Engine::Mariadb => Signal::TERM,
        }
    }

    /// Whether a file of the runtime directory is the engine's socket, or what goes with it.
    #[must_use]
    pub fn is_socket(self, name: &str) -> bool {
        match self {
            Engine::Postgres => name.starts_with(".s.PGSQL."),
            Engine::Mariadb => name == mariadb::settings::SOCKET || name == mariadb::settings::PID_FILE,
        }
    }

    /// Removes what an interrupted initialisation left. Blocks on the volume.
    pub fn clear(self, root: &Path) -> Result<(), DatabaseError> {
        database::remove(root, self.data())
    }

    /// What the file says from which the initialisation learns the superuser's password.
    #[must_use]
    pub fn secret(self, password: &str) -> String {
        match self {
            Engine::Postgres => password.to_owned(),
            Engine::Mariadb => mariadb::database::first_statements(password),
        }
    }
}

impl Installed {
    /// Finishes what the initialisation made. Blocks on the volume.
    pub fn finish(&self, root: &Path) -> Result<(), DatabaseError> {
        match self.engine {
            Engine::Postgres => postgres::database::finish(root, &self.mark()),
            Engine::Mariadb => mariadb::database::finish(root, &self.mark()),
        }
    }

    /// Whether the volume whose root is at `root` holds a database of this engine's series. Blocks on the volume.
    pub fn exists(&self, root: &Path) -> Result<bool, DatabaseError> {
        match self.engine {
            Engine::Postgres => postgres::database::exists(root, &self.mark()),
            Engine::Mariadb => mariadb::database::exists(root, &self.mark()),
        }
    }

    /// What makes a new data directory. `secret` is the file with [`Engine::secret`], as the engine's user sees it.
    #[must_use]
    pub fn initialiser(&self, place: &Placement<'_>, secret: &Path) -> Invocation {
        match self.engine {
            Engine::Postgres => Invocation {
                program: self.program("initdb"),
                arguments: os(postgres::database::initdb_arguments(place.data_directory, secret)),
            },
            Engine::Mariadb => Invocation {
                program: self.program("mariadb-install-db"),
                arguments: os(mariadb::database::install_arguments(place, secret, self.prefix.as_deref())),
            },
        }
    }

    /// The server itself.
    #[must_use]
    pub fn server(&self, place: &Placement<'_>, parameters: &BTreeMap<String, String>) -> Invocation {
        match self.engine {
            Engine::Postgres => Invocation {
                program: self.server.clone(),
                arguments: os(postgres::settings::arguments(place, parameters, self.major())),
            },
            Engine::Mariadb => Invocation {
                program: self.server.clone(),
                arguments: os(mariadb::settings::arguments(place, parameters, self.prefix.as_deref())),
            },
        }
    }

    /// What lets the engine itself judge one parameter, before it could keep it from starting.
    #[must_use]
    pub fn trial(&self, name: &str, value: &str) -> Invocation {
        let arguments = match self.engine {
            Engine::Postgres => postgres::settings::trial(name, value),
            Engine::Mariadb => mariadb::settings::trial(name, value, self.prefix.as_deref()),
        };
        Invocation { program: self.server.clone(), arguments: os(arguments) }
    }
}

fn os(arguments: Vec<String>) -> Vec<OsString> {
    arguments.into_iter().map(OsString::from).collect()
}

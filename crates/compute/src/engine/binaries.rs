//! Where an engine is and as whom it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User, geteuid};

use crate::region::Engine;
use crate::{mariadb, postgres};

/// An engine that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    /// A program is missing or cannot be run.
    #[error(
        "cannot run {program}: install {name} (apt-get install {package}) or name its directory with --bin-dir"
    )]
    Missing {
        /// The program.
        program: PathBuf,
        /// The engine.
        name: &'static str,
        /// The distribution's package.
        package: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// It is another version.
    #[error(
        "{program} says {found:?}, but the adapter is for {name} {series}: name its directory with --bin-dir"
    )]
    OtherVersion {
        /// The program.
        program: PathBuf,
        /// The engine.
        name: &'static str,
        /// The series that the adapter runs.
        series: String,
        /// What it says.
        found: String,
    },
    /// There is no user to run it as.
    #[error("there is no user {user:?} to run the engine as: install {package} or add the user")]
    NoUser {
        /// The user.
        user: &'static str,
        /// The distribution's package.
        package: &'static str,
    },
}

/// What an adapter is written for.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// The engine, for messages.
    pub name: &'static str,
    /// The engine, as the marker of a database names it.
    pub mark: &'static str,
    /// The distribution's package of it.
    pub package: &'static str,
    /// The distribution's user for it.
    pub user: &'static str,
    /// The server's program.
    pub server: &'static str,
    /// Where the distribution keeps the programs.
    pub directories: &'static [&'static str],
    /// The series of releases that the adapter runs. All releases of one share the format of a data directory.
    pub series: &'static [&'static str],
    /// The series that the server's answer to `--version` names.
    pub read_series: fn(&str) -> Option<&str>,
}

/// An engine to run clusters with.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Which one.
    pub engine: Engine,
    /// Its series, as in `15` or `10.11`.
    pub series: &'static str,
    /// The server's program.
    pub server: PathBuf,
    /// Where its other programs are.
    directories: Vec<PathBuf>,
    /// Below which its messages and plugins are, if not in the distribution's places.
    pub prefix: Option<PathBuf>,
    /// The user that it runs as.
    pub uid: Uid,
    /// The group that it runs as.
    pub gid: Gid,
}

impl Installed {
    /// Finds an engine in `bin_dir`, or where the distribution keeps it. Root runs it as the distribution's user, anybody
    /// else as themselves.
    pub fn find(engine: Engine, bin_dir: Option<&Path>) -> Result<Installed, BinariesError> {
        let product = engine.product();
        let directories: Vec<PathBuf> = match bin_dir {
            // Some distributions keep servers and tools apart.
            Some(given) => vec![given.to_owned(), given.join("../sbin"), given.join("../bin")],
            None => product.directories.iter().map(PathBuf::from).collect(),
        };
        let server = first_with(&directories, product.server);
        let output = Command::new(&server).arg("--version").output().map_err(|source| {
            let Product { name, package, .. } = product;
            BinariesError::Missing { program: server.clone(), name, package, source }
        })?;
        let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let known = (product.read_series)(&found)
            .and_then(|found| product.series.iter().copied().find(|known| *known == found));
        let Some(series) = known else {
            let series = product.series.join(", ");
            return Err(BinariesError::OtherVersion { program: server, name: product.name, series, found });
        };
        let (uid, gid) = user(&product)?;
        let prefix = bin_dir.and_then(|_| Some(server.parent()?.parent()?.to_owned()));
        Ok(Installed { engine, series, server, directories, prefix, uid, gid })
    }

    /// The engine and its series, for messages: `PostgreSQL 15`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.engine.product().name, self.series)
    }

    /// The series' first number.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.series.split('.').next().and_then(|first| first.parse().ok()).unwrap_or_default()
    }

    /// What the marker of a database says that this engine made: `postgresql 15`.
    #[must_use]
    pub fn mark(&self) -> String {
        format!("{} {}", self.engine.product().mark, self.series)
    }

    /// One of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        first_with(&self.directories, name)
    }
}

/// A program in the first directory that has it; where it should be if none has.
fn first_with(directories: &[PathBuf], name: &str) -> PathBuf {
    let places = || directories.iter().map(|directory| directory.join(name));
    places().find(|place| place.exists()).or_else(|| places().next()).unwrap_or_default()
}

impl Engine {
    /// What its adapter is written for.
    #[must_use]
    pub fn product(self) -> Product {
        match self {
            Engine::Postgres => postgres::PRODUCT,
            Engine::Mariadb => mariadb::PRODUCT,
        }
    }

    /// The user that it runs as: by its user its process is known, also where its programs are gone.
    #[must_use]
    pub fn runs_as(self) -> u32 {
        user(&self.product()).map_or(geteuid(), |(uid, _)| uid).as_raw()
    }
}

fn user(product: &Product) -> Result<(Uid, Gid), BinariesError> {
    if !geteuid().is_root() {
        return Ok((geteuid(), nix::unistd::getegid()));
    }
    match User::from_name(product.user) {
        Ok(Some(user)) => Ok((user.uid, user.gid)),
        Ok(None) | Err(_) => Err(BinariesError::NoUser { user: product.user, package: product.package }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_what_to_install() {
        for (engine, package) in
            [(Engine::Postgres, "postgresql-15"), (Engine::Mariadb, "mariadb-server-core")]
        {
            let message = Installed::find(engine, Some(Path::new("/no/such"))).unwrap_err().to_string();
            assert!(
                message.contains(&format!("apt-get install {package}")) && message.contains("--bin-dir"),
                "{message}"
            );
        }
    }

    #[test]
    fn another_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for engine in [Engine::Postgres, Engine::Mariadb] {
            let program = directory.path().join(engine.product().server);
            std::fs::write(&program, "#!/bin/sh\necho something 9.1\n").unwrap();
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let message = Installed::find(engine, Some(directory.path())).unwrap_err().to_string();
            assert!(
                message.contains("something 9.1") && message.contains(engine.product().name),
                "{message}"
            );
        }
    }
}

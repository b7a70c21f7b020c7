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
    #[error("{program} says {found:?}, but the adapter is for {name}: name its directory with --bin-dir")]
    OtherVersion {
        /// The program.
        program: PathBuf,
        /// The engine.
        name: &'static str,
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
    /// The engine and its version, for messages.
    pub name: &'static str,
    /// The distribution's package of it.
    pub package: &'static str,
    /// The distribution's user for it.
    pub user: &'static str,
    /// The server's program.
    pub server: &'static str,
    /// Where the distribution keeps the programs. The server is in the first.
    pub directories: &'static [&'static str],
    /// Whether the server's answer to `--version` names the right version.
    pub is_version: fn(&str) -> bool,
}

/// An engine to run clusters with.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Which one.
    pub engine: Engine,
    /// The server's program.
    pub server: PathBuf,
    /// Where its other programs are.
    directories: Vec<PathBuf>,
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
            Some(directory) => vec![directory.to_owned()],
            None => product.directories.iter().map(PathBuf::from).collect(),
        };
        let server = directories.first().map(|first| first.join(product.server)).unwrap_or_default();
        let output = Command::new(&server).arg("--version").output().map_err(|source| {
            let Product { name, package, .. } = product;
            BinariesError::Missing { program: server.clone(), name, package, source }
        })?;
        let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !(product.is_version)(&found) {
            return Err(BinariesError::OtherVersion { program: server, name: product.name, found });
        }
        let (uid, gid) = user(&product)?;
        Ok(Installed { engine, server, directories, uid, gid })
    }

    /// The user that an engine runs as: by its user its process is known, also where it cannot be found any more.
    #[must_use]
    pub fn runs_as(engine: Engine, bin_dir: Option<&Path>) -> u32 {
        Installed::find(engine, bin_dir).map_or(geteuid(), |found| found.uid).as_raw()
    }

    /// One of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        let places: Vec<PathBuf> = self.directories.iter().map(|directory| directory.join(name)).collect();
        let there = places.iter().find(|place| place.exists()).or(places.first());
        there.cloned().unwrap_or_default()
    }
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

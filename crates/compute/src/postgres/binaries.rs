//! Where PostgreSQL is and as whom it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User, geteuid};

use super::MAJOR;

/// Where Debian keeps it.
const DEBIAN_BIN_DIR: &str = "/usr/lib/postgresql/15/bin";
/// The distribution's user for it.
const ENGINE_USER: &str = "postgres";

/// A PostgreSQL that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    /// A program is missing or cannot be run.
    #[error(
        "cannot run {program}: install PostgreSQL {MAJOR} (apt-get install postgresql-{MAJOR}) or name its directory \
         with --bin-dir"
    )]
    Missing {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is another major version.
    #[error(
        "{program} says {found:?}, but the adapter is for PostgreSQL {MAJOR}: name its directory with --bin-dir"
    )]
    OtherVersion {
        /// The program.
        program: PathBuf,
        /// What it says.
        found: String,
    },
    /// There is no user to run it as.
    #[error(
        "there is no user {ENGINE_USER:?} to run the engine as: install postgresql-{MAJOR} or add the user"
    )]
    NoUser,
}

/// A PostgreSQL to run clusters with.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// The directory of its programs.
    pub bin_dir: PathBuf,
    /// The user that it runs as.
    pub uid: Uid,
    /// The group that it runs as.
    pub gid: Gid,
}

impl Postgres {
    /// Finds PostgreSQL in `bin_dir`, or where the distribution keeps it. Root runs it as the user `postgres`, anybody
    /// else as themselves.
    pub fn find(bin_dir: Option<&Path>) -> Result<Postgres, BinariesError> {
        let bin_dir = bin_dir.unwrap_or(Path::new(DEBIAN_BIN_DIR)).to_owned();
        let program = bin_dir.join("postgres");
        let output = Command::new(&program)
            .arg("--version")
            .output()
            .map_err(|source| BinariesError::Missing { program: program.clone(), source })?;
        let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !is_version(&found) {
            return Err(BinariesError::OtherVersion { program, found });
        }
        let (uid, gid) = engine_user()?;
        Ok(Postgres { bin_dir, uid, gid })
    }

    /// One of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }
}

fn engine_user() -> Result<(Uid, Gid), BinariesError> {
    if !geteuid().is_root() {
        return Ok((geteuid(), nix::unistd::getegid()));
    }
    match User::from_name(ENGINE_USER) {
        Ok(Some(user)) => Ok((user.uid, user.gid)),
        Ok(None) | Err(_) => Err(BinariesError::NoUser),
    }
}

/// Whether `postgres --version` names the major version, as in `postgres (PostgreSQL) 15.18 (Debian …)`.
fn is_version(text: &str) -> bool {
    text.strip_prefix("postgres (PostgreSQL) ")
        .and_then(|rest| rest.strip_prefix(MAJOR))
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_adapters_version_is_taken() {
        for (text, good) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", true),
            ("postgres (PostgreSQL) 15devel", true),
            ("postgres (PostgreSQL) 150.1", false),
            ("postgres (PostgreSQL) 16.2", false),
            ("", false),
        ] {
            assert_eq!(is_version(text), good, "{text:?}");
        }
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let message = Postgres::find(Some(Path::new("/no/such"))).unwrap_err().to_string();
        assert!(
            message.contains("apt-get install postgresql-15") && message.contains("--bin-dir"),
            "{message}"
        );
    }
}

//! The data directory in a volume: making it, judging it.
//!
//! `initdb` works in `pgdata.new`, which becomes `pgdata` by one rename when everything is in place. Whoever finds
//! `pgdata` finds a whole database; whoever finds only `pgdata.new` starts over.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::settings::{defaults_file, hba_file};
use super::{MAJOR, SUPERUSER};

/// The data directory's name within the volume.
pub const DATA: &str = "pgdata";
/// Its name while it is made.
pub const UNFINISHED: &str = "pgdata.new";

/// A data directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It was made by another major version.
    #[error(
        "the data directory was made by PostgreSQL {found}, the engine is {MAJOR}: dump it with PostgreSQL {found} and \
         restore it into a new cluster"
    )]
    OtherVersion {
        /// Its version.
        found: String,
    },
    /// The volume's files could not be read or written.
    #[error("cannot {doing} {path} in the volume")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file, as the agent sees it.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DatabaseError {
    let path = path.to_owned();
    move |source| DatabaseError::Io { doing, path, source }
}

/// Whether the volume whose root is at `root` holds a database of this version. Blocks on the volume.
pub fn exists(root: &Path) -> Result<bool, DatabaseError> {
    let path = root.join(DATA).join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(found) if found.trim() == MAJOR => Ok(true),
        Ok(found) => Err(DatabaseError::OtherVersion { found: found.trim().to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// Removes what an interrupted `initdb` left. Blocks on the volume.
pub fn clear(root: &Path) -> Result<(), DatabaseError> {
    let path = root.join(UNFINISHED);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// Finishes what `initdb` made: configuration, its final name, and everything durable. Blocks on the volume.
pub fn finish(root: &Path) -> Result<(), DatabaseError> {
    let unfinished = root.join(UNFINISHED);
    let configuration = unfinished.join("postgresql.conf");
    OpenOptions::new()
        .append(true)
        .open(&configuration)
        .and_then(|mut file| file.write_all(defaults_file().as_bytes()))
        .map_err(failed("write", &configuration))?;
    let hba = unfinished.join("pg_hba.conf");
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&hba)
        .and_then(|mut file| file.write_all(hba_file().as_bytes()))
        .map_err(failed("write", &hba))?;
    let data = root.join(DATA);
    fs::rename(&unfinished, &data).map_err(failed("rename", &unfinished))?;
    // One sync of anything makes all earlier writes of the mount durable: a volume has one order.
    let version = data.join("PG_VERSION");
    fs::File::open(&version).and_then(|file| file.sync_all()).map_err(failed("sync", &version))
}

/// `initdb`'s arguments. `data` and `password_file` are paths as the engine's user sees them.
#[must_use]
pub fn initdb_arguments(data: &Path, password_file: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--data-checksums",
        "--auth-host=scram-sha-256",
        "--auth-local=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
        "--no-instructions",
    ]
    .map(str::to_owned)
    .into();
    arguments.push(format!("--username={SUPERUSER}"));
    arguments.push(format!("--pwfile={}", password_file.display()));
    arguments.extend(["-D".to_owned(), data.display().to_string()]);
    arguments
}

/// 32 characters that need no quoting anywhere: 190 bits.
#[must_use]
pub fn generate_password() -> String {
    use rand::RngExt;
    let mut random = rand::rng();
    (0..32).map(|_| char::from(random.sample(rand::distr::Alphanumeric))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_there_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let unfinished = root.path().join(UNFINISHED);
        fs::create_dir(&unfinished).unwrap();
        fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
        assert!(!exists(root.path()).unwrap(), "initdb did not finish");
        clear(root.path()).unwrap();
        clear(root.path()).unwrap();

        fs::create_dir(&unfinished).unwrap();
        for file in ["PG_VERSION", "postgresql.conf", "pg_hba.conf"] {
            fs::write(unfinished.join(file), "15\n").unwrap();
        }
        finish(root.path()).unwrap();
        assert!(exists(root.path()).unwrap());
        assert!(!unfinished.exists());
        let hba = fs::read_to_string(root.path().join("pgdata/pg_hba.conf")).unwrap();
        assert!(!hba.contains("trust") && hba.contains("scram-sha-256"));
        let configuration = fs::read_to_string(root.path().join("pgdata/postgresql.conf")).unwrap();
        assert!(configuration.starts_with("15\n") && configuration.contains("checkpoint_timeout = '30s'"));
    }

    #[test]
    fn another_versions_data_directory_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(DATA)).unwrap();
        fs::write(root.path().join("pgdata/PG_VERSION"), "14\n").unwrap();
        let message = exists(root.path()).unwrap_err().to_string();
        assert!(
            message.contains("PostgreSQL 14") && message.contains("restore it into a new cluster"),
            "{message}"
        );
    }

    #[test]
    fn passwords_are_long_and_need_no_quoting() {
        let password = generate_password();
        assert_eq!(password.len(), 32);
        assert!(password.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(password, generate_password());
    }
}

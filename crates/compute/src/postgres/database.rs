//! The data directory in a volume: making it, judging it.
//!
//! `initdb` works in `pgdata` itself, since the volume knows relations by their path. A file beside it is written last,
//! when everything is in place: whoever finds it finds a whole database, whoever finds only `pgdata` starts over.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::settings::{defaults_file, hba_file};
use super::{MAJOR, SUPERUSER};

/// The data directory's name within the volume.
pub const DATA: &str = "pgdata";
/// Written when the database is whole; holds [`MARK`].
const MARKER: &str = "database";
const MARK: &str = "postgresql 15\n";

/// A data directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It was made by another major version.
    #[error(
        "the data directory was made by {found}, the engine is postgresql {MAJOR}: dump it with {found} and restore it \
         into a new cluster"
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
    let marker = root.join(MARKER);
    match fs::read_to_string(&marker) {
        Ok(text) if text == MARK => {}
        // A crash may have left the file without its content.
        Ok(text) if text.is_empty() => return Ok(false),
        Ok(text) => return Err(DatabaseError::OtherVersion { found: text.trim().to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("read", &marker)(error)),
    }
    let path = root.join(DATA).join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(found) if found.trim() == MAJOR => Ok(true),
        Ok(found) => Err(DatabaseError::OtherVersion { found: format!("postgresql {}", found.trim()) }),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// Removes what an interrupted `initdb` left. Blocks on the volume.
pub fn clear(root: &Path) -> Result<(), DatabaseError> {
    let path = root.join(DATA);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// Finishes what `initdb` made: configuration, the marker, and everything durable. Blocks on the volume.
pub fn finish(root: &Path) -> Result<(), DatabaseError> {
    let configuration = root.join(DATA).join("postgresql.conf");
    OpenOptions::new()
        .append(true)
        .open(&configuration)
        .and_then(|mut file| file.write_all(defaults_file().as_bytes()))
        .map_err(failed("write", &configuration))?;
    let hba = root.join(DATA).join("pg_hba.conf");
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&hba)
        .and_then(|mut file| file.write_all(hba_file().as_bytes()))
        .map_err(failed("write", &hba))?;
    // Writes reach the volume in order, so the marker is never there before what it vouches for; and one sync of
    // anything makes all of them durable.
    let marker = root.join(MARKER);
    fs::File::create(&marker)
        .and_then(|mut file| file.write_all(MARK.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(failed("write", &marker))
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

    fn initdb_in(root: &Path) {
        fs::create_dir(root.join(DATA)).unwrap();
        for file in ["PG_VERSION", "postgresql.conf", "pg_hba.conf"] {
            fs::write(root.join(DATA).join(file), "15\n").unwrap();
        }
    }

    #[test]
    fn a_database_is_there_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        initdb_in(root.path());
        assert!(!exists(root.path()).unwrap(), "initdb may not have finished");
        clear(root.path()).unwrap();
        clear(root.path()).unwrap();

        initdb_in(root.path());
        finish(root.path()).unwrap();
        assert!(exists(root.path()).unwrap());
        let hba = fs::read_to_string(root.path().join("pgdata/pg_hba.conf")).unwrap();
        assert!(!hba.contains("trust") && hba.contains("scram-sha-256"));
        let configuration = fs::read_to_string(root.path().join("pgdata/postgresql.conf")).unwrap();
        assert!(configuration.starts_with("15\n") && configuration.contains("checkpoint_timeout = '30s'"));
        fs::write(root.path().join(MARKER), "").unwrap();
        assert!(!exists(root.path()).unwrap(), "the marker was not finished");
    }

    #[test]
    fn another_versions_data_directory_is_refused() {
        let root = tempfile::tempdir().unwrap();
        initdb_in(root.path());
        finish(root.path()).unwrap();
        fs::write(root.path().join("pgdata/PG_VERSION"), "14\n").unwrap();
        let message = exists(root.path()).unwrap_err().to_string();
        assert!(
            message.contains("postgresql 14") && message.contains("restore it into a new cluster"),
            "{message}"
        );
        fs::write(root.path().join(MARKER), "mariadb 10\n").unwrap();
        assert!(exists(root.path()).unwrap_err().to_string().contains("mariadb 10"));
    }

    #[test]
    fn passwords_are_long_and_need_no_quoting() {
        let password = generate_password();
        assert_eq!(password.len(), 32);
        assert!(password.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(password, generate_password());
    }
}

//! The data directory in a volume: making it, judging it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::settings::{defaults_file, hba_file};
use super::{PRODUCT, SUPERUSER};
use crate::engine::database::{DatabaseError, failed, is_marked, mark, other_version};

/// The data directory's name within the volume.
pub const DATA: &str = "pgdata";
/// Whether the volume whose root is at `root` holds a database of `engine`, as in `postgresql 15`. Blocks on the volume.
pub fn exists(root: &Path, engine: &str) -> Result<bool, DatabaseError> {
    if !is_marked(root, engine)? {
        return Ok(false);
    }
    let path = root.join(DATA).join("PG_VERSION");
    let found = fs::read_to_string(&path).map_err(failed("read", &path))?;
    let found = format!("{} {}", PRODUCT.mark, found.trim());
    if found == engine { Ok(true) } else { Err(other_version(&found, engine)) }
}

/// Finishes what `initdb` made: configuration, the marker, and everything durable. Blocks on the volume.
pub fn finish(root: &Path, engine: &str) -> Result<(), DatabaseError> {
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
    mark(root, engine)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::database::{MARKER, remove};

    const ENGINE: &str = "postgresql 15";

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
        assert!(!exists(root.path(), ENGINE).unwrap(), "initdb may not have finished");
        remove(root.path(), DATA).unwrap();
        remove(root.path(), DATA).unwrap();

        initdb_in(root.path());
        finish(root.path(), ENGINE).unwrap();
        assert!(exists(root.path(), ENGINE).unwrap());
        let hba = fs::read_to_string(root.path().join("pgdata/pg_hba.conf")).unwrap();
        assert!(!hba.contains("trust") && hba.contains("scram-sha-256"));
        let configuration = fs::read_to_string(root.path().join("pgdata/postgresql.conf")).unwrap();
        assert!(configuration.starts_with("15\n") && configuration.contains("checkpoint_timeout = '30s'"));
        fs::write(root.path().join(MARKER), "").unwrap();
        assert!(!exists(root.path(), ENGINE).unwrap(), "the marker was not finished");
    }

    #[test]
    fn another_versions_data_directory_is_refused() {
        let root = tempfile::tempdir().unwrap();
        initdb_in(root.path());
        finish(root.path(), ENGINE).unwrap();
        fs::write(root.path().join("pgdata/PG_VERSION"), "14\n").unwrap();
        let message = exists(root.path(), ENGINE).unwrap_err().to_string();
        assert!(
            message.contains("postgresql 14") && message.contains("restore it into a new cluster"),
            "{message}"
        );
        fs::write(root.path().join(MARKER), "mariadb 10\n").unwrap();
        assert!(exists(root.path(), ENGINE).unwrap_err().to_string().contains("mariadb 10"));
    }
}

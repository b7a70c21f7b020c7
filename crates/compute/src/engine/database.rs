//! The data directory in a volume: judging it, and the marker that says that it is whole.
//!
//! An engine's initialisation works in the data directory itself, since the volume may know files by their path. A file
//! beside it is written last, when everything is in place: whoever finds it finds a whole database, whoever finds only
//! the directory starts over.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The marker's name within the volume. It holds the engine and its version.
pub(crate) const MARKER: &str = "database";

/// A data directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It was made by another engine or another version of it.
    #[error(
        "the data directory was made by {found}, the engine is {engine}: dump it with {found} and restore it into a new \
         cluster"
    )]
    OtherVersion {
        /// What made it.
        found: String,
        /// The engine.
        engine: String,
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

pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DatabaseError {
    let path = path.to_owned();
    move |source| DatabaseError::Io { doing, path, source }
}

/// Whether there is a marker, and it is this engine's.
pub(crate) fn is_marked(root: &Path, engine: &str) -> Result<bool, DatabaseError> {
    let marker = root.join(MARKER);
    match fs::read_to_string(&marker) {
        Ok(text) if text.trim() == engine => Ok(true),
        // A crash may have left the file without its content.
        Ok(text) if text.is_empty() => Ok(false),
        Ok(text) => Err(other_version(text.trim(), engine)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("read", &marker)(error)),
    }
}

pub(crate) fn other_version(found: &str, engine: &str) -> DatabaseError {
    DatabaseError::OtherVersion { found: found.to_owned(), engine: engine.to_owned() }
}

/// Writes the marker, and makes everything durable. Writes reach the volume in order, so the marker is never there
/// before what it vouches for; and one sync of anything makes all of them durable.
pub(crate) fn mark(root: &Path, engine: &str) -> Result<(), DatabaseError> {
    let marker = root.join(MARKER);
    fs::File::create(&marker)
        .and_then(|mut file| writeln!(file, "{engine}").and_then(|()| file.sync_all()))
        .map_err(failed("write", &marker))
}

/// Removes a directory of the volume, if it is there.
pub(crate) fn remove(root: &Path, name: &str) -> Result<(), DatabaseError> {
    let path = root.join(name);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
        _ => Ok(()),
    }
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
    fn passwords_are_long_and_need_no_quoting() {
        let password = generate_password();
        assert_eq!(password.len(), 32);
        assert!(password.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(password, generate_password());
    }

    #[test]
    fn a_marker_is_its_engines_only() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_marked(root.path(), "mariadb 10.11").unwrap());
        fs::write(root.path().join(MARKER), "").unwrap();
        assert!(!is_marked(root.path(), "mariadb 10.11").unwrap());
        mark(root.path(), "mariadb 10.11").unwrap();
        assert!(is_marked(root.path(), "mariadb 10.11").unwrap());
        let message = is_marked(root.path(), "postgresql 15").unwrap_err().to_string();
        assert!(message.contains("made by mariadb 10.11") && message.contains("postgresql 15"), "{message}");
    }
}

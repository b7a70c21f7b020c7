//! The home's lock: one process at a time may change what a region runs. The kernel drops it with its holder.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// The lock cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("process {pid} supervises this region already: see `zorya status`, end it with `zorya down`")]
    Held {
        /// The holder.
        pid: String,
    },
    /// The file cannot be used.
    #[error("cannot lock {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The lock, until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock and writes this process's id into it.
    pub fn take(path: &Path) -> Result<Lock, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                write_pid(&mut file).map_err(failed)?;
                Ok(Lock { _file: file })
            }
            Err((mut file, nix::Error::EWOULDBLOCK)) => Err(LockError::Held { pid: read_pid(&mut file) }),
            Err((_, error)) => Err(failed(error.into())),
        }
    }
}

/// Overwrites the last holder's, which works on a full disk as well.
fn write_pid(file: &mut File) -> io::Result<()> {
    let pid = std::process::id().to_string();
    file.rewind()?;
    file.write_all(pid.as_bytes())?;
    file.set_len(pid.len() as u64)
}

fn read_pid(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// The pid of the process that holds the lock, if one does.
#[must_use]
pub fn holder(path: &Path) -> Option<i32> {
    let file = File::open(path).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => None,
        Err((mut file, _)) => read_pid(&mut file).parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_other_is_told_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(holder(&path), None);
        let held = Lock::take(&path).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(holder(&path), Some(own));
        let message = Lock::take(&path).unwrap_err().to_string();
        assert!(message.contains(&own.to_string()) && message.contains("zorya down"), "{message}");
        drop(held);
        assert_eq!(holder(&path), None);
        Lock::take(&path).unwrap();
    }
}

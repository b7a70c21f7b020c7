//! Aborting a FUSE connection: the only thing that frees a process that waits in FUSE_FSYNC, since it ignores SIGKILL.
//!
//! A connection has a directory `/sys/fs/fuse/connections/<id>` in the fusectl file system, where `<id>` is the mount's
//! device number. If fusectl is not mounted at its usual place it is mounted there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// A connection that could not be aborted.
#[derive(Debug, thiserror::Error)]
#[error("cannot abort FUSE connection {connection}: write 1 to {path} as root")]
pub struct AbortError {
    connection: u64,
    path: PathBuf,
    source: io::Error,
}

/// Aborts a connection. Every request in it fails, every process that waits for it goes on. A connection that is gone
/// counts as aborted.
pub fn abort(connection: u64) -> Result<(), AbortError> {
    let directory = Path::new(CONNECTIONS);
    let path = directory.join(connection.to_string()).join("abort");
    let failed = |source| AbortError { connection, path: path.clone(), source };
    if !path.exists() && is_empty(directory) {
        let mounted = mount(Some("fusectl"), directory, Some("fusectl"), MsFlags::empty(), None::<&str>);
        match mounted {
            Ok(()) | Err(nix::Error::EBUSY) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    match fs::write(&path, b"1") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

//! Where a region keeps its files on this host: `$ZORYA_HOME` for what lasts, a runtime directory for sockets and
//! mount points.
//!
//! ```text
//! HOME/region.json  region.key  agent.sock  agent.lock  agent.log
//! HOME/nodes/ID/      data/  status.json  node.log
//! HOME/clusters/NAME/ password  pgpass or client.cnf  engine.log  mount.log  mount.json  local/
//! /run/zorya-<region>/NAME/   mnt/ (mount point)  .s.PGSQL.<port> or mysqld.sock
//! ```
//! The home is 0700, since it holds secrets. Engines run as another user and could not traverse it, hence the runtime
//! directory.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::region::RegionId;

/// A home that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// A directory could not be made.
    #[error("cannot make {path}: check that its parent exists and is writable")]
    Make {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A directory belongs to somebody else.
    #[error("{path} belongs to user {owner}, not to user {expected}: remove it or choose another --home")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// This process's user.
        expected: u32,
    },
    /// The control socket's path does not fit a socket address.
    #[error("{path} is longer than the 107 bytes of a socket address: choose a --home with a shorter path")]
    TooLong {
        /// The socket.
        path: PathBuf,
    },
}

/// The directory of a region on this host.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

const SOCKET_PATH_MAX: usize = 107;

impl Home {
    /// A home at an absolute path. Nothing is made.
    pub fn at(root: PathBuf) -> Result<Home, HomeError> {
        let home = Home { root };
        let socket = home.socket();
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(HomeError::TooLong { path: socket });
        }
        Ok(home)
    }

    /// Makes the home, 0700.
    pub fn make(&self) -> Result<(), HomeError> {
        make_dir(&self.root, 0o700)?;
        make_dir(&self.root.join("nodes"), 0o700)?;
        make_dir(&self.root.join("clusters"), 0o700)
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The desired state.
    #[must_use]
    pub fn region_file(&self) -> PathBuf {
        self.root.join("region.json")
    }

    /// The region's secret.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.root.join("region.key")
    }

    /// The agent's control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("agent.sock")
    }

    /// Locked by the one process that may change anything here; holds its pid.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("agent.lock")
    }

    /// The agent's own log.
    #[must_use]
    pub fn agent_log(&self) -> PathBuf {
        self.root.join("agent.log")
    }

    /// A storage node's files.
    #[must_use]
    pub fn node(&self, id: &str) -> PathBuf {
        self.root.join("nodes").join(id)
    }

    /// What a storage node says of itself.
    #[must_use]
    pub fn node_status(&self, id: &str) -> PathBuf {
        self.node(id).join("status.json")
    }

    /// A storage node's log.
    #[must_use]
    pub fn node_log(&self, id: &str) -> PathBuf {
        self.node(id).join("node.log")
    }

    /// A cluster's files.
    #[must_use]
    pub fn cluster(&self, name: &str) -> PathBuf {
        self.root.join("clusters").join(name)
    }

    /// What a cluster's mount daemon says of itself.
    #[must_use]
    pub fn mount_status(&self, name: &str) -> PathBuf {
        self.cluster(name).join("mount.json")
    }

    /// A cluster's mount daemon's log.
    #[must_use]
    pub fn mount_log(&self, name: &str) -> PathBuf {
        self.cluster(name).join("mount.log")
    }

    /// A cluster's engine's log.
    #[must_use]
    pub fn engine_log(&self, name: &str) -> PathBuf {
        self.cluster(name).join("engine.log")
    }

    /// The generated password of a cluster's superuser.
    #[must_use]
    pub fn password(&self, name: &str) -> PathBuf {
        self.cluster(name).join("password")
    }

    /// The same for psql's `PGPASSFILE`.
    #[must_use]
    pub fn pgpass(&self, name: &str) -> PathBuf {
        self.cluster(name).join("pgpass")
    }

    /// The same as an option file of MariaDB's clients.
    #[must_use]
    pub fn client_options(&self, name: &str) -> PathBuf {
        self.cluster(name).join("client.cnf")
    }

    /// The directory for sockets and mount points, which engines can traverse. It does not outlive a reboot.
    #[must_use]
    pub fn runtime(region: RegionId) -> PathBuf {
        // Not what TMPDIR says: every command has to find the same one.
        let base = if nix::unistd::geteuid().is_root() { "/run" } else { "/tmp" };
        Path::new(base).join(format!("zorya-{}", region.short()))
    }

    /// A cluster's runtime directory.
    #[must_use]
    pub fn cluster_runtime(region: RegionId, name: &str) -> PathBuf {
        Home::runtime(region).join(name)
    }
}

/// Makes a directory with its parents' help if missing; refuses one that belongs to somebody else.
pub fn make_dir(path: &Path, mode: u32) -> Result<(), HomeError> {
    let made = DirBuilder::new().mode(mode).recursive(true).create(path);
    made.map_err(|source| HomeError::Make { path: path.to_owned(), source })?;
    let owner = fs::metadata(path).map_err(|source| HomeError::Make { path: path.to_owned(), source })?.uid();
    let expected = nix::unistd::geteuid().as_raw();
    if owner != expected && expected != 0 {
        return Err(HomeError::Foreign { path: path.to_owned(), owner, expected });
    }
    Ok(())
}

/// Writes a file so that a crash leaves the old content or the new, never a mixture: a sibling, fsync, rename, fsync of
/// the directory.
pub fn write_atomically(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let sibling = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&sibling)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&sibling, path)?;
    if let Some(directory) = path.parent() {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_home_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("h")).unwrap();
        home.make().unwrap();
        assert_eq!(fs::metadata(home.root()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_home_too_long_for_a_socket_is_refused() {
        let error = Home::at(PathBuf::from("/x".repeat(60))).unwrap_err();
        assert!(error.to_string().contains("shorter path"), "{error}");
    }

    #[test]
    fn an_atomic_write_replaces_and_leaves_no_sibling() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.json");
        write_atomically(&path, 0o600, b"one").unwrap();
        write_atomically(&path, 0o600, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

//! The content of local files: one plain file per inode in a directory of this host.
//!
//! Nothing here is promised to survive the mount; opening the directory empties it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SUFFIX: &str = ".local";

/// The directory of local content.
#[derive(Debug)]
pub struct LocalFiles {
    directory: PathBuf,
}

impl LocalFiles {
    /// Creates the directory if needed and deletes what an earlier mount left in it.
    pub fn open(directory: &Path) -> io::Result<LocalFiles> {
        fs::create_dir_all(directory)?;
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(SUFFIX) {
                fs::remove_file(path)?;
            }
        }
        Ok(LocalFiles { directory: directory.to_owned() })
    }

    /// Opens the content of an inode, empty if it has none.
    pub fn content(&self, ino: u64) -> io::Result<Arc<File>> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).to_owned();
        options.open(self.path(ino)).map(Arc::new)
    }

    /// Deletes the content of an inode; open descriptors keep it.
    pub fn remove(&self, ino: u64) {
        if let Err(error) = fs::remove_file(self.path(ino))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(ino, %error, "the content of a deleted local file stays in the local directory");
        }
    }

    fn path(&self, ino: u64) -> PathBuf {
        self.directory.join(format!("{ino:x}{SUFFIX}"))
    }
}

//! The I/O that the log needs, behind two small traits, so that tests can cut the power or fail a sync.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg, PosixFadviseAdvice, posix_fadvise};

use super::OpenError;
use super::direct::DirectFile;

/// A directory of files. A rename or removal is durable only after [`Disk::sync_names`].
pub trait Disk: Send + Sync + 'static {
    /// The names in it.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes a new, empty file; an existing one is an error.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_names(&self) -> io::Result<()>;
    /// How many bytes may still be written to new files.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A file. What was written is durable only after [`DiskFile::sync`].
pub trait DiskFile: Send + Sync + 'static {
    /// Its length, in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Fills `bytes` from `offset` on; a file that ends before is an error.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Writes all the slices one after another from `offset` on. Uses up the slices.
    fn write_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// Makes everything written durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Drops what memory holds of the file, so that the next read shows what the disk has.
    fn forget_cached(&self) -> io::Result<()>;
}

/// A directory of the operating system, locked against other processes as long as this lives.
pub(super) struct Directory {
    path: PathBuf,
    handle: File,
    _lock: Flock<File>,
}

const LOCK_NAME: &str = "lock";

impl Directory {
    /// Makes the directory if it is missing and takes the lock.
    pub(super) fn open(path: &Path) -> Result<Directory, OpenError> {
        let shown = path.display().to_string();
        std::fs::create_dir_all(path).map_err(OpenError::io("create the directory", shown.as_str()))?;
        let handle = File::open(path).map_err(OpenError::io("open the directory", shown.as_str()))?;
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_NAME))
            .map_err(OpenError::io("open", LOCK_NAME))?;
        let mut lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
                return Err(OpenError::Locked { dir: shown, holder: holder(file) });
            }
            Err((_, errno)) => return Err(OpenError::io("lock", LOCK_NAME)(errno.into())),
        };
        let name_self = |lock: &mut File| {
            lock.set_len(0)?;
            writeln!(lock, "pid {}", std::process::id())
        };
        name_self(&mut lock).map_err(OpenError::io("write", LOCK_NAME))?;
        Ok(Directory { path: path.to_owned(), handle, _lock: lock })
    }
}

fn holder(mut lock: File) -> String {
    let mut text = String::new();
    let read = lock.rewind().and_then(|()| lock.read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

impl Disk for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let names =
            std::fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        OpenOptions::new().read(true).write(true).create_new(true).open(self.path.join(name))?;
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path.join(name);
        match DirectFile::open(&path) {
            Ok(file) => Ok(Arc::new(file)),
            // A file system that cannot do it.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
            }
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = nix::sys::statvfs::fstatvfs(&self.handle)?;
        Ok(found.blocks_available().saturating_mul(found.fragment_size()))
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    fn write_at(&self, mut offset: u64, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        /// The most slices that the kernel takes in one call (IOV_MAX).
        const MOST_SLICES: usize = 1024;
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let some = &slices[..slices.len().min(MOST_SLICES)];
            let place = i64::try_from(offset).map_err(io::Error::other)?;
            match nix::sys::uio::pwritev(self, some, place) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut slices, written);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(posix_fadvise(self, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    }
}

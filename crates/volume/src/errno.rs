//! Why a request fails, and the one table that makes an errno of it.

use zorya_storage::store::{ReadFailed, VolumeLost};

/// Why a request on the file system fails.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// There is no such name.
    #[error("no such file or directory")]
    NotFound,
    /// The inode was deleted.
    #[error("inode {0} does not exist any more")]
    Stale(u64),
    /// The name is taken.
    #[error("the name exists already")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// Anything but a directory was needed.
    #[error("is a directory")]
    IsDirectory,
    /// The directory has entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// A directory was to be moved below itself, or an argument makes no sense.
    #[error("invalid argument")]
    Invalid,
    /// The name is longer than 255 bytes or the link target longer than 4095.
    #[error("the name is too long")]
    NameTooLong,
    /// The file would be larger than its keys can name.
    #[error("the file would be larger than {limit} bytes")]
    TooLarge {
        /// The largest size in bytes.
        limit: u64,
    },
    /// Too many hard links.
    #[error("too many links")]
    TooManyLinks,
    /// The kernel does it itself, or does without.
    #[error("not implemented")]
    NotImplemented,
    /// The kind of file or mode cannot do this.
    #[error("operation not supported")]
    NotSupported,
    /// A local and a shipped directory, or two kinds of storage, would share a file.
    #[error("a directory cannot move between local and shipped storage")]
    CrossStorage,
    /// Data of the engine would lie outside the volume.
    #[error("data outside the volume is refused: {0}")]
    OffVolume(String),
    /// The file handle is not open.
    #[error("the file is not open")]
    NotOpen,
    /// A local file failed.
    #[error("a local file failed")]
    Local(#[from] std::io::Error),
    /// The volume is lost to this process.
    #[error(transparent)]
    Lost(#[from] VolumeLost),
    /// Storage cannot answer a read.
    #[error(transparent)]
    Unreadable(#[from] ReadFailed),
}

impl FsError {
    /// The errno that a caller of the file system sees.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            FsError::NotFound => libc::ENOENT,
            FsError::Stale(_) => libc::ESTALE,
            FsError::Exists => libc::EEXIST,
            FsError::NotDirectory => libc::ENOTDIR,
            FsError::IsDirectory => libc::EISDIR,
            FsError::NotEmpty => libc::ENOTEMPTY,
            FsError::Invalid => libc::EINVAL,
            FsError::NameTooLong => libc::ENAMETOOLONG,
            FsError::TooLarge { .. } => libc::EFBIG,
            FsError::TooManyLinks => libc::EMLINK,
            FsError::NotImplemented => libc::ENOSYS,
            FsError::NotSupported => libc::EOPNOTSUPP,
            FsError::CrossStorage => libc::EXDEV,
            FsError::OffVolume(_) => libc::EPERM,
            FsError::NotOpen => libc::EBADF,
            FsError::Local(error) => error.raw_os_error().unwrap_or(libc::EIO),
            FsError::Lost(_) | FsError::Unreadable(_) => libc::EIO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_volume_is_never_anything_but_an_io_error() {
        assert_eq!(FsError::from(VolumeLost::ShutDown).errno(), libc::EIO);
        assert_eq!(FsError::from(ReadFailed::Lost(VolumeLost::ShutDown)).errno(), libc::EIO);
    }

    #[test]
    fn a_local_failure_keeps_its_own_errno() {
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(FsError::from(full).errno(), libc::ENOSPC);
    }
}

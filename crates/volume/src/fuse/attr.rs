//! Inodes in FUSE's terms.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::file::BLOCK;
use crate::namespace::Kind;
use crate::volume::names::Shown;
use crate::volume::now_ns;

/// The attributes of an inode.
#[must_use]
pub fn attributes(shown: &Shown) -> FileAttr {
    let inode = &shown.inode;
    FileAttr {
        ino: INodeNo(shown.ino),
        size: inode.size,
        blocks: shown.allocated.div_ceil(512),
        atime: time(inode.atime),
        mtime: time(inode.mtime),
        ctime: time(inode.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(inode.kind),
        perm: inode.mode as u16,
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        rdev: inode.rdev,
        blksize: BLOCK as u32,
        flags: 0,
    }
}

/// What an inode is.
#[must_use]
pub fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Regular => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

/// What a mode of mknod(2) asks for.
#[must_use]
pub fn kind_of_mode(mode: u32) -> Option<Kind> {
    Some(match mode & libc::S_IFMT {
        libc::S_IFREG | 0 => Kind::Regular,
        libc::S_IFIFO => Kind::Fifo,
        libc::S_IFSOCK => Kind::Socket,
        libc::S_IFCHR => Kind::CharDevice,
        libc::S_IFBLK => Kind::BlockDevice,
        _ => return None,
    })
}

/// Nanoseconds since 1970, negative before.
#[must_use]
pub fn nanoseconds(time: TimeOrNow) -> i64 {
    match time {
        TimeOrNow::Now => now_ns(),
        TimeOrNow::SpecificTime(time) => match time.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
        },
    }
}

fn time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns >= 0 { UNIX_EPOCH + distance } else { UNIX_EPOCH - distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_there_and_back() {
        for ns in [0, 1, -1, 1_700_000_000_123_456_789, -1_000_000_001] {
            assert_eq!(nanoseconds(TimeOrNow::SpecificTime(time(ns))), ns);
        }
    }

    #[test]
    fn modes_name_kinds() {
        assert_eq!(kind_of_mode(0o644), Some(Kind::Regular));
        assert_eq!(kind_of_mode(libc::S_IFSOCK | 0o600), Some(Kind::Socket));
        assert_eq!(kind_of_mode(libc::S_IFDIR), None);
    }
}

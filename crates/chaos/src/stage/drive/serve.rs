//! The drive as the kernel sees it: a FUSE file system with one file, for a loop device.
//!
//! The file is opened past the page cache, or the kernel would remember what the drive has lost. A flush of the loop
//! device arrives as FSYNC. FALLOCATE, by which a loop device discards and zeroes, is refused once and never asked again;
//! the kernel then writes zeroes.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite,
    Request, Session, SessionACL, WriteFlags,
};
use nix::mount::{MsFlags, mount};

use super::Drive;

/// The name of the one file.
pub const FILE: &str = "drive";
const ROOT: INodeNo = INodeNo(1);
const INODE: INodeNo = INodeNo(2);
/// How long the kernel may believe the size: it never changes.
const TTL: Duration = Duration::from_secs(3600);
/// The largest READ and WRITE in bytes.
const MAX_TRANSFER: u32 = 1 << 20;
/// The wanted protocol features; those that the kernel lacks are left out.
const FEATURES: [InitFlags; 3] =
    [InitFlags::FUSE_ASYNC_DIO, InitFlags::FUSE_BIG_WRITES, InitFlags::FUSE_MAX_PAGES];

struct DriveFs {
    drive: Arc<Drive>,
}

/// Mounts a drive at `directory`, as the file [`FILE`] in it, and serves it until it is unmounted or aborted.
pub fn serve(drive: Arc<Drive>, directory: &Path) -> io::Result<()> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("zorya-chaos"), directory, Some("fuse.zorya-chaos"), flags, Some(options.as_str()))?;
    let session = Session::from_fd(DriveFs { drive }, device.into(), SessionACL::Owner, Config::default())?;
    let serve = move || {
        // It ends with the mount, also with one that was aborted: both are wanted.
        if let Err(error) = session.run() {
            eprintln!("chaos: a drive stopped: {error}");
        }
    };
    std::thread::Builder::new().name("drive".to_owned()).spawn(serve)?;
    Ok(())
}

impl DriveFs {
    fn attributes(&self, ino: INodeNo) -> Result<FileAttr, Errno> {
        let (kind, perm, size) = match ino {
            ROOT => (FileType::Directory, 0o500, 0),
            INODE => (FileType::RegularFile, 0o600, self.drive.length()?),
            _ => return Err(Errno::ENOENT),
        };
        Ok(FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for DriveFs {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for feature in FEATURES {
            let _ = config.add_capabilities(feature);
        }
        // A smaller limit of the kernel only makes it slower.
        let _ = config.set_max_write(MAX_TRANSFER);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent != ROOT || name != FILE {
            return reply.error(Errno::ENOENT);
        }
        match self.attributes(INODE) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.drive.read(offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.drive.write(offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error.into()),
        }
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        match self.drive.flush() {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error.into()),
        }
    }
}

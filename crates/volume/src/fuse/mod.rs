//! FUSE requests translated into requests on a [`Volume`], and its outcomes into replies.
//!
//! No request waits on a FUSE thread: replies travel with the request and are sent from wherever it ends. What the
//! kernel does well without us is refused with ENOSYS once, and never asked again: ACCESS, FLUSH, extended attributes,
//! file locks, SEEK_DATA, copy_file_range. O_TMPFILE is refused by the crate below.

mod attr;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::errno::FsError;
use crate::file::BLOCK;
use crate::namespace::plan::NewNode;
use crate::namespace::{Kind, ROOT};
use crate::volume::Volume;
use crate::volume::names::{Place, SetAttributes, Shown};

/// How long the kernel may believe names and attributes: everything changes through it, or is invalidated.
const TTL: Duration = Duration::from_secs(3600);
/// The largest READ and WRITE in bytes.
pub const MAX_TRANSFER: u32 = 1 << 20;
/// So many requests that the kernel makes on its own, read-ahead above all, are under way; whoever asks for more waits. A
/// recovering PostgreSQL prefetches up to 1,000 blocks (`maintenance_io_concurrency`).
const MAX_BACKGROUND: u16 = 1024;
/// The product's limit for a volume: 128 TiB.
const VOLUME_BYTES: u64 = 128 << 40;
const MAX_INODES: u64 = 1 << 40;

/// The wanted protocol features; those that the kernel lacks are left out.
const FEATURES: [InitFlags; 10] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_HANDLE_KILLPRIV,
    InitFlags::FUSE_MAX_PAGES,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    InitFlags::FUSE_ATOMIC_O_TRUNC,
];

/// A volume as `fuser` sees it.
pub struct VolumeFs {
    volume: Arc<Volume>,
}

impl VolumeFs {
    /// The file system of a volume.
    #[must_use]
    pub fn new(volume: Arc<Volume>) -> VolumeFs {
        VolumeFs { volume }
    }
}

fn errno(error: &FsError) -> Errno {
    match error {
        FsError::Lost(_) => tracing::debug!(%error, "a request fails"),
        FsError::Unreadable(_) => tracing::error!(%error, "a request fails"),
        _ => {}
    }
    Errno::from_i32(error.errno())
}

fn opened() -> FopenFlags {
    FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
}

fn place(parent: INodeNo, name: &OsStr) -> Place {
    Place { parent: parent.0, name: name.as_bytes().to_vec() }
}

fn answer(reply: ReplyEmpty) -> impl FnOnce(Result<(), FsError>) + Send + 'static {
    move |outcome| match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

fn answer_entry(reply: ReplyEntry) -> impl FnOnce(Result<Shown, FsError>) + Send + 'static {
    move |outcome| match outcome {
        Ok(shown) => reply.entry(&TTL, &attr::attributes(&shown), Generation(0)),
        Err(error) => reply.error(errno(&error)),
    }
}

fn answer_attr(reply: ReplyAttr) -> impl FnOnce(Result<Shown, FsError>) + Send + 'static {
    move |outcome| match outcome {
        Ok(shown) => reply.attr(&TTL, &attr::attributes(&shown)),
        Err(error) => reply.error(errno(&error)),
    }
}

fn answer_open(reply: ReplyOpen) -> impl FnOnce(Result<u64, FsError>) + Send + 'static {
    move |outcome| match outcome {
        Ok(handle) => reply.opened(FileHandle(handle), opened()),
        Err(error) => reply.error(errno(&error)),
    }
}

fn new_node(req: &Request, kind: Kind, mode: u32) -> NewNode {
    NewNode { kind, mode: mode & 0o7777, uid: req.uid(), gid: req.gid(), rdev: 0, target: Vec::new() }
}

impl Filesystem for VolumeFs {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for feature in FEATURES {
            if config.add_capabilities(feature).is_err() {
                tracing::debug!(?feature, "the kernel lacks a FUSE feature");
            }
        }
        let refused =
            |limit: u32| io::Error::other(format!("the kernel admits at most {limit} bytes in a request"));
        config.set_max_write(MAX_TRANSFER).map_err(refused)?;
        let _ = config.set_max_readahead(MAX_TRANSFER);
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.volume.look(|state| {
            let ino = state.namespace.lookup(parent.0, name.as_bytes())?;
            state.show(ino)
        });
        match found {
            Err(FsError::NotFound) => {
                // Inode 0 tells the kernel to remember that the name does not exist.
                reply.entry(&TTL, &no_inode(), Generation(0));
            }
            found => answer_entry(reply)(found),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, _nlookup: u64) {
        self.volume.look(|state| state.namespace.forget(ino.0));
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let shown = self.volume.look(|state| match state.is_invalidating(ino.0) {
            true => None,
            false => Some(state.show(ino.0)),
        });
        match shown {
            Some(shown) => answer_attr(reply)(shown),
            None => self
                .volume
                .gated(ino.0, move |volume| answer_attr(reply)(volume.look(|state| state.show(ino.0)))),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttributes {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(attr::nanoseconds),
            mtime: mtime.map(attr::nanoseconds),
            handle: fh.map(|fh| fh.0),
        };
        self.volume.set_attributes(ino.0, set, answer_attr(reply));
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        let target = self.volume.look(|state| match state.namespace.inode(ino.0)? {
            inode if inode.kind == Kind::Symlink => Ok(Arc::clone(&inode.target)),
            _ => Err(FsError::Invalid),
        });
        match target {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = attr::kind_of_mode(mode) else { return reply.error(errno(&FsError::Invalid)) };
        let node = NewNode { rdev, ..new_node(req, kind, mode) };
        self.volume.create(place(parent, name), node, answer_entry(reply));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        self.volume.create(place(parent, name), new_node(req, Kind::Directory, mode), answer_entry(reply));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.volume.unlink(place(parent, name), answer(reply));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.volume.rmdir(place(parent, name), answer(reply));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, link_name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = target.as_os_str().as_bytes().to_vec();
        let node = NewNode { target, ..new_node(req, Kind::Symlink, 0o777) };
        self.volume.create(place(parent, link_name), node, answer_entry(reply));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !RenameFlags::RENAME_NOREPLACE.contains(flags) {
            return reply.error(errno(&FsError::Invalid));
        }
        let replace = flags.is_empty();
        self.volume.rename(place(parent, name), place(newparent, newname), replace, answer(reply));
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        self.volume.link(ino.0, place(newparent, newname), answer_entry(reply));
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.volume.open_file(ino.0, flags.0 & libc::O_TRUNC != 0, answer_open(reply));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        self.volume.create_open(place(parent, name), new_node(req, Kind::Regular, mode), move |created| {
            match created {
                Ok((shown, handle)) => {
                    let attributes = attr::attributes(&shown);
                    reply.created(&TTL, &attributes, Generation(0), FileHandle(handle), opened());
                }
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if let Some(content) = self.volume.look(|state| state.local_content(ino.0)) {
            let mut data = vec![0; size as usize];
            return match read_local(&content, &mut data, offset) {
                Ok(len) => reply.data(&data[..len]),
                Err(error) => reply.error(errno(&error.into())),
            };
        }
        self.volume.read(ino.0, offset, size, move |read| match read {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(errno(&error)),
        });
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let len = data.len() as u32;
        let answer = move |written: Result<(), FsError>| match written {
            Ok(()) => reply.written(len),
            Err(error) => reply.error(errno(&error)),
        };
        match self.volume.look(|state| state.local_content(ino.0)) {
            Some(content) => {
                let written = content.write_all_at(data, offset).map_err(FsError::from);
                if written.is_ok() {
                    self.volume.local_written(ino.0, offset + u64::from(len));
                }
                answer(written);
            }
            // The kernel writes a mapping's pages back one memory page at a time, through whatever handle there is: that
            // is no part of a write in pages.
            None if write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) => {
                self.volume.write_back(ino.0, offset, data, answer);
            }
            None => self.volume.write(fh.0, ino.0, offset, data, answer),
        }
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.volume.release(fh.0, answer(reply));
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.volume.fsync(ino.0, fh.0, datasync, answer(reply));
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.volume.look(|state| {
            let parent = state.namespace.inode(ino.0)?.parent;
            let directory = state.namespace.directory(ino.0)?;
            let dots = [(1, ino.0, "."), (2, if parent == 0 { ROOT } else { parent }, "..")];
            for (cookie, ino, name) in dots.into_iter().filter(|&(cookie, ..)| cookie > offset) {
                if reply.add(INodeNo(ino), cookie, FileType::Directory, name) {
                    return Ok(());
                }
            }
            for (cookie, entry) in directory.after(offset) {
                if reply.add(
                    INodeNo(entry.ino),
                    cookie,
                    attr::file_type(entry.kind),
                    OsStr::from_bytes(&entry.name),
                ) {
                    break;
                }
            }
            Ok(())
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => {
                let error: FsError = error;
                reply.error(errno(&error));
            }
        }
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.volume.durable(answer(reply));
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let (used, inodes) =
            self.volume.look(|state| (state.used_bytes(), state.namespace.inode_count() as u64));
        let below_limit = VOLUME_BYTES.saturating_sub(used);
        // As last heard: nobody waits for storage to say how much room there is.
        let free = self.volume.store().free_bytes().unwrap_or(below_limit).min(below_limit) / BLOCK;
        let total = used.div_ceil(BLOCK) + free;
        let free_inodes = MAX_INODES.saturating_sub(inodes);
        reply.statfs(total, free, free, MAX_INODES, free_inodes, BLOCK as u32, 255, BLOCK as u32);
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let keeps_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        if let Some(content) = self.volume.look(|state| state.local_content(ino.0)) {
            let done = allocate_local(&content, mode, offset, length).map_err(FsError::from);
            if done.is_ok() {
                self.volume.local_written(ino.0, if keeps_size { 0 } else { offset + length });
            }
            return answer(reply)(done);
        }
        match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 if keeps_size => self.volume.extend(ino.0, 0, answer(reply)),
            0 => match offset.checked_add(length) {
                Some(end) => self.volume.extend(ino.0, end, answer(reply)),
                None => reply.error(errno(&FsError::Invalid)),
            },
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE => {
                self.volume.zero_range(ino.0, offset, length, !keeps_size, answer(reply));
            }
            _ => reply.error(errno(&FsError::NotSupported)),
        }
    }
}

/// Attributes for a reply that no inode stands behind.
fn no_inode() -> fuser::FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    fuser::FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK as u32,
        flags: 0,
    }
}

fn allocate_local(content: &std::fs::File, mode: i32, offset: u64, len: u64) -> io::Result<()> {
    let too_large = |_| io::Error::from_raw_os_error(libc::EFBIG);
    let (offset, len) = (i64::try_from(offset).map_err(too_large)?, i64::try_from(len).map_err(too_large)?);
    let flags = nix::fcntl::FallocateFlags::from_bits_truncate(mode);
    nix::fcntl::fallocate(content, flags, offset, len).map_err(io::Error::from)
}

/// Reads until the buffer is full or the file ends.
fn read_local(content: &std::fs::File, data: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < data.len() {
        match content.read_at(&mut data[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

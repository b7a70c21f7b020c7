//! One of the two directories: does an operation, and says what came of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use zorya_volume::EngineClass;

use super::operation::{Allocation, How, Operation, SLOTS, Span, TARGETS, Writing, paths};
use super::{SCRATCH, SET_TIMES_BELOW, raw};

/// Which directory this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The mounted volume.
    Mount,
    /// The directory that is right by definition.
    Reference,
}

/// A directory and the files that are open in it.
pub struct Side {
    pub root: PathBuf,
    pub role: Role,
    class: EngineClass,
    files: Vec<Option<File>>,
}

/// What an operation that went well returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There was nothing to do: no file is open in that slot.
    Skipped,
    Done,
    Count(u64),
    Bytes(Vec<u8>),
    Names(Vec<Vec<u8>>),
    Status(Status),
}

/// What stat(2) says, as far as two file systems agree. Times that a clock gave are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// File type and permission bits.
    pub mode: u32,
    pub owner: (u32, u32),
    /// Links of anything but a directory.
    pub links: u64,
    /// The size of anything but a directory.
    pub size: u64,
    /// Last access and change in nanoseconds since 1970, where an operation set them.
    pub times: (Option<i128>, Option<i128>),
}

impl Status {
    pub fn of(meta: &fs::Metadata) -> Status {
        let set = |seconds: i64, nanoseconds: i64| {
            (seconds < SET_TIMES_BELOW).then(|| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds))
        };
        let directory = meta.is_dir();
        Status {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            links: if directory { 0 } else { meta.nlink() },
            size: if directory { 0 } else { meta.size() },
            times: (set(meta.atime(), meta.atime_nsec()), set(meta.mtime(), meta.mtime_nsec())),
        }
    }
}

impl Side {
    pub fn new(root: &Path, role: Role, class: EngineClass) -> Side {
        let files = (0..SLOTS).map(|_| None).collect();
        Side { root: root.to_owned(), role, class, files }
    }

    /// Closes every file.
    pub fn close_all(&mut self) {
        self.files.iter_mut().for_each(|file| *file = None);
    }

    /// The file that is open in a slot.
    pub fn file(&self, slot: u8) -> Option<&File> {
        self.files[usize::from(slot)].as_ref()
    }

    pub fn path(&self, index: u8) -> PathBuf {
        self.root.join(paths(self.class)[usize::from(index)])
    }

    /// Does an operation.
    pub fn perform(&mut self, operation: &Operation) -> Result<Answer, i32> {
        self.attempt(operation).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    fn attempt(&mut self, operation: &Operation) -> io::Result<Answer> {
        match *operation {
            Operation::Open { slot, path, how } => {
                let file = self.open(&self.path(path), how)?;
                self.files[usize::from(slot)] = Some(file);
                Ok(Answer::Done)
            }
            Operation::Close { slot } => {
                self.files[usize::from(slot)] = None;
                Ok(Answer::Done)
            }
            Operation::Flood => self.flood(),
            Operation::CopyRange { from, to, .. } | Operation::SendFile { from, to, .. } => {
                let (Some(source), Some(target)) = (self.file(from), self.file(to)) else {
                    return Ok(Answer::Skipped);
                };
                self.transfer(operation, source, target)
            }
            _ => match slot_of(operation) {
                Some(slot) => match self.file(slot) {
                    Some(file) => self.on_file(operation, file),
                    None => Ok(Answer::Skipped),
                },
                None => self.on_path(operation),
            },
        }
    }

    fn open(&self, path: &Path, how: How) -> io::Result<File> {
        // The reference's file system may have its own rules of alignment for O_DIRECT, and of directories; a FUSE file
        // has none.
        let direct = how.direct && self.role == Role::Mount && !path.is_dir();
        let flag = |on: bool, flag: i32| if on { flag } else { 0 };
        let mut options = OpenOptions::new();
        options.read(how.read).write(how.write && !how.append).append(how.append);
        let flags = flag(direct, libc::O_DIRECT)
            | flag(how.dsync, libc::O_DSYNC)
            | flag(how.truncate, libc::O_TRUNC)
            | flag(how.create, libc::O_CREAT)
            | flag(how.exclusive, libc::O_EXCL);
        options.custom_flags(flags).mode(0o644).open(path)
    }

    fn on_file(&self, operation: &Operation, file: &File) -> io::Result<Answer> {
        match *operation {
            Operation::Read { span, .. } => {
                let mut bytes = vec![0; span.len as usize];
                let len = read_up_to(file, &mut bytes, span.offset)?;
                bytes.truncate(len);
                Ok(Answer::Bytes(bytes))
            }
            Operation::ReadMapped { span, .. } => match within(file, span)? {
                None => Ok(Answer::Skipped),
                Some(len) => raw::read_mapped(file, len, span.offset).map(Answer::Bytes),
            },
            Operation::Write { span, fill, writing, .. } => self.write(file, span, fill, writing),
            Operation::TruncateOpen { size, .. } => file.set_len(size).map(|()| Answer::Done),
            Operation::Allocate { span, allocation, .. } => self.allocate(file, span, allocation),
            Operation::Sync { .. } => file.sync_all().map(|()| Answer::Done),
            Operation::SyncData { .. } => file.sync_data().map(|()| Answer::Done),
            Operation::StatusOpen { .. } => Ok(Answer::Status(Status::of(&file.metadata()?))),
            // What the end of a directory is differs between file systems.
            Operation::SeekEnd { .. } if file.metadata()?.is_dir() => Ok(Answer::Skipped),
            Operation::SeekEnd { .. } => (&mut &*file).seek(SeekFrom::End(0)).map(Answer::Count),
            Operation::Forget { .. } => {
                if self.role == Role::Mount {
                    raw::forget(file);
                }
                Ok(Answer::Done)
            }
            _ => Ok(Answer::Skipped),
        }
    }

    fn on_path(&self, operation: &Operation) -> io::Result<Answer> {
        let path = |index: u8| self.path(index);
        let done = match *operation {
            Operation::Truncate { path: at, size } => self.truncate(&path(at), size),
            Operation::SyncDirectory { path: at } => open_directory(&path(at))?.sync_all(),
            Operation::Rename { from, to, replace } => {
                let flags = if replace { RenameFlags::empty() } else { RenameFlags::RENAME_NOREPLACE };
                renameat2(AT_FDCWD, &path(from), AT_FDCWD, &path(to), flags).map_err(io::Error::from)
            }
            Operation::Link { from, to } => fs::hard_link(path(from), path(to)),
            Operation::Unlink { path: at } => fs::remove_file(path(at)),
            Operation::Symlink { path: at, target } => {
                std::os::unix::fs::symlink(TARGETS[usize::from(target)], path(at))
            }
            Operation::ReadLink { path: at } => {
                use std::os::unix::ffi::OsStringExt;
                let target = fs::read_link(path(at))?;
                return Ok(Answer::Bytes(target.into_os_string().into_vec()));
            }
            Operation::MakeDirectory { path: at } => fs::create_dir(path(at)),
            Operation::RemoveDirectory { path: at } => fs::remove_dir(path(at)),
            Operation::List { path: at } => {
                let mut names = raw::list(&open_directory(&path(at))?, 32 << 10, || {})?;
                names.sort();
                return Ok(Answer::Names(names));
            }
            Operation::ListWhileChanging { path: at, entries } => {
                return list_while_changing(&path(at), entries);
            }
            Operation::SetMode { path: at, mode } => set_mode(&path(at), mode),
            Operation::SetOwner { path: at, uid, gid } => {
                std::os::unix::fs::lchown(path(at), Some(uid.into()), Some(gid.into()))
            }
            Operation::SetTimes { path: at, access, change } => {
                let time = |time: Option<u32>| {
                    // Any time until SET_TIMES_BELOW, to the nanosecond.
                    time.map(|time| (i64::from(time) % SET_TIMES_BELOW, i64::from(time) % 1_000_000_000))
                };
                raw::set_times(&path(at), time(access), time(change))
            }
            Operation::Status { path: at } => {
                return Ok(Answer::Status(Status::of(&fs::symlink_metadata(path(at))?)));
            }
            _ => return Ok(Answer::Skipped),
        };
        done.map(|()| Answer::Done)
    }

    /// truncate(2). To the length that a file has, it changes no times (POSIX); tmpfs changes them if the file has blocks.
    fn truncate(&self, path: &Path, size: u64) -> io::Result<()> {
        let before = fs::metadata(path).ok();
        truncate(path, size)?;
        match before.filter(|before| self.role == Role::Reference && before.len() == size) {
            Some(before) => File::open(path)?.set_modified(before.modified()?),
            None => Ok(()),
        }
    }

    fn write(&self, file: &File, span: Span, fill: u8, writing: Writing) -> io::Result<Answer> {
        let mut data = bytes(span, fill);
        let mapped = matches!(writing, Writing::Mapped | Writing::MappedAndSynced);
        if mapped {
            match within(file, span)? {
                None => return Ok(Answer::Skipped),
                Some(len) => data.truncate(len),
            }
        }
        let written = match writing {
            Writing::Plain => file.write_at(&data, span.offset)?,
            Writing::Dsync => raw::write_dsync(file, &data, span.offset)?,
            Writing::FromUntouchedMemory(shift) => {
                raw::write_from_untouched(file, &data, usize::from(shift), span.offset)?
            }
            Writing::MappedAndSynced => raw::write_mapped(file, &data, span.offset, true)?,
            Writing::Mapped => raw::write_mapped(file, &data, span.offset, false)?,
        };
        if mapped && self.role == Role::Reference {
            // A tmpfs does not change the time of a file that is written through a mapping.
            file.set_modified(SystemTime::now())?;
        }
        Ok(Answer::Count(written as u64))
    }

    /// fallocate(2).
    fn allocate(&self, file: &File, span: Span, allocation: Allocation) -> io::Result<Answer> {
        let (offset, len) = (span.offset, u64::from(span.len));
        let keep = libc::FALLOC_FL_KEEP_SIZE;
        let mode = match allocation {
            Allocation::Extend => 0,
            Allocation::KeepSize => keep,
            Allocation::Punch => libc::FALLOC_FL_PUNCH_HOLE | keep,
            Allocation::Zero => libc::FALLOC_FL_ZERO_RANGE,
            Allocation::ZeroKeepSize => libc::FALLOC_FL_ZERO_RANGE | keep,
            Allocation::Collapse => libc::FALLOC_FL_COLLAPSE_RANGE,
            Allocation::Insert => libc::FALLOC_FL_INSERT_RANGE,
        };
        let zeroes = matches!(allocation, Allocation::Zero | Allocation::ZeroKeepSize);
        if zeroes && self.role == Role::Reference {
            // A tmpfs cannot: room as asked for, then a hole is the same to a reader.
            raw::allocate(file, mode & keep, offset, len)?;
            raw::allocate(file, libc::FALLOC_FL_PUNCH_HOLE | keep, offset, len)?;
        } else {
            raw::allocate(file, mode, offset, len)?;
        }
        if self.role == Role::Reference {
            // A tmpfs does not always change the file's time.
            file.set_modified(SystemTime::now())?;
        }
        Ok(Answer::Done)
    }

    fn transfer(&self, operation: &Operation, source: &File, target: &File) -> io::Result<Answer> {
        let mut total = 0;
        match *operation {
            Operation::CopyRange { span, offset, .. } => {
                while total < u64::from(span.len) {
                    let left = (u64::from(span.len) - total) as usize;
                    match raw::copy_range(source, target, span.offset + total, offset + total, left)? {
                        0 => break,
                        copied => total += copied as u64,
                    }
                }
            }
            Operation::SendFile { span, .. } => {
                // Not a copy of a file onto itself, whose end moves while it is read.
                let same = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
                if same(source)? == same(target)? {
                    return Ok(Answer::Skipped);
                }
                (&mut &*target).seek(SeekFrom::Start(span.offset / 3))?;
                while total < u64::from(span.len) {
                    let left = (u64::from(span.len) - total) as usize;
                    match raw::send_file(source, target, span.offset + total, left)? {
                        0 => break,
                        sent => total += sent as u64,
                    }
                }
            }
            _ => return Ok(Answer::Skipped),
        }
        Ok(Answer::Count(total))
    }

    /// Writes more than the daemon's smallest cache holds, on the mount only.
    fn flood(&self) -> io::Result<Answer> {
        if self.role == Role::Mount {
            let path = self.root.join(SCRATCH);
            fs::write(&path, vec![0xf1; 9 << 20])?;
            fs::remove_file(&path)?;
        }
        Ok(Answer::Done)
    }
}

/// The slot of the one file that an operation is about.
fn slot_of(operation: &Operation) -> Option<u8> {
    match *operation {
        Operation::Read { slot, .. }
        | Operation::ReadMapped { slot, .. }
        | Operation::Write { slot, .. }
        | Operation::TruncateOpen { slot, .. }
        | Operation::Allocate { slot, .. }
        | Operation::Sync { slot }
        | Operation::SyncData { slot }
        | Operation::StatusOpen { slot }
        | Operation::SeekEnd { slot }
        | Operation::Forget { slot } => Some(slot),
        _ => None,
    }
}

/// The bytes that a write writes: different for every operation, zeroes now and then.
fn bytes(span: Span, fill: u8) -> Vec<u8> {
    if fill == 0 {
        return vec![0; span.len as usize];
    }
    let mut state = u64::from(fill) << 40 ^ span.offset << 8 ^ u64::from(span.len) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    // Small fills repeat one byte, so that a later write often changes a part of a block only.
    if fill < 6 { vec![fill; span.len as usize] } else { (0..span.len).map(|_| next()).collect() }
}

/// How many bytes of a span lie within the file; `None` for none. A directory's length is its file system's own affair: all of
/// the span, so that mapping it is tried and refused.
fn within(file: &File, span: Span) -> io::Result<Option<usize>> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Ok(Some(span.len as usize));
    }
    let end = metadata.len().min(span.offset + u64::from(span.len));
    Ok((end > span.offset).then(|| (end - span.offset) as usize))
}

fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < bytes.len() {
        match file.read_at(&mut bytes[len..], offset + len as u64)? {
            0 => break,
            read => len += read,
        }
    }
    Ok(len)
}

/// truncate(2), through any handle that may write.
fn truncate(path: &Path, size: u64) -> io::Result<()> {
    nix::unistd::truncate(path, size as i64).map_err(io::Error::from)
}

/// chmod(2). The set-id bits are a directory's only: when a file loses them depends on who writes it.
fn set_mode(path: &Path, mode: u16) -> io::Result<()> {
    let mut mode = u32::from(mode);
    if !fs::metadata(path)?.is_dir() {
        mode &= 0o1777;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)
}

/// Fills a directory, lists it in small pieces while it changes, and empties it again. What was there all the time must
/// be listed once, what was not there at any time never.
fn list_while_changing(path: &Path, entries: u8) -> io::Result<Answer> {
    let directory = open_directory(path)?;
    let name = |n: u16, kind: &str| format!("{kind}{n}");
    for n in 0..u16::from(entries) {
        File::create(path.join(name(n, "stays")))?;
        File::create(path.join(name(n, "goes")))?;
    }
    let mut round = 0;
    let mut failed = None;
    let listed = raw::list(&directory, 1024, || {
        let change = || -> io::Result<()> {
            if round < u16::from(entries) {
                fs::remove_file(path.join(name(u16::from(entries) - 1 - round, "goes")))?;
                File::create(path.join(name(round, "comes")))?;
            }
            Ok(())
        };
        failed = failed.take().or(change().err());
        round += 1;
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let text = entry.file_name().to_string_lossy().into_owned();
        if ["stays", "goes", "comes"].iter().any(|kind| text.starts_with(kind)) {
            fs::remove_file(entry.path())?;
        }
    }
    let repeated = listed.len() - listed.iter().collect::<std::collections::HashSet<_>>().len();
    let mut steady: Vec<Vec<u8>> =
        listed.into_iter().filter(|name| !name.starts_with(b"goes") && !name.starts_with(b"comes")).collect();
    steady.push(format!("{repeated} repeated").into_bytes());
    steady.sort();
    Ok(Answer::Names(steady))
}

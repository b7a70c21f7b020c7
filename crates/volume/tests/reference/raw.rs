//! System calls that the standard library does not have.
#![allow(unsafe_code, reason = "mappings and these system calls have no safe wrapper here")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MEMORY_PAGE: u64 = 4096;

fn counted(result: isize) -> io::Result<usize> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}

/// pwritev2(2) with RWF_DSYNC.
pub fn write_dsync(file: &File, data: &[u8], offset: u64) -> io::Result<usize> {
    let part = libc::iovec { iov_base: data.as_ptr() as *mut libc::c_void, iov_len: data.len() };
    // SAFETY: the iovec points at `data`, which outlives the call, and is only read.
    counted(unsafe { libc::pwritev2(file.as_raw_fd(), &part, 1, offset as i64, libc::RWF_DSYNC) })
}

/// pwrite(2) of a copy of `data` that begins `shift` bytes into a fresh private mapping of a file: the kernel finds
/// most of its memory pages absent when it copies them.
pub fn write_from_untouched(file: &File, data: &[u8], shift: usize, offset: u64) -> io::Result<usize> {
    let source = tempfile::tempfile()?;
    let len = shift + data.len();
    std::os::unix::fs::FileExt::write_all_at(&source, data, shift as u64)?;
    if data.is_empty() {
        return std::os::unix::fs::FileExt::write_at(file, data, offset);
    }
    // SAFETY: a fresh private mapping of an open file of exactly that length, only read, unmapped below.
    unsafe {
        let (protection, flags) = (libc::PROT_READ, libc::MAP_PRIVATE);
        let map = libc::mmap(std::ptr::null_mut(), len, protection, flags, source.as_raw_fd(), 0);
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        libc::madvise(map, len, libc::MADV_RANDOM);
        let from = map.cast::<u8>().add(shift).cast();
        let written = counted(libc::pwrite(file.as_raw_fd(), from, data.len(), offset as i64));
        libc::munmap(map, len);
        written
    }
}

/// Runs `act` on a shared mapping of `len` bytes at `offset`, which must lie within the file.
fn mapped<T>(
    file: &File,
    offset: u64,
    len: usize,
    protection: i32,
    act: impl FnOnce(*mut u8, *mut libc::c_void, usize) -> io::Result<T>,
) -> io::Result<T> {
    let start = offset - offset % MEMORY_PAGE;
    let skip = (offset - start) as usize;
    // SAFETY: a fresh mapping of an open file, used by `act` within `len` bytes only, unmapped below.
    unsafe {
        let flags = libc::MAP_SHARED;
        let descriptor = file.as_raw_fd();
        let map = libc::mmap(std::ptr::null_mut(), skip + len, protection, flags, descriptor, start as i64);
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let outcome = act(map.cast::<u8>().add(skip), map, skip + len);
        libc::munmap(map, skip + len);
        outcome
    }
}

/// Writes through a shared mapping, and calls msync(MS_SYNC) if `sync`.
///
/// In a child process: munmap(2) of a FUSE file waits for the file system while it holds the process's memory map, so
/// that a process must not do that to a file system of its own.
pub fn write_mapped(file: &File, data: &[u8], offset: u64, sync: bool) -> io::Result<usize> {
    // SAFETY: the child makes only system calls, on memory that it has a copy of, and never returns from here.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        let written = write_mapped_here(file, data, offset, sync);
        let code = written.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: the status is a local variable.
    counted(unsafe { libc::waitpid(child, &mut status, 0) } as isize)?;
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ok(data.len()),
        (true, errno) => Err(io::Error::from_raw_os_error(errno)),
        (false, _) => Err(io::Error::other(format!("the child that writes ended with {status}"))),
    }
}

fn write_mapped_here(file: &File, data: &[u8], offset: u64, sync: bool) -> io::Result<()> {
    mapped(file, offset, data.len(), libc::PROT_READ | libc::PROT_WRITE, |at, map, len| {
        // SAFETY: `at` has room for `data` in the mapping, which lies within the file.
        let outcome = unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr(), at, data.len());
            if sync { libc::msync(map, len, libc::MS_SYNC) } else { 0 }
        };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

/// Reads through a shared mapping.
pub fn read_mapped(file: &File, len: usize, offset: u64) -> io::Result<Vec<u8>> {
    mapped(file, offset, len, libc::PROT_READ, |at, _, _| {
        // SAFETY: `at` is valid for `len` bytes of the mapping, which lies within the file.
        Ok(unsafe { std::slice::from_raw_parts(at, len) }.to_vec())
    })
}

/// copy_file_range(2), once.
pub fn copy_range(from: &File, to: &File, at: u64, offset: u64, len: usize) -> io::Result<usize> {
    let (mut at, mut offset) = (at as i64, offset as i64);
    // SAFETY: both offsets are local variables that outlive the call.
    counted(unsafe { libc::copy_file_range(from.as_raw_fd(), &mut at, to.as_raw_fd(), &mut offset, len, 0) })
}

/// sendfile(2), once; it writes where the file's offset is.
pub fn send_file(from: &File, to: &File, at: u64, len: usize) -> io::Result<usize> {
    let mut at = at as i64;
    // SAFETY: the offset is a local variable that outlives the call.
    counted(unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), &mut at, len) })
}

/// fallocate(2).
pub fn allocate(file: &File, mode: i32, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: only numbers are passed.
    counted(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, len as i64) } as isize).map(drop)
}

/// posix_fadvise(2) with POSIX_FADV_DONTNEED over the whole file.
pub fn forget(file: &File) {
    // SAFETY: only numbers are passed.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// The names that getdents64(2) returns for an open directory, `buffer` bytes at a time, with `between` run after each
/// buffer.
pub fn list(directory: &File, buffer: usize, mut between: impl FnMut()) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut bytes = vec![0u8; buffer];
    loop {
        // SAFETY: the kernel writes at most the buffer's length into it.
        let read = counted(unsafe {
            libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), bytes.as_mut_ptr(), bytes.len())
        } as isize)?;
        if read == 0 {
            return Ok(names);
        }
        let mut rest = &bytes[..read];
        while !rest.is_empty() {
            // An entry: inode u64, cookie i64, length u16, type u8, the name, a zero byte.
            let len = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let name = &rest[19..len];
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            names.push(name[..end].to_vec());
            rest = &rest[len..];
        }
        between();
    }
}

/// utimensat(2) with AT_SYMLINK_NOFOLLOW; `None` leaves a time as it is.
pub fn set_times(path: &Path, access: Option<(i64, i64)>, change: Option<(i64, i64)>) -> io::Result<()> {
    let time = |time: Option<(i64, i64)>| match time {
        Some((seconds, nanoseconds)) => libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds },
        None => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
    };
    let times = [time(access), time(change)];
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a zero byte, and both outlive the call.
    let result =
        unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    counted(result as isize).map(drop)
}

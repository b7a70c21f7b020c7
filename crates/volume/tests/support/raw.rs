//! System calls that the standard library does not have.
#![allow(unsafe_code, reason = "mmap and pwritev2 have no safe wrapper here")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Writes with RWF_DSYNC.
pub fn write_dsync(file: &File, data: &[u8], offset: i64) -> io::Result<usize> {
    let part = libc::iovec { iov_base: data.as_ptr() as *mut libc::c_void, iov_len: data.len() };
    // SAFETY: the iovec points at `data`, which outlives the call, and is only read.
    let written = unsafe { libc::pwritev2(file.as_raw_fd(), &part, 1, offset, libc::RWF_DSYNC) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(written as usize) }
}

/// Changes the first byte of a file through a shared mapping, and returns once msync(MS_SYNC) does.
pub fn write_mapped(file: &File, byte: u8) -> io::Result<()> {
    let len = 4096;
    let flags = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping of one page of an open file of at least that size; unmapped below, used only here.
    unsafe {
        let map = libc::mmap(std::ptr::null_mut(), len, flags, libc::MAP_SHARED, file.as_raw_fd(), 0);
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        *map.cast::<u8>() = byte;
        let outcome = libc::msync(map, len, libc::MS_SYNC);
        let error = io::Error::last_os_error();
        libc::munmap(map, len);
        if outcome == 0 { Ok(()) } else { Err(error) }
    }
}

/// Writes `len` bytes of `byte` from a buffer of which only the first `readable` (a multiple of 4096) can be read, so
/// that the kernel takes a part, as it does when a page of the buffer is missing.
pub fn write_from_short_buffer(
    file: &File,
    byte: u8,
    readable: usize,
    len: usize,
    offset: i64,
) -> io::Result<usize> {
    // SAFETY: a fresh anonymous mapping, filled within its readable part; the kernel refuses the rest.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let all = readable + len;
        let map = libc::mmap(std::ptr::null_mut(), all, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        std::ptr::write_bytes(map.cast::<u8>(), byte, readable);
        libc::mprotect(map.cast::<u8>().add(readable).cast(), all - readable, libc::PROT_NONE);
        let written = libc::pwrite(file.as_raw_fd(), map, len, offset);
        let error = io::Error::last_os_error();
        libc::munmap(map, all);
        if written < 0 { Err(error) } else { Ok(written as usize) }
    }
}

/// Opens an unnamed file.
pub fn open_unnamed(directory: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(directory)
}

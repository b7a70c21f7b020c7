//! Cutting the power of an ext4 file system: from one moment on nothing reaches its device any more, not even its journal.
//!
//! The ioctl is the one that file system tests use for this (`EXT4_IOC_SHUTDOWN`, Linux `fs/ext4/ioctl.c`).
#![allow(unsafe_code, reason = "an ioctl without a safe wrapper; its argument outlives the call")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Neither data nor the journal is flushed first.
const NO_LOG_FLUSH: u32 = 2;

mod call {
    nix::ioctl_read!(shutdown, b'X', 125, u32);
}

/// Cuts the power of the file system that is mounted at `path`.
pub fn cut(path: &Path) -> io::Result<()> {
    let root = File::open(path)?;
    let mut how = NO_LOG_FLUSH;
    // SAFETY: the descriptor is open and the argument is a valid u32 for the length of the call.
    unsafe { call::shutdown(root.as_raw_fd(), &raw mut how) }?;
    Ok(())
}

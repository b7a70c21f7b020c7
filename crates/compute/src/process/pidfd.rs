//! Waiting for a pidfd in a tokio task.
#![allow(
    unsafe_code,
    reason = "AsyncFd::register_with_interest is unsafe: the descriptor has to stay open for as long as it is registered"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a pidfd, which is readable once its process has ended.
pub fn register(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: AsyncFd owns the descriptor, and nothing here closes or replaces it before AsyncFd is dropped.
    unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(io::Error::from)
}

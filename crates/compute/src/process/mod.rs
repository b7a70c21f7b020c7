//! Processes: spawned in their namespaces ([`spawn`]), held by pidfd, found again after an agent died ([`find`]).
//!
//! A [`Process`] names one process for ever: its pidfd cannot come to mean another that got the same pid. Dropping it
//! neither ends nor forgets the process; a task of its own waits for the end and reaps it.

mod find;
mod namespace;
mod pidfd;

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::sync::watch;

pub use find::{by_arguments, in_mount_namespace, pid_by_arguments};
pub use namespace::{Entry, Spawn, SpawnError, enter_network, spawn};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By exiting.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// It was not this process's child, so nobody knows.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited with code {code}"),
            Exit::Signal(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "was killed by {name}"),
                Err(_) => write!(f, "was killed by signal {signal}"),
            },
            Exit::Unknown => f.write_str("ended"),
        }
    }
}

/// One process, alive or dead. Clones mean the same process.
#[derive(Clone, Debug)]
pub struct Process {
    pid: i32,
    since: Instant,
    pidfd: Arc<OwnedFd>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    /// Holds a process by pid: a fresh child that nobody has reaped, or any other process whose identity the caller
    /// checks *after* this. Needs a tokio runtime.
    pub fn hold(pid: i32) -> io::Result<Process> {
        let id = Pid::from_raw(pid).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let pidfd = Arc::new(pidfd_open(id, PidfdFlags::empty())?);
        let readable = pidfd::register(pidfd.try_clone()?)?;
        let (tell, exit) = watch::channel(None);
        tokio::spawn(async move {
            // An error means that the runtime ends, and then nobody listens.
            if readable.readable().await.is_ok() {
                tell.send_replace(Some(reap(readable.get_ref())));
            }
        });
        Ok(Process { pid, since: Instant::now(), pidfd, exit })
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// For how long it has been held here.
    #[must_use]
    pub fn held_for(&self) -> Duration {
        self.since.elapsed()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits for its end.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => (*exit).unwrap_or(Exit::Unknown),
            Err(_) => Exit::Unknown,
        }
    }

    /// Waits for its end, but no longer than `limit`.
    pub async fn exited_within(&self, limit: Duration) -> Option<Exit> {
        tokio::time::timeout(limit, self.exited()).await.ok()
    }

    /// Sends a signal. A process that has ended is left in peace.
    pub fn signal(&self, signal: Signal) {
        if let Err(error) = pidfd_send_signal(self.pidfd.as_fd(), signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(pid = self.pid, ?signal, %error, "a signal could not be sent");
        }
    }

    /// Asks it to end with `signal`, ends it with SIGKILL after `grace`, and waits until it is gone. `None`: it ignores
    /// even SIGKILL (it waits in the kernel) `grace` later.
    pub async fn end(&self, signal: Signal, grace: Duration) -> Option<Exit> {
        self.signal(signal);
        // A stopped process handles its signals only once it goes on.
        self.signal(Signal::CONT);
        if let Some(exit) = self.exited_within(grace).await {
            return Some(exit);
        }
        tracing::warn!(pid = self.pid, ?signal, ?grace, "the process does not end; killing it");
        self.kill(grace).await
    }

    /// Ends it with SIGKILL and waits until it is gone, at most `limit`.
    pub async fn kill(&self, limit: Duration) -> Option<Exit> {
        self.signal(Signal::KILL);
        self.exited_within(limit).await
    }
}

fn reap(pidfd: &OwnedFd) -> Exit {
    match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        },
        Ok(None) | Err(_) => Exit::Unknown,
    }
}

/// Whether a process with this pid runs now (a zombie does not). For display only: pids are reused.
#[must_use]
pub fn is_running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| !rest.starts_with(['Z', 'X'])))
        .unwrap_or(false)
}

#[cfg(test)]
mod tests;

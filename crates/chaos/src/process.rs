//! Processes by pid and start time, so that a pid that was used again is never taken for the old process.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{self, WaitError};

/// One life of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// When it began, in clock ticks since boot.
    began: u64,
}

/// A signal that could not be sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot send {signal} to process {pid}")]
pub struct SignalError {
    signal: Signal,
    pid: i32,
    source: nix::Error,
}

impl Process {
    /// The process that has this pid now.
    #[must_use]
    pub fn find(pid: i32) -> Option<Process> {
        let (state, began) = read_stat(pid)?;
        (state != 'Z').then_some(Process { pid, began })
    }

    /// Its state as in `/proc/PID/stat` (`R`, `S`, `D`, `T`, …); `None` once it has ended.
    #[must_use]
    pub fn state(&self) -> Option<char> {
        let (state, began) = read_stat(self.pid)?;
        (began == self.began && state != 'Z').then_some(state)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.state().is_none()
    }

    /// Whether it is stopped by SIGSTOP.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state() == Some('T')
    }

    /// Sends a signal; a process that has ended already is no error.
    pub fn signal(&self, signal: Signal) -> Result<(), SignalError> {
        if self.is_gone() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(source) => Err(SignalError { signal, pid: self.pid, source }),
        }
    }

    /// Waits until it has ended.
    pub fn wait_gone(&self, limit: Duration) -> Result<(), WaitError> {
        wait::until_removed(&format!("the end of process {}", self.pid), limit, || self.is_gone())
    }

    /// Waits until SIGSTOP took effect.
    pub fn wait_stopped(&self, limit: Duration) -> Result<(), WaitError> {
        wait::until_true(&format!("the stop of process {}", self.pid), limit, || self.is_stopped())
    }

    /// Its peak of resident memory, in bytes.
    #[must_use]
    pub fn peak_memory_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kib << 10)
    }

    /// Its command line.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let bytes = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let words = bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        words.filter(|word| !word.is_empty()).collect()
    }
}

/// The children of a process.
#[must_use]
pub fn children(parent: i32) -> Vec<Process> {
    all_pids().into_iter().filter(|pid| parent_of(*pid) == Some(parent)).filter_map(Process::find).collect()
}

/// Every pid there is.
#[must_use]
pub fn all_pids() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The processes whose network namespace is the one bound to `path`.
#[must_use]
pub fn in_network(path: &Path) -> Vec<Process> {
    use std::os::unix::fs::MetadataExt;
    let Ok(wanted) = std::fs::metadata(path) else { return Vec::new() };
    let inside = |pid: &i32| {
        std::fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()))
    };
    all_pids().into_iter().filter(inside).filter_map(Process::find).collect()
}

fn fields(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may itself hold spaces and parentheses.
    let rest = &stat[stat.rfind(')')? + 1..];
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn read_stat(pid: i32) -> Option<(char, u64)> {
    let fields = fields(pid)?;
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

fn parent_of(pid: i32) -> Option<i32> {
    fields(pid)?.get(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_to_stop_to_go_on_and_to_end() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        let limit = Duration::from_secs(5);
        process.signal(Signal::SIGSTOP).unwrap();
        process.wait_stopped(limit).unwrap();
        process.signal(Signal::SIGCONT).unwrap();
        wait::until_true("going on", limit, || !process.is_stopped()).unwrap();
        assert!(children(i32::try_from(std::process::id()).unwrap()).contains(&process));
        assert_eq!(process.arguments(), ["sleep", "60"]);
        process.signal(Signal::SIGKILL).unwrap();
        process.wait_gone(limit).unwrap();
        child.wait().unwrap();
        process.signal(Signal::SIGKILL).unwrap();
    }
}

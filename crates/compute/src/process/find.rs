//! Finding processes that another life of the agent started.
//!
//! A process is known by its arguments, which hold a path that only this region and this role use, and by its user, so
//! that no stranger can pose as one. That needs no record that could be stale, and a reused pid cannot deceive it: the
//! arguments are read after the pidfd was opened.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Process;

/// The process of user `uid` that has `arguments` as consecutive arguments, if there is one. Needs a tokio runtime.
#[must_use]
pub fn by_arguments(uid: u32, arguments: &[impl AsRef<OsStr>]) -> Option<Process> {
    pids().filter(|pid| matches(*pid, uid, arguments)).find_map(|pid| {
        let process = Process::hold(pid).ok()?;
        matches(pid, uid, arguments).then_some(process)
    })
}

/// The same without holding it: for display only, since the pid may be reused.
#[must_use]
pub fn pid_by_arguments(uid: u32, arguments: &[impl AsRef<OsStr>]) -> Option<i32> {
    pids().find(|pid| matches(*pid, uid, arguments))
}

fn matches(pid: i32, uid: u32, arguments: &[impl AsRef<OsStr>]) -> bool {
    owner(pid) == Some(uid)
        && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| contains(&line, arguments))
}

/// The processes in the mount namespace `namespace` (as `/proc/<pid>/ns/mnt` reads). The caller has to know that the
/// namespace still exists: the kernel reuses the numbers.
#[must_use]
pub fn in_mount_namespace(namespace: &Path) -> Vec<Process> {
    let inside =
        |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|found| found == namespace);
    pids()
        .filter(|pid| inside(*pid))
        .filter_map(|pid| Process::hold(pid).ok().filter(|_| inside(pid)))
        .collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn owner(pid: i32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|found| found.uid())
}

/// Whether a `/proc/<pid>/cmdline` has these arguments in a row.
fn contains(line: &[u8], arguments: &[impl AsRef<OsStr>]) -> bool {
    let found: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let wanted: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_ref().as_bytes()).collect();
    !wanted.is_empty() && found.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_match_whole_and_in_a_row() {
        let line = b"postgres\0-D\0/run/x/mnt/pgdata\0-c\0port=1\0";
        let matches =
            |arguments: &[&str]| contains(line, &arguments.iter().map(OsStr::new).collect::<Vec<_>>());
        assert!(matches(&["-D", "/run/x/mnt/pgdata"]));
        assert!(!matches(&["-D", "/run/x/mnt"]));
        assert!(!matches(&["-D", "-c"]));
        assert!(!matches(&[]));
    }
}

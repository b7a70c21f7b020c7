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
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::Process;

/// How long a look at one process's arguments may take. They are in its memory, and whoever reads them waits while the
/// process maps memory and one of its threads faults on a file: for ever, where that file system hangs.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// The process of user `uid` that has `arguments` as consecutive arguments, if there is one. Needs a tokio runtime.
#[must_use]
pub fn by_arguments(uid: u32, arguments: &[impl AsRef<OsStr>]) -> Option<Process> {
    matching(uid, arguments, pids().collect()).into_iter().find_map(|pid| {
        let process = Process::hold(pid).ok()?;
        (!matching(uid, arguments, vec![pid]).is_empty()).then_some(process)
    })
}

/// The same without holding it: for display only, since the pid may be reused.
#[must_use]
pub fn pid_by_arguments(uid: u32, arguments: &[impl AsRef<OsStr>]) -> Option<i32> {
    matching(uid, arguments, pids().collect()).first().copied()
}

/// Those of the processes that are the user's and have the arguments.
fn matching(uid: u32, arguments: &[impl AsRef<OsStr>], mut pids: Vec<i32>) -> Vec<i32> {
    pids.retain(|pid| owner(*pid) == Some(uid));
    let command_line = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let lines = read_each(&pids, LOOK_LIMIT, command_line);
    lines.into_iter().filter(|(_, line)| contains(line, arguments)).map(|(pid, _)| pid).collect()
}

/// What `read` says of every process. One for which it takes longer than `limit` is left out, and the thread that reads it
/// is left behind.
fn read_each(
    pids: &[i32],
    limit: Duration,
    read: impl Fn(i32) -> Vec<u8> + Copy + Send + 'static,
) -> Vec<(i32, Vec<u8>)> {
    let mut found = Vec::with_capacity(pids.len());
    let mut rest = pids;
    while !rest.is_empty() {
        let (tell, told) = mpsc::channel();
        let asked = rest.to_vec();
        let reader = move || asked.into_iter().all(|pid| tell.send(read(pid)).is_ok());
        if let Err(error) = thread::Builder::new().name("find".into()).spawn(reader) {
            tracing::error!(%error, "cannot look for processes");
            return found;
        }
        while let Some((pid, after)) = rest.split_first() {
            rest = after;
            match told.recv_timeout(limit) {
                Ok(line) => found.push((*pid, line)),
                Err(_) => {
                    tracing::warn!(pid, "a process hangs in the kernel; its arguments cannot be read");
                    break;
                }
            }
        }
    }
    found
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
    fn a_process_that_cannot_be_read_hides_no_other() {
        let read = |pid| {
            if pid == 2 {
                loop {
                    thread::park();
                }
            }
            vec![pid as u8]
        };
        let found = read_each(&[1, 2, 3, 4], Duration::from_millis(100), read);
        assert_eq!(found, [(1, vec![1]), (3, vec![3]), (4, vec![4])]);
    }

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

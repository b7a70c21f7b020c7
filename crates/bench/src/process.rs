//! What a process has spent, from `/proc`.
//!
//! A [`Usage`] covers a process, its live children and the children that it has reaped: a PostgreSQL backend is gone after
//! its slice, but the kernel adds what it spent to its parent, so that nothing is missed.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

/// Counters of a process and its children since they were started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// CPU seconds in user mode.
    pub user_seconds: f64,
    /// CPU seconds in the kernel.
    pub system_seconds: f64,
    /// Bytes of page cache that it made dirty. Kernels with large folios count whole folios, so that many small writes
    /// add up to far more than reaches the disk.
    pub dirtied_bytes: u64,
    /// Bytes handed to write calls, sockets and pipes among them.
    pub written_bytes: u64,
    /// Write calls.
    pub write_calls: u64,
    /// Read calls.
    pub read_calls: u64,
    /// Times that one of its live threads went to sleep.
    pub voluntary_switches: u64,
}

impl Usage {
    /// What was spent since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            user_seconds: (self.user_seconds - earlier.user_seconds).max(0.0),
            system_seconds: (self.system_seconds - earlier.system_seconds).max(0.0),
            dirtied_bytes: self.dirtied_bytes.saturating_sub(earlier.dirtied_bytes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            write_calls: self.write_calls.saturating_sub(earlier.write_calls),
            read_calls: self.read_calls.saturating_sub(earlier.read_calls),
            voluntary_switches: self.voluntary_switches.saturating_sub(earlier.voluntary_switches),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Usage) -> Usage {
        Usage {
            user_seconds: self.user_seconds + other.user_seconds,
            system_seconds: self.system_seconds + other.system_seconds,
            dirtied_bytes: self.dirtied_bytes + other.dirtied_bytes,
            written_bytes: self.written_bytes + other.written_bytes,
            write_calls: self.write_calls + other.write_calls,
            read_calls: self.read_calls + other.read_calls,
            voluntary_switches: self.voluntary_switches + other.voluntary_switches,
        }
    }

    /// CPU seconds in either mode.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// The part of a server that a process plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// PostgreSQL or MariaDB, all of its processes.
    Engine,
    /// A cluster's mount daemon.
    Mount,
    /// A storage node.
    Node,
    /// The region's supervisor.
    Agent,
    /// The benchmark with pgbench, psql, sysbench and mariadb, which take CPU from the server that they measure.
    Client,
}

impl Role {
    /// The word that figures are named with.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Engine => "engine",
            Role::Mount => "mount",
            Role::Node => "node",
            Role::Agent => "agent",
            Role::Client => "client",
        }
    }
}

/// A process to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Watched {
    /// What it is.
    pub role: Role,
    /// Which of them.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}

/// Counters of a process and of its children, live and reaped.
///
/// # Errors
/// If the process itself is gone. A child that goes meanwhile is left out: what it spent is soon its parent's.
pub fn usage(pid: u32, with_children: bool) -> io::Result<Usage> {
    let stat = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat"))?)?;
    let io = parse_io(&fs::read_to_string(format!("/proc/{pid}/io"))?);
    let ticks = |ticks: u64| ticks as f64 / clock_ticks_per_second();
    let own = Usage {
        user_seconds: ticks(stat.user_ticks + stat.reaped_user_ticks),
        system_seconds: ticks(stat.system_ticks + stat.reaped_system_ticks),
        voluntary_switches: voluntary_switches(pid),
        ..io
    };
    if !with_children {
        return Ok(own);
    }
    Ok(children(pid)
        .into_iter()
        .filter_map(|child| usage(child, true).ok())
        .fold(own, |sum, child| sum.plus(&child)))
}

/// The most memory that a process ever had, in bytes (`VmHWM`).
#[must_use]
pub fn peak_memory_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    field(&status, "VmHWM:").map(|kib| kib * 1024)
}

/// Whether the process is there and no zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|text| text.rsplit_once(')').map(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X'])))
        .unwrap_or(false)
}

/// The live children of all threads of a process.
fn children(pid: u32) -> Vec<u32> {
    let read = |task: PathBuf| fs::read_to_string(task.join("children")).unwrap_or_default();
    tasks(pid)
        .into_iter()
        .map(read)
        .flat_map(|text| {
            text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

fn voluntary_switches(pid: u32) -> u64 {
    tasks(pid)
        .into_iter()
        .filter_map(|task| field(&fs::read_to_string(task.join("status")).ok()?, "voluntary_ctxt_switches:"))
        .sum()
}

fn clock_ticks_per_second() -> f64 {
    // The kernel's unit for user space; 100 wherever Linux runs, but the C library knows.
    rustix::param::clock_ticks_per_second() as f64
}

struct Stat {
    user_ticks: u64,
    system_ticks: u64,
    reaped_user_ticks: u64,
    reaped_system_ticks: u64,
}

/// `/proc/PID/stat`. The name in parentheses may itself hold parentheses and blanks, so counting starts after the last.
fn parse_stat(text: &str) -> io::Result<Stat> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no process's stat"));
    let (_, rest) = text.rsplit_once(')').ok_or_else(invalid)?;
    // proc(5): utime is the 14th word; the state, the third, is the first after the name.
    let ticks: Vec<u64> =
        rest.split_ascii_whitespace().skip(11).take(4).filter_map(|word| word.parse().ok()).collect();
    let [user_ticks, system_ticks, reaped_user_ticks, reaped_system_ticks] = ticks[..] else {
        return Err(invalid());
    };
    Ok(Stat { user_ticks, system_ticks, reaped_user_ticks, reaped_system_ticks })
}

fn parse_io(text: &str) -> Usage {
    let counter = |name| field(text, name).unwrap_or_default();
    Usage {
        dirtied_bytes: counter("write_bytes:").saturating_sub(counter("cancelled_write_bytes:")),
        written_bytes: counter("wchar:"),
        write_calls: counter("syscw:"),
        read_calls: counter("syscr:"),
        ..Usage::default()
    }
}

/// The number on the line that begins with `name`.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_columns() {
        let stat =
            parse_stat("17 (a b) c)) S 1 17 17 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0 999").unwrap();
        let ticks = (stat.user_ticks, stat.system_ticks, stat.reaped_user_ticks, stat.reaped_system_ticks);
        assert_eq!(ticks, (11, 22, 33, 44));
        for text in ["", "17 (x", "17 (x) S 1 2", "17 (x) S 1 17 17 0 -1 4194560 100 200 0 0 a 22 33 44"] {
            assert!(parse_stat(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn cancelled_writes_never_reached_the_disk() {
        let usage = parse_io(
            "rchar: 1\nwchar: 5000\nsyscr: 3\nsyscw: 4\nread_bytes: 0\nwrite_bytes: 8192\ncancelled_write_bytes: 4096\n",
        );
        assert_eq!((usage.dirtied_bytes, usage.written_bytes), (4096, 5000));
        assert_eq!((usage.read_calls, usage.write_calls), (3, 4));
    }

    #[test]
    fn a_difference_never_goes_below_zero() {
        let earlier = Usage { write_calls: 5, user_seconds: 2.0, ..Usage::default() };
        let later = Usage { write_calls: 3, user_seconds: 1.5, read_calls: 7, ..Usage::default() };
        let spent = later.since(&earlier);
        assert_eq!((spent.write_calls, spent.user_seconds, spent.read_calls), (0, 0.0, 7));
    }

    #[test]
    fn a_reaped_child_is_counted_with_its_parent() {
        let pid = std::process::id();
        let before = usage(pid, true).unwrap();
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(std::process::Command::new("sh").args(["-c", script]).status().unwrap().success());
        let spent = usage(pid, true).unwrap().since(&before);
        assert!(spent.cpu_seconds() > 0.0, "{spent:?}");
    }

    #[test]
    fn this_process_is_alive_and_has_a_peak() {
        let pid = std::process::id();
        assert!(is_alive(pid));
        assert!(peak_memory_bytes(pid).is_some_and(|bytes| bytes > 100_000));
        assert!(!is_alive(u32::MAX));
    }
}

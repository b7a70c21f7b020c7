//! The machine that a run was made on.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::disk::{self, Disk};

/// What figures depend on beside the two servers.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// How many of them the scheduler has.
    pub cpus: usize,
    /// Memory.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The disk's kernel name.
    pub disk: Option<String>,
    /// The file system of the data.
    pub file_system: Option<String>,
    /// What `postgres --version` says.
    pub postgres: String,
    /// What `mariadbd --version` says; empty if it was not measured.
    pub mariadb: String,
    /// What `zorya --version` says.
    pub zorya: String,
}

/// The programs that are measured.
#[derive(Clone, Copy, Debug)]
pub struct Programs<'a> {
    /// `postgres`.
    pub postgres: &'a Path,
    /// `mariadbd`, if it is measured.
    pub mariadb: Option<&'a Path>,
    /// `zorya`.
    pub zorya: &'a Path,
}

impl Machine {
    /// Looks around. What cannot be found out is empty.
    #[must_use]
    pub fn observe(data: &Path, disk: Option<&Disk>, programs: &Programs<'_>) -> Machine {
        let line_of = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let rest = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            rest.trim_start_matches([' ', '\t', ':']).to_owned()
        };
        let memory_kib =
            line_of("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0_u64);
        Machine {
            cpu: line_of("/proc/cpuinfo", "model name"),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory_kib / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            disk: disk.map(|disk| disk.name.clone()),
            file_system: disk::file_system(data),
            postgres: version(programs.postgres),
            mariadb: programs.mariadb.map(version).unwrap_or_default(),
            zorya: version(programs.zorya),
        }
    }
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

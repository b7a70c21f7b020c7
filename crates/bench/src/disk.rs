//! The disk below a directory: its counters, and whether it is one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A block device's counters since it was attached. Other users of the disk are in them too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiskCounters {
    /// Bytes written.
    pub written_bytes: u64,
    /// Write requests.
    pub writes: u64,
    /// Flushes of its cache, which are what an fsync waits for; several that arrive together are one.
    pub flushes: u64,
}

impl DiskCounters {
    /// What happened since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &DiskCounters) -> DiskCounters {
        DiskCounters {
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            writes: self.writes.saturating_sub(earlier.writes),
            flushes: self.flushes.saturating_sub(earlier.flushes),
        }
    }
}

/// A block device with counters in `/sys`.
#[derive(Clone, Debug)]
pub struct Disk {
    stat: PathBuf,
    /// Its kernel name, as `vda`.
    pub name: String,
}

const SECTOR_BYTES: u64 = 512;

impl Disk {
    /// The disk that `path` is on; `None` if there is no such thing, as with a file system over the network or several
    /// devices.
    #[must_use]
    pub fn below(path: &Path) -> Option<Disk> {
        let device = fs::metadata(path).ok()?.dev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let mut directory = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        // Flushes are counted for whole disks only.
        if directory.join("partition").exists() {
            directory = directory.parent()?.to_owned();
        }
        let name = directory.file_name()?.to_str()?.to_owned();
        Some(Disk { stat: directory.join("stat"), name })
    }

    /// The counters now.
    pub fn counters(&self) -> io::Result<DiskCounters> {
        Ok(parse_counters(&fs::read_to_string(&self.stat)?))
    }
}

/// `/sys/block/NAME/stat`, in the order of the kernel's `Documentation/block/stat.rst`.
fn parse_counters(text: &str) -> DiskCounters {
    let words: Vec<u64> = text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    DiskCounters { writes: word(4), written_bytes: word(6) * SECTOR_BYTES, flushes: word(15) }
}

/// The type of the file system of `path`, as `ext4`, from the mount table; `None` if the table does not say.
#[must_use]
pub fn file_system(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let table = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounted = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    table
        .lines()
        .filter_map(mounted)
        .filter(|(point, _)| path.starts_with(point))
        // The longest is the nearest; of equals the last was mounted over the others.
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_column() {
        let text = "  100 0 800 5  20 3 4096 7  0 9 12 0 0 0 0  42 6\n";
        let expected = DiskCounters { written_bytes: 4096 * 512, writes: 20, flushes: 42 };
        assert_eq!(parse_counters(text), expected);
    }

    #[test]
    fn an_old_kernels_missing_column_reads_as_zero() {
        assert_eq!(parse_counters("1 2 3 4 5 6 7 8 9 10 11").flushes, 0);
        assert_eq!(parse_counters(""), DiskCounters::default());
    }

    #[test]
    fn the_nearest_mount_counts() {
        assert_eq!(file_system(Path::new("/proc/self")).as_deref(), Some("proc"));
        assert_eq!(file_system(Path::new("/no/such/path")), None);
    }
}

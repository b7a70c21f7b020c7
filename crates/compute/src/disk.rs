//! Disk watermarks: warn before a data directory is full, refuse to grow when it nearly is.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// From here on, status warns.
pub const WARN_PERCENT: u8 = 85;
/// From here on, nothing new is created.
pub const REFUSE_PERCENT: u8 = 95;

/// A file system with less room starts no instance: status files, `postmaster.pid` and logs need some.
pub const LEAST_TO_START: u64 = 8 << 20;

/// How a file system stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Watermark {
    /// There is room.
    Ok,
    /// At or above [`WARN_PERCENT`].
    Warn,
    /// At or above [`REFUSE_PERCENT`].
    Refuse,
}

/// A file system's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    /// Used, of what an ordinary user may use, rounded up, in percent.
    pub used_percent: u8,
    /// Bytes that an ordinary user may still write.
    pub free_bytes: u64,
    /// What that means.
    pub watermark: Watermark,
}

/// The use of the file system that holds `path`.
pub fn usage(path: &Path) -> io::Result<DiskUse> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    let unit = stat.fragment_size();
    Ok(judge(stat.blocks() * unit, stat.blocks_free() * unit, stat.blocks_available() * unit))
}

/// Why no instance can be started with its files below `path`, if the disk there is too full. A disk that cannot be asked
/// is taken for one with room.
#[must_use]
pub fn too_full_to_start(path: &Path) -> Option<String> {
    let free = usage(path).ok()?.free_bytes;
    (free < LEAST_TO_START).then(|| {
        format!(
            "the disk of {} is full: {} KiB are free, an instance needs {} to start; it starts by itself when there is \
             room",
            path.display(),
            free >> 10,
            LEAST_TO_START >> 10
        )
    })
}

/// Judges a file system of `total` bytes with `free` bytes, of which `available` are for ordinary users.
#[must_use]
pub fn judge(total: u64, free: u64, available: u64) -> DiskUse {
    let used = total.saturating_sub(free);
    let usable = used + available;
    let used_percent = if usable == 0 { 100 } else { (used * 100).div_ceil(usable).min(100) as u8 };
    let watermark = match used_percent {
        REFUSE_PERCENT.. => Watermark::Refuse,
        WARN_PERCENT.. => Watermark::Warn,
        _ => Watermark::Ok,
    };
    DiskUse { used_percent, free_bytes: available, watermark }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermarks_by_use() {
        for (total, free, available, percent, watermark) in [
            (100, 100, 100, 0, Watermark::Ok),
            (100, 16, 16, 84, Watermark::Ok),
            (100, 15, 15, 85, Watermark::Warn),
            (100, 5, 5, 95, Watermark::Refuse),
            (100, 10, 5, 95, Watermark::Refuse),
            (100, 0, 0, 100, Watermark::Refuse),
            (0, 0, 0, 100, Watermark::Refuse),
        ] {
            let judged = judge(total, free, available);
            assert_eq!(
                (judged.used_percent, judged.watermark),
                (percent, watermark),
                "{total} {free} {available}"
            );
        }
    }

    #[test]
    fn a_real_file_system_is_judged() {
        assert!(usage(Path::new("/")).unwrap().used_percent <= 100);
        assert!(usage(Path::new("/no/such/path")).is_err());
    }
}

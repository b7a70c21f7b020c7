//! The status file: what a supervisor may know of a mount, kept fresh.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use zorya_types::{Lsn, VolumePositions};

use crate::file::cache::CacheUse;
use crate::volume::Volume;

/// VDL may stand still this long, with records outstanding, before the mount calls itself blocked.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What the mount is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MountState {
    /// Requests are answered.
    Serving,
    /// Writes and fsyncs wait for storage; reads go on.
    Blocked,
    /// SIGTERM came.
    Stopping,
}

/// The content of the status file.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The process.
    pub pid: u32,
    /// Where the volume is mounted, as seen in `mount_namespace`.
    pub mountpoint: String,
    /// The file to setns(2) to in order to see the mount.
    pub mount_namespace: String,
    /// The connection under `/sys/fs/fuse/connections`.
    pub fuse_connection: u64,
    /// The volume.
    pub volume: String,
    /// The epoch that this mount writes with.
    pub epoch: u64,
    /// Volume durable LSN.
    pub vdl: u64,
    /// All positions.
    pub positions: VolumePositions,
    /// The block cache.
    pub cache: CacheUse,
    /// Inodes in the namespace.
    pub inodes: u64,
    /// Bytes that are there, over all shipped files.
    pub used_bytes: u64,
    /// Changes that wait for room or blocks.
    pub parked: u64,
    /// What it is doing.
    pub state: MountState,
    /// Why it is blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Notices that storage does not acknowledge.
#[derive(Debug)]
pub struct Progress {
    vdl: Lsn,
    since: Instant,
}

impl Progress {
    /// Starts watching.
    #[must_use]
    pub fn new(now: Instant) -> Progress {
        Progress { vdl: Lsn::ZERO, since: now }
    }

    /// Why the mount is blocked, if it is.
    pub fn observe(&mut self, positions: &VolumePositions, now: Instant) -> Option<String> {
        if positions.vdl != self.vdl || positions.allocated <= positions.vdl {
            *self = Progress { vdl: positions.vdl, since: now };
            return None;
        }
        let standing = now.duration_since(self.since);
        (standing >= PATIENCE).then(|| {
            format!(
                "no write quorum: VDL stands at {} for {} s with {} bytes not acknowledged; reads go on",
                positions.vdl,
                standing.as_secs(),
                positions.allocated.since(positions.vdl)
            )
        })
    }
}

impl Status {
    /// Takes over what changes.
    pub fn refresh(&mut self, volume: &Volume, positions: VolumePositions, blocked: Option<String>) {
        volume.look(|state| {
            state.cache.shrink(positions.vdl);
            self.cache = state.cache.usage();
            self.inodes = state.namespace.inode_count() as u64;
            self.used_bytes = state.used_bytes();
            self.parked = state.parked();
        });
        self.vdl = positions.vdl.0;
        self.positions = positions;
        self.state = if blocked.is_some() { MountState::Blocked } else { MountState::Serving };
        self.reason = blocked;
    }

    /// Replaces the file as a whole.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        fs::rename(&temporary, path)
    }
}

/// Says that the mount lives when its status cannot be written: the file stays as it was and its time becomes now, which
/// needs no room on the disk.
pub fn touch(path: &Path) -> io::Result<()> {
    File::options().write(true).open(path)?.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touched_status_is_newer_and_says_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        fs::write(&path, "{}").unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        touch(&path).unwrap();
        assert!(fs::metadata(&path).unwrap().modified().unwrap() > old);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
        assert!(touch(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn blocked_means_that_records_wait_while_vdl_stands() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        let at = |vdl, allocated| VolumePositions {
            vdl: Lsn(vdl),
            allocated: Lsn(allocated),
            ..Default::default()
        };
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(progress.observe(&at(10, 10), after(0)), None);
        assert_eq!(progress.observe(&at(10, 10), after(9000)), None, "idle is not blocked");
        assert_eq!(progress.observe(&at(10, 20), after(9100)), None);
        assert!(progress.observe(&at(10, 30), after(11_000)).is_some());
        assert_eq!(progress.observe(&at(20, 30), after(12_000)), None);
    }
}

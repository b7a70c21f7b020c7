//! One storage node's disk: an ext4 file system in a file, which can be full alone and lose power alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::power;
use crate::process;
use crate::shell::{self, ShellError};
use crate::wait::{self, WaitError};

/// A file that takes all the space that is left.
const FILLER: &str = "filler";
/// Written without a sync right before a power cut: it must not be there afterwards.
const CANARY: &str = "canary";

/// Something that did not work on a disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The operating system's reason.
    #[error("cannot {step} {path}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program that is needed.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// The file system stayed in use.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// A power cut that was none.
    #[error("the power of {path} was cut, but {what}")]
    NotCut {
        /// The mount point.
        path: PathBuf,
        /// What shows it.
        what: &'static str,
    },
}

fn failed<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DiskError + 'a {
    move |source| DiskError::Io { step, path: path.to_owned(), source }
}

/// A file system in a file.
#[derive(Clone, Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// A disk in `image`, to be mounted at `mount`. Nothing is made.
    #[must_use]
    pub fn at(image: PathBuf, mount: PathBuf) -> Disk {
        Disk { image, mount }
    }

    /// The node's directory on it.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Makes it empty, `mib` large, and mounts it.
    pub fn make(&mut self, mib: u64) -> Result<(), DiskError> {
        fs::create_dir_all(&self.mount).map_err(failed("make", &self.mount))?;
        let image = File::create(&self.image).map_err(failed("make", &self.image))?;
        image.set_len(mib << 20).map_err(failed("size", &self.image))?;
        // No reserve for root: a full disk is full for the node, which may run as root.
        shell::run("mkfs.ext4", &["-q", "-F", "-m", "0", &self.image.to_string_lossy()])?;
        self.mount()
    }

    /// Mounts it; ext4 replays its journal.
    pub fn mount(&self) -> Result<(), DiskError> {
        let (image, mount) = (self.image.to_string_lossy(), self.mount.to_string_lossy());
        shell::run("mount", &["-t", "ext4", "-o", "loop", &image, &mount])?;
        Ok(())
    }

    /// Unmounts it wherever it is mounted: a process with a mount namespace of its own (a mount daemon) keeps a copy of
    /// every mount that there was when it started, and the file system lives as long as the last copy.
    pub fn unmount(&self) -> Result<(), DiskError> {
        let mount = self.mount.to_string_lossy().into_owned();
        wait::until_removed(&format!("the unmounting of {mount}"), Duration::from_secs(20), || {
            while is_mounted("self", &mount) {
                if shell::run("umount", &[&mount]).is_err() {
                    return false;
                }
            }
            for pid in process::all_pids() {
                if is_mounted(&pid.to_string(), &mount) {
                    let _ = shell::run("nsenter", &["-t", &pid.to_string(), "-m", "umount", &mount]);
                }
            }
            !self.is_attached()
        })?;
        Ok(())
    }

    /// Whether a loop device still holds the image: then the file system is still alive somewhere.
    fn is_attached(&self) -> bool {
        let Ok(devices) = fs::read_dir("/sys/block") else { return false };
        let mut backing = devices.filter_map(|entry| {
            let file = entry.ok()?.path().join("loop/backing_file");
            fs::read_to_string(file).ok()
        });
        backing.any(|file| Path::new(file.trim()) == self.image)
    }

    /// Unmounts it and removes the image. What is not there is no error.
    pub fn unmake(&self) -> Result<(), DiskError> {
        self.unmount()?;
        match fs::remove_file(&self.image) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.image)(error))
            }
            _ => Ok(()),
        }
    }

    /// Cuts its power and makes sure that it is dead.
    pub fn cut_power(&self) -> Result<(), DiskError> {
        let canary = self.mount.join(CANARY);
        fs::write(&canary, "not synced").map_err(failed("write", &canary))?;
        power::cut(&self.mount).map_err(failed("cut the power of", &self.mount))?;
        match fs::write(self.mount.join("after"), "x") {
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(()),
            _ => Err(DiskError::NotCut { path: self.mount.clone(), what: "a file could still be written" }),
        }
    }

    /// Unmounts it after a power cut and mounts it again; makes sure that what was not synced is gone.
    pub fn restore_power(&self) -> Result<(), DiskError> {
        self.unmount()?;
        self.mount()?;
        match fs::read(self.mount.join(CANARY)) {
            Ok(content) if !content.is_empty() => {
                Err(DiskError::NotCut { path: self.mount.clone(), what: "an unsynced file survived it" })
            }
            Ok(_) => fs::remove_file(self.mount.join(CANARY)).map_err(failed("remove", &self.mount)),
            Err(_) => Ok(()),
        }
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> Result<(), DiskError> {
        let path = self.mount.join(FILLER);
        let mut file =
            OpenOptions::new().create(true).append(true).open(&path).map_err(failed("open", &path))?;
        for chunk in [16 << 20, 64 << 10, 4096] {
            let zeroes = vec![0; chunk];
            while let Ok(written @ 1..) = file.write(&zeroes) {
                if written < chunk {
                    break;
                }
            }
        }
        // Delayed allocation: what was promised to the file is not taken before this.
        match file.sync_all() {
            Err(error) if error.raw_os_error() != Some(libc::ENOSPC) => Err(failed("sync", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Gives back what [`Disk::fill`] took.
    pub fn free(&self) -> Result<(), DiskError> {
        let path = self.mount.join(FILLER);
        fs::remove_file(&path).map_err(failed("remove", &path))
    }

    /// Bytes that a file could still take.
    pub fn free_bytes(&self) -> Result<u64, DiskError> {
        let stat = nix::sys::statvfs::statvfs(&self.mount)
            .map_err(|e| failed("ask the size of", &self.mount)(e.into()))?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }
}

fn is_mounted(pid: &str, mount: &str) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().any(|line| line.split(' ').nth(4) == Some(mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs with root and a loop device only.
    fn with_disk(check: impl FnOnce(&mut Disk)) {
        if !nix::unistd::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            println!("skipped: needs root and loop devices");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut made = Unmade(Disk::at(dir.path().join("d.img"), dir.path().join("d")));
        made.0.make(64).unwrap();
        check(&mut made.0);
    }

    /// Leaves no mount behind, also when a check fails.
    struct Unmade(Disk);

    impl Drop for Unmade {
        fn drop(&mut self) {
            self.0.unmake().unwrap();
        }
    }

    #[test]
    fn a_power_cut_loses_what_was_not_synced_and_nothing_else() {
        with_disk(|disk| {
            let (synced, unsynced) = (disk.mount.join("synced"), disk.mount.join("unsynced"));
            let mut file = File::create(&synced).unwrap();
            file.write_all(&[7; 10_000]).unwrap();
            file.sync_all().unwrap();
            drop(file);
            File::open(&disk.mount).unwrap().sync_all().unwrap();
            fs::write(&unsynced, [8; 10_000]).unwrap();
            disk.cut_power().unwrap();
            disk.restore_power().unwrap();
            assert_eq!(fs::read(&synced).unwrap(), [7; 10_000]);
            assert!(fs::read(&unsynced).unwrap_or_default().iter().all(|byte| *byte != 8));
        });
    }

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_freed() {
        with_disk(|disk| {
            disk.fill().unwrap();
            assert_eq!(disk.free_bytes().unwrap(), 0);
            let written = fs::write(disk.mount.join("f"), vec![1; 8192]);
            assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
            disk.free().unwrap();
            assert!(disk.free_bytes().unwrap() > 32 << 20);
        });
    }
}

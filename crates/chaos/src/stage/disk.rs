//! One storage node's disk: an ext4 file system on a drive of its own, which can be full alone and lose power alone. Where
//! nothing loses power there is no drive: what it costs would be measured with the product.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};

use super::drive::{self, Drive, Loss};
use super::power;
use crate::process;
use crate::seed::Numbers;
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

/// What a disk's loop device is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// The image itself.
    Image,
    /// A drive over it, whose power can be cut.
    Drive,
}

/// A file system on a loop device.
#[derive(Clone, Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
    /// `None` without one, until it is made, and in a plan that only knows the names.
    drive: Option<Arc<Drive>>,
}

impl Disk {
    /// A disk in `image`, to be mounted at `mount`. Nothing is made.
    #[must_use]
    pub fn at(image: PathBuf, mount: PathBuf) -> Disk {
        Disk { image, mount, drive: None }
    }

    /// The node's directory on it.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Where the drive is mounted.
    fn bay(&self) -> PathBuf {
        self.image.with_extension("drive")
    }

    /// The file that the drive serves, for a loop device.
    fn served(&self) -> PathBuf {
        self.bay().join(drive::FILE)
    }

    /// What the loop device is over.
    fn medium(&self) -> PathBuf {
        if self.drive.is_some() { self.served() } else { self.image.clone() }
    }

    /// Makes it empty, `mib` large, and mounts it.
    pub fn make(&mut self, mib: u64, medium: Medium) -> Result<(), DiskError> {
        fs::create_dir_all(&self.mount).map_err(failed("make", &self.mount))?;
        let image = File::create(&self.image).map_err(failed("make", &self.image))?;
        image.set_len(mib << 20).map_err(failed("size", &self.image))?;
        // No reserve for root: a full disk is full for the node, which may run as root. The inode tables at once: they
        // are holes in the image, and would otherwise be zeroed later by writes through the drive.
        let options = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        shell::run("mkfs.ext4", &[&options[..], &[&self.image.to_string_lossy()]].concat())?;
        self.drive = match medium {
            Medium::Image => None,
            Medium::Drive => Some(self.start_drive()?),
        };
        self.mount()
    }

    fn start_drive(&self) -> Result<Arc<Drive>, DiskError> {
        let bay = self.bay();
        fs::create_dir_all(&bay).map_err(failed("make", &bay))?;
        let drive = Arc::new(Drive::over(&self.image).map_err(failed("open", &self.image))?);
        drive::serve(Arc::clone(&drive), &bay).map_err(failed("serve a drive at", &bay))?;
        Ok(drive)
    }

    /// Mounts it; ext4 replays its journal. The loop device goes with the last mount.
    pub fn mount(&self) -> Result<(), DiskError> {
        let (medium, mount) = (self.medium(), self.mount.to_string_lossy());
        let attach = ["--find", "--show", "--direct-io=on", &medium.to_string_lossy()];
        let device = shell::run("losetup", &attach)?;
        let device = device.trim();
        let mounted = shell::run("mount", &["-t", "ext4", device, &mount]);
        // Of a device in use: as soon as it no longer is.
        shell::run("losetup", &["--detach", device])?;
        mounted?;
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
            self.attached().is_none_or(|device| {
                // A run that was killed may have left a device that goes with no mount.
                let _ = shell::run("losetup", &["--detach", &device]);
                false
            })
        })?;
        Ok(())
    }

    /// The loop device that still holds the image or its drive: the file system may still be alive somewhere.
    fn attached(&self) -> Option<String> {
        let mut devices = fs::read_dir("/sys/block").ok()?;
        devices.find_map(|entry| {
            let entry = entry.ok()?;
            let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
            let ours = [self.served(), self.image.clone()].iter().any(|own| Path::new(file.trim()) == own);
            ours.then(|| format!("/dev/{}", entry.file_name().to_string_lossy()))
        })
    }

    /// Unmounts it and removes the image. What is not there is no error.
    pub fn unmake(&self) -> Result<(), DiskError> {
        // By force, which ends the drive at once, also in use: nothing on it is needed any more, and unmounting what is
        // on it then waits for nobody, not even for a drive whose process was killed or panics.
        let bay = self.bay();
        let _ = umount2(&bay, MntFlags::MNT_FORCE);
        self.unmount()?;
        let named = bay.to_string_lossy().into_owned();
        wait::until_removed(&format!("the end of the drive {named}"), Duration::from_secs(20), || {
            let _ = umount2(&bay, MntFlags::MNT_FORCE);
            !is_mounted("self", &named)
        })?;
        let _ = fs::remove_dir(&bay);
        match fs::remove_file(&self.image) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.image)(error))
            }
            _ => Ok(()),
        }
    }

    /// Cuts its power and makes sure that it is dead: first the drive's, then that of the file system, which would go on
    /// in the kernel's memory for a while.
    pub fn cut_power(&self, numbers: &mut Numbers) -> Result<Loss, DiskError> {
        let not_cut = |what| DiskError::NotCut { path: self.mount.clone(), what };
        let drive = self.drive.as_ref().ok_or_else(|| not_cut("it has no drive"))?;
        let canary = self.mount.join(CANARY);
        fs::write(&canary, "not synced").map_err(failed("write", &canary))?;
        let loss = drive.cut_power(numbers).map_err(failed("cut the power of", &self.image))?;
        power::cut(&self.mount).map_err(failed("cut the power of", &self.mount))?;
        match fs::write(self.mount.join("after"), "x") {
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(loss),
            _ => Err(not_cut("a file could still be written")),
        }
    }

    /// Unmounts it after a power cut and mounts it again; makes sure that what was not synced is gone.
    pub fn restore_power(&self) -> Result<(), DiskError> {
        // Without power until then: what the kernel still holds for the device must not reach it.
        self.unmount()?;
        if let Some(drive) = &self.drive {
            drive.restore_power();
        }
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
    use std::os::unix::fs::{FileExt, OpenOptionsExt};

    use super::*;

    /// Runs with root and a loop device only.
    fn with_disk(medium: Medium, check: impl FnOnce(&mut Disk)) {
        if !nix::unistd::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            println!("skipped: needs root and loop devices");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut made = Unmade(Disk::at(dir.path().join("d.img"), dir.path().join("d")));
        made.0.make(64, medium).unwrap();
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
        with_disk(Medium::Drive, |disk| {
            let (synced, unsynced) = (disk.mount.join("synced"), disk.mount.join("unsynced"));
            let mut file = File::create(&synced).unwrap();
            file.write_all(&[7; 10_000]).unwrap();
            file.sync_all().unwrap();
            drop(file);
            File::open(&disk.mount).unwrap().sync_all().unwrap();
            fs::write(&unsynced, [8; 10_000]).unwrap();
            disk.cut_power(&mut Numbers::from_seed(1)).unwrap();
            disk.restore_power().unwrap();
            assert_eq!(fs::read(&synced).unwrap(), [7; 10_000]);
            assert!(fs::read(&unsynced).unwrap_or_default().iter().all(|byte| *byte != 8));
        });
    }

    const DIRECT_BYTES: usize = 1 << 20;

    /// Writes past the page cache over a file that is on the platter; returns how much of it is there after a power cut
    /// (in sectors of 512 bytes), and what the drive says it lost.
    fn direct_after_cut(disk: &Disk, flushed: bool, seed: u64) -> (usize, Loss) {
        let path = disk.mount.join("direct");
        let mut old = File::create(&path).unwrap();
        old.write_all(&[1; DIRECT_BYTES]).unwrap();
        old.sync_all().unwrap();
        shell::run("sync", &["--file-system", &disk.mount.to_string_lossy()]).unwrap();
        let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
        let memory = vec![2; DIRECT_BYTES + 4096];
        let start = memory.as_ptr().align_offset(4096);
        file.write_all_at(&memory[start..start + DIRECT_BYTES], 0).unwrap();
        if flushed {
            file.sync_data().unwrap();
        }
        drop((old, file));
        let loss = disk.cut_power(&mut Numbers::from_seed(seed)).unwrap();
        disk.restore_power().unwrap();
        let sectors = fs::read(&path).unwrap();
        assert_eq!(sectors.len(), DIRECT_BYTES);
        for sector in sectors.chunks(512) {
            assert!(sector == [1; 512] || sector == [2; 512], "a sector is old or new");
        }
        (sectors.chunks(512).filter(|sector| sector[0] == 2).count(), loss)
    }

    #[test]
    fn a_power_cut_loses_what_was_written_past_the_page_cache_without_a_flush() {
        with_disk(Medium::Drive, |disk| {
            for seed in 0..6 {
                let (there, loss) = direct_after_cut(disk, false, seed);
                assert!(there < DIRECT_BYTES / 512, "seed {seed}: everything survived");
                assert!(
                    loss.lost > 0 && loss.unflushed >= (DIRECT_BYTES / 512) as u64,
                    "seed {seed}: {loss:?}"
                );
                let (there, loss) = direct_after_cut(disk, true, seed);
                assert_eq!(there, DIRECT_BYTES / 512, "seed {seed}: flushed, but lost: {loss:?}");
            }
        });
    }

    /// As after a run that was killed: another process of the harness knows only the names.
    #[test]
    fn a_disk_whose_drive_is_gone_can_be_removed() {
        with_disk(Medium::Drive, |disk| {
            fs::write(disk.mount.join("f"), vec![1; 1 << 20]).unwrap();
            umount2(&disk.bay(), MntFlags::MNT_FORCE).unwrap_err();
            assert!(File::create(disk.mount.join("g")).and_then(|file| file.sync_all()).is_err());
            let plan = Disk::at(disk.image.clone(), disk.mount.clone());
            plan.unmake().unwrap();
            assert!(!is_mounted("self", &disk.mount.to_string_lossy()) && !disk.image.exists());
            assert!(plan.attached().is_none());
        });
    }

    #[test]
    fn a_disk_without_a_drive_keeps_what_it_is_given_and_has_no_power_to_cut() {
        with_disk(Medium::Image, |disk| {
            fs::write(disk.mount.join("f"), vec![1; 1 << 20]).unwrap();
            assert!(!disk.bay().exists() && disk.attached().is_some());
            let cut = disk.cut_power(&mut Numbers::from_seed(1));
            assert!(matches!(cut, Err(DiskError::NotCut { .. })), "{cut:?}");
            disk.unmount().unwrap();
            disk.mount().unwrap();
            assert_eq!(fs::read(disk.mount.join("f")).unwrap(), vec![1; 1 << 20]);
        });
    }

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_freed() {
        with_disk(Medium::Drive, |disk| {
            disk.fill().unwrap();
            assert_eq!(disk.free_bytes().unwrap(), 0);
            let written = fs::write(disk.mount.join("f"), vec![1; 8192]);
            assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
            disk.free().unwrap();
            assert!(disk.free_bytes().unwrap() > 32 << 20);
        });
    }
}

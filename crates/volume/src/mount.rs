//! The mount itself: a private mount namespace, mount(2) of /dev/fuse, unmounting and aborting.
//!
//! Root mounts for everybody. A plain user mounts in a user namespace of its own, where mount(2) of FUSE is allowed
//! (user_namespaces(7)), and only for itself.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::fuse::MAX_TRANSFER;

/// What failed on the way to a mount.
#[derive(Debug, thiserror::Error)]
pub enum MountFailed {
    /// There is no FUSE here.
    #[error(
        "/dev/fuse cannot be opened: load the fuse module and let this user read and write /dev/fuse, or run as root"
    )]
    NoFuse(#[source] io::Error),
    /// No private mount namespace.
    #[error("a private mount namespace cannot be made: run as root")]
    Namespace(#[source] Errno),
    /// No user namespace.
    #[error(
        "user {user} cannot make a user namespace: allow it (sysctl kernel.unprivileged_userns_clone=1, \
         user.max_user_namespaces above 0, kernel.apparmor_restrict_unprivileged_userns=0), or run as root"
    )]
    UserNamespace {
        /// This process's user.
        user: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The mount point cannot be used.
    #[error(
        "{path:?} cannot be mounted on: it has to be an existing directory, and this process root or in a user \
         namespace of its own"
    )]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The kernel does not list the new mount.
    #[error("the new mount {0:?} is not in /proc/self/mountinfo")]
    NotListed(PathBuf),
    /// The kernel's table of mounts cannot be read.
    #[error("/proc/self/mountinfo cannot be read")]
    NoMountTable(#[source] io::Error),
}

/// A mounted FUSE file system, seen from the namespace of the thread that made it.
#[derive(Debug, Clone)]
pub struct FuseMount {
    /// Where.
    pub mountpoint: PathBuf,
    /// The number of the connection under `/sys/fs/fuse/connections`.
    pub connection: u64,
}

/// Gives this process a user namespace in which it is itself and may mount, and a mount namespace with it: what root does
/// with [`enter_private_namespace`] alone. The process must not have started a thread yet.
pub fn enter_user_namespace() -> Result<(), MountFailed> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let refused = |source| MountFailed::UserNamespace { user, source };
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| refused(error.into()))?;
    // A process without rights over its groups may map its own only once it has given up changing them.
    fs::write("/proc/self/setgroups", "deny").map_err(refused)?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1")).map_err(refused)?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1")).map_err(refused)?;
    enter_private_namespace()
}

/// Gives this thread, and the threads that it will start, a mount namespace of their own: mounts made in it end with
/// the processes in it.
pub fn enter_private_namespace() -> Result<(), MountFailed> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(MountFailed::Namespace)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(MountFailed::Namespace)
}

/// Mounts a new FUSE connection and returns its device. The kernel waits for the file system's answers from now on.
pub fn mount_fuse(mountpoint: &Path) -> Result<(OwnedFd, FuseMount), MountFailed> {
    let device: File =
        OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(MountFailed::NoFuse)?;
    let (user, group) = (geteuid(), getegid());
    // Engines of root's have users of their own. What a plain user mounts is for itself, inside the namespace and out.
    let others = if user.is_root() { "allow_other," } else { "" };
    let options = format!(
        "fd={},rootmode=40000,user_id={user},group_id={group},{others}default_permissions,max_read={MAX_TRANSFER}",
        device.as_raw_fd()
    );
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("zorya"), mountpoint, Some("fuse.zorya"), flags, Some(options.as_str()))
        .map_err(|source| MountFailed::Mount { path: mountpoint.to_owned(), source })?;
    let connection = connection_of(mountpoint)?;
    Ok((device.into(), FuseMount { mountpoint: mountpoint.to_owned(), connection }))
}

/// The minor device number of a mount, from the kernel's table: asking the mount itself would wait for it.
fn connection_of(mountpoint: &Path) -> Result<u64, MountFailed> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").map_err(MountFailed::NoMountTable)?;
    newest_minor(&table, mountpoint).ok_or_else(|| MountFailed::NotListed(mountpoint.to_owned()))
}

fn newest_minor(table: &str, mountpoint: &Path) -> Option<u64> {
    let wanted = mountpoint.to_string_lossy();
    table.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let (device, _root, at) = (fields.next()?, fields.next()?, fields.next()?);
        if unescape(at) != wanted {
            return None;
        }
        device.split_once(':')?.1.parse().ok()
    })
}

/// Undoes the kernel's octal escapes (`\040` for a space).
fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = (byte == b'\\').then(|| tail.get(..3)).flatten();
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        let (plain, after) = match code {
            Some(code) => (code, &tail[3..]),
            None => (byte, tail),
        };
        out.push(plain);
        rest = after;
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl FuseMount {
    /// Unmounts. Users that are still inside lose it: their requests fail and the connection is aborted.
    pub fn unmount(&self) {
        match umount2(&self.mountpoint, MntFlags::empty()) {
            Ok(()) => return,
            Err(Errno::EINVAL) => return,
            Err(error) => {
                tracing::warn!(mountpoint = ?self.mountpoint, %error, "still in use: unmounted by force")
            }
        }
        self.abort();
    }

    /// Ends the connection at once: every request that is waiting, and every later one, fails.
    pub fn abort(&self) {
        // MNT_FORCE aborts the connection, also where the mount then stays because it is in use.
        let forced = umount2(&self.mountpoint, MntFlags::MNT_FORCE);
        if forced.is_err()
            && let Err(error) = umount2(&self.mountpoint, MntFlags::MNT_DETACH)
        {
            tracing::warn!(mountpoint = ?self.mountpoint, %error, "the aborted mount stays in the mount table");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_mount_on_a_path_counts() {
        let table = "30 1 0:44 / /mnt/a rw - fuse.zorya zorya rw\n\
                     31 1 0:45 / /mnt/b\\040c rw - fuse.zorya zorya rw\n\
                     32 1 0:46 / /mnt/a rw - fuse.zorya zorya rw\n";
        assert_eq!(newest_minor(table, Path::new("/mnt/a")), Some(46));
        assert_eq!(newest_minor(table, Path::new("/mnt/b c")), Some(45));
        assert_eq!(newest_minor(table, Path::new("/mnt")), None);
    }
}

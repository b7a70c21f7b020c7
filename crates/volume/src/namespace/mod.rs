//! The namespace: inodes, directories, hard links and orphans, wholly in memory and wholly in the log.
//!
//! Pure: a request is planned into a [`Change`] (a list of [`Edit`]s) without touching anything; the change is encoded
//! into the operations of one log record; once that record is appended, [`Namespace::apply`] makes it true here.
//! Loading a volume applies what the log's entries say. So memory and log agree by construction, and a refused append
//! leaves no trace.
//!
//! - [`inode`]: the values and their bytes.
//! - [`change`]: edits, their encoding, and their application.
//! - [`plan`]: create, unlink, rename, link, and what each does to orphans and data.

pub mod change;
pub mod inode;
pub mod plan;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use change::{Change, Edit};
pub use inode::{Dirent, Inode, Kind, Placement};

use crate::errno::FsError;
use crate::path_class::{EngineClass, PathClass};

/// The root directory's inode number.
pub const ROOT: u64 = 1;
/// Inode numbers from here on are local to the mount.
pub const LOCAL_INODES: u64 = 1 << 62;
/// Cookies below are for `.` and `..`.
pub const FIRST_COOKIE: u64 = 3;
/// Inode numbers are reserved in the log this many at a time.
const INODE_RESERVATION: u64 = 1024;

/// The entries of one directory.
#[derive(Debug)]
pub struct Directory {
    by_name: HashMap<Arc<[u8]>, u64>,
    by_cookie: BTreeMap<u64, Dirent>,
    next_cookie: u64,
    /// This directory's own name; empty for the root.
    name: Arc<[u8]>,
}

/// All inodes and directories of a volume.
#[derive(Debug)]
pub struct Namespace {
    class: EngineClass,
    inodes: HashMap<u64, Inode>,
    directories: HashMap<u64, Directory>,
    /// Removed directories that the kernel still knows, as somebody may have them open.
    gone: HashMap<u64, Inode>,
    /// Which inode holds a relation segment's keys.
    relation_owners: HashMap<Placement, u64>,
    next_ino: u64,
    /// Below this the log has reserved inode numbers.
    reserved_ino: u64,
    next_local_ino: u64,
}

impl Directory {
    /// The entries after a cookie, in cookie order.
    pub fn after(&self, cookie: u64) -> impl Iterator<Item = (u64, &Dirent)> {
        self.by_cookie.range(cookie.saturating_add(1)..).map(|(&cookie, entry)| (cookie, entry))
    }

    /// How many entries there are, `.` and `..` not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_cookie.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_cookie.is_empty()
    }

    fn get(&self, name: &[u8]) -> Option<(u64, &Dirent)> {
        let cookie = *self.by_name.get(name)?;
        self.by_cookie.get(&cookie).map(|entry| (cookie, entry))
    }
}

impl Namespace {
    /// A namespace with nothing in it, not even a root.
    #[must_use]
    pub fn empty(class: EngineClass) -> Namespace {
        Namespace {
            class,
            inodes: HashMap::new(),
            directories: HashMap::new(),
            gone: HashMap::new(),
            relation_owners: HashMap::new(),
            next_ino: ROOT + 1,
            reserved_ino: ROOT + 1,
            next_local_ino: LOCAL_INODES,
        }
    }

    /// Whose list of path classes applies.
    #[must_use]
    pub fn class(&self) -> EngineClass {
        self.class
    }

    /// An inode that exists.
    pub fn inode(&self, ino: u64) -> Result<&Inode, FsError> {
        self.inodes.get(&ino).ok_or(FsError::Stale(ino))
    }

    /// A removed directory, without a link, as long as the kernel may ask for it.
    pub fn removed_directory(&self, ino: u64) -> Option<&Inode> {
        self.gone.get(&ino)
    }

    /// The kernel knows this inode no longer.
    pub fn forget(&mut self, ino: u64) {
        self.gone.remove(&ino);
    }

    /// All inodes, in no order.
    pub fn inodes(&self) -> impl Iterator<Item = (u64, &Inode)> {
        self.inodes.iter().map(|(&ino, inode)| (ino, inode))
    }

    /// Changes what is kept in memory only: times, and the size of a local file.
    pub fn touch(&mut self, ino: u64, change: impl FnOnce(&mut Inode)) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            change(inode);
        }
    }

    /// The entries of a directory.
    pub fn directory(&self, ino: u64) -> Result<&Directory, FsError> {
        match self.directories.get(&ino) {
            Some(directory) => Ok(directory),
            None if self.inodes.contains_key(&ino) => Err(FsError::NotDirectory),
            None => Err(FsError::Stale(ino)),
        }
    }

    /// What a name in a directory leads to.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<u64, FsError> {
        if name.len() > 255 {
            return Err(FsError::NameTooLong);
        }
        self.directory(parent)?.get(name).map(|(_, entry)| entry.ino).ok_or(FsError::NotFound)
    }

    /// How many inodes there are.
    #[must_use]
    pub fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// The class of a name in a directory, by its path from the root.
    #[must_use]
    pub fn classify(&self, parent: u64, name: &[u8]) -> PathClass {
        self.with_path(parent, name, |path| self.class.classify(path))
    }

    /// Whether a link of this name decides where the engine's data is.
    #[must_use]
    pub fn is_data_link(&self, parent: u64, name: &[u8]) -> bool {
        self.with_path(parent, name, |path| self.class.is_data_link(path))
    }

    fn with_path<T>(&self, parent: u64, name: &[u8], then: impl FnOnce(&[&[u8]]) -> T) -> T {
        let mut path: Vec<&[u8]> = vec![name];
        let mut at = parent;
        while at != ROOT {
            let (Some(directory), Some(inode)) = (self.directories.get(&at), self.inodes.get(&at)) else {
                break;
            };
            path.push(&directory.name);
            at = inode.parent;
        }
        path.reverse();
        then(&path)
    }

    /// Whether `below` is `directory` or lies somewhere in it.
    fn is_within(&self, directory: u64, below: u64) -> bool {
        let mut at = below;
        loop {
            if at == directory {
                return true;
            }
            match self.inodes.get(&at) {
                Some(inode) if at != ROOT => at = inode.parent,
                _ => return false,
            }
        }
    }
}

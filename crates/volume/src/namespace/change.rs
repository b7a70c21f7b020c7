//! Edits of the namespace: how they are logged and what they do.

use std::collections::HashMap;
use std::sync::Arc;

use zorya_redo::byte_range::Encoder;
use zorya_types::{Key, KeyClass};

use super::inode::{self, BadValue, Dirent, Inode, Kind, Placement};
use super::{Directory, FIRST_COOKIE, LOCAL_INODES, Namespace, ROOT};

/// The volume fact that holds the format.
pub const FACT_FORMAT: u64 = 1;
/// The volume fact that holds the inode counter.
pub const FACT_NEXT_INO: u64 = 2;

/// One edit. Edits of local inodes and entries are never logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// An inode is as given.
    PutInode(u64, Inode),
    /// An inode is as given, but the log need not know: only times differ.
    TouchInode(u64, Inode),
    /// An inode is gone; `local` says that the log never had it.
    DropInode {
        /// Its number.
        ino: u64,
        /// Never logged.
        local: bool,
    },
    /// A directory has an entry.
    PutDirent {
        /// The directory.
        directory: u64,
        /// The entry's place.
        cookie: u64,
        /// The entry.
        entry: Dirent,
    },
    /// A directory lost an entry.
    DropDirent {
        /// The directory.
        directory: u64,
        /// The entry's place.
        cookie: u64,
        /// Never logged.
        local: bool,
    },
    /// Inode numbers below are taken or reserved.
    ReserveInodes(u64),
}

/// What one request does: edits of the namespace, and files whose data is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// In order.
    pub edits: Vec<Edit>,
    /// Shipped files whose blocks are to be cleared.
    pub dropped: Vec<Placement>,
    /// Local files whose content is to be deleted.
    pub dropped_local: Vec<u64>,
}

impl Change {
    /// Whether the log has to know of it.
    #[must_use]
    pub fn is_logged(&self) -> bool {
        !self.dropped.is_empty() || self.edits.iter().any(Edit::is_logged)
    }

    /// The inodes that are edited, each once.
    #[must_use]
    pub fn inodes(&self) -> Vec<u64> {
        let mut inodes: Vec<u64> = self.edits.iter().filter_map(Edit::inode).collect();
        inodes.sort_unstable();
        inodes.dedup();
        inodes
    }

    /// Writes the logged edits as operations on group 0's entries.
    pub fn encode(&self, encoder: &mut Encoder) {
        for edit in self.edits.iter().filter(|edit| edit.is_logged()) {
            match edit {
                Edit::PutInode(ino, inode) => encoder.put(Key::inode(*ino), &inode.encode()),
                Edit::DropInode { ino, .. } => encoder.delete(Key::inode(*ino)),
                Edit::PutDirent { directory, cookie, entry } => {
                    encoder.put(Key::dirent(*directory, *cookie), &entry.encode())
                }
                Edit::DropDirent { directory, cookie, .. } => {
                    encoder.delete(Key::dirent(*directory, *cookie))
                }
                Edit::ReserveInodes(next) => {
                    encoder.put(Key::volume(FACT_NEXT_INO), &inode::encode_next_ino(*next))
                }
                Edit::TouchInode(..) => encoder,
            };
        }
    }
}

impl Edit {
    fn inode(&self) -> Option<u64> {
        match self {
            Edit::PutInode(ino, _) | Edit::TouchInode(ino, _) | Edit::DropInode { ino, .. } => Some(*ino),
            Edit::PutDirent { .. } | Edit::DropDirent { .. } | Edit::ReserveInodes(_) => None,
        }
    }

    fn is_logged(&self) -> bool {
        match self {
            Edit::PutInode(_, inode) => !inode.local,
            Edit::PutDirent { directory, entry, .. } => !entry.local && *directory < LOCAL_INODES,
            Edit::DropDirent { directory, local, .. } => !local && *directory < LOCAL_INODES,
            Edit::DropInode { local, .. } => !local,
            Edit::ReserveInodes(_) => true,
            Edit::TouchInode(..) => false,
        }
    }
}

impl Namespace {
    /// Makes a change true in memory.
    pub fn apply(&mut self, change: &Change) {
        for edit in &change.edits {
            match edit {
                Edit::PutInode(ino, inode) | Edit::TouchInode(ino, inode) => {
                    self.put_inode(*ino, inode.clone())
                }
                Edit::DropInode { ino, .. } => self.drop_inode(*ino),
                Edit::PutDirent { directory, cookie, entry } => {
                    self.put_dirent(*directory, *cookie, entry.clone());
                }
                Edit::DropDirent { directory, cookie, .. } => self.drop_dirent(*directory, *cookie),
                Edit::ReserveInodes(next) => self.reserved_ino = self.reserved_ino.max(*next),
            }
        }
    }

    /// Takes in one entry of a volume that is being opened. Keys that are not of the namespace are ignored.
    pub fn load(&mut self, key: Key, value: &[u8]) -> Result<(), BadValue> {
        match key.class() {
            Some(KeyClass::Volume) if key.lo == FACT_NEXT_INO => {
                self.next_ino = inode::decode_next_ino(value)?;
                self.reserved_ino = self.next_ino;
            }
            Some(KeyClass::Inode) => self.put_inode(key.payload() as u64, Inode::decode(value)?),
            Some(KeyClass::Dirent) => self.put_dirent(key.payload() as u64, key.lo, Dirent::decode(value)?),
            _ => {}
        }
        Ok(())
    }

    fn put_inode(&mut self, ino: u64, inode: Inode) {
        // A local file that was shipped keeps its number, which the next mount must not give out again.
        let counter = if ino >= LOCAL_INODES { &mut self.next_local_ino } else { &mut self.next_ino };
        *counter = (*counter).max(ino + 1);
        if inode.kind == Kind::Directory {
            self.directories.entry(ino).or_default();
        }
        let placement = inode.placement;
        let is_relation = inode.is_relation();
        if let Some(old) = self.inodes.insert(ino, inode)
            && old.is_relation()
            && old.placement != placement
        {
            self.disown(old.placement, ino);
        }
        if is_relation {
            self.relation_owners.insert(placement, ino);
        }
    }

    fn drop_inode(&mut self, ino: u64) {
        self.directories.remove(&ino);
        let Some(old) = self.inodes.remove(&ino) else { return };
        if old.is_relation() {
            self.disown(old.placement, ino);
        }
        if old.kind == Kind::Directory {
            self.gone.insert(ino, Inode { nlink: 0, ..old });
        }
    }

    fn disown(&mut self, placement: Placement, ino: u64) {
        if self.relation_owners.get(&placement) == Some(&ino) {
            self.relation_owners.remove(&placement);
        }
    }

    fn put_dirent(&mut self, directory: u64, cookie: u64, entry: Dirent) {
        if entry.kind == Kind::Directory {
            self.directories.entry(entry.ino).or_default().name = Arc::clone(&entry.name);
        }
        let listing = self.directories.entry(directory).or_default();
        listing.next_cookie = listing.next_cookie.max(cookie + 1);
        listing.by_name.insert(Arc::clone(&entry.name), cookie);
        listing.by_cookie.insert(cookie, entry);
    }

    fn drop_dirent(&mut self, directory: u64, cookie: u64) {
        let Some(listing) = self.directories.get_mut(&directory) else { return };
        if let Some(entry) = listing.by_cookie.remove(&cookie)
            && listing.by_name.get(&entry.name) == Some(&cookie)
        {
            listing.by_name.remove(&entry.name);
        }
    }

    /// Counts the names of a loaded volume's files. The log may say more: names that were local ended with their mount.
    pub fn count_links(&mut self) {
        let mut names: HashMap<u64, u32> = HashMap::new();
        for listing in self.directories.values() {
            for entry in listing.by_cookie.values() {
                *names.entry(entry.ino).or_default() += 1;
            }
        }
        for (ino, inode) in self.inodes.iter_mut().filter(|(_, inode)| inode.kind != Kind::Directory) {
            inode.nlink = names.get(ino).copied().unwrap_or(0);
        }
    }

    /// Checks what must hold of a loaded volume: a root, and every entry leading to an inode.
    pub fn validate(&self) -> Result<(), String> {
        if !self.directories.contains_key(&ROOT) || !self.inodes.contains_key(&ROOT) {
            return Err("there is no root directory".to_owned());
        }
        for (directory, listing) in &self.directories {
            if !self.inodes.contains_key(directory) {
                return Err(format!("entries of a directory {directory} that does not exist"));
            }
            if let Some(entry) =
                listing.by_cookie.values().find(|entry| !self.inodes.contains_key(&entry.ino))
            {
                let name = String::from_utf8_lossy(&entry.name);
                return Err(format!("{name:?} in directory {directory} leads to no inode ({})", entry.ino));
            }
        }
        Ok(())
    }
}

impl Default for Directory {
    fn default() -> Directory {
        let (by_name, by_cookie, name) = Default::default();
        Directory { by_name, by_cookie, next_cookie: FIRST_COOKIE, name }
    }
}

impl Inode {
    /// The mode after a write, a truncation or a change of owner by somebody else: a regular file loses its set-id bits.
    /// Set-group-id without execution by the group marks a file for mandatory locking and stays.
    #[must_use]
    pub fn mode_without_set_id(&self) -> u32 {
        match self.kind {
            Kind::Regular if self.mode & 0o010 != 0 => self.mode & !0o6000,
            Kind::Regular => self.mode & !0o4000,
            _ => self.mode,
        }
    }

    /// Whether its data is keyed as a relation segment.
    #[must_use]
    pub fn is_relation(&self) -> bool {
        !self.local && Key::block(self.placement.file, 0).class() == Some(KeyClass::RelationBlock)
    }
}

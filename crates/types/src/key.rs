//! The key space of a volume: what a version in the page store is a version *of*.
//!
//! A [`Key`] is 24 bytes and orders bytewise. Its first byte is the class; data blocks of one file are neighbours,
//! so that truncating, dropping a relation or dropping a database is one range of keys. Drawn in
//! `docs/formats/key.md`.

use serde::{Deserialize, Serialize};

/// The size of a data block in bytes: PostgreSQL's page, half of InnoDB's.
pub const BLOCK_SIZE: usize = 8192;

/// What a key names. The values are the first byte of the encoded key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum KeyClass {
    /// Facts about the volume itself: format, engine, next inode number.
    Volume = 1,
    /// An inode's attributes: (inode).
    Inode = 2,
    /// A directory entry: (directory inode, cookie). The name is in the value.
    Dirent = 3,
    /// Which protection group holds a 64 MiB extent of a file: (file, extent).
    Extent = 4,
    /// A block of a relation fork: (tablespace, database, relation, fork, block).
    RelationBlock = 8,
    /// A block of any other file: (inode, block).
    FileBlock = 9,
}

/// A PostgreSQL relation fork. The numbers are PostgreSQL's own (`common/relpath.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Fork {
    /// The data.
    Main = 0,
    /// The free space map.
    FreeSpaceMap = 1,
    /// The visibility map.
    VisibilityMap = 2,
    /// The initial contents of an unlogged relation.
    Init = 3,
}

/// A key: 24 bytes, ordered as its big-endian encoding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key {
    /// Class (top byte) and the first 120 bits.
    pub hi: u128,
    /// The last 64 bits: a block number, a cookie, an extent number or 0.
    pub lo: u64,
}

/// A file's data as a key range: the part of a block's [`Key`] that all blocks of the file share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey(pub u128);

const CLASS_SHIFT: u32 = 120;
const PAYLOAD_MASK: u128 = (1 << CLASS_SHIFT) - 1;

fn classed(class: KeyClass, payload: u128) -> u128 {
    ((class as u128) << CLASS_SHIFT) | (payload & PAYLOAD_MASK)
}

impl Key {
    /// The length of an encoded key in bytes.
    pub const ENCODED_LEN: usize = 24;
    /// Below every key.
    pub const MIN: Key = Key { hi: 0, lo: 0 };
    /// Above every key in use.
    pub const MAX: Key = Key { hi: u128::MAX, lo: u64::MAX };

    /// A fact about the volume, by number.
    #[must_use]
    pub fn volume(fact: u64) -> Key {
        Key { hi: classed(KeyClass::Volume, 0), lo: fact }
    }

    /// The attributes of an inode.
    #[must_use]
    pub fn inode(ino: u64) -> Key {
        Key { hi: classed(KeyClass::Inode, u128::from(ino)), lo: 0 }
    }

    /// A directory entry by its cookie, which is unique within the directory for ever.
    #[must_use]
    pub fn dirent(directory: u64, cookie: u64) -> Key {
        Key { hi: classed(KeyClass::Dirent, u128::from(directory)), lo: cookie }
    }

    /// The protection group of a file's extent.
    #[must_use]
    pub fn extent(file: FileKey, extent: u64) -> Key {
        // The file's own class (8 or 9) moves below the class byte; 112 bits of file payload remain.
        let class = file.0 >> CLASS_SHIFT;
        let payload = (class << 112) | (file.0 & ((1 << 112) - 1));
        Key { hi: classed(KeyClass::Extent, payload), lo: extent }
    }

    /// A block of a file.
    #[must_use]
    pub fn block(file: FileKey, block: u64) -> Key {
        Key { hi: file.0, lo: block }
    }

    /// What this key names, if the class byte is known.
    #[must_use]
    pub fn class(self) -> Option<KeyClass> {
        Some(match (self.hi >> CLASS_SHIFT) as u8 {
            1 => KeyClass::Volume,
            2 => KeyClass::Inode,
            3 => KeyClass::Dirent,
            4 => KeyClass::Extent,
            8 => KeyClass::RelationBlock,
            9 => KeyClass::FileBlock,
            _ => return None,
        })
    }

    /// Whether this names a data block (8 KiB, zero where never written) rather than an entry.
    #[must_use]
    pub fn is_block(self) -> bool {
        matches!(self.class(), Some(KeyClass::RelationBlock | KeyClass::FileBlock))
    }

    /// The file whose block this is (meaningful when [`Key::is_block`]).
    #[must_use]
    pub fn file(self) -> FileKey {
        FileKey(self.hi)
    }

    /// The 120 bits under the class byte.
    #[must_use]
    pub fn payload(self) -> u128 {
        self.hi & PAYLOAD_MASK
    }

    /// The next key in order, or [`Key::MAX`].
    #[must_use]
    pub fn successor(self) -> Key {
        match self.lo.checked_add(1) {
            Some(lo) => Key { hi: self.hi, lo },
            None => self.hi.checked_add(1).map_or(Key::MAX, |hi| Key { hi, lo: 0 }),
        }
    }

    /// The big-endian encoding.
    #[must_use]
    pub fn encode(self) -> [u8; Self::ENCODED_LEN] {
        let mut bytes = [0; Self::ENCODED_LEN];
        bytes[..16].copy_from_slice(&self.hi.to_be_bytes());
        bytes[16..].copy_from_slice(&self.lo.to_be_bytes());
        bytes
    }

    /// Reads an encoded key. Any 24 bytes are a key; an unknown class shows in [`Key::class`].
    #[must_use]
    pub fn decode(bytes: &[u8; Self::ENCODED_LEN]) -> Key {
        let mut hi = [0; 16];
        let mut lo = [0; 8];
        hi.copy_from_slice(&bytes[..16]);
        lo.copy_from_slice(&bytes[16..]);
        Key { hi: u128::from_be_bytes(hi), lo: u64::from_be_bytes(lo) }
    }
}

impl FileKey {
    /// The data of an ordinary file, by inode.
    #[must_use]
    pub fn inode(ino: u64) -> FileKey {
        FileKey(classed(KeyClass::FileBlock, u128::from(ino)))
    }

    /// The data of a relation fork. `database` is 0 for shared relations.
    #[must_use]
    pub fn relation(tablespace: u32, database: u32, relation: u32, fork: Fork) -> FileKey {
        let payload = (u128::from(tablespace) << 72)
            | (u128::from(database) << 40)
            | (u128::from(relation) << 8)
            | fork as u128;
        FileKey(classed(KeyClass::RelationBlock, payload))
    }

    /// The keys of blocks `from..` of this file, as a half-open range.
    #[must_use]
    pub fn blocks_from(self, from: u64) -> (Key, Key) {
        (Key { hi: self.0, lo: from }, Key { hi: self.0 + 1, lo: 0 })
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.class() {
            Some(class) => write!(f, "{class:?}({:x}/{})", self.payload(), self.lo),
            None => write!(f, "Key({:032x}/{})", self.hi, self.lo),
        }
    }
}

impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileKey({:032x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_their_encodings() {
        let relation = FileKey::relation(1663, 5, 16384, Fork::Main);
        let keys = [
            Key::volume(1),
            Key::inode(7),
            Key::dirent(1, 2),
            Key::extent(relation, 0),
            Key::extent(FileKey::inode(3), 0),
            Key::block(relation, 0),
            Key::block(relation, 1),
            Key::block(FileKey::relation(1663, 5, 16384, Fork::Init), 0),
            Key::block(FileKey::inode(3), 9),
        ];
        for pair in keys.windows(2) {
            assert!(pair[0] < pair[1], "{:?} < {:?}", pair[0], pair[1]);
            assert!(pair[0].encode() < pair[1].encode());
            assert_eq!(Key::decode(&pair[0].encode()), pair[0]);
        }
    }

    #[test]
    fn a_file_range_holds_its_blocks_and_no_others() {
        let file = FileKey::relation(1663, 5, 16384, Fork::Main);
        let (from, to) = file.blocks_from(3);
        assert!(Key::block(file, 2) < from && from <= Key::block(file, 3));
        assert!(Key::block(file, u64::MAX) < to);
        assert!(to <= Key::block(FileKey::relation(1663, 5, 16384, Fork::FreeSpaceMap), 0));
    }
}

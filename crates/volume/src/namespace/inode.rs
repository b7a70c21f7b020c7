//! The values of namespace keys: inode attributes, directory entries and facts about the volume.
//!
//! Drawn to the byte in `docs/formats/namespace.md`. Every value begins with its version.

use std::sync::Arc;

use zorya_types::FileKey;

use crate::path_class::EngineClass;

/// The version that this code writes and the newest that it reads, of every namespace value.
pub const NAMESPACE_VERSION: u8 = 1;
const INODE_FIXED_LEN: usize = 90;
const DIRENT_FIXED_LEN: usize = 11;
const FLAG_PAGED: u8 = 1;

/// Why a namespace value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// A newer version wrote it.
    #[error("namespace format {0} is newer than this binary's {NAMESPACE_VERSION}: use a newer zorya")]
    Newer(u8),
    /// The bytes are not a value of this kind.
    #[error("a damaged {0}")]
    Damaged(&'static str),
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A regular file.
    Regular = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A named pipe.
    Fifo = 4,
    /// A socket.
    Socket = 5,
    /// A character device.
    CharDevice = 6,
    /// A block device.
    BlockDevice = 7,
}

impl Kind {
    fn decode(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Regular,
            2 => Kind::Directory,
            3 => Kind::Symlink,
            4 => Kind::Fifo,
            5 => Kind::Socket,
            6 => Kind::CharDevice,
            7 => Kind::BlockDevice,
            _ => return None,
        })
    }
}

/// Where a file's data blocks are: block `n` of the file is block `first + n` of `file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Placement {
    /// The key range.
    pub file: FileKey,
    /// The block that the file begins with.
    pub first: u64,
}

impl Placement {
    /// The data of an ordinary file.
    #[must_use]
    pub fn of_inode(ino: u64) -> Placement {
        Placement { file: FileKey::inode(ino), first: 0 }
    }
}

/// An inode. Times are nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Permission bits (0o7777).
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Names that lead here; 0 is an orphan, kept only while it is open.
    pub nlink: u32,
    /// The device number of a device.
    pub rdev: u32,
    /// The size in bytes.
    pub size: u64,
    /// Last access, as set by the owner; reads do not change it.
    pub atime: i64,
    /// Last change of the content.
    pub mtime: i64,
    /// Last change of anything.
    pub ctime: i64,
    /// A directory's parent; 0 otherwise.
    pub parent: u64,
    /// Where the data is.
    pub placement: Placement,
    /// Written in whole pages: split writes are reassembled.
    pub paged: bool,
    /// A symbolic link's target; empty otherwise.
    pub target: Arc<[u8]>,
    /// Content and name are on this host only. Never in the log.
    pub local: bool,
}

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirent {
    /// Where it leads.
    pub ino: u64,
    /// What is there.
    pub kind: Kind,
    /// The name, 1 to 255 bytes.
    pub name: Arc<[u8]>,
    /// The entry is on this host only. Never in the log.
    pub local: bool,
}

/// What the volume says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeFormat {
    /// Whose list of path classes applies.
    pub engine: EngineClass,
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|bytes| bytes[0])
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }
    /// A length (u16) and that many bytes, which must be the last.
    fn tail(&mut self) -> Option<Arc<[u8]>> {
        let len = usize::from(self.take().map(u16::from_le_bytes)?);
        (self.0.len() == len).then(|| Arc::from(self.0))
    }
}

fn versioned<'a>(bytes: &'a [u8], what: &'static str) -> Result<Fields<'a>, BadValue> {
    match bytes.split_first() {
        None | Some((0, _)) => Err(BadValue::Damaged(what)),
        Some((&version, _)) if version > NAMESPACE_VERSION => Err(BadValue::Newer(version)),
        Some((_, rest)) => Ok(Fields(rest)),
    }
}

fn put_tail(out: &mut Vec<u8>, tail: &[u8]) {
    out.extend_from_slice(&(tail.len() as u16).to_le_bytes());
    out.extend_from_slice(tail);
}

impl Inode {
    /// The value of this inode's key.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(INODE_FIXED_LEN + self.target.len());
        let flags = if self.paged { FLAG_PAGED } else { 0 };
        out.extend_from_slice(&[NAMESPACE_VERSION, self.kind as u8, flags, 0]);
        for field in [self.mode, self.uid, self.gid, self.nlink, self.rdev] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.size.to_le_bytes());
        for time in [self.atime, self.mtime, self.ctime] {
            out.extend_from_slice(&time.to_le_bytes());
        }
        out.extend_from_slice(&self.parent.to_le_bytes());
        out.extend_from_slice(&self.placement.file.0.to_be_bytes());
        out.extend_from_slice(&self.placement.first.to_le_bytes());
        put_tail(&mut out, &self.target);
        out
    }

    /// Reads the value of an inode's key.
    pub fn decode(bytes: &[u8]) -> Result<Inode, BadValue> {
        let mut fields = versioned(bytes, "inode")?;
        Self::fields(&mut fields).ok_or(BadValue::Damaged("inode"))
    }

    fn fields(fields: &mut Fields<'_>) -> Option<Inode> {
        let kind = Kind::decode(fields.u8()?)?;
        let flags = fields.u8()?;
        fields.u8()?;
        Some(Inode {
            kind,
            mode: fields.u32()?,
            uid: fields.u32()?,
            gid: fields.u32()?,
            nlink: fields.u32()?,
            rdev: fields.u32()?,
            size: fields.u64()?,
            atime: fields.i64()?,
            mtime: fields.i64()?,
            ctime: fields.i64()?,
            parent: fields.u64()?,
            placement: Placement { file: FileKey(u128::from_be_bytes(fields.take()?)), first: fields.u64()? },
            paged: flags & FLAG_PAGED != 0,
            target: fields.tail()?,
            local: false,
        })
    }
}

impl Dirent {
    /// The value of this entry's key.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(DIRENT_FIXED_LEN + 1 + self.name.len());
        out.extend_from_slice(&[NAMESPACE_VERSION, self.kind as u8]);
        out.extend_from_slice(&self.ino.to_le_bytes());
        put_tail(&mut out, &self.name);
        out
    }

    /// Reads the value of an entry's key.
    pub fn decode(bytes: &[u8]) -> Result<Dirent, BadValue> {
        let mut fields = versioned(bytes, "directory entry")?;
        let read = |fields: &mut Fields<'_>| {
            let kind = Kind::decode(fields.u8()?)?;
            Some(Dirent { ino: fields.u64()?, kind, name: fields.tail()?, local: false })
        };
        read(&mut fields).ok_or(BadValue::Damaged("directory entry"))
    }
}

impl VolumeFormat {
    /// The value of the format fact.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let engine = match self.engine {
            EngineClass::None => 0,
            EngineClass::Postgres => 1,
            EngineClass::Mariadb => 2,
        };
        vec![NAMESPACE_VERSION, engine]
    }

    /// Reads the value of the format fact.
    pub fn decode(bytes: &[u8]) -> Result<VolumeFormat, BadValue> {
        let engine = match versioned(bytes, "volume format")?.u8() {
            Some(0) => EngineClass::None,
            Some(1) => EngineClass::Postgres,
            Some(2) => EngineClass::Mariadb,
            _ => return Err(BadValue::Damaged("volume format")),
        };
        Ok(VolumeFormat { engine })
    }
}

/// The value of the fact that inode numbers below `next` are taken or reserved.
#[must_use]
pub fn encode_next_ino(next: u64) -> Vec<u8> {
    let mut out = vec![NAMESPACE_VERSION];
    out.extend_from_slice(&next.to_le_bytes());
    out
}

/// Reads the fact that [`encode_next_ino`] writes.
pub fn decode_next_ino(bytes: &[u8]) -> Result<u64, BadValue> {
    versioned(bytes, "inode counter")?.u64().ok_or(BadValue::Damaged("inode counter"))
}

/// The value of an extent's key: its protection group.
#[must_use]
pub fn encode_group(group: u32) -> Vec<u8> {
    let mut out = vec![NAMESPACE_VERSION];
    out.extend_from_slice(&group.to_le_bytes());
    out
}

/// Reads the value that [`encode_group`] writes.
pub fn decode_group(bytes: &[u8]) -> Result<u32, BadValue> {
    versioned(bytes, "extent")?.u32().ok_or(BadValue::Damaged("extent"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zorya_types::Fork;

    fn sample() -> Inode {
        Inode {
            kind: Kind::Regular,
            mode: 0o600,
            uid: 101,
            gid: 104,
            nlink: 1,
            rdev: 0,
            size: 8192,
            atime: 1,
            mtime: 2,
            ctime: 3,
            parent: 0,
            placement: Placement { file: FileKey::relation(1663, 5, 16384, Fork::Main), first: 131_072 },
            paged: true,
            target: Arc::from(&b""[..]),
            local: false,
        }
    }

    #[test]
    fn golden_bytes_of_version_1() {
        let mut inode = vec![1, 1, 1, 0];
        inode.extend([0x80, 1, 0, 0, 101, 0, 0, 0, 104, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        inode.extend([0, 0x20, 0, 0, 0, 0, 0, 0]);
        inode.extend([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        inode.extend([0; 8]);
        inode.extend([8, 0, 0, 0, 0x06, 0x7f, 0, 0, 0, 5, 0, 0, 0x40, 0, 0]);
        inode.insert(inode.len() - 15 + 3, 0);
        inode.extend([0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(sample().encode(), inode);
        let dirent = Dirent { ino: 258, kind: Kind::Directory, name: Arc::from(&b"ab"[..]), local: false };
        assert_eq!(dirent.encode(), [1, 2, 2, 1, 0, 0, 0, 0, 0, 0, 2, 0, b'a', b'b']);
        assert_eq!(VolumeFormat { engine: EngineClass::Postgres }.encode(), [1, 1]);
        assert_eq!(VolumeFormat { engine: EngineClass::Mariadb }.encode(), [1, 2]);
        assert_eq!(encode_next_ino(1025), [1, 1, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode_group(7), [1, 7, 0, 0, 0]);
    }

    #[test]
    fn values_read_back() {
        let mut link = sample();
        link.kind = Kind::Symlink;
        link.target = Arc::from(&b"/over/there"[..]);
        for inode in [sample(), link] {
            assert_eq!(Inode::decode(&inode.encode()), Ok(inode));
        }
        let dirent = Dirent { ino: 9, kind: Kind::Fifo, name: Arc::from(&b"pipe"[..]), local: false };
        assert_eq!(Dirent::decode(&dirent.encode()), Ok(dirent));
        assert_eq!(decode_next_ino(&encode_next_ino(77)), Ok(77));
        assert_eq!(decode_group(&encode_group(77)), Ok(77));
    }

    #[test]
    fn newer_and_damaged_values_are_refused() {
        let mut newer = sample().encode();
        newer[0] = 2;
        assert_eq!(Inode::decode(&newer), Err(BadValue::Newer(2)));
        assert_eq!(VolumeFormat::decode(&[2, 9, 9]), Err(BadValue::Newer(2)));
        let whole = sample().encode();
        for len in 0..whole.len() {
            assert!(Inode::decode(&whole[..len]).is_err(), "{len}");
        }
        assert!(Dirent::decode(&[1, 99, 0]).is_err());
        assert!(VolumeFormat::decode(&[1, 99]).is_err());
    }
}

//! One record: its header, block references and data.

use std::ops::Range;

use super::stream::RawRecord;
use crate::postgres::error::Underivable;
use crate::postgres::fields::Fields;
use crate::postgres::major::Major;
use crate::postgres::position::{BLOCK_LEN, WalPosition};

/// Bytes of the fixed header (`SizeOfXLogRecord`).
pub const RECORD_HEADER_LEN: usize = 24;

/// In `info`: the record carries an image of every block for comparing (`XLR_CHECK_CONSISTENCY`).
pub const INFO_CHECK_CONSISTENCY: u8 = 0x02;
/// In `info`: the record changes files that its block references do not name (`XLR_SPECIAL_REL_UPDATE`).
pub const INFO_SPECIAL_REL_UPDATE: u8 = 0x01;

const ID_MAX_BLOCK: u8 = 32;
const ID_TOPLEVEL_XID: u8 = 252;
const ID_ORIGIN: u8 = 253;
const ID_DATA_LONG: u8 = 254;
const ID_DATA_SHORT: u8 = 255;

const BLOCK_FORK_MASK: u8 = 0x0f;
const BLOCK_HAS_IMAGE: u8 = 0x10;
const BLOCK_HAS_DATA: u8 = 0x20;
const BLOCK_WILL_INIT: u8 = 0x40;
const BLOCK_SAME_RELATION: u8 = 0x80;

/// The bits of an image's flags (`BKPIMAGE_*`).
struct ImageFlags {
    has_hole: u8,
    apply: u8,
    pglz: u8,
    /// 0 where the version has no such compression, as the next one.
    lz4: u8,
    zstd: u8,
}

/// What differs by version: the bits of an image's flags. 14 compresses in one way only.
const fn image_flags(major: Major) -> ImageFlags {
    match major {
        Major::V14 => ImageFlags { has_hole: 0x01, apply: 0x04, pglz: 0x02, lz4: 0, zstd: 0 },
        Major::V15 | Major::V16 | Major::V17 | Major::V18 => {
            ImageFlags { has_hole: 0x01, apply: 0x02, pglz: 0x04, lz4: 0x08, zstd: 0x10 }
        }
    }
}

/// The main fork of a relation.
pub const FORK_MAIN: u8 = 0;
/// The free-space map.
pub const FORK_FREE_SPACE: u8 = 1;
/// The visibility map.
pub const FORK_VISIBILITY: u8 = 2;
/// The image of an unlogged relation after a crash.
pub const FORK_INIT: u8 = 3;

/// The files of a relation (`RelFileNode`, since 16 `RelFileLocator`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relation {
    /// The tablespace's OID.
    pub tablespace: u32,
    /// The database's OID; 0 for a relation that all databases share.
    pub database: u32,
    /// The number in the files' name.
    pub number: u32,
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.tablespace, self.database, self.number)
    }
}

/// A block of a fork of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockTag {
    /// The relation.
    pub relation: Relation,
    /// The fork: [`FORK_MAIN`], [`FORK_FREE_SPACE`], [`FORK_VISIBILITY`], [`FORK_INIT`].
    pub fork: u8,
    /// The block's number in the fork.
    pub block: u32,
}

impl std::fmt::Display for BlockTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} fork {} block {}", self.relation, self.fork, self.block)
    }
}

/// How a page image is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// PostgreSQL's own.
    Pglz,
    /// An LZ4 block.
    Lz4,
    /// A Zstandard frame.
    Zstd,
}

/// The image of a block in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where the hole begins that was left out, in bytes of the page.
    pub hole_offset: u16,
    /// How many zeroes were left out there.
    pub hole_len: u16,
    /// How the rest is compressed.
    pub compression: Compression,
    /// Whether redo is to take the image; else it is there to compare with.
    pub apply: bool,
    bytes: Range<u32>,
}

/// A block that a record changes or leans on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockReference {
    /// The reference's number in the record.
    pub id: u8,
    /// The block.
    pub tag: BlockTag,
    /// Whether redo rebuilds the page from nothing.
    pub will_init: bool,
    /// The page image, if there is one.
    pub image: Option<Image>,
    /// Whether the reference has data of its own.
    pub has_data: bool,
    data: Range<u32>,
}

/// A record, taken apart. It borrows the bytes that it came from and a list of references that its decoder reuses.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The version that wrote it.
    pub major: Major,
    /// Where it begins.
    pub start: WalPosition,
    /// Where it ends: the page LSN that redo sets.
    pub end: WalPosition,
    /// Where the record before it begins.
    pub prev: WalPosition,
    /// The transaction that wrote it; 0 if none.
    pub xid: u32,
    /// The resource manager's number.
    pub manager: u8,
    /// The info byte: the operation and its flags above, [`INFO_CHECK_CONSISTENCY`] and the like below.
    pub info: u8,
    /// The replication origin, if it was given.
    pub origin: Option<u16>,
    /// The top-level transaction of a subtransaction's first record, for logical decoding.
    pub toplevel_xid: Option<u32>,
    /// The blocks, in ascending order of their ids.
    pub references: &'a [BlockReference],
    bytes: &'a [u8],
    main_start: u32,
}

impl<'a> Record<'a> {
    /// The data that belongs to no block.
    #[must_use]
    pub fn main(&self) -> &'a [u8] {
        &self.bytes[self.main_start as usize..]
    }

    /// The main data, to be read front to back.
    #[must_use]
    pub(crate) fn fields(&self) -> Fields<'a> {
        Fields(self.main())
    }

    /// The data that belongs to the block; empty if there is none.
    #[must_use]
    pub fn data(&self, reference: &BlockReference) -> &'a [u8] {
        &self.bytes[reference.data.start as usize..reference.data.end as usize]
    }

    /// The image as it is in the record, perhaps compressed; empty if there is none.
    #[must_use]
    pub fn image_bytes(&self, reference: &BlockReference) -> &'a [u8] {
        reference
            .image
            .as_ref()
            .map_or(&[], |image| &self.bytes[image.bytes.start as usize..image.bytes.end as usize])
    }

    /// The reference of that number.
    #[must_use]
    pub fn reference(&self, id: u8) -> Option<&'a BlockReference> {
        self.references.iter().find(|reference| reference.id == id)
    }

    /// The block that the reference of that number names.
    pub(crate) fn block_of(&self, id: u8) -> Result<u32, Underivable> {
        let reference = self.reference(id).ok_or(Underivable::BadRecord("a block reference is missing"))?;
        Ok(reference.tag.block)
    }

    /// The operation: the upper four bits of the info byte, which are the resource manager's.
    #[must_use]
    pub fn operation(&self) -> u8 {
        self.info & 0xf0
    }

    /// The whole record as it is in the log, without page headers.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Why a record whose checksum is right cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is of a major version whose redo is not written.
    #[error("redo is not written for {0}")]
    NotWritten(Major),
    /// It ends before what it says is in it, or after.
    #[error("the record's length and the lengths in it differ")]
    Length,
    /// Block references are out of order.
    #[error("block reference {0} follows one of a higher number")]
    Order(u8),
    /// A number that stands for nothing.
    #[error("{0} names neither a block nor data")]
    UnknownId(u8),
    /// A flag that this version does not know.
    #[error("unknown flags {flags:#04x} in {place}")]
    UnknownFlags {
        /// The flags.
        flags: u8,
        /// What has them.
        place: &'static str,
    },
    /// The first reference leans on one before it.
    #[error("the first block reference names no relation")]
    NoRelation,
    /// The lengths of an image contradict its flags.
    #[error("the image's lengths and flags contradict each other")]
    Image,
}

impl From<Underivable> for Malformed {
    fn from(_: Underivable) -> Self {
        Self::Length
    }
}

/// Takes a record apart. `references` is room that is reused; decoding allocates nothing once it has grown to the most
/// references of a record. Records of versions whose redo is not written are refused.
///
/// Follows `DecodeXLogRecord` in `access/transam/xlogreader.c`. The checksum is not looked at; [`super::stream`] has
/// done that.
pub fn decode<'a>(
    raw: RawRecord<'a>,
    references: &'a mut Vec<BlockReference>,
) -> Result<Record<'a>, Malformed> {
    let RawRecord { major, start, end, bytes } = raw;
    references.clear();
    if !major.is_written() {
        return Err(Malformed::NotWritten(major));
    }
    let mut header = Fields(bytes);
    let len = header.u32()?;
    if len as usize != bytes.len() || bytes.len() < RECORD_HEADER_LEN {
        return Err(Malformed::Length);
    }
    let (xid, prev, info, manager) = (header.u32()?, header.u64()?, header.u8()?, header.u8()?);
    header.skip(6)?;
    if info & 0x0f & !(INFO_CHECK_CONSISTENCY | INFO_SPECIAL_REL_UPDATE) != 0 {
        return Err(Malformed::UnknownFlags { flags: info, place: "the record's info" });
    }
    let mut parts = Parts { origin: None, toplevel_xid: None, main_len: 0, data_len: 0 };
    while header.0.len() > parts.data_len {
        match header.u8()? {
            ID_DATA_SHORT => parts.main_len = u32::from(header.u8()?),
            ID_DATA_LONG => parts.main_len = header.u32()?,
            ID_ORIGIN => {
                parts.origin = Some(header.u16()?);
                continue;
            }
            ID_TOPLEVEL_XID => {
                parts.toplevel_xid = Some(header.u32()?);
                continue;
            }
            id if id <= ID_MAX_BLOCK => {
                block_header(major, id, &mut header, references, &mut parts)?;
                continue;
            }
            id => return Err(Malformed::UnknownId(id)),
        }
        // The main data's header is the last one.
        parts.data_len += parts.main_len as usize;
        break;
    }
    if header.0.len() != parts.data_len {
        return Err(Malformed::Length);
    }
    let main_start = place_data(bytes.len() - header.0.len(), references);
    Ok(Record {
        major,
        start,
        end,
        prev: WalPosition(prev),
        xid,
        manager,
        info,
        origin: parts.origin,
        toplevel_xid: parts.toplevel_xid,
        references,
        bytes,
        main_start,
    })
}

struct Parts {
    origin: Option<u16>,
    toplevel_xid: Option<u32>,
    main_len: u32,
    data_len: usize,
}

fn block_header(
    major: Major,
    id: u8,
    header: &mut Fields<'_>,
    references: &mut Vec<BlockReference>,
    parts: &mut Parts,
) -> Result<(), Malformed> {
    if references.last().is_some_and(|last| last.id >= id) {
        return Err(Malformed::Order(id));
    }
    let flags = header.u8()?;
    let fork = flags & BLOCK_FORK_MASK;
    if fork > FORK_INIT {
        return Err(Malformed::UnknownFlags { flags, place: "a block's fork" });
    }
    let data_len = header.u16()?;
    let has_data = flags & BLOCK_HAS_DATA != 0;
    if has_data != (data_len != 0) {
        return Err(Malformed::Length);
    }
    let image = if flags & BLOCK_HAS_IMAGE != 0 { Some(image_header(major, header)?) } else { None };
    parts.data_len += usize::from(data_len) + image.as_ref().map_or(0, |image| image.bytes.len());
    let relation = if flags & BLOCK_SAME_RELATION != 0 {
        references.last().ok_or(Malformed::NoRelation)?.tag.relation
    } else {
        Relation { tablespace: header.u32()?, database: header.u32()?, number: header.u32()? }
    };
    let tag = BlockTag { relation, fork, block: header.u32()? };
    let will_init = flags & BLOCK_WILL_INIT != 0;
    references.push(BlockReference { id, tag, will_init, image, has_data, data: 0..u32::from(data_len) });
    Ok(())
}

/// Reads an image's header; its bytes are placed later, `0..length` for now. Apart, because most records have no image:
/// inlined, it slows their decoding down.
#[inline(never)]
fn image_header(major: Major, header: &mut Fields<'_>) -> Result<Image, Malformed> {
    let known = image_flags(major);
    let len = header.u16()?;
    let hole_offset = header.u16()?;
    let flags = header.u8()?;
    let compression = match flags & (known.pglz | known.lz4 | known.zstd) {
        0 => Compression::None,
        bit if bit == known.pglz => Compression::Pglz,
        bit if bit == known.lz4 => Compression::Lz4,
        bit if bit == known.zstd => Compression::Zstd,
        _ => return Err(Malformed::UnknownFlags { flags, place: "an image's compression" }),
    };
    if flags & !(known.has_hole | known.apply | known.pglz | known.lz4 | known.zstd) != 0 {
        return Err(Malformed::UnknownFlags { flags, place: "an image" });
    }
    let has_hole = flags & known.has_hole != 0;
    let compressed = compression != Compression::None;
    let hole_len = match (compressed, has_hole) {
        (true, true) => header.u16()?,
        (true, false) => 0,
        (false, _) => (BLOCK_LEN as u16).checked_sub(len).ok_or(Malformed::Image)?,
    };
    let hole_fits = usize::from(hole_offset) + usize::from(hole_len) <= BLOCK_LEN;
    let consistent = if has_hole {
        hole_offset != 0 && hole_len != 0 && usize::from(len) < BLOCK_LEN
    } else {
        hole_offset == 0 && hole_len == 0
    };
    if !consistent || !hole_fits || (compressed && usize::from(len) == BLOCK_LEN) {
        return Err(Malformed::Image);
    }
    let apply = flags & known.apply != 0;
    Ok(Image { hole_offset, hole_len, compression, apply, bytes: 0..u32::from(len) })
}

/// Gives the references' images and data, which follow the headers in order, their places. Returns where the main
/// data begins.
fn place_data(first: usize, references: &mut [BlockReference]) -> u32 {
    let mut at = first as u32;
    for reference in references {
        if let Some(image) = &mut reference.image {
            image.bytes = at..at + image.bytes.end;
            at = image.bytes.end;
        }
        reference.data = at..at + reference.data.end;
        at = reference.data.end;
    }
    at
}
